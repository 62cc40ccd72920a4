"""Logs that lie in BigQuery: exported to Parquet files on Cloud Storage, once for each content."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from two_tower.errors import ConfigError, DataError, UserError
from two_tower.progress import human_seconds, log

if TYPE_CHECKING:
    from google.api_core.exceptions import GoogleAPICallError
    from google.cloud.bigquery import Client, QueryJob

# What Google's documentation allows, less what would need quoting; a domain's project is `example.com:name`.
PROJECT = r"(?:[a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]"
TABLE = re.compile(rf"({PROJECT})\.([A-Za-z0-9_]{{1,1024}})\.([\w -]{{1,1024}})")
DESTINATION = re.compile(r"gs://[a-z0-9][a-z0-9._-]+[a-z0-9](/[^/\x00-\x1f\x7f*?\[\]#\\]+)*/?")
LOCATION = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
ATTEMPTS = 50
REFERENCED_TABLES = 50
"""BigQuery lists no more of the tables that a query reads."""
RETRY_SECONDS = 120.0


@dataclass(frozen=True)
class _Source:
    """What is exported: the statement, the state of every table behind it, and where it runs."""

    name: str
    statement: str
    tables: list[dict[str, Any]]
    bytes_read: int
    location: str | None


def export_table(
    *, table: str | None, query: str | None, export_to: str, project: str | None, location: str | None, key: str
) -> str:
    """The Cloud Storage folder (gs://…) with the Parquet files of the table's or query's present content.

    The folder is `export_to` and a hash of the statement and of every table behind it (etag, time of change, streaming
    buffer, schema), so that unchanged content is exported once. The export's job has the hash in its id: BigQuery
    itself tells whether it is finished, running or failed. An export that failed, has lost files, or is no longer in
    BigQuery's history (180 days) is made anew in a folder of its own (`HASH-2`, …), because BigQuery deletes no file
    that it does not overwrite. Content that changes between the look and the export may be under the older hash.

    Not seen, so that a query may be given its earlier export: what changes without a table (CURRENT_TIMESTAMP, RAND,
    the files of an external table, remote functions) and tables past the 50th.

    Args:
        table: `project.dataset.table`, also a view; exactly one of `table` and `query` is given.
        query: One SELECT statement in GoogleSQL.
        export_to: A folder on Cloud Storage (`gs://bucket/folder`) in the data's location.
        project: The project that runs and pays for the jobs; the table's, or for a query the environment's, if None.
        location: Where the data lies, such as EU; BigQuery finds it out if None.
        key: The configuration's key, for messages (`data.interactions.bigquery`).

    Raises:
        ConfigError: A name, the query, the location or the destination cannot be used.
        DataError: The table is not there or not readable, or the export fails.
    """
    _check(table=table, query=query, export_to=export_to, project=project, location=location, key=key)
    own = f"{key}.{'query' if table is None else 'table'}"
    with _readable_errors(key, own):
        client = _client(project or (table.rsplit(".", 2)[0] if table else None), key=key)
        try:
            if table is not None:
                source = _of_table(client, table, location=location, key=key)
            else:
                source = _of_query(client, query or "", location=location, key=key, own=own)
            return _export(client, source, export_to=export_to.rstrip("/"), key=key)
        finally:
            client.close()  # type: ignore[no-untyped-call]


def _check(
    *, table: str | None, query: str | None, export_to: str, project: str | None, location: str | None, key: str
) -> None:
    """Refuses what cannot be right, and every name that could leave its quotes, before any request."""
    if (table is None) == (query is None):
        raise ConfigError(f"{key}: give exactly one of table and query")
    if table is not None and not TABLE.fullmatch(table):
        raise ConfigError(f"{key}.table: {table!r} is no table's name; write project.dataset.table, without quotes")
    if query is not None and not query.strip():
        raise ConfigError(f"{key}.query: it is empty; write a SELECT statement")
    if not DESTINATION.fullmatch(export_to):
        raise ConfigError(
            f"{key}.export_to: {export_to!r} is no folder on Cloud Storage; write gs://bucket/folder, without wildcards"
        )
    if project is not None and not re.fullmatch(PROJECT, project):
        raise ConfigError(f"{key}.project: {project!r} is no project's id (small letters, digits and dashes)")
    if location is not None and not LOCATION.fullmatch(location):
        raise ConfigError(f"{key}.location: {location!r} is no location; write one like EU, US or europe-west4")


def _client(project: str | None, *, key: str) -> Client:
    """A client with the environment's credentials; with none for the stand-in that BIGQUERY_EMULATOR_HOST names."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery

    emulated = bool(os.environ.get("BIGQUERY_EMULATOR_HOST"))
    try:
        return bigquery.Client(project=project, credentials=AnonymousCredentials() if emulated else None)
    except OSError as error:  # what the client raises if no project is to be found
        raise ConfigError(f"{key}.project: the environment names no project; write the one that pays") from error


def _of_table(client: Client, table: str, *, location: str | None, key: str) -> _Source:
    """A table, or a view with the tables behind it."""
    state = _state(client, table, key=key)
    if location and state["location"] and location.lower() != state["location"].lower():
        raise ConfigError(f"{key}.location: {table} lies in {state['location']}, not in {location}; correct or drop it")
    location = state["location"] or location
    statement = f"SELECT * FROM `{table}`"
    if state["type"] not in ("VIEW", "MATERIALIZED_VIEW"):
        return _Source(table, statement, [state], state["bytes"], location)
    # A view's own time of change says nothing of its content.
    behind = _of_query(client, statement, location=location, key=key, own=f"{key}.table")
    return _Source(table, statement, [state, *behind.tables], behind.bytes_read, location)


def _of_query(client: Client, query: str, *, location: str | None, key: str, own: str) -> _Source:
    """A query, checked by a dry run, with the tables that it reads."""
    from google.cloud import bigquery

    # A cached result would be estimated at 0 bytes, but an export never uses it.
    settings = bigquery.QueryJobConfig(dry_run=True, use_query_cache=False)
    retry = bigquery.DEFAULT_RETRY.with_timeout(RETRY_SECONDS)
    with _readable_errors(key, own, query=query):
        job = client.query(query, job_config=settings, location=location, retry=retry, job_retry=None)
    if job.statement_type != "SELECT":
        raise ConfigError(f"{own}: expected one SELECT statement, found {job.statement_type}")
    names = sorted({f"{ref.project}.{ref.dataset_id}.{ref.table_id}" for ref in job.referenced_tables})
    if len(names) >= REFERENCED_TABLES:
        log.warning("%s: reads %d tables or more; changes of further ones are not seen", own, len(names))
    tables = [_state(client, name, key=key) for name in names]
    return _Source("the query's result", query, tables, job.total_bytes_processed or 0, job.location or location)


def _state(client: Client, table: str, *, key: str) -> dict[str, Any]:
    """What changes whenever a table's content may have, with its type, place and size."""
    from google.cloud import bigquery

    project, dataset, name = table.rsplit(".", 2)
    if "*" in name:
        raise ConfigError(
            f"{key}: when the tables of {table} changed cannot be told; write the result to a table and name that"
        )
    reference = bigquery.TableReference(bigquery.DatasetReference(project, dataset), name)
    facts = client.get_table(reference, retry=bigquery.DEFAULT_RETRY.with_timeout(RETRY_SECONDS)).to_api_repr()
    if facts.get("type") == "EXTERNAL":
        log.warning("%s: %s is an external table: a change of its files alone is not seen", key, table)
    return {
        "table": table,
        "location": facts.get("location"),
        "type": facts.get("type"),
        "bytes": int(facts.get("numBytes") or 0),
        **{name: facts.get(name) for name in ("etag", "lastModifiedTime", "streamingBuffer", "schema")},
    }


def _export(client: Client, source: _Source, *, export_to: str, key: str) -> str:
    """The folder of a finished export of `source`: an earlier one, one that is running, or a new one."""
    # With the project, because the ids of two projects' jobs do not keep them from writing to one folder.
    content = json.dumps([export_to, client.project, source.statement, source.location, source.tables], sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()[:32]
    for attempt in range(1, ATTEMPTS + 1):
        name = digest if attempt == 1 else f"{digest}-{attempt}"
        folder, job_id = f"{export_to}/{name}", f"two_tower_export_{name}"
        job = _find_job(client, job_id, location=source.location)
        if job is None and _count_files(folder, key=key):
            continue  # whole or half, nobody knows any more
        if job is not None and job.state == "DONE":
            if job.error_result or _count_files(folder, key=key) < _files_and_rows(job)[0]:
                continue
            log.info("%s: %s is unchanged and lies exported in %s", key, source.name, folder)
            return folder
        start = time.monotonic()
        log.info("%s: exporting %s (%s bytes to read) to %s", key, source.name, f"{source.bytes_read:,}", folder)
        job = job or _start_job(client, job_id, _export_statement(folder, source.statement), location=source.location)
        _wait(job)
        files, rows = _files_and_rows(job)
        if (found := _count_files(folder, key=key)) < files:
            raise DataError(
                f"{key}.export_to: the job {job_id} is done with {files} files, but {found} are in {folder}; "
                "see whether something deletes files there, or set another export_to"
            )
        log.info(
            "%s: exported %s rows, %d files, in %s",
            key, "?" if rows is None else f"{rows:,}", found, human_seconds(time.monotonic() - start),
        )  # fmt: skip
        return folder
    raise DataError(
        f"{key}: {ATTEMPTS} exports to {export_to}/{digest}* have failed or lost their files; look at the jobs "
        f"two_tower_export_{digest}* in BigQuery's history, then set another export_to"
    )


def _export_statement(folder: str, statement: str) -> str:
    # SNAPPY, because the reference of EXPORT DATA lists no ZSTD. The line break ends a comment, should one begin here.
    uri = f"{folder}/part-*.parquet".replace("'", "\\'")
    return (
        f"EXPORT DATA OPTIONS (uri='{uri}', format='PARQUET', compression='SNAPPY', overwrite=true) AS\n{statement}\n"
    )


def _find_job(client: Client, job_id: str, *, location: str | None) -> QueryJob | None:
    """The job of this id, or None if BigQuery knows none."""
    from google.api_core.exceptions import NotFound
    from google.cloud import bigquery

    try:
        retry = bigquery.DEFAULT_RETRY.with_timeout(RETRY_SECONDS)
        return client.get_job(job_id, location=location, retry=retry)  # type: ignore[return-value]
    except NotFound:
        return None


def _start_job(client: Client, job_id: str, statement: str, *, location: str | None) -> QueryJob:
    """The job of this id, started here; or by another, or by a request of ours whose reply was lost."""
    from google.api_core.exceptions import Conflict, NotFound
    from google.api_core.retry import Retry, if_exception_type
    from google.cloud import bigquery

    retry = bigquery.DEFAULT_RETRY.with_timeout(RETRY_SECONDS)
    try:
        return client.query(statement, job_id=job_id, location=location, retry=retry, job_retry=None)
    except Conflict:
        # BigQuery may take a moment to find a job that it has just refused as existing.
        patiently = Retry(predicate=if_exception_type(NotFound), timeout=RETRY_SECONDS / 4)
        return patiently(client.get_job)(job_id, location=location, retry=retry)  # type: ignore[return-value]


def _wait(job: QueryJob) -> None:
    """Returns when the job is done; raises what made it fail."""
    from google.cloud import bigquery

    job.result(retry=bigquery.DEFAULT_RETRY.with_timeout(RETRY_SECONDS))


def _files_and_rows(job: QueryJob) -> tuple[int, int | None]:
    """How many files a finished job wrote (1 at least, if it does not tell) and how many rows (None)."""
    # The client has no public name for these statistics; its to_api_repr() leaves all statistics out.
    statistics = job._properties.get("statistics", {}).get("query", {}).get("exportDataStatistics", {})
    rows = statistics.get("rowCount")
    return int(statistics.get("fileCount", 1)), None if rows is None else int(rows)


def _count_files(folder: str, *, key: str) -> int:
    """How many Parquet files lie in a folder on Cloud Storage now."""
    import fsspec

    try:
        filesystem, path = fsspec.core.url_to_fs(folder)
        filesystem.invalidate_cache()  # BigQuery writes behind its back
        return sum(name.endswith(".parquet") for name in filesystem.find(path))
    except FileNotFoundError:
        return 0
    except Exception as error:  # gcsfs lets its own errors through, and those of aiohttp and google-auth
        raise DataError(
            f"{key}.export_to: cannot list {folder}: {error}; see that the bucket is there and that you may "
            "storage.objects.list in it"
        ) from error


@contextmanager
def _readable_errors(key: str, own: str, *, query: str | None = None) -> Iterator[None]:
    """Turns every failure of a request into one that says what to do; `query` is where a position in it points."""
    from concurrent.futures import TimeoutError as WaitTimeoutError

    from google.api_core.exceptions import GoogleAPICallError, GoogleAPIError
    from google.auth.exceptions import GoogleAuthError
    from requests.exceptions import RequestException

    try:
        yield
    except GoogleAPICallError as error:
        raise _explained(error, key=key, own=own, query=query) from error
    except GoogleAuthError as error:
        raise DataError(
            f"{key}: no access to Google Cloud ({error}); `gcloud auth application-default login`"
        ) from error
    except (GoogleAPIError, RequestException, WaitTimeoutError) as error:
        raise DataError(
            f"{key}: BigQuery gives no answer ({error}); run again later: an export that has begun goes on meanwhile"
        ) from error


def _explained(error: GoogleAPICallError, *, key: str, own: str, query: str | None) -> UserError:
    """The error of one request or job in words."""
    told = error.errors[0] if error.errors and isinstance(error.errors[0], dict) else {}
    message = " ".join(str(told.get("message") or error.message).split("\n\nLocation:")[0].split())
    if "different location" in message:
        return ConfigError(
            f"{key}.location: {message}; the data, the location and the bucket of {key}.export_to must be in one place"
        )
    if error.code == 404:
        return DataError(f"{own}: {message}; correct the name or {key}.location, or see whether it was deleted")
    if error.code in (401, 403) and told.get("reason") in (None, "accessDenied", "forbidden"):
        return DataError(
            f"{own}: {message}; the export needs bigquery.jobs.create and bigquery.jobs.get in the project that pays "
            f"({key}.project), bigquery.tables.get and getData on the tables, and storage.objects.create, delete and "
            f"list on {key}.export_to"
        )
    if error.code == 400 and told.get("reason") in (None, "invalid", "invalidQuery"):
        return ConfigError(f"{own}: BigQuery refuses it: {message}{_at(message, query)}")
    return DataError(f"{own}: the export has failed: {message}; mend the cause and run again, a new job is started")


def _at(message: str, query: str | None) -> str:
    """The query's line at which `message` points (`at [line:column]`), with a mark below the place."""
    place = re.search(r"\[(\d+):(\d+)\]", message)
    lines = (query or "").splitlines()
    if place is None or not 0 < int(place[1]) <= len(lines):
        return ""
    return f"\n  {lines[int(place[1]) - 1]}\n  {' ' * (int(place[2]) - 1)}^"
