"""Fingerprints of rows: 128 bits that tell whether a candidate still has the values that it was embedded with.

They depend on the values alone: not on the batch a row stands in, not on how Arrow lays it out, and not on the version
of a library, since the arithmetic is written out here over 64-bit words. `METHOD` is to be changed with it.

A value is cut into words of 8 bytes; each is mixed with its place (multiply, shift, exclusive or) and added up, and the
sum goes through the finaliser of SplitMix64 (Steele et al., "Fast Splittable Pseudorandom Number Generators", 2014).
Two values of one candidate agree by accident once in about 2^64 times. It is no protection against forgery.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from two_tower.contracts import Int64

UInt64 = npt.NDArray[np.uint64]

METHOD = 1
BYTES = 16
CACHED = 4096
"""Rows whose words are in the processor's cache together, which halves the time."""
WORD = 8
GOLDEN, FIRST, SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
NULL, NOT_A_NUMBER = np.uint64(0x6E756C6C), np.uint64(0x7FF8000000000000)
TAIL_MASKS = np.array([2 ** (8 * n) - 1 for n in range(WORD + 1)], dtype=np.uint64)
"""What is kept of a word of which only the first n bytes belong to the value."""


def fingerprints(table: pa.Table | pa.RecordBatch, columns: Sequence[str]) -> UInt64:
    """The fingerprints `[rows, 2]` of the values of `columns`, whatever their order.

    Raises:
        TypeError: A column has a type for which there is no fingerprint.
    """
    low, high = np.zeros(table.num_rows, dtype=np.uint64), np.zeros(table.num_rows, dtype=np.uint64)
    for name in columns:
        column, odd = _array(table[name]), np.array([zlib.crc32(name.encode()) << 1 | 1], dtype=np.uint64)
        for start in range(0, len(column), CACHED):
            values = _hashes(column.slice(start, CACHED))
            low[start : start + CACHED] += values * (odd * FIRST)
            high[start : start + CACHED] += values * (odd * SECOND)
    return np.stack([_finished(low), _finished(high)], axis=1)


def as_binary(found: UInt64) -> pa.FixedSizeBinaryArray:
    """Fingerprints `[rows, 2]` as an Arrow column of 16 bytes each."""
    buffer = pa.py_buffer(np.ascontiguousarray(found))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(BYTES), len(found), [None, buffer])


def from_binary(column: pa.ChunkedArray) -> UInt64:
    """The fingerprints `[rows, 2]` of such a column."""
    array = _array(column)
    words = np.frombuffer(array.buffers()[1], dtype=np.uint64).reshape(-1, 2)
    return words[array.offset : array.offset + len(array)]


def _array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.array([], column.type)])


def _hashes(array: pa.Array) -> UInt64:
    """The hashes `[rows]` of an array's values."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        known = np.append(_hashes(array.dictionary), NULL)
        found: UInt64 = known[np.asarray(pc.fill_null(array.indices.cast(pa.int64()), len(known) - 1))]
        return found
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        found = _text_hashes(array.cast(pa.large_binary()))
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        found = _list_hashes(array)
    else:
        found = _finished(_words(array) + GOLDEN)
    return np.where(np.asarray(pc.is_null(array)), NULL, found) if array.null_count else found


def _words(array: pa.Array) -> UInt64:
    """Values of up to 8 bytes as words `[rows]`; all NaNs are one, a null is any."""
    kind = array.type
    if pa.types.is_floating(kind):
        numbers = np.asarray(pc.fill_null(array, 0.0), dtype=np.float64)
        return np.where(np.isnan(numbers), NOT_A_NUMBER, numbers.view(np.uint64))
    if pa.types.is_temporal(kind):
        array = array.cast(pa.int32() if kind.bit_width == 32 else pa.int64())
    if pa.types.is_integer(array.type) or pa.types.is_boolean(kind):
        filled = np.asarray(pc.fill_null(array, False if pa.types.is_boolean(kind) else 0))
        return filled.astype(np.int64 if filled.dtype.kind == "i" else np.uint64).view(np.uint64)
    raise TypeError(f"no fingerprint for values of type {kind}")


def _text_hashes(array: pa.Array) -> UInt64:
    """The hashes `[rows]` of large_binary values."""
    offsets = np.frombuffer(array.buffers()[1], dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    lengths = np.diff(offsets)
    counts = -(-lengths // WORD)
    ends = np.cumsum(counts)
    data = array.buffers()[2]
    text = np.frombuffer(data, dtype=np.uint8)[offsets[0] : offsets[-1]] if data else np.zeros(0, dtype=np.uint8)
    text = np.append(text, np.zeros(WORD, dtype=np.uint8))
    unaligned = np.ndarray(len(text) - WORD + 1, dtype="<u8", buffer=text, strides=(1,))
    firsts = offsets[:-1] - offsets[0] - WORD * (ends - counts)
    words = unaligned[np.repeat(firsts, counts) + WORD * np.arange(len(firsts) and ends[-1])]
    last = counts > 0
    words[ends[last] - 1] &= TAIL_MASKS[(lengths[last] - 1) % WORD + 1]
    return _summed(words, counts, lengths)


def _list_hashes(array: pa.Array) -> UInt64:
    """The hashes `[rows]` of lists, by those of their entries."""
    lengths = np.asarray(pc.fill_null(pc.list_value_length(array), 0), dtype=np.int64)
    return _summed(_hashes(pc.list_flatten(array)), lengths, lengths)


def _summed(words: UInt64, counts: Int64, lengths: Int64) -> UInt64:
    """A hash of each row's words, of which there are `counts`, and of its length."""
    ends = np.cumsum(counts)
    place = np.arange(1, len(words) + 1) - np.repeat(ends - counts, counts)
    mixed = (words ^ (place.view(np.uint64) * GOLDEN)) * FIRST
    mixed ^= mixed >> np.uint64(32)
    mixed *= SECOND
    totals = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(mixed, dtype=np.uint64)])
    return _finished(totals[ends] - totals[ends - counts] + lengths.view(np.uint64) * GOLDEN)


def _finished(values: UInt64) -> UInt64:
    values = (values ^ (values >> np.uint64(30))) * FIRST
    values = (values ^ (values >> np.uint64(27))) * SECOND
    return values ^ (values >> np.uint64(31))
