"""One retrieval version: a query tower, a candidate tower and an index that were made from each other."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal

from two_tower.artifacts import (
    MANIFEST,
    Manifest,
    Place,
    below,
    content_hash,
    is_remote,
    open_artifact,
    read_manifest,
)
from two_tower.config import canonical_json
from two_tower.errors import RegistryError
from two_tower.progress import moment_text
from two_tower.registry.fetched import VERSION_KIND, bring_version, manifest_on_bucket, verify_on_bucket

SERVED = ("query_tower", "candidate_tower", "index")
"""The parts that answer requests; the version's id is the hash of their content."""

Status = Literal["champion", "former", "refused", "undecided"]


@dataclass(frozen=True, repr=False)
class Version:
    """A version of the registry and the latest decision about it.

    Its folders and files are local.  Those of a version on a bucket are brought here when they are asked for, each by
    itself, and stay until the process ends.
    """

    id: str
    place: str | Path
    """Where it lies: a local folder or a gs:// URI."""
    status: Status
    """`former` was champion once; `undecided` was stored by a run that was killed before it could decide."""
    decided_at: str | None = None
    """When it was last promoted or refused, ISO 8601 UTC."""
    reason: str = ""
    metrics: Mapping[str, float] | None = None
    """The end-to-end figures of its latest evaluation, such as `recall@100`."""

    @classmethod
    def open(cls, place: Place) -> Version:
        """The version at a place, a local folder or a gs:// URI, without what its registry says of it."""
        text = os.fspath(place)
        return cls(PurePath(text).name, text if is_remote(text) else Path(text), "undecided")

    def __repr__(self) -> str:
        figures = ", ".join(f"{name} {value:.4f}" for name, value in (self.metrics or {}).items())
        micros = self.data_seen_until
        seen = f"seen until {moment_text(micros)} UTC" if micros is not None else ""
        facts = [part for part in (f"{self.id}, {self.status}", figures, seen) if part]
        return f"Version({'; '.join(facts)})"

    @property
    def folder(self) -> Path:
        """All of it."""
        return self._local()

    def folder_with(self, *parts: str) -> Path:
        """The local folder that has these parts, such as `index`, and maybe not the others."""
        folders = [self._local(part) for part in parts]
        return folders[0].parent

    @property
    def query_tower(self) -> Path:
        """The query tower's artefact."""
        return self._local("query_tower")

    @property
    def candidate_tower(self) -> Path:
        """The candidate tower's artefact."""
        return self._local("candidate_tower")

    @property
    def index(self) -> Path:
        """The index's artefact."""
        return self._local("index")

    @property
    def evaluation(self) -> Path:
        """The artefact of the evaluation that the version was stored with."""
        return self._local("evaluation")

    @property
    def trained_towers(self) -> Path | None:
        """The artefact of the towers' weights, to start a training from; None in a version stored without it."""
        return self._local("trained_towers") if self.trained_towers_place else None

    @property
    def trained_towers_place(self) -> str | None:
        """Where that artefact lies, which is not brought here; None in a version stored without it."""
        if is_remote(self.place):
            there = f"trained_towers/{MANIFEST}" in manifest_on_bucket(str(self.place)).files
        else:
            there = (Path(self.place) / "trained_towers" / MANIFEST).is_file()
        return below(str(self.place), "trained_towers") if there else None

    @property
    def items(self) -> Path:
        """The candidate table, `items.parquet`."""
        return self._local("vocabulary/items.parquet")

    @property
    def data_seen_until(self) -> int | None:
        """The newest event that it was trained on, in microseconds since 1970 UTC; None if that is not known."""
        return self._manifest().data_seen_until

    @property
    def sources(self) -> list[dict[str, Any]] | None:
        """The interaction files of the run that made it; None if they are not known."""
        found: list[dict[str, Any]] | None = self._manifest().measured.get("sources")
        return found

    @property
    def config(self) -> dict[str, Any]:
        """The configuration of the run that made the version."""
        return self._manifest().config

    def verify(self) -> None:
        """Reads every file of the version; of those on a bucket, the checksums that the store has of them.

        Raises:
            ArtifactError: A file is missing or differs; the message names it.
        """
        verify_version(self.place)

    def _local(self, part: str = "") -> Path:
        return bring_version(str(self.place), part) if is_remote(self.place) else Path(self.place) / part

    def _manifest(self) -> Manifest:
        if is_remote(self.place):
            return manifest_on_bucket(str(self.place))
        return read_manifest(self.place, VERSION_KIND)


def verify_version(place: str | Path) -> None:
    """Looks at every file of the version at `place`.

    Raises:
        ArtifactError: A file is missing or differs; the message names it.
    """
    if is_remote(place):
        verify_on_bucket(str(place))
    else:
        open_artifact(place, VERSION_KIND)


def version_id(query_tower: Place, candidate_tower: Place, index: Place) -> str:
    """Sixteen hexadecimal digits: the version id of three artefacts that belong together.

    It depends on their content alone, so it is known before the version is evaluated or promoted.

    Raises:
        RegistryError: They do not belong together.
        ArtifactError: One of them is no complete artefact of its kind.
    """
    folders = dict(zip(SERVED, map(Path, (query_tower, candidate_tower, index)), strict=True))
    _check_together(folders)
    hashes = {part: content_hash(folder) for part, folder in folders.items()}
    return hashlib.sha256(canonical_json(hashes).encode()).hexdigest()[:16]


def _check_together(folders: Mapping[str, Path]) -> None:
    """Refuses a mix: whatever two of the three say they were made from has to be the same."""
    made_from = {part: read_manifest(folder, part).made_from for part, folder in folders.items()}
    for part in ("query_tower", "index"):
        if "candidate_embeddings" not in made_from[part]:
            raise RegistryError(
                f"{folders[part]}: its manifest does not say which candidate_embeddings this {part} was made from; "
                "make it again"
            )
    # What each part says about an artefact, and where it says so; the candidate tower also speaks for itself.
    said = {"candidate_tower": (content_hash(folders["candidate_tower"]), "candidate_tower")}
    for part, origins in made_from.items():
        for kind, origin in origins.items():
            known, by = said.setdefault(kind, (origin, part))
            if origin != known:
                raise RegistryError(
                    f"{folders[part]} and {folders[by]} do not belong together: the {part} was made from the {kind} "
                    f"{origin}, the {by} {'is' if by == kind else 'was made from'} {known}; use one run's outputs"
                )
