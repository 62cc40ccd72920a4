"""The training examples in the prepared tables, `train` or `pairs`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from two_tower.artifacts import ArtifactReader
from two_tower.contracts import ROLES, Bool, Float32, Int32, Int64
from two_tower.errors import TrainingError
from two_tower.features import FittedFeature
from two_tower.model.examples import Encoded, Examples, UnorderedExamples
from two_tower.padding import list_lengths, list_values


def load_examples(
    prepared: ArtifactReader,
    context: Mapping[str, FittedFeature],
    *,
    history_length: int,
    unordered_groups: int,
    whole_history: bool = False,
    half_life: timedelta | None = None,
    user_balance: float = 0.0,
    refit: bool = False,
) -> Examples | UnorderedExamples:
    """The training examples of the prepared data, from its `sequences` or its `pairs` (`data.examples.shape`).

    Args:
        prepared: The prepared data.
        context: The fitted context features by name.
        history_length: How many items a query carries; 0 where the query tower reads no history.
        unordered_groups: Into how many groups a user's items are dealt where they have no order.
        whole_history: Whether a user's positives share one query that has the whole history.
        half_life: An event that is this much older than the newest one weighs half.
        user_balance: The weight of a user's positives together is to the power of 1 - this.
        refit: Whether the validation queries' relevant items are positives too, each query one more example.

    Raises:
        TrainingError: There is none, or `half_life` is set for events without times.
    """
    config = prepared.manifest.config
    if half_life is not None and not config["interactions"]["columns"].get("time"):
        raise TrainingError("training.half_life: the events have no time; take it out, or name the column of the time")
    pairs = config["examples"]["shape"] == "pairs" and history_length > 0 and not whole_history
    table = prepared.table("pairs" if pairs else "train").combine_chunks()
    roles = [ROLES.index(role) for role in config["query"]["history_roles"]]
    if pairs:
        examples: Examples | UnorderedExamples = _from_pairs(table, context, history_length, half_life)
    else:
        examples = _from_sequences(
            table,
            context,
            history_length,
            half_life,
            history_roles=roles,
            groups=unordered_groups,
            whole_history=whole_history,
        )
    if refit:
        examples = _with_validation(examples, prepared.table("validation"), context)
    if not examples.weights[examples.positives()[1]].any():
        raise TrainingError(
            f"{prepared.folder}: no event with a weight precedes the validation window, so there is nothing to train on"
        )
    return _balanced(examples, user_balance) if user_balance else examples


def _from_sequences(
    table: pa.Table,
    context: Mapping[str, FittedFeature],
    history_length: int,
    half_life: timedelta | None,
    *,
    history_roles: list[int],
    groups: int,
    whole_history: bool,
) -> Examples | UnorderedExamples:
    """The queries in the sequences, less the events that are neither targets nor in a history."""
    lengths = list_lengths(table["items"])
    row = np.repeat(np.arange(len(lengths)), lengths)
    items, target, visible = list_values(table["items"]), list_values(table["targets"]), list_values(table["visible"])
    weights = list_values(table["weights"]) * _aged(list_values(table["times"]), half_life)
    encoded = {name: feature.encode(pc.list_flatten(table[f"context.{name}"])) for name, feature in context.items()}
    user = np.asarray(table["user"], dtype=np.int32)
    if history_length and not whole_history and (visible < 0).any():
        kept = np.bincount(row[target], minlength=len(lengths))
        first = np.flatnonzero(target)[np.cumsum(kept)[kept > 0] - kept[kept > 0]]
        return _unordered(
            items[target],
            weights[target],
            (np.cumsum(kept > 0) - 1)[row[target]],
            user=user[kept > 0],
            context={name: values[first] for name, values in encoded.items()},
            groups=groups,
            history_length=history_length,
        )
    shown = np.isin(list_values(table["roles"]), history_roles)
    before = np.concatenate([[0], np.cumsum(shown)])
    start = (np.cumsum(lengths) - lengths)[row]
    if whole_history or not history_length:  # then nothing tells the events of a user in one context from each other
        order = np.flatnonzero(target)
        order = order[np.lexsort((*(column[order] for values in encoded.values() for column in values.T), row[order]))]
        row, start, target = row[order], start[order], target[order]
        visible = lengths[row] if whole_history else np.zeros(len(row), np.int64)
        items, weights = items[order], weights[order]
        encoded = {name: values[order] for name, values in encoded.items()}
    stop = start + visible
    alone = user[row] < 0  # without a user each event stands alone
    first = np.flatnonzero(_begin_runs([row, visible, target, *encoded.values()]) | alone)
    last = np.append(first[1:], len(row))
    first, last = first[target[first]], last[target[first]]
    begin, seen_to = before[start[first]], before[stop[first]]
    return Examples(
        items=items,
        weights=weights,
        first=first,
        last=last,
        shown=list_values(table["items"])[shown],
        start=begin,
        seen_from=np.maximum(begin, seen_to - history_length),
        seen_to=seen_to,
        user=user[row[first]],
        context={name: values[first] for name, values in encoded.items()},
        history_length=history_length,
    )


def _begin_runs(columns: list[Int64 | Int32 | Float32]) -> Bool:
    """`[rows]`: which rows differ from the one before in any of the columns `[rows]` or `[rows, width]`."""
    new = np.zeros(len(columns[0]), dtype=bool)
    new[:1] = True
    for values in columns:
        new[1:] |= (values[1:] != values[:-1]) if values.ndim == 1 else (values[1:] != values[:-1]).any(axis=1)
    return new


def _from_pairs(
    table: pa.Table, context: Mapping[str, FittedFeature], history_length: int, half_life: timedelta | None
) -> Examples:
    """A query a row: its history lies ready."""
    lengths = list_lengths(table["history"])
    ends = np.cumsum(lengths)
    begin = ends - np.minimum(lengths, history_length)
    rows = np.arange(len(lengths))
    return Examples(
        items=table["item"].to_numpy(),
        weights=table["weight"].to_numpy() * _aged(table["time"].to_numpy(), half_life),
        first=rows,
        last=rows + 1,
        shown=list_values(table["history"]),
        start=begin,
        seen_from=begin,
        seen_to=ends,
        user=table["user"].to_numpy(),
        context={name: feature.encode(table[f"context.{name}"]) for name, feature in context.items()},
        history_length=history_length,
    )


def _with_validation(
    examples: Examples | UnorderedExamples, queries: pa.Table, context: Mapping[str, FittedFeature]
) -> Examples | UnorderedExamples:
    """The examples and one more for each validation query: its relevant items, with all that precedes its cut-off."""
    lengths = list_lengths(queries["relevant"])
    users = queries["user"].to_numpy()
    relevant = list_values(queries["relevant"])
    encoded = {name: feature.encode(queries[f"context.{name}"]) for name, feature in context.items()}
    weights = np.full(len(relevant), examples.weights.max(initial=0.0) or 1.0, dtype=np.float32)
    if isinstance(examples, UnorderedExamples):
        return _more_items(examples, users, relevant, weights, lengths, encoded)
    histories, past = list_values(queries["history"]), list_lengths(queries["history"])
    shown_ends = len(examples.shown) + np.cumsum(past)
    begin = shown_ends - np.minimum(past, examples.history_length)
    ends = len(examples.items) + np.cumsum(lengths)
    return Examples(
        items=np.concatenate([examples.items, relevant]),
        weights=np.concatenate([examples.weights, weights]),
        first=np.concatenate([examples.first, ends - lengths]),
        last=np.concatenate([examples.last, ends]),
        shown=np.concatenate([examples.shown, histories]),
        start=np.concatenate([examples.start, begin]),
        seen_from=np.concatenate([examples.seen_from, begin]),
        seen_to=np.concatenate([examples.seen_to, shown_ends]),
        user=np.concatenate([examples.user, users]),
        context={name: np.concatenate([values, encoded[name]]) for name, values in examples.context.items()},
        history_length=examples.history_length,
    )


def _more_items(
    examples: UnorderedExamples, users: Int32, relevant: Int32, weights: Float32, lengths: Int64, context: Encoded
) -> UnorderedExamples:
    """The sequences with more items, of users that they know or not."""
    old, _ = examples.positives()
    owners, source, sequence = np.unique(np.concatenate([examples.user, users]), return_index=True, return_inverse=True)
    return _unordered(
        np.concatenate([examples.items, relevant]),
        np.concatenate([examples.weights, weights]),
        sequence[np.concatenate([old, len(examples.user) + np.repeat(np.arange(len(users)), lengths)])],
        user=owners,
        context={name: np.concatenate([values, context[name]])[source] for name, values in examples.context.items()},
        groups=examples.groups,
        history_length=examples.history_length,
    )


def _balanced(examples: Examples | UnorderedExamples, balance: float) -> Examples | UnorderedExamples:
    """The examples with the positives of heavy users weighing less; one without a user is a user's of its own."""
    rows, events = examples.positives()
    user = np.where(examples.user[rows] < 0, -1 - rows, examples.user[rows])
    _, owner = np.unique(user, return_inverse=True)
    together = np.bincount(owner, weights=examples.weights[events])[owner]
    weights = examples.weights.copy()
    weights[events] *= np.maximum(together, np.finfo(np.float32).tiny) ** -balance
    return replace(examples, weights=weights)


def _unordered(items: Int32, weights: Float32, sequence: Int64, **rest: Any) -> UnorderedExamples:
    """The examples of events of the sequences `[events]`; those of one item are one, or it would predict itself."""
    order = np.lexsort((items, sequence))
    items, sequence = items[order], sequence[order]
    new = np.flatnonzero((np.diff(items, prepend=-1) != 0) | (np.diff(sequence, prepend=-1) != 0))
    return UnorderedExamples(
        items=items[new],
        weights=np.add.reduceat(weights[order], new),
        ends=np.cumsum(np.bincount(sequence[new], minlength=len(rest["user"]))),
        **rest,
    )


def _aged(times: Int64, half_life: timedelta | None) -> Float32:
    """The weight of events by their age in microseconds, 1 for the newest, and never so little that it is 0."""
    if half_life is None or not len(times):
        return np.ones(len(times), dtype=np.float32)
    age = (times.max() - times) / (half_life.total_seconds() * 1e6)
    weights: Float32 = np.exp2(-np.minimum(age, 100)).astype(np.float32)
    return weights
