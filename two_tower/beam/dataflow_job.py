"""A pipeline as a job on Dataflow, from its submission to its end, whatever happens to the process that started it."""

from __future__ import annotations

import contextlib
import functools
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import apache_beam
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from apache_beam.runners.dataflow.internal import apiclient

from two_tower.artifacts import Lineage
from two_tower.beam.dataflow_options import label_value
from two_tower.errors import UserError
from two_tower.progress import log

POLL = 5.0
"""Seconds between two looks at a job."""
PATIENCE = 50.0
"""Seconds for which a failed job is asked why; Dataflow may say so a while later."""
CANCELLING = 600.0
"""Seconds that a job gets to stop."""
MOST_ERRORS, LONGEST_ERROR = 3, 2000
TERMINAL = ("DONE", "FAILED", "CANCELLED", "UPDATED", "DRAINED")


class JobError(UserError):
    """A job could not be started, or did not come to a good end; the message names it and its page in the console."""


class DataflowPipeline(apache_beam.Pipeline):  # type: ignore[misc]
    """A pipeline whose `run` submits a job and waits for its end.

    Jobs that an earlier try of the same step of the same run has left are stopped first: they write into the same
    folder, and Dataflow allows no two active jobs of one name.  If this process is interrupted or told to end, it
    cancels the job.
    """

    def __init__(self, options: PipelineOptions, *, family: str | None) -> None:
        """
        Args:
            options: Complete ones, as `job_options` gives them.
            family: What the names of this step's jobs begin with (`job_family`); None where the run is not known.
        """
        super().__init__(runner="DataflowRunner", options=options)
        self._family = family

    def run(self, test_runner_api: bool | str = "AUTO") -> Any:
        """The finished job's result.

        Raises:
            JobError: The job was refused, has failed, or somebody cancelled it.
        """
        jobs = _Jobs(self.options, self._family)
        result = None
        with _termination_raises():
            jobs.stop_earlier()
            try:
                with _refusals_explained(f"cannot start the Dataflow job {jobs.name or ''}".rstrip()):
                    result = super().run(test_runner_api)
                with _refusals_explained(f"cannot follow the Dataflow job {result.job_id()}"):
                    jobs.wait(result)
            except BaseException as error:
                if result is not None or not isinstance(error, JobError):  # a name that is taken may be another's
                    jobs.cancel(result)
                raise
        return result


class _Jobs:
    """The jobs of a project and a region, as far as they concern this one."""

    def __init__(self, options: PipelineOptions, family: str | None) -> None:
        cloud = options.view_as(GoogleCloudOptions)
        self.name: str | None = cloud.job_name
        self._options, self._family = options, family
        self._place = {"project_id": cloud.project, "location": cloud.region}

    def stop_earlier(self) -> None:
        """Cancels what an earlier try of this step has left, and waits until it has stopped.

        Raises:
            JobError: Dataflow cannot be asked, or a job does not stop.
        """
        with _refusals_explained("cannot look for jobs that an earlier try of this step has left"):
            left = self._active()
            for job in left:
                log.info("stopping the job %s (%s), which an earlier try of this step has left", job.name, job.id)
                self._request_stop(job.id)
            until = time.monotonic() + CANCELLING
            for job in left:
                while self._state(job.id) not in TERMINAL:
                    if time.monotonic() > until:
                        raise JobError(
                            f"the job {job.name} ({job.id}), which an earlier try of this step has left, does not "
                            f"stop; cancel it and start the step again: {self.page(job.id)}"
                        )
                    time.sleep(POLL)

    def wait(self, result: Any) -> None:
        """Returns when the job is done.

        Raises:
            JobError: It ended in another way.
        """
        job, told = result.job_id(), ""
        log.info("Dataflow job %s: %s", job, self.page(job))
        while (state := str(result.state)) not in TERMINAL:
            if state != told:
                log.info("Dataflow job %s is %s", job, state.lower())
                told = state
            time.sleep(POLL)
        if state == "DONE":
            return
        happened = {"FAILED": "failed", "CANCELLED": "was cancelled"}.get(state, f"ended as {state.lower()}")
        errors = _errors(result, patience=PATIENCE if state == "FAILED" else 0)
        said = "".join(f"\n{text}" for text in errors or ["Dataflow gives no reason"])
        raise JobError(f"the Dataflow job {job} {happened}; see {self.page(job)}{said}")

    def cancel(self, result: Any) -> None:
        """Asks Dataflow to stop the job, which may be on its way there still; the log tells if that does not work."""
        try:
            if result is not None:
                if not result.is_in_terminal_state():
                    result.cancel()
                    log.warning("cancelled the Dataflow job %s", result.job_id())
                return
            for job in self._active():
                self._request_stop(job.id)
                log.warning("cancelled the Dataflow job %s", job.id)
        except Exception as error:
            where = self.page(result.job_id()) if result is not None else "https://console.cloud.google.com/dataflow"
            log.error("cannot cancel the Dataflow job (%s); do so at %s", error, where)

    def page(self, job: str) -> str:
        """The job's page in the console."""
        project, region = self._place["project_id"], self._place["location"]
        return f"https://console.cloud.google.com/dataflow/jobs/{region}/{job}?project={project}"

    @functools.cached_property
    def _client(self) -> Any:
        return apiclient.DataflowApplicationClient(self._options)._jobs_client

    def _active(self) -> list[Any]:
        """The active jobs of this step of this run; none where the run is not known."""
        if self._family is None:
            return []
        types, lineage = apiclient.dataflow, Lineage.of_process()
        active = types.ListJobsRequest(**self._place, filter=types.ListJobsRequest.Filter.ACTIVE)
        named = [
            job
            for job in self._client.list_jobs(active)
            if job.name == self._family or job.name.startswith(f"{self._family}-")
        ]
        found = []
        for job in named:  # a list has no labels
            view = types.JobView.JOB_VIEW_DESCRIPTION
            whole = self._client.get_job(types.GetJobRequest(**self._place, job_id=job.id, view=view))
            if whole.labels.get("run_id") == label_value(lineage.run_id):
                found.append(job)
        return found

    def _request_stop(self, job: str) -> None:
        types = apiclient.dataflow
        stop = types.Job(requested_state=types.JobState.JOB_STATE_CANCELLED)
        self._client.update_job(types.UpdateJobRequest(**self._place, job_id=job, job=stop))

    def _state(self, job: str) -> str:
        found = self._client.get_job(apiclient.dataflow.GetJobRequest(**self._place, job_id=job))
        return str(found.current_state.name).removeprefix("JOB_STATE_")


def _errors(result: Any, *, patience: float) -> list[str]:
    """The last different error messages of a job, those with a traceback before Dataflow's own summaries."""
    until = time.monotonic() + patience
    while True:
        texts: list[str] = []
        token = None
        while True:
            messages, token = result._runner.dataflow_client.list_messages(
                result.job_id(), page_token=token, minimum_importance="JOB_MESSAGE_ERROR"
            )
            texts += [message.message_text for message in messages]
            if not token:
                break
        if texts or time.monotonic() >= until:
            break
        time.sleep(min(POLL, 1))
    different = [*dict.fromkeys(reversed(texts))]
    different.sort(key=lambda text: "Traceback" not in text)
    return [text if len(text) <= LONGEST_ERROR else f"…{text[-LONGEST_ERROR:]}" for text in different[:MOST_ERRORS]]


@contextlib.contextmanager
def _refusals_explained(what: str) -> Iterator[None]:
    """Makes an answer of Google's with an error, or none at all, a `JobError`."""
    google = apiclient.exceptions
    try:
        yield
    except (google.GoogleAPIError, apiclient.DataflowJobAlreadyExistsError, OSError) as error:
        code = getattr(error, "code", None)
        advice = ""
        if code == 403:
            advice = "; the account that starts jobs needs roles/dataflow.developer, and roles/iam.serviceAccountUser"
            advice += " on that of the workers"
        elif code == 409 or isinstance(error, apiclient.DataflowJobAlreadyExistsError):
            advice = "; another process works on the same step: let it finish, or cancel its job"
        raise JobError(f"{what}: {getattr(error, 'message', None) or error}{advice}") from error


@contextlib.contextmanager
def _termination_raises() -> Iterator[None]:
    """Lets a request to end (SIGTERM) raise `SystemExit`, so that the job can be cancelled on the way out."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: Any) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
