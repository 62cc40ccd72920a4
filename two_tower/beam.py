"""Beam pipelines as the configuration wants them, for every step that uses Beam."""

from __future__ import annotations

import apache_beam
from apache_beam.options.pipeline_options import PipelineOptions

from two_tower.config import Beam
from two_tower.errors import ConfigError

RUNNERS = ("DataflowRunner", "FlinkRunner", "PortableRunner", "SparkRunner")


def pipeline(beam: Beam) -> apache_beam.Pipeline:
    """An empty pipeline on the configured runner, to be used as a context manager.

    `in_process` names the FnApiRunner explicitly: the DirectRunner may try to fetch another runner first.

    Raises:
        ConfigError: There is no such runner.
    """
    options = PipelineOptions.from_dictionary(beam.options)
    if beam.runner == "in_process":
        from apache_beam.runners.portability.fn_api_runner import FnApiRunner

        return apache_beam.Pipeline(runner=FnApiRunner(), options=options)
    if beam.runner not in RUNNERS:
        raise ConfigError(f"beam.runner: no runner {beam.runner!r}; expected in_process or one of {', '.join(RUNNERS)}")
    return apache_beam.Pipeline(runner=beam.runner, options=options)
