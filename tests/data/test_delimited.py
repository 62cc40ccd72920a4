"""Delimited text: every dialect, and the records of Python's `csv`, but for lines that a stray quote has swallowed."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st
from prepared_logs import Row, event, ordinary_log, run, settings, write_rows

from two_tower.config import CsvSettings
from two_tower.data import Prepared, delimited, swallowed
from two_tower.data.delimited import Parsed, parse_text, read_header
from two_tower.data.records import Syntax
from two_tower.data.swallowed import Expected, rows_alike
from two_tower.errors import DataError

LOG = ordinary_log()
LOGGED = Expected(times=("time",))


def parse(text: str | bytes, expected: Expected = LOGGED, *, path: str = "log.csv", **dialect: Any) -> list[Parsed]:
    """A file's content, parsed."""
    content = text.encode() if isinstance(text, str) else text
    syntax = Syntax.of(CsvSettings.model_validate(dialect), path)
    names = read_header(io.BytesIO(content), syntax)
    return list(parse_text(io.BytesIO(content), names, syntax, expected)) if names else []


def records(parts: list[Parsed]) -> list[list[str]]:
    """The rows that were parsed, the missing value being the empty text."""
    return [[value or "" for value in row.values()] for part in parts for row in part.table.to_pylist()]


def numbered(parts: list[Parsed]) -> list[int]:
    """The numbers of all rows, the malformed ones included."""
    return sorted(row for part in parts for row in [*part.rows.tolist(), *(number for number, _ in part.malformed)])


def as_csv(text: str) -> list[list[str]]:
    return [record for record in csv.reader(io.StringIO(text, newline="")) if record]


DIALECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "semicolons": ("user;item;n\nu1;a,b;2\nu2;c;3\n", {"delimiter": ";"}),
    "a tab, as YAML's bare text": ("user\titem\tn\nu1\ta,b\t2\nu2\tc\t3\n", {"delimiter": r"\t"}),
    "two colons": ("user::item::n\nu1::a,b::2\nu2::c::3\n", {"delimiter": "::"}),
    "two colons, quoted": ('user::item::n\nu1::"a,b"::2\nu2::c::3\n', {"delimiter": "::"}),
    "without a header": ("u1;a,b;2\nu2;c;3\n", {"delimiter": ";", "header": False, "names": ["user", "item", "n"]}),
    "other names": ("a;a;a\nu1;a,b;2\nu2;c;3\n", {"delimiter": ";", "names": ["user", "item", "n"]}),
    "a title": ("Report, 2024\n\nuser;item;n\nu1;a,b;2\nu2;c;3\n", {"delimiter": ";", "skip_lines": 2}),
    "comments": ('# it\'s a "log\nuser;item;n\nu1;a,b;2\n#"u9;x\nu2;c;3\n', {"delimiter": ";", "comment": "#"}),
    "single quotes": ("user,item,n\nu1,'a,b',2\nu2,c,3\n", {"quoting": "single"}),
    "escapes": ("user,item,n\nu1,a\\,b,2\nu2,c,3\n", {"escape": "\\"}),
    "blanks behind commas": ('user, item, n\nu1, "a,b", 2\nu2, c, 3\n', {"skip_initial_space": True}),
    "escaped quotes": ('user,item,n\nu1,"a\\,b",2\nu2,c,"3"\n', {"escape": "\\"}),
    "a delimiter of two bytes": ("user§item§n\nu1§a,b§2\nu2§c§3\n", {"delimiter": "§"}),
    "NUL as delimiter": ("user\0item\0n\nu1\0a,b\x002\nu2\0c\x003\n", {"delimiter": "\0"}),
    "blank lines": ("user;item;n\r\n\r\nu1;a,b;2\r\n\r\nu2;c;3\r\n", {"delimiter": ";"}),
    "returns alone": ("user;item;n\ru1;a,b;2\ru2;c;3\r", {"delimiter": ";"}),
    "returns alone, a title": ("Report\ruser;item;n\ru1;a,b;2\ru2;c;3\r", {"delimiter": ";", "skip_lines": 1}),
}


@pytest.mark.parametrize("case", DIALECTS)
def test_a_dialect_is_read_as_it_is_described(case: str) -> None:
    text, dialect = DIALECTS[case]
    parts = parse(text, **dialect)
    assert {tuple(part.table.column_names) for part in parts} == {("user", "item", "n")}
    assert records(parts) == [["u1", "a,b", "2"], ["u2", "c", "3"]]
    assert numbered(parts) == [0, 1]


ESCAPES: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "a line break": ("u1,a\\\nb,1\nu2,c,2\n", {}, ["a\nb", "c"]),
    "a line break, without quoting": ('u1,a\\\n"b,1\nu2,c,2\n', {"quoting": "none"}, ['a\n"b', "c"]),
    "a comma before a quote": ('u1,a\\,"b,1\nu2,c"d,2\n', {}, ['a,"b', 'c"d']),
    "a quote that would open a field": ('u1,\\"a,1\nu2,\\"c,2\n', {}, ['"a', '"c']),
    "a quote that would close a field": ('u1,"a\\",\nb",1\nu2,"c\\\\",2\n', {}, ['a",\nb', "c\\"]),
    "a delimiter of two": ("u1::a\\::b::1\nu2::c::2\n", {"delimiter": "::", "quoting": "none"}, ["a::b", "c"]),
    "nothing, at the end of a comment": ("u1,a,1\n# C:\\\nu2,c,2\n", {"comment": "#"}, ["a", "c"]),
}


@pytest.mark.parametrize("case", ESCAPES)
@pytest.mark.parametrize("piece", [4, 1 << 20])
def test_what_is_escaped_is_ordinary(case: str, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text, dialect, items = ESCAPES[case]
    monkeypatch.setattr(delimited, "PIECE_BYTES", piece)
    parts = parse(text, escape="\\", header=False, names=["user", "item", "n"], **dialect)
    assert records(parts) == [["u1", items[0], "1"], ["u2", items[1], "2"]] and numbered(parts) == [0, 1]


@pytest.mark.parametrize("delimiter", ["\t", ",", "::"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_databases_that_escape_write_for_nothing_is_missing(delimiter: str, end: str) -> None:
    rows = [["u1", "\\N", "1"], ["\\N", "\\N", "\\N"], ["\\NN", "N", "a\\N"]]
    text = end.join(delimiter.join(row) for row in [["user", "item", "n"], *rows])
    found = [["u1", "", "1"], ["", "", ""], ["NN", "N", "aN"]]
    assert records(parse(text, delimiter=delimiter, escape="\\")) == found


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-8-sig", "utf-8"])
def test_a_file_is_read_in_its_encoding(encoding: str) -> None:
    text = "user,item\nJürgen,Käse\nZoë,thé\n"
    assert records(parse(text.encode(encoding), encoding=encoding)) == [["Jürgen", "Käse"], ["Zoë", "thé"]]


def test_quotes_are_characters_where_there_is_no_quoting() -> None:
    parts = parse('user,item\nu1,"The Inch\nu2,12" mix\nu3,"both"\n', quoting="none")
    assert records(parts) == [["u1", '"The Inch'], ["u2", '12" mix'], ["u3", '"both"']]


def test_a_decimal_comma_becomes_a_point_in_numbers_alone() -> None:
    text = "user;item;price;title\nu1;a;19,90;one, two\nu2;1.234;1.234,50;3,5\n"
    parts = parse(text, delimiter=";", decimal=",", types={"price": "number"})
    assert [row["price"] for row in parts[0].table.to_pylist()] == [19.9, 1234.5]
    assert [row["item"] for row in parts[0].table.to_pylist()] == ["a", "1.234"]
    assert [row["title"] for row in parts[0].table.to_pylist()] == ["one, two", "3.5"]


def test_columns_have_the_types_that_they_are_given() -> None:
    kinds = {"n": "integer", "price": "number", "new": "boolean", "code": "text"}
    parts = parse(
        "n,price,new,code\n12,1.5,Y,007\n9007199254740993,,f,\nx,1,1,1\n3,1,maybe,2\n4.0, 2 ,0,3\n", types=kinds
    )
    (part,) = parts
    assert part.table.schema.types[:3] == [pa.int64(), pa.float64(), pa.bool_()]
    assert part.table.to_pylist() == [
        {"n": 12, "price": 1.5, "new": True, "code": "007"},
        {"n": 9007199254740993, "price": None, "new": False, "code": None},
        {"n": 4, "price": 2.0, "new": False, "code": "3"},
    ]
    assert [row for row, _ in part.malformed] == [2, 3] and part.rows.tolist() == [0, 1, 4]


HEADERS: dict[str, tuple[str, list[str]]] = {
    "a line break in a quoted name": (
        'user,item,time,"unit\nprice"\nu,i,1,2\n',
        ["user", "item", "time", "unit\nprice"],
    ),
    "blank names": ("user,,time, \nu,i,1,2\n", ["user", "unnamed_2", "time", "unnamed_4"]),
    "line breaks in two names": (
        'user,"item\r\nid","time\r\n(UTC)"\r\nu,i,1\r\n',
        ["user", "item\r\nid", "time\r\n(UTC)"],
    ),
    "a byte order mark": ("\ufeffuser,item\nu,i\n", ["user", "item"]),
}


@pytest.mark.parametrize("case", HEADERS)
def test_an_odd_header_is_read(case: str) -> None:
    text, names = HEADERS[case]
    parts = parse(text)
    assert parts[0].table.column_names == names and len(records(parts)) == 1


STRAY: dict[str, str] = {
    "never closed": 'user,item,"title,time\nu1,i1,a,2024-01-01\nu2,i2,b,2024-01-02\n',
    "never closed, alone": 'user,item,"title,time\n',
    "closed by a title": 'user,item,"title,time\nu1,i1,a,2024-01-01\nu2,i2,"b",2024-01-02\nu3,i3,c,2024-01-03\n',
    "closed at the next line's end": 'user,item,title,"time\nu1,i1,a,2024-01-01"\nu2,i2,b,2024-01-02\n',
    "closed far below at a line's end": 'user,item,"title,time\nu1,i1,a,2024-01-01\nu2,i2,b,2024-01-02"\n',
}


@pytest.mark.parametrize("case", STRAY)
def test_a_quote_that_opens_in_the_header_and_swallows_rows_is_named(case: str) -> None:
    with pytest.raises(DataError, match=r"a quote opens in the line of the column names.*csv: {quoting: none}"):
        parse(STRAY[case])


HINTS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "semicolons": (
        lambda b: b.replace(b",", b";"),
        r"between the names: set data\.interactions\.csv: {delimiter: ';'}",
    ),
    "two colons": (lambda b: b.replace(b",", b"::"), "set data.interactions.csv: {delimiter: '::'}"),
    "blanks": (lambda b: b.replace(b",", b", "), "set data.interactions.csv: {skip_initial_space: true}"),
    "a title": (lambda b: b"Orders 2020\n\n" + b, "line 3 has the names: set data.interactions.csv: {skip_lines: 2}"),
    "UTF-16": (lambda b: b.decode().encode("utf-16-le"), r"set data\.interactions\.csv: {encoding: utf-16-le}"),
    "no header": (lambda b: b.partition(b"\n")[2], r"csv: {header: false, names: \[c1, c2, c3, ...\]}"),
    "no header, values twice": (
        lambda b: b"7,7,2020-01-01,1\n" + b.partition(b"\n")[2],
        r"names the column '7' twice.*looks like a row.*csv: {header: false",
    ),
}


@pytest.mark.parametrize("case", HINTS)
def test_a_first_line_that_names_no_columns_is_answered_by_what_to_set(tmp_path: Path, case: str) -> None:
    change, match = HINTS[case]
    path = write_rows(tmp_path / "log.csv", LOG)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=match):
        run(tmp_path / "prepared", settings(path))


DEFECTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "too few names": ("u1,i1,3\n", {"header": False, "names": ["user", "item"]}, "csv.names has 2 names.* 3 fields"),
    "a type of no column": (
        "user,item,time\n",
        {"types": {"tiem": "integer"}},
        r"no column 'tiem', which data\.interactions\.csv\.types names; did you mean 'time'",
    ),
    "no byte order mark": ("user,item,time\n", {"encoding": "utf-16"}, r"log\.csv: cannot be read.* start with BOM"),
    "another encoding": ("user,item\n\x81\n", {"encoding": "ascii"}, r"log\.csv: not ascii text.*csv\.encoding"),
}


@pytest.mark.parametrize("case", DEFECTS)
def test_a_dialect_that_does_not_fit_is_named(tmp_path: Path, case: str) -> None:
    text, dialect, match = DEFECTS[case]
    (tmp_path / "log.csv").write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=match):
        run(tmp_path / "prepared", settings(tmp_path / "log.csv", log={"csv": dialect}))


def test_a_dialect_of_files_that_are_no_delimited_text_is_refused(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "log.parquet", LOG)
    with pytest.raises(DataError, match=r"log\.parquet: csv says how delimited text is written"):
        run(tmp_path / "prepared", settings(path, log={"csv": {"delimiter": ";"}}))


# Stray quotes: each case is a log in which a line is spoilt, and what becomes of its lines.

LINES = [f"u{n},i{n % 7},thing {n},2024-01-{n + 1:02} 00:00:00" for n in range(28)]
HEADER = "user,item,title,time"


def spoilt(*lines: tuple[int, str, str]) -> str:
    """The log with some of its lines' titles changed."""
    changed = list(LINES)
    for number, old, new in lines:
        changed[number] = changed[number].replace(old, new)
    return "\n".join([HEADER, *changed]) + "\n"


SWALLOWED: dict[str, tuple[str, list[int]]] = {
    "closed far below": (spoilt((3, "thing", '"thing'), (20, "thing 20", '12" mix')), [*range(3, 21)]),
    "closed at a field's end": (spoilt((3, "thing", '"thing'), (20, "thing 20", 'of 12"')), [*range(3, 21)]),
    "closed by a quoted title": (spoilt((3, "thing", '"thing'), (20, "thing 20", '"A thing"')), [*range(3, 21)]),
    "closed by another fault": (spoilt((3, "thing", '"thing'), (20, "thing 20", '3" nails, 50 pcs')), [*range(3, 21)]),
    "doubled quotes between": (
        spoilt((3, "thing", '"thing'), (9, "thing 9", 'a ""b""'), (20, "thing 20", '12" mix')),
        [*range(3, 21)],
    ),
    "around the last field": (
        spoilt((3, "2024-01-04", '"2024-01-04'), (20, "21 00:00:00", '21 00:00:00"')),
        [*range(3, 21)],
    ),
    "never closed": (spoilt((3, "thing", '"thing')), [*range(3, 28)]),
    "never closed in the last line": (spoilt((27, "thing", '"thing')), [27]),
    "a bad line between": (
        spoilt((3, "thing", '"thing'), (9, "2024-01-10", "soon"), (20, "thing 20", '12" mix')),
        [*range(3, 21)],
    ),
    "within a field": (spoilt((3, "thing 3", '12" mix')), []),
    "closed in its line": (spoilt((3, "thing 3", '"thing" 3')), []),
}  # fmt: skip


@pytest.mark.parametrize("case", SWALLOWED)
def test_lines_that_a_stray_quote_swallows_are_malformed_one_by_one(case: str) -> None:
    text, lost = SWALLOWED[case]
    parts = parse(text)
    assert [row for part in parts for row, _ in part.malformed] == lost
    assert numbered(parts) == [*range(28)]
    lines = text.splitlines()[1:]
    assert [line for part in parts for _, line in part.malformed] == [lines[row] for row in lost]


LEGAL: dict[str, str] = {
    "a review": 'user,item,title,time\nu1,i1,"Good.\n\nReally, it is.\nFour, five, six, seven",2024-01-01\n',
    "a table in a review": 'user,item,title,time\nu1,i1,"a,b,c,d\n1,2,3,4\n5,6,7,8",2024-01-01\nu2,i2,x,2024-01-02\n',
    "rows in a review, and more": 'user,item,title,time\nu1,i1,"as in\nu,i,t,2024-01-01\nyou see",2024-01-01\n',
    "text behind a quote": 'user,item,title,time\nu1,i1,"in quotes" and out,2024-01-01\n',
    "two columns": 'user,item\nu1,"a,b\nc,d"\nu2,x\n',
}


@pytest.mark.parametrize("case", LEGAL)
def test_values_that_legally_have_line_breaks_stay_what_they_are(case: str) -> None:
    parts = parse(LEGAL[case])
    assert records(parts) == as_csv(LEGAL[case])[1:]
    assert not any(part.malformed or part.swallowed for part in parts)


def test_reviews_beside_a_stray_quote_are_not_looked_at_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "user,item,title,time\n" + 'u1,i1,"Good.\nFour, five, six",2024-01-01\n' * 50 + 'u2,i2,"a" b,2024-01-02\n'
    looked_at = []

    def look(record: bytes, *about: Any) -> Any:
        looked_at.append(record)
        return rows_alike(record, *about)

    monkeypatch.setattr(swallowed, "rows_alike", look)
    assert len(records(parse(text))) == 51 and not looked_at


def test_a_value_may_span_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    text = LEGAL["a table in a review"] + 'u3,i3,"' + "long\n" * 50 + '",2024-01-03\n'
    whole = records(parse(text))
    monkeypatch.setattr(delimited, "PIECE_BYTES", 16)
    parts = parse(text)
    assert len(parts) > 2 and records(parts) == whole == as_csv(text)[1:]
    assert numbered(parts) == [0, 1, 2]


def test_a_quote_that_closes_too_far_below_is_taken_for_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "PIECE_BYTES", 64)
    monkeypatch.setattr(delimited, "LONGEST_VALUE", 256)
    parts = parse(spoilt((3, "thing", '"thing')))
    assert numbered(parts) == [*range(28)] and len(records(parts)) > 12
    with pytest.raises(DataError, match=r"row 0: a quote opens here and does not close; .*quoting: none"):
        parse('user,item,title,time\nu1,i1,"' + "no row\n" * 200)


def test_a_log_counts_the_lines_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(spoilt((3, "thing", '"thing'), (7, "thing 7", '12" mix')))
    data = settings(tmp_path / "log.csv", log={"max_bad_share": 0.2})
    prepared = run(tmp_path / "prepared", data)
    assert prepared.summary["rows"] | {"filtered": {}} == {
        "read": 28,
        "kept": 23,
        "filtered": {},
        "set_aside": {"malformed": 5},
    }
    assert prepared.summary["noted"] == {"swallowed:log.csv row 3": 5}
    assert prepared.set_aside()["row"].to_pylist() == [3, 4, 5, 6, 7]


def test_a_table_whose_lines_are_swallowed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text('sku,title,price\n1,"Heroes,3.5\n2,b,1\n3,12" mix,2\n4,d,2\n')
    items = {"path": str(tmp_path / "items.csv"), "id": "sku"}
    with pytest.raises(DataError, match=r"items\.csv: row 0: a quote opens here, and 3 lines become one value.*none"):
        run(tmp_path / "prepared", settings(write_rows(tmp_path / "log.csv", LOG), items=items))


def test_of_a_table_too_it_is_said_that_there_are_more_lines_than_rows(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text('sku,title\n1,"Heroes\n2,b\n3,mix"\n4,d\n')
    items = {"path": str(tmp_path / "items.csv"), "id": "sku"}
    prepared = run(tmp_path / "prepared", settings(write_rows(tmp_path / "log.csv", LOG), items=items))
    assert prepared.summary["noted"]["extra_lines:data.items"] == 2


def test_of_a_table_whose_columns_nobody_has_described_the_other_lines_tell_what_a_row_is(tmp_path: Path) -> None:
    rows = [f"{n:04},thing {n},{n}.5" for n in range(12)]
    rows[3], rows[9] = '0003,"Heroes,3.5', '0009,of 12",9.5'
    (tmp_path / "items.csv").write_text("\n".join(["sku,title,price", *rows]) + "\n")
    items = {"path": str(tmp_path / "items.csv"), "id": "sku"}
    with pytest.raises(DataError, match=r"items\.csv: row 3: a quote opens here, and 7 lines become one value"):
        run(tmp_path / "prepared", settings(write_rows(tmp_path / "log.csv", LOG), items=items))


@pytest.mark.parametrize(
    ("feature", "values"),
    [
        ({"type": "numeric"}, ["3.5", "1.5", "2.5"]),
        ({"type": "bucketized"}, ["3.5", "1.5", "2.5"]),
        ({"type": "timestamp"}, ["2024-01-01", "2024-01-02", "2024-01-03"]),
        ({"type": "text"}, ["3.5", "1.5", "2.5"]),
    ],
)
def test_a_feature_type_tells_a_row_by_what_its_column_holds(
    tmp_path: Path, feature: dict[str, str], values: list[str]
) -> None:
    first, second, third = values
    (tmp_path / "items.csv").write_text(f'sku,title,x\n1,"Heroes,{first}\n2,b,{second}\n3,of 12",{third}\n')
    items = {"path": str(tmp_path / "items.csv"), "id": "sku", "features": {"x": feature}}
    data = settings(write_rows(tmp_path / "log.csv", LOG), items=items)
    if feature["type"] == "text":
        assert run(tmp_path / "prepared", data).summary["tables"]["items"]["rows"] == 1
        return
    with pytest.raises(DataError, match=r"row 0: a quote opens here, and 3 lines become one value"):
        run(tmp_path / "prepared", data)


# Property-based: against `csv` itself.

VALUES = st.text(alphabet='ab,"\n\r é', max_size=6)
RECORDS = st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=12)


def written(rows: list[tuple[str, ...]], *, end: str = "\n", quoting: Any = csv.QUOTE_MINIMAL) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=end, quoting=quoting).writerows([("user", "item", "title", "time"), *rows])
    return text.getvalue()


@given(rows=RECORDS, end=st.sampled_from(["\n", "\r\n"]), every=st.booleans(), piece=st.sampled_from([7, 1 << 20]))
@hypothesis_settings(max_examples=300, deadline=None)
def test_files_with_balanced_quotes_give_exactly_the_records_of_csv(
    rows: list[tuple[str, str, str]], end: str, every: bool, piece: int
) -> None:
    timed = [(*row, f"2024-01-{n + 1:02}") for n, row in enumerate(rows)]
    text = written(timed, end=end, quoting=csv.QUOTE_ALL if every else csv.QUOTE_MINIMAL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "PIECE_BYTES", piece)
        parts = parse(text)
    found = as_csv(text)[1:]
    assert records(parts) == [record for record in found if len(record) == 4]
    assert numbered(parts) == [*range(len(found))]
    assert not any(part.swallowed for part in parts)


WORDS = st.text(alphabet="ab,; é", max_size=5)


@given(
    rows=st.lists(st.tuples(WORDS, WORDS, WORDS, st.booleans()), min_size=2, max_size=15),
    every=st.booleans(),
    data=st.data(),
)
@hypothesis_settings(max_examples=300, deadline=None)
def test_with_one_planted_quote_every_line_is_a_row_or_malformed(
    rows: list[tuple[str, str, str, bool]], every: bool, data: st.DataObject
) -> None:
    timed = [(*row[:3], f"2024-01-{n + 1:02}" if row[3] else "soon") for n, row in enumerate(rows)]
    text = written(timed, quoting=csv.QUOTE_ALL if every else csv.QUOTE_MINIMAL)
    header, _, body = text.partition("\n")
    place = data.draw(st.integers(0, len(body)))
    planted = f'{header}\n{body[:place]}"{body[place:]}'
    lines = [line for line in planted.split("\n")[1:] if line]
    assert numbered(parse(planted)) == [*range(len(lines))]


def test_rows_of_a_prepared_log_do_not_depend_on_how_its_values_are_quoted(tmp_path: Path) -> None:
    def prepared(name: str, quoting: Any) -> Prepared:
        rows: list[Row] = [*LOG, event("u1", 'a "b",\nc', 12, amount=1.0)]
        with open(tmp_path / f"{name}.csv", "w", newline="") as file:
            writer = csv.writer(file, quoting=quoting)
            writer.writerow(rows[0])
            writer.writerows(row.values() for row in rows)
        return run(tmp_path / name, settings(tmp_path / f"{name}.csv"))

    minimal, every = prepared("minimal", csv.QUOTE_MINIMAL), prepared("all", csv.QUOTE_ALL)
    assert minimal.sequences().equals(every.sequences()) and minimal.summary["rows"] == every.summary["rows"]
    assert minimal.summary["noted"] == {"extra_lines:": 1}
