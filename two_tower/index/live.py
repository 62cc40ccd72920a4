"""An index that changes while it serves: a main index and a small exact delta, searched together."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from two_tower import config
from two_tower.contracts import Float32
from two_tower.errors import ArtifactError
from two_tower.index.changed_items import attributes_of, checked, listed
from two_tower.index.delta import Allowed, Found, View
from two_tower.index.delta_log import DeltaLog, Head, WriterLock
from two_tower.index.embeddings import load_embeddings
from two_tower.index.generations import TOWER, generation_name, load_generation, replayed, table_of, write_generation

log = logging.getLogger("two_tower")

LOG = "delta.sqlite"


class LiveIndex:
    """The index of a folder, and the changes since it was built, which take effect at once and survive a restart.

    One writer at a time changes it; readers, in other processes, see the changes after `refresh`.  All methods may be
    called from several threads; a search never waits for a change or a rebuild.

    The folder holds `generation-000001/` or a later one (`embeddings/`, `index/`) and the log of changes,
    `delta.sqlite`; it has to be on a local disk.
    """

    def __init__(self, folder: Path, changes: DeltaLog, lock: WriterLock | None) -> None:
        """Use `create` or `open`."""
        self.folder = folder
        self._log, self._lock = changes, lock
        self._writing, self._rebuilding = threading.Lock(), threading.Lock()
        self._view = self._load()

    @classmethod
    def create(
        cls,
        folder: str | Path,
        embeddings: str | Path,
        *,
        index: config.IndexSettings,
        rebuild_share: float = 0.05,
        queries: Float32 | None = None,
    ) -> LiveIndex:
        """The new live index of the candidates, open for writing.

        Args:
            folder: Where it is to live; what a killed `create` left there is replaced.
            embeddings: The `candidate_embeddings` artefact, with the attributes that items will have.
            index: The configuration's section, for this build and every rebuild.
            rebuild_share: The share of changed items from which a rebuild is due.
            queries: As `build_index` takes them, to reach `index.target`.

        Raises:
            ArtifactError: There is a live index already, the embeddings are damaged, do not say which candidate tower
                they are from, or have an attribute that a live index cannot hold.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        lock = WriterLock(folder)
        try:
            if (folder / LOG).exists():
                raise ArtifactError(f"{folder}: there is a live index already; open it, or choose another folder")
            candidates = load_embeddings(embeddings)
            if TOWER not in candidates.made_from:
                raise ArtifactError(f"{embeddings}: the manifest names no {TOWER}; run embed_candidates again")
            seen = candidates.manifest.data_seen_until
            facts: dict[str, Any] = {"made_from": candidates.made_from, "data_seen_until": seen}
            table = table_of(candidates, embeddings)
            first = generation_name(1)
            write_generation(folder / first, table, candidates.vectors, facts, index=index, queries=queries)
            head = Head(first, candidates.made_from, index.model_dump(mode="json"), rebuild_share)
            return cls(folder, DeltaLog.create(folder / LOG, head), lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open(cls, folder: str | Path, *, read_only: bool = False) -> LiveIndex:
        """The live index in `folder`, with all the changes that were acknowledged.

        What a killed rebuild left behind is removed, unless `read_only`.

        Raises:
            ArtifactError: There is none, it is damaged (the message names the file), or another writer has it open.
        """
        folder = Path(folder)
        if not (folder / LOG).is_file():
            raise ArtifactError(f"{folder}: no {LOG} here, so this is no complete live index; create it")
        lock = None if read_only else WriterLock(folder)
        try:
            live = cls(folder, DeltaLog(folder / LOG), lock)
        except BaseException:
            if lock is not None:
                lock.release()
            raise
        if not read_only:
            live._remove_other_generations()
        return live

    def __len__(self) -> int:
        return len(self._view)

    def __enter__(self) -> LiveIndex:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def dim(self) -> int:
        """The width of the vectors."""
        return self._view.main.dim

    @property
    def item_ids(self) -> pa.StringArray:
        """The ids of all items in the order in which a fresh build, such as a rebuild, holds them.

        What is left of the main index comes first, then the delta in the order in which its items were last added.
        """
        return self._view.items()["item_id"].combine_chunks()

    @property
    def attributes(self) -> pa.Schema:
        """The names and types of the items' attributes."""
        schema = self._view.main_rows.table.schema
        return schema.remove(schema.get_field_index("item_id"))

    @property
    def made_from(self) -> dict[str, str]:
        """The content hashes, by kind, of the artefacts that the live index began with."""
        return self._log.head.made_from

    @property
    def tower(self) -> str:
        """The content hash of the candidate tower that every vector comes from."""
        return self.made_from[TOWER]

    @property
    def sequence(self) -> int:
        """The number of the newest change; every item that is added, updated or removed counts one."""
        return self._log.head.sequence

    @property
    def delta_share(self) -> float:
        """The items that have changed since the main index was built, relative to its size."""
        return self._log.head.changes / max(1, len(self._view.main))

    @property
    def rebuild_due(self) -> bool:
        """Whether `delta_share` is above the share that `create` was given."""
        return self.delta_share > self._log.head.rebuild_share

    def search(
        self,
        queries: Float32,
        k: int,
        *,
        allowed: Allowed | None = None,
        exclude: Sequence[Collection[str]] | None = None,
    ) -> Found:
        """Each query's `k` best items, best first, equal scores in the order of `item_ids`; a pair of ids and scores.

        There are `k` of them wherever as many may be returned.  A single query is searched on one thread.

        Args:
            queries: `[n, dim]`, finite.
            k: How many items.
            allowed: Which items may be returned; all of them without it.
            exclude: For each query the ids that it must not get; unknown ones do no harm.

        Raises:
            ValueError: The queries have another shape or are not finite, there are exclusions for another number of
                queries.
            DataError: `allowed` does not fit the attributes.
        """
        return self._view.search(queries, k, allowed=allowed, exclude=exclude)

    def add(
        self,
        item_ids: Sequence[str] | pa.StringArray,
        vectors: Float32,
        *,
        tower: str,
        attributes: pa.Table | None = None,
    ) -> None:
        """Adds items, or updates those that are there; once it returns they are on the disk and are found.

        An update replaces vector and attributes.  Where an id stands twice, its last row wins.

        Args:
            item_ids: Their ids.
            vectors: `[items, dim]`, float32.
            tower: The content hash of the candidate tower that the vectors come from, `made_from["candidate_tower"]`
                of their artefact.
            attributes: One row an item; attributes that it lacks are null.

        Raises:
            ArtifactError: The index holds vectors of another tower, is open for reading only, or cannot be written.
            DataError: An id is empty or no string, a vector has another width or is not finite, or an attribute is
                unknown or of another type.  Nothing has changed then.
        """
        self._check_writable()
        self._check_tower(tower)
        schema = self._view.main_rows.table.schema
        table, vectors = checked(item_ids, vectors, attributes, schema=schema, dim=self.dim, folder=self.folder)
        if len(table):
            with self._writing:
                self._log.record(table["item_id"].to_pylist(), vectors, attributes_of(table))
                self._view = self._view.with_items(table, vectors)

    def remove(self, item_ids: Sequence[str] | pa.StringArray) -> int:
        """How many of the items there were to remove; once it returns they are removed on the disk, and found no more.

        Unknown ids do no harm.

        Raises:
            ArtifactError: The index is open for reading only, or cannot be written.
        """
        self._check_writable()
        ids = listed(item_ids)
        with self._writing:
            known = self._view.living(ids)
            if known:
                self._log.record(known, None)
                self._view = self._view.without(known)
        return len(known)

    def rebuild(self, *, queries: Float32 | None = None) -> None:
        """Builds the next generation of all items beside the present one, and changes over to it.

        Searches and changes go on meanwhile; what changes meanwhile stays in the delta.  Killed at any moment, it has
        happened or it has not.

        Args:
            queries: As `build_index` takes them, to reach `index.target`.

        Raises:
            ArtifactError: The index is open for reading only, the present generation is damaged, or the disk is full;
                everything is as it was then.
        """
        with self._rebuilding:
            self._check_writable()
            with self._writing:
                view, head = self._view, self._log.head
            name = generation_name(int(head.generation.split("-")[1]) + 1)
            try:
                self._build(name, view, head, queries)
                self._move_to(name, holding=head.sequence)
            finally:
                self._remove_other_generations()

    def refresh(self) -> bool:
        """Whether a writer in another process has changed anything since the last call; searches see it from now on.

        Cheap where nothing has changed.

        Raises:
            ArtifactError: The log or a new generation is damaged.
        """
        with self._writing:
            before = self._log.head
            if self._lock is not None or not self._log.refresh():
                return False
            try:
                self._view = self._refreshed(before)
            except BaseException:
                self._log.rewind(before)
                raise
            return self._log.head != before

    def close(self) -> None:
        """Waits for a rebuild that is running, and lets another writer in; the index can be changed no more."""
        with self._rebuilding, self._writing:
            self._log.close()
            if self._lock is not None:
                self._lock.release()

    def _refreshed(self, before: Head) -> View:
        """The view, which is that of an earlier head, with what the log has got since."""
        if self._log.head.generation == before.generation:
            changes = self._log.read(self.dim, after=before.sequence)
            if self._log.head.generation == before.generation:
                return replayed(self._view, changes)
        return self._load()

    def _load(self) -> View:
        """The generation that the log names, with the log's changes."""
        while True:
            name = self._log.head.generation
            try:
                view = load_generation(self.folder / name, tower=self.tower)
                changes = self._log.read(view.main.dim)
            except Exception:
                self._log.refresh()
                if self._log.head.generation == name:
                    raise
            else:
                if self._log.head.generation == name:
                    return replayed(view, changes)
            log.info("%s: %s has been replaced meanwhile", self.folder, name)

    def _build(self, name: str, view: View, head: Head, queries: Float32 | None) -> None:
        """Writes the generation of all items of the view, which is that of `head`."""
        embeddings = load_embeddings(self.folder / head.generation / "embeddings")
        facts = {"made_from": head.made_from, "data_seen_until": embeddings.manifest.data_seen_until}
        vectors = np.concatenate([embeddings.vectors[~view.dead], view.delta_vectors()])
        index = config.IndexSettings.model_validate(head.index)
        write_generation(self.folder / name, view.items(), vectors, facts, index=index, queries=queries)

    def _move_to(self, name: str, *, holding: int) -> None:
        """Changes over to the generation, which holds the changes up to `holding`."""
        loaded = load_generation(self.folder / name, tower=self.tower)
        with self._writing:
            view = replayed(loaded, self._log.read(loaded.main.dim, after=holding))
            self._log.move_to(name, holding=holding)
            self._view = view

    def _remove_other_generations(self) -> None:
        for folder in self.folder.glob("generation-*"):
            if folder.name != self._log.head.generation:
                shutil.rmtree(folder, ignore_errors=True)

    def _check_writable(self) -> None:
        if self._lock is None:
            raise ArtifactError(f"{self.folder}: this live index is open for reading only; open it without read_only")
        if not self._lock.held:
            raise ArtifactError(f"{self.folder}: this live index has been closed; open it again")

    def _check_tower(self, tower: str) -> None:
        if tower != self.tower:
            raise ArtifactError(
                f"{self.folder}: the live index holds vectors of the {TOWER} {self.tower}, these come from {tower}; "
                f"embed the items with {self.tower}, or create a live index of the candidate embeddings of {tower}"
            )
