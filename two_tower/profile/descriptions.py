"""What a sketch says about the columns of its table, for people and for the comparison of two profiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from two_tower.columns import readable
from two_tower.contracts import Float64
from two_tower.profile.kinds import Kind
from two_tower.profile.sketches import Sketch
from two_tower.progress import moment_text

TOP = 50
"""Frequent values that a description names."""
_LARGEST = 8.9e307  # half of the largest float64, so that the differences of two values are finite


def describe(sketch: Sketch) -> dict[str, Any]:
    """The sketch as a JSON-able document for people and for `drift.compare_profiles`.

    `rows` and `missing` are counted, `min` and `max` exact, `distinct` estimated where it is not `distinct_exact`.
    The rest is of the sample of `sample` rows: `quantiles`, the 101 percentiles of a column of finite numbers or of
    times (int64 microseconds since 1970), and its `mean`; in `top` its TOP most frequent values, as text with their
    share of the values that are not missing, in `other_share` the share of the others.  Text that consists of nothing
    but numbers counts as numbers, with `min` and `max` of the sample.  Of lists, `top` and `distinct` count elements.
    """
    return {
        "rows": sketch.rows,
        "sample": sketch.sample.height,
        "columns": {name: _described(sketch, name) for name in sketch.columns},
    }


def in_words(described: Mapping[str, Any]) -> str:
    """What a described column holds, for people: its range, or its most frequent values with their shares."""
    low, high = described["min"], described["max"]
    if low is None or high is None:
        return ", ".join(
            f"{text[:24]} {share:.0%}" if share >= 0.005 else text[:24] for text, share in described["top"][:4]
        )
    if "Date" in described["type"]:
        return f"{moment_text(low)} to {moment_text(high)}"
    middle = f", median {_number(described['quantiles'][50])}" if described["quantiles"] else ""
    return f"{_number(low)} to {_number(high)}{middle}"


def _number(value: float) -> str:
    """A number as people write it: whole ones in full."""
    return f"{value:.0f}" if value == round(value) and abs(value) < 1e15 else f"{value:g}"


def _described(sketch: Sketch, name: str) -> dict[str, Any]:
    column, values = sketch.columns[name], sketch.values(name)
    present = sum(typed.rows - typed.missing for typed in column.types.values())
    missing = sketch.rows - present  # with the rows of the files without this column
    types = [type_ for type_ in column.types if type_ != "Null"] or list(column.types)
    measured = _measured(values)
    ends: list[float] | list[int] = []
    if measured is not None:
        counted = [typed for typed in column.types.values() if typed.missing < typed.rows]
        ends = [end for typed in counted for end in (typed.low, typed.high) if end is not None]
        if any(typed.low is None for typed in counted):  # numbers as text
            ends = [float(measured[0]), float(measured[-1])]
    top, other_share = _top(values)
    return {
        "type": " | ".join(types),
        "missing": missing,
        "missing_share": missing / sketch.rows if sketch.rows else 0.0,
        "distinct": column.distinct,
        "distinct_exact": column.distinct_exact,
        "min": min(ends, default=None),
        "max": max(ends, default=None),
        "quantiles": None if measured is None else _percentiles(measured, is_time="time" in values),
        "mean": None if measured is None else float((measured / len(measured)).sum()),
        "top": top,
        "other_share": other_share,
    }


def _measured(values: Mapping[Kind, pl.Series]) -> Float64 | None:
    """The finite numbers or the times of a column, ascending; None where it has none of them or also others."""
    filled = {kind: series for kind, series in values.items() if len(series)}
    if not filled or "list" in filled or ("time" in filled and len(filled) > 1):
        return None
    parsed = pl.concat([_parsed(series).rename("number") for series in filled.values()])
    finite = parsed.filter(parsed.is_finite())
    return None if parsed.null_count() or not len(finite) else finite.sort().to_numpy()


def _parsed(series: pl.Series) -> pl.Series:
    """The values as float64, null where a text is no number."""
    if series.dtype == pl.String:
        series = series.str.strip_chars()
    return series.cast(pl.Float64, strict=False)


def _percentiles(values: Float64, *, is_time: bool) -> list[float] | list[int]:
    found = np.quantile(np.clip(values, -_LARGEST, _LARGEST), np.linspace(0, 1, 101))
    # Interpolation may round a percentile of equal values below the one before.
    found = np.maximum.accumulate(found)
    return [round(one) for one in found.tolist()] if is_time else found.tolist()


def _top(values: Mapping[Kind, pl.Series]) -> tuple[list[list[Any]], float]:
    """The most frequent values, equally frequent ones by their text, with their shares; the share of the others."""
    texts = pl.concat([_texts(kind, series) for kind, series in values.items()] or [pl.Series(dtype=pl.String)])
    if not len(texts):
        return [], 0.0
    counts = (
        pl.DataFrame({"text": texts})
        .group_by("text")
        .agg(pl.len().alias("count"))
        .sort(["count", "text"], descending=[True, False])
    )
    head = counts.head(TOP)
    other = len(texts) - int(head["count"].sum())
    return [[text, count / len(texts)] for text, count in head.iter_rows()], other / len(texts)


def _texts(kind: Kind, series: pl.Series) -> pl.Series:
    """The values as text; a whole number is the same text whether it came as an integer or as a float."""
    if kind == "list":
        return series.explode().drop_nulls().rename("text")
    if kind == "time":
        return readable(series.cast(pl.Datetime("us"))).cast(pl.String).rename("text")
    texts = series.cast(pl.String)
    if kind == "float":
        whole = (series.round() == series) & (series.abs() < 2**53)
        texts = series.cast(pl.Int64, strict=False).cast(pl.String).zip_with(whole, texts)
    return texts.rename("text")
