"""Everything that training reads of the prepared data, encoded once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from two_tower.artifacts import ArtifactReader
from two_tower.config import ModelSettings, TrainingSettings
from two_tower.contracts import Float32, Int32
from two_tower.errors import DataError
from two_tower.evaluation import Queries
from two_tower.features import MISSING, load_features
from two_tower.model.example_tables import load_examples
from two_tower.model.examples import Encoded, Examples, UnorderedExamples
from two_tower.model.network import Network, encoded_ids, null_row, query_features, start_from_popularity
from two_tower.padding import padded


@dataclass(frozen=True)
class ValidationQueries:
    """The queries that an epoch is judged by, encoded."""

    history: Int32
    """`[queries, items]` item numbers, oldest first, padded with -1 at the end."""
    ids: Int32
    """`[queries]` encoded user ids."""
    features: Encoded
    """`[queries, width]` by `user.NAME` and `context.NAME`."""
    relevant: list[Int32]
    """The relevant item numbers of each query, at least one."""
    exclude: Int32 | None
    """`[queries, n]` item numbers that do not take part, padded with -1."""


@dataclass(frozen=True)
class TrainingData:
    """The untrained network and its encoded examples."""

    network: Network
    examples: Examples | UnorderedExamples
    positive_count: int
    """How many positives an epoch has."""
    item_ids: Int32
    """`[items]` encoded ids; unknown for an item that training never sees, as for one that comes later."""
    item_features: Encoded
    user_ids: Int32
    """`[users + 1]` encoded ids; the last is the missing user."""
    user_features: Encoded
    """`[users + 1, width]` by `user.NAME`; the last row is the missing user."""
    validation: ValidationQueries | None
    """None for a refit, and where there is no query."""
    sampling_probability: Float32
    """`[items]`: share of the training positives."""
    item_names: pa.ChunkedArray
    """The items' ids, by number."""
    seen_until: int | None
    """The newest event that training saw, microseconds; None for events without times."""

    @classmethod
    def load(
        cls, reader: ArtifactReader, *, model: ModelSettings, training: TrainingSettings, refit: bool = False
    ) -> TrainingData:
        """The training data of the prepared data; a `refit` trains on the validation queries' items as well."""
        content = reader.json("features.json")
        features = query_features(content)
        context = {
            name.removeprefix("context."): value for name, value in features.items() if name.startswith("context.")
        }
        user = {name: value for name, value in features.items() if name.startswith("user.")}
        items, users = reader.table("items.parquet"), reader.table("users.parquet")
        history_length = int(reader.manifest.config["query"]["history_length"]) if users.num_rows else 0
        examples = load_examples(
            reader,
            context,
            history_length=history_length if model.history else 0,
            unordered_groups=training.unordered_groups,
            whole_history=training.whole_history,
            half_life=training.half_life,
            user_balance=training.user_balance,
            refit=refit,
        )
        _, events = examples.positives()
        counts = np.bincount(examples.items[events], minlength=items.num_rows)
        seen_items = counts > 0
        if isinstance(examples, Examples):
            seen_items |= np.bincount(examples.shown, minlength=items.num_rows) > 0
        seen_users = np.bincount(examples.user[examples.user >= 0], minlength=users.num_rows) > 0
        weights = np.bincount(examples.items[events], weights=examples.weights[events], minlength=items.num_rows)
        item_features = load_features(content["item"])
        network = Network(
            model=model,
            item_features=item_features,
            query_features=features,
            item_ids=items["item_id"].filter(pa.array(seen_items)).to_pylist(),
            user_ids=users["user_id"].filter(pa.array(seen_users)).to_pylist() if model.query.use_id else [],
            history_length=history_length,
        )
        start_from_popularity(network, counts[seen_items])
        user_ids = np.append(encoded_ids(seen_users), np.int32(MISSING))
        return cls(
            network=network,
            examples=examples,
            positive_count=len(events),
            item_ids=encoded_ids(seen_items),
            item_features={name: value.encode(items[f"feature.{name}"]) for name, value in item_features.items()},
            user_ids=user_ids,
            user_features={
                name: np.concatenate([value.encode(users[name.replace("user.", "feature.", 1)]), null_row(value)])
                for name, value in user.items()
            },
            validation=None if refit else load_validation(reader, network, user_ids, training),
            sampling_probability=(weights / weights.sum()).astype(np.float32),
            item_names=items["item_id"],
            seen_until=_seen_until(reader, refit=refit),
        )


def load_validation(
    reader: ArtifactReader, network: Network, user_ids: Int32, training: TrainingSettings
) -> ValidationQueries | None:
    """The validation queries that count, spread evenly; None where there is none.

    Args:
        reader: The prepared data.
        network: The towers, for what they read of a query.
        user_ids: `[users + 1]` encoded ids by user number.
        training: How many queries there may be, and what becomes of what a user has seen.
    """
    try:
        queries = Queries.load(
            reader,
            exclude_seen=bool(training.exclude_seen),
            repeats=training.repeats or "miss",
            split="validation",
        )
    except DataError:  # a training goes on without
        return None
    count = min(len(queries), training.validation_queries)
    block = queries.take(np.linspace(0, len(queries) - 1, count).astype(np.int64))
    items, sizes = block.relevant.members.astype(np.int32), block.relevant.sizes
    return ValidationQueries(
        history=padded(block.table["history"], last=network.history_length),
        ids=user_ids[block.table["user"].to_numpy()],
        features={name: feature.encode(block.table[name]) for name, feature in network.query_features.items()},
        relevant=np.split(items, np.cumsum(sizes)[:-1]),
        exclude=block.exclude,
    )


def _seen_until(reader: ArtifactReader, *, refit: bool) -> int | None:
    newest = reader.manifest.data_seen_until
    if not refit or newest is None:
        return newest
    window: int = reader.json("summary.json")["windows"]["validation"][1]
    return max(newest, window)
