"""Files that are brought to the studio are read as the command line reads them, or refused with what to do."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tapegpt import Corpus, TapeGPTError
from tapegpt.data.sources import Source
from tapegpt.studio import uploads
from tapegpt.studio.app import BODY_BYTES
from tapegpt.studio.limits import Limits
from tests.data.test_packed import zip_of
from tests.studio.server import Client, running

CHARACTERS = 2000
LINES = "Zoë\nJörg\nanna\notto\nMüller\n"
TABLE = "id,name\n1,anna\n2,otto\n3,eve\n"
PICTURE = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\1\0"


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with running(Limits(characters=CHARACTERS)) as client:
        yield client


def read(client: Client, name: str, data: bytes, status: int = 200, **query: str) -> Any:
    return client.ask("POST", f"/api/files?{urlencode({'name': name, **query})}", data, status)


def refused(client: Client, name: str, data: bytes, status: int = 400, **query: str) -> str:
    return str(read(client, name, data, status, **query)["error"]["message"])


def as_reading(query: dict[str, Any]) -> Any:
    """What the library takes where the page sends this."""
    read: dict[str, Callable[[str], object]] = {
        "delimiter": Source.ranges["delimiter"].parse,
        "header": lambda value: value != "false",
    }
    return {name: read.get(name, str)(value) for name, value in query.items()}


@pytest.mark.filterwarnings("ignore:.* in its first row is taken for the name")
@pytest.mark.parametrize(
    ("name", "data", "query"),
    [
        ("a.txt", LINES.encode(), {}),
        ("a.txt", LINES.replace("\n", "\r\n").encode("utf-8-sig"), {}),
        ("a.txt.gz", gzip.compress(LINES.encode(), mtime=0), {}),
        ("names", LINES.encode("cp1252"), {"encoding": "cp1252"}),
        ("a.csv", TABLE.encode(), {"column": "name"}),
        ("a.csv.gz", gzip.compress(TABLE.encode(), mtime=0), {"column": "name"}),
        ("a.txt.xz", lzma.compress(LINES.encode()), {}),
        ("a.zip", zip_of({"b.csv": TABLE.encode(), "c.csv": TABLE.encode()}), {"column": "name"}),
        ("a.tsv", TABLE.replace(",", "\t").encode(), {"column": "id"}),
        ("a.txt", TABLE.encode(), {"format": "csv", "column": "name"}),
        ("a.jsonl", b'{"name": "anna"}\n{"name": "otto"}\n', {"column": "name"}),
        ("a.jsonl", b'"anna"\n"otto"\n', {}),
        ("a.json", b'["anna", "otto"]', {}),
        ("a.json", b'[{"name": "anna"}, {"name": "otto"}]', {"column": "name"}),
        ("a.csv", b"anna\notto\n", {"header": "false"}),
        ("a.csv", b"1,anna\n2,otto\n", {"header": "false", "column": "2"}),
        ("a.txt", b"anna\nbob\n\notto\n", {"delimiter": "blank"}),
        ("a.txt", b"anna, bob, otto", {"delimiter": ", "}),
        ("a.txt", b"anna\tbob\totto", {"delimiter": "\\t"}),
        ("a.txt", b"anna\nbob", {"delimiter": "none"}),
    ],
)
def test_a_file_is_read_as_by_the_command_line(
    client: Client, name: str, data: bytes, query: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    corpus = Corpus.read(tmp_path / name, **as_reading(query))
    found = read(client, name, data, **query)
    made = found["corpus"]
    assert (made["name"], made["documents"], made["vocabulary"]) == (name, len(corpus), list(corpus.vocabulary))
    assert (found["problem"], found["encodings"]) == (None, [])
    if not any("\n" in document for document in corpus.documents):
        assert found["text"].split("\n") == corpus.documents
    else:
        assert found["text"] is None


def test_other_encodings_are_found_and_can_be_chosen(client: Client) -> None:
    found = read(client, "names.txt", LINES.encode("cp1252"))
    assert found["text"] == LINES.strip()
    assert found["encoding"] == found["encodings"][0]["name"] == "cp1252"
    assert found["encodings"][0]["sample"] == "Zoë"
    other = found["encodings"][-1]["name"]
    again = read(client, "names.txt", LINES.encode("cp1252"), encoding=other)
    assert (again["encoding"], again["encodings"]) == (other, [])


def test_a_first_row_that_is_taken_for_a_header_is_told(client: Client) -> None:
    found = read(client, "a.csv", b"anna\notto\neve\n")
    assert found["text"] == "otto\neve"
    assert found["columns"] == [{"name": "anna", "sample": "otto, eve"}]
    assert found["findings"][0]["reason"].startswith("a.csv: 'anna' in its first row is taken for the name")
    assert read(client, "a.csv", b"anna\notto\neve\n", header="false")["text"] == "anna\notto\neve"


def test_a_table_without_a_header_has_numbers_for_columns(client: Client) -> None:
    columns = read(client, "a.csv", b"1,anna\n2,otto\n", header="false")["columns"]
    assert columns == [{"name": "1", "sample": "1, 2"}, {"name": "2", "sample": "anna, otto"}]


def test_a_table_asks_for_its_column(client: Client) -> None:
    found = read(client, "a.csv", "name;größe\nZoë;1\nJörg;2\n".encode("cp1252"))
    assert found["corpus"] is None
    assert found["columns"] == [{"name": "name", "sample": "Zoë, Jörg"}, {"name": "größe", "sample": "1, 2"}]
    assert "choose the column" in found["problem"]
    again = read(client, "a.csv", "name;größe\nZoë;1\nJörg;2\n".encode("cp1252"), encoding="cp1252", column="name")
    assert again["text"] == "Zoë\nJörg"


@pytest.mark.parametrize(
    ("name", "data", "query"),
    [
        ("a.png", PICTURE, {}),
        ("a.txt", b"", {}),
        ("a.txt", b" \n\n", {}),
        ("a.csv", b'a,b\n1,"', {"column": "a"}),
        ("a.csv", TABLE.encode(), {"column": "c"}),
        ("a.jsonl", b"{", {}),
        ("a.txt", b"anna", {"column": "a"}),
        ("a.txt", b"anna", {"encoding": "no such"}),
        ("a.txt", b"anna", {"delimiter": "\\x"}),
        ("a.txt.gz", gzip.compress(b"anna", mtime=0)[:-3], {}),
        ("a.zip", zip_of({}), {}),
    ],
)
def test_what_cannot_be_read_is_refused_in_the_command_lines_words(
    client: Client, name: str, data: bytes, query: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(data)
    with pytest.raises(TapeGPTError) as caught:
        Corpus.read(name, **as_reading(query))
    assert refused(client, name, data, **query) == str(caught.value)


def test_what_doctor_finds_is_told(client: Client) -> None:
    lines = b"anna\notto\nanna\x01\n" * 20 + b"a" * 60
    findings = read(client, "a.txt", lines)["findings"]
    assert [each["max_length"] for each in findings] == [None, 10]
    assert findings[0]["reason"] == "20 control characters in it"
    assert findings[1]["reason"] == "the longest has 60 characters, 95 % have at most 5"


@pytest.mark.parametrize(
    ("lines", "formats", "delimiters"),
    [
        ("anna, bob, otto", [], [{"name": ",", "sample": "anna, bob, otto"}]),
        ("anna\tbob\totto;eve", [], [{"name": "\\t", "sample": "anna, bob, otto;eve"}]),
        ("anna;f\nbob;m\notto;m\n", [{"name": "csv", "sample": "anna;f"}], []),
        ("anna\tf\nbob\tm\notto\tm\n", [{"name": "tsv", "sample": "anna\tf"}], []),
        ("anna, and bob\notto\neve\n", [], []),
        ("anna\notto\n", [], []),
    ],
)
def test_a_text_that_looks_as_if_it_were_something_else_is_asked_about(
    client: Client, lines: str, formats: list[Any], delimiters: list[Any]
) -> None:
    found = read(client, "a.txt", lines.encode())
    assert (found["formats"], found["delimiters"]) == (formats, delimiters)
    chosen = [{"format": each["name"]} for each in formats] + [{"delimiter": each["name"]} for each in delimiters]
    for choice in chosen:
        again = read(client, "a.txt", lines.encode(), **choice)
        assert (again["formats"], again["delimiters"]) == ([], [])
        assert again["columns"] or again["corpus"]["documents"] > 2


def test_lengths_are_counted(client: Client) -> None:
    assert read(client, "a.txt", b"anna\notto\nbo\n")["corpus"]["lengths"] == [[2, 1], [4, 2]]


@pytest.mark.parametrize(("size", "status"), [(CHARACTERS - 1, 200), (CHARACTERS, 200), (CHARACTERS + 1, 413)])
def test_characters_are_limited(client: Client, size: int, status: int) -> None:
    read(client, "a.txt", b"a" * size, status)
    read(client, "a.txt.gz", gzip.compress("\N{GRINNING FACE}".encode() * size), status)


def test_a_file_is_counted_as_it_comes(client: Client) -> None:
    assert "bytes that are allowed" in refused(client, "a.txt", b" " * (BODY_BYTES + 1), 413)
    assert "no document" in refused(client, "a.txt", b" " * BODY_BYTES)


def test_gzip_is_limited_before_it_fills_the_memory(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "examine_contents", lambda *_, **__: pytest.fail("it was read"))
    assert "more than" in refused(client, "a.gz", gzip.compress(b"a" * (4 * CHARACTERS + 1)), 413)


@pytest.mark.parametrize(("size", "is_edited"), [(-1, True), (0, True), (1, False)])
def test_a_file_of_few_characters_can_be_edited(
    client: Client, size: int, is_edited: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "EDITED", 100)
    assert (read(client, "a.txt", b"a" * (100 + size))["text"] is not None) is is_edited
