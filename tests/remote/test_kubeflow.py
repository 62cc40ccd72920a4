"""Kubeflow Pipelines: kfp's real client against the stand-in."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cloud import Fault, running_cloud
from cloud.errors import Refused
from cloud.executions import Execution
from cloud.http import Reply, listening, route
from project import Project
from rich.console import Console

from pipelines.remote.follow import follow
from pipelines.remote.kubeflow import KubeflowBackend
from pipelines.remote.kubeflow_labels import DESCRIPTION, described_by, labels_in
from pipelines.remote.kubeflow_runs import KubeflowRun
from pipelines.remote.kubeflow_schedules import KubeflowSchedules, cron_of
from pipelines.remote.schedules import PlannedSchedule, apply, find
from pipelines.remote.submission import make_submission
from two_tower.artifacts import bucket, write_object
from two_tower.config import Environment, ScheduleSettings
from two_tower.errors import ConfigError, UserError

TINY = Path(__file__).parents[2] / "configs" / "tiny.yaml"
MINUTE = timedelta(minutes=1)


@pytest.fixture(scope="module")
def environment():
    return Environment.model_validate(
        {"kubeflow": {"root": "gs://shop-bucket/kfp", "experiment": "shop"}, "labels": {"team": "search"}}
    )


@pytest.fixture(scope="module")
def compiled(environment):
    return make_submission(TINY, environment, backend="kubeflow", run_id="tiny-1")


@pytest.fixture
def submission(compiled):
    return compiled


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr("pipelines.remote.google.FIRST_PAUSE", 0.01)


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    with running_cloud(tmp_path / "cloud", run_jobs=False) as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        path = r"/apis/v2beta1/runs/(?P<id>[^/:]+):retry"
        found.routes.append(route("POST", path, "kfp.runs.retry", _retry(found), public=True))
        bucket._client.cache_clear()
        yield found


def _retry(cloud):
    """A failed run goes on under its id."""

    def retry(request):
        run = cloud.kubeflow.run(request.groups["id"])
        if run.state != "FAILED":
            raise Refused("FAILED_PRECONDITION", f"Workflow must be Failed/Error to retry, is {run.state}")
        run.execution = Execution(run.execution.folder.with_name(f"{run.id}-again"), {}, {})
        return {}

    return retry


@pytest.fixture
def backend(cloud, environment):
    return KubeflowBackend(environment.kubeflow, host=cloud.url)


@pytest.fixture
def schedules(cloud, environment):
    return KubeflowSchedules(environment.kubeflow, host=cloud.url)


def planned(submission, *, definition="job-1", timing="time-1", name="nightly", **when):
    schedule = ScheduleSettings.model_validate({"config": "configs/tiny.yaml", "cron": "0 3 * * *", **when})
    return PlannedSchedule(name, "prod", schedule, submission, definition, timing)


def one_after_the_other(call):
    """The first tries of a call are refused, and the reply to the one that is not is lost."""
    return [Fault(call, kind, nth=number) for number, kind in enumerate(("429", "503", "lost_reply"), start=1)]


def bodies(cloud, name):
    return [call.body for call in cloud.called(name)]


def only(runs):
    (found,) = runs
    return found


# Runs


def test_a_run_is_sent_once_with_all_that_is_known_of_it(cloud, backend, submission):
    run = backend.submit(submission)
    again = backend.submit(submission)

    body = only(bodies(cloud, "kfp.runs.create"))
    assert body["display_name"] == "tiny-1"
    assert body["pipeline_spec"] == submission.pipeline
    assert body["runtime_config"] == {"pipeline_root": "gs://shop-bucket/kfp", "parameters": submission.parameters}
    assert labels_in(body["description"]) == submission.labels
    experiment = only(one for one in cloud.kubeflow.experiments.values() if one["display_name"] == "shop")
    assert body["experiment_id"] == experiment["experiment_id"]
    assert run.handle == again.handle == only(cloud.kubeflow.runs)
    assert (run.run_id, run.name, run.state, run.registry) == (
        "tiny-1", "tiny", "waiting", "gs://shop-bucket/kfp/registry",
    )  # fmt: skip
    assert run.link == f"{cloud.url}/#/runs/details/{run.handle}"
    assert run.labels == submission.labels


@pytest.mark.parametrize("call", ["healthz.get", "experiments.list", "experiments.create", "runs.list", "runs.create"])
def test_faults_leave_one_run_in_one_experiment(cloud, backend, submission, call):
    cloud.faults += one_after_the_other(f"kfp.{call}")
    backend.submit(submission)
    assert all(fault.hits for fault in cloud.faults)
    assert len(cloud.kubeflow.runs) == 1
    assert sum(one["display_name"] == "shop" for one in cloud.kubeflow.experiments.values()) == 1


def test_a_second_process_finds_the_run_that_the_first_has_made(cloud, environment, submission):
    cloud.faults.append(Fault("kfp.runs.create", "lost_reply"))
    for _ in range(2):
        KubeflowBackend(environment.kubeflow, host=cloud.url).submit(submission)
    assert len(cloud.kubeflow.runs) == 1


def test_runs_are_found_by_id_by_its_beginning_and_as_the_latest(cloud, backend, submission):
    for number in (1, 2):
        backend.submit(replace(submission, run_id=f"tiny-{number}x"))
    assert backend.find("tiny-1x").run_id == backend.find("tiny-1").run_id == "tiny-1x"
    assert backend.find("latest").run_id == "tiny-2x"
    with pytest.raises(UserError, match=r"more than one run starts with 'tiny'; the newest runs: tiny-2x, tiny-1x"):
        backend.find("tiny")
    with pytest.raises(UserError, match="no run is called 'other'"):
        backend.find("other")


def test_lists_hold_the_runs_of_this_program_and_go_on_over_pages(cloud, backend, submission, monkeypatch):
    assert backend.list_runs(None, most=5) == []
    assert not cloud.called("kfp.experiments.create")  # looking makes nothing
    monkeypatch.setattr("pipelines.remote.kubeflow_client.PAGE", 2)
    for number in range(5):
        backend.submit(replace(submission, run_id=f"tiny-{number}"))
    theirs = cloud.kubeflow.run(backend.find("tiny-3").handle)
    theirs.body["description"] = "somebody's own"
    theirs.spec = theirs.body["pipeline_spec"] = {"pipelineInfo": {"name": "other"}}
    assert [run.run_id for run in backend.list_runs("tiny", most=3)] == ["tiny-4", "tiny-2", "tiny-1"]
    assert [run.run_id for run in backend.list_runs(None, most=9)] == ["tiny-4", "tiny-2", "tiny-1", "tiny-0"]
    assert backend.list_runs("other", most=9) == []


def test_a_run_that_carries_no_labels_is_known_by_its_pipeline(cloud, backend, submission):
    backend.submit(submission)
    body = cloud.kubeflow.run(backend.find("latest").handle).body
    body["description"] = None
    body["pipeline_spec"] = {"pipeline_spec": body["pipeline_spec"], "platform_spec": {}}
    assert only(backend.list_runs("tiny", most=5)).labels == {"tool": "two-tower", "pipeline": "tiny"}
    assert backend.find("latest").folder == f"gs://shop-bucket/kfp/tiny/{backend.find('latest').handle}"


def test_cancel_ends_the_run(cloud, backend, submission):
    backend.submit(submission)
    backend.cancel("tiny-1")
    run = backend.find("tiny-1")
    assert run.state == "cancelled"
    assert run.ended is not None
    with pytest.raises(UserError, match=r"cancelling the run tiny-1 at .*: refused: .*cannot be terminated"):
        backend.cancel("tiny-1")


@pytest.mark.parametrize("kind", ["503", "lost_reply"])
def test_a_failed_run_is_retried_in_place(cloud, backend, submission, kind):
    backend.submit(submission)
    with pytest.raises(UserError, match="run tiny-1 is waiting; only one that failed or was cancelled is resumed"):
        backend.resume("tiny-1", new_id="tiny-2")
    run = cloud.kubeflow.run(backend.find("tiny-1").handle)
    run.execution.settle("FAILED", ("INTERNAL", "the node went away"))
    assert backend.find("tiny-1").errors == {"": "the node went away"}

    cloud.faults.append(Fault("kfp.runs.retry", kind))
    resumed = backend.resume("tiny-1", new_id="tiny-2")
    assert (resumed.run_id, resumed.handle, resumed.state) == ("tiny-1", run.id, "waiting")
    assert len(cloud.kubeflow.runs) == 1


# What a run says of itself


def _with(cloud, backend, submission, tasks, *, state="SUCCEEDED"):
    """The run, which has ended with these tasks, as the recorder of the stand-in writes them."""
    run = cloud.kubeflow.run(backend.submit(submission).handle)
    known = {"path": "x", "parent": "", "create": 1.8e9, "start": 1.8e9, "end": 1.8e9 + 90, "group": False}
    record = [{**known, "path": f"/{number}", **task} for number, task in enumerate(tasks)]
    (run.execution.folder / "tasks.json").write_text(json.dumps(record))
    run.execution.settle(state)
    return backend.find(submission.run_id)


@pytest.mark.parametrize("exit_task", ["report-failure", "leave-page"])  # the latter in runs of earlier releases
def test_tasks_become_steps(cloud, backend, submission, exit_task):
    made = {"artifacts": {"prepared": [{"uri": "gs://shop-bucket/x"}]}}
    run = _with(
        cloud, backend, submission,
        [
            {"name": "retrieval", "state": "SUCCEEDED"},
            {"name": "resolve-inputs", "state": "SUCCEEDED"},
            {"name": "prepare-data", "state": "SKIPPED", "outputs": made},
            {"name": "train-towers", "state": "SUCCEEDED"},
            {"name": "executor", "state": "SKIPPED", "parent": "/3"},
            {"name": "promote", "state": "NOT_TRIGGERED"},
            {"name": exit_task, "state": "SUCCEEDED"},
        ],
    )  # fmt: skip
    states = {step.name: step.state for step in run.steps}
    assert (states["resolve_inputs"], run.step("resolve_inputs").seconds) == ("ran", 90)
    assert (states["prepare_data"], states["train_towers"]) == ("cached", "cached")
    assert (states["promote"], states["keep_refused"]) == ("skipped", "skipped")
    assert states["report_failure"] == "ran"
    assert "executor" not in states
    assert run.state == "finished"


def test_a_failed_step_says_why_or_where_its_log_is(cloud, backend, submission):
    tasks = [
        {"name": "prepare-data", "state": "FAILED", "error": "it failed", "lines": ["log.parquet: row 3 is bad"]},
        {"name": "train-towers", "state": "FAILED"},
    ]
    run = _with(cloud, backend, submission, tasks, state="FAILED")
    assert run.state == "failed"
    assert run.errors["prepare_data"] == "it failed\nlog.parquet: row 3 is bad"
    assert run.errors["train_towers"] == "Kubeflow gives no reason; see its page"
    assert run.step("build_index").state == "waiting"


def test_a_workflow_that_was_stopped_counts_as_cancelled_not_as_failed(cloud, backend, submission):
    backend.submit(submission)
    shown = backend.client.runs.run_service_get_run(backend.find("tiny-1").handle)
    shown.state = "FAILED"
    shown.state_history = [type("Status", (), {"state": state}) for state in ("RUNNING", "CANCELING", "FAILED")]
    assert backend.described(shown).state == "cancelled"


@pytest.mark.parametrize("exit_task", ["report-failure", "leave-page"])
def test_the_page_of_a_failed_run_is_found_under_either_name_of_its_step(cloud, backend, submission, exit_task):
    run = _with(cloud, backend, submission, [{"name": exit_task, "state": "SUCCEEDED"}], state="FAILED")
    page = f"{run.folder}/{exit_task}/attempt-1/page"
    write_object(page, b"<html>")
    assert backend.find("tiny-1").report == page


def _metrics(decision="promote"):
    return json.dumps({"gate": {"decision": decision}, "version": "0123abc"}).encode()


def test_the_verdict_is_read_from_the_newest_evaluation_below_the_root(cloud, backend, submission):
    run = _with(cloud, backend, submission, [{"name": "evaluate-recall", "state": "SUCCEEDED"}])
    assert run.metrics is None
    assert run.report is None
    write_object(f"{run.folder}/evaluate-recall/attempt-1/evaluation/metrics.json", _metrics("refuse"))
    write_object(f"{run.folder}/evaluate-recall/attempt-2/evaluation/metrics.json", _metrics())
    write_object(f"{run.folder}/write-report/attempt-1/report", b"<html>")
    run = backend.find("tiny-1")
    assert (run.decision, run.version) == ("promote", "0123abc")
    assert run.report == f"{run.folder}/write-report/attempt-1/report"
    write_object(f"{run.folder}/write-report/attempt-1/reporter", b"")  # a name that merely begins so
    assert backend.find("tiny-1").report == f"{run.folder}/write-report/attempt-1/report"


def test_the_verdict_is_read_from_the_registry_where_the_root_cannot_be(cloud):
    manifest = {"kind": "retrieval_version", "measured": {"lineage": {"run_id": "tiny-1"}}}
    place = "gs://shop-bucket/registry/tiny/versions"
    for version, made_by in (("aaa", "tiny-0"), ("bbb", "tiny-1")):
        manifest["measured"]["lineage"]["run_id"] = made_by
        write_object(f"{place}/{version}/manifest.json", json.dumps(manifest).encode())
    write_object(f"{place}/bbb/evaluation/metrics.json", _metrics())
    known = {"name": "tiny", "state": "finished", "link": "", "registry": "gs://shop-bucket/registry"}
    assert KubeflowRun("tiny-1", folder="minio://mlpipeline/v2/tiny/id", **known).version == "0123abc"
    assert KubeflowRun("tiny-2", folder="minio://mlpipeline/v2/tiny/id", **known).decision is None
    volume = {**known, "registry": "/mnt/registry"}
    assert KubeflowRun("tiny-1", folder="minio://mlpipeline/v2/tiny/id", **volume).decision is None


# Who answers, and what is said if nobody does


def test_an_address_is_needed_and_host_replaces_it(environment):
    with pytest.raises(ConfigError, match=r"kubeflow\.host: needed, or --host"):
        KubeflowBackend(environment.kubeflow)
    named = environment.kubeflow.model_copy(update={"host": "https://kfp.example.org/"})
    assert KubeflowBackend(named).host == "https://kfp.example.org"
    assert KubeflowBackend(named, host="http://localhost:8080").host == "http://localhost:8080"
    with pytest.raises(ConfigError, match=r"'kfp\.example\.org' must begin with http:// or https://"):
        KubeflowBackend(named, host="kfp.example.org")


def test_nobody_there_is_said_at_once(environment, submission, monkeypatch):
    monkeypatch.setattr("pipelines.remote.google.FIRST_PAUSE", 60)
    with pytest.raises(
        UserError, match=r"http://127\.0\.0\.1:9 \(kubeflow\.host, or --host\) does not answer.*forwarded"
    ):
        KubeflowBackend(environment.kubeflow, host="http://127.0.0.1:9").submit(submission)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(401, {"error": "no token", "code": 16, "message": "no token"}), r"not logged in: no token; .*forward"),
        (Reply(403, {"message": "may not"}), "permission denied: may not"),
        (Reply(400, {"message": "bad name\nmore"}), "refused: bad name$"),
        (Reply(200, b"<html>Log in</html>", {"Content-Type": "text/html"}), r"answers with a web page.*log in as"),
        (Reply(503, b"upstream"), r"does not answer now: .* \(tried 6 times\)"),
    ],
)  # fmt: skip
def test_refusals_are_said_in_words(environment, submission, reply, said):
    with listening() as server:
        server.answer = lambda request: reply
        backend = KubeflowBackend(environment.kubeflow, host=f"http://127.0.0.1:{server.server_address[1]}")
        with pytest.raises(UserError, match=said):
            backend.submit(submission)


def test_several_users_need_a_namespace_which_every_list_is_asked_with(environment, submission):
    asked = []

    def answer(request):
        asked.append(request)
        return Reply(200, {"multi_user": True} if request.path.endswith("healthz") else {})

    with listening() as server:
        server.answer = answer
        host = f"http://127.0.0.1:{server.server_address[1]}"
        with pytest.raises(ConfigError, match=r"kubeflow\.namespace: needed"):
            KubeflowBackend(environment.kubeflow, host=host).list_runs(None, most=1)
        settings = environment.kubeflow.model_copy(update={"namespace": "team"})
        assert KubeflowBackend(settings, host=host).list_runs(None, most=1) == []
        assert KubeflowSchedules(settings, host=host).list("prod") == []
    assert {request.params.get("namespace") for request in asked if "healthz" not in request.path} == {"team"}


def test_log_ins_go_with_every_call(environment, tmp_path, monkeypatch):
    import kfp

    asked = []

    def answer(request):
        asked.append(request)
        return Reply(200, {})

    context, token = tmp_path / "context.json", tmp_path / "token"
    context.write_text(json.dumps({"namespace": "", "client_authentication_cookie": "authservice_session=abc"}))
    token.write_text("from-a-file")
    with listening() as server:
        server.answer = answer
        host = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setattr(kfp.Client, "_LOCAL_KFP_CONTEXT", str(context))
        monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(token))
        KubeflowBackend(environment.kubeflow, host=host).list_runs(None, most=1)
    assert len(asked) == 2
    for request in asked:
        assert request.headers["cookie"] == "authservice_session=abc"
        assert request.headers["authorization"] == "Bearer from-a-file"
        assert "namespace" not in request.params


def test_the_stand_in_refuses_what_the_api_does_not_know(cloud, backend, submission):
    wrong = replace(submission, parameters={**submission.parameters, "color": "red"})
    with pytest.raises(UserError, match=r"submitting the run tiny-1 at .*: refused: .*color"):
        backend.submit(wrong)
    assert not cloud.kubeflow.runs


def test_a_description_holds_what_is_needed_and_as_many_labels_as_fit(caplog):
    needed = {"tool": "two-tower", "pipeline": "shop", "config": "c" * 12, "commit": "abc", "schedule": "nightly"}
    labels = {"long": "x" * 60, "longer": "y" * 63, "longest": "z" * 63, "team": "t", **needed}
    text = described_by(labels)
    assert len(text) <= DESCRIPTION
    assert labels_in(text).items() >= {**needed, "long": "x" * 60, "team": "t"}.items()
    assert "longest" not in labels_in(text)
    with pytest.raises(ConfigError, match="holds 255 characters"):
        described_by({**needed, "environment": "e" * 63, "pipeline": "p" * 200})
    assert labels_in("nightly run") == labels_in('{"tool":"other"}') == labels_in("[1]") == labels_in(None) == {}


# Recurring runs


def test_a_schedule_becomes_a_recurring_run(cloud, schedules, submission):
    there = schedules.create(planned(submission, start="2027-01-01", end="2028-01-01", max_concurrent_runs=2))
    body = only(bodies(cloud, "kfp.recurringruns.create"))
    assert body["display_name"] == "tiny-nightly"
    assert body["trigger"]["cron_schedule"] == {
        "cron": "0 0 3 * * *", "start_time": "2026-12-31T23:59:59+00:00", "end_time": "2027-12-31T23:59:59+00:00",
    }  # fmt: skip
    assert (body["max_concurrency"], body["no_catchup"], body["mode"]) == ("2", True, "ENABLE")
    assert body["runtime_config"]["parameters"]["run_time"] == ""
    assert labels_in(body["description"]) == {
        **submission.labels, "schedule": "nightly", "environment": "prod", "definition": "job-1", "timing": "time-1",
    }  # fmt: skip
    assert there == only(schedules.list("prod"))
    assert (there.name, there.owner, there.definition, there.timing) == ("nightly", "prod", "job-1", "time-1")
    assert (there.cron, there.time_zone, there.state, there.last_run) == ("0 3 * * *", "UTC", "active", None)
    assert there.next_run == max(datetime(2027, 1, 1, 3, tzinfo=UTC), there.next_run)
    assert there.link == f"{cloud.url}/#/recurringrun/details/{there.handle}"
    assert schedules.list("other") == []


@pytest.mark.parametrize(
    ("cron", "sent"),
    [
        ("0 3 * * *", "0 0 3 * * *"),
        ("30 */2 1,15 JAN-MAR mon", "0 30 */2 1,15 JAN-MAR mon"),
        ("0 3 * * 7", "0 0 3 * * 0"),
        ("0 3 * * 5-7", "0 0 3 * * 0,5,6"),
        ("0 3 17 * 7", "0 0 3 17 * 0"),
    ],
)
def test_cron_has_seconds_and_no_seventh_day(cron, sent):
    assert cron_of(ScheduleSettings(config="x", cron=cron)) == sent


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ({"time_zone": "Europe/Berlin"}, r"schedules\.nightly\.time_zone: Europe/Berlin: .* write the times in UTC"),
        ({"catch_up": "none"}, r"schedules\.nightly\.catch_up: none: .* choose latest or all"),
        ({"max_concurrent_runs": 11}, r"schedules\.nightly\.max_concurrent_runs: Kubeflow takes at most 10"),
    ],
)
def test_what_a_recurring_run_cannot_do_is_refused(cloud, schedules, submission, when, said):
    with pytest.raises(ConfigError, match=said):
        schedules.create(planned(submission, **when))
    assert not cloud.calls


def test_applied_twice_is_one_and_changes_make_the_new_before_the_old_goes(cloud, schedules, submission):
    def done(*plans):
        return [(each.deed, each.name) for each in apply(schedules, plans, owner="prod", prune=True)]

    early = {"start": "2026-01-01", "catch_up": "all"}
    assert done(planned(submission, **early)) == [("created", "nightly")]
    first = only(cloud.kubeflow.recurring.values())
    assert first.body["trigger"]["cron_schedule"]["start_time"].startswith("2025-12-31")
    assert first.body["no_catchup"] is False
    assert done(planned(submission, **early)) == [("unchanged", "nightly")]
    assert only(cloud.kubeflow.recurring.values()) is first

    schedules.pause(only(schedules.list("prod")))
    assert done(planned(submission, timing="time-2", cron="0 4 * * *", **early)) == [("retimed", "nightly")]
    second = only(schedules.list("prod"))
    assert (second.cron, second.state, second.next_run) == ("0 4 * * *", "paused", None)
    body = only(cloud.kubeflow.recurring.values()).body
    begin = datetime.fromisoformat(body["trigger"]["cron_schedule"]["start_time"])
    assert abs(begin - datetime.now(UTC)) < MINUTE  # what the old one has run is not missed by the new one

    assert done(planned(submission, timing="time-2", definition="job-2", **early)) == [("replaced", "nightly")]
    assert only(schedules.list("prod")).state == "paused"
    assert done() == [("removed", "nightly")]
    assert schedules.list("prod") == []
    changes = [call.name for call in cloud.calls if call.name.startswith("kfp.recurringruns") and call.method != "GET"]
    assert [name.rpartition(".")[2] for name in changes] == [
        "create", "disable", "create", "disable", "delete", "create", "disable", "delete", "delete",
    ]  # fmt: skip


@pytest.mark.parametrize("call", ["create", "list", "delete", "disable", "enable"])
def test_faults_leave_one_recurring_run(cloud, schedules, submission, call):
    cloud.faults += one_after_the_other(f"kfp.recurringruns.{call}")
    first = schedules.create(planned(submission))
    schedules.pause(first)
    schedules.resume(first, catch_up=True)
    second = schedules.retime(first, planned(submission, timing="time-2"))
    assert [one.handle for one in schedules.list("prod")] == [second.handle]
    assert all(fault.hits for fault in cloud.faults)


def test_pause_and_resume(cloud, schedules, submission):
    there = schedules.create(planned(submission))
    schedules.pause(there)
    assert find(schedules, "prod", "nightly").state == "paused"
    assert cloud.kubeflow.fire(there.handle, datetime(2027, 6, 1, 3, tzinfo=UTC)) is None
    schedules.resume(there, catch_up=True)
    resumed = find(schedules, "prod", "nightly")
    assert (resumed.handle, resumed.state) == (there.handle, "active")


def test_resumed_without_catching_up_another_begins_now(cloud, schedules, submission):
    there = schedules.create(planned(submission, start="2026-01-01", catch_up="all", max_concurrent_runs=3))
    before = cloud.kubeflow.find(there.handle).body
    schedules.pause(there)
    schedules.resume(there, catch_up=False)
    resumed = find(schedules, "prod", "nightly")
    assert resumed.handle != there.handle
    assert replace(resumed, handle="", link="") == replace(there, handle="", link="")
    after = cloud.kubeflow.find(resumed.handle).body
    begin = datetime.fromisoformat(after["trigger"]["cron_schedule"].pop("start_time"))
    assert abs(begin - datetime.now(UTC)) < MINUTE
    before["trigger"]["cron_schedule"].pop("start_time")
    assert after == before


def test_removing_a_schedule_leaves_its_runs(cloud, schedules, submission):
    asked = []

    def delete(request):
        asked.append(request.params)
        return cloud.kubeflow._delete_recurring(request)

    own = route(
        "DELETE", r"/apis/v2beta1/recurringruns/(?P<id>[^/:]+)", "kfp.recurringruns.delete", delete, public=True
    )
    cloud.routes.insert(0, own)
    there = schedules.create(planned(submission))
    schedules.delete(there)
    schedules.delete(there)  # gone already
    assert schedules.list("prod") == []
    assert asked == [{"propagation_policy": "ORPHAN"}] * 2  # else the runs would be removed as what it owns


def test_an_ended_schedule_is_known_as_such(cloud, schedules, submission):
    schedules.create(planned(submission, start="2025-01-01", end="2025-02-01"))
    there = only(schedules.list("prod"))
    assert (there.state, there.next_run) == ("ended", None)


def test_a_run_of_a_schedule_is_listed_with_the_others(cloud, schedules, backend, submission):
    there = schedules.create(planned(submission))
    at = datetime(2027, 6, 1, 3, tzinfo=UTC)
    fired = cloud.kubeflow.fire(there.handle, at)
    assert cloud.kubeflow.fire(there.handle, at + timedelta(days=1)) is None  # one at once
    run = only(backend.list_runs("tiny", most=5))
    assert (run.handle, run.labels["schedule"]) == (fired.id, "nightly")
    assert only(schedules.list("prod")).last_run == at


# The whole DAG


@pytest.mark.slow
@pytest.mark.e2e
def test_the_dag_runs_to_promotion_with_all_in_the_bucket(tmp_path, tmp_path_factory, environment, monkeypatch):
    from two_tower.artifacts import upload
    from two_tower.registry import Registry

    shop = Project(tmp_path_factory.mktemp("checkout"))
    shop.command("data", "tiny")
    with running_cloud(tmp_path / "cloud") as cloud:
        for name, value in cloud.environment.items():
            monkeypatch.setenv(name, value)
        data = shop.folder / "data" / "tiny"
        names = [str(file.relative_to(data)) for file in data.rglob("*") if file.is_file()]
        monkeypatch.setattr("pipelines.remote.follow.POLL", 0.5)
        bucket._client.cache_clear()
        upload(data, names, "gs://shop-bucket/kfp/data/tiny")
        backend = KubeflowBackend(environment.kubeflow, host=cloud.url)
        sent = make_submission(TINY, environment, ["training.refit=true"], backend="kubeflow")  # with every step
        run = follow(backend, backend.submit(sent), Console())
        assert run.state == "finished", run.errors
        assert {step.state for step in run.steps if step.name != "keep_refused"} == {"ran"}
        assert run.step("keep_refused").state == "skipped"
        assert run.decision == "promote"
        champion = Registry(run.registry, "tiny").champion()
        assert champion is not None
        assert champion.id == run.version
        assert run.report is not None
        assert run.report.startswith("gs://shop-bucket/kfp/tiny/")
