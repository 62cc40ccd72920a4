"""A version that answers and can be promoted, as a run makes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from random_artefacts import write_version
from registry_parts import write_evaluation

from two_tower.artifacts import content_hash, write_artifact
from two_tower.registry import VersionParts, version_id


def write_whole_version(
    folder: Path, prepared: Path, vectors: np.ndarray, ids: list[str], *, config: Mapping[str, Any]
) -> VersionParts:
    """The version of the items' vectors, made from the prepared data, with an evaluation that promotes it."""
    with write_artifact(folder / "trained_towers", "trained_towers") as out:
        out.path("towers.npz").write_bytes(b"weights")
    trained = {"prepared_data": prepared, "trained_towers": folder / "trained_towers"}
    write_version(folder, vectors, ids, made_from={kind: content_hash(place) for kind, place in trained.items()})
    parts = {name: folder / name for name in ("query_tower", "candidate_tower", "index")}
    write_evaluation(folder / "evaluation", version_id(**parts), champion=None)
    others = {"evaluation": folder / "evaluation", "trained_towers": folder / "trained_towers", "prepared": prepared}
    return VersionParts(**parts, **others, config=config)
