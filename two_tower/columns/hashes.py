"""Hashes of columns and rows that the shards, the profiles and the search for duplicates go by."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

SHORT_WORDS = 16
"""Texts of so many words of 8 bytes are hashed side by side."""
UInt64 = npt.NDArray[np.uint64]


def stable_hash(texts: pa.Array) -> UInt64:
    """A hash `[rows]` of each string that is the same on every machine and in every version.

    A polynomial in the words of 8 bytes, the last one padded with zeros, so that NumPy computes it for all at once.
    """
    texts = texts.cast(pa.large_binary())
    _, offsets_buffer, data_buffer = texts.buffers()
    offsets = np.frombuffer(offsets_buffer, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    data = np.frombuffer(data_buffer or b"", dtype=np.uint8)[offsets[0] : offsets[-1]]
    lengths = np.diff(offsets)
    words = (lengths + 7) // 8
    most = int(words.max(initial=0))
    powers = np.cumprod(np.full(most, 0x9E3779B97F4A7C15, dtype=np.uint64))
    begins = offsets[:-1] - offsets[0]
    if most <= SHORT_WORDS:
        padded = np.zeros((len(texts), 8 * most), dtype=np.uint8)
        for place in range(int(lengths.max(initial=0))):
            rows = np.flatnonzero(lengths > place)
            padded[rows, place] = data[begins[rows] + place]
        sums = (padded.view("<u8").astype(np.uint64) * powers).sum(axis=1, dtype=np.uint64)
    else:  # a table as wide as the longest text could be too large
        starts = np.cumsum(words) - words
        joined = np.zeros(8 * int(words.sum()), dtype=np.uint8)
        joined[np.arange(len(data)) + np.repeat(8 * starts - begins, lengths)] = data
        values = joined.view("<u8").astype(np.uint64) * powers[np.arange(len(joined) // 8) - np.repeat(starts, words)]
        totals = np.concatenate([np.zeros(1, np.uint64), np.cumsum(values, dtype=np.uint64)])
        sums = totals[starts + words] - totals[starts]
    return _mixed(sums + lengths.astype(np.uint64))


def stable_order(*keys: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The rows sorted by the keys, the first counting most; equal ones stay in their order.

    Codes of 16 bits are counted instead of compared, and what is sorted already, as times in log files mostly are, is
    left alone: 3 to 10 times as fast as `numpy.lexsort`.
    """
    order = np.arange(len(keys[0]))
    for key in reversed(keys):
        values = key[order]
        if (values[1:] >= values[:-1]).all():
            continue
        if values.dtype.itemsize == 8 or values.min() < 0:
            order = order[np.argsort(values, kind="stable")]
            continue
        for shift in range(0, int(values.max()).bit_length(), 16):
            digits = (key[order] >> shift).astype(np.uint16)
            order = order[np.argsort(digits, kind="stable")]
    return order


def share_hash(texts: pa.Array) -> npt.NDArray[np.float64]:
    """A number `[rows]` from 0 to below 1 for each string, the same on every machine, that looks random."""
    shares: npt.NDArray[np.float64] = (_mixed(stable_hash(texts)) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return shares


def row_keys(file: str, rows: npt.NDArray[np.int64], digests: UInt64) -> UInt64:
    """A number `[rows]` for each row of a file that looks random, and is the same whatever other files there are."""
    return _mixed((rows.astype(np.uint64) + np.uint64(zlib.crc32(file.encode()) << 32)) ^ digests)


def column_hashes(frame: pl.DataFrame) -> dict[str, UInt64]:
    """A 64-bit hash `[rows]` of each value by column, other columns giving other hashes; a null has some hash too.

    Equal only within one version of polars.
    """
    found = {}
    for column in frame.get_columns():
        values = column.cast(pl.String) if isinstance(column.dtype, (pl.Categorical, pl.Enum)) else column
        values = values.cast(pl.Int64) if values.dtype.is_integer() and values.dtype != pl.UInt64 else values
        hashed = values.hash(seed=7)
        if values.dtype.is_float():  # a JSON block without decimals has integers where the next one has floats
            whole = (values.round() == values).fill_null(False) & (values.abs() < 2**53).fill_null(False)
            hashed = values.cast(pl.Int64, strict=False).hash(seed=7).zip_with(whole, hashed)
        found[column.name] = _mixed(hashed.to_numpy() ^ np.uint64(zlib.crc32(column.name.encode()) * 0x9E3779B1))
    return found


def row_digests(frame: pl.DataFrame, hashes: dict[str, UInt64]) -> UInt64:
    """A 64-bit digest `[rows]` of all the columns of each row, in which a missing column counts like a null one."""
    digests = np.zeros(frame.height, dtype=np.uint64)
    for name, hashed in hashes.items():
        nulls = frame[name].is_null()
        digests += np.where(nulls.to_numpy(), np.uint64(0), hashed) if nulls.any() else hashed
    return digests


def _mixed(values: UInt64) -> UInt64:
    """The finaliser of SplitMix64 (Steele et al., "Fast Splittable Pseudorandom Number Generators", 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
