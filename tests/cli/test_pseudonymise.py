"""`tapegpt pseudonymise`: columns with names for their values, and what it refuses."""

from __future__ import annotations

import csv
import json
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tapegpt
from tapegpt.cli import main
from tests.properties import many

NAMES = ["anna", "bert", "clara", "dora", "emil", "frida", "gustav", "hanna"]
SECRET = "correct horse battery staple"
TABLE = 'id,name,city\n1,Ada,"a ""b"", c"\n2,,x\n3, Ada ,y\n4,Bob\n5,  ,z\n'
CELLS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=5)


@pytest.fixture(autouse=True, scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tapegpt.GPT]:
    """A model, whose file is in the current directory."""
    former, path = Path.cwd(), tmp_path_factory.mktemp("pseudonymise")
    os.chdir(path)
    Path("names.txt").write_text("\n".join(NAMES), encoding="utf-8")
    model = tapegpt.train("names.txt", steps=30, n_embd=8, n_head=2, block_size=8)
    tapegpt.save(model, "m")
    Path("secret").write_text(f"{SECRET}\r\n", encoding="utf-8")
    Path("table.csv").write_text(TABLE, encoding="utf-8")
    yield model
    os.chdir(former)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["pseudonymise", "m", *arguments, "--secret-file", "secret"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def test_a_column_gets_names_and_all_else_stays(model: tapegpt.GPT, capsys: pytest.CaptureFixture[str]) -> None:
    ada, bob = model.names_for(["Ada", "Bob"], secret=SECRET)
    out = printed(capsys, "table.csv", "--column", "name")
    assert out == f'id,name,city\n1,{ada},"a ""b"", c"\n2,,x\n3,{ada},y\n4,{bob},\n5,  ,z\n'
    lines = printed(capsys, "table.csv", "--column", "name", "--output-format", "jsonl").splitlines()
    assert [json.loads(line)["name"] for line in lines] == [ada, "", ada, bob, "  "]
    assert printed(capsys, "table.csv", "--column", "name", "-o", "out.csv") == ""
    assert Path("out.csv").read_text(encoding="utf-8") == out


@pytest.mark.slow
def test_names_have_the_labels_of_their_rows(capsys: pytest.CaptureFixture[str]) -> None:
    given = tapegpt.Corpus.of(NAMES, labels={"sex": list("fmffmfmf")})
    labelled = tapegpt.train(given, steps=30, n_embd=8, n_head=2, block_size=8)
    tapegpt.save(labelled, "labelled")
    Path("sexes.csv").write_text("name,is\nAda,f\nBob,m\nAda,f\nKim,\nAda,m\n", encoding="utf-8")
    labels = ["f", "m", "f", None, "m"]
    expected = labelled.names_for(["Ada", "Bob", "Ada", "Kim", "Ada"], secret=SECRET, labels=labels, novel=False)
    arguments = ["labelled", "sexes.csv", "--column", "name", "--labels", "is", "--secret-file", "secret"]
    assert main(["pseudonymise", *arguments, "--no-novel"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["name,is", *[f"{name},{label or ''}" for name, label in zip(expected, labels, strict=True)]]
    assert expected[0] == expected[2] != expected[4]


def test_lines_and_other_tables_get_the_same(model: tapegpt.GPT, capsys: pytest.CaptureFixture[str]) -> None:
    Path("lines").write_text("Ada\n\nBob\nAda\n", encoding="utf-8")
    rows = [{"name": "Bob", "n": 1}, {"name": None}, {"name": "Ada"}]
    Path("table.json").write_text(json.dumps(rows), encoding="utf-8")
    ada, bob = model.names_for(["Ada", "Bob"], secret=SECRET)
    assert printed(capsys, "lines") == f"{ada}\n\n{bob}\n{ada}\n"
    lines = printed(capsys, "table.json", "--column", "name").splitlines()
    assert list(map(json.loads, lines)) == [{"name": bob, "n": 1}, {"name": None}, {"name": ada}]
    with zipfile.ZipFile("table.zip", "w") as archive:
        archive.write("table.csv")
    assert printed(capsys, "table.zip", "--column", "name") == printed(capsys, "table.csv", "--column", "name")
    both = printed(capsys, "table.csv", "table.json", "--column", "name", "--output-format", "text")
    assert both.split() == [ada, ada, bob, bob, ada]


@pytest.mark.slow
def test_parquet_and_texts_of_several_lines_stay_what_they_are(
    model: tapegpt.GPT, capsys: pytest.CaptureFixture[str]
) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    ada, bob = model.names_for(["Ada", "Bob"], secret=SECRET)
    values = pa.array(["Ada", None, "Bob"])
    parquet.write_table(pa.table([values.dictionary_encode(), pa.array([1, 2, 3])], ["name", "n"]), "table.parquet")
    assert printed(capsys, "table.parquet", "--column", "name", "-o", "out.parquet") == ""
    assert parquet.read_table("out.parquet").to_pydict() == {"name": [ada, None, bob], "n": [1, 2, 3]}
    Path("songs").write_text("Ada\n\nBob\n", encoding="utf-8")
    assert printed(capsys, "songs", "--delimiter", "blank") == f"{ada}\n\n{bob}\n"
    songs = tapegpt.train(["a\nb", "b\na"], steps=1, n_embd=8, n_head=2, block_size=8)
    tapegpt.save(songs, "songs.safetensors")
    assert (
        main(
            [
                "pseudonymise",
                "songs.safetensors",
                "lines",
                "--secret-file",
                "secret",
                "--pattern",
                "a\nb.*",
                "--no-novel",
            ]
        )
        == 0
    )
    assert all(line.startswith("a\\nb") for line in capsys.readouterr().out.split())


@settings(max_examples=many(15))
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=20), st.booleans())
def test_any_table_keeps_its_shape(model: tapegpt.GPT, rows: list[tuple[str, str]], unique: bool) -> None:
    with open("any.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("a", "b"), *rows])
    options = ["--column", "b", "--secret-file", "secret", "-o", "out.csv", *([] if unique else ["--no-unique"])]
    assert main(["pseudonymise", "m", "any.csv", *options]) == 0
    with open("out.csv", encoding="utf-8", newline="") as file:
        found = list(csv.reader(file))
    keys = [value.strip() for _, value in rows]
    names = dict(zip(keys, model.names_for(keys, secret=SECRET, unique=unique), strict=True)) if not unique else {}
    assert found[0] == ["a", "b"]
    for (a, b), (old, value) in zip(found[1:], rows, strict=True):
        assert a == old
        key = value.strip()
        assert b == (names.setdefault(key, b) if key else value)
    filled = {key: names[key] for key in keys if key}
    assert not set(filled.values()) & {"", *NAMES}
    assert not unique or len(set(filled.values())) == len(filled)


def test_options_are_those_of_generate(capsys: pytest.CaptureFixture[str]) -> None:
    Path("avoid").write_text("n\n", encoding="utf-8")
    options = ["--prefix", "a", "--length", "2..4", "--avoid", "avoid", "--temperature", "2", "--no-novel"]
    names = printed(capsys, "names.txt", *options).split()
    assert len(set(names)) == len(NAMES)
    assert all(name[0] == "a" and 2 <= len(name) <= 4 and "n" not in name for name in names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("table.csv --column name --secret-file missing", "--secret-file missing: cannot be read: No such file"),
        ("table.csv --column name --secret-file avoid", "--secret-file must have at least 16 bytes, not 1"),
        ("table.csv --column name", "the following arguments are required: --secret-file"),
        ("table.csv --column name --secret-file secret --max-length 2", "--max-length would leave values out"),
        ("table.csv --column name --secret-file secret --labels id", "label '.': the model has no labels"),
        ("names.txt --secret-file secret --unique", "--unique would leave values out"),
        (
            "names.txt --secret-file secret --pattern a",
            "1 of 8 keys have .* --temperature, --no-unique, --no-novel",
        ),
        ("table.csv --secret-file secret", "has more than one column: choose --column"),
    ],
)
def test_what_it_refuses(arguments: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("avoid").write_text("n\n", encoding="utf-8")
    assert main(["pseudonymise", "m", *arguments.split()]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert error.count("\n") == 1
