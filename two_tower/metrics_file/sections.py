"""The sections of metrics.json beside the figures of the systems."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field

from two_tower.metrics_file.figures import Compared, Number, Stored

CheckStatus = Literal["passed", "failed", "skipped"]


class Window(Stored):
    """Where the queries begin and until when the version has seen events, in seconds since 1970 UTC."""

    start: Number | None = None
    seen_until: Number | None = None
    overlaps: bool = Field(False, description="Whether the version was trained on events of the window.")


class RepeatCounts(Stored):
    """What was asked for and is excluded, as the user has had it."""

    counted: str = Field("leave_out", description="`miss` or `leave_out`.")
    queries: int = Field(0, description="Those that ask for nothing else.")
    of_queries: int = 0
    relevant: int = Field(0, description="The relevant items that the user has had.")
    of_relevant: int = 0


class SliceFigures(Compared):
    """The systems on a part of the queries, or of their relevant items."""

    group: str = Field("", description="`users`, `history`, `items` or a column.")
    label: str | None = None
    too_small: bool = Field(False, description="Whether it holds fewer queries than `smallest_slice`.")


class LossStage(Stored):
    """Where recall is lost at one K: to what is out of reach, to the model, to the index."""

    k: int
    queries: int
    ceiling: Number = Field(description="The recall of a perfect ranking.")
    exact: Number | None = Field(None, description="That of exact search.")
    end_to_end: Number


class KeptTarget(Stored):
    """What the index had to keep."""

    k: int
    recall: Number


class IndexFigures(Stored):
    """The index against exact search; its recall stands under `recall@10` and the like, null without exact search."""

    kind: str | None = None
    latency_ms: dict[str, Number | None] = {}
    target: KeptTarget | None = None
    unmet: list[str] | None = Field(None, description="What of the target it misses.")

    @classmethod
    def of(cls, kind: str, recall: Mapping[int, float | None], latency_ms: Mapping[str, float]) -> Self:
        """The figures of an index, its recall by K."""
        by_name = {f"recall@{k}": value for k, value in recall.items()}
        return cls.model_validate({"kind": kind, **by_name, "latency_ms": dict(latency_ms)})

    @property
    def recall(self) -> dict[int, float | None]:
        """The share of the exact search's first K that the index finds, by K; None where that was not measured."""
        extra: dict[str, float | None] = self.model_extra or {}
        return {int(name.removeprefix("recall@")): extra[name] for name in extra if name.startswith("recall@")}

    def latency(self, percentile: str) -> float:
        """The milliseconds of a percentile, such as `p99`.

        Raises:
            LookupError: It was not measured.
        """
        found = self.latency_ms.get(percentile)
        if found is None:
            raise LookupError(f"there is no latency {percentile!r}")
        return float(found)


class Ranker(Stored):
    """How many candidates, end to end, give which share of the recall at the largest K."""

    depth: int
    recall: Number
    candidates: dict[str, int | None] = Field(description="By the share, such as `0.9`.")


class Users(Stored):
    """The users none of whose queries has a relevant item in the first K."""

    count: int
    without_good_candidate: dict[str, dict[int, Number]] = Field(description="Their share, by system and K.")


class PopularityFigures(Stored):
    """How popular what is consumed and what is recommended is."""

    items: dict[str, int] = Field({}, description="How many the head, the middle and the tail hold.")
    consumed: dict[str, Number | None] = {}
    recommended: dict[str, dict[str, Number | None]] = Field(
        {}, description="By system and figure, such as `coverage@10`."
    )


class ColumnDrift(Stored):
    """How far a column is from the champion's data."""

    psi: Number | None = None
    js: Number | None = None
    chance: Number | None = None
    missing_change: Number | None = None
    verdict: str = "not_compared"
    reason: str = ""


class LargestDrift(ColumnDrift):
    """The column with the largest change beyond chance; empty where there is none."""

    column: str | None = None


class SchemaChange(Stored):
    """A column that was added or removed, or is of another type."""

    column: str
    change: str
    was: str | None = Field(None, alias="from")
    is_: str | None = Field(None, alias="to")


class UnusualDay(Stored):
    """A day with far more or fewer events than expected."""

    day: str
    events: Number | None = None
    expected: Number | None = None
    z: Number | None = None


class Volume(Stored):
    """The events a day, before and after."""

    mean_before: Number | None = None
    mean_after: Number | None = None
    ratio: Number | None = None
    unusual_days: list[UnusualDay] = []
    missing_days: list[str] = []


class Drift(Stored):
    """What has changed in the data since the champion was trained."""

    columns: dict[str, ColumnDrift] = {}
    schema_changes: list[SchemaChange] = Field([], alias="schema")
    volume: Volume = Volume()
    largest: LargestDrift = LargestDrift()


class Days(Stored):
    """The days of the logs without events, or with far fewer than usual."""

    missing: list[str] = []
    low: list[str] = []


class CheckResult(Stored):
    """What a gate check found."""

    name: str = Field(description="Such as `recall@100 >= 0.2` or `recall@100 above recent_popularity`.")
    status: CheckStatus
    value: Number | None = None
    threshold: Number | None = None
    reason: str = Field("", description="One sentence with the figures; for `skipped`, why nothing was checked.")
    blocking: bool = True


class Gate(Stored):
    """The decision, and the checks that it was made of."""

    decision: str = Field("", description="`promote`, `refuse`, `keep` or `try`; empty where it was not asked.")
    reason: str = ""
    configured: str | None = Field(None, description="Whose checks: `listed`, `default` or `none`.")
    checks: list[CheckResult] = []
