"""An artefact as an object: it opens itself, says in one line what it is, and stands for its folder."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Self

from two_tower.artifacts.folder import ArtifactReader, Manifest, content_hash, open_artifact, read_manifest
from two_tower.artifacts.local_copies import Place, local_copy
from two_tower.progress import moment_text


class Artifact:
    """The base of the typed artefacts.

    An artefact is taken wherever a path is, so steps take the artefacts that other steps have given, or their places.
    """

    kind: ClassVar[str]
    """As the manifest names it."""

    def __init__(self, reader: ArtifactReader) -> None:
        self._reader = reader

    @classmethod
    def open(cls, place: Place) -> Self:
        """The artefact at a local folder or a gs:// place, its files checked.

        What lies on a bucket is brought here, and stays until the process ends.

        Raises:
            ArtifactError: There is no complete artefact of this kind, or a file is damaged; the message names it.
        """
        return cls(open_artifact(local_copy(place), cls.kind))

    @classmethod
    def made(cls, folder: Place) -> Self:
        """The artefact that has just been written to a local folder, its files not read again."""
        return cls(ArtifactReader(Path(folder), read_manifest(folder, cls.kind)))

    @property
    def folder(self) -> Path:
        """The artefact's local folder."""
        return self._reader.folder

    @property
    def manifest(self) -> Manifest:
        """What its manifest says."""
        return self._reader.manifest

    @property
    def made_from(self) -> dict[str, str]:
        """The content hashes, by kind, of the artefacts that it was made from."""
        return self.manifest.made_from

    @property
    def content(self) -> str:
        """Sixteen hexadecimal digits that depend on the artefact's content alone."""
        return content_hash(self.folder)

    @property
    def seen_until(self) -> datetime | None:
        """The newest event that the content has been made from; None if that is not known."""
        micros = self.manifest.data_seen_until
        return None if micros is None else datetime.fromtimestamp(micros / 1e6, UTC)

    def __fspath__(self) -> str:
        return str(self.folder)

    def __repr__(self) -> str:
        whole = {name: count for name, count in self.manifest.rows.items() if "/" not in name}  # no shard's own
        rows = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in whole.items())
        micros = self.manifest.data_seen_until
        seen = f"seen until {moment_text(micros)} UTC" if micros is not None else ""
        facts = [part for part in (self._in_words(), rows, f"content {self.content}", seen) if part]
        return f"{type(self).__name__}({'; '.join(facts)})"

    def _in_words(self) -> str:
        """What the line begins with, beside the rows."""
        return ""
