"""What is said about data before it is trained on: counts against naive ones, advice that works, a page that fits."""

from __future__ import annotations

import json
import math
import os
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapegpt import Config, Corpus, TapeGPTError
from tapegpt.analysis import doctor
from tapegpt.analysis.doctor import DataReport, examine
from tapegpt.cli import main
from tapegpt.cli.data import corpus_of, data_arguments
from tapegpt.cli.doctor import WIDTH, _wrap, page
from tapegpt.cli.parser import Parser
from tapegpt.data import ngrams
from tapegpt.data.decoding import SAMPLED, Encoding
from tapegpt.data.holdout import hold_out
from tapegpt.data.sources import Source
from tapegpt.models.mlp import MLP
from tapegpt.settings import Settings
from tapegpt.text import columns, visible
from tapegpt.training.trainer import Trainer
from tests.data.distances import edits


@pytest.fixture(autouse=True, scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory for this module, which is the current one."""
    former, path = Path.cwd(), tmp_path_factory.mktemp("doctor")
    os.chdir(path)
    yield path
    os.chdir(former)


@pytest.fixture
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the trainings, whose code would have to be compiled for each vocabulary."""
    monkeypatch.setattr(doctor, "_costs", lambda *_: [])


def seen(data: bytes | str, name: str = "data.txt", block_size: int = 16, **reading: object) -> DataReport:
    """The report on a file."""
    Path(name).write_bytes(data if isinstance(data, bytes) else data.encode())
    source = Source(paths=(name,), **reading)  # type: ignore[arg-type]  # each is of its own type
    return examine(source, Config(block_size=block_size))


def test_a_path_is_data() -> None:
    Path("names.txt").write_text("anna\notto\n")
    wanted = examine(Source(paths=("names.txt",)), measured=False)
    assert examine("names.txt", measured=False) == examine(Path("names.txt"), measured=False) == wanted


# --- counts -----------------------------------------------------------------------------------------------------

LINES = st.lists(st.text(st.sampled_from("aAbB \té"), max_size=30), min_size=1).filter(lambda s: "".join(s).strip())


@pytest.mark.usefixtures("untimed")
@given(LINES, st.integers(1, 40), st.booleans(), st.sampled_from([None, 5]))
def test_counts(lines: list[str], block_size: int, ends: bool, max_length: int | None) -> None:
    stripped = [line.strip() for line in lines if line.strip()]
    strings = [string for string in stripped if max_length is None or len(string) <= max_length]
    data = "\n".join(lines) + "\n" * ends
    if not strings:
        with pytest.raises(TapeGPTError, match="no document of 1 to 5 characters"):
            seen(data, block_size=block_size, max_length=max_length)
        return
    report = seen(data, block_size=block_size, max_length=max_length)
    found = Counter(strings)
    blank = len(lines) - len(stripped) - (not ends and not lines[-1])  # behind the last end of a line there is no line
    assert (report.blank, report.too_long) == (blank, len(stripped) - len(strings))
    assert report.values == blank + len(stripped)
    assert report.stripped == sum(line != line.strip() for line in lines if line.strip())
    assert (report.documents, report.distinct) == (len(strings), len(found))
    assert report.frequent == [pair for pair in found.most_common(5) if pair[1] > 1]
    assert (report.characters, report.vocabulary) == (sum(map(len, strings)), "".join(sorted(set("".join(strings)))))
    assert report.lower_vocabulary == len(set("".join(strings).lower()))
    assert report.lower_distinct == len({string.lower() for string in strings})
    assert report.lengths.histogram[0].first == report.lengths.smallest == min(map(len, strings))
    assert report.lengths.largest == max(map(len, strings)) <= report.lengths.histogram[-1].last
    for each in report.lengths.histogram:
        assert each.documents == sum(each.first <= len(string) <= each.last for string in strings)
    assert sum(each.documents for each in report.lengths.histogram) == len(strings)
    for share, length in ((0.5, report.lengths.median), (0.95, report.lengths.p95)):
        assert sum(len(string) <= length for string in strings) >= share * len(strings)
        assert sum(len(string) < length for string in strings) < share * len(strings)


@pytest.mark.usefixtures("untimed")
@given(LINES, st.integers(1, 40))
def test_what_a_block_cuts(lines: list[str], block_size: int) -> None:
    """As training does: windows that are more than one."""
    corpus = Corpus.of(lines)

    def cut(size: int) -> int:
        return sum(len(corpus.windows(size, [number])) > 1 for number in range(len(corpus)))

    block = examine(corpus, Config(block_size=block_size)).block
    assert (block.size, block.cut) == (block_size, cut(block_size))
    assert cut(block.size_for_all) == 0 < cut(block.size_for_all - 1)
    assert cut(block.size_for_95_percent) <= 0.05 * len(corpus) < cut(block.size_for_95_percent - 1)


@pytest.mark.usefixtures("untimed")
@given(LINES)
def test_rare_characters(lines: list[str]) -> None:
    corpus = Corpus.of(lines)
    found = {c: [string for string in corpus.documents if c in string] for c in corpus.vocabulary}
    rare = examine(corpus).rare
    assert sorted(each.character for each in rare) == [c for c, strings in found.items() if len(strings) < 5]
    assert [each.documents for each in rare] == sorted(len(found[each.character]) for each in rare)
    assert all(each.example == found[each.character][0] for each in rare)
    names = {each.character: (each.code_point, each.name) for each in rare}
    assert names.get("é", ("U+00E9", "LATIN SMALL LETTER E WITH ACUTE")) == (
        "U+00E9",
        "LATIN SMALL LETTER E WITH ACUTE",
    )


@pytest.mark.usefixtures("untimed")
@given(st.lists(st.text("ab", min_size=1, max_size=5), min_size=2).filter(lambda strings: len({*strings}) > 1))
def test_near_duplicates_across_a_split(strings: list[str]) -> None:
    corpus = Corpus.of(strings)
    training, validation = hold_out(corpus, 0.1, 42)
    split = examine(corpus).split
    assert split is not None
    assert (split.validation, split.seed, split.held_out) == (0.1, 42, len(validation))
    near = [held for held in validation.documents if min(edits(held, other) for other in training.documents) == 1]
    assert (split.compared, split.near) == (len(validation), len(near))
    assert split.baselines == ngrams.baselines(training, validation, corpus.vocab_size)


@pytest.mark.usefixtures("untimed")
def test_a_large_split_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = Corpus.dataset("names")
    whole = examine(corpus).split
    monkeypatch.setattr(doctor, "PAIRS", 100 * len(corpus))
    some = examine(corpus).split
    assert whole is not None
    assert some is not None
    assert whole.held_out == whole.compared == some.held_out == 516
    assert 50 <= some.compared <= 111
    assert abs(some.near / some.compared - whole.near / whole.compared) < 0.2
    monkeypatch.setattr(doctor, "LOOKS", 10)
    few = examine(corpus).split
    assert few is not None
    assert few.compared <= 10


@pytest.mark.usefixtures("untimed")
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a\nb\r\nc\rd", {"line_feeds": 1, "both": 1, "carriage_returns": 1, "bom": False, "controls": 0}),
        (
            b"\xef\xbb\xbfa\0b\x1b\x7f\xc2\x85\t\n",
            {"bom": True, "nuls": 1, "controls": 4, "size": 12, "format": "text"},
        ),
    ],
)
def test_what_a_file_is_made_of(data: bytes, expected: dict[str, object]) -> None:
    (file,) = seen(data).files
    assert {name: file.as_dict()[name] for name in expected} == expected


# --- encodings --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("untimed")
@pytest.mark.parametrize(
    ("text", "encoding", "found"),
    [
        ("Zoë\nBjörn\n", "cp1252", "cp1252"),
        ("Zoë\nBjörn\n", "utf-16", "utf-16"),
        ("ふゆみ\nたろう\n", "shift_jis", "shift_jis"),
        ("王小明\n李明\n", "utf-8", "utf-8"),
        ("Zoe\nBjorn\n", "utf-16-le", "utf-16-le"),
        ("Zoë\nBjörn\n", "utf-16-be", "utf-16-be"),
        ("Zoe\nit\u2019s\n", "cp1252", "cp1252"),
    ],
)
def test_an_encoding_that_fits_is_found(text: str, encoding: str, found: str) -> None:
    report = seen(text.encode(encoding), encoding="ascii")
    assert report.encoding == found == report.encodings[0].name
    assert report.documents == len(text.splitlines())
    if not found.startswith("utf-16"):  # whose lines do not end at a byte 0x0a
        assert report.encodings[0].sample == next(line for line in text.splitlines() if not line.isascii())
    assert typed_documents(report) == text.splitlines()


@pytest.mark.usefixtures("untimed")
def test_a_sample_of_a_file_without_a_line_at_fault_is_its_beginning() -> None:
    report = seen(("x" * 500).encode("utf-16-le"), encoding="ascii")
    assert report.encodings == [Encoding("utf-16-le", "x" * (SAMPLED // 2))]
    assert [seen("é".encode(name), encoding="utf-16").files[0].bom for name in ("utf-16", "utf-8")] == [True, False]


@pytest.mark.usefixtures("untimed")
def test_what_is_left_out_is_counted_before_repetitions_are() -> None:
    report = seen("aaaa\naaaa\nb\nb\n", max_length=3, unique=True)
    assert (report.too_long, report.documents, report.values) == (2, 1, 4)
    assert seen('name\na\n""\n', "cells.csv", column="name").blank == 1  # behind the last cell there is none


@pytest.mark.parametrize(
    ("data", "reading", "message"),
    [
        (b"", {}, "data.txt: no document in it"),
        (b" \n", {}, "data.txt: no document in it"),
        (b"\x89PNG\0\xff", {}, "data.txt: line 1, byte 0: 0x89 is not utf-8: it looks like no text"),
        (b"anna", {"encoding": "klingon"}, "encoding 'klingon' is not known"),
        (b"anna", {"column": "a"}, "which has no column 'a'"),
    ],
)
def test_what_cannot_be_examined(data: bytes, reading: dict[str, object], message: str) -> None:
    with pytest.raises(TapeGPTError, match=message):
        seen(data, **reading)  # type: ignore[arg-type]  # each is of its own type


# --- advice -----------------------------------------------------------------------------------------------------


def typed_documents(report: DataReport) -> list[str]:
    """What the suggested command learns from."""
    program, command, *arguments = shlex.split(report.command)
    assert (program, command) == ("tapegpt", "train")
    parser = Parser(prog="tapegpt")
    data_arguments(parser)
    return corpus_of(parser.parse_known_args(arguments)[0], "characters").documents


@pytest.mark.usefixtures("untimed")
@pytest.mark.parametrize(
    ("data", "reading", "flags"),
    [
        ("ab\nba\n", {}, ""),
        ("ab\nba\n", {"block_size": 24}, "--block-size 24"),
        ("a" * 16 + "\nb", {}, "--block-size 17"),
        ("a" * 15 + "\nb", {}, ""),
        ("a" * 2000 + "\nb", {}, "--block-size 1024"),
        ("ab\n" * 30 + "a" * 500, {}, "--max-length 4 --unique"),
        ("Ab\nBA\nab\nAB", {}, ""),  # where case may carry meaning, as in music and chemistry
        ("1,ab\n2,ba\n", {"format": "csv", "column": "2", "header": False}, "--format csv --column 2 --no-header"),
        ("a\x1bab\x1bac", {"delimiter": "\x1ba"}, "--delimiter \\x1ba"),
        ("Ab\nBA", {"lowercase": True}, "--lowercase"),
        ("ab\nab\n", {}, "--unique"),
        ("\n".join(map(str, (*range(100, 119), 100))), {}, "--unique"),  # 95 % of them distinct
        ("\n".join(map(str, range(100, 120))), {}, "--validation 0.1"),
        ("a--b", {"delimiter": "--"}, "--delimiter=--"),
        ("a\nb", {"delimiter": "", "max_length": 3}, "--delimiter none --max-length 3"),
        ("a\\b\tb", {"delimiter": "\\b\t"}, "--delimiter \\\\b\\t"),
        ("a\nb\n\nb", {"delimiter": "\n\n", "max_length": 3}, "--delimiter blank --max-length 3"),
        ("a\nb\n\nb", {"delimiter": ""}, "--delimiter none"),
        ("x y,z\na,b\n", {"format": "csv", "column": "x y"}, "--format csv --column x y"),
    ],
)
def test_advice(data: str, reading: dict[str, object], flags: str) -> None:
    report = seen(data, "it's $HOME.txt", **reading)  # type: ignore[arg-type]  # each is of its own type
    words = [word for flag in report.flags if flag.words[0] != "--preset" for word in flag.words]
    assert " ".join(words) == flags
    assert all(flag.reason for flag in report.flags)
    assert shlex.split(report.command)[-2:] == ["-o", "it's $HOME.safetensors"]
    assert set(typed_documents(report)) <= {document.lower() for document in read(data, reading)} | {
        *read(data, reading)
    }


def read(data: str, reading: dict[str, object]) -> list[str]:
    Path("it's $HOME.txt").write_text(data)
    options = {name: value for name, value in reading.items() if name != "block_size"}
    return Corpus.read("it's $HOME.txt", **options).documents  # type: ignore[arg-type]  # each is of its own type


@pytest.mark.usefixtures("untimed")
@given(st.text(min_size=1), st.sampled_from(["a,b\n", "x"]))
def test_a_command_gives_any_delimiter_again(delimiter: str, text: str) -> None:
    if delimiter not in ("line", "blank", "none", "\r", "\r\n"):
        report = seen(f"{text}{delimiter}{text}".encode("utf-8", "replace"), delimiter=delimiter)
        expected = Corpus.read("data.txt", delimiter=delimiter).documents
        lowered = "--lowercase" in report.command
        found = typed_documents(report)
        assert found == [
            each.lower() if lowered else each
            for each in (dict.fromkeys(expected) if "--unique" in report.command else expected)
        ]


@pytest.mark.slow
def test_the_command_as_pasted() -> None:
    """All of it with a real shell: what it says of times is said in numbers, and what it suggests works."""
    Path("my names.csv").write_text("name,age\n" + "".join(f"Name{number % 25},{number}\n" for number in range(60)))
    command = [sys.executable, "-m", "tapegpt"]
    done = subprocess.run([*command, "doctor", "my names.csv", "--column", "name"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = [line.strip() for line in done.stdout.splitlines() if line.startswith("  tapegpt train")]
    assert line.startswith("tapegpt train 'my names.csv' --column name ")
    assert line.endswith("--unique --preset quick --validation 0.1 -o 'my names.safetensors'")
    shell = f"tapegpt() {{ '{sys.executable}' -m tapegpt \"$@\"; }}; {line} --steps 2 --samples 0"
    trained = subprocess.run(["sh", "-c", shell], capture_output=True, text=True)
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout.splitlines()[:2] == ["num docs: 25", "held out: 2, no two alike"]
    assert Path("my names.safetensors").exists()


def test_a_block_holds_all_unless_a_few_are_more_than_twice_as_long() -> None:
    for longest, size in ((40, 40), (41, 20), (5000, 20)):
        assert doctor._block_size(doctor.Block(16, 9, 20, longest)) == size
    assert doctor._block_size(doctor.Block(16, 0, 7, 9)) == 16


def test_few_long_strings_are_left_out_where_they_are_ten_times_as_long() -> None:
    lengths = doctor.Lengths(1, 2, 3, 30, [])
    assert [doctor._max_length(lengths.replace(largest=largest)) for largest in (30, 31)] == [None, 6]


def test_one_string_of_another_length_leaves_the_histogram_its_bins() -> None:
    lengths = doctor._lengths(["x" * (number % 12 + 1) for number in range(240)] + ["x" * 1000])
    assert [(each.first, each.last) for each in lengths.histogram] == [*((n, n) for n in range(1, 12)), (12, 1000)]


@pytest.mark.parametrize(
    ("source", "output"),
    [
        (None, "DATA -o model"),
        (Source(paths=("-", "more.txt")), "- more.txt -o model"),
        (Source(paths=("a/names.tar.gz", "b")), "a/names.tar.gz b -o names"),
        (Source(paths=("a/.names",)), "a/.names -o model"),
        (Source(dataset="surnames"), "-o surnames"),
    ],
)
def test_the_model_is_called_as_the_data(source: Source | None, output: str) -> None:
    assert doctor._command(source, []) == f"tapegpt train {output}.safetensors"


def test_reasons_say_what_was_given_and_what_follows() -> None:
    corpus = Corpus.of(["a" * 16, "b"])
    reasons = {
        block_size: {
            flag.words[0]: flag.reason for flag in examine(corpus, MLP(block_size=block_size), measured=False).flags
        }
        for block_size in (16, 20)
    }
    assert reasons[16]["--block-size"] == "1 of 2 strings do not fit into 16 with their end"
    assert reasons[20]["--block-size"] == reasons[20]["--model"] == "as you gave it"
    assert examine(corpus, MLP(), measured=False).flags[0].words == ["--model", "mlp"]


@pytest.mark.slow
@pytest.mark.parametrize(("first", "steps"), [(1e-6, doctor.STEPS), (doctor.SECONDS / 5, 5), (9.0, 1)])
def test_a_training_is_timed_by_as_many_steps_as_there_is_time_for(
    first: float, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[int] = []

    def seconds(trainer: Trainer, steps: int) -> float:
        timed.append(steps)
        return 0.01 if len(timed) % 2 == 0 else first

    monkeypatch.setattr(doctor, "_seconds", seconds)
    monkeypatch.setattr(doctor, "SAMPLE", 50)
    monkeypatch.setattr("tapegpt.training.trainer.Trainer", partial(sampled, 50))
    costs = examine(Corpus.of([f"{number:03d}" for number in range(120)])).costs
    assert timed == [1, steps] * 2
    assert [cost.seconds for cost in costs] == pytest.approx([0.01 * 1000, 0.01 * 6000])


def sampled(most: int, corpus: Corpus, config: Config, settings: Settings) -> Trainer:
    """A trainer of no more documents than are timed."""
    assert most / 2 < len(corpus) <= most
    return Trainer(corpus, config, settings)


def test_a_look_without_measuring() -> None:
    report = examine(Corpus.of(["anna", "otto", "eve"]), measured=False)
    assert (report.split, report.costs) == (None, [])
    assert report.documents == 3


@pytest.mark.slow
def test_costs() -> None:
    costs = examine(Corpus.dataset("names")).costs
    assert [(cost.training, cost.steps) for cost in costs] == [("default", 1000), ("quick", 6000)]
    assert all(0 < cost.seconds < math.inf and cost.compiling >= 0 for cost in costs)


@pytest.mark.slow
def test_costs_are_those_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[tuple[int, int]] = []

    class Untimed(Trainer):
        def __init__(self, corpus: Corpus, config: Config, settings: Settings) -> None:
            super().__init__(corpus, config, settings)
            timed.append((config.block_size, max(map(len, corpus.documents))))

    monkeypatch.setattr("tapegpt.training.trainer.Trainer", Untimed)
    report = examine(Corpus.of(["ab" * (10 + number % 9) for number in range(99)] + ["a" * 1000]))
    assert timed == [(37, 36)] * 2
    assert "--block-size 37 --max-length 72 --" in report.command


# --- the page ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("untimed")
@given(
    st.lists(
        st.text(
            st.one_of(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), st.sampled_from("漢字\n\x1b"))
        ),
        min_size=1,
    )
)
def test_a_page_is_as_wide_as_a_page(strings: list[str]) -> None:
    if "".join(strings).strip():
        report = seen("\x1e\x1e".join([*strings, *strings]).encode(), delimiter="\x1e\x1e", encoding="utf-8")
        lines = list(page(report))
        assert all(columns(line) <= WIDTH for line in lines if report.command not in line)
        assert all(visible(line) == line for line in lines if report.command not in line)
        assert sum(report.command in line for line in lines) >= 1


@given(st.text(st.sampled_from("ab漢e\u0301\x1b ")), st.sampled_from(["", "label"]))
def test_nothing_is_left_out_where_a_line_ends(text: str, label: str) -> None:
    lines = list(_wrap(label, text * 9))
    assert all(columns(line) <= WIDTH for line in lines)
    assert "".join(lines).replace(" ", "") == (label if lines else "") + visible(text * 9).replace(" ", "")
    assert all(line.startswith(" " * 18) for line in lines[1:])


@pytest.mark.usefixtures("untimed")
def test_what_would_spoil_a_training_comes_first_and_whole() -> None:
    name = f"{'a long name ' * 9}.txt"
    shown = list(page(seen("anna\nbo\0b\n\x1b[1mhannah\n", name)))
    first = " ".join(line[18:] for line in shown[: shown.index("")])
    assert first == (
        f"{name} has 2 control characters, 1 of them NUL, which would be learnt like letters: choose another "
        "--encoding, or leave them out"
    )
    shown = list(page(seen("Zoë\n".encode("cp1252"))))
    assert shown[0] == "encoding          not what was requested; choose what reads well"


@pytest.mark.usefixtures("untimed")
@pytest.mark.parametrize("data", ["a", "a\na\n", "\ud7ff" * 3000, "a\nb"])
def test_hopeless_data_has_a_page(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("data.txt").write_text(data, encoding="utf-8")
    assert main(["doctor", "data.txt"]) == 0
    shown = capsys.readouterr().out
    assert ("nothing can be: there are no two distinct strings" in shown) == (data != "a\nb")


@pytest.mark.usefixtures("untimed")
def test_a_page_says_all_that_matters(capsys: pytest.CaptureFixture[str]) -> None:
    Path("data.txt").write_bytes("Zoë\r\nBob\nbob\nbob \n\n".encode("cp1252"))
    assert main(["doctor", "data.txt", "--max-length", "9", "--block-size", "3"]) == 0
    shown = capsys.readouterr().out
    for part in (
        "file              data.txt: text, 19 bytes, 4 LF, 1 CR LF, mixed line ends, all read as one\n",
        "cp1252 fits, which is used below: Zoë\n",
        "strings           4, 3 of them distinct, 1 repetitions\n",
        "left out          1 blank, 0 too long\n",
        "stripped          1 of white space around them\n",
        "most frequent     2 times bob\n",
        "characters        5 distinct, 12 in all: BZbo",
        "in lower case     4 distinct, 1 string would be like others; --lowercase, where case has no meaning\n",
        "U+00EB latin small letter e with diaeresis, in 1: Zoë\n",
        "lengths           3 to 3 characters, median 3, 95 % have at most 3\n",
        "3  4  ########################################\n",
        "block             of 3: cuts 4 strings, 100.0%, with their ends\n",
        "of 4: cuts at most 5 %; of 4: cuts none\n",
        "held out          1 string with --validation 0.1 --seed 42\n",
        "to compare        nats per token: uniform ",
        "--block-size 4: 4 of 4 strings do not fit into 3 with their end\n",
    ):
        assert part in shown


@pytest.mark.usefixtures("untimed")
def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    Path("data.txt").write_text("anna\nbob\nbob\n")
    assert main(["doctor", "data.txt", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == seen("anna\nbob\nbob\n").as_json()
    assert list(found) == list(DataReport.__annotations__)
    assert (found["documents"], found["frequent"], found["files"][0]["path"]) == (3, [["bob", 2]], "data.txt")
    assert found["lengths"]["histogram"] == [
        {"first": 3, "last": 3, "documents": 2},
        {"first": 4, "last": 4, "documents": 1},
    ]
