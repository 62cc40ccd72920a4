"""The section `evaluation`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, TypeAdapter, model_validator
from pydantic_core import PydanticCustomError

from two_tower.config.plugins import AnyBaseline, AnyCheck
from two_tower.contracts import SLICES, GateCheck, RankingMetric, Repeats
from two_tower.settings import MANY, Seed, Settings, did_you_mean


class EvaluationSettings(Settings):
    """What is measured on the test queries, and what a version has to reach to be promoted."""

    ks: list[Annotated[int, Field(ge=1, le=1_000_000)]] = Field([10, 100, 1000], min_length=1)
    """The lengths K of the lists that are measured."""
    shown: list[RankingMetric] | None = Field(
        None,
        description="The metrics, each with a K of `ks`, that a terminal shows beside recall at every K; if not given "
        "recall@10, recall@100 and ndcg@10, or at the nearest K that there is.",
        examples=[["recall@100", "ndcg@10"]],
    )
    exclude_seen: bool = Field(
        False,
        description="Whether items of the query's past are never recommended, as is usual where nobody takes an item "
        "twice.",
    )
    repeats: Repeats = Field(
        "miss",
        description="With `exclude_seen`, what becomes of relevant items that are of the query's past. `miss`: they "
        "count, and cannot be found. `leave_out`: they do not count, nor do queries that ask for nothing else.",
    )
    baselines: list[AnyBaseline] = []
    """What the towers are measured against."""
    slices: list[Annotated[str, Field(pattern=r"^(user|context|item)\.[^=]+$")]] = Field(
        [],
        description="Columns whose most frequent values are slices of their own: `user.NAME` and `context.NAME` of the "
        "queries, `item.NAME` of the relevant items.",
    )
    smallest_slice: int = Field(
        50, ge=1, le=MANY, description="Queries below which a slice has figures, but no verdict."
    )
    exact_queries: int = Field(
        5000,
        ge=1,
        le=MANY,
        description="Queries, evenly spread, on which exact search is measured where there are more.",
    )
    gate: list[AnyCheck] | None = Field(
        None,
        description="The checks that a version has to pass, [] for none. If not given, the default gate: recall@K not "
        "worse than the champion's (margin auto), which blocks, and above each baseline's, which advises; K is the one "
        "of `ks` nearest to `training.monitor_k`.",
    )
    bootstrap_samples: int = Field(1000, ge=100, le=1_000_000)
    """Samples of the queries that the intervals are taken from."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """The share of the samples that an interval holds."""
    examples: int = Field(
        10, ge=0, le=10_000, description="How many queries the report shows with their recommendations."
    )
    seed: Seed = 42
    """What the samples begin from."""

    @property
    def checks(self) -> list[GateCheck]:
        """The gate's checks; those of the default gate where none is given."""
        return self.default_gate() if self.gate is None else self.gate

    @property
    def gate_is_default(self) -> bool:
        """Whether the checks are those of the default gate."""
        return self.gate is None or any(self.gate == self.default_gate(near=k) for k in self.ks)

    def default_gate(self, *, near: int = 100) -> list[GateCheck]:
        """Not worse than the champion, and as advice better than each baseline, by the recall@K nearest to `near`."""
        metric = f"recall@{min(self.ks, key=lambda k: (abs(k - near), k))}"
        checks = [{"type": "not_worse_than_champion", "metric": metric, "margin": "auto"}]
        advice = {"type": "better_than_baseline", "metric": metric, "blocking": False}
        return TypeAdapter(list[AnyCheck]).validate_python(
            [*checks, *({**advice, "baseline": baseline.name} for baseline in self.baselines)]
        )

    def figures_alone(self) -> EvaluationSettings:
        """The settings that the figures of a single system depend on; the others as they are by default."""
        names = {"ks", "exclude_seen", "repeats", "bootstrap_samples", "confidence", "seed"}
        own = self.model_dump(mode="json", include=names)
        return EvaluationSettings.model_validate({**own, "gate": []})

    @model_validator(mode="after")
    def _shown_is_measured(self) -> EvaluationSettings:
        for metric in self.shown or ():
            if int(metric.split("@")[1]) not in self.ks:
                raise PydanticCustomError(
                    "not_measured",
                    "shown asks for {metric}, which is not measured (ks: {ks})",
                    {"metric": metric, "ks": ", ".join(map(str, self.ks))},
                )
        return self

    @model_validator(mode="after")
    def _gate_asks_for_what_is_measured(self) -> EvaluationSettings:
        baselines = [baseline.name for baseline in self.baselines]
        for name in baselines:
            if baselines.count(name) > 1:
                raise PydanticCustomError("baseline_twice", "baselines: {name} stands there twice", {"name": name})
        for number, check in enumerate(self.gate or []):
            for wanted, name, key, measured in _asked_for(check, self):
                if name not in measured:
                    raise PydanticCustomError(
                        "not_measured",
                        "gate.{number} asks for {wanted}, which is not measured{hint} ({key}: {measured})",
                        {
                            "number": number,
                            "wanted": wanted,
                            "hint": "" if key == "ks" else did_you_mean(name, measured),
                            "key": key,
                            "measured": ", ".join(measured) or "none",
                        },
                    )
        return self


def _asked_for(check: GateCheck, evaluation: EvaluationSettings) -> Iterator[tuple[str, str, str, list[str]]]:
    """What a gate check needs to be measured: how it asks, the name looked for, the key that lists such, the list."""
    baselines = [baseline.name for baseline in evaluation.baselines]
    if (metric := getattr(check, "metric", None)) is not None:
        yield metric, metric.split("@")[1], "ks", [str(k) for k in evaluation.ks]
    if (baseline := getattr(check, "baseline", None)) is not None:
        yield baseline, baseline, "baselines", baselines
    if (system := getattr(check, "system", None)) is not None:
        yield system, system, "systems", ["two_tower", "two_tower_exact", *baselines]
    if (part := getattr(check, "slice", None)) is not None:
        column, equals, _ = part.partition("=")
        yield part, column, "slices", evaluation.slices if equals else list(SLICES)
