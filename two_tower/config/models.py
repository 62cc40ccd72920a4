"""The configuration's sections, one model each; every key is documented in its description."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, model_validator
from pydantic_core import PydanticCustomError

from two_tower.config.search import Searched, canonical_search
from two_tower.contracts import (
    SLICES,
    FeatureType,
    GateCheck,
    Loss,
    RankingMetric,
    Repeats,
    RetrieverSettings,
    Role,
)
from two_tower.settings import AUTO, MANY, Auto, Duration, Seed, Settings, TimeFormat, TimeZone, did_you_mean, one_of
from two_tower.steps import STEPS, TABLE

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


class BigQuerySettings(Settings):
    """A BigQuery table or query, exported to Parquet files before it is read."""

    table: str | None = Field(None, description="PROJECT.DATASET.TABLE.")
    query: str | None = Field(None, description="A SELECT statement, instead of `table`.")
    export_to: str = Field(description="A gs:// folder for the exported files; equal content is exported once.")
    project: str | None = Field(None, description="The project that pays; that of the credentials if not given.")
    location: str | None = Field(None, description="The location of the data, such as EU.")

    @model_validator(mode="after")
    def _table_or_query(self) -> BigQuerySettings:
        if (self.table is None) == (self.query is None):
            raise PydanticCustomError("bigquery", "give either table or query")
        return self


def _delimiter(value: Any) -> Any:
    r"""YAML leaves a \t that is not in double quotes as two characters."""
    return "\t" if value == r"\t" else value


def _known_encoding(name: str) -> str:
    try:
        codecs.lookup(name)
        "".encode(name)
    except (LookupError, ValueError) as error:
        raise PydanticCustomError("encoding", "no text encoding {name}", {"name": repr(name)}) from error
    return name


class CsvSettings(Settings):
    """How delimited text is written (format csv)."""

    delimiter: Annotated[str, BeforeValidator(_delimiter)] = Field(
        "auto",
        min_length=1,
        max_length=8,
        description="What separates the fields, such as ';', '\\t' or '::'; `auto`: a tab in .tsv files, else a comma.",
    )
    quoting: Literal["double", "single", "none"] = Field(
        "double",
        description="The quotes around values that hold delimiters or line breaks; `none` where quotes are characters "
        "like others.",
    )
    escape: str | None = Field(
        None, min_length=1, max_length=1, description="What makes the character behind it ordinary, such as '\\'."
    )
    header: bool = Field(True, description="Whether the first line names the columns; if not, `names` does.")
    names: list[str] = Field([], description="The columns' names, for a file without a header or instead of it.")
    skip_lines: int = Field(0, ge=0, le=1_000_000, description="Lines before the header, such as a title.")
    comment: str | None = Field(None, min_length=1, max_length=8, description="What lines begin with that are no rows.")
    skip_initial_space: bool = Field(False, description="Whether blanks behind a delimiter belong to no value.")
    decimal: Literal[".", ","] = Field(
        ".", description="The decimal mark; with ',' 19,90 and 1.234,50 are read as numbers in every column."
    )
    encoding: Annotated[str, AfterValidator(_known_encoding)] = Field(
        "utf-8", description="The text's encoding, such as latin-1, cp1252 or utf-16."
    )
    types: dict[str, Literal["text", "integer", "number", "boolean"]] = Field(
        {},
        description="The types of columns, all of which are text if not given. A row with a value of another type is "
        "malformed.",
    )

    @property
    def quote(self) -> str | None:
        """The quoting character, if there is one."""
        return {"double": '"', "single": "'", "none": None}[self.quoting]

    @model_validator(mode="after")
    def _characters_differ(self) -> CsvSettings:
        if self.delimiter != "auto" and (set(self.delimiter) & {"\n", "\r", self.quote, self.escape}):
            raise PydanticCustomError("delimiter", "delimiter: a line break, the quote or the escape cannot separate")
        if self.escape is not None and (not self.escape.isascii() or self.escape in {"\n", "\r", "\0", self.quote}):
            why = "doubled quotes need no escape" if self.escape == self.quote else "an ASCII character is needed"
            raise PydanticCustomError("escape", "escape: {why}", {"why": why})
        if self.delimiter == self.decimal:
            raise PydanticCustomError("decimal", "decimal: {mark} is the delimiter", {"mark": repr(self.decimal)})
        return self

    @model_validator(mode="after")
    def _names_are_given(self) -> CsvSettings:
        if not self.header and not self.names:
            raise PydanticCustomError("no_names", "names: a file without a header needs the names of its columns")
        for name in self.names:
            if self.names.count(name) > 1:
                raise PydanticCustomError("name_twice", "names: {name} stands there twice", {"name": repr(name)})
        return self


class SourceSettings(Settings):
    """Files of one table."""

    path: str | list[str] | None = Field(
        None,
        description="A file, a glob or a folder, local or gs://; or a list of them. A relative path is looked up in "
        "data/NAME, then in $TWO_TOWER_DATA/NAME, NAME being the configuration's name (or `dataset`). Folders named "
        "KEY=VALUE below it are columns.",
    )
    bigquery: BigQuerySettings | None = Field(None, description="Where the rows come from, instead of `path`.")
    format: Literal["auto", "parquet", "csv", "jsonl"] = Field(
        "auto", description="`auto` goes by the file name's ending."
    )
    csv: CsvSettings = Field(CsvSettings(), description="How the files are written, where they are delimited text.")

    @model_validator(mode="after")
    def _path_or_bigquery(self) -> Self:
        if (self.path is None) == (self.bigquery is None):
            raise PydanticCustomError("source", "needs a path, or bigquery instead of it")
        return self


class ColumnSettings(Settings):
    """Which column of the logs holds what."""

    user: str | None = Field(None, description="The user's id. Without it every row is a query of its own.")
    item: str = Field(description="The item's id.")
    time: str | None = Field(
        None,
        description="The event's time: a timestamp, ISO 8601 text, or epoch seconds (s, ms, us or ns); `time_format` "
        "tells of other forms.",
    )
    order: str | None = Field(
        None,
        description="Instead of a time: a whole number that orders a user's events. Without either there is no order.",
    )
    event: str | None = Field(None, description="The kind of event, which `events` maps to a role and a weight.")
    weight: str | None = Field(None, description="A number that multiplies the event's weight.")


def _as_written(value: Any) -> str | None:
    """A scalar as it is written in a file, for settings whose meaning the column decides."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, date):
        return value.isoformat()
    if value is None or isinstance(value, (str, int, float, Decimal)):
        return None if value is None else str(value)
    raise PydanticCustomError("scalar", "expected a text, a number, a time, or true or false")


def _all_as_written(value: Any) -> str | list[str | None] | None:
    if isinstance(value, list) and None in value:
        raise PydanticCustomError("scalar", "a list cannot hold null; quote it where the text is meant")
    return list(map(_as_written, value)) if isinstance(value, list) else _as_written(value)


Scalar = str | float | bool
"""What may stand in a file where the text as written counts."""


class FilterSettings(Settings):
    """A condition that a row has to meet to be used; rows that do not are counted, not set aside."""

    column: str
    op: Literal["==", "!=", ">", ">=", "<", "<=", "in", "not_in", "starts_with", "not_starts_with", "not_null"]
    value: Annotated[
        str | list[str] | None,
        BeforeValidator(_all_as_written, json_schema_input_type=Scalar | list[Scalar] | None),
    ] = Field(
        None,
        description="What the column is compared with, read as the column's values are: as a number, a time, a truth "
        "value or a text; a list for `in` and `not_in`.",
    )

    @model_validator(mode="after")
    def _value_fits_op(self) -> FilterSettings:
        takes_list = self.op in ("in", "not_in")
        if takes_list and not isinstance(self.value, list):
            raise PydanticCustomError("filter_value", "value must be a list for the operators in and not_in")
        if self.op != "not_null" and self.value is None:
            raise PydanticCustomError("filter_value", "value is missing; quote null where the text is meant")
        if not takes_list and isinstance(self.value, list):
            raise PydanticCustomError("filter_value", "value is a list, which only the operators in and not_in take")
        return self

    @property
    def values(self) -> list[str]:
        """What the column is compared with, one or several."""
        return self.value if isinstance(self.value, list) else [self.value] if self.value is not None else []


EventWeight = Annotated[float, Field(ge=0, le=1e18)]


class EventSettings(Settings):
    """What one kind of event means. Only positive events are targets and counted as popularity."""

    role: Role = "positive"
    weight: EventWeight = 1.0


Bound = Annotated[str | None, BeforeValidator(_as_written, json_schema_input_type=Scalar | None)]
"""A number or time as it is written."""


class Range(Settings):
    """The values that a column may have; rows with others are set aside. A missing value is in every range."""

    min: Bound = Field(None, description="The smallest value, or, in a column of times, the first moment.")
    max: Bound = None

    @model_validator(mode="after")
    def _has_a_bound(self) -> Range:
        if self.min is None and self.max is None:
            raise PydanticCustomError("range", "give min, max or both")
        return self


class Rate(Settings):
    """A rate that no person reaches: the events of a user beyond it are set aside."""

    events: int = Field(ge=1, le=MANY)
    per: Duration = "1d"  # type: ignore[assignment]


class KCore(Settings):
    """Only users and items with so many training events, both counted after the other was cut, are trained on."""

    user: int = Field(1, ge=1, le=MANY)
    item: int = Field(1, ge=1, le=MANY)


def _event(value: Any) -> Any:
    """A bare number is the weight of a positive event."""
    return {"weight": value} if isinstance(value, (int, float)) and not isinstance(value, bool) else value


class InteractionsSettings(SourceSettings):
    """The interaction logs."""

    columns: ColumnSettings
    filters: list[FilterSettings] = []
    events: dict[
        str, Annotated[EventSettings, BeforeValidator(_event, json_schema_input_type=EventSettings | EventWeight)]
    ] = Field(
        {},
        description="What each value of the event column means: {role: ..., weight: ...}, or just the weight of a "
        "positive event. Rows of other events are filtered out.",
    )
    ranges: dict[str, Range] = Field({}, description="The values that columns may have.")
    timezone: TimeZone = Field("UTC", description="The time zone of times that carry none.")
    time_format: TimeFormat = Field(
        "auto",
        description="How the column of times is written, where it is not one of timestamps. `auto`: ISO 8601 text, or "
        "a number since 1970 whose unit its size tells. `day_first` (31/12/2024 18:30, 31.12.24, 31-Dec-2024), "
        "`month_first` (12/31/2024 6:30 PM, Dec 31, 2024), `yyyymmdd` (also with HHMM or HHMMSS), `excel_days` "
        "(45292.5); `s`, `ms`, `us`, `ns` since 1970; or a pattern such as '%d/%m/%Y %H:%M'.",
    )
    max_rate: Rate | None = Field(None, description="Against bots: the events of a user beyond it are set aside.")
    duplicates: Literal["set_aside", "keep"] = Field(
        "set_aside",
        description="What becomes of a row that equals an earlier one in every column of the file: `keep` where each "
        "is an event of its own, such as one of several units.",
    )
    repeats: Literal["keep", "first"] = Field(
        "keep", description="`first`: of a user's events with one item in one role only the first is used."
    )
    k_core: KCore | None = Field(
        None, description="Leaves rare users and items out of training; queries and candidates stay complete."
    )
    max_bad_share: float = Field(
        0.05, ge=0, le=1, description="Largest share of rows that may be set aside as bad before the step fails."
    )

    @model_validator(mode="after")
    def _needed_columns(self) -> InteractionsSettings:
        needed = (("events", "event"), ("max_rate", "user"), ("max_rate", "time"), ("repeats", "user"))
        for setting, column in (*needed, ("time_format", "time")):
            wanted = getattr(self, setting) not in (None, {}, "keep", "auto")
            if wanted and getattr(self.columns, column) is None:
                raise PydanticCustomError(
                    "no_column",
                    "{setting} needs columns.{column}, which is not set",
                    {"setting": setting, "column": column},
                )
        if self.columns.time and self.columns.order:
            raise PydanticCustomError("time_and_order", "columns: give time or order, not both")
        if self.events and not any(event.role == "positive" for event in self.events.values()):
            raise PydanticCustomError("no_positive", "events: none has the role positive, so there is nothing to learn")
        return self


Unknown = Literal["keep", "set_aside"]


class ItemTableSettings(SourceSettings):
    """The item table; several rows of one item are merged, the first value that is not missing winning."""

    id: str = Field(description="The column with the item's id.")
    features: Features = {}
    display: list[str] = Field([], description="Columns shown to people next to the id, in reports and `recommend`.")
    attributes: list[str] = Field(
        [],
        description="Columns kept with the candidates for filters at query time and for the restricts of Vector "
        "Search: text, lists of text, numbers; true and false become text.",
    )
    available: list[FilterSettings] = Field(
        [],
        description="Conditions on the table's columns. Items that do not meet them are learned from and may stand in "
        "histories, but are never retrieved.",
    )
    unknown: Unknown = Field("keep", description="What becomes of log rows whose item the table lacks.")


class UserTableSettings(SourceSettings):
    """The user table; several rows of one user are merged, the first value that is not missing winning."""

    id: str = Field(description="The column with the user's id.")
    features: Features = {}
    unknown: Unknown = Field("keep", description="What becomes of log rows whose user the table lacks.")


class QuerySettings(Settings):
    """What a query consists of, beside the user's features."""

    history_length: int = Field(
        50, ge=0, le=1000, description="How many of the user's latest items the query carries; 0 for none."
    )
    history_roles: list[Role] = Field(["positive"], min_length=1, description="The roles of the events in the history.")
    context: Features = Field(
        {}, description="Features of the event row that are known at request time, such as a search text."
    )


class GlobalTime(Settings):
    """The last `test` of the logs is the test window, the `validation` before it the validation window."""

    type: Literal["global_time"] = "global_time"
    test: Duration
    validation: Duration


class LeaveLast(Settings):
    """What splits by the order of a user's events have in common."""

    ties: Literal["order", "apart"] = Field(
        "order",
        description="What becomes of a user's events of one moment, such as a basket. `order`: they follow each other "
        "in the order of the files, as in published protocols. `apart`: a history ends before its target's moment, in "
        "training too, and a hash draws the target among them.",
    )


class LeaveLastOut(LeaveLast):
    """Each user's last item is the test target, the one before it the validation target."""

    type: Literal["leave_last_out"] = "leave_last_out"

    @property
    def k(self) -> int:
        return 1


class LeaveLastK(LeaveLast):
    """Each user's last `k` items are the test targets, the `k` before them the validation targets.

    A user with fewer than 2 k + 1 positive events has neither; with `ties: apart` nor has one without three moments
    for training, validation and test to begin at.
    """

    type: Literal["leave_last_k"] = "leave_last_k"
    k: int = Field(ge=1, le=1_000_000)


class Given(Settings):
    """A split that comes with the data, in files of its own or in a column."""

    type: Literal["given"] = "given"
    column: str | None = Field(
        None,
        description="The column that tells; without it `test` and `validation` are globs that the files' paths meet.",
    )
    test: str = Field(description="The column's value for test rows, or a glob such as `test*.parquet`.")
    validation: str | None = Field(None, description="The same for validation rows.")
    validation_share: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="Without `validation`: the share of the other rows that validates, by a hash of user and item.",
    )


class ExamplesSettings(Settings):
    """The shape of the training examples."""

    shape: Literal["sequences", "pairs"] = Field(
        "sequences",
        description="`sequences`: one row a user with a target at every position. `pairs`: beside them one row a "
        "positive with its history at that moment, which takes as many times the room as a history is long.",
    )
    max_per_user: int | None = Field(
        None,
        ge=1,
        le=MANY,
        description="At most this many of a user's latest positives are targets, against heavy users.",
    )


AnySplit = Annotated[GlobalTime | LeaveLastOut | LeaveLastK | Given, Field(discriminator="type")]


class DataSettings(Settings):
    """Where the logs and tables are and how they become examples and queries."""

    interactions: InteractionsSettings
    items: ItemTableSettings | None = Field(None, description="Without it the candidates are the items of the logs.")
    users: UserTableSettings | None = None
    query: QuerySettings = QuerySettings()
    examples: ExamplesSettings = ExamplesSettings()
    split: AnySplit
    recent: Duration = Field(
        "28d",  # type: ignore[assignment]
        description="The window before a cut-off that counts as recent popularity.",
    )
    shards: int = Field(
        8, ge=1, le=4096, description="How many shards of users the logs are split into; memory goes by the largest."
    )
    incremental: bool = Field(
        False,
        description="Keeps the checked events beside the prepared data, so that the next preparation reads only the "
        "files that are new.",
    )

    @model_validator(mode="after")
    def _columns_that_others_need(self) -> DataSettings:
        columns = self.interactions.columns
        if columns.user is None:
            by_user = not isinstance(self.split, GlobalTime)
            if self.users is not None or by_user:
                needs = "users" if self.users is not None else "split"
                raise PydanticCustomError(
                    "no_user", "{needs} needs interactions.columns.user, which is not set", {"needs": needs}
                )
            if not self.query.context:
                raise PydanticCustomError(
                    "no_query", "query.context: without interactions.columns.user a query needs a context feature"
                )
        if columns.time is None and isinstance(self.split, GlobalTime):
            raise PydanticCustomError("no_time", "split global_time needs interactions.columns.time, which is not set")
        if columns.time is None and columns.order is None and not isinstance(self.split, Given):
            raise PydanticCustomError(
                "no_order", "split: without interactions.columns.time or order only a given split is possible"
            )
        return self


class TowerSettings(Settings):
    """One tower: what enters it beside its features, and its layers."""

    hidden: list[Annotated[int, Field(ge=1, le=65_536)]] = Field(
        [], description="Widths of the hidden layers, relu between."
    )
    cross: int = Field(0, ge=0, le=100, description="Cross layers (deep & cross, version 2) before the hidden layers.")
    linear: Auto[bool] = Field(
        AUTO,
        description="Whether the tower ends with a linear map. Wide id embeddings learn faster without: the map bears "
        "no learning rate as high as theirs, and costs time by the square of `dim`.",
    )
    use_id: Auto[bool] = Field(
        AUTO,
        description="Whether the item (or user) id has an embedding of its own. `auto`: items have, users where the "
        "query tower reads no history.",
    )
    id_dropout: Auto[Annotated[float, Field(ge=0, lt=1)]] = Field(
        AUTO, description="Share of training examples whose id embedding is hidden, so that features learn."
    )
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Dropout after each hidden layer; without hidden layers, of the tower's input."
    )


class MeanPool(Settings):
    """The mean of the history's item vectors, the newer ones weighing more."""

    type: Literal["mean"] = "mean"
    decay: float = Field(
        1.0, gt=0, le=1, description="Weight of each older item relative to the next newer one; 1 is the mean."
    )


class Gru(Settings):
    """A recurrent encoder (Hidasi et al., "Session-based Recommendations with Recurrent Neural Networks", 2016)."""

    type: Literal["gru"] = "gru"
    layers: int = Field(1, ge=1, le=8)
    decay: float = Field(
        0.7, gt=0, le=1, description="Of the mean that the units' output is added to, as that of `mean`."
    )
    dropout: float = Field(0.2, ge=0, lt=1)


class Transformer(Settings):
    """A causal transformer (Kang and McAuley, "Self-Attentive Sequential Recommendation", 2018)."""

    type: Literal["transformer"] = "transformer"
    layers: int = Field(2, ge=1, le=16)
    heads: int = Field(2, ge=1, le=32, description="Must divide `model.dim`.")
    decay: float = Field(
        0.7, gt=0, le=1, description="Of the mean that the blocks' output is added to, as that of `mean`."
    )
    dropout: float = Field(0.2, ge=0, lt=1)


AnyHistory = Annotated[MeanPool | Gru | Transformer, Field(discriminator="type")]


class ModelSettings(Settings):
    """The two towers. What is `auto` is chosen by the training events, together (docs/training.md)."""

    dim: Auto[Annotated[int, Field(ge=2, le=1024)]] = Field(
        AUTO, description="Width of the embeddings that meet in the dot product."
    )
    candidate: TowerSettings = TowerSettings()
    query: TowerSettings = TowerSettings()
    history: Auto[AnyHistory | None] = Field(
        AUTO, description="What makes one vector of the history; null leaves the history out of the query tower."
    )
    shared_items: bool = Field(
        True,
        description="Whether the history reads the candidate tower's item vectors; if not, it has embeddings of its "
        "own.",
    )
    normalize: bool = Field(True, description="Whether both towers end with an L2 normalisation.")
    item_bias: Auto[bool] = Field(
        AUTO,
        description="Whether a candidate has a bias, a number added to its score, learned from its log popularity on. "
        "It takes one of the `dim` coordinates, and no normalisation touches it.",
    )
    temperature: Auto[Annotated[float, Field(ge=1e-6, le=1e6)]] = Field(
        AUTO, description="What the scores are divided by in the loss."
    )
    learn_temperature: bool = Field(False, description="Whether the temperature is trained, from `temperature` on.")

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> ModelSettings:
        if isinstance(self.history, Transformer) and self.dim != AUTO and self.dim % self.history.heads:
            raise PydanticCustomError(
                "heads",
                "history.heads: {heads} heads do not divide dim {dim}",
                {"heads": self.history.heads, "dim": self.dim},
            )
        return self


class MiningSettings(Settings):
    """Hard negatives: what the current model ranks high for a query, without being right.

    Xiong et al., "Approximate Nearest Neighbor Negative Contrastive Learning for Dense Text Retrieval", 2021.
    """

    after: int = Field(
        2, ge=1, le=MANY, description="Epochs before the first mining; an untrained model's mistakes say little."
    )
    every: int = Field(1, ge=1, le=MANY, description="Epochs between two minings.")
    top: int = Field(100, ge=1, le=100_000, description="Negatives are drawn from this many best of a query.")
    skip: int = Field(
        0, ge=0, le=100_000, description="How many of the very best are passed over: they may well be right."
    )
    per_query: int = Field(8, ge=1, le=10_000, description="How many are drawn for a query in a step.")


class TrainingSettings(Settings):
    """How the towers are trained. What is `auto` is chosen by the training events, together (docs/training.md)."""

    loss: AnyLoss = Field({"type": "auto"}, validate_default=True)
    epochs: Auto[Annotated[int, Field(ge=1, le=1_000_000)]] = AUTO
    batch_size: Auto[Annotated[int, Field(ge=2, le=MANY)]] = Field(
        AUTO, description="About how many positives a step sees."
    )
    learning_rate: Auto[Annotated[float, Field(ge=1e-10, le=1e30)]] = Field(
        AUTO, description="Adam's, at its highest; it falls to none along a cosine."
    )
    warmup: Auto[Annotated[float, Field(ge=0, lt=1)]] = Field(
        AUTO, description="Share of the steps in which the learning rate rises."
    )
    weight_decay: Auto[Annotated[float, Field(ge=0, le=1e6)]] = Field(AUTO, description="Decoupled, as in AdamW.")
    clip_norm: float | None = Field(
        None, ge=1e-10, le=1e10, description="The gradient's largest norm, over all weights together."
    )
    half_life: Auto[Duration | None] = Field(
        AUTO, description="A training event this much older than the newest one weighs half; with null all are equal."
    )
    user_balance: Auto[Annotated[float, Field(ge=0, le=1)]] = Field(
        AUTO,
        description="How far heavy users' events weigh less: the weight of a user's events together is to the power of "
        "1 - user_balance. 0: every event counts the same; 1: every user does.",
    )
    whole_history: bool = Field(
        False,
        description="Whether all positives of a user share one query that sees the whole history, themselves included "
        "(an autoencoder): for logs in which the same items are taken again and again, and far cheaper.",
    )
    unordered_groups: int = Field(
        8,
        ge=2,
        le=10_000,
        description="Where histories have no order, a user's items are dealt into this many groups in each epoch, and "
        "each group is predicted from the others.",
    )
    known_positives: Literal["query", "user"] = Field(
        "query",
        description="Which items are no negatives for a query: its own positives, or all that its user took in "
        "training.",
    )
    mining: MiningSettings | None = None
    patience: Auto[Annotated[int, Field(ge=1, le=MANY)]] = Field(
        AUTO,
        description="Epochs without a better validation recall before training stops. `auto`: a third of `epochs`, "
        "since recall rises last while the learning rate falls.",
    )
    monitor_k: int = Field(
        100, ge=1, le=1_000_000, description="The K of the validation Recall@K that early stopping watches."
    )
    validation_queries: int = Field(
        20000, ge=1, le=MANY, description="At most this many queries, evenly spread, validate."
    )
    exclude_seen: bool | None = Field(
        None, description="Whether validation leaves out what a user has seen; `evaluation.exclude_seen` if not given."
    )
    repeats: Repeats | None = Field(
        None, description="How validation then counts repeats; `evaluation.repeats` if not given."
    )
    refit: bool = Field(
        True,
        description="Whether the towers are trained anew on training and validation events together once the best "
        "number of epochs is known.",
    )
    warm_start: bool = Field(False, description="Whether training starts from the champion's weights, if there is one.")
    deterministic: bool = Field(False, description="Whether TensorFlow repeats every operation exactly; slower.")
    seed: Seed = 42


class EmbeddingSettings(Settings):
    """Batch embedding of the candidates."""

    batch_size: int = Field(16384, ge=1, le=1 << 24, description="Candidates of one call of the tower.")
    previous: str | None = Field(
        None,
        description="The folder of an earlier `candidate_embeddings` artefact. Candidates whose raw features and id "
        "have not changed since take their vectors from it, if the same tower made them; else all are embedded.",
    )


class IndexTargetSettings(Settings):
    """What the index has to give; kind and parameters are chosen from it, on validation queries."""

    recall: float = Field(
        0.98, gt=0, le=1, description="Least share of the first `k` of an exact search that the index finds."
    )
    k: int = Field(100, ge=1, le=1_000_000)
    p99_ms: float | None = Field(
        None, gt=0, le=1e9, description="Most milliseconds that a single query takes on one thread, 99 times of 100."
    )
    memory_gb: float | None = Field(None, gt=0, le=1e9, description="Most memory for codes and vectors, in 10^9 bytes.")


class VectorSearchSettings(Settings):
    """What the input of Vertex AI Vector Search says beside the vectors."""

    restricts: list[str] | None = Field(
        None,
        description="The attributes that a query can ask for by token; if not given, all that are not numbers. A whole "
        "number that is a code can be named here.",
    )
    numeric_restricts: list[str] | None = Field(
        None,
        description="The attributes that a query can compare by value; if not given, all numbers but those in "
        "`restricts`.",
    )
    crowding: str | None = Field(
        None, description="The attribute of which a query can limit how many results share a value."
    )
    approximate_neighbors_count: int = Field(
        1000, ge=1, le=MANY, description="Tree-AH: how many are found before they are scored again exactly."
    )
    leaf_node_embedding_count: int = Field(1000, ge=1, le=MANY, description="Tree-AH: vectors on a leaf.")
    leaf_nodes_to_search_percent: int = Field(10, ge=1, le=100, description="Tree-AH: leaves that a search visits.")
    index_update_method: Literal["BATCH_UPDATE", "STREAM_UPDATE"] = Field(
        "BATCH_UPDATE", description="Whether the index takes changes in batches, or also point by point."
    )

    @model_validator(mode="after")
    def _restricts_by_an_attribute_once(self) -> VectorSearchSettings:
        names = [*(self.restricts or []), *(self.numeric_restricts or [])]
        for name in names:
            if names.count(name) > 1:
                raise PydanticCustomError(
                    "restrict_twice", "restricts and numeric_restricts: {name} stands there twice", {"name": repr(name)}
                )
        return self


class IndexSettings(Settings):
    """The index of the candidates."""

    kind: Literal["auto", "exact", "scann"] = Field(
        "auto", description="`auto`: exact below 20,000 items, ScaNN above (with a tree from 100,000)."
    )
    target: IndexTargetSettings | None = Field(
        default_factory=IndexTargetSettings,
        description="What `reorder`, `leaves_to_search` and `storage` are chosen for; null: as given.",
    )
    storage: Literal["auto", "float32", "bfloat16", "int8"] = Field(
        "auto",
        description="What ScaNN keeps of each vector to rank the quantised best; `auto`: float32, or less where "
        "`target.memory_gb` asks for it.",
    )
    reorder: int = Field(
        1000, ge=1, le=MANY, description="Without a target: how many of the quantised best are ranked by their vectors."
    )
    leaves_to_search: float = Field(
        0.1, gt=0, le=1, description="Without a target: share of the tree's leaves that a search visits."
    )
    soar: bool = Field(
        False, description="Whether each candidate stands in two leaves of the tree: a longer build, more codes."
    )
    shards: int = Field(
        1,
        ge=1,
        le=10_000,
        description="Parts that are searched in parallel and merged, each of which can be loaded alone.",
    )
    vector_search: VectorSearchSettings = Field(
        default_factory=VectorSearchSettings,
        description="The input of Vertex AI Vector Search, which is written beside the index.",
    )


class EvaluationSettings(Settings):
    """What is measured on the test queries, and what a version has to reach to be promoted."""

    ks: list[Annotated[int, Field(ge=1, le=1_000_000)]] = Field([10, 100, 1000], min_length=1)
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
    confidence: float = Field(0.95, gt=0.5, lt=1)
    examples: int = Field(
        10, ge=0, le=10_000, description="How many queries the report shows with their recommendations."
    )
    seed: Seed = 42

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


class RetentionSettings(Settings):
    """Which versions the registry keeps beside the champion and the one before it."""

    keep: int | None = Field(
        10,
        ge=1,
        le=MANY,
        description="How many versions stay, former champions before refused ones, the latest first; null for all.",
    )
    days: int | None = Field(
        None,
        ge=0,
        le=365_000,
        description="Versions that were decided about less than so many days ago stay beyond that number.",
    )


class BeamSettings(Settings):
    """The runner of the Beam steps."""

    runner: str = Field(
        "in_process",
        description="`in_process` (threads), `multi_process`, DataflowRunner; FlinkRunner, SparkRunner and "
        "PortableRunner are passed through, untested.",
    )
    workers: int = Field(
        0,
        ge=0,
        le=1024,
        description="Threads or processes of the two local runners; 0 for as many as there are cores, 8 at most.",
    )
    work: str | None = Field(
        None,
        description="The folder for the files between the stages, which every worker must reach (gs:// on Dataflow); "
        "beside the artefact if not given.",
    )
    options: dict[str, Any] = Field({}, description="Pipeline options, by their Beam names.")


class ResourcesSettings(Settings):
    """What a step asks of the machine it runs on; the local runner takes what there is."""

    cpu: str | None = Field(
        None,
        pattern=r"^([1-9]\d*m?|\d*\.\d+)$",
        description="Cores, such as '4', or thousandths of them, such as 500m.",
    )
    memory: str | None = Field(None, pattern=r"^[1-9]\d*[KMGTPE]i?$", description="Such as 16G or 16Gi.")
    accelerator: str | None = Field(None, description="Its kind, such as NVIDIA_L4.")
    accelerator_count: int = Field(1, ge=1, le=1024, description="How many of them.")


class Config(Settings):
    """One data set's whole configuration."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="Names the pipeline, its registry and its data folder.")
    dataset: str | None = Field(None, description="The data folder's name, where it is not `name`.")
    description: str = ""
    data: DataSettings
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    index: IndexSettings = IndexSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    retention: RetentionSettings = RetentionSettings()
    beam: BeamSettings = BeamSettings()
    resources: dict[Literal[STEPS], ResourcesSettings] = {}  # type: ignore[valid-type]
    tune: dict[str, Searched] = Field(
        {},
        description="What `two-tower tune` searches, by dotted key below model or training: a list of choices, or a "
        "range {low, high, log, step}.",
    )

    @property
    def steps(self) -> tuple[str, ...]:
        """The DAG's steps for this configuration: all of them, or without what is done after a refit."""
        return tuple(step for step in STEPS if self.training.refit or TABLE[step].when != "refit")

    @model_validator(mode="after")
    def _validation_counts_what_the_test_counts(self) -> Config:
        rules = {name: getattr(self.evaluation, name) for name in ("exclude_seen", "repeats")}
        missing = {name: rule for name, rule in rules.items() if getattr(self.training, name) is None}
        if missing:
            object.__setattr__(self, "training", self.training.model_copy(update=missing))
        return self

    @model_validator(mode="after")
    def _the_default_gate_looks_at_what_training_watches(self) -> Config:
        if self.evaluation.gate is None:
            gate = self.evaluation.default_gate(near=self.training.monitor_k)
            object.__setattr__(self, "evaluation", self.evaluation.model_copy(update={"gate": gate}))
        return self

    @model_validator(mode="after")
    def _restricts_are_attributes(self) -> Config:
        attributes = self.data.items.attributes if self.data.items else []
        search = self.index.vector_search
        named = {
            "restricts": search.restricts,
            "numeric_restricts": search.numeric_restricts,
            "crowding": None if search.crowding is None else [search.crowding],
        }
        for key, names in named.items():
            for name in names or []:
                if name not in attributes:
                    raise PydanticCustomError(
                        "no_attribute",
                        "{name} is not among data.items.attributes ({there})",
                        {"key": key, "name": repr(name), "there": ", ".join(attributes) or "none"},
                    )
        return self

    @model_validator(mode="after")
    def _slices_are_columns(self) -> Config:
        data = self.data
        of_items = [*data.items.features, *data.items.attributes, *data.items.display] if data.items else []
        of_users = data.users.features if data.users else {}
        sides = {"item": of_items, "user": of_users, "context": data.query.context}
        there = list(dict.fromkeys(f"{side}.{name}" for side, names in sides.items() for name in names))
        for column in self.evaluation.slices:
            if column not in there:
                raise PydanticCustomError(
                    "no_slice",
                    "there is no feature, attribute or displayed column {column}{hint} ({there})",
                    {"column": column, "hint": did_you_mean(column, there), "there": ", ".join(there) or "none"},
                )
        return self

    @model_validator(mode="after")
    def _searched_settings_exist(self) -> Config:
        if self.tune:
            object.__setattr__(self, "tune", canonical_search(self.model_copy(update={"tune": {}}), self.tune))
        return self
