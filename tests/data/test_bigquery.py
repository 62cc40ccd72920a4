"""Exports from BigQuery, through Google's own client, against a stand-in."""

import json
import logging
import time
import urllib.error
import urllib.request
from datetime import datetime, timedelta
from pathlib import Path

import bigquery_server
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bigquery_server import Fault
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import _registry

from two_tower.config import BeamSettings, DataSettings
from two_tower.data import bigquery, open_prepared, prepare, resolve_sources
from two_tower.errors import ConfigError, DataError

TABLE = "our-project.shop.events"
KEY = "data.interactions.bigquery"
ROWS = pa.table({"user": [f"u{number}" for number in range(7)], "item": [f"i{number % 3}" for number in range(7)]})
JOBS = r"POST .*/jobs$"


@pytest.fixture
def server(tmp_path, monkeypatch):
    class Buckets(LocalFileSystem):
        protocol = "gs"
        cachable = False

        @classmethod
        def _strip_protocol(cls, path):
            return str(tmp_path / path.removeprefix("gs://")) if path.startswith("gs://") else path

    pause = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: pause(min(seconds, 0.005)))
    monkeypatch.setitem(_registry, "gs", Buckets)
    with bigquery_server.serve(tmp_path) as (state, address):
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", address)
        state.tables[TABLE] = bigquery_server.Table(ROWS)
        yield state


def export(**changes):
    asked = {"table": TABLE, "query": None, "export_to": "gs://bucket/logs", "project": None, "location": None}
    return bigquery.export_table(**asked | changes, key=KEY)


def ask(query, **changes):
    return export(**{"table": None, "query": query, "project": "our-project"} | changes)


def lying_in(server, folder):
    files = sorted((server.buckets / folder.removeprefix("gs://")).glob("*.parquet"))
    return pa.concat_tables([pq.read_table(file) for file in files]).sort_by("user")


def test_a_table_is_exported_with_this_request(server):
    folder = export()
    [body] = server.sent(dry_run=False)
    name = folder.removeprefix("gs://bucket/logs/")
    job_id, location = f"two_tower_export_{name}", "EU"
    assert body == {
        "jobReference": {"jobId": job_id, "projectId": "our-project", "location": location},
        "configuration": {
            "query": {
                "query": f"EXPORT DATA OPTIONS (uri='gs://bucket/logs/{name}/part-*.parquet', format='PARQUET', "
                f"compression='SNAPPY', overwrite=true) AS\nSELECT * FROM `{TABLE}`\n",
                "useLegacySql": False,
            }
        },
    }
    assert len(name) == 32
    assert lying_in(server, folder) == ROWS
    assert not server.sent(dry_run=True)


def test_unchanged_content_is_exported_once(server):
    assert export() == export(export_to="gs://bucket/logs/") == export(location="eu")
    assert server.exports == 1
    assert len(server.sent(dry_run=False)) == 1


@pytest.mark.parametrize("change", [{"etag": "etag-2"}, {"modified": "1700000009999"}])
def test_changed_content_goes_to_another_folder(server, change):
    first = export()
    server.tables[TABLE] = bigquery_server.Table(ROWS.slice(0, 3), **change)
    second = export()
    assert first != second
    assert lying_in(server, first) == ROWS
    assert lying_in(server, second) == ROWS.slice(0, 3)


def test_other_destinations_and_queries_have_exports_of_their_own(server):
    folders = [
        export(),
        export(export_to="gs://bucket/other"),
        ask(f"SELECT * FROM `{TABLE}`"),
        ask(f"SELECT user FROM `{TABLE}`"),
    ]
    # A query with the statement of the table's export has the same content.
    assert folders[0] == folders[2]
    assert len(set(folders)) == len({Path(folder).name[:32] for folder in folders}) == server.exports == 3


def test_the_project_that_pays_runs_the_job(server, monkeypatch):
    first = export(project="their-project")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "env-project")
    ask(f"SELECT * FROM `{TABLE}`", project=None)
    projects = [body["jobReference"]["projectId"] for body in server.sent(dry_run=False)]
    assert projects == ["their-project", "env-project"]
    # The jobs' ids do not keep two projects from writing to one folder, so each has its own.
    assert export() != first


def test_a_query_is_tried_dry_and_its_tables_watched(server):
    query = f"SELECT * FROM `{TABLE}` -- all"
    first = ask(query)
    [dry] = server.sent(dry_run=True)
    assert dry["configuration"] == {
        "dryRun": True,
        "query": {"query": query, "useLegacySql": False, "useQueryCache": False},
    }
    [body] = server.sent(dry_run=False)
    assert body["jobReference"]["location"] == "EU"
    assert body["configuration"]["query"]["query"].endswith(f" AS\n{query}\n")
    assert ask(query) == first
    server.tables[TABLE].modified = "1700000009999"
    assert ask(query) != first
    assert server.exports == 2


def test_a_view_changes_with_the_tables_behind_it(server):
    server.tables["our-project.shop.view"] = bigquery_server.Table(ROWS, type="VIEW", reads=(TABLE,))
    first = export(table="our-project.shop.view")
    assert export(table="our-project.shop.view") == first
    server.tables[TABLE].etag = "etag-2"
    assert export(table="our-project.shop.view") != first


@pytest.mark.parametrize("route", [JOBS, r"GET .*/tables/", r"GET .*/jobs/", r"GET .*/queries/"])
def test_a_lost_reply_does_not_export_twice(server, route):
    server.faults = [Fault(route, lose_reply=True)]
    assert lying_in(server, export()) == ROWS
    assert server.exports == len(server.jobs) == 1


@pytest.mark.parametrize("route", [JOBS, r"GET .*/tables/", r"GET .*/jobs/", r"GET .*/queries/"])
def test_a_short_outage_is_bridged(server, route):
    server.faults = [Fault(route, 503, "backendError", "try later")]
    assert lying_in(server, export()) == ROWS
    assert server.exports == 1


def test_a_job_that_another_has_just_started_is_awaited(server):
    export()
    [job] = server.jobs.values()
    job.polls = 0
    # Two looks that come too early: the one before the start, and the one after the refusal.
    server.faults = [Fault(r"GET .*/jobs/", 404, "notFound", "Not found: Job", times=2)]
    for file in server.buckets.rglob("*.parquet"):
        file.unlink()
    assert lying_in(server, export()) == ROWS
    assert len(server.jobs) == 1


def test_an_export_that_was_left_running_is_awaited(server, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(bigquery, "_wait", lambda job: (_ for _ in ()).throw(KeyboardInterrupt))
        export()
    assert server.exports == 0
    assert lying_in(server, export()) == ROWS
    assert server.exports == len(server.jobs) == 1


def test_a_forgotten_export_is_made_anew_beside_the_old_files(server):
    server.files = 5
    first = export()
    server.jobs.clear()
    server.files = 2
    second = export()
    # In one folder the last three old files would stay and their rows count twice.
    assert second == f"{first}-2"
    assert lying_in(server, second) == ROWS
    assert export() == second
    assert server.exports == 2


def test_an_export_whose_files_are_gone_is_made_anew(server):
    first = export()
    next((server.buckets / first.removeprefix("gs://")).glob("*")).unlink()
    assert lying_in(server, export()) == ROWS
    assert server.exports == 2


def test_a_failed_export_says_why_and_is_tried_again(server):
    server.job_error = ("resourcesExceeded", "Resources exceeded during query execution")
    with pytest.raises(DataError, match=rf"{KEY}\.table: .*Resources exceeded"):
        export()
    half = server.buckets / "bucket/logs" / next(iter(server.jobs)).removeprefix("two_tower_export_")
    half.mkdir(parents=True)
    pq.write_table(ROWS.slice(0, 2), half / "part-000000000000.parquet")
    assert lying_in(server, export()) == ROWS
    assert [name[-2:] for name in server.jobs][1] == "-2"


@pytest.mark.parametrize(
    ("reason", "message", "kind", "told"),
    [
        ("accessDenied", "Access Denied: bucket", DataError, "needs bigquery.jobs.create.*storage.objects"),
        ("invalid", "Cannot read and write in different locations: EU, US", ConfigError, rf"{KEY}\.location: .*bucket"),
        ("stopped", "Job execution was cancelled", DataError, "cancelled"),
        ("quotaExceeded", "Quota exceeded", DataError, "has failed: Quota exceeded"),
    ],
)
def test_what_makes_the_job_fail_is_told(server, reason, message, kind, told):
    server.job_error = (reason, message)
    with pytest.raises(kind, match=told):
        export()


@pytest.mark.parametrize(
    ("fault", "kind", "told"),
    [
        (Fault(r"/tables/", 403, "accessDenied", "Access Denied: Table"), DataError, r"\.table: .*bigquery\.tables"),
        (Fault(r"/tables/", 404, "notFound", "Not found: Table x"), DataError, r"\.table: Not found.*correct the name"),
        (Fault(r"GET .*/jobs/", 403, "accessDenied", "Access Denied: Job"), DataError, r"bigquery\.jobs\.get"),
        (Fault(JOBS, 403, "accessDenied", "no jobs.create"), DataError, r"\.project\)"),
        (Fault(JOBS, 400, "invalid", "Bad uri"), ConfigError, r"refuses it: Bad uri"),
        (Fault(r"/tables/", 503, "backendError", "down", times=10**6), DataError, "gives no answer"),
    ],
)
def test_a_refused_request_says_what_to_do(server, fault, kind, told, monkeypatch):
    monkeypatch.setattr(bigquery, "RETRY_SECONDS", 0.05)
    server.faults = [fault]
    with pytest.raises(kind, match=told) as error:
        export()
    assert str(error.value).startswith(KEY)
    assert server.exports == 0


def test_no_server_is_an_error_in_words(server, monkeypatch):
    monkeypatch.setattr(bigquery, "RETRY_SECONDS", 0.05)
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "http://127.0.0.1:9")
    with pytest.raises(DataError, match="gives no answer"):
        export()


def test_a_bad_query_is_shown_with_its_place(server):
    server.bad_query = "Syntax error: Unexpected keyword FORM at [2:3]"
    with pytest.raises(ConfigError) as error:
        ask("SELECT *\n  FORM x")
    assert str(error.value).startswith(f"{KEY}.query: BigQuery refuses it: Syntax error")
    assert str(error.value).endswith("\n    FORM x\n    ^")


def test_a_query_on_a_missing_table(server):
    with pytest.raises(DataError, match=rf"{KEY}\.query: .*none was not found in location EU; correct the name"):
        ask("SELECT * FROM `our-project.shop.none`")


@pytest.mark.parametrize("kind", ["DROP_TABLE", "SCRIPT", "DELETE"])
def test_only_a_select_is_taken(server, kind):
    server.statement_type = kind
    with pytest.raises(ConfigError, match=f"one SELECT statement, found {kind}"):
        ask(f"SELECT * FROM `{TABLE}`; DROP TABLE x")
    assert not server.jobs


def test_wrong_locations(server):
    with pytest.raises(ConfigError, match=rf"{KEY}\.location: .* lies in EU, not in US"):
        export(location="US")
    with pytest.raises(DataError, match=rf"not found in location US; correct the name or {KEY}\.location"):
        ask(f"SELECT * FROM `{TABLE}`", location="US")
    assert not server.jobs


@pytest.mark.parametrize(
    "wrong",
    [
        {"table": None},
        {"query": "SELECT 1"},
        {"table": None, "query": " \n"},
        {"table": "shop.events"},
        {"table": "our-project.shop.events` WHERE false --"},
        {"table": "our-project.shop.events`"},
        {"table": "our-project.shop.events\n"},
        {"table": "our-project.sh'op.events"},
        {"table": "our-project.shop.events_*"},
        {"table": "our-project.shop/../x.events"},
        {"export_to": "/data/logs"},
        {"export_to": "s3://bucket/logs"},
        {"export_to": "gs://"},
        {"export_to": "gs://bucket//logs"},
        {"export_to": "gs://bucket/*/logs"},
        {"export_to": "gs://bucket/a\\"},
        {"export_to": "gs://bucket/a\nb"},
        {"project": "x/../y"},
        {"project": "Our Project"},
        {"location": "EU&x=1"},
        {"location": ""},
    ],
    ids=str,
)
def test_bad_names_are_refused_before_any_request(server, wrong):
    with pytest.raises(ConfigError, match=f"^{KEY}"):
        export(**wrong)
    assert not server.requests


def test_quotes_in_the_destination_stay_inside_the_string(server):
    folder = export(export_to="gs://bucket/o'clock', overwrite=false")
    assert folder.startswith("gs://bucket/o'clock', overwrite=false/")
    assert lying_in(server, folder) == ROWS


def test_the_log_says_how_much_and_how_long(server, caplog):
    with caplog.at_level(logging.INFO, "two_tower"):
        folder = export()
        export()
    size = f"{ROWS.nbytes:,}"
    assert caplog.messages[0] == f"{KEY}: exporting {TABLE} ({size} bytes to read) to {folder}"
    assert caplog.messages[1].startswith(f"{KEY}: exported 7 rows, 2 files, in ")
    assert caplog.messages[2:] == [f"{KEY}: {TABLE} is unchanged and lies exported in {folder}"]


def test_the_module_loads_no_sdk():
    source = Path(bigquery.__file__).read_text().split("if TYPE_CHECKING:")[0]
    assert "google" not in source.split('"""', 2)[2]


def _job(**changes):
    statement = f"EXPORT DATA OPTIONS (uri='gs://b/x/*.parquet', format='PARQUET') AS SELECT * FROM `{TABLE}`"
    query = {"query": statement, "useLegacySql": False} | changes.pop("query", {})
    reference = {"projectId": "our-project", "jobId": "j"}
    return {"jobReference": reference, "configuration": {"query": query}} | changes


@pytest.mark.parametrize(
    "body",
    [
        _job(kind="x"),
        _job(jobReference={}),
        _job(jobReference={"projectId": "our-project", "jobId": "a/b"}),
        _job(query={"useLegacySql": True}),
        _job(query={"destinationUri": "gs://b/x"}),
        _job(query={"query": "SELECT 1"}),
        _job(query={"query": "EXPORT DATA OPTIONS (uri='gs://b/*', format='PARQUET', level=3) AS SELECT 1"}),
        _job(query={"query": "EXPORT DATA OPTIONS (uri='gs://b/*', format='PARQUET', codec='A') AS SELECT 1"}),
        _job(query={"query": "EXPORT DATA OPTIONS (uri='gs://b/x', format='PARQUET') AS SELECT 1"}),
    ],
    ids=json.dumps,
)
def test_the_stand_in_is_strict(tmp_path, body):
    with bigquery_server.serve(tmp_path) as (state, address):
        url = f"{address}/bigquery/v2/projects/our-project/jobs"
        good, bad = (urllib.request.Request(url, json.dumps(one).encode()) for one in (_job(), body))
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(bad)
        assert not state.jobs
        assert urllib.request.urlopen(good).status == 200


def test_logs_and_items_of_a_configuration_come_from_tables(server, tmp_path):
    events = {"user": [f"u{n % 4}" for n in range(40)], "item": [f"i{n % 7}" for n in range(40)]}
    events["at"] = [datetime(2024, 1, 1) + timedelta(days=n) for n in range(40)]
    server.tables["our-project.shop.log"] = bigquery_server.Table(pa.table(events))
    names = {"item": ["i1", "i9"], "title": ["one", "nine"]}
    server.tables["our-project.shop.items"] = bigquery_server.Table(pa.table(names))
    to = {"export_to": "gs://bucket/logs"}
    columns = {"user": "user", "item": "item", "time": "at"}
    data = DataSettings.model_validate(
        {
            "interactions": {"bigquery": {"table": "our-project.shop.log", **to}, "columns": columns},
            "items": {"bigquery": {"table": "our-project.shop.items", **to}, "id": "item", "display": ["title"]},
            "split": {"type": "global_time", "test": "5d", "validation": "5d"},
        }
    )
    sources = resolve_sources(data, dataset="shop")
    assert sources == resolve_sources(data, dataset="shop"), "unchanged tables are the same files"
    prepare(sources, out=tmp_path / "prepared", data=data, beam=BeamSettings(workers=1))
    prepared = open_prepared(tmp_path / "prepared")
    assert prepared.summary["rows"]["kept"] == 40
    items = dict(zip(*(prepared.items()[name].to_pylist() for name in ("item_id", "display.title")), strict=True))
    assert len(items) == 8 and items["i9"] == "nine" and items["i2"] is None
