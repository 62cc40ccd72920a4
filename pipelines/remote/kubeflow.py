"""Kubeflow Pipelines (API v2beta1), through the clients of `kfp.Client`.

What the service cannot hold is kept elsewhere: it has no labels, so they stand as JSON in the description of a run or
recurring run, which holds 255 characters; it names no places of artefacts, so they are looked for where its launcher
puts them; a recurring run cannot be changed, so another takes its place.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

from pipelines.remote.google import patiently
from pipelines.remote.kubeflow_client import KubeflowService, named_filter
from pipelines.remote.kubeflow_labels import described_by
from pipelines.remote.kubeflow_runs import KubeflowRun
from pipelines.remote.runs import RemoteRun
from pipelines.remote.submission import TOOL, Submission
from pipelines.remote.vertex import RECENT
from pipelines.runs import choose_run
from two_tower.config import KubeflowSettings
from two_tower.errors import UserError


class KubeflowBackend(KubeflowService):
    """The runs of one installation, in one experiment."""

    def __init__(self, settings: KubeflowSettings, host: str | None = None) -> None:
        super().__init__(settings, host)
        self._handles: dict[str, str] = {}

    def submit(self, submission: Submission) -> KubeflowRun:
        """Starts a run; one that is there already under this id is given back as it is.

        Raises:
            UserError: The service refuses it.
        """
        what = f"submitting the run {submission.run_id}"
        run = self.run_of(submission)

        def create() -> Any:
            return self._named(submission.run_id) or self.once(self.client.runs.run_service_create_run, what, run)

        return self.described(patiently(create, what))

    def run_of(self, submission: Submission) -> Any:
        """What the service is sent for a run."""
        from kfp_server_api import V2beta1Run

        return V2beta1Run(
            display_name=submission.run_id,
            description=described_by(submission.labels),
            experiment_id=self.experiment(),
            pipeline_spec=submission.pipeline,
            runtime_config=runtime_config(submission),
        )

    def resume(self, run_id: str, *, new_id: str) -> KubeflowRun:
        """Has the service retry a failed run in place: it keeps its id, and its finished steps their outputs.

        Args:
            run_id: The run.
            new_id: Not needed here.

        Raises:
            UserError: It has not failed.
        """
        found = self.find(run_id)
        if found.state not in ("failed", "cancelled"):
            raise UserError(f"run {found.run_id} is {found.state}; only one that failed or was cancelled is resumed")
        what = f"retrying the run {found.run_id}"
        tried = False

        def retry() -> None:
            nonlocal tried
            if tried and self.find(found.run_id).state != found.state:
                return  # by the try whose reply was lost
            tried = True
            self.once(self.client.runs.run_service_retry_run, what, found.handle)

        patiently(retry, what)
        return self.find(found.run_id)

    def find(self, run_id: str) -> KubeflowRun:
        """The run with this id, the only one whose id starts so, or the newest for `latest`.

        Raises:
            UserError: There is none, or more than one.
        """
        if run_id not in self._handles:
            exact = None if run_id == "latest" else patiently(lambda: self._named(run_id), f"reading the run {run_id}")
            if exact is None:
                chosen = choose_run(list(self.list_runs(None, most=RECENT)), run_id)
                assert isinstance(chosen, KubeflowRun)
                run_id, handle = chosen.run_id, chosen.handle
            else:
                handle = exact.run_id
            self._handles[run_id] = handle
        read = self.client.runs.run_service_get_run
        return self.described(self.ask(read, f"reading the run {run_id}", self._handles[run_id]))

    def list_runs(self, name: str | None, *, most: int) -> list[RemoteRun]:
        """The runs of a configuration, or of all, the newest first, without those in the archive."""
        experiment = self.experiment(make=False)
        if experiment is None:
            return []
        runs = self.pages("runs", f"listing the runs of {self.settings.experiment}", experiment_id=experiment)
        described = (self.described(run) for run in runs if run.storage_state != "ARCHIVED")
        wanted = (run for run in described if run.labels.get("tool") == TOOL and name in (None, run.name))
        return list(islice(wanted, most))

    def cancel(self, run_id: str) -> None:
        """Asks for the end of a run."""
        run = self.find(run_id)
        what = f"cancelling the run {run.run_id}"
        self.ask(self.client.runs.run_service_terminate_run, what, run.handle)

    def described(self, run: Any) -> KubeflowRun:
        """A run of the service."""
        return KubeflowRun.of_service(run, self.settings, host=self.host)

    def _named(self, run_id: str) -> Any:
        """The newest run of this display name."""
        found = self.once(
            self.client.runs.run_service_list_runs, f"looking for the run {run_id}", filter=named_filter(run_id),
            sort_by="created_at desc", page_size=1, **self.scope,
        )  # fmt: skip
        return found.runs[0] if found.runs else None


def runtime_config(submission: Submission) -> Any:
    """What the service is sent of a submission beside its pipeline."""
    from kfp_server_api import V2beta1RuntimeConfig

    return V2beta1RuntimeConfig(parameters=submission.parameters, pipeline_root=submission.root)
