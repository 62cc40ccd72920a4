"""The stages of a preparation that Beam runs; what they find lies in the work folder."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from two_tower.config import BeamSettings, DataSettings
from two_tower.data import encode, shards, splits
from two_tower.data.incremental import EarlierRun
from two_tower.data.reading import Unit, plan_units
from two_tower.data.rows import expected_of
from two_tower.data.sources import SourceFile
from two_tower.data.work import Work
from two_tower.progress import Progress, log, watched

CORE_ROUNDS = 100


class Stages:
    """The stages, in the order of the methods."""

    def __init__(
        self, logs: list[SourceFile], work: Work, data: DataSettings, beam: BeamSettings, earlier: EarlierRun | None
    ) -> None:
        self.logs, self.work, self.data, self.beam, self.earlier = logs, work, data, beam, earlier
        # The files' own age bounds what their rows can know, and unlike the clock it is the same in a repeated run.
        # The day allows for time zones and for clocks that differ.
        newest = max(file["modified"] for file in logs) + shards.DAY
        self.job = shards.Job(data=data, work=work, newest=newest, earlier=_shared(earlier, work))

    def read(self) -> list[Unit]:
        """All units, also those that were read earlier: files have become shards, and shards merged shards."""
        import apache_beam as beam

        from two_tower.beam import spread

        units = plan_units(self.logs, self.data.interactions.csv, expected_of(self.data))
        known = set(self.earlier.files) if self.earlier else set()
        new = [unit for unit in units if unit.file not in known]
        log.info("prepare_data: reading %d files in %d parts", len(self.logs) - len(known), len(new))
        read = functools.partial(shards.read_unit, job=self.job)
        merge_shard = functools.partial(shards.merge_shard, job=self.job)
        earlier = [(shard, "") for shard in self.earlier.events.shards] if self.earlier else []

        def stages(pipeline: Any) -> None:
            pieces = spread(pipeline, "Units", new) | "Read" >> beam.FlatMap(read)
            if earlier:
                pieces = (pieces, pipeline | "Earlier shards" >> beam.Create(earlier)) | beam.Flatten()
            _ = pieces | "By shard" >> beam.GroupByKey() | "Merge" >> beam.Map(merge_shard)

        with self._watched("reading", "read-*.json", total=len(new), unit="parts"):
            self._run(stages, part="read")
        return units

    def shrink_to_core(self, windows: splits.Windows, *, items: int) -> None:
        """Finds the items of the core: leaves out rare ones, then users, until nothing more falls out."""
        import apache_beam as beam

        from two_tower.beam import spread

        if (settings := self.data.interactions.k_core) is None:
            return
        count = functools.partial(encode.count_core, job=self.job, windows=windows)
        core = np.arange(items, dtype=np.int32)

        def stages(pipeline: Any) -> None:
            _ = spread(pipeline, "Shards", self._shards()) | "Count" >> beam.Map(count)

        for n in range(CORE_ROUNDS):
            self.work.write("core.arrow", pa.table({"item": core}))
            self._run(stages, part=f"core-{n}")
            counts = np.zeros(items, dtype=np.int64)
            for table in self.work.tables("core-*.arrow"):
                counts[table["item"].to_numpy()] += table["count"].to_numpy()
            smaller = np.flatnonzero(counts >= settings.item).astype(np.int32)
            if len(smaller) == len(core):
                break
            core = smaller
        log.info("prepare_data: the core has %s of %s items", f"{len(core):,}", f"{items:,}")

    def encode(self, windows: splits.Windows, units: list[Unit]) -> None:
        """Merged shards become sequences and queries; the content of what they set aside is looked up beside it."""
        import apache_beam as beam

        from two_tower.beam import spread

        aside = pa.concat_tables(self.work.tables("aside-*.arrow"))
        if self.earlier:
            known = pl.DataFrame(self.earlier.bad).select("file", "row", "reason")
            aside = pl.DataFrame(aside).join(known, on=["file", "row", "reason"], how="anti").to_arrow()
        self.work.write("aside.arrow", aside)
        holding = set(pa.compute.unique(aside["file"]).to_pylist())
        encode_shard = functools.partial(encode.encode_shard, job=self.job, windows=windows)
        again = functools.partial(shards.describe_aside, job=self.job)
        numbers = self._shards()

        def stages(pipeline: Any) -> None:
            _ = spread(pipeline, "Shards", numbers) | "Encode" >> beam.Map(encode_shard)
            if holding:
                of_these = [unit for unit in units if unit.file in holding]
                _ = spread(pipeline, "Units", of_these) | "Describe what was set aside" >> beam.Map(again)

        with self._watched("encoding", "encoded-*.json", total=len(numbers), unit="shards"):
            self._run(stages, part="encode")

    def _run(self, stages: Callable[[Any], None], *, part: str) -> None:
        """Runs a pipeline; a full disk comes out as the `OSError` that it was."""
        from two_tower.beam import naming_a_full_disk, pipeline

        with naming_a_full_disk(self.work.root), pipeline(self.beam, part) as built:
            stages(built)

    def _watched(self, what: str, pattern: str, *, total: int, unit: str) -> contextlib.AbstractContextManager[None]:
        """Logs how many of the files that the workers leave are there, on whatever runner they are."""
        return watched(Progress(f"prepare_data: {what}", total=total, unit=unit), lambda: len(self.work.names(pattern)))

    def _shards(self) -> list[int]:
        return [int(name.rpartition("-")[2].removesuffix(".json")) for name in self.work.names("merged-*.json")]


def _shared(earlier: EarlierRun | None, work: Work) -> shards.Earlier | None:
    """The earlier events where the workers can read them."""
    if earlier is None or not work.is_remote:
        return earlier.events if earlier else None
    names = {shard: f"earlier-{shard:05d}.parquet" for shard in earlier.events.shards}
    for shard, name in names.items():
        work.put(Path(earlier.events.shards[shard]), name)
    return shards.Earlier(names, earlier.files)
