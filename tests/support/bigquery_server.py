"""A stand-in for BigQuery's REST interface and its bucket: strict about requests, with faults to order."""

from __future__ import annotations

import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

# What the reference of the REST interface says may be sent; anything else is refused, as Google does.
FIELDS = {
    "": {"jobReference", "configuration"},
    "jobReference": {"projectId", "jobId", "location"},
    "configuration": {"query", "dryRun", "jobTimeoutMs", "labels"},
    "configuration.query": {
        "query", "useLegacySql", "useQueryCache", "defaultDataset", "maximumBytesBilled", "priority", "queryParameters",
        "parameterMode",
    },
}  # fmt: skip
JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,1024}")
STRING = r"'(?:[^'\\\n]|\\['\"\\])*'|\"(?:[^\"\\\n]|\\['\"\\])*\""
OPTION = rf"\s*(\w+)\s*=\s*({STRING}|true|false)\s*"
EXPORT = re.compile(rf"\s*EXPORT\s+DATA\s+OPTIONS\s*\(((?:{OPTION},)*{OPTION})\)\s*AS\s+(.+)", re.I | re.S)
OPTIONS = {
    "uri": re.compile(r"gs://[^/*]+/[^*]*\*[^*]*"),
    "format": re.compile("AVRO|CSV|JSON|PARQUET"),
    "compression": re.compile("GZIP|DEFLATE|SNAPPY"),
    "overwrite": re.compile("true|false"),
    "field_delimiter": re.compile("."),
    "header": re.compile("true|false"),
    "use_avro_logical_types": re.compile("true|false"),
}
FROM = re.compile(r"FROM\s+`([^`]+)`", re.I)


class Refused(Exception):
    """A reply with an error, in Google's form."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


@dataclass
class Fault:
    """What happens to the first `times` requests whose `METHOD path` matches `pattern`."""

    pattern: str
    status: int = 0
    reason: str = ""
    message: str = ""
    times: int = 1
    lose_reply: bool = False
    """The work is done, then the connection is closed."""


@dataclass
class Table:
    rows: pa.Table
    etag: str = "etag-1"
    modified: str = "1700000000000"
    type: str = "TABLE"
    reads: tuple[str, ...] = ()
    """The tables behind a view."""


@dataclass
class Job:
    resource: dict[str, Any]
    polls: int = 0
    error: tuple[str, str] | None = None


@dataclass
class BigQuery:
    """The state: tables, jobs, the folder of the buckets, every request, and the faults that are still to come."""

    buckets: Path
    location: str = "EU"
    files: int = 2
    """How many Parquet files an export is written to."""
    tables: dict[str, Table] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    job_error: tuple[str, str] | None = None
    """The reason and message with which the next export ends."""
    exports: int = 0
    bad_query: str = ""
    statement_type: str = "SELECT"

    def sent(self, *, dry_run: bool) -> list[dict[str, Any]]:
        """The bodies of all requests for jobs."""
        bodies = [body for method, _, body in self.requests if method == "POST"]
        return [body for body in bodies if bool(body["configuration"].get("dryRun")) == dry_run]

    def answer(self, method: str, path: str, params: dict[str, str], body: Any) -> dict[str, Any]:
        routes = {
            r"POST /bigquery/v2/projects/([^/]+)/jobs": self._insert,
            r"GET /bigquery/v2/projects/([^/]+)/jobs/([^/]+)": self._get_job,
            r"GET /bigquery/v2/projects/([^/]+)/queries/([^/]+)": self._get_results,
            r"GET /bigquery/v2/projects/([^/]+)/datasets/([^/]+)/tables/([^/]+)": self._get_table,
        }
        for route, handler in routes.items():
            if found := re.fullmatch(route, f"{method} {path}"):
                return handler(*found.groups(), body if method == "POST" else params)
        raise Refused(404, "notFound", f"no route {method} {path}")

    def _insert(self, project: str, body: dict[str, Any]) -> dict[str, Any]:
        for place, allowed in FIELDS.items():
            part = body
            for step in filter(None, place.split(".")):
                part = part.get(step) or {}
            if unknown := sorted(part.keys() - allowed):
                name = ".".join(filter(None, [place, unknown[0]]))
                raise Refused(400, "invalid", f'Invalid JSON payload received. Unknown name "{name}"')
        reference, query = body.get("jobReference") or {}, body["configuration"].get("query") or {}
        if reference.get("projectId") != project or not JOB_ID.fullmatch(reference.get("jobId", "")):
            raise Refused(400, "invalid", f"Invalid job reference {reference}")
        if query.get("useLegacySql") is not False:
            raise Refused(400, "invalid", "useLegacySql must be false here")
        location = reference.setdefault("location", self.location)
        resource = {**body, "id": f"{project}:{location}.{reference['jobId']}", "kind": "bigquery#job"}
        if body["configuration"].get("dryRun"):
            statistics = self._dry_run(query["query"], location)
            resource = {**body, "jobReference": {"projectId": project, "location": location}}  # a dry run has no id
            return {**resource, "status": {"state": "DONE"}, "statistics": statistics}
        if reference["jobId"] in self.jobs:
            raise Refused(409, "duplicate", f"Already Exists: Job {resource['id']}")
        _read_export(query["query"])
        self.jobs[reference["jobId"]] = Job(resource, error=self.job_error)
        self.job_error = None
        return self._show(self.jobs[reference["jobId"]])

    def _dry_run(self, query: str, location: str) -> dict[str, Any]:
        if self.bad_query:
            raise Refused(400, "invalidQuery", self.bad_query)
        names = FROM.findall(query)
        for name in names:
            if location != self.location:
                dataset = ":".join(name.split(".")[:2])
                raise Refused(404, "notFound", f"Not found: Dataset {dataset} was not found in location {location}")
            if name not in self.tables:
                raise Refused(404, "notFound", f"Not found: Table {name} was not found in location {location}")
        behind = sorted({deep for name in names for deep in self.tables[name].reads or (name,)})
        parts = [dict(zip(("projectId", "datasetId", "tableId"), name.split("."), strict=True)) for name in behind]
        size = str(sum(self.tables[name].rows.nbytes for name in behind))
        details = {"statementType": self.statement_type, "referencedTables": parts, "totalBytesProcessed": size}
        return {"query": details, "totalBytesProcessed": size}

    def _find(self, name: str, params: dict[str, str]) -> Job:
        job = self.jobs.get(name)
        if job is None or params.get("location", "US") != job.resource["jobReference"]["location"]:
            raise Refused(404, "notFound", f"Not found: Job {name}")
        return job

    def _get_job(self, project: str, name: str, params: dict[str, str]) -> dict[str, Any]:
        return self._show(self._find(name, params))

    def _get_results(self, project: str, name: str, params: dict[str, str]) -> dict[str, Any]:
        job = self._find(name, params)
        self._advance(job)
        shown = self._show(job)
        done = shown["status"]["state"] == "DONE"
        return {
            "kind": "bigquery#getQueryResultsResponse",
            "jobReference": shown["jobReference"],
            "jobComplete": done,
        }

    def _advance(self, job: Job) -> None:
        """PENDING, RUNNING, DONE: one state further at each poll; the files are written on the last step."""
        job.polls += 1
        if job.polls == 2 and job.error is None:
            query = job.resource["configuration"]["query"]["query"]
            uri, select = _read_export(query)
            name = FROM.findall(select)[0]
            rows = pa.concat_tables([self.tables[deep].rows for deep in self.tables[name].reads or (name,)])
            self._write(uri, rows)
            self.exports += 1
            counts = {"fileCount": str(self.files), "rowCount": str(rows.num_rows)}
            job.resource["statistics"] = {"query": {"statementType": "EXPORT_DATA", "exportDataStatistics": counts}}

    def _write(self, uri: str, rows: pa.Table) -> None:
        """Splits the rows over the files; like Google, deletes none that lies there already."""
        share = -(-rows.num_rows // self.files)
        for number in range(self.files):
            path = self.buckets / uri.removeprefix("gs://").replace("*", f"{number:012d}")
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(rows.slice(number * share, share), path, compression="snappy")

    def _show(self, job: Job) -> dict[str, Any]:
        status: dict[str, Any] = {"state": ("PENDING", "RUNNING", "DONE")[min(job.polls, 2)]}
        if job.polls >= 2 and job.error:
            status["errorResult"] = {"reason": job.error[0], "message": job.error[1]}
            status["errors"] = [status["errorResult"]]
        return {**job.resource, "status": status}

    def _get_table(self, project: str, dataset: str, name: str, params: dict[str, str]) -> dict[str, Any]:
        full = f"{project}.{dataset}.{name}"
        if full not in self.tables:
            raise Refused(404, "notFound", f"Not found: Table {project}:{dataset}.{name}")
        table = self.tables[full]
        return {
            "kind": "bigquery#table",
            "id": f"{project}:{dataset}.{name}",
            "tableReference": {"projectId": project, "datasetId": dataset, "tableId": name},
            "type": table.type,
            "etag": table.etag,
            "lastModifiedTime": table.modified,
            "location": self.location,
            "numBytes": str(table.rows.nbytes),
            "numRows": str(table.rows.num_rows),
            "schema": {"fields": [{"name": column, "type": "STRING"} for column in table.rows.column_names]},
        }


def _read_export(statement: str) -> tuple[str, str]:
    """The URI and the query of an EXPORT DATA statement to Parquet files; anything else is refused."""
    found = EXPORT.fullmatch(statement)
    if not found:
        raise Refused(400, "invalidQuery", "Syntax error: expected EXPORT DATA OPTIONS (…) AS query at [1:1]")
    given = {}
    for name, value in re.findall(OPTION, found[1]):
        plain = re.sub(r"\\(.)", r"\1", value[1:-1]) if value[0] in "'\"" else value
        if name not in OPTIONS or not OPTIONS[name].fullmatch(plain):
            raise Refused(400, "invalidQuery", f"Unknown option or value in EXPORT DATA: {name}={value}")
        given[name] = plain
    if given.get("format") != "PARQUET" or "uri" not in given:
        raise Refused(400, "invalidQuery", "EXPORT DATA needs uri and format")
    return given["uri"], found[found.re.groups]


@contextmanager
def serve(buckets: Path):
    """The stand-in at work: its state and its address."""
    state = BigQuery(buckets)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *arguments: Any) -> None:
            pass

        def _handle(self) -> None:
            parts = urlsplit(self.path)
            path = unquote(parts.path)
            text = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = json.loads(text) if text else None
            params = {name: values[0] for name, values in parse_qs(parts.query).items()}
            state.requests.append((self.command, path, body))
            where = f"{self.command} {path}"
            fault = next((fault for fault in state.faults if fault.times and re.search(fault.pattern, where)), None)
            if fault:
                fault.times -= 1
            try:
                if fault and not fault.lose_reply:
                    raise Refused(fault.status, fault.reason, fault.message)
                status, reply = 200, state.answer(self.command, path, params, body)
            except Refused as error:
                details = {"reason": error.reason, "message": str(error), "domain": "global"}
                status = error.status
                reply = {"error": {"code": status, "message": str(error), "errors": [details]}}
            if fault and fault.lose_reply:
                self.close_connection = True
                return
            content = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json; charset=UTF-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _handle

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
