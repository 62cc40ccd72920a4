"""The configuration's sections, one model each; every key is documented in its description."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from two_tower.contracts import FeatureType, GateCheck, Loss, RetrieverSettings
from two_tower.settings import Duration, Settings, one_of

if TYPE_CHECKING:
    AnyFeature = FeatureType
    AnyLoss = Loss
    AnyBaseline = RetrieverSettings
    AnyCheck = GateCheck
else:
    AnyFeature = one_of("two_tower.features", FeatureType)
    AnyLoss = one_of("two_tower.model.losses", Loss)
    AnyBaseline = one_of("two_tower.retrievers", RetrieverSettings)
    AnyCheck = one_of("two_tower.evaluation.checks", GateCheck)

Features = dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], AnyFeature]


class Source(Settings):
    """Files of one table."""

    path: str | list[str] = Field(
        description="A file, a glob or a folder, local or gs://; or a list of them. A relative path is looked up in "
        "data/NAME, then in $TWO_TOWER_DATA/NAME, NAME being the configuration's name (or `dataset`)."
    )
    format: Literal["auto", "parquet", "csv", "jsonl"] = Field(
        "auto", description="`auto` goes by the file name's ending."
    )


class Columns(Settings):
    """Which column of the logs holds what."""

    user: str | None = Field(None, description="The user's id. Without it every row is a query of its own.")
    item: str = Field(description="The item's id.")
    time: str = Field(description="The event's time: a timestamp, ISO 8601 text, or epoch seconds (s, ms, us or ns).")
    event: str | None = Field(None, description="The kind of event, which `event_weights` maps to a weight.")
    weight: str | None = Field(None, description="A number that multiplies the event's weight.")


class Filter(Settings):
    """A condition that a log row has to meet to be used; rows that do not are counted, not set aside."""

    column: str
    op: Literal["==", "!=", ">", ">=", "<", "<=", "in", "not_in", "starts_with", "not_starts_with", "not_null"]
    value: Any = Field(None, description="What the column is compared with; a list for `in` and `not_in`.")

    @model_validator(mode="after")
    def _value_fits_op(self) -> Filter:
        if self.op in ("in", "not_in") and not isinstance(self.value, list):
            raise PydanticCustomError("filter_value", "value must be a list for the operators in and not_in")
        if self.op != "not_null" and self.value is None:
            raise PydanticCustomError("filter_value", "value is missing")
        return self


class Interactions(Source):
    """The interaction logs."""

    columns: Columns
    filters: list[Filter] = []
    event_weights: dict[str, float] = Field(
        {}, description="Weight per value of the event column; rows of other events are filtered out."
    )
    timezone: str = Field("UTC", description="The time zone of times that carry none.")
    max_bad_share: float = Field(
        0.05, ge=0, le=1, description="Largest share of rows that may be set aside as bad before the step fails."
    )


class ItemTable(Source):
    """The item table; several rows of one item are merged, the first value that is not missing winning."""

    id: str = Field(description="The column with the item's id.")
    features: Features = {}
    display: list[str] = Field([], description="Columns shown to people next to the id, in reports and `recommend`.")


class UserTable(Source):
    """The user table; several rows of one user are merged, the first value that is not missing winning."""

    id: str = Field(description="The column with the user's id.")
    features: Features = {}


class Query(Settings):
    """What a query consists of, beside the user's features."""

    history_length: int = Field(
        50, ge=0, le=1000, description="How many of the user's latest items the query carries; 0 for none."
    )
    context: Features = Field(
        {}, description="Features of the event row that are known at request time, such as a search text."
    )


class GlobalTime(Settings):
    """The last `test` of the logs is the test window, the `validation` before it the validation window."""

    type: Literal["global_time"] = "global_time"
    test: Duration
    validation: Duration


class LeaveLastOut(Settings):
    """Each user's last item is the test target, the one before it the validation target."""

    type: Literal["leave_last_out"] = "leave_last_out"


class Data(Settings):
    """Where the logs and tables are and how they become examples and queries."""

    interactions: Interactions
    items: ItemTable | None = Field(None, description="Without it the candidates are the items of the logs.")
    users: UserTable | None = None
    query: Query = Query()
    split: Annotated[GlobalTime | LeaveLastOut, Field(discriminator="type")]
    recent: Duration = Field(
        "28d",  # type: ignore[assignment]
        description="The window before a cut-off that counts as recent popularity.",
    )
    shards: int = Field(8, ge=1, le=4096, description="How many shards of users the logs are split into.")

    @model_validator(mode="after")
    def _columns_that_others_need(self) -> Data:
        columns = self.interactions.columns
        if columns.user is None and (self.users is not None or isinstance(self.split, LeaveLastOut)):
            needs = "users" if self.users is not None else "split"
            raise PydanticCustomError(
                "no_user", "{needs} needs interactions.columns.user, which is not set", {"needs": needs}
            )
        if columns.event is None and self.interactions.event_weights:
            raise PydanticCustomError(
                "no_event", "interactions.event_weights needs interactions.columns.event, which is not set"
            )
        return self


class Tower(Settings):
    """One tower: what enters it beside its features, and its layers."""

    hidden: list[Annotated[int, Field(ge=1)]] = Field([], description="Widths of the hidden layers, relu between.")
    use_id: bool = Field(True, description="Whether the item (or user) id has an embedding of its own.")
    id_dropout: float = Field(
        0.1, ge=0, lt=1, description="Share of training examples whose id embedding is hidden, so that features learn."
    )
    dropout: float = Field(0.0, ge=0, lt=1)


class Model(Settings):
    """The two towers."""

    dim: int = Field(64, ge=2, le=1024, description="Width of the embeddings that meet in the dot product.")
    candidate: Tower = Tower()
    query: Tower = Tower(use_id=False)
    history_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Weight of each older item in the pooled history relative to the next newer one; 1 is the mean.",
    )
    normalize: bool = Field(True, description="Whether both towers end with an L2 normalisation.")
    temperature: float = Field(0.05, gt=0, description="What the scores are divided by in the loss.")


class Training(Settings):
    """How the towers are trained."""

    loss: AnyLoss
    epochs: int = Field(5, ge=1)
    batch_size: int = Field(2048, ge=2)
    learning_rate: float = Field(1e-3, gt=0, description="Adam's, at the start; it falls to none along a cosine.")
    patience: int = Field(2, ge=1, description="Epochs without a better validation recall before training stops.")
    monitor_k: int = Field(100, ge=1, description="The K of the validation Recall@K that early stopping watches.")
    max_examples_per_user: int | None = Field(
        None, ge=1, description="At most this many of a user's latest examples a epoch, against heavy users."
    )
    seed: int = 42


class Embedding(Settings):
    """Batch embedding of the candidates."""

    batch_size: int = Field(4096, ge=1)


class Index(Settings):
    """The index of the candidates."""

    kind: Literal["auto", "exact", "scann"] = Field(
        "auto", description="`auto`: exact below 20,000 items, ScaNN above (with a tree from 100,000)."
    )
    reorder: int = Field(1000, ge=1, description="How many of the quantised best are scored again exactly.")
    leaves_to_search: float = Field(
        0.1, gt=0, le=1, description="Share of the tree's leaves that a search visits, where there is a tree."
    )


class Evaluation(Settings):
    """What is measured on the test queries, and what a version has to reach to be promoted."""

    ks: list[Annotated[int, Field(ge=1)]] = Field([10, 100, 1000], min_length=1)
    exclude_seen: bool = Field(
        False, description="Whether items of the query's past are left out, of the results and of what is relevant."
    )
    baselines: list[AnyBaseline] = []
    gate: list[AnyCheck] = []
    bootstrap_samples: int = Field(1000, ge=100)
    confidence: float = Field(0.95, gt=0.5, lt=1)
    examples: int = Field(10, ge=0, description="How many queries the report shows with their recommendations.")
    seed: int = 42

    @model_validator(mode="after")
    def _gate_asks_for_what_is_measured(self) -> Evaluation:
        baselines = [baseline.name for baseline in self.baselines]
        for number, check in enumerate(self.gate):
            metric, baseline = getattr(check, "metric", None), getattr(check, "baseline", None)
            if metric is not None and int(metric.split("@")[1]) not in self.ks:
                wanted, there = metric, f"ks: {', '.join(map(str, self.ks))}"
            elif baseline is not None and baseline not in baselines:
                wanted, there = baseline, f"baselines: {', '.join(baselines) or 'none'}"
            else:
                continue
            raise PydanticCustomError(
                "not_measured",
                "gate.{number} asks for {wanted}, which is not measured ({there})",
                {"number": number, "wanted": wanted, "there": there},
            )
        return self


class Beam(Settings):
    """The runner of the Beam steps."""

    runner: str = Field("in_process", description="`in_process`, or the name of a Beam runner.")
    options: dict[str, Any] = Field({}, description="Pipeline options, by their Beam names.")


class Resources(Settings):
    """What a step asks of the machine it runs on; the local runner takes what there is."""

    cpu: str | None = None
    memory: str | None = None
    accelerator: str | None = None
    accelerator_count: int = 1


STEPS = (
    "resolve_inputs",
    "prepare_data",
    "train_towers",
    "export_candidate_tower",
    "embed_candidates",
    "build_index",
    "export_query_tower",
    "evaluate_recall",
    "promote",
    "write_report",
)
"""The DAG's steps, in an order in which they can run."""


class Config(Settings):
    """One data set's whole configuration."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="Names the pipeline, its registry and its data folder.")
    dataset: str | None = Field(None, description="The data folder's name, where it is not `name`.")
    description: str = ""
    data: Data
    model: Model = Model()
    training: Training
    embedding: Embedding = Embedding()
    index: Index = Index()
    evaluation: Evaluation = Evaluation()
    beam: Beam = Beam()
    resources: dict[Literal[STEPS], Resources] = {}  # type: ignore[valid-type]
