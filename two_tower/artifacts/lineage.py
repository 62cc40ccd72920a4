"""Which run makes an artefact, and with which code: what its manifest says besides the content."""

from __future__ import annotations

import os
from dataclasses import dataclass

RUN_ID, STEP, COMMIT = "TWO_TOWER_RUN_ID", "TWO_TOWER_STEP", "TWO_TOWER_COMMIT"
"""The environment variables that carry it: an image holds its commit, the runner of a step sets the others."""


@dataclass(frozen=True)
class Lineage:
    """Where an artefact comes from; texts are empty where nothing is known."""

    run_id: str = ""
    step: str = ""
    commit: str = ""

    @classmethod
    def of_process(cls) -> Lineage:
        """That of whatever this process writes."""
        return cls(*(os.environ.get(name, "") for name in (RUN_ID, STEP, COMMIT)))

    def as_labels(self) -> dict[str, str]:
        """What is known, by name."""
        known = {"run_id": self.run_id, "step": self.step, "commit": self.commit}
        return {name: text for name, text in known.items() if text}
