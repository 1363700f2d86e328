"""How surprising strings are: against the reference's probabilities and definitions, and the command as typed."""

from __future__ import annotations

import gzip
import io
import json
import math
import os
import subprocess
import sys
from array import array
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tapegpt
from tapegpt import GPT, Config, Corpus, Random, TapeGPTError
from tapegpt.cli import main
from tapegpt.cli.score import LAST_BIN, _choose, _mark, _Summary
from tapegpt.data import packed
from tapegpt.data.packed import CHUNK
from tapegpt.data.sources import Source
from tapegpt.data.tokens import Tokens
from tapegpt.data.vocabulary import Vocabulary
from tapegpt.data.windows import Windows, window_start
from tapegpt.engines.base import Engine
from tapegpt.inference.scores import ODD, RANKS, UNKNOWN, Calibration, Score, percentile, quantiles
from tapegpt.models.trained import make_engine

NAMES = ["anna", "otto", "bob", "nana", "tonto", "abba", "banana"]
SHAPE = Config(n_embd=8, n_head=2, block_size=6)
CLOSE = 1e-5  # of f32 to f64, relative

KNOWN = st.text(st.sampled_from(sorted(set("".join(NAMES)))), max_size=15)
ANY = st.text(st.characters(exclude_categories=()), max_size=15)


@cache
def trained() -> GPT:
    return tapegpt.train(NAMES, steps=60, n_embd=8, n_head=2, block_size=6)


@cache
def reference() -> Engine:
    """The scalar engine with the same parameters."""
    engine = make_engine("reference", SHAPE, trained().vocab_size)
    engine.load_parameters(trained().parameters)
    return engine


def reference_surprises(text: str) -> list[float]:
    """-log p of each character and the end in its window, by the scalar engine."""
    ids, surprises = Corpus([text], trained().vocabulary).tokens().ids, []
    for number in range(len(text) + 1):
        start = window_start(number, SHAPE.block_size)
        before, after = (loss(reference(), ids[start:end]) for end in (number + 1, number + 2))
        surprises.append(after - before)
    return surprises


def loss(engine: Engine, ids: array[int]) -> float:
    return engine.evaluate(Tokens(ids, array("q", [0, len(ids) - 1])))[0] if len(ids) > 1 else 0.0


# --- surprise ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("text", ["", "a", "anna", "ottob", "banana", "bananabananab", "o" * 18])
def test_surprises_are_those_of_the_reference(text: str) -> None:
    score = trained().score([text])[0]
    assert score.surprises == pytest.approx(reference_surprises(text), rel=CLOSE, abs=CLOSE)
    assert len(score.surprises) == len(text) + 1


@given(st.lists(KNOWN, min_size=1))
def test_means_add_up_to_the_loss_of_the_exact_engine(strings: list[str]) -> None:
    found = Windows.of(Corpus(strings, trained().vocabulary).tokens(), SHAPE.block_size)
    total = 0.0
    for begin, start, end in zip(found.begins, found.starts, found.starts[1:], strict=False):
        total += loss(trained().engine, found.ids[begin : end + 1]) - loss(
            trained().engine, found.ids[begin : start + 1]
        )
    nats = trained().score(strings).nats
    sums = [mean * (len(text) + 1) for text, mean in zip(strings, nats, strict=True)]
    assert math.fsum(sums) == pytest.approx(total, rel=CLOSE)


@given(st.lists(KNOWN, min_size=1))
def test_a_score_does_not_depend_on_what_else_is_scored(strings: list[str]) -> None:
    together = trained().score([*strings, "banana" * 3]).nats[:-1]
    assert list(together) == [trained().score([text]).nats[0] for text in strings]


@given(st.lists(ANY | KNOWN))
def test_any_strings_have_scores_that_fit_together(strings: list[str]) -> None:
    scores = trained().score(strings)
    assert [score.text for score in scores] == strings
    assert len(scores) == len(scores.nats) == len(strings)
    for number, (score, mean) in enumerate(zip(scores, scores.nats, strict=True)):
        assert score == scores[number]
        assert len(score.surprises) == len(score.text) + 1
        assert score.nats == pytest.approx(mean, rel=1e-6)
        assert score.percentile == scores.percentiles[number]
        assert score.unknown == tuple(i for i, c in enumerate(score.text) if c not in trained().vocabulary)


@given(ANY | KNOWN)
def test_an_unknown_character_costs_so_much_and_is_otherwise_passed_over(text: str) -> None:
    score = trained().score([text])[0]
    known = "".join(character for character in text if character in trained().vocabulary)
    rest = [nats for place, nats in enumerate(score.surprises) if place not in score.unknown]
    assert tuple(rest) == trained().score([known])[0].surprises
    assert all(score.surprises[place] == UNKNOWN for place in score.unknown)


def test_a_string_scores_the_same_in_any_company() -> None:
    strings = [text for text in NAMES for _ in range(100)]
    together = trained().score(strings).nats
    alone = [trained().score([text]).nats[0] for text in NAMES]
    assert list(together) == pytest.approx([nats for nats in alone for _ in range(100)], rel=1e-6)


@pytest.mark.slow
def test_a_vocabulary_beyond_latin_1() -> None:
    model = tapegpt.train(["жук", "лук"], steps=5, n_embd=8, n_head=2, block_size=6)
    strings = ["жук", "лyк", "", "\ud800", "a", "кукукукукук"]
    for score in model.score(strings):
        assert score.unknown == tuple(i for i, c in enumerate(score.text) if c not in "жлкуу")


def test_no_strings_have_no_scores() -> None:
    scores = trained().score([])
    assert (list(scores), list(scores.nats), scores.percentiles) == ([], [], [])


def test_some_of_the_scores() -> None:
    scores = trained().score(NAMES)
    taken = scores.take([5, 0])
    assert list(taken) == [scores[5], scores[0]]
    assert list(taken.nats) == [scores.nats[5], scores.nats[0]]
    assert repr(taken) == "<Scores of 2 strings>"


def test_what_follows_from_the_surprises() -> None:
    score = trained().score(["anxna"])[0]
    assert score.total == math.fsum(score.surprises)
    assert score.nats == score.total / 6
    assert score.bits == score.nats / math.log(2)
    assert score.perplexity == math.exp(score.nats)
    assert score.odd[0] == 2
    assert set(score.odd) == {place for place, nats in enumerate(score.surprises) if nats > ODD}
    assert "&lt;" in trained().score(["<"])[0]._repr_html_()
    page = trained().score(["an<a"] * 25)._repr_html_()
    assert (page.count("&lt;"), page[-10:]) == (20, "and 5 more")


def test_only_several_strings_have_scores() -> None:
    wrong: list[tuple[Any, str]] = [
        ("anna", "strings must be several strings, not 'anna': give a list"),
        (5, "strings must be several strings, not 5: give a list"),
        ([b"a"], "string 0 must be a str, not bytes: b'a'"),
    ]
    for strings, message in wrong:
        with pytest.raises(TapeGPTError) as caught:
            trained().score(strings)
        assert str(caught.value) == message


def test_numbers_that_overflow_are_refused() -> None:
    engine = make_engine("exact", SHAPE, trained().vocab_size)
    engine.load_parameters(
        {name: array("d", [1e39 * x for x in values]) for name, values in trained().parameters.items()}
    )
    with pytest.raises(TapeGPTError, match="overflow on these strings"):
        GPT(SHAPE, trained().vocabulary, Random(1), engine).score(["anna"])


# --- percentiles and thresholds ---------------------------------------------------------------------------------


@given(st.lists(KNOWN, min_size=1), KNOWN)
def test_a_percentile_is_the_share_of_training_strings_that_are_no_more_surprising(
    documents: list[str], text: str
) -> None:
    ranks = quantiles(trained().inference, trained().vocabulary, documents)
    assert sorted(trained().score(documents).nats) == list(ranks)
    nats = trained().score([text]).nats[0]
    assert percentile(nats, ranks) == 100.0 * sum(rank <= nats for rank in ranks) / len(documents)


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5, 6, 9])
def test_no_more_training_strings_are_looked_at_than_asked_for(most: int) -> None:
    found = quantiles(trained().inference, trained().vocabulary, trained().generate(6, seed=1), most)
    assert min(most, 6) / 2 <= len(found) <= most


def test_many_training_strings_are_kept_as_quantiles() -> None:
    documents = trained().generate(3 * RANKS, temperature=1.0, seed=1)
    ranks, every = (
        quantiles(trained().inference, trained().vocabulary, documents),
        sorted(trained().score(documents).nats),
    )
    assert len(ranks) == RANKS
    assert (ranks[0], ranks[-1]) == (every[0], every[-1])
    for nats in every[::100]:
        share = 100.0 * sum(each <= nats for each in every) / len(every)
        found = percentile(nats, ranks)
        assert found is not None
        lower = 100.0 * sum(each < nats for each in every) / len(every)
        assert lower - 0.2 <= found <= share + 0.2


def test_without_training_strings_there_is_no_percentile() -> None:
    model = GPT(SHAPE, trained().vocabulary, Random(1), trained().engine)
    scores = model.score(["anna", "bob"])
    assert scores.percentiles == [None, None]
    assert scores[0].percentile is None


@given(st.lists(st.floats(0, 50), min_size=2, max_size=40), st.floats(0.01, 0.99))
def test_the_rate_of_false_alarms_is_kept(nats: list[float], rate: float) -> None:
    """Of exchangeable strings each is as likely the new one: on average it is an alarm no more often than asked."""
    alarms = 0
    for place, new in enumerate(nats):
        calibration = Calibration(nats[:place] + nats[place + 1 :])
        try:
            threshold = calibration.threshold(rate)
        except TapeGPTError as error:
            assert rate * len(nats) < 1  # fewer than one alarm cannot be told from none
            assert "strings known to be good" in str(error)  # noqa: PT017
            return
        assert sum(each > threshold for each in calibration.nats) <= calibration.alarms(rate)
        alarms += new > threshold
    assert alarms <= rate * len(nats) + 1e-6


def test_thresholds_by_hand() -> None:
    calibration = Calibration([float(number) for number in range(99, 0, -1)])
    assert len(calibration) == 99
    assert [calibration.threshold(rate) for rate in (0.01, 0.02, 0.1, 0.29, 0.99)] == [99.0, 98.0, 90.0, 71.0, 1.0]
    assert [calibration.alarms(rate) for rate in (0.01, 0.02, 0.1, 0.29, 0.99)] == [0, 1, 9, 28, 98]
    assert [calibration.is_rough(rate) for rate in (0.01, 0.1, 0.2)] == [True, True, False]
    assert repr(calibration) == "<Calibration on 99 strings>"
    wrong: list[tuple[Any, str]] = [
        (0.001, "a rate of 0.001 takes 999 strings known to be good, not 99: give more, or a higher rate"),
        (0, "the rate of alarms must be a number above 0 and below 1, not 0"),
        (1.0, "the rate of alarms must be a number above 0 and below 1, not 1.0"),
        ("1", "the rate of alarms must be a number above 0 and below 1, not '1'"),
        (float("nan"), "the rate of alarms must be a number above 0 and below 1, not nan"),
    ]
    for rate, message in wrong:
        with pytest.raises(TapeGPTError) as caught:
            calibration.threshold(rate)
        assert str(caught.value) == message
    with pytest.raises(TapeGPTError, match="there is no string to calibrate with"):
        Calibration([])
    assert Calibration([2.0] * 999).threshold(0.001) == 2.0


# --- strings as they come ---------------------------------------------------------------------------------------


@pytest.fixture(autouse=True, scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory for this module, which is the current one, with a model in it."""
    former, path = Path.cwd(), tmp_path_factory.mktemp("scores")
    os.chdir(path)
    trained().rank()
    tapegpt.save(trained(), "m.safetensors")
    Path("names.txt").write_text("\n".join(NAMES), encoding="utf-8")
    Path("good.txt").write_text("\n".join(trained().generate(1500, temperature=1.0, seed=2)), encoding="utf-8")
    yield path
    os.chdir(former)


@given(
    st.text(st.sampled_from("aé\r\n \ufeffж"), max_size=40),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "shift_jis", "koi8-r"]),
    st.integers(1, 9),
    st.booleans(),
    st.booleans(),
)
def test_a_chunk_at_a_time_gives_what_the_whole_gives(
    text: str, encoding: str, size: int, zipped: bool, unique: bool
) -> None:
    data = text.encode(encoding, "ignore")
    cut = len(data) // 2
    Path("chunks").write_bytes(gzip.compress(data[:cut]) + gzip.compress(data[cut:]) if zipped else data)
    Path("others").write_bytes((text[::-1] + "b").encode(encoding, "ignore"))
    source = Source(paths=("chunks", "others"), encoding=encoding, unique=unique)
    whole = [string for some in source.batches() for string in some]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "CHUNK", size)
        found = list(source.batches())
    assert all(found)
    assert [string for some in found for string in some] == whole
    assert whole == [] or source.documents() == whole


@given(st.lists(st.text("aé \t"), min_size=1), st.booleans(), st.integers(1, 9))
def test_there_are_as_many_scores_as_lines(strings: list[str], ends: bool, size: int) -> None:
    """So that they stay beside what else is known of the lines; a blank one is the empty string."""
    strings = strings if ends or strings[-1] else [*strings, "a"]  # behind the last end of a line there is no line
    Path("lines").write_text("\n".join(strings) + "\n" * ends, encoding="utf-8")
    stripped = [string.strip() for string in strings]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "CHUNK", size)
        for keep_blank in (True, False):
            found = [string for some in Source(paths=("lines",)).batches(keep_blank=keep_blank) for string in some]
            assert found == (stripped if keep_blank else [string for string in stripped if string])
            more = Source(paths=("lines",), lowercase=True, max_length=2)
            assert all(len(string) <= 2 for some in more.batches(keep_blank=keep_blank) for string in some)


def test_blank_lines_are_scored_as_the_empty_string(capsys: pytest.CaptureFixture[str]) -> None:
    Path("gaps").write_text("anna\n\n \notto\n")
    Path("gaps.csv").write_text('name,x\nanna,1\n"",2\n" ",3\notto,4\n')
    scores = trained().score(["anna", "", "", "otto"])
    for arguments in (["gaps"], ["gaps.csv", "--column", "name"]):
        printed = run(capsys, "m.safetensors", *arguments).splitlines()[1:]
        assert [line[22:] for line in printed] == list(scores.texts)
        assert [float(line[:8]) for line in printed] == [round(nats, 3) for nats in scores.nats]
    Path("blocks").write_text("anna\n\n\n\notto\n\n")  # between paragraphs there is nothing to count
    assert len(run(capsys, "m.safetensors", "blocks", "--delimiter", "blank").splitlines()) == 3
    capsys.readouterr()
    assert main(["calibrate", "m.safetensors", "gaps", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["strings"] == 2


def test_a_summary_counts_what_is_above_a_percentile_not_at_it() -> None:
    shares = [50.0, 50.1, 90.0, 90.1, 99.0, 99.1, 49.9]
    nats = [0.2499, 0.25, 0.5, 10.0, 9.999, 99.0, 0.0]
    scores = SimpleNamespace(texts=["a"] * 7, nats=nats, percentiles=shares, unknown=set())
    summary = _Summary([scores, scores], Vocabulary.of("a"))  # type: ignore[list-item]  # it has what is looked at
    assert summary.above == {50: 10, 90: 6, 99: 2}
    assert summary.bins == {0: 4, 1: 2, 2: 2, 39: 2, 40: 4}


def test_of_equals_the_first_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    """Sorted, and among the most surprising; a threshold is not above itself."""
    Path("equals").write_text("anna\nxa\nya\nza\nxa\n")  # x, y and z are all unknown
    for arguments, found in (
        (["--sort"], ["xa", "ya", "za", "xa", "anna"]),
        (["--top", "2"], ["xa", "ya"]),
        (["--top", "4"], ["xa", "ya", "za", "xa"]),
    ):
        printed = run(capsys, "m.safetensors", "equals", "--json", *arguments).splitlines()
        assert [json.loads(line)["text"] for line in printed] == found
    nats = trained().score(["anna"])[0].nats
    assert len(run(capsys, "m.safetensors", "equals", "--threshold", repr(nats), "--json").splitlines()) == 4


@pytest.mark.parametrize("size", [1, 2, 5, 1 << 20])
def test_what_is_not_text_is_found_where_it_is(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "CHUNK", size)
    for data in (b"a\r\nb\r\r\xffc", b"\xff", b"ab\n\xe2\x82", b"\xc3\xa9\n\xc3\n", b"a\r\xff"):
        Path("bad").write_bytes(data)
        with pytest.raises(TapeGPTError) as whole:
            Source(paths=("bad",)).documents()
        with pytest.raises(TapeGPTError) as parts:
            list(Source(paths=("bad",)).batches())
        assert str(parts.value).split(": choose")[0] == str(whole.value).split(": choose")[0]


def test_files_that_cannot_be_read() -> None:
    zipped = gzip.compress(b"anna\n" * 100)
    Path("short").write_bytes(zipped[:-4])
    Path("damaged").write_bytes(zipped[:12] + b"\xff\xff" + zipped[14:])
    cases = {
        "short": "short: this gzip file ends too early, part of it is missing",
        "damaged": "damaged: this gzip file is damaged",
        "missing": "missing: no such file: give the path of a text file, one string a line",
    }
    for path, message in cases.items():
        with pytest.raises(TapeGPTError) as caught:
            list(Source(paths=(path,)).batches())
        assert str(caught.value).startswith(message)
    with pytest.raises(TapeGPTError, match="encoding 'klingon' is not known"):
        list(Source(paths=("names.txt",), encoding="klingon").batches())


def test_a_small_file_that_says_much_is_read_in_pieces() -> None:
    Path("much.gz").write_bytes(gzip.compress((b"a" * 99 + b"\n") * 300_000))
    sizes = [sum(map(len, strings)) for strings in Source(paths=("much.gz",)).batches()]
    assert sum(sizes) == 99 * 300_000
    assert max(sizes) <= CHUNK


def test_tables_and_blocks_are_read_too() -> None:
    Path("t.csv").write_text("x,y\n1,anna\n2,bob\n", encoding="utf-8")
    assert list(Source(paths=("t.csv",), column="y").batches()) == [["anna", "bob"]]
    Path("blocks").write_text("a\nb\n\nc\n", encoding="utf-8")
    assert list(Source(paths=("blocks",), delimiter="\n\n").batches()) == [["a\nb", "c"]]


# --- the command ------------------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *arguments: str, command: str = "score") -> str:
    """What the command prints."""
    code = main([command, *arguments])
    shown = capsys.readouterr()
    assert (code, shown.err) == (0, "")
    return shown.out


def rows(text: str) -> list[list[str]]:
    """Its columns, without the header."""
    return [[*line[:20].split(), line[22:]] for line in text.splitlines()[1:]]


def test_a_line_for_each_string_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    shown = run(capsys, "m.safetensors", "names.txt")
    scores = trained().score(NAMES)
    expected = [[f"{s.nats:.3f}", f"{s.percentile:.1f}", s.text] for s in scores]
    assert rows(shown) == expected
    assert shown.splitlines()[0].split() == ["nats", "percentile", "string"]
    assert len({line.index(text) for line, text in zip(shown.splitlines()[1:], NAMES, strict=True)}) == 1


@pytest.mark.slow
def test_standard_input_is_the_default_and_comes_as_it_is_there() -> None:
    command = [sys.executable, "-u", "-m", "tapegpt", "score", "m.safetensors"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number, name in enumerate(NAMES):
            process.stdin.write(f"{name}\n".encode())
            process.stdin.flush()
            assert number or b"string" in process.stdout.readline()  # the header, when there is something below it
            assert process.stdout.readline().split()[-1] == name.encode()
        process.stdin.close()
        assert process.stdout.read() == b""
    assert process.returncode == 0


def test_a_terminal_is_told_that_it_is_read(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(b"anna\n"))
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdin", terminal)
    assert main(["score", "m.safetensors"]) == 0
    shown = capsys.readouterr()
    assert rows(shown.out)[0][2] == "anna"
    assert shown.err == "tapegpt: note: reading strings from the terminal, one a line: Ctrl-D ends them\n"


@pytest.mark.slow
@given(st.lists(ANY.filter(str.strip), min_size=1), st.integers(1, 5))
def test_sorted_and_the_first_of_them(strings: list[str], top: int) -> None:
    Path("j.jsonl").write_text("\n".join(map(json.dumps, strings)), encoding="utf-8")
    stripped = [string.strip() for string in strings]
    out = {}
    for name, options in {"sorted": ["--sort"], "top": ["--top", str(top)], "all": []}.items():
        with pytest.MonkeyPatch.context() as patch:
            written = io.BytesIO()
            patch.setattr(sys, "stdout", io.TextIOWrapper(written, "utf-8"))
            assert main(["score", "m.safetensors", "j.jsonl", "--json", *options]) == 0
            out[name] = [json.loads(line) for line in written.getvalue().splitlines()]
    assert [line["text"] for line in out["all"]] == stripped
    nats = trained().score(stripped).nats
    order = sorted(range(len(stripped)), key=lambda place: -nats[place])
    assert [line["text"] for line in out["sorted"]] == [stripped[place] for place in order]
    assert out["top"] == out["sorted"][:top]


def test_json_says_all(capsys: pytest.CaptureFixture[str]) -> None:
    Path("odd.txt").write_text("anna\nanßa7\n", encoding="utf-8")
    for line, score in zip(
        run(capsys, "m.safetensors", "odd.txt", "--json").splitlines(), trained().score(["anna", "anßa7"]), strict=True
    ):
        found = json.loads(line)
        assert found == {
            "text": score.text,
            "tokens": list(score.tokens),
            "nats": round(score.nats, 6),
            "bits": round(score.bits, 6),
            "perplexity": round(score.perplexity, 6),
            "percentile": score.percentile,
            "surprises": [round(nats, 6) for nats in score.surprises],
            "odd": [
                {"position": i, "token": (*score.tokens, "")[i], "nats": round(score.surprises[i], 6)}
                for i in score.odd
            ],
            "unknown": list(score.unknown),
        }
    assert json.loads(line)["unknown"] == [2, 4]


def test_what_is_unknown_or_has_no_shape_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    Path("odd.txt").write_text("anna\nan\x1b[31nb\na\\n\n", encoding="utf-8")
    first, second, third = rows(run(capsys, "m.safetensors", "odd.txt"))
    assert first[2] == "anna"
    assert second[2] == r"an\x1b[31nb  (the model does not know \x1b[31)"
    assert third[2] == r"a\\n  (the model does not know \)"


def test_characters_have_digits_below(capsys: pytest.CaptureFixture[str]) -> None:
    Path("odd.txt").write_text("anna\n語a\x07e\u0301b\n", encoding="utf-8")
    shown = run(capsys, "m.safetensors", "odd.txt", "--characters").splitlines()
    first, second = trained().score(["anna", "語a\x07e\u0301b"])
    assert shown[1].endswith("  anna⏎")
    digits = [str(min(int(nats), 9)) for nats in first.surprises]
    assert shown[2] == " " * shown[1].index("anna") + "".join(digits)
    assert shown[3].endswith("  語a\\x07e\u0301b⏎")
    known = [str(min(int(second.surprises[place]), 9)) for place in (1, 5, 6)]
    assert shown[4].strip() == f"??{known[0]}?????{known[1]}{known[2]}"


def test_a_terminal_has_colours(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    Path("odd.txt").write_text("annax\n", encoding="utf-8")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    coloured = run(capsys, "m.safetensors", "odd.txt", "--characters")
    assert "\x1b[7;31mx\x1b[0m" in coloured
    assert len(coloured.splitlines()) == 2
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in run(capsys, "m.safetensors", "odd.txt", "--characters")


def test_only_what_is_surprising_enough(capsys: pytest.CaptureFixture[str]) -> None:
    strings = Path("good.txt").read_text(encoding="utf-8").splitlines()
    scores = trained().score(strings)
    for options, kept in {
        ("--threshold", "1.5"): [nats > 1.5 for nats in scores.nats],
        ("--min-percentile", "80"): [share is not None and share >= 80 for share in scores.percentiles],
        ("--threshold", "99"): [False] * len(strings),
    }.items():
        found = [row[2] for row in rows(run(capsys, "m.safetensors", "good.txt", *options))]
        assert found == [text for text, keep in zip(strings, kept, strict=True) if keep]
        assert len(found) < len(strings)


def test_thresholds_for_rates_of_alarms(capsys: pytest.CaptureFixture[str]) -> None:
    strings = Path("good.txt").read_text(encoding="utf-8").split()
    calibration = Calibration(trained().score(strings).nats)
    shown = json.loads(run(capsys, "m.safetensors", "good.txt", "--json", command="calibrate"))
    assert shown["strings"] == len(strings)
    for row in shown["thresholds"]:
        rate = row["rate"]
        expected = {"threshold": calibration.threshold(rate), "above": calibration.alarms(rate)}
        assert row == {"rate": rate, **expected, "rough": calibration.is_rough(rate)}
    table = run(capsys, "m.safetensors", "good.txt", command="calibrate").splitlines()
    assert table[0] == f"thresholds from {len(strings):,} strings"
    assert table[2].split() == ["10", "%", f"{calibration.threshold(0.1):.3f}", str(calibration.alarms(0.1))]
    assert table[5].endswith("rough: fewer than 10 to be expected")
    Path("good.jsonl").write_text("\n".join(map(json.dumps, strings)), encoding="utf-8")
    read = ("good.jsonl", "--format", "jsonl")
    assert run(capsys, "m.safetensors", *read, command="calibrate").splitlines() == table
    few = run(capsys, "m.safetensors", "names.txt", command="calibrate").splitlines()
    assert few[2].endswith("too few strings")


def test_the_threshold_of_a_rate_is_for_score(capsys: pytest.CaptureFixture[str]) -> None:
    strings = Path("good.txt").read_text(encoding="utf-8").split()
    threshold = Calibration(trained().score(strings).nats).threshold(0.9)
    printed = run(capsys, "m.safetensors", "good.txt", "--alarm-rate", "0.9", command="calibrate").strip()
    assert float(printed) == threshold
    (row,) = json.loads(run(capsys, "m.safetensors", "good.txt", "--alarm-rate", "0.9", "--json", command="calibrate"))[
        "thresholds"
    ]
    assert (row["rate"], row["threshold"]) == (0.9, threshold)
    alarms = run(capsys, "m.safetensors", "names.txt", "--threshold", printed)
    assert [row[2] for row in rows(alarms)] == [
        score.text for score in trained().score(NAMES) if score.nats > threshold
    ]


def test_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    Path("odd.txt").write_text("\n".join([*NAMES, "x", "xy"]), encoding="utf-8")
    scores = trained().score([*NAMES, "x", "xy"])
    shown = json.loads(run(capsys, "m.safetensors", "odd.txt", "--summary", "--json"))
    tokens = sum(len(text) + 1 for text in scores.texts)
    assert shown["nats"] == pytest.approx(sum(score.total for score in scores) / tokens)
    assert (shown["strings"], shown["characters"], shown["unknown"]) == (9, tokens - 9, {"x": 2, "y": 1})
    assert sum(each["strings"] for each in shown["histogram"]) == 9
    for each in shown["histogram"]:
        last = math.inf if each["from"] == LAST_BIN / 4 else each["from"] + 0.25
        assert each["strings"] == sum(each["from"] <= nats < last for nats in scores.nats)
    above = [sum(share is not None and share > at for share in scores.percentiles) for at in (50, 90, 99)]
    assert list(shown["above_percentile"].values()) == above
    page = run(capsys, "m.safetensors", "odd.txt", "--summary").splitlines()
    assert page[0].split()[:2] == ["strings", "9"]
    assert f"{shown['nats']:.4f}" in page[1]
    bars = [line for line in page if line.endswith("#")]
    assert sum(int(line.split()[3]) for line in bars) == 9
    assert bars[-1].startswith(f"{LAST_BIN / 4:.2f} to more")


def test_options_that_do_not_fit_together(capsys: pytest.CaptureFixture[str]) -> None:
    cases = {
        "--characters --json": "--characters and --json exclude each other: give one of them",
        "--characters --summary": "--characters and --summary exclude each other: give one of them",
        "--summary --sort": "--summary and --sort exclude each other: give one of them",
        "--summary --top 3": "--summary and --top exclude each other: give one of them",
        "--top 0": "--top must be a whole number from 1 on, not 0",
        "--min-percentile 101": "--min-percentile must be a number from 0 to 100, not 101.0",
        "--threshold nan": "--threshold must be a finite number, not nan",
        "--threshold 99 --summary": "there is no string to summarise: choose more of them",
    }
    for options, message in cases.items():
        assert main(["score", "m.safetensors", "names.txt", *options.split()]) == 2
        assert capsys.readouterr().err == f"tapegpt: error: {message}\n"
    assert main(["calibrate", "m.safetensors", "good.txt", "--alarm-rate", "2"]) == 2
    assert "--alarm-rate must be a number above 0 and below 1, not 2.0" in capsys.readouterr().err


def test_a_model_without_percentiles(capsys: pytest.CaptureFixture[str]) -> None:
    tapegpt.save(GPT(SHAPE, trained().vocabulary, Random(1), trained().engine), "bare.safetensors")
    assert {row[1] for row in rows(run(capsys, "bare.safetensors", "names.txt"))} == {"-"}
    assert json.loads(run(capsys, "bare.safetensors", "names.txt", "--summary", "--json"))["above_percentile"] is None
    assert main(["score", "bare.safetensors", "names.txt", "--min-percentile", "5"]) == 2
    said = "keeps no percentiles of its training strings: give --training-data, or --threshold"
    assert said in capsys.readouterr().err
    known = run(capsys, "bare.safetensors", "names.txt", "--training-data", "names.txt", "--min-percentile", "5")
    model = tapegpt.load("bare.safetensors")
    model.read_training_data("names.txt")
    assert [row[1] for row in rows(known)] == [f"{score.percentile:.1f}" for score in model.score(NAMES)]


def test_ranks_reach_from_the_least_to_the_most_surprising(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tapegpt.inference.scores.RANKS", 4)
    documents = [*NAMES, "x"]
    means = sorted(trained().score(documents).nats)
    ranks = quantiles(trained().inference, trained().vocabulary, documents)
    assert list(ranks) == [means[place * (len(means) - 1) // 3] for place in range(4)]
    assert (ranks[0], ranks[-1]) == (means[0], means[-1])


def test_ten_alarms_are_enough() -> None:
    assert not Calibration(range(1000)).is_rough(0.01)
    assert Calibration(range(999)).is_rough(0.01)


def test_a_percentile_that_is_asked_for_is_itself_surprising_enough() -> None:
    scores = trained().score(NAMES)
    for share in set(scores.percentiles):
        (chosen,) = _choose([scores], None, share)
        assert len(chosen) == sum((each or 0.0) >= (share or 0.0) for each in scores.percentiles)


def test_a_digit_is_the_whole_nats() -> None:
    score = Score(("a", "b", "c"), (0.9, 1.9, 9.9, 99.0), None, (1,))
    assert _mark(score, False).splitlines()[1].strip() == "0?99"


# --- rows of tables, columns of frames --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_scores_go_back_to_their_rows(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each as it is of the string alone; a blank cell has none, nor has a string that is too long."""
    names = ["Anna", "", "ünü", " ", "o" * 20, "bob"]
    Path("t.csv").write_text("id;name\n" + "".join(f'{number};"{name}"\n' for number, name in enumerate(names)))
    options = ["--column", "name", "--lowercase", "--max-length", "19", "--output-format", kind]
    assert run(capsys, "m.safetensors", "t.csv", *options, "-o", f"scored.{kind}") == ""
    scored = ["anna", None, "ünü", None, None, "bob"]
    scores = trained().score(scored)
    found = Source(paths=(f"scored.{kind}",), column="name", separator=";" if kind == "csv" else None).tables()
    rows = [row for some in found for row in some.objects()]
    assert [(row["id"], row["name"]) for row in rows] == [(str(number), name) for number, name in enumerate(names)]
    for row, text, nats, share in zip(rows, scored, scores.nats, scores.percentiles, strict=True):
        if text is None:
            assert row["nats"] in ("", None)
            assert row["percentile"] in ("", None)
        else:
            assert (float(row["nats"]), float(row["percentile"])) == pytest.approx((nats, share), rel=1e-5)
        assert row["unknown"] == ("ü" if text == "ünü" else "")


def test_rows_that_are_surprising_enough(capsys: pytest.CaptureFixture[str]) -> None:
    Path("some.tsv").write_text("id\tname\n1\tanna\n2\txqz\n3\t\n4\tbob\n")
    options = ["--column", "name", "--output-format", "csv"]
    means = trained().score(["anna", "xqz", "bob"]).nats
    least = sorted(means)[1]
    every = run(capsys, "m.safetensors", "some.tsv", *options).splitlines()
    assert [line[0] for line in every] == ["i", "1", "2", "3", "4"]
    found = run(capsys, "m.safetensors", "some.tsv", *options, "--threshold", repr(least)).splitlines()
    assert found == [every[0], every[2]]
    found = run(capsys, "m.safetensors", "some.tsv", *options, "--min-percentile", "100").splitlines()
    assert every[2] in found
    assert every[3] not in found


def test_numbers_of_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Of those that are there, whatever is left out and in which order they come."""
    Path("lines").write_text("anna\n\nbob\n" + "o" * 20 + "\nxqz\n")
    options = ["--line-numbers", "--max-length", "19"]
    printed = run(capsys, "m.safetensors", "lines", *options).splitlines()
    assert printed[0].split() == ["line", "nats", "percentile", "string"]
    assert [line.split()[0] for line in printed[1:]] == ["1", "2", "3", "5"]
    plain = run(capsys, "m.safetensors", "lines", "--max-length", "19").splitlines()
    assert [line[8:] for line in printed] == plain
    assert [line.split()[0] for line in run(capsys, "m.safetensors", "lines", *options, "--top", "1").splitlines()] in (
        [["line", each] for each in "235"]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--output-format csv --sort", "--sort does not go with a table, whose rows keep their order: leave it out"),
        ("--output-format csv --unique", "--unique does not go with a table"),
        ("--output-format csv --line-numbers", "--line-numbers does not go with a table"),
        ("--output-format xlsx", "--output-format must be one of text, csv, tsv, jsonl, parquet, not 'xlsx'"),
        ("--line-numbers --json", "--line-numbers and --json exclude each other: give one of them"),
        ("--separator ;", "names.txt: is read as text, --separator ; is for csv and tsv: leave it out"),
        ("--format csv --separator ;;", "--separator must be one character, not a quotation mark or"),
        ("--no-quotes", "names.txt: is read as text, --no-quotes is for csv and tsv: leave it out"),
    ],
)  # fmt: skip
def test_options_of_tables(options: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "m.safetensors", "names.txt", *options.split()]) == 2
    assert capsys.readouterr().err.startswith(f"tapegpt: error: {message}")


def test_a_series_keeps_its_index_and_what_is_missing() -> None:
    pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    series = pandas.Series(["anna", None, "ünü", float("nan")], index=["w", "x", "y", "z"], dtype=object)
    scores, alone = trained().score(series), trained().score(["anna", "ünü"])
    frame = scores.to_frame()
    assert list(frame.columns) == ["text", "nats", "percentile", "unknown"]
    assert frame.index.equals(series.index)
    assert frame["text"].isna().tolist() == frame["nats"].isna().tolist() == [False, True, False, True]
    assert frame["nats"].dropna().tolist() == list(alone.nats)
    assert scores.percentiles == [alone.percentiles[0], None, alone.percentiles[1], None]
    assert frame["unknown"].tolist() == ["", "", "ü", ""]
    assert list(scores.take([2, 1]).to_frame().index) == ["y", "x"]
    assert list(trained().score(["anna"]).to_frame().index) == [0]
    missing = scores[1]
    assert (missing.text, missing.surprises, missing.percentile) == ("", (), None)
    assert math.isnan(missing.nats)
    assert [score.text for score in scores] == ["anna", "", "ünü", ""]
    assert scores[2] == alone[1]
    table = scores.to_arrow()
    assert table["text"].to_pylist() == ["anna", None, "ünü", None]
    assert table["nats"].to_pylist() == [alone.nats[0], None, alone.nats[1], None]
    assert pyarrow.table(scores).equals(table)  # by Arrow's interface, as polars takes it
    assert len(trained().calibrate(series)) == 2
    assert trained().score([None, None]).to_arrow()["text"].null_count == 2


def test_where_pandas_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(TapeGPTError, match=r"^pandas is not installed: install it, or take as_columns\(\) or to_arrow"):
        trained().score(["anna"]).to_frame()
