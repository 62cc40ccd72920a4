"""Columns of every Arrow type, and odd values in them: unnamed they end no run, named they are read or refused."""

from __future__ import annotations

import io
import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prepared_logs import ordinary_log, run, settings, write_rows

from two_tower.columns import plain
from two_tower.data.reading import LogBatch, Unit, plan_units, read_batches
from two_tower.data.rows import CheckedRows, bad_rows, check_rows
from two_tower.errors import DataError
from two_tower.profile import Sketcher, describe, in_words

LARGEST = 2**63 - 1
DIGITS = Decimal("123456789012345678901234567890123456789012345.67")
ALMOST = Decimal("123456789012345678901234567890123456789012345.68")
TEXTS = ["a", None, "", "b" * 40]
BYTES = [b"a", None, b"", b"\xff"]
BROKEN = pa.array([b"a", None, b"\xff\xfe", b"b"])
ENTRIES = [[("a", 1)], None, [], [("a", None)]]


def extended(kind: pa.DataType, values: list[Any]) -> pa.Array:
    return pa.ExtensionArray.from_storage(kind, pa.array(values, kind.storage_type))


def listed(elements: pa.Array) -> pa.Array:
    """Lists of the first element, of nothing, and of the others."""
    return pa.ListArray.from_arrays(pa.array([0, 1, 1, len(elements)], pa.int32()), elements)


def coded(values: pa.Array) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array([0, None, 1, 0], pa.int8()), values)


def nested(depth: int) -> pa.Array:
    array = pa.array([1, 2])
    for _ in range(depth):
        array = pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), array)
    return array


def runs(values: pa.Array) -> pa.Array:
    return pa.RunEndEncodedArray.from_arrays(pa.array([2, 4], pa.int32()), values)


LONG, LENGTHS = pa.decimal256(50, 2), pa.duration("us")
UUIDS = extended(pa.uuid(), [UUID(int=n).bytes if n else None for n in (1, 0, 2, 1)])

COLUMNS: dict[str, tuple[pa.Array, list[Any]]] = {
    # name: the column, and its values as the content of a row that is set aside has them
    "long decimals": (
        pa.array([Decimal("17850.00"), DIGITS, ALMOST, None], LONG),
        ["17850", str(DIGITS), str(ALMOST), None],
    ),
    "BIGNUMERIC": (
        pa.array([Decimal(0), Decimal("1e-38"), None], pa.decimal256(76, 38)),
        ["0", f"0.{'0' * 37}1", None],
    ),
    "lists of long decimals": (
        pa.array([[Decimal("1.50")], None, [], [None]], pa.list_(LONG)),
        [["1.5"], None, [], [None]],
    ),
    "structs of long decimals": (
        pa.array([{"a": Decimal("1.50")}, None, {"a": None}], pa.struct({"a": LONG})),
        [{"a": "1.5"}, None, {"a": None}],
    ),
    "coded long decimals": (coded(pa.array([Decimal(1), Decimal(2)], LONG)), ["1", None, "2", "1"]),
    "short decimals": (pa.array([Decimal("1.50"), None], pa.decimal32(9, 2)), ["1.50", None]),
    "durations": (pa.array([90061000001, None, 0], LENGTHS), ["P1DT1H1M1.000001S", None, "PT0S"]),
    "fine durations": (pa.array([1, None], pa.duration("ns")), ["PT0.000000001S", None]),
    "lists of durations": (pa.array([[1000000, None], None, []], pa.list_(LENGTHS)), [["PT1S", None], None, []]),
    "intervals": (
        pa.array([(1, 2, 3), None, (0, 0, 0)], pa.month_day_nano_interval()),
        ["[1, 2, 3]", None, "[0, 0, 0]"],
    ),
    "seconds of a day": (pa.array([1, None], pa.time32("s")), ["00:00:01", None]),
    "nanoseconds of a day": (pa.array([1, None], pa.time64("ns")), ["00:00:00.000000001", None]),
    "lists of times": (pa.array([[1], None], pa.list_(pa.time32("s"))), [["00:00:01"], None]),
    "more seconds than a day has": (pa.array([90000000, None, 90000001], pa.time32("ms")), [90000000, None, 90000001]),
    "bytes": (pa.array(BYTES), ["61", None, "", "ff"]),
    "large bytes": (pa.array(BYTES, pa.large_binary()), ["61", None, "", "ff"]),
    "views of bytes": (pa.array(BYTES, pa.binary_view()), ["61", None, "", "ff"]),
    "views of text": (pa.array(TEXTS, pa.string_view()), TEXTS),
    "bytes of one length": (pa.array([b"ab", None, b"\xff\x00"], pa.binary(2)), ["6162", None, "ff00"]),
    "coded bytes": (coded(pa.array([b"a", b"\xff"])), ["61", None, "ff", "61"]),
    "lists of bytes": (pa.array([[b"a", None], None, [], [b"\xff"]]), [["61", None], None, [], ["ff"]]),
    "lists of lists of bytes": (pa.array([[[b"\xff"], None], None, []]), [[["ff"], None], None, []]),
    "structs of bytes": (pa.array([{"a": b"\xff"}, None, {"a": None}]), [{"a": "ff"}, None, {"a": None}]),
    "text that is none": (BROKEN.view(pa.string()), ["61", None, "fffe", "62"]),
    "lists of text that is none": (listed(BROKEN.view(pa.string())), [["61"], [], [None, "fffe", "62"]]),
    "UUIDs": (UUIDS, [str(UUID(int=1)), None, str(UUID(int=2)), str(UUID(int=1))]),
    "lists of UUIDs": (listed(UUIDS), [[str(UUID(int=1))], [], [None, str(UUID(int=2)), str(UUID(int=1))]]),
    "JSON": (extended(pa.json_(), ['{"a": 1}', None, "[]"]), ['{"a": 1}', None, "[]"]),
    "large JSON": (extended(pa.json_(pa.large_string()), ["1", None]), ["1", None]),
    "booleans of a byte": (extended(pa.bool8(), [1, None, 0]), [1, None, 0]),
    "an opaque type": (extended(pa.opaque(pa.binary(), "geometry", "vendor"), BYTES), ["61", None, "", "ff"]),
    "tensors": (extended(pa.fixed_shape_tensor(pa.int32(), [1, 2]), [[1, 2], None, [3, 4]]), [[1, 2], None, [3, 4]]),
    "nothing but nulls": (pa.nulls(3), [None, None, None]),
    "coded nulls": (pa.DictionaryArray.from_arrays(pa.nulls(2, pa.int8()), pa.nulls(0)), [None, None]),
    "lists of nulls": (pa.array([[None], None, [], [None, None]]), [[None], None, [], [None, None]]),
    "structs without fields": (pa.array([{}, None], pa.struct([])), [{}, None]),
    "structs with a field twice": (
        pa.StructArray.from_arrays([pa.array([1, 2]), pa.array([3, 3])], names=["a", "a"]),
        [{"a 0": 1, "a 1": 3}, {"a 0": 2, "a 1": 3}],
    ),
    "structs of codes": (
        pa.StructArray.from_arrays([pa.array(TEXTS).dictionary_encode()], names=["a"]),
        [{"a": t} for t in TEXTS],
    ),
    "lists of codes": (listed(pa.array(TEXTS).dictionary_encode()), [["a"], [], TEXTS[1:]]),
    "codes": (pa.array(TEXTS).dictionary_encode(), TEXTS),
    "coded lists": (coded(pa.array([["a"], []])), [["a"], None, [], ["a"]]),
    "coded structs": (coded(pa.array([{"a": 1}, {"a": 2}])), [{"a": 1}, None, {"a": 2}, {"a": 1}]),
    "maps": (
        pa.array(ENTRIES, pa.map_(pa.string(), pa.int64())),
        [[{"key": "a", "value": 1}], None, [], [{"key": "a", "value": None}]],
    ),
    "maps of bytes": (
        pa.array([[(b"\xff", b"a")], None], pa.map_(pa.binary(), pa.binary())),
        [[{"key": "ff", "value": "61"}], None],
    ),
    "maps of long decimals": (
        pa.array([[("a", Decimal("1.50"))], None], pa.map_(pa.string(), LONG)),
        [[{"key": "a", "value": "1.5"}], None],
    ),
    "dense unions": (
        pa.UnionArray.from_dense(
            pa.array([0, 1, 0], pa.int8()), pa.array([0, 0, 1], pa.int32()), [pa.array([1, 2]), pa.array(["1"])]
        ),
        ["1", '"1"', "2"],
    ),
    "sparse unions": (
        pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])]),
        ["1", '"b"'],
    ),
    "runs": (runs(pa.array(["a", None])), ["a", "a", None, None]),
    "runs of long decimals": (runs(pa.array([Decimal("1.50"), None], LONG)), ["1.5", "1.5", None, None]),
    "half floats": (pa.array([1.5, None, 2.0], pa.float16()), [1.5, None, 2.0]),
    "lists of half floats": (pa.array([[1.5], None, []], pa.list_(pa.float16())), [[1.5], None, []]),
    "views of lists": (pa.array([[1], None, []], pa.list_view(pa.int64())), [[1], None, []]),
    "views of large lists": (pa.array([TEXTS, None, []], pa.large_list_view(pa.string())), [TEXTS, None, []]),
    "lists of one length": (pa.array([[1, 2], None, [3, None]], pa.list_(pa.int64(), 2)), [[1, 2], None, [3, None]]),
    "lists of one length of bytes": (
        pa.array([[b"\xff"], None, [None]], pa.list_(pa.binary(), 1)),
        [["ff"], None, [None]],
    ),
    "whole numbers of 64 bits": (pa.array([2**64 - 1, None, 0], pa.uint64()), [2**64 - 1, None, 0]),
    "times with an offset": (
        pa.array([0, None], pa.timestamp("us", "+05:30")),
        ["1970-01-01T00:00:00+00:00", None],
    ),
    "times in a zone that is not known": (
        pa.array([0], pa.timestamp("us", "Mars/Base")),
        ["1970-01-01T00:00:00+00:00"],
    ),
    "dates after year 9999": (pa.array([9_000_000, None], pa.date32()), ["+26611-03-02", None]),
    "dates outside of the calendar": (
        pa.array([2**31 - 1, None, -(2**31), 0], pa.date32()),
        ["5881580-07-11", None, "-5877641-06-23", "1970-01-01"],
    ),
    "for ever": (
        pa.array([LARGEST, None, -LARGEST, 0], pa.timestamp("us")),
        ["294247-01-10T04:00:54.775807", None, "-290308-12-21T19:59:05.224193", "1970-01-01T00:00:00.000000"],
    ),
    "for ever in a zone": (
        pa.array([LARGEST, None], pa.timestamp("us", "Europe/Berlin")),
        ["294247-01-10T04:00:54.775807", None],
    ),
    "lists of for ever": (
        pa.array([[LARGEST], None], pa.list_(pa.timestamp("us"))),
        [["294247-01-10T04:00:54.775807"], None],
    ),
    "lists in lists in lists": (nested(100), [str(nested(100)[n].as_py()) for n in range(2)]),
}


def check(batch: LogBatch, **changes: Any) -> CheckedRows:
    unit = Unit(0, 0, "log.parquet", "parquet", name="log.parquet")
    return check_rows(batch, unit, data=settings("log.parquet", **changes), newest=LARGEST)


def check_file(path: Path, **changes: Any) -> list[CheckedRows]:
    """The rows of a file of one unit."""
    (unit,) = plan_units([{"path": str(path), "format": path.suffix[1:], "name": path.name}])  # type: ignore[list-item]
    return [check(batch, **changes) for batch in read_batches(unit)]


def read_back(array: pa.Array, folder: Path) -> CheckedRows:
    """The column beside ordinary ones, as Parquet gives it, or, of types that Parquet has not, as it is."""
    rows = len(array)
    given = [pa.array(["u"] * rows, pa.string()), pa.array(["i"] * rows, pa.string()), pa.array([10**9] * rows)]
    batch = pa.RecordBatch.from_arrays([*given, array], names=["user", "item", "time", "odd"])
    try:
        pq.write_table(pa.Table.from_batches([batch]), folder / "log.parquet")
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return check(LogBatch(pa.Table.from_batches([plain(batch)]), np.arange(rows), []))
    (checked,) = check_file(folder / "log.parquet")
    return checked


def profiled_and_set_aside(checked: CheckedRows) -> list[Any]:
    """What the content of each row says of the column, if the row were set aside."""
    sketcher = Sketcher()
    sketcher.add(checked.used, hashes=checked.hashes, keys=checked.keys)
    sketcher.sketch().write(io.BytesIO())
    profile = describe(sketcher.sketch())
    assert isinstance(in_words(profile["columns"]["odd"]), str) and json.dumps(profile, allow_nan=False)
    rows = checked.used.height
    aside = bad_rows(checked.used, np.arange(rows), ["malformed"] * rows, file=0)
    return [json.loads(text)["odd"] for text in aside["content"].to_pylist()]


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_of_any_type_is_hashed_profiled_and_set_aside(tmp_path: Path, name: str) -> None:
    array, expected = COLUMNS[name]
    for start in range(2 if len(array) > 1 else 1):  # with an offset too
        checked = read_back(array.slice(start), tmp_path)
        content = profiled_and_set_aside(checked)
        assert content == expected[start:]
        digests = checked.kept["digest"].to_pylist()
        same = [[one == other for one in content] for other in content]
        assert [[one == other for one in digests] for other in digests] == same


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_of_any_type_may_have_no_rows(name: str) -> None:
    array = COLUMNS[name][0].slice(0, 0)
    names = ["user", "item", "time", "odd"]
    batch = pa.RecordBatch.from_arrays([pa.nulls(0, pa.string()), *([pa.nulls(0, pa.int64())] * 2), array], names=names)
    table = pa.Table.from_batches([plain(batch)])
    assert profiled_and_set_aside(check(LogBatch(table, np.arange(0), []))) == []


def odd_log() -> pa.Table:
    """An ordinary log with one column of each type that Parquet can hold, a row without a user, and a duplicate."""
    rows = ordinary_log()
    rows[5]["user"] = None
    table = pa.Table.from_pylist([*rows, rows[0]])
    places = pa.array(np.arange(table.num_rows) % 2)
    places = pa.concat_arrays([places[:-1], places[:1]])
    for number, (array, _) in enumerate(COLUMNS.values()):
        column = plain(pa.RecordBatch.from_arrays([array], names=["x"]))["x"]
        with_column = table.append_column(
            f"odd {number}", column.take(places) if len(array) > 1 else pa.nulls(len(places))
        )
        try:
            pq.write_table(with_column.slice(0, 1), io.BytesIO())
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
            continue
        table = with_column
    return table


def test_unnamed_columns_of_odd_types_stop_no_run(tmp_path: Path) -> None:
    log = odd_log()
    table = pa.table({"id": [f"i{n}" for n in range(11)], "length": pa.array(range(11), LENGTHS)})
    for name in ("long decimals", "lists of bytes", "UUIDs", "lists of one length", "for ever"):
        column = COLUMNS[name][0]
        log = log.append_column(name, column.take(pa.array([0] * log.num_rows)))
        table = table.append_column(name, column.take(pa.array([0] * 11)))
    pq.write_table(log, tmp_path / "log.parquet")
    pq.write_table(table, tmp_path / "items.parquet")
    items = {
        "path": str(tmp_path / "items.parquet"),
        "id": "id",
        "display": ["length", "long decimals", "lists of bytes"],
    }
    prepared = run(tmp_path / "prepared", settings(tmp_path / "log.parquet", items=items))
    assert prepared.summary["rows"]["set_aside"] == {"missing_user": 1, "duplicate": 1}
    assert all(json.loads(text) for text in prepared.set_aside()["content"].to_pylist())
    first = prepared.items().filter(pa.compute.equal(prepared.items()["item_id"], "i1")).to_pylist()[0]
    assert first["display.length"] == "PT0.000001S"
    assert (first["display.long decimals"], first["display.lists of bytes"]) == ("17850", "a")


@pytest.mark.parametrize(
    "twice", [pa.array([3, 4]), pa.array([3, 4], LENGTHS), pa.array([[3], [4]], pa.list_(pa.int8(), 1))]
)
def test_unnamed_columns_of_one_name_stop_no_run_and_stay_apart(tmp_path: Path, twice: pa.Array) -> None:
    facts = {"user": ["u", "u"], "item": ["i", "i"], "time": [1, 1], "x": [1, 1]}
    table = pa.table([*map(pa.array, facts.values()), twice, pa.array([5, 5])], names=[*facts, "x", "x 4"])
    pq.write_table(table, tmp_path / "log.parquet")
    (checked,) = check_file(tmp_path / "log.parquet")
    assert checked.used.columns == ["user", "item", "time", "x", "x 4 4", "x 4"]
    assert checked.used["x 4"].to_list() == [5, 5]
    assert len(set(checked.kept["digest"].to_pylist())) == 2  # rows that differ there alone are no duplicates


def changed_log(folder: Path, column: str, values: pa.Array) -> Path:
    """An ordinary log with these values, over and over, in a column."""
    rows = pa.Table.from_pylist(ordinary_log())
    taken = values.take(pa.array(np.arange(rows.num_rows) % len(values)))
    rows = rows.drop_columns([column]) if column in rows.column_names else rows
    folder.mkdir(exist_ok=True)
    pq.write_table(rows.append_column(column, taken), folder / "log.parquet")
    return folder / "log.parquet"


@pytest.mark.parametrize(
    ("values", "ids"),
    [
        (pa.array([Decimal("17850.00"), DIGITS], LONG), {"17850", str(DIGITS)}),
        (extended(pa.uuid(), [UUID(int=7).bytes, UUID(int=8).bytes]), {str(UUID(int=7)), str(UUID(int=8))}),
        (pa.array(["a", "b"]).dictionary_encode(), {"a", "b"}),
        (pa.array([date(2020, 1, 1), None]), {"2020-01-01"}),
        (pa.array([2**31 - 1, None], pa.date32()), {"5881580-07-11"}),
    ],
)
def test_ids_of_odd_types_are_read(tmp_path: Path, values: pa.Array, ids: set[str]) -> None:
    (checked,) = check_file(changed_log(tmp_path, "item", values))
    assert set(checked.kept["item"].to_pylist()) == ids


def test_times_as_codes_are_read_and_for_ever_is_no_time(tmp_path: Path) -> None:
    texts = pa.Table.from_pylist(ordinary_log())["time"].combine_chunks()
    (checked,) = check_file(changed_log(tmp_path, "time", texts.dictionary_encode()))
    assert checked.kept.num_rows == len(texts)
    for unit in ("us", "ms"):
        for_ever = pa.array([LARGEST, -LARGEST], pa.timestamp(unit))
        path = changed_log(tmp_path, "time", pa.concat_arrays([texts.cast(pa.timestamp(unit))[:-2], for_ever]))
        for zone in ("UTC", "Europe/Berlin"):
            (checked,) = check_file(path, log={"timezone": zone})
            assert checked.bad["reason"].to_pylist() == ["bad_time"] * 2


@pytest.mark.parametrize(
    ("column", "values", "says"),
    [
        ("time", pa.array([1, 2], LENGTHS), r"'time' of type Duration.* cannot hold times"),
        ("time", pa.array([1, 2], pa.time32("s")), r"'time' of type Time cannot hold times"),
        ("time", pa.array(BYTES), r"'time' of type Binary cannot hold times"),
        ("item", pa.array(BYTES), r"'item' holds bytes that are not UTF-8 text"),
        ("item", BROKEN.view(pa.string()), r"'item' holds bytes that are not UTF-8 text"),
        ("item", pa.array([["a"], ["b"]]), r"'item' of type List.* cannot hold ids"),
        ("amount", pa.array([b"1", b"2"]), r"'amount' of type Binary cannot hold numbers"),
        ("amount", pa.array([1, 2], LENGTHS), r"'amount' of type Duration.* cannot hold numbers"),
    ],
)
def test_named_columns_of_odd_types_are_refused_by_file_and_name(
    tmp_path: Path, column: str, values: pa.Array, says: str
) -> None:
    path = changed_log(tmp_path, column, values)
    columns = {"user": "user", "item": "item", "time": "time", "weight": "amount"}
    with pytest.raises(DataError, match=r"log\.parquet: the column " + says):
        run(tmp_path / "prepared", settings(path, log={"columns": columns}))


@pytest.mark.parametrize(
    ("feature", "values", "says"),
    [
        ({"type": "multi_categorical"}, pa.array([[b"a"], [b"\xff"]]), "cannot be a multi_categorical feature"),
        ({"type": "multi_categorical"}, pa.array([[{"a": 1}], []]), "cannot be a multi_categorical feature"),
        ({"type": "numeric"}, pa.array([1, 2], LENGTHS), "cannot be a numeric feature"),
        ({"type": "vector"}, pa.array([[b"a"], [b"b"]]), "cannot be a vector feature"),
        ({"type": "timestamp"}, pa.array([1, 2], LENGTHS), "cannot be a timestamp feature"),
        (None, pa.array([[[1]], []]), "cannot be displayed"),
    ],
)
def test_features_of_odd_types_are_refused(tmp_path: Path, feature: Any, values: pa.Array, says: str) -> None:
    pq.write_table(pa.table({"id": ["i1", "i2"], "odd": values}), tmp_path / "items.parquet")
    items: dict[str, Any] = {"path": str(tmp_path / "items.parquet"), "id": "id"}
    items |= {"features": {"odd": feature}} if feature else {"display": ["odd"]}
    with pytest.raises(DataError, match=says):
        run(tmp_path / "prepared", settings(write_rows(tmp_path / "log.parquet", ordinary_log()), items=items))


def test_features_of_odd_types_that_mean_something_are_read(tmp_path: Path) -> None:
    odd = {
        "tags": pa.array([[b"a", b"b"], None]),
        "price": pa.array([Decimal("1.50"), None], LONG),
        "image": pa.array([[0.5, 1.0], None], pa.list_(pa.float32(), 2)),
    }
    pq.write_table(pa.table({"id": ["i1", "i2"], **odd}), tmp_path / "items.parquet")
    features = {"tags": {"type": "multi_categorical"}, "price": {"type": "numeric"}, "image": {"type": "vector"}}
    items = {"path": str(tmp_path / "items.parquet"), "id": "id", "features": features}
    log = write_rows(tmp_path / "log.parquet", ordinary_log())
    found = run(tmp_path / "prepared", settings(log, items=items)).items().to_pylist()
    first = next(row for row in found if row["item_id"] == "i1")
    assert (first["feature.tags"], first["feature.price"], first["feature.image"]) == (["a", "b"], 1.5, [0.5, 1.0])


VALUES: dict[str, list[str]] = {
    # name: an unnamed value in each of the lines
    "of several kinds": ["1", '"a"', "null", "true", '{"a": 1}', "[]"],
    "of several kinds inside": ['{"a": 1}', '{"a": "x"}', '{"a": [1]}', '{"b": {}}'],
    "lists of several kinds": ["[1]", '["a"]', "[{}]", "[null]", "[[1]]"],
    "beyond 64 bits": [str(2**64), str(-(2**70)), "1", "null"],
    "beyond 64 bits inside": [f'{{"a": {2**70}}}', f"[{2**64}]", "{}"],
    "beyond 128 bits": [str(10**50), "1" + "0" * 400, "1e400"],
    "empty": ["{}", "null", "[{}]", "[[]]"],
    "deep": ["[" * 100 + "]" * 100, "[" * 3000 + "]" * 3000, '{"a":' * 100 + "1" + "}" * 100],
}


@pytest.mark.parametrize("name", VALUES)
def test_what_json_lines_hold_stops_no_run(tmp_path: Path, name: str) -> None:
    row = '{"user": "u", "item": "i", "time": 1000000000, "odd": '
    path = tmp_path / "log.jsonl"
    path.write_text("".join(f"{row}{value}}}\n" for value in VALUES[name]))
    (checked,) = check_file(path)
    assert len(profiled_and_set_aside(checked)) + checked.bad.num_rows == len(VALUES[name])
    assert set(checked.bad["reason"].to_pylist()) <= {"malformed"}
