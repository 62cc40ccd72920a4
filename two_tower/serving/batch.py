"""The best items of every query of a batch, from a stored version, as a Beam pipeline over shards of queries."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apache_beam
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from apache_beam.utils.shared import Shared

from two_tower.artifacts import (
    MANIFEST,
    content_hash,
    locked,
    open_artifact,
    read_manifest,
    replace_file,
    seal_artifact,
    write_json,
)
from two_tower.beam import is_remote, naming_a_full_disk, pipeline, spread
from two_tower.config import BeamSettings
from two_tower.errors import ArtifactError, ConfigError, DataError
from two_tower.progress import Progress, log, watched
from two_tower.registry import Version, version_id
from two_tower.serving.raw_queries import query_schema
from two_tower.serving.recommender import BATCH, Recommender
from two_tower.serving.sources import QuerySource
from two_tower.towers import QueryTower

KIND = "recommendations"
ROWS_PER_SHARD = 16384
PLAN, UNFINISHED, QUERIES, LOCK = "plan.json", ".unfinished", "queries.parquet", "lock"
SCHEMA = pa.schema(
    {
        "query": pa.int64(),
        "user_id": pa.string(),
        "items": pa.list_(pa.string()),
        "scores": pa.list_(pa.float32()),
        "reason": pa.string(),
        "unknown_history": pa.list_(pa.string()),
    }
)


@dataclass(frozen=True)
class Recommendations:
    """What `recommend_all` wrote."""

    folder: Path
    queries: int
    without: dict[str, int]
    """How many queries have no items, by the reason."""
    scored: int
    """How many of the queries this call answered; the others were there."""
    seconds: float
    """How long that took."""
    unknown_items: list[str] = field(default_factory=list)
    """The items of histories that the version does not know, in the order in which they come."""


def recommend_all(
    version: Version | str | Path,
    queries: QuerySource,
    out: str | Path,
    *,
    k: int,
    exclude_seen: bool = False,
    beam: BeamSettings,
    shard_rows: int = ROWS_PER_SHARD,
) -> Recommendations:
    """Writes the `k` best items of every query as the `recommendations` artefact of docs/artefacts.md.

    A call that was killed is taken up by the same call: shards that are there stay, and with all of them there, only
    the count is returned.  The same inputs give the same bytes, whatever the runner and however often it was killed.

    Args:
        version: A version of a registry, or the place of one: a local folder or a gs:// URI.
        queries: All users that are known, such as `two_tower.data.EveryUser`, or a `QueryFile`.
        out: The artefact's folder: new, empty, or left by the same call.
        k: How many items a query gets, at most.
        exclude_seen: Whether the items of a query's past are left out.
        beam: The runner; each of its processes loads the version once.
        shard_rows: How many queries an output file holds, which is what is lost at most when a worker is killed.

    Raises:
        DataError: A query is wrong, or there is none.
        ArtifactError: The version is damaged, the folder holds something else, or the disk is full.
        ConfigError: The runner has its workers on other machines, which reach neither the version nor the folder.
    """
    if is_remote(beam):
        raise ConfigError(
            f"beam.runner: recommendations are made on this machine, not by {beam.runner}; set it to in_process"
        )
    parts, out = ("query_tower", "candidate_tower", "index"), Path(out)
    folder = (version if isinstance(version, Version) else Version.open(version)).folder_with(*parts)
    plan = {
        "version": version_id(*(folder / part for part in parts)),
        "k": k,
        "exclude_seen": exclude_seen,
        "shard_rows": shard_rows,
        **queries.identity(),
    }
    _refuse_other_content(out, plan)
    started = time.monotonic()
    scored = 0 if (out / MANIFEST).is_file() else _score_under_lock(folder, queries, out, plan, beam)
    manifest = open_artifact(out, KIND).manifest
    return Recommendations(
        out,
        manifest.rows["queries"],
        manifest.extra["without"],
        scored,
        time.monotonic() - started,
        _unknown_items(out, manifest.files),
    )


def _score_under_lock(version: Path, queries: QuerySource, out: Path, plan: dict[str, Any], beam: BeamSettings) -> int:
    """Makes the artefact, or waits for the process that does; how many queries were answered here."""
    work = out / UNFINISHED
    work.mkdir(parents=True, exist_ok=True)
    try:
        with locked(work / LOCK):
            try:
                return 0 if (out / MANIFEST).is_file() else _Scoring(version, queries, out, plan, beam).run()
            finally:
                _tidy(out)
    except OSError as error:
        raise ArtifactError(
            f"{error.filename or out}: cannot write the {KIND}: {error.strerror or error}; the finished shards are "
            "kept, the same command goes on from there"
        ) from error


class _Scoring:
    """One run of `recommend_all`, which has the folder to itself."""

    def __init__(
        self, version: Path, queries: QuerySource, out: Path, plan: dict[str, Any], beam: BeamSettings
    ) -> None:
        self.version, self.source, self.out, self.plan, self.beam = version, queries, out, plan, beam
        self.queries = out / UNFINISHED / QUERIES

    def run(self) -> int:
        """Scores what is missing and finishes the artefact; how many queries were scored."""
        self._write_queries()
        groups = pq.read_metadata(self.queries)
        sizes = {shard: groups.row_group(shard).num_rows for shard in range(groups.num_row_groups)}
        missing = {shard: rows for shard, rows in sizes.items() if not self._part(shard).is_file()}
        if len(missing) < len(sizes):
            log.info("recommend: %d of %d shards are there already", len(sizes) - len(missing), len(sizes))
        if missing:
            self._score(missing)
        self._finish(sizes)
        return sum(missing.values())

    def _write_queries(self) -> None:
        """Writes all queries to one Parquet file, a row group a shard, and then the plan."""
        plan = self.out / PLAN
        if plan.is_file() and self.queries.is_file():
            return
        log.info("recommend: collecting the queries")
        schema = query_schema(
            QueryTower.open(self.version / "query_tower").inputs, exclude_seen=self.plan["exclude_seen"]
        )
        unfinished = self.queries.with_suffix(".tmp")
        rows = 0
        with pq.ParquetWriter(unfinished, schema, compression="zstd") as writer:
            for group in _regrouped(self.source.tables(schema), self.plan["shard_rows"]):
                writer.write_table(group, row_group_size=self.plan["shard_rows"])
                rows += group.num_rows
        if not rows:
            raise DataError("there is no query to answer; the file of queries, or the user table, has no rows")
        unfinished.replace(self.queries)
        write_json(plan, self.plan)

    def _part(self, shard: int) -> Path:
        return self.out / part_name(shard)

    def _score(self, missing: dict[int, int]) -> None:
        """Writes the missing shards, whose rows are given by their numbers."""
        for part in ("query_tower", "index"):
            open_artifact(self.version / part, part)  # a worker finds damage too, but Beam makes a bug of its word
        work = ScoreShard(
            version=str(self.version),
            queries=str(self.queries),
            out=str(self.out),
            k=self.plan["k"],
            exclude_seen=self.plan["exclude_seen"],
        )

        def done() -> int:
            return sum(rows for shard, rows in missing.items() if self._part(shard).is_file())

        progress = Progress("recommend", total=sum(missing.values()), unit="queries")
        with naming_a_full_disk(str(self.out)), watched(progress, done), pipeline(self.beam) as steps:
            _ = spread(steps, "Shards", list(missing)) | apache_beam.ParDo(work)

    def _finish(self, sizes: dict[int, int]) -> None:
        """Takes away what is not the artefact's, and writes the manifest."""
        reasons = [pq.read_table(self._part(shard), columns=["reason"])["reason"] for shard in sizes]
        without = Counter(reason for column in reasons for reason in column.drop_null().to_pylist())
        shutil.rmtree(self.out / UNFINISHED)
        for leftover in self.out.glob(".*.tmp"):
            leftover.unlink()
        tower = read_manifest(self.version / "query_tower", "query_tower")
        seen = [until for until in (tower.data_seen_until, self.source.seen_until()) if until is not None]
        made_from = {part: content_hash(self.version / part) for part in ("query_tower", "index")}
        if "prepared_data" in self.plan:
            made_from["prepared_data"] = self.plan["prepared_data"]
        seal_artifact(
            self.out,
            KIND,
            config={name: self.plan[name] for name in ("k", "exclude_seen", "shard_rows")},
            rows={"queries": sum(sizes.values())},
            data_seen_until=max(seen, default=None),
            made_from=made_from,
            extra={"version": self.plan["version"], "without": dict(sorted(without.items()))},
        )


class ScoreShard(apache_beam.DoFn):  # type: ignore[misc]
    """Writes the items of the queries of a row group to a file named after its number."""

    def __init__(self, *, version: str, queries: str, out: str, k: int, exclude_seen: bool) -> None:
        self._folder, self._queries, self._out = version, queries, out
        self._k, self._exclude_seen = k, exclude_seen
        self._shared = Shared()

    def setup(self) -> None:
        """Loads the version, once a process."""
        self._recommender: Recommender = self._shared.acquire(lambda: Recommender.open(self._folder))

    def process(self, shard: int) -> Iterator[str]:
        """Answers the queries of the row group `shard`."""
        queries = pq.ParquetFile(self._queries).read_row_group(shard)
        batches = (queries.slice(start, BATCH) for start in range(0, queries.num_rows, BATCH))
        table = pa.concat_tables([self._answered(batch) for batch in batches]).combine_chunks()
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        path = Path(self._out) / part_name(shard)
        replace_file(path, sink.getvalue().to_pybytes())
        yield path.name

    def _answered(self, queries: pa.Table) -> pa.Table:
        """The rows of the output for a batch of queries."""
        raw = {name: queries[name].to_pylist() for name in queries.column_names if name != "query"}
        found = self._recommender.recommend_columns(raw, self._k, exclude_seen=self._exclude_seen)
        columns = {
            "query": queries["query"],
            "user_id": queries["user_id"],
            "items": found.item_ids,
            "scores": found.scores,
            "reason": pa.array(found.reasons, pa.string()),
            "unknown_history": pa.array(found.unknown_history, pa.list_(pa.string())),
        }
        return pa.table(columns, schema=SCHEMA)


def part_name(shard: int) -> str:
    """The name of a shard's output file."""
    return f"part-{shard:05d}.parquet"


def _unknown_items(out: Path, files: Iterable[str]) -> list[str]:
    """The distinct unknown items of all histories; none in what an earlier release wrote, which does not tell them."""
    found: dict[str, None] = {}
    for name in sorted(name for name in files if name.endswith(".parquet")):
        part = pq.ParquetFile(out / name)
        if "unknown_history" in part.schema_arrow.names:
            found |= dict.fromkeys(pc.list_flatten(part.read(["unknown_history"])["unknown_history"]).to_pylist())
    return list(found)


def _regrouped(tables: Iterator[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of `rows` rows each, the last one with what is left."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        while sum(map(len, held)) >= rows:
            joined = pa.concat_tables(held)
            yield joined.slice(0, rows)
            held = [joined.slice(rows)]
    if sum(map(len, held)):
        yield pa.concat_tables(held)


def _refuse_other_content(out: Path, plan: dict[str, Any]) -> None:
    """Checks that the folder is new, or was left by a call with the same plan.

    Raises:
        ArtifactError: It is not; the message says what differs.
    """
    if out.exists() and not out.is_dir():
        raise ArtifactError(f"{out}: is a file; name a new folder")
    advice = "name a new folder, or delete this one"
    if not (out / PLAN).is_file():
        if out.exists() and any(not path.name.startswith(".") for path in out.iterdir()):
            raise ArtifactError(f"{out}: holds other files; {advice}")
        return
    try:
        stored = json.loads((out / PLAN).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtifactError(f"{out / PLAN}: not readable: {error}; {advice}") from error
    differing = [
        f"{name} is {stored.get(name, 'none')} there, {plan.get(name, 'none')} here"
        for name in {**plan, **stored}
        if stored.get(name) != plan.get(name)
    ]
    if differing:
        raise ArtifactError(f"{out}: holds recommendations for something else ({'; '.join(differing)}); {advice}")


def _tidy(out: Path) -> None:
    """Removes the work folder where nothing is to be taken up, and then the folder itself if it is empty."""
    if (out / MANIFEST).is_file() or not (out / PLAN).is_file():
        shutil.rmtree(out / UNFINISHED, ignore_errors=True)
    if not any(out.iterdir()):
        out.rmdir()
