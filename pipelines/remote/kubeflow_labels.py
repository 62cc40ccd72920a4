"""What stands in the descriptions at Kubeflow Pipelines, which has no labels and keeps few characters."""

from __future__ import annotations

import json

from pipelines.remote.schedules import DEFINITION, NAME, OWNER, TIMING
from pipelines.remote.submission import TOOL
from two_tower.errors import ConfigError
from two_tower.progress import log

DESCRIPTION = 255
"""So many characters the service's database keeps of a description."""


def described_by(labels: dict[str, str]) -> str:
    """Labels as a description; the environment's own, which come first, are left out where they do not fit."""
    known = ("tool", "pipeline", "config", "commit", NAME, OWNER, DEFINITION, TIMING)
    kept = {key: labels[key] for key in known if key in labels}
    text = _compact(kept)
    if len(text) > DESCRIPTION:
        raise ConfigError(f"a run's description holds {DESCRIPTION} characters; shorten the names in {text}")
    left = []
    for key, value in labels.items():
        if len(_compact({**kept, key: value})) <= DESCRIPTION:
            kept[key] = value
        else:
            left.append(key)
    if left:
        log.warning("labels that do not fit into a description at Kubeflow are not sent: %s", ", ".join(left))
    return _compact(kept)


def labels_in(description: str | None) -> dict[str, str]:
    """The labels in a description of ours; empty for any other."""
    try:
        found = json.loads(description or "")
    except ValueError:
        return {}
    return found if isinstance(found, dict) and found.get("tool") == TOOL else {}


def _compact(labels: dict[str, str]) -> str:
    return json.dumps(labels, separators=(",", ":"))
