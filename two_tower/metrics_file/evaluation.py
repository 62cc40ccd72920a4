"""The whole of metrics.json."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, Self

from pydantic import Field, PrivateAttr, ValidationError

from two_tower.artifacts import Place, local_copy, open_artifact
from two_tower.errors import ArtifactError
from two_tower.metrics_file.figures import Compared, Number, System
from two_tower.metrics_file.sections import (
    Days,
    Drift,
    Gate,
    IndexFigures,
    LossStage,
    PopularityFigures,
    Ranker,
    RepeatCounts,
    SliceFigures,
    Users,
    Window,
)

KIND = "evaluation"
FILE = "metrics.json"
CHALLENGER = "two_tower"
"""The version that is measured, end to end."""


def nearest_k(ks: Sequence[int], wanted: int) -> int:
    """The K that is nearest to the wanted one, by their ratio."""
    return min(ks, key=lambda k: abs(math.log(k / wanted)))


class Evaluation(Compared):
    """A version against exact search, baselines and the champion, and what the gate decided.

    `evaluation.systems["two_tower"].recall[100]` is a figure with its interval.
    """

    split: str = Field("test", description="Whose queries: `test` or `validation`.")
    ks: list[int] = []
    shown: list[str] | None = Field(None, description="The metrics that a terminal shows beside recall at every K.")
    candidates: int = 0
    champion_candidates: int | None = None
    exclude_seen: bool = False
    repeats: RepeatCounts | None = None
    confidence: Number = Field(0.0, description="Of the intervals.")
    smallest_slice: int | None = None
    version: str = ""
    champion: str | None = Field(None, description="The id of the version that it was compared with.")
    champion_error: str | None = Field(None, description="Why the champion could not be measured.")
    window: Window | None = None
    drift: Drift | None = None
    days: Days | None = None
    left_out: dict[str, str] = Field({}, description="The baselines that could not be fitted, and why.")
    slices: dict[str, SliceFigures] = {}
    loss: list[LossStage] = []
    before_refit: System | None = Field(None, description="The towers before their refit, by exact search.")
    discovery: Compared | None = Field(None, description="On items that are new to the user.")
    popularity: PopularityFigures | None = None
    users: Users | None = None
    ranker: Ranker | None = None
    index: IndexFigures | None = None
    gate: Gate = Gate()
    _folder: Path | None = PrivateAttr(None)

    @classmethod
    def open(cls, place: Place) -> Self:
        """The content of an `evaluation` artefact, in a local folder or on a bucket.

        Raises:
            ArtifactError: It is incomplete or damaged.
        """
        reader = open_artifact(local_copy(place), KIND)
        found = cls.read(reader.path(FILE))
        found._folder = reader.folder
        return found

    def __eq__(self, other: object) -> bool:
        """Whether the figures are the same, wherever they were read."""
        return isinstance(other, Evaluation) and self.to_json() == other.to_json()

    def __fspath__(self) -> str:
        if self._folder is None:
            raise ArtifactError("this evaluation was not opened from an artefact, so it has no folder")
        return str(self._folder)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """The content of a metrics.json.

        Raises:
            ArtifactError: It cannot be read.
        """
        return cls.parse(Path(path).read_bytes(), name=str(path))

    @classmethod
    def parse(cls, content: bytes, *, name: str = FILE) -> Self:
        """The same of the file's bytes."""
        try:
            return cls.model_validate(json.loads(content))
        except (ValueError, ValidationError) as error:
            raise ArtifactError(f"{name}: not the figures of an evaluation: {error}") from error

    @property
    def main_k(self) -> int:
        """The K of the figures that stand alone: the one nearest to 100."""
        return nearest_k(self.ks or [100], 100)

    @property
    def main_metric(self) -> str:
        """The figure that stands alone, such as `recall@100`."""
        return f"recall@{self.main_k}"

    def __getitem__(self, key: str) -> NoReturn:
        """Nothing: what gate checks took for a dictionary has attributes."""
        raise TypeError(f"the figures of an evaluation are attributes: .{key} in place of [{key!r}]")

    def __repr__(self) -> str:
        figure = self.figure(CHALLENGER, self.main_metric)
        said = [
            f"{self.queries:,} {self.split} queries",
            *([f"{self.main_metric} {figure}"] if figure else []),
            f"version {self.version}",
            self.gate.decision or "not decided",
        ]
        return f"Evaluation({', '.join(said)})"

    __str__ = __repr__
