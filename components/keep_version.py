"""What the two steps that keep a version, as the champion or as refused, have in common."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from components.runtime import running
from two_tower.config import RetentionSettings
from two_tower.registry import Registry, VersionParts


def keep_version(
    step: Literal["promote", "keep_refused"],
    *,
    name: str,
    config: str,
    registry: str,
    sources: str,
    run_id: str,
    prepared: Any,
    candidate_tower: Any,
    query_tower: Any,
    index: Any,
    evaluation: Any,
    trained: Any,
) -> str:
    """The id of the version, which is stored now; then goes what the configuration's `retention` does not keep.

    The arguments are those of the two steps.
    """
    with running(step, run_id=run_id) as work:
        settings, versions = json.loads(config), Registry(registry, name)
        parts = VersionParts(
            query_tower=Path(work.read(query_tower)),
            candidate_tower=Path(work.read(candidate_tower)),
            index=Path(work.read(index)),
            evaluation=Path(work.read(evaluation)),
            trained_towers=Path(work.read(trained)),
            prepared=Path(work.read(prepared)),
            config=settings,
            sources=json.loads(sources)["interactions"],
        )
        version = versions.promote(parts) if step == "promote" else versions.add_refused(parts)
        versions.keep_to(RetentionSettings.model_validate(settings["retention"]))
        return version
