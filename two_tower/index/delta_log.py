"""The changes to a live index since its generation was built: a SQLite database that survives its writer.

A call is one transaction, synced before it returns.  The rollback journal is kept rather than a write-ahead log: SQLite
takes a damaged tail of a write-ahead log for a torn write and drops it without a word, committed changes included,
whereas here all that was acknowledged stands in one file, whose structure and rows are checked when it is opened.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import numpy as np

from two_tower.artifacts import sync_folder
from two_tower.contracts import Float32
from two_tower.errors import ArtifactError

FORMAT = 1
SCHEMA = (
    "CREATE TABLE head (content TEXT NOT NULL, crc32c INTEGER NOT NULL)",
    "CREATE TABLE changes (sequence INTEGER PRIMARY KEY, item_id TEXT NOT NULL UNIQUE, vector BLOB, attributes TEXT, "
    "crc32c INTEGER NOT NULL)",
)
WAIT_SECONDS = 30
"""How long a transaction waits for that of another process."""


@dataclass(frozen=True)
class Head:
    """What the changes are changes to, and how many there are."""

    generation: str
    """The folder, beside the log, of the index that the changes come on top of."""
    made_from: dict[str, str]
    """The content hashes, by kind, of the artefacts that the first generation was made from."""
    index: dict[str, Any]
    """The configuration's section that generations are built with."""
    rebuild_share: float
    sequence: int = 0
    """The number of the newest change."""
    changes: int = 0
    """How many items the log holds a change of."""
    format: int = FORMAT


class Changes(NamedTuple):
    """The last change of each item that was changed, those that were added or updated in the order of the changes."""

    removed: list[str]
    added: list[str]
    vectors: Float32
    """`[added, dim]`."""
    attributes: list[dict[str, Any]]
    """One of each added item, by name."""


class WriterLock:
    """The right to change a live index, held until `release` or the end of the process."""

    def __init__(self, folder: Path) -> None:
        """Takes the lock of the live index in `folder`.

        Raises:
            ArtifactError: Another writer holds it.
        """
        self._file = (folder / ".writer.lock").open("ab")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise ArtifactError(
                f"{folder}: another writer has this live index open; close it there, or open it here with "
                "read_only=True"
            ) from error

    @property
    def held(self) -> bool:
        """Whether `release` has not been called yet."""
        return not self._file.closed

    def release(self) -> None:
        """Lets another writer in."""
        self._file.close()


class DeltaLog:
    """The log of one live index; its methods are not to be called by two threads at once."""

    def __init__(self, path: Path) -> None:
        """Opens the log, its structure checked.

        Raises:
            ArtifactError: There is no such file, or it is damaged.
        """
        if not path.is_file():
            raise ArtifactError(f"{path}: no such file, so this is no complete live index; create it")
        self.path = path
        with _naming(path):
            self._connection = _connect(path)
            self._check_structure()
            self.head = self._read_head()
            self._version = self._data_version()

    @classmethod
    def create(cls, path: Path, head: Head) -> DeltaLog:
        """The new log without changes; killed on the way it leaves no file at `path`."""
        unfinished = path.with_name(f".{path.name}.tmp")
        unfinished.unlink(missing_ok=True)
        with _naming(unfinished), contextlib.closing(_connect(unfinished)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for statement in SCHEMA:
                connection.execute(statement)
            connection.execute("INSERT INTO head VALUES (?, ?)", _sealed(head))
            connection.execute("COMMIT")
        unfinished.with_name(f"{unfinished.name}-journal").unlink(missing_ok=True)
        unfinished.replace(path)
        sync_folder(path.parent)
        return cls(path)

    def record(
        self, item_ids: Sequence[str], vectors: Float32 | None, attributes: Sequence[dict[str, Any]] | None = None
    ) -> None:
        """Records that the items are now these vectors `[items, dim]`, or without vectors that they are no more.

        Returns once the changes are on the disk.

        Args:
            item_ids: Distinct.
            vectors: One an item, or None.
            attributes: One an item; none without it.

        Raises:
            ArtifactError: The file cannot be written; nothing has changed then.
        """
        first = self.head.sequence + 1
        blobs = [None] * len(item_ids) if vectors is None else [vector.tobytes() for vector in vectors]
        texts = [None] * len(item_ids) if attributes is None else [_text(values) for values in attributes]
        rows = [
            (first + number, *change, _crc(first + number, *change))
            for number, change in enumerate(zip(item_ids, blobs, texts, strict=True))
        ]
        with self._transaction():
            of_these = [(item_id,) for item_id in item_ids]
            replaced = self._connection.executemany("DELETE FROM changes WHERE item_id = ?", of_these).rowcount
            self._connection.executemany("INSERT INTO changes VALUES (?, ?, ?, ?, ?)", rows)
            self._set_head(sequence=first + len(rows) - 1, changes=self.head.changes + len(rows) - replaced)

    def move_to(self, generation: str, *, holding: int) -> None:
        """Makes `generation`, which holds the changes up to the number `holding`, what the others come on top of."""
        with self._transaction():
            held = self._connection.execute("DELETE FROM changes WHERE sequence <= ?", (holding,)).rowcount
            self._set_head(generation=generation, changes=self.head.changes - held)

    def refresh(self) -> bool:
        """Whether another process has committed since the last call; `head` is then what it left.

        Raises:
            ArtifactError: The file cannot be read.
        """
        with _naming(self.path):
            version = self._data_version()
            if version == self._version:
                return False
            self.head, self._version = self._read_head(), version
            return True

    def rewind(self, head: Head) -> None:
        """Goes back to an earlier head, so that `refresh` tells of what came after it again."""
        self.head, self._version = head, -1

    def read(self, dim: int, *, after: int = 0) -> Changes:
        """The changes with numbers above `after` up to `head`, of vectors with `dim` coordinates.

        `head` is read anew with them, so that both are of one moment.

        Raises:
            ArtifactError: A row is damaged or missing; the message names the file and the item.
        """
        with _naming(self.path):
            self._connection.execute("BEGIN")
            try:
                self.head = self._read_head()
                query = "SELECT * FROM changes WHERE sequence > ? ORDER BY sequence"
                rows = self._connection.execute(query, (after,)).fetchall()
            finally:
                self._connection.execute("ROLLBACK")
        for row in rows:
            if not _is_whole(*row):
                raise _damaged(self.path, f"the change of item {row[1]!r} differs from its checksum")
        if after == 0 and len(rows) != self.head.changes:
            raise _damaged(self.path, f"{len(rows)} changes, {self.head.changes} are expected")
        added = [row for row in rows if row[2] is not None]
        vectors = np.frombuffer(b"".join(row[2] for row in added), dtype=np.float32).reshape(len(added), dim)
        attributes = [json.loads(row[3]) if row[3] else {} for row in added]
        return Changes([row[1] for row in rows if row[2] is None], [row[1] for row in added], vectors, attributes)

    def close(self) -> None:
        """Closes the file; the log can be used no more."""
        self._connection.close()

    def _check_structure(self) -> None:
        problems = self._connection.execute("PRAGMA integrity_check(1)").fetchall()
        if problems != [("ok",)]:
            raise _damaged(self.path, problems[0][0])

    def _read_head(self) -> Head:
        rows = self._connection.execute("SELECT content, crc32c FROM head").fetchall()
        if len(rows) != 1 or google_crc32c.value(str(rows[0][0]).encode()) != rows[0][1]:
            raise _damaged(self.path, "its head differs from its checksum")
        content = json.loads(rows[0][0])
        if content["format"] != FORMAT:
            raise ArtifactError(f"{self.path}: format {content['format']}, this code reads {FORMAT}")
        return Head(**content)

    def _set_head(self, **changed: Any) -> None:
        """Writes the changed head inside a transaction."""
        head = dataclasses.replace(self.head, **changed)
        self._connection.execute("UPDATE head SET content = ?, crc32c = ?", _sealed(head))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with _naming(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                self.head = self._read_head()  # of the disk, whatever interrupted whatever

    def _data_version(self) -> int:
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = PERSIST")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turns SQLite's errors into ours, with the file's name."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if type(error) is sqlite3.DatabaseError:
            raise _damaged(path, str(error)) from error
        raise ArtifactError(f"{path}: {error}") from error  # a full disk, a lock, no permission, closed


def _damaged(path: Path, problem: str) -> ArtifactError:
    return ArtifactError(
        f"{path}: damaged ({problem}); put the folder back from a copy, or create the live index again"
    )


def _sealed(head: Head) -> tuple[str, int]:
    content = json.dumps(dataclasses.asdict(head), sort_keys=True)
    return content, google_crc32c.value(content.encode())


def _text(values: dict[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False)


def _crc(sequence: int, item_id: str, vector: bytes | None, attributes: str | None) -> int:
    """The checksum of a change."""
    text = json.dumps([sequence, item_id, vector is None, attributes])
    return int(google_crc32c.value(text.encode() + (vector or b"")))


def _is_whole(sequence: int, item_id: Any, vector: Any, attributes: Any, crc: Any) -> bool:
    try:
        return bool(_crc(sequence, item_id, vector, attributes) == crc)
    except TypeError:  # a value is of another type now
        return False
