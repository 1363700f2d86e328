"""Tables are read and written: what csv, json and pyarrow write is read back, and rows keep all their columns."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import warnings
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tapegpt import TapeGPTError, TapeGPTWarning
from tapegpt.data import packed
from tapegpt.data.sources import Source
from tapegpt.data.tables import read_rows
from tapegpt.data.writers import table_writer

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

pytestmark = [
    pytest.mark.filterwarnings("ignore:.* in its first row is taken for the name"),
    pytest.mark.filterwarnings("ignore:the table has a column 'nats'"),  # one test awaits it
]


@pytest.fixture(autouse=True, scope="module")
def _place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    former = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("tables"))
    yield
    os.chdir(former)


CELLS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
PLAIN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters='"\r\n'), max_size=6)
TABLES = st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), max_size=9))
KINDS = ("csv", "tsv", "jsonl", "parquet")
NAMES = ("a", "b", "nats", "d")
SCORE = 0.5


def fed(cell: str) -> str:
    return cell.replace("\r\n", "\n").replace("\r", "\n")


def written(source: Source, kind: str, replaced: bool = False) -> bytes:
    """The table as it is written again, with scores, or with other values in the column."""
    stream = io.BytesIO()
    with table_writer(stream, kind, source) as write:
        for rows in source.tables():
            if replaced:
                write(rows.replace([None if value is None else f"<{value}>" for value in rows.values]), {})
            else:
                write(rows, {"nats": array("d", [SCORE if value else math.nan for value in rows.values])})
    return stream.getvalue()


def rows_in(kind: str, data: bytes, separator: str, quoting: Literal[0, 3], header: bool) -> list[list[Any]]:
    """The rows of a table, those of a header too, by the modules that others use."""
    if kind == "jsonl":
        objects = [json.loads(line) for line in data.decode().split("\n")[:-1]]
        return [list(objects[0]), *map(list, (row.values() for row in objects))] if objects else []
    if kind == "parquet":
        table = pq.read_table(io.BytesIO(data))
        return [table.column_names, *map(list, zip(*[column.to_pylist() for column in table.columns], strict=True))]
    text = io.StringIO(data.decode(), newline="")
    return list(csv.reader(text, delimiter="\t" if kind == "tsv" else separator, quoting=quoting, strict=True))


@given(
    TABLES,
    st.sampled_from(KINDS),
    st.characters(exclude_categories=["Cs"], exclude_characters='"\r\n'),
    st.booleans(),
    st.booleans(),
    st.integers(1, 40),
    st.booleans(),
)
def test_rows_keep_their_columns(
    rows: list[list[str]], kind: str, separator: str, quotes: bool, header: bool, chunk: int, replaced: bool
) -> None:
    """Whatever the separator and the quotation marks, and the pieces that it is read in; in order, blank ones too."""
    if not quotes:  # such a cell can hold no separator
        rows = [[fed(cell).translate(dict.fromkeys(map(ord, f"{separator}\t\n"))) for cell in row] for row in rows]
        assume(all(any(row) for row in rows))
    assume(header or rows)
    width = len(rows[0]) if rows else 2
    names = list(NAMES[:width]) if header else [str(number + 1) for number in range(width)]
    assume(quotes or separator not in f"{SCORE}{''.join(names)}<>")
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    stream, mark = io.StringIO(newline=""), '"' if quotes else None
    writer = csv.writer(stream, delimiter=separator, quotechar=mark, quoting=quoting)
    writer.writerows([names, *rows] if header else rows)
    Path("t.csv").write_text(stream.getvalue(), encoding="utf-8", newline="")
    source = Source(paths=("t.csv",), column=names[-1], header=header, separator=separator, quotes=quotes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "CHUNK", chunk)
        data = written(source, kind, replaced)
    found = rows_in(kind, data, separator, quoting, header)
    expected = [list(map(fed, row)) for row in rows]
    if kind in ("jsonl", "parquet") or header:
        added = [] if replaced else ["nats_2" if "nats" in names else "nats"]
        assert found[:1] in ([[*names, *added]], [])
        found = found[1:]
    if replaced:
        expected = [[*row[:-1], f"<{row[-1]}>"] for row in expected]
    else:
        is_text = kind in ("csv", "tsv")
        some, nothing = (str(SCORE), "") if is_text else (SCORE, None)
        expected = [[*row, some if row[-1] else nothing] for row in expected]  # type: ignore[list-item]
    assert found == expected


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=4)
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=2), inner, max_size=2)),
    max_leaves=4,
)


@given(st.lists(st.dictionaries(st.sampled_from(["x", "y", "\u2028"]), VALUES), min_size=1), st.booleans())
def test_objects_of_json_stay_as_they_are(objects: list[dict[str, Any]], is_array: bool) -> None:
    """Each with its own keys, in their order, and numbers as they were written."""
    objects = [{**each, "name": "anna"} for each in objects]
    lines = [json.dumps(each) for each in objects]
    name = f"t.{'json' if is_array else 'jsonl'}"
    Path(name).write_text(f"[{','.join(lines)}]" if is_array else "\n".join([*lines, "", ""]), encoding="utf-8")
    found = written(Source(paths=(name,), column="name"), "jsonl").decode()
    assert list(map(json.loads, found.splitlines())) == [{**each, "nats": SCORE} for each in objects]
    replaced = written(Source(paths=(name,), column="name"), "jsonl", replaced=True).decode()
    assert list(map(json.loads, replaced.splitlines())) == [{**each, "name": "<anna>"} for each in objects]


@pytest.mark.parametrize(
    ("name", "text", "kind", "expected"),
    [
        ("t.jsonl", '{"a": {"b": "x"}, "n": 1.50}\n{"n": 1e400}\n', "jsonl",
         '{"a": {"b": "x"}, "n": 1.50, "nats": 0.5}\n{"n": 1e400, "nats": null}\n'),
        ("t.jsonl", '{"a": {"b": "x"}, "n": 1.50}\n{"n": true}\n', "csv",
         'a,n,nats\n"{""b"": ""x""}",1.50,0.5\n,true,\n'),
        ("t.csv", "a.b;c\nx;1\n\ny\n", "csv", "a.b;c;nats\nx;1;0.5\ny;;0.5\n"),
        ("t.csv", "a.b;c\nx;1\n", "tsv", "a.b\tc\tnats\nx\t1\t0.5\n"),
        ("t.tsv", "a.b\tc\nx\t1\n", "csv", "a.b,c,nats\nx,1,0.5\n"),
        ("t.csv", "a.b,c,c\n", "csv", "a.b,c,c,nats\n"),
        ("t.csv", 'a.b\nx\n\n"y\r"\n', "csv", 'a.b,nats\nx,0.5\n,\n"y\n",0.5\n'),
        ("t.jsonl", '{"a.b": "x\\ry"}\n', "csv", '"a.b","nats"\n"x\ry","0.5"\n'),
        ("t.csv", "", "csv", ""),
    ],
)  # fmt: skip
def test_what_is_written(name: str, text: str, kind: str, expected: str) -> None:
    Path(name).write_text(text, encoding="utf-8", newline="")
    assert written(Source(paths=(name,), column="a.b"), kind).decode() == expected


def test_strings_are_a_table_of_one_column() -> None:
    Path("t.txt").write_text("anna\n\nbob, eve\n", encoding="utf-8")
    assert written(Source(paths=("t.txt",)), "csv").decode() == 'text,nats\nanna,0.5\n,\n"bob, eve",0.5\n'
    Path("t.json").write_text('["anna", null, 1.50]', encoding="utf-8")
    expected = '{"text": "anna", "nats": 0.5}\n{"text": null, "nats": null}\n{"text": 1.50, "nats": 0.5}\n'
    assert written(Source(paths=("t.json",)), "jsonl").decode() == expected
    replaced = '{"text": "<anna>"}\n{"text": null}\n{"text": "<1.50>"}\n'
    assert written(Source(paths=("t.json",)), "jsonl", replaced=True).decode() == replaced


def test_a_column_of_another_name_is_told() -> None:
    Path("t.csv").write_text("name,nats,nats_2\nanna,1,2\n", encoding="utf-8")
    with pytest.warns(TapeGPTWarning, match=r"^the table has a column 'nats': what is added is called nats_3$"):
        assert written(Source(paths=("t.csv",), column="name"), "csv") == b"name,nats,nats_2,nats_3\nanna,1,2,0.5\n"


@pytest.mark.parametrize(
    ("files", "kind", "message"),
    [
        ({"a.csv": "n\nx\n", "b.csv": "m\nx\n"}, "csv", "columns n and m make no table together"),
        ({"a.jsonl": '{"n": "x"}\n', "b.jsonl": '{"n": "x"}\n{"n": "x", "m": 1}\n'}, "csv", "line 2: has a key"),
        ({"a.jsonl": '{"n": "x"}\n', "b.jsonl": '{"n": "x", "m": 1}\n'}, "parquet", "b.jsonl: line 1: has a key 'm'"),
        ({"a.jsonl": '{"n": "x"}\n', "b.jsonl": '{"n": "x", "nats": 1}\n'}, "jsonl", "has a column nats later on"),
        ({"a.jsonl": '{"n": "x", "m": 1}\n', "b.jsonl": '{"n": "x", "m": "y"}\n'}, "parquet", "no table of Parquet"),
        ({"a.csv": "n\nx\n", "b.csv": "m\nx\n"}, "parquet", "columns n and m make no table together"),
        ({"a.csv": "n,n\nx,y\n"}, "jsonl", "several columns 'n', of which JSON would keep one"),
        ({"a.parquet": "PAR1", "b": ""}, "csv", "a.parquet: is not parquet as it should be"),
        ({"a.arrow": "ARROW1"}, "csv", "a.arrow: is not arrow as it should be"),
        ({"a.feather": ""}, "csv", "a.feather: is not arrow as it should be"),
    ],
)  # fmt: skip
def test_tables_that_make_none(files: dict[str, str], kind: str, message: str, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(TapeGPTError, match=message):
        written(Source(paths=(str(tmp_path),), column="n" if "csv" not in next(iter(files)) else "1"), kind)


@pytest.mark.parametrize("every", [True, False])
def test_rows_are_there_as_soon_as_their_ends_are(every: bool) -> None:
    """As from a pipe; a cell may go on in what is still to come."""
    asked = []

    def pieces() -> Iterator[str]:
        for piece in ("a,b\n1,2\n", '3,"4\n', '5"\n6,7\n', '8,"9"\n'):
            asked.append(piece)
            yield piece

    rows = read_rows("t.csv", "csv", pieces(), Source(paths=("t.csv",), column="a"), every)
    assert [(value, len(asked)) for some in rows for value in some.values] == [("1", 1), ("3", 3), ("6", 3), ("8", 4)]
    lines = read_rows("t.jsonl", "jsonl", iter(['"x"\n"y"\n', '"z"\n']), Source(paths=("t.jsonl",)), every)
    assert [list(some.values) for some in lines] == [["x", "y"], ["z"]]


# --- Parquet and Arrow ------------------------------------------------------------------------------------------


def save(table: Any, name: str) -> None:
    from pyarrow import feather, ipc  # type: ignore[import-untyped]  # it has no type hints

    if name.endswith(".parquet"):
        pq.write_table(table, name, row_group_size=2)
    elif name.endswith(".feather"):
        feather.write_feather(table, name)
    else:
        with pa.OSFile(name, "wb") as file, ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)


@pytest.mark.parametrize("name", ["t.parquet", "t.feather", "t.arrow"])
@given(cells=st.lists(st.one_of(st.none(), CELLS), max_size=5))
def test_columns_of_arrow_are_read(name: str, cells: list[str | None]) -> None:
    for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        save(pa.table({"at": list(range(len(cells))), "name": pa.array(cells, pa.string()).cast(kind)}), name)
        data = Path(name).read_bytes()
        source = Source(paths=(name,), column="name")
        assert [value for rows in source.tables() for value in rows.values] == cells
        expected = [cell.strip() for cell in cells if cell and cell.strip()]
        assert source.values(name, data) == [cell for cell in cells if cell is not None]
        assert [text for texts in source.batches() for text in texts] == expected
        replaced = pq.read_table(io.BytesIO(written(source, "parquet", replaced=True)))
        assert replaced["name"].to_pylist() == [None if cell is None else f"<{cell}>" for cell in cells]


def test_types_stay_in_parquet() -> None:
    from datetime import date

    table = pa.table({"at": [date(2020, 1, 2), None], "n": pa.array([1, 2], pa.int8()), "name": ["anna", None]})
    save(table, "types.parquet")
    source = Source(paths=("types.parquet",), column="name")
    found = pq.read_table(io.BytesIO(written(source, "parquet")))
    assert found.drop_columns("nats").equals(table)
    assert found["nats"].to_pylist() == [SCORE, None]
    assert written(source, "csv").decode() == "at,n,name,nats\n2020-01-02,1,anna,0.5\n,2,,\n"
    assert (
        written(source, "jsonl").decode().splitlines()[0] == '{"at": "2020-01-02", "n": 1, "name": "anna", "nats": 0.5}'
    )


def test_types_that_differ_between_files(tmp_path: Path) -> None:
    """A column that has only nulls at first is one of text; others are converted, or it is said that they cannot be."""
    save(pa.table({"name": ["anna"], "n": pa.array([None])}), str(tmp_path / "a.parquet"))
    save(pa.table({"name": ["bob"], "n": pa.array([7])}), str(tmp_path / "b.parquet"))
    source = Source(paths=(str(tmp_path),), column="name")
    assert pq.read_table(io.BytesIO(written(source, "parquet")))["n"].to_pylist() == [None, "7"]
    save(pa.table({"name": ["anna"], "n": pa.array([7])}), str(tmp_path / "a.parquet"))
    save(pa.table({"name": ["bob"], "n": pa.array(["x"])}), str(tmp_path / "b.parquet"))
    with pytest.raises(
        TapeGPTError, match=r"^the rows make no table of Parquet: Failed to parse string: .*: choose another format"
    ):
        written(source, "parquet")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (None, "t.parquet: has more than one column: choose column from at, 2, 3"),
        ("x", "t.parquet: there is no column 'x': choose column from at, 2, 3"),
        ("name", "t.parquet: there is more than one column 'name'"),
        ("at", "t.parquet: column at must hold strings, not 1: choose another column"),
    ],
)
def test_columns_that_are_not_there(column: str | None, message: str) -> None:
    save(pa.Table.from_arrays([pa.array([1]), pa.array(["a"]), pa.array(["b"])], ["at", "name", "name"]), "t.parquet")
    with pytest.raises(TapeGPTError, match=message):
        Source(paths=("t.parquet",), column=column).documents()


def test_columns_that_are_called_alike_are_read_by_their_numbers() -> None:
    columns = [pa.array(["a"]), pa.array(["b"]), pa.array([{"c": "d"}]), pa.array(["e"])]
    save(pa.Table.from_arrays(columns, ["x", "x", "y", "y.c"]), "alike.parquet")
    for column, text in (("1", "a"), ("2", "b"), ("y.c", "e")):
        source = Source(paths=("alike.parquet",), column=column)
        assert source.documents() == [value for rows in source.tables() for value in rows.values] == [text]


def test_where_pyarrow_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    Path("t.csv").write_text("name\nanna\n", encoding="utf-8")
    for read in (lambda: Source(paths=("t.parquet",), format="parquet").values("t.parquet", b""),
                 lambda: written(Source(paths=("t.csv",), column="name"), "parquet")):  # fmt: skip
        with pytest.raises(TapeGPTError, match=r"^pyarrow, .*is not installed: run pip install '.\[tables\]'"):
            read()


# --- encodings --------------------------------------------------------------------------------------------------


@given(
    st.lists(st.binary(max_size=5).map(lambda line: line.replace(b"\n", b"").replace(b"\r", b"")), max_size=8),
    st.sampled_from(["utf-8", "ascii", "cp1252"]),
    st.integers(1, 9),
)
def test_mixed_encodings(lines: list[bytes], encoding: str, chunk: int) -> None:
    """What is not of the encoding is replaced as Python does it, or its strings are left out; told are how many."""
    assume(not b"".join(lines).startswith(b"\xef\xbb\xbf") and b"\0" not in b"".join(lines))
    data = b"\n".join([*lines, b"end"])
    assume(packed.packing_of(data) is None)
    Path("mixed.txt").write_bytes(data)
    replaced = [line.decode(encoding, "replace") for line in data.split(b"\n")]
    bad = [line for line in data.split(b"\n") if not decodes(line, encoding)]
    whole = [line.decode(encoding) for line in data.split(b"\n") if decodes(line, encoding)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "CHUNK", chunk)
        for errors, expected in (("replace", replaced), ("skip", whole)):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                source = Source(paths=("mixed.txt",), encoding=encoding, errors=errors)
                found = [text for rows in source.tables() for text in rows.values]
            assert found == expected
            assert len(caught) == bool(bad)
            if bad:
                first = data.split(b"\n").index(bad[0]) + 1
                assert str(caught[0].message).endswith(f"the first in line {first}")
                if errors == "skip":
                    assert f" {len(bad)} string" in str(caught[0].message)


def decodes(line: bytes, encoding: str) -> bool:
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def test_rows_that_are_not_of_the_encoding() -> None:
    Path("t.csv").write_bytes(b'n\xffme,age\nanna,5\nb\xffb,7\neve,"\xff"\n')
    source = Source(paths=("t.csv",), column="1", errors="skip")
    with pytest.warns(TapeGPTWarning, match=r"^t.csv: is not all utf-8: 2 strings left out, the first in line 1$"):
        assert written(source, "csv") == "n\ufffdme,age,nats\nanna,5,0.5\n".encode()
    with pytest.warns(
        TapeGPTWarning, match=r"^t.csv: is not all utf-8: 3 places replaced by U\+FFFD, the first in line 1$"
    ):
        assert source.replace(errors="replace").documents() == ["anna", "b\ufffdb", "eve"]
    Path("t.jsonl").write_bytes(b'{"a": "x"}\n{"a": "y", "b": {"c": "\xff"}}\n')
    source = Source(paths=("t.jsonl",), column="a", errors="skip")
    assert source.documents() == ["x", "y"]  # whatever is beside them
    with pytest.warns(TapeGPTWarning, match=r"^t.jsonl: is not all utf-8: 1 string left out, the first in line 2$"):
        assert written(source, "csv") == b"a,nats\nx,0.5\n"
