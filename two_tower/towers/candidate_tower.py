"""The exported candidate tower."""

from __future__ import annotations

from two_tower.towers.exported import ExportedTower


class CandidateTower(ExportedTower):
    """The SavedModel of a `candidate_tower` artefact: an item's raw id and features to its embedding.

    The items need not be those of the candidate table.
    """

    kind = "candidate_tower"
