"""Whatever people have their strings in: files, directories, pipes, gzip, tables; and what is none of it."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import subprocess
import sys
import warnings
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tapegpt import Corpus, TapeGPTError, TapeGPTWarning
from tapegpt.cli.data import corpus_of, data_arguments, data_paths
from tapegpt.cli.parser import Parser
from tapegpt.data import decoding, packed, sources
from tapegpt.data.sources import DATASETS, Source, excerpt, format_of
from tapegpt.data.tables import column_names, read_rows

NAMES = ["anna", "bob", "eve"]

pytestmark = pytest.mark.filterwarnings("ignore:.* in its first row is taken for the name")  # one test awaits it


@pytest.fixture(autouse=True, scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory for this module, which is the current one."""
    former, path = Path.cwd(), tmp_path_factory.mktemp("sources")
    os.chdir(path)
    yield path
    os.chdir(former)


def typed(*arguments: str) -> Corpus:
    """What a command with these arguments learns from."""
    parser = Parser(prog="tapegpt")
    data_arguments(parser)
    return corpus_of(parser.parse_args(arguments), "characters")


def documents(data: str | bytes, name: str, *arguments: str) -> list[str]:
    """The documents of a file with this name and content."""
    Path(name).write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))
    return typed(name, *arguments).documents


def refused(*parts: str) -> AbstractContextManager[object]:
    """One line that says all these things, in this order."""
    return pytest.raises(TapeGPTError, match=r"\A.*" + ".*".join(f"({part})" for part in parts) + r".*\Z")


def piped(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


# --- files, directories, standard input -------------------------------------------------------------------------


def test_several_files_are_read_in_their_order(tmp_path: Path) -> None:
    for name, text in (("b", "anna\n"), ("a", "bob\neve"), ("blank", " \n")):
        (tmp_path / name).write_text(text)
    paths = [str(tmp_path / name) for name in ("b", "blank", "a", "b")]
    assert typed(*paths).documents == ["anna", "bob", "eve", "anna"]
    assert Corpus.read(*map(Path, paths)) == typed(*paths)


def test_a_directory_is_all_files_in_it(tmp_path: Path) -> None:
    """Of all levels, sorted by path; what is hidden and what would go in circles is left out."""
    for name in ("b.txt", "a/z.csv", "a/y/x.jsonl", "a.txt", ".hidden", ".git/config", "a/.hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text({"z": "name\ncsv\n", "x": '"json"\n'}.get(Path(name).stem, f"{Path(name).stem}\n"))
    os.symlink(tmp_path, tmp_path / "a" / "loop")
    os.symlink(tmp_path / "nothing", tmp_path / "dangling")
    os.symlink(tmp_path / "b.txt", tmp_path / "link.txt")
    os.mkfifo(tmp_path / "pipe")
    found = sorted(str(path) for path in tmp_path.rglob("*") if path.is_file() and "/." not in str(path))
    assert Source(paths=(str(tmp_path),)).listing() == [path for path in found if "loop" not in path]
    assert typed(str(tmp_path)).documents == ["a", "json", "csv", "b", "b"]


def test_directories_that_give_nothing(tmp_path: Path) -> None:
    with refused("no file in this directory"):
        typed(str(tmp_path))
    (tmp_path / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    (tmp_path / "names.txt").write_text("anna\n")
    with refused("image.png: line 1, byte 0: 0x89 is not utf-8: it looks like no text, leave it out"):
        typed(str(tmp_path))


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="the permissions of POSIX")
def test_a_directory_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o000)
    (tmp_path / "names.txt").write_text("anna\n")
    user = os.geteuid()
    if user == 0:  # who may read everything
        os.seteuid(65534)
    try:
        with refused("cannot be read: Permission denied"):
            Corpus.read(tmp_path)
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("packed", [False, True])
def test_standard_input(monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    data = b"name,age\nanna,5\nbob,7\n"
    piped(monkeypatch, gzip.compress(data) if packed else data)
    assert typed("-", "--format", "csv", "--column", "name").documents == ["anna", "bob"]


def test_standard_input_among_files(monkeypatch: pytest.MonkeyPatch) -> None:
    piped(monkeypatch, b"bob\n")
    Path("one.txt").write_text("anna\n")
    assert typed("one.txt", "-", "one.txt").documents == ["anna", "bob", "anna"]


def test_standard_input_that_gives_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    piped(monkeypatch, b"\n")
    with refused("standard input: no document in it"):
        typed("-")
    with refused("- is given more than once: standard input can be read once"):
        typed("-", "-")
    monkeypatch.setattr(sys, "stdin", None)
    with refused("standard input", "cannot be read: it is closed"):
        typed("-")


def test_what_is_read_where_nothing_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert typed() == Corpus.dataset("names")
    Path("input.txt").write_text("Anna\nanna\n")
    assert typed("--lowercase", "--unique").documents == ["anna"]
    assert typed("--dataset", "surnames", "--max-length", "2").documents[:3] == ["an", "ao", "ar"]


def test_the_paths_that_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nothing is written over them."""
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("folder/b.txt").touch()
    parser = Parser(prog="tapegpt")
    data_arguments(parser)

    def paths(*arguments: str) -> list[str]:
        return data_paths(parser.parse_args(arguments))

    assert (paths(), paths("--dataset", "names")) == ([], [])
    assert paths("a.txt", "folder") == ["a.txt", os.path.join("folder", "b.txt")]
    Path("input.txt").touch()
    assert paths() == ["input.txt"]


# --- gzip -------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=40), min_size=1), st.integers(1, 50))
@example([b"anna" * 5000, b"bob" * 5000], 50)  # of which a piece becomes many
def test_gzip_by_content(parts: list[bytes], chunk: int) -> None:
    """In members, as other programs join them, whatever the pieces it is read in; and no matter what it is called."""
    data = b"".join(parts)
    Path("members.txt").write_bytes(b"".join(map(gzip.compress, parts)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "CHUNK", chunk)
        assert packed.contents("members.txt") == [("members.txt", data)]


@pytest.mark.parametrize("end", [1, 3, 8, 30])
def test_gzip_that_ends_too_early(end: int) -> None:
    data = gzip.compress(os.urandom(100).hex().encode())
    with refused("short.gz: this gzip file ends too early"):
        documents(data[:-end], "short.gz")
    with refused("short.gz: this gzip file ends too early"):
        documents(data + data[:-end], "short.gz")


@pytest.mark.parametrize("place", [10, 20, -1, -6])
def test_gzip_that_is_damaged(place: int) -> None:
    data = bytearray(gzip.compress(b"".join(b"%d\n" % number for number in range(999))))
    data[place] ^= 0xFF
    with refused("bad.gz: this gzip file (is damaged at byte|ends too early)"):
        documents(bytes(data), "bad.gz")
    with refused("bad.gz: this gzip file is damaged at byte"):
        documents(gzip.compress(b"anna") + b"more", "bad.gz")


@pytest.mark.slow
def test_gzip_that_would_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_CONTENT", 10_000)
    assert documents(gzip.compress(b"a" * 10_000), "most.gz") == ["a" * 10_000]
    for bomb in (gzip.compress(bytes(10**8)), gzip.compress(b"a" * 5001) * 2):
        with refused("bomb.gz: this packed file holds more than 10,000 bytes"):
            documents(bomb, "bomb.gz")


# --- tables -----------------------------------------------------------------------------------------------------

CELLS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ROWS = st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1)


def lines_as_read(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").strip()


@given(ROWS, st.integers(0, 2), st.sampled_from([",", "\t"]), st.booleans(), st.sampled_from(["\n", "\r\n", "\r"]))
def test_csv_as_it_is_written(
    rows: list[tuple[str, str, str]], column: int, separator: str, packed: bool, end: str
) -> None:
    stream = io.StringIO(newline="")
    quoting: Literal[0, 1] = csv.QUOTE_MINIMAL if end == "\r\n" else csv.QUOTE_ALL  # else it leaves a CR or LF bare
    writer = csv.writer(stream, delimiter=separator, lineterminator=end, quoting=quoting)
    writer.writerows([["id", "name", "full name"], *rows])
    data = stream.getvalue().encode()
    if packed:
        data = gzip.compress(data)
    expected = [value for row in rows if (value := lines_as_read(row[column]))]
    name = f"table.{'tsv' if separator == chr(9) else 'CSV'}{'.gz' * packed}"
    for chosen in (["id", "name", "full name"][column], str(column + 1)):
        if expected:
            assert documents(data, name, "--column", chosen) == expected
        else:
            with refused("table", "no document in it"):
                documents(data, name, "--column", chosen)


@given(
    st.lists(st.one_of(CELLS, st.none(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)), min_size=1)
)
def test_json_lines_as_they_are_written(cells: list[str | float | None]) -> None:
    """Numbers are the text that was written, nulls are no documents."""
    texts = [cell if isinstance(cell, str) else json.dumps(cell) for cell in cells if cell is not None]
    expected = [stripped for text in texts if (stripped := text.strip())]
    for ascii_only in (False, True):
        for wrap, arguments in (
            (lambda cell: cell, []),
            (lambda cell: {"id": 1, "name": cell}, ["--column", "name"]),
            (lambda cell: {"id": 1, "a": {"b": {"c": cell}}}, ["--column", "a.b.c"]),
            (lambda cell: {"a": 5, "a.b": cell}, ["--column", "a.b"]),
        ):
            data = "".join(json.dumps(wrap(cell), ensure_ascii=ascii_only) + "\r\n" for cell in cells)
            if expected:
                assert documents(data, "table.ndjson", *arguments) == expected
            else:
                with refused("no document in it"):
                    documents(data, "table.ndjson", *arguments)


@pytest.mark.parametrize(
    ("name", "text", "arguments", "found"),
    [
        ("t.csv", "name\nanna\n\nbob\n", "", ["anna", "bob"]),
        ("t.csv", "\n\nname\nanna", "", ["anna"]),
        ("t.csv", "\ufeffname,age\nanna,5\n", "--column name", ["anna"]),
        ("t.csv", "id, name \n1, anna\n2\n3,\n", "--column name", ["anna"]),
        ("t.csv", "id,name\n1,anna,,\n", "--column 2", ["anna"]),
        ("t.csv", "2,1\nanna,bob\n", "--column 2", ["anna"]),
        ("t.csv", "name;age\nanna;5,5\n", "--column name", ["anna"]),
        ("t.csv", "\n\nname;age\nanna;5,5\n", "--column name", ["anna"]),
        ("t.csv", "a;b,c\n1;2,3\n", "--column c", ["3"]),
        ("t.csv", 'name,age\n"Smith, ""J""",5\n', "--column name", ['Smith, "J"']),
        ("t.csv", 'name\n"a\r\nb"\n', "", ["a\nb"]),
        ("t.csv", "name\nx\0y\n", "", ["x\0y"]),
        ("t.csv", "name,age\nanna,5\n", "--format text", ["name,age", "anna,5"]),
        ("t.data", "name\tage\nanna\t5\n", "--format tsv --column age", ["5"]),
        ("t.jsonl", '"anna"\n\n 1.50 \nnull\nNaN\n-Infinity\n', "", ["anna", "1.50", "-Infinity"]),
        ("t.jsonl", '{"a": "x"}\n{"b": 1}\n{"a": null}\n{"a": "y"}\n', "--column a", ["x", "y"]),
        ("t.jsonl", '{"a": {"b": "x"}}\n{"a": "y"}\n', "--column a.b", ["x"]),
        ("t.jsonl", '\x0c"anna"\u3000\n', "", ["anna"]),
        ("t.jsonl", '"\\ud83d\\ude00"\n"\u2028\u0085-"\n', "", ["\U0001f600", "-"]),
        ("t.jsonl", f"{'9' * 5000}\n", "", ["9" * 5000]),
        ("t.csv", "\nanna\nbob\n", "--no-header", ["anna", "bob"]),
        ("t.csv", "1,anna\n2,bob\n", "--no-header --column 2", ["anna", "bob"]),
        ("t.csv", "2,anna\n1,bob\n", "--no-header --column 2", ["anna", "bob"]),
        ("t.json", '["anna", 1.50, null, "b\\nc"]', "", ["anna", "1.50", "b\nc"]),
        ("t.JSON", '[\n{"a": {"b": "x"}},\n{"b": 1}, {"a.b": "y"}]\n', "--column a.b", ["x", "y"]),
        ("t.txt", '["anna"]', "--format json", ["anna"]),
        ("t.json", '["anna"]', "--format text", ['["anna"]']),
    ],
)
def test_what_a_table_holds(name: str, text: str, arguments: str, found: list[str]) -> None:
    assert documents(text, name, *arguments.split()) == found


@pytest.mark.parametrize(
    ("name", "text", "arguments", "parts"),
    [
        ("t.csv", "a,b\n1,2\n", "", ["t.csv: has more than one column: choose column from a, b"]),
        ("t.csv", "a,b\n1,2\n", "--column c", ["t.csv: there is no column 'c': choose column from a, b"]),
        ("t.csv", "a,b\n1,2\n", "--column 3", ["there is no column '3'"]),
        ("t.csv", "a,b\n1,2\n", "--column 0", ["there is no column '0'"]),
        ("t.csv", "a,a\n1,2\n", "--column a", ["there is more than one column 'a'"]),
        ("t.csv", "2,2\n1,2\n", "--column 2", ["there is more than one column '2'"]),
        ("t.csv", f"{'a' * 100},{'b' * 98}\n", "", [f"from {'a' * 100}, {'b' * 98}$"]),
        ("t.csv", f"{'a' * 100},{'b' * 99}\n", "", [f"from {'a' * 100}, {'b' * 95}\\.\\.\\.$"]),
        ("t.csv", ",".join(map(str, range(999))), "", ["choose column from 0, 1, .*\\.\\.\\.$"]),
        ("t.csv", "", "", ["t.csv: no document in it"]),
        ("t.csv", "name\n", "", ["t.csv: no document in it"]),
        ("t.csv", "name\nSmith, J\n", "", ["t.csv: line 2 has 2 cells, its first row 1"]),
        ("t.csv", 'a\nb\n"anna\nbob\n', "", ["t.csv: line 4: .*quotation mark not closed"]),
        ("t.csv", 'a\n"b"c\n', "", ["t.csv: line 2: "]),
        ("t.csv", "a\nb\n", "--delimiter ;", ["t.csv: is read as csv, delimiter is for format='text'"]),
        ("t.txt", "a\nb\n", "--column a", ["t.txt: is read as text, which has no column 'a'"]),
        ("t.csv", "1,anna\n", "--no-header", ["t.csv: has more than one column: choose column from 1, 2"]),
        ("t.csv", "1,anna\n", "--no-header --column anna", ["no column 'anna': choose column from 1, 2"]),
        ("t.jsonl", '"a"', "--no-header", ["t.jsonl: is read as jsonl, header=False is for csv and tsv"]),
        ("t.json", '{"a": 1}', "", ["t.json: must be an array of strings or of objects, not an object"]),
        ("t.json", "null", "", ["t.json: must be an array of strings or of objects, not null"]),
        ("t.json", '"a"', "", ["t.json: must be an array of strings or of objects, not a string"]),
        (
            "t.json",
            '"a"\n"b"',
            "",
            ["t.json: is not JSON: Extra data: line 2 .*: give format='jsonl' for a value a line"],
        ),
        ("t.json", '[{"a": 1}]', "", ["t.json: value 1: is an object: choose column from a"]),
        ("t.json", '["a", {"a": 1}]', "--column a", ["t.json: value 1: is no object"]),
        ("t.json", '["a", ["b"]]', "", ["t.json: value 2: must be a string or a number, not an array"]),
        ("t.json", "[" * 100_000, "", ["t.json: is (nested too deeply|not JSON)"]),
        ("t.json", "[]", "", ["t.json: no document in it"]),
        ("t.json", "", "", ["t.json: no document in it"]),
        ("t.jsonl", "anna\n", "", ["t.jsonl: line 1: is not JSON: .*write one value a line"]),
        ("t.jsonl", '"a"\n[1\n', "", ["t.jsonl: line 2: is not JSON"]),
        ("t.jsonl", '\n{"a": 1, "b": 2}\n', "", ["t.jsonl: line 2: is an object: choose column from a, b"]),
        ("t.jsonl", '{"a": 1}\n{"a": [1]}\n', "--column a", ["line 2: must be a string or a number, not an array"]),
        ("t.jsonl", '{"a": {"b": 1}}\n', "--column a", ["line 1: must be a string or a number, not an object"]),
        ("t.jsonl", "true\n", "", ["line 1: must be a string or a number, not a bool"]),
        ("t.jsonl", '"a"\n', "--column a", ["line 1: is no object, it has no key 'a'"]),
        ("t.jsonl", '\n{"a": 1, "b": 2}\n', "--column c", ["line 2: there is no key 'c': choose .* from a, b"]),
        ("t.jsonl", '{"a": 1}\n{"b": 2}\n', "--column c", ["line 1: there is no key 'c': choose .*from a$"]),
        ("t.jsonl", '{"a": null}\n{"b": 2}\n', "--column a", ["no document in it"]),
        ("t.jsonl", "[" * 100_000, "", ["t.jsonl: line 1: is nested too deeply"]),
        ("t.jsonl", '{"a":' * 100_000, "--column a", ["t.jsonl: line 1: is nested too deeply"]),
        ("t.jsonl", '{"a":' * 900 + "1" + "}" * 900, "--column a", ["must be a string or a number, not an object"]),
        ("t.csv", b"a\n\xff\n", "", ["t.csv: line 2, byte 2: 0xff is not utf-8"]),
        ("t.txt", "anna\n", "--max-length 3", ["t.txt: no document of 1 to 3 characters"]),
        ("t.txt", "anna\n", "--max-length 0", ["--max-length must be a whole number from 1 on, not 0"]),
        ("t.txt", "anna\n", "--dataset names", ["the path t.txt and dataset 'names' exclude each other"]),
    ],
)
def test_what_no_table_is(name: str, text: str | bytes, arguments: str, parts: list[str]) -> None:
    with refused(*parts):
        documents(text, name, *arguments.split())


def test_a_first_row_that_may_be_data_is_named() -> None:
    """Where the column is not asked for by the name that is in it."""
    note = "'anna' in its first row is taken for the name of the column, not for a string: choose it by column, or"
    for data, arguments in (("anna\nbob\n", []), ("anna,5\nbob,7\n", ["--column", "1"])):
        with pytest.warns(TapeGPTWarning, match=f"^t.csv: {note} give header=False$"):
            assert documents(data, "t.csv", *arguments) == ["bob"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert documents("anna,5\nbob,7\n", "t.csv", "--column", "anna") == ["bob"]
        assert documents("anna\nbob\n", "t.csv", "--no-header") == ["anna", "bob"]
        assert documents("anna\nbob\n", "t.csv", "--format", "text") == ["anna", "bob"]


def test_a_cell_may_be_as_long_as_its_file() -> None:
    """And the csv module of whoever uses it too is as it was, also after an error, and among threads."""
    limit, cell = csv.field_size_limit(), "x" * 200_000
    for _ in range(2):
        assert documents(f'name\n"{cell}"\n', "t.csv") == [cell]
        with refused("t.csv: line 2: "):
            documents(f'name\n"{cell}"x\n', "t.csv")
    with ThreadPoolExecutor(4) as pool:
        text = Path("t.csv").read_text().replace('"x\n', '"\n')
        source = Source(paths=("t.csv",), column="name")
        read = lambda _: [rows.values for rows in read_rows("t.csv", "csv", [text], source, False)]  # noqa: E731
        found = list(pool.map(read, range(16)))
    assert found == [[[cell]]] * 16
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@given(st.lists(st.text("abcxyzé \t", min_size=1).filter(str.strip), min_size=2), st.booleans())
@example(["привет", "мир"], False)
@example(["日本\u3000語", "東京"], False)
@example(["anna"], True)
def test_utf_16_without_a_mark_is_seen(encoding: str, lines: list[str], windows: bool) -> None:
    """What is UTF-8 too, but for NULs, and would be learnt as that: the remedy is named, and is right."""
    data = "".join(f"{line}{chr(13) * windows}\n" for line in lines).encode(encoding)
    for other in ("utf-8", "latin-1"):
        try:
            data.decode(other)
        except UnicodeDecodeError:
            continue
        with refused(f"t.txt: looks like {encoding}, with NUL as every other byte: choose encoding='{encoding}'$"):
            documents(data, "t.txt", "--encoding", other)
        with refused(f"t.txt: looks like {encoding}"):
            list(Source(paths=("t.txt",), encoding=other).batches())
    assert documents(data, "t.txt", "--encoding", encoding) == [line.strip() for line in lines]


@given(st.lists(st.text("ab\0\n"), max_size=9))
def test_a_nul_here_and_there_is_no_utf_16(parts: list[str]) -> None:
    data = b"anna\nbo\0bby\nabcdefghij\n" + "".join(parts).encode().replace(b"\0", b"xyz\0w")
    assert decoding._wide(data) is None


@pytest.mark.parametrize(
    ("data", "encoding", "remedy"),
    [
        (b"it\x92s", "utf-8", "cp1252"),
        (b"caf\xe9", "utf-8", "latin-1"),
        (b"caf\xe9\x81", "utf-8", "latin-1"),
        ("café".encode(), "ascii", "utf-8"),
        ("café".encode("utf-16"), "utf-8", "utf-16"),
        (b"\xe3\x81\n", "utf-8", "latin-1"),
    ],
)
def test_the_encoding_that_is_advised_fits(data: bytes, encoding: str, remedy: str) -> None:
    with refused(f"choose another, for instance encoding='{remedy}', or errors='skip' for all but"):
        documents(data, "t.txt", "--encoding", encoding)
    with refused(f"choose another, for instance encoding='{remedy}', or errors='skip' for all but"):
        list(Source(paths=("t.txt",), encoding=encoding).batches())
    data.decode(remedy)


def test_windows_encoding_is_advised_where_it_alone_has_characters() -> None:
    """Of bytes that are controls in latin-1, all but five."""
    for byte in range(0x20, 0x100):
        advised = decoding._likely(b"a" + bytes([byte]), "utf-8")
        assert advised == ("cp1252" if 0x80 <= byte < 0xA0 and byte not in b"\x81\x8d\x8f\x90\x9d" else "latin-1")


@given(
    st.sampled_from(["t.csv", "t.tsv", "t.jsonl", "t.json", "t.txt", "t.gz"]),
    st.sampled_from(["", "--column 1", "--no-header"]),
    st.data(),
)
def test_any_bytes_under_any_name(name: str, arguments: str, data: st.DataObject) -> None:
    """Documents or one line of explanation."""
    text = st.text(st.sampled_from("ab1,;\t\n\r\"'{}[]:\\\0\x1f\x8b\ufeff\ud800"), max_size=30)
    content = data.draw(st.one_of(st.binary(), text.map(lambda some: some.encode("utf-8", "surrogatepass"))))
    explanation = ""
    try:
        found = documents(content, name, *arguments.split())
    except TapeGPTError as problem:
        explanation = str(problem)
    else:
        assert found == [document.strip() for document in found if document]
    assert "\n" not in explanation


# --- the record -------------------------------------------------------------------------------------------------

FIELDS = {
    "paths": st.lists(st.text(st.characters(exclude_characters="-")), min_size=1).map(tuple),
    "format": st.sampled_from([None, *sources.FORMATS]),
    "encoding": st.sampled_from(["utf-8", "latin-1"]),
    "delimiter": st.text(),
    "column": st.one_of(st.none(), st.text()),
    "labels": st.lists(st.text(), unique=True).map(tuple),
    "header": st.booleans(),
    "separator": st.sampled_from([None, "\t", "|", "\0"]),
    "quotes": st.booleans(),
    "errors": st.sampled_from(sources.ERRORS),
    "files": st.one_of(st.none(), st.text()),
    "lowercase": st.booleans(),
    "max_length": st.one_of(st.none(), st.integers(1, 2**70)),
    "unique": st.booleans(),
}


@given(st.fixed_dictionaries(FIELDS))
def test_a_source_survives_json(fields: dict[str, object]) -> None:
    source = Source(**fields)  # type: ignore[arg-type]  # each is of its own type
    assert Source(**json.loads(json.dumps(source.as_json()))) == source
    assert source.as_json() == {
        **fields,
        "dataset": None,
        "sample": None,
        "paths": list(source.paths),
        "labels": list(source.labels),
    }


def test_a_source_wherever_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("names.txt").write_text("Anna\n")
    source = Source(paths=("names.txt",), lowercase=True).absolute()
    monkeypatch.chdir("/")
    assert Corpus.from_source(source).documents == ["anna"]
    assert Source(paths=("-",)).absolute().paths == ("-",)
    assert Source(dataset="names").absolute() == Source(dataset="names")


def test_what_can_be_read_again(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    once = [Source(paths=paths).again for paths in (("-",), ("a", "-"), (str(tmp_path / "pipe"),), ("/dev/null",))]
    again = [Source(paths=paths).again for paths in ((str(tmp_path),), (__file__,), ("missing",))]
    assert (once, again, Source(dataset="names").again) == ([False] * 4, [True] * 3, True)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {},
            f"there is nothing to read: give a path, or a dataset: {', '.join(DATASETS)}",
        ),
        ({"paths": "names.txt"}, "paths must be a tuple of str, not 'names.txt'"),
        ({"paths": [b"a"]}, "a path to read must be a str, not b'a'"),
        ({"paths": ["a"], "dataset": "names"}, "the path a and dataset 'names' exclude each other"),
        (
            {"dataset": "towns"},
            f"dataset must be one of {', '.join(DATASETS)}, not 'towns'",
        ),
        (
            {"dataset": ["names"]},
            rf"dataset must be one of {', '.join(DATASETS)}, not \['names'\]",
        ),
        ({"dataset": "names", "column": "a"}, "column 'a' is for files, not for the embedded names"),
        ({"dataset": "names", "delimiter": ""}, "delimiter '' is for files"),
        ({"dataset": "names", "encoding": "ascii"}, "encoding 'ascii' is for files"),
        (
            {"paths": ["a"], "format": "xml"},
            "format must be one of text, csv, tsv, jsonl, json, parquet, arrow, not 'xml'",
        ),
        ({"paths": ["a"], "encoding": None}, "encoding must be a str, not None"),
        ({"paths": ["a"], "column": 1}, "column must be a str, not 1"),
        ({"paths": ["a"], "separator": ", "}, "separator must be one character, .* not ', '"),
        ({"paths": ["a"], "separator": '"'}, "separator must be one character, not a quotation mark"),
        ({"paths": ["a"], "files": ["*.txt"]}, "files must be a str, not .*: give a pattern of names such as"),
        ({"paths": ["a"], "errors": "ignore"}, "errors must be one of strict, replace, skip, not 'ignore'"),
        ({"dataset": "names", "quotes": False}, "quotes False is for files"),
    ],
)
def test_fields_that_do_not_fit(fields: dict[str, object], message: str) -> None:
    with refused(message):
        Source(**fields)  # type: ignore[arg-type]  # as an untyped caller may


def test_plain_text_needs_nothing_more() -> None:
    """Neither tables nor decompression are loaded for it."""
    Path("plain.txt").write_text("anna\n")
    code = (
        "import sys, tapegpt; tapegpt.Corpus.read('plain.txt'); print({'csv', 'json', 'zlib', 're'} & {*sys.modules})"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-S", "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.csv", "id, name ,id\n1,anna,2\n", ["1", "name", "3"]),
        ("a.csv", 'a;"b\nc";\n1;2;3\n', ["a", "b\nc", "3"]),
        ("a.tsv", "\na,b\tc\n", ["a,b", "c"]),
        ("a.csv", "", []),
        ("a.csv", '"a', []),
        ("a.jsonl", '\n{"name": "anna", "at": 1}\n', ["name", "at"]),
        ("a.jsonl", '"anna"\n', []),
        ("a.jsonl", "{", []),
        ("a.jsonl", "", []),
        ("a.json", '[{"name": "anna"}, {}]', ["name"]),
        ("a.json", '["anna"]', []),
        ("a.json", "{", []),
        ("a.csv", f"{'x' * 200_000},b", ["x" * 200_000, "b"]),
    ],
)
def test_columns_that_may_be_asked_for(name: str, text: str, found: list[str]) -> None:
    assert column_names(format_of(name), [text]) == found
    for column in found:
        Source(paths=("-",), column=column).values(name, text.encode())


# Samples


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["lines.txt", "lines.jsonl"])
def test_a_sample_is_lines_from_all_over_the_file(name: str, packed: bool, tmp_path: Path) -> None:
    lines = [f'"{number:06d}"' if name.endswith("l") else f"{number:06d}" for number in range(20_000)]
    data = "\n".join(lines).encode()
    path = tmp_path / (name + ".gz" * packed)
    path.write_bytes(gzip.compress(data) if packed else data)
    size = path.stat().st_size
    found = list(map(int, Source(paths=(str(path),), sample=size // 10).documents()))
    assert found == sorted(set(found))
    assert found[0] == 0
    assert found[-1] > 18_000
    assert size // 10 - 16 <= len(found) * (len(lines[0]) + 1) <= size // 10 + 16 * 10
    assert Source(paths=(str(path),), sample=size).documents() == Source(paths=(str(path),)).documents()


def test_a_sample_of_other_texts_and_of_tables_is_their_beginning(tmp_path: Path) -> None:
    rows = [f'{number},"a ""{number}""\nb"' for number in range(1000)]
    (tmp_path / "rows.csv").write_text("\n".join(["n,text", *rows]))
    (tmp_path / "poems.txt").write_text("\n\n".join(f"poem\n{number}" for number in range(1000)))
    everything = Source(paths=(str(tmp_path / "rows.csv"),), column="text").documents()
    for sample in (1, 2, 3, *range(40, 60), 5000):
        some = Source(paths=(str(tmp_path / "rows.csv"),), column="text", sample=7 + sample).documents()
        assert some == everything[: len(some)]
        assert len(some) * 16 <= 60 + sample
        poems = Source(paths=(str(tmp_path / "poems.txt"),), delimiter="\n\n", sample=20 + sample).documents()
        assert poems == [f"poem\n{number}" for number in range(len(poems))]
        assert len(poems) * 8 <= 20 + sample
    undivided = Source(paths=(str(tmp_path / "poems.txt"),), delimiter="\n\n\n", sample=9)
    assert undivided.documents() == [(tmp_path / "poems.txt").read_text()]
    whole = Source(paths=(str(tmp_path / "poems.txt"),), delimiter="", sample=9)
    assert len(whole.documents()[0]) > 9000  # one document cannot be taken apart


def test_a_sample_is_shared_by_files_and_can_be_read_again(tmp_path: Path) -> None:
    for name, count in (("a", 3000), ("b", 1000)):
        (tmp_path / name).write_text("".join(f"{name}{number:07d}\n" for number in range(count)))
    source = Source(paths=(str(tmp_path),), sample=4000)
    found = source.documents()
    assert found == source.documents()
    assert 300 <= sum(text.startswith("a") for text in found) <= 340
    assert 100 <= sum(text.startswith("b") for text in found) <= 120
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(TapeGPTError, match="sample must be a whole number"):
            Source(paths=("a",), sample=wrong)  # type: ignore[arg-type]  # what is refused


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl"])
def test_a_line_without_end_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LONGEST_LINE", 50)
    monkeypatch.setattr(packed, "CHUNK", 10)
    assert documents(b"a" * 40 + b"\n" + b"b" * 40, "a.txt") == ["a" * 40, "b" * 40]
    with refused(f"{name}: a line has more than 50 characters: give lines"):
        documents(gzip.compress(b'"' + b"a" * 1000), name)


@given(st.lists(st.text("ab", min_size=1, max_size=9), min_size=1, max_size=60), st.integers(1, 300), st.integers(1, 8))
def test_an_excerpt_is_of_whole_lines(lines: list[str], size: int, parts: int) -> None:
    numbered = [f"{number} {line}\n".encode() for number, line in enumerate(lines)]
    taken = excerpt(io.BytesIO(b"".join(numbered)), size, parts).splitlines(keepends=True)
    assert set(taken) <= set(numbered)
    assert taken[0] == numbered[0]


def test_a_member_that_is_not_gzip_is_damage() -> None:
    with pytest.raises(TapeGPTError, match="this gzip file is damaged at byte 25"):
        list(packed.inflate("t.gz", "gzip", [gzip.compress(b"anna\n"), zlib.compress(b"bea\n")]))


@pytest.mark.parametrize("name", ["t.csv", "T.CSV", "t.csv.gz", "T.CSV.GZ", "t.Csv.Gz"])
def test_the_case_of_a_name_does_not_matter(name: str) -> None:
    assert format_of(name) == "csv"
