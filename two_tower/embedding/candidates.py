"""The candidate table through the exported candidate tower, as a Beam pipeline over record batches."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.ml.inference.base import KeyedModelHandler, RunInference
from apache_beam.utils.shared import Shared

from two_tower.artifacts import ArtifactReader, ArtifactWriter, Place, content_hash, open_artifact, write_artifact
from two_tower.beam import is_remote, naming_a_full_disk, pipeline, spread
from two_tower.config import BeamSettings, EmbeddingSettings
from two_tower.data import located, work_of
from two_tower.embedding.fingerprints import METHOD, as_binary, fingerprints
from two_tower.embedding.model_handler import PREVIOUS, TowerHandler, Vectors
from two_tower.embedding.previous import VECTORS, PreviousVectors, open_previous
from two_tower.errors import ArtifactError, ConfigError
from two_tower.index import Embeddings
from two_tower.progress import log

ROWS_PER_SHARD = 65536
"""Candidates of one output file, one element of the Beam pipeline."""


def embed_candidates(
    candidate_tower: Place,
    prepared: Place,
    out: Place,
    *,
    embedding: EmbeddingSettings | None = None,
    beam: BeamSettings | None = None,
) -> Embeddings:
    """Embeds every candidate of the prepared data; the `candidate_embeddings` artefact, written to `out`.

    A worker holds one shard at a time: it reads the row groups of the candidate table that the shard lies in, runs the
    tower over it batch by batch, and writes it. The files are the same on every runner and with any number of workers.
    With `embedding.previous`, candidates whose raw features have not changed since take their vectors from there.
    For workers on other machines everything goes through `beam.work`.

    Raises:
        ArtifactError: An input is no complete artefact, or the candidate table lacks a column that the tower takes.
        ConfigError: `embedding.previous` is the folder that is written to.
    """
    embedding, beam = embedding or EmbeddingSettings(), beam or BeamSettings()
    tower = open_artifact(candidate_tower, "candidate_tower")
    data = open_artifact(prepared, "prepared_data")
    version = content_hash(candidate_tower)
    previous = _previous(embedding, out, version)
    inputs = tower.json("signature.json")["inputs"]
    raw = [spec["column"] for spec in inputs.values()]
    rows, columns = _plan(data.path("items.parquet"), raw)
    shards = [(start, min(start + ROWS_PER_SHARD, rows)) for start in range(0, max(rows, 1), ROWS_PER_SHARD)]
    with (
        write_artifact(
            out,
            "candidate_embeddings",
            config=embedding.model_dump(mode="json", exclude={"previous"}),
            data_seen_until=tower.manifest.data_seen_until,
            made_from={**tower.manifest.made_from, "candidate_tower": version},
            extra={"fingerprint": METHOD},
        ) as writer,
        _places(tower, data, writer, previous, beam) as places,
    ):
        handler = TowerHandler(
            model=places.model,
            version=version,
            inputs=inputs,
            features=places.features,
            batch_size=embedding.batch_size,
        )
        with naming_a_full_disk(os.fspath(out)), _without_beams_complaint(), pipeline(beam, "embed") as steps:
            _ = (
                spread(steps, "Shards", shards)
                | "Read" >> apache_beam.ParDo(ReadShard(places.items, columns, raw, places.previous))
                | "Embed" >> RunInference(KeyedModelHandler(handler))
                | "Write" >> apache_beam.ParDo(WriteShard(places.out, places.previous))
            )
        places.collect([_part_name(start) for start, _ in shards])
        writer.manifest.rows = {"candidates": rows, "reused": _counted(steps.result, "reused")}
        counts = tuple(f"{count:,}" for count in writer.manifest.rows.values())
    log.info("embed_candidates: %s candidates, of which %s keep their earlier vectors", *counts)
    return Embeddings.made(out)


@dataclass(frozen=True)
class _Places:
    """Where the workers find what they need, and put what they make; paths, or URLs that every machine reaches."""

    model: str
    features: str
    items: str
    out: str
    previous: PreviousVectors | None
    collect: Callable[[list[str]], None]
    """Takes the finished files into the artefact."""


@contextlib.contextmanager
def _places(
    tower: ArtifactReader,
    data: ArtifactReader,
    writer: ArtifactWriter,
    previous: PreviousVectors | None,
    beam: BeamSettings,
) -> Iterator[_Places]:
    """The artefacts' own folders; for workers on other machines, copies in the work folder, removed at the end."""
    model, features, items = tower.path("saved_model"), data.path("features.json"), data.path("items.parquet")
    if not is_remote(beam):
        yield _Places(str(model), str(features), str(items), str(writer.folder), previous, lambda names: None)
        return
    work = work_of(beam, writer.folder)
    work.make()
    with contextlib.ExitStack() as stack:
        stack.callback(work.remove)
        for path in sorted(model.rglob("*")):
            if path.is_file():
                work.put(path, f"saved_model/{path.relative_to(model).as_posix()}")
        parts = [work.put(Path(part), f"previous/{Path(part).name}") for part in previous.parts] if previous else []

        def collect(names: list[str]) -> None:
            for name in names:
                work.take(f"parts/{name}", writer.path(name))

        yield _Places(
            f"{work.root}/saved_model",
            work.put(features, "features.json"),
            work.put(items, "items.parquet"),
            f"{work.root}/parts",
            PreviousVectors(tuple(parts)) if previous else None,
            collect,
        )


def _plan(items: Path, raw: list[str]) -> tuple[int, list[str]]:
    """The number of candidates, and the columns of the table that are read, among them those that the tower takes."""
    file = pq.ParquetFile(items)
    names = file.schema_arrow.names
    if lacking := [name for name in raw if name not in names]:
        raise ArtifactError(
            f"{items}: no column {lacking[0]!r}, which the candidate tower takes; embed with the prepared "
            "data that it was trained on, or with later data of the same features"
        )
    attributes = [name for name in names if name.startswith("attribute.")]
    return file.metadata.num_rows, list(dict.fromkeys(["item_id", "available", *attributes, *raw]))


def _part_name(start: int) -> str:
    """The name of the file of the shard that begins with that row."""
    return f"part-{start:010d}.parquet"


@contextlib.contextmanager
def _without_beams_complaint() -> Iterator[None]:
    """Keeps RunInference from warning that it cannot tell a model's size, which nobody asks for."""

    def other(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Resource module is not available")

    logger = logging.getLogger()
    logger.addFilter(other)
    try:
        yield
    finally:
        logger.removeFilter(other)


def _previous(embedding: EmbeddingSettings, out: Place, version: str) -> PreviousVectors | None:
    if embedding.previous is None:
        return None
    if Path(embedding.previous).resolve() == Path(out).resolve():
        raise ConfigError(f"embedding.previous: {out} is the folder that is written to; name an earlier one")
    return open_previous(embedding.previous, tower=version)


def _counted(result: Any, name: str) -> int:
    """What the workers have counted under a name."""
    counters = result.metrics().query(MetricsFilter().with_name(name))["counters"]
    return sum(counter.result for counter in counters)


class ReadShard(apache_beam.DoFn):  # type: ignore[misc]
    """Reads a range of rows of the candidate table.

    Gives (first row, record batch) with the columns `item_id`, `available`, `attribute.*`, those that the tower takes,
    `fingerprint` and `previous` (the candidate's row in the earlier artefact, null if it is to be embedded).
    """

    def __init__(self, items: str, columns: list[str], raw: list[str], previous: PreviousVectors | None) -> None:
        """
        Args:
            items: The path or URL of the candidate table.
            columns: Those that are read.
            raw: Those of them that the tower takes, which the fingerprint is of.
            previous: An earlier artefact.
        """
        self._items, self._columns, self._raw, self._previous = items, columns, raw, previous
        self._shared = Shared()

    def setup(self) -> None:
        """Gives the threads of a worker process one index of the earlier artefact."""
        self._earlier: PreviousVectors | None = self._previous and self._shared.acquire(lambda: self._previous)

    def process(self, shard: tuple[int, int]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """The rows from the first number of `shard` to before the second."""
        table = _read_rows(self._items, *shard, columns=self._columns)
        found = fingerprints(table, self._raw)
        rows = self._earlier.find(found) if self._earlier else pa.nulls(len(table), pa.int64())
        yield shard[0], _one_batch(table.append_column("fingerprint", as_binary(found)).append_column(PREVIOUS, rows))


class WriteShard(apache_beam.DoFn):  # type: ignore[misc]
    """Writes the embeddings of a shard to a file named after its first row."""

    def __init__(self, out: str, previous: PreviousVectors | None) -> None:
        self._out, self._previous = out, previous
        self._reused = Metrics.counter("embed_candidates", "reused")

    def process(self, embedded: tuple[int, Any]) -> Iterator[str]:
        """Joins the new vectors and the earlier ones and writes them; the file's name is given."""
        start, result = embedded
        rows: pa.RecordBatch = result.example
        vectors = self._all_vectors(rows[PREVIOUS], result.inference)
        attributes = {name: rows[name] for name in rows.schema.names if name.startswith("attribute.")}
        columns = {
            "item": pa.array(np.arange(start, start + len(rows), dtype=np.int32)),
            "item_id": rows["item_id"],
            "available": rows["available"],
            "version": pa.repeat(result.model_id, len(rows)),
            "fingerprint": rows["fingerprint"],
            **attributes,
            **{name: _lists(vectors[name]) for name in VECTORS},
        }
        name = _part_name(start)
        _write(f"{self._out}/{name}", pa.table(columns))
        yield name

    def _all_vectors(self, previous: pa.Array, new: Vectors) -> Vectors:
        """The vectors of all rows: those of the earlier artefact where they stand there, the new ones elsewhere."""
        if self._previous is None or previous.null_count == len(previous):
            return new
        known = np.asarray(previous.is_valid())
        self._reused.inc(int(known.sum()))
        kept = self._previous.take(np.asarray(previous.drop_null()))
        found = {name: np.empty((len(known), vectors.shape[1]), vectors.dtype) for name, vectors in new.items()}
        for name, vectors in found.items():
            vectors[known], vectors[~known] = kept[name], new[name]
        return found


def _read_rows(path: str, start: int, stop: int, *, columns: list[str]) -> pa.Table:
    """The rows from `start` to before `stop` of a Parquet file; it reads the row groups that hold some."""
    inside, filesystem = located(path)
    with pq.ParquetFile(inside, filesystem=filesystem) as file:
        lengths = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
        ends = np.cumsum(lengths)
        groups = [group for group, end in enumerate(ends) if end > start and end - lengths[group] < stop]
        table = file.read_row_groups(groups, columns=columns, use_threads=False)
        first = int(ends[groups[0]] - lengths[groups[0]]) if groups else 0
    return table.slice(start - first, stop - start)


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema)


def _lists(values: npt.NDArray[Any]) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def _write(path: str, table: pa.Table) -> None:
    """Writes a shard; vectors and fingerprints go as they are, since nothing makes them smaller."""
    smaller = [name for name in table.column_names if name not in (*VECTORS, "fingerprint")]
    lists = [name for name in smaller if pa.types.is_list(table.schema.field(name).type)]
    paths = [f"{name}.list.element" if name in lists else name for name in smaller]
    inside, filesystem = located(path)
    pq.write_table(
        table,
        inside,
        filesystem=filesystem,
        compression=dict.fromkeys(paths, "zstd"),
        use_dictionary=[path for path in paths if path not in ("item", "item_id")],
        write_statistics=paths,
    )
