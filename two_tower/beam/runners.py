"""Beam pipelines as the configuration wants them, for every step that uses Beam."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam
from apache_beam.options.pipeline_options import PipelineOptions

from two_tower.beam.dataflow_options import check_options, job_family, job_options
from two_tower.config import BeamSettings
from two_tower.errors import ConfigError, UserError

LOCAL = {"in_process": "multi_threading", "multi_process": "multi_processing"}
REMOTE = ("DataflowRunner", "FlinkRunner", "PortableRunner", "SparkRunner")
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The errors of a full disk, an exhausted quota and a file at its size limit."""
MOST_WORKERS = 8
"""Each of them holds a shard in memory."""


def pipeline(beam: BeamSettings, part: str = "") -> apache_beam.Pipeline:
    """An empty pipeline on the configured runner, to be used as a context manager.

    The local runners are the FnApiRunner by name: the DirectRunner may try to fetch another runner first.  On Dataflow
    the context ends when the job has (`two_tower.beam.dataflow_job`).

    Args:
        beam: The configuration's `beam` section.
        part: Which of the step's pipelines it is, a word for the job's name.

    Raises:
        ConfigError: There is no such runner, or an option is missing or wrong; the message names them all.
    """
    if mode := LOCAL.get(beam.runner):
        from apache_beam.runners.portability.fn_api_runner import FnApiRunner

        workers = beam.workers or min(len(os.sched_getaffinity(0)), MOST_WORKERS)
        local = {"direct_num_workers": workers, "direct_running_mode": mode}
        if workers == 1 and beam.runner == "in_process":
            local = {}
        return apache_beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions.from_dictionary(local | beam.options))
    if beam.runner not in REMOTE:
        known = ", ".join((*LOCAL, *REMOTE))
        raise ConfigError(f"beam.runner: no runner {beam.runner!r}; expected one of {known}")
    if beam.runner != "DataflowRunner":
        return apache_beam.Pipeline(runner=beam.runner, options=PipelineOptions.from_dictionary(beam.options))
    if problems := check_options(beam):
        raise ConfigError("\n".join(problems))
    from two_tower.beam.dataflow_job import DataflowPipeline

    options = PipelineOptions.from_dictionary(job_options(beam, part=part))
    return DataflowPipeline(options, family=job_family(beam))


def is_remote(beam: BeamSettings) -> bool:
    """Whether the workers are other machines, which share `beam.work` with this one and nothing else."""
    return beam.runner in REMOTE and "://" in (beam.work or "")


def spread(pipeline: apache_beam.Pipeline, name: str, elements: Iterable[Any]) -> Any:
    """The elements as a collection that the runner shares out among its workers."""
    return pipeline | name >> apache_beam.Create(elements) | f"{name} to workers" >> apache_beam.Reshuffle()


@contextlib.contextmanager
def naming_a_full_disk(folder: str) -> Iterator[None]:
    """Makes the error of a worker that found no room in `folder`, which Beam passes on as text, the `OSError` again."""
    try:
        yield
    except UserError:  # it says more already
        raise
    except Exception as error:
        for number in NO_ROOM:
            if os.strerror(number) in str(error):
                raise OSError(number, os.strerror(number), folder) from error
        raise
