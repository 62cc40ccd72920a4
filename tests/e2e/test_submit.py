"""The DAG on a stand-in for Google Cloud: submitted, followed, promoted on a bucket, resumed, scheduled, disturbed."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from cloud import Fault
from fault_table import Rows, go_through
from google.cloud.storage.retry import DEFAULT_RETRY

from pipelines.remote import follow, google
from two_tower.artifacts import bucket
from two_tower.registry import Registry

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CONFIG = "configs/tiny.yaml"


def champion(cloud) -> str:
    file = cloud.buckets / cloud.bucket / "registry" / "tiny" / "champion.json"
    return json.loads(file.read_text())["version"]


def items(printed: str) -> list[str]:
    """The rows of the table that `recommend` prints."""
    return re.findall(r"│ +\d+ │ .+", printed)


def test_a_submitted_run_is_promoted_and_recommends_what_a_local_run_does(remote, cloud, submitted, project, first_run):
    assert f"champion: {champion(cloud)}" in submitted
    assert "The gate lets it through" in submitted and "recall@100" in submitted and "EUR" in submitted
    artefacts = {path.parent.name for path in (cloud.buckets / cloud.bucket / "pipelines").rglob("manifest.json")}
    assert {"prepared", "trained", "candidate_tower", "query_tower", "embeddings", "index", "evaluation"} <= artefacts
    asked = ("recommend", CONFIG, "--user", "u16")
    here, there = project.command(*asked).stdout, remote.command(*asked, "--env", "prod.yaml").stdout
    assert len(items(here)) == 10 and items(here) == items(there)


def test_every_artefact_says_which_run_and_code_made_it(cloud, submitted):
    run = re.search(r"run (tiny-\d+-\d+-\w+)", submitted)[1]
    manifests = list((cloud.buckets / cloud.bucket / "pipelines").glob(f"*/{run}/*/*/manifest.json"))
    assert len(manifests) >= 8
    for file in manifests:
        content = json.loads(file.read_text())
        assert content["measured"]["lineage"].keys() >= {"run_id", "step", "config"}, file
        assert content["measured"]["lineage"]["run_id"] == run
        assert content["data_seen_until"] is not None or content["kind"] == "data_profile", file


def test_a_second_run_is_answered_from_the_cache_and_changes_nothing(remote, cloud, submitted):
    before = champion(cloud)
    said = remote.command("submit", CONFIG, "--env", "prod.yaml", "--wait").stdout
    assert said.count(": from the cache") == 7 and "the champion already" in said
    assert champion(cloud) == before
    listed = remote.command("runs", "list", "--env", "prod.yaml").stdout
    assert listed.count("finished") == 2 and "keep" in listed and "promote" in listed
    shown = remote.command("runs", "show", "latest", "--env", "prod.yaml").stdout
    assert "recall@100" in shown and "report: gs://" in shown
    versions = remote.command("registry", "list", "--env", "prod.yaml").stdout
    assert versions.count(before) == 1 and "champion" in versions


def test_a_refused_version_ends_with_3_and_stays_a_loser(remote, cloud, submitted):
    before = champion(cloud)
    gate = "evaluation.gate=[{type: minimum, metric: recall@100, at_least: 0.999}]"
    said = remote.command("submit", CONFIG, "--env", "prod.yaml", "--wait", "--set", gate,
                          "--set", "index.storage=bfloat16", code=3).stdout  # fmt: skip
    assert "keep_refused | finished" in said and champion(cloud) == before


def test_a_failed_run_ends_with_1_names_the_step_and_is_resumed_from_the_last_good_one(remote, cloud, submitted):
    changed = ("--set", "index.storage=int8", "--set", "evaluation.gate=[]")
    cloud.faults.append(Fault(r"storage.objects.insert .*evaluate-recall", "403", times=1000))
    said = remote.command("submit", CONFIG, "--env", "prod.yaml", "--wait", *changed, code=1).stdout
    cloud.faults.clear()
    assert "build_index | finished" in said
    assert "evaluate_recall failed" in said and "permission denied" in said
    failed = re.search(r"run (tiny-\d+-\d+-\w+)", said)[1]
    said = remote.command("submit", "--resume", failed, "--env", "prod.yaml", "--wait").stdout
    assert f"resumes {failed}" in said
    assert "build_index: from the cache" in said and "evaluate_recall | finished" in said


def test_wrong_things_are_named_before_anything_is_spent(remote, cloud):
    content = yaml.safe_load((remote.folder / "prod.yaml").read_text())
    content["images"]["train"] = content["images"]["train"].partition("@")[0] + ":latest"
    content["vertex"]["bucket"] = "gs://nobody-has-this"
    (remote.folder / "wrong.yaml").write_text(yaml.safe_dump(content))
    jobs = len(cloud.jobs)
    result = remote.command("submit", CONFIG, "--env", "wrong.yaml", code=2)
    assert "images.train" in result.stdout and "cache" in result.stdout and "vertex.bucket" in result.stdout
    assert "nothing has been submitted" in result.stderr
    dry = remote.command("submit", CONFIG, "--env", "prod.yaml", "--dry-run").stdout
    assert "prepare-data" in dry and "registry: gs://" in dry
    assert len(cloud.jobs) == jobs


def test_a_scheduled_run_sees_the_new_night_and_says_what_was_new(remote, cloud, submitted):
    file = remote.folder / "data" / "tiny" / "interactions.parquet"
    logs, due = pq.read_table(file), datetime(2024, 5, 21, 3, 0, tzinfo=UTC)
    column = logs.schema.get_field_index("time")
    assert pc.max(logs["time"]).as_py().date() == date(2024, 5, 19)
    last_days = logs.filter(pc.greater_equal(logs["time"], pa.scalar(datetime(2024, 5, 18, tzinfo=UTC))))
    new = last_days.set_column(column, "time", pc.add(last_days["time"], pa.scalar(timedelta(days=2))))
    pq.write_table(new, remote.folder / "night.parquet")  # of 20 May, and of the day that the run's window leaves out
    cloud.put(remote.folder / "night.parquet", f"gs://{cloud.bucket}/data/tiny/interactions-night.parquet")
    for expected in ("created", "unchanged"):
        assert f"nightly: {expected}" in remote.command("schedule", "apply", "--env", "prod.yaml").stdout

    (entry,) = cloud.schedules.values()
    job = cloud.fire(entry.name, due)
    assert job is not None
    assert job.wait(300).state == "SUCCEEDED"
    folder = next((cloud.buckets / cloud.bucket / "pipelines").glob(f"*/{job.name.rpartition('/')[2]}"))
    (summary,), (page,) = folder.glob("prepare-data*/prepared/summary.json"), folder.glob("write-report*/report")
    last = json.loads(summary.read_text())["windows"]["test"][1]
    assert datetime.fromtimestamp(last / 1e6, UTC).date() == date(2024, 5, 20)
    assert "1 new, 0 changed, 0 gone (interactions-night.parquet)" in page.read_text()

    listed = remote.command("schedule", "list", "--env", "prod.yaml").stdout
    assert "nightly" in listed and "active" in listed
    for command, after in (("pause", "paused"), ("resume", "active")):
        remote.command("schedule", command, "nightly", "--env", "prod.yaml")
        assert after in remote.command("schedule", "list", "--env", "prod.yaml").stdout
    remote.command("schedule", "delete", "nightly", "--env", "prod.yaml")
    assert not cloud.schedules


@pytest.fixture
def here(remote, cloud, monkeypatch) -> Iterator[None]:
    """This process in the checkout, with the cloud's variables; the cloud itself runs nothing more."""
    monkeypatch.setattr(cloud, "run_jobs", False)
    for name, value in remote.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(remote.folder)
    monkeypatch.setattr(google, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(follow, "POLL", 0.05)
    monkeypatch.setattr(DEFAULT_RETRY, "_initial", 0.01)
    bucket._client.cache_clear()
    yield
    bucket._client.cache_clear()


def test_after_a_fault_at_any_call_of_the_good_run_a_rerun_completes(cloud, submitted, good_calls, here):
    """Nothing is doubled, no champion is lost, and no kind of call is left out."""
    rows = Rows(cloud)
    Registry(f"gs://{cloud.bucket}/registry", "tiny").promote_existing(rows.version)  # others have come after it
    count, wrong = go_through(rows, good_calls)
    assert not wrong, "\n".join(wrong)
    assert count > 60
