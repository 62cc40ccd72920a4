"""One retrieval version: a query tower, a candidate tower and an index that were made from each other."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from two_tower.artifacts import MANIFEST, Manifest, content_hash, open_artifact, read_manifest, write_artifact
from two_tower.config import canonical_json
from two_tower.errors import RegistryError

VERSION_KIND = "retrieval_version"
SERVED = ("query_tower", "candidate_tower", "index")
"""The parts that answer requests; the version's id is the hash of their content."""
PARTS = (*SERVED, "evaluation", "trained_towers")

Status = Literal["champion", "former", "refused", "undecided"]


@dataclass(frozen=True)
class Version:
    """A version of the registry and the latest decision about it."""

    id: str
    folder: Path
    status: Status
    """`former` was champion once; `undecided` was stored by a run that was killed before it could decide."""
    decided_at: str | None = None
    """When it was last promoted or refused, ISO 8601 UTC."""
    reason: str = ""
    metrics: Mapping[str, float] | None = None
    """The end-to-end figures of its latest evaluation, such as `recall@100`."""

    @property
    def query_tower(self) -> Path:
        """The query tower's artefact."""
        return self.folder / "query_tower"

    @property
    def candidate_tower(self) -> Path:
        """The candidate tower's artefact."""
        return self.folder / "candidate_tower"

    @property
    def index(self) -> Path:
        """The index's artefact."""
        return self.folder / "index"

    @property
    def evaluation(self) -> Path:
        """The artefact of the evaluation that the version was stored with."""
        return self.folder / "evaluation"

    @property
    def trained_towers(self) -> Path | None:
        """The artefact of the towers' weights, to start a training from; None in a version stored without it."""
        folder = self.folder / "trained_towers"
        return folder if (folder / MANIFEST).is_file() else None

    @property
    def items(self) -> Path:
        """The candidate table, `items.parquet`."""
        return self.folder / "vocabulary" / "items.parquet"

    @property
    def data_seen_until(self) -> int | None:
        """The newest event that it was trained on, in microseconds since 1970 UTC; None if that is not known."""
        return read_manifest(self.folder, VERSION_KIND).data_seen_until

    @property
    def sources(self) -> list[dict[str, Any]] | None:
        """The interaction files of the run that made it; None if they are not known."""
        found: list[dict[str, Any]] | None = read_manifest(self.folder, VERSION_KIND).measured.get("sources")
        return found

    @property
    def config(self) -> dict[str, Any]:
        """The configuration of the run that made the version."""
        return read_manifest(self.folder, VERSION_KIND).config

    def verify(self) -> None:
        """Reads every file of the version.

        Raises:
            ArtifactError: A file is missing or differs; the message names it.
        """
        open_artifact(self.folder, VERSION_KIND)


def version_id(query_tower: str | Path, candidate_tower: str | Path, index: str | Path) -> str:
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


def store_version(
    target: Path, parts: Mapping[str, Path], *, prepared: Path, config: dict[str, Any], temporary: Path
) -> None:
    """Copies the artefacts of a version to `temporary`, checks every byte, and renames it to `target`.

    Args:
        target: The version's folder; what it held before is replaced.
        parts: The folders of `PARTS`.
        prepared: The prepared data, whose candidate table the version keeps.
        config: The run's whole configuration.
        temporary: A folder beside `target`.

    Raises:
        ArtifactError: A part is damaged, or the disk is full.
    """
    manifests = {part: open_artifact(folder, part).manifest for part, folder in parts.items()}
    seen_until = [manifest.data_seen_until for manifest in manifests.values() if manifest.data_seen_until is not None]
    with write_artifact(temporary, VERSION_KIND, config=config) as out:
        for part, folder in parts.items():
            _copy_part(manifests[part], folder, out.path(part))
            open_artifact(out.path(part), part)
            out.manifest.made_from[part] = content_hash(folder)
        items = open_artifact(prepared, "prepared_data").path("items.parquet")
        shutil.copyfile(items, out.path("vocabulary/items.parquet"))
        out.manifest.data_seen_until = max(seen_until, default=None)
    if target.exists():  # damaged, or it would be used as it is
        target.replace(temporary.with_name(f"{temporary.name}-damaged"))
    temporary.replace(target)


def _copy_part(manifest: Manifest, source: Path, target: Path) -> None:
    for name in [*manifest.files, MANIFEST]:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)
