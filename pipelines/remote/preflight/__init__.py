"""Whatever would make a run fail, found before anything is spent.

All problems are found in one go, and nothing is created.  What the services are asked about is what these credentials
may do: that the account of the steps holds its roles too can only be seen by its steps.
"""

from __future__ import annotations

from pipelines.remote.preflight.kubeflow import found_on_kubeflow
from pipelines.remote.preflight.offline import found_here
from pipelines.remote.preflight.problem import Problem
from pipelines.remote.preflight.run import PlannedRun, at_the_runs_time
from pipelines.remote.preflight.vertex import found_on_vertex
from pipelines.remote.submission import Submission

__all__ = ["Problem", "preflight"]


def preflight(
    submission: Submission, *, backend: str, host: str | None = None, offline: bool = False, schedules: bool = False
) -> list[Problem]:
    """Every problem of a run that is ready to be started; empty if there is none.

    Args:
        submission: The run.
        backend: `vertex` or `kubeflow`.
        host: The address of Kubeflow Pipelines, in place of the environment's.
        offline: Asks no service.
        schedules: The run is to be started by a schedule: that takes other permissions, and what is named by a run's
            time may not be there yet.
    """
    config, found = at_the_runs_time(submission)
    run = PlannedRun(submission, config, backend, schedules)
    found += found_here(run)
    if not offline:
        found += found_on_vertex(run) if backend == "vertex" else found_on_kubeflow(run, host)
    return [*dict.fromkeys(found)]
