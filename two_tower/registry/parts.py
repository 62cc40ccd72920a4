"""What a version is made of, from the artefacts of one run to its folder in the registry."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from two_tower.artifacts import MANIFEST, Place, content_hash, open_artifact, read_manifest, write_artifact
from two_tower.errors import RegistryError
from two_tower.metrics_file import Evaluation
from two_tower.registry.fetched import VERSION_KIND
from two_tower.registry.version import SERVED, version_id

PARTS = (*SERVED, "evaluation", "trained_towers")
"""The artefacts that a version holds whole."""


@dataclass(frozen=True, kw_only=True)
class VersionParts:
    """The artefacts of one run that make a version, or their local folders, and what is to be known of the run."""

    query_tower: Place
    candidate_tower: Place
    index: Place
    evaluation: Place
    """That of the three, with the gate's verdict."""
    trained_towers: Place
    """The weights that both towers were exported from, kept for the next training."""
    prepared: Place
    """The prepared data, whose candidate table is kept with the version."""
    config: Mapping[str, Any]
    """The run's whole configuration."""
    sources: Sequence[Mapping[str, Any]] | None = None
    """The interaction files of the run, so that a later one can tell what is new; None if they are not known."""

    def evaluated(self) -> tuple[str, Evaluation]:
        """The id of the version that they make and what the evaluation holds.

        Raises:
            RegistryError: They do not belong together, or the evaluation is of another version.
            ArtifactError: One of them is incomplete or damaged.
        """
        tower, candidates, evaluation = Path(self.query_tower), Path(self.candidate_tower), Path(self.evaluation)
        version = version_id(tower, candidates, self.index)
        made_from = read_manifest(candidates, "candidate_tower").made_from
        for kind, folder in (("prepared_data", Path(self.prepared)), ("trained_towers", Path(self.trained_towers))):
            if made_from.get(kind) != content_hash(folder):
                raise RegistryError(
                    f"{folder} and {candidates} do not belong together: the tower was made from the "
                    f"{kind} {made_from.get(kind)}, this is {content_hash(folder)}; use one run's outputs"
                )
        measured = Evaluation.open(evaluation)
        if measured.version != version:
            raise RegistryError(
                f"{evaluation} and {tower} do not belong together: the evaluation is of version "
                f"{measured.version}, the towers and the index are version {version}; use one run's outputs"
            )
        return version, measured

    def store(self, folder: Path, *, link: bool = False) -> None:
        """Makes the version in `folder`, every byte checked.

        Args:
            folder: A local folder; what it held before is replaced.
            link: Whether the files may be the parts' own, where they lie on the same disk, instead of copies.

        Raises:
            ArtifactError: A part is damaged, or the disk is full.
        """
        folders = {part: Path(getattr(self, part)) for part in PARTS}
        manifests = {part: open_artifact(source, part).manifest for part, source in folders.items()}
        seen_until = [each.data_seen_until for each in manifests.values() if each.data_seen_until is not None]
        put = _link if link else shutil.copyfile
        known = {} if self.sources is None else {"sources": [dict(file) for file in self.sources]}
        with write_artifact(folder, VERSION_KIND, config=dict(self.config), measured=known) as out:
            for part, source in folders.items():
                for name in [*manifests[part].files, MANIFEST]:
                    put(source / name, out.path(f"{part}/{name}"))
                open_artifact(out.path(part), part)
                out.manifest.made_from[part] = content_hash(source)
            items = open_artifact(self.prepared, "prepared_data").path("items.parquet")
            put(items, out.path("vocabulary/items.parquet"))
            out.manifest.data_seen_until = max(seen_until, default=None)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # on another disk
        shutil.copyfile(source, target)
