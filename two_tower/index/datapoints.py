"""The records of a Vector Search index as checked columns, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from two_tower import config
from two_tower.contracts import Float32, Int64
from two_tower.errors import ArtifactError
from two_tower.restricts import Restricts, restricts_of, valid_utf8

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_VALUES = 1 << 20
"""How many vector components are turned into text at once."""
NEEDS_ESCAPE = r'["\\\x00-\x1f\x7f-\x{9f}\x{2028}\x{2029}]'
"""What JSON has to escape, and whatever some reader of lines could take for a line's end."""
VALUE_KEYS = {"int64": "value_int", "float": "value_float", "double": "value_double"}
"""The key of a numeric restrict by its Arrow type."""


@dataclass(frozen=True)
class Datapoints:
    """The checked content of an index's records, one row an item."""

    ids: pa.StringArray
    vectors: Float32
    restricts: Restricts

    @property
    def bytes(self) -> int:
        """The size of the content: 4 bytes a vector component, 8 a number, and the text."""
        import pyarrow.compute as pc

        text = [self.ids, *(lists.values for lists in self.restricts.tokens.values())]
        if self.restricts.crowding is not None:
            text.append(self.restricts.crowding)
        characters = sum(pc.sum(pc.binary_length(values)).as_py() or 0 for values in text)
        numbers = sum(len(values) - values.null_count for values in self.restricts.numbers.values())
        return int(self.vectors.nbytes + characters + 8 * numbers)

    @property
    def block_rows(self) -> int:
        """The records of a block of about `BLOCK_VALUES` vector components."""
        dim: int = self.vectors.shape[1]
        return max(1, BLOCK_VALUES // dim)

    def take(self, rows: Int64) -> Datapoints:
        """The records of `rows`, in that order."""
        import pyarrow as pa

        indices = pa.array(rows)
        return Datapoints(self.ids.take(indices), self.vectors[rows], self.restricts.take(indices))

    def blocks(self) -> Iterator[Datapoints]:
        """The records, a block at a time."""
        rows, size = np.arange(len(self.ids), dtype=np.int64), self.block_rows
        return (self.take(rows[start : start + size]) for start in range(0, len(rows), size))


def datapoints_of(
    item_ids: pa.StringArray, vectors: Float32, attributes: pa.Table | None, settings: config.VectorSearchSettings
) -> Datapoints:
    """The checked records; `write_vector_search_input` says what is refused."""
    if vectors.ndim != 2 or not vectors.shape[1] or len(item_ids) != len(vectors):
        raise ValueError(f"expected vectors of shape [{len(item_ids)}, dim], got {list(vectors.shape)}")
    if attributes is not None and len(attributes) != len(item_ids):
        raise ValueError(f"expected attributes of {len(item_ids)} items, got {len(attributes)} rows")
    ids = _checked_ids(item_ids)
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise ArtifactError(f"the vector of item {ids[int(bad[0])].as_py()!r} is not finite")
    return Datapoints(ids, vectors, restricts_of(ids, attributes, settings))


def json_lines(points: Datapoints) -> pa.Buffer:
    """The records as JSON Lines; their vectors have at most 2^31 - 1 components together."""
    import pyarrow as pa
    import pyarrow.compute as pc

    rows, dim = points.vectors.shape
    digits = pc.cast(pa.array(points.vectors.reshape(-1)), pa.string())
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * dim)
    vectors = pc.binary_join(pa.ListArray.from_arrays(offsets, digits), ",")
    members = json_attributes(points)
    lines = _concatenated('{"id":', _quoted(points.ids), ',"embedding":[', vectors, "]", members, "}\n")
    return pc.binary_join(pa.ListArray.from_arrays([0, rows], lines), "")[0].as_buffer()


def json_attributes(points: Datapoints) -> pa.StringArray:
    """Each record's members after its vector, each with a comma before it; "" where it has none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    restricts = [_json_restrict(name, lists) for name, lists in points.restricts.tokens.items()]
    numeric = [_json_numeric_restrict(name, values) for name, values in points.restricts.numbers.items()]
    members = [_json_member("restricts", restricts), _json_member("numeric_restricts", numeric)]
    if points.restricts.crowding is not None:
        members.append(pc.fill_null(_concatenated(',"crowding_tag":', _quoted(points.restricts.crowding)), ""))
    return _concatenated(pc.fill_null(pa.nulls(len(points.ids), pa.string()), ""), *members)


def _checked_ids(item_ids: pa.StringArray) -> pa.StringArray:
    """The ids, each there, not empty, and once."""
    import pyarrow as pa
    import pyarrow.compute as pc

    ids = valid_utf8(item_ids.cast(pa.string()), "an item id")
    if isinstance(ids, pa.ChunkedArray):
        ids = ids.combine_chunks()
    empty = np.flatnonzero(pc.fill_null(pc.equal(ids, ""), True).to_numpy(zero_copy_only=False))
    if len(empty):
        raise ArtifactError(f"the id of row {empty[0]} is missing or empty; Vector Search needs one for every item")
    if pc.count_distinct(ids).as_py() != len(ids):
        counts = pc.value_counts(ids)
        twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))[0].as_py()
        raise ArtifactError(f"the item id {twice!r} stands twice; an index holds an id once")
    return ids


def _json_member(key: str, objects: list[pa.StringArray]) -> pa.StringArray | str:
    """`,"KEY":[OBJECT,...]` of the objects that are not null, and "" where all are."""
    import pyarrow.compute as pc

    if not objects:
        return ""
    # Not with null_handling="skip": Arrow then leaves out the rows where every object is null.
    joined = _concatenated(*(pc.fill_null(_concatenated(",", each), "") for each in objects))
    return pc.if_else(pc.equal(joined, ""), "", _concatenated(f',"{key}":[', pc.ascii_ltrim(joined, ","), "]"))


def _json_restrict(namespace: str, lists: pa.ListArray) -> pa.StringArray:
    """`{"namespace":...,"allow":[...]}`, null for an empty list."""
    import pyarrow as pa
    import pyarrow.compute as pc

    allow = pc.binary_join(pa.ListArray.from_arrays(lists.offsets, _quoted(lists.values)), ",")
    objects = _concatenated(f'{{"namespace":{json.dumps(namespace)},"allow":[', allow, "]}")
    return pc.if_else(pc.equal(allow, ""), pa.scalar(None, pa.string()), objects)


def _json_numeric_restrict(namespace: str, values: pa.Array) -> pa.StringArray:
    """`{"namespace":...,"value_int":...}` with the key of the type, null for null."""
    import pyarrow as pa

    key = VALUE_KEYS[str(values.type)]
    return _concatenated(f'{{"namespace":{json.dumps(namespace)},"{key}":', values.cast(pa.string()), "}")


def _quoted(strings: pa.StringArray) -> pa.StringArray:
    """Strings as JSON; Python's encoder is asked for those only that need escapes."""
    import pyarrow as pa
    import pyarrow.compute as pc

    quoted = _concatenated('"', strings, '"')
    special = pc.fill_null(pc.match_substring_regex(strings, NEEDS_ESCAPE), False)
    if not pc.any(special).as_py():
        return quoted
    escaped = [json.dumps(value) for value in strings.filter(special).to_pylist()]
    return pc.replace_with_mask(quoted, special, pa.array(escaped, pa.string()))


def _concatenated(*parts: pa.StringArray | str) -> pa.StringArray:
    """The parts of each row as one string, null where a part is."""
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(*parts, "")
