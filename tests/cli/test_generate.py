"""`tapegpt generate` as typed: every option, what is said, and one clear line for what cannot be."""

from __future__ import annotations

import json
import math
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import tapegpt
from tapegpt.cli import main
from tapegpt.data.vocabulary import Vocabulary
from tapegpt.inference.constraints import split_options

NAMES = ["anna", "otto", "bob", "hannah", "eve", "ada", "natan", "aviva", "nathan", "eva", "bonnie", "tobias"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with names and models that learned them."""
    place = tmp_path_factory.mktemp("generate")
    (place / "names.txt").write_text("\n".join(NAMES) + "\n")
    arguments = ["--n-embd", "8", "--n-head", "2", "--block-size", "8", "--steps", "300", "--samples", "0"]
    for engine in ("exact", "fast"):
        data, model = str(place / "names.txt"), str(place / engine)
        assert main(["train", data, *arguments, "--engine", engine, "-o", model]) == 0
    return place


class Command:
    """`tapegpt generate` with one model."""

    def __init__(self, model: str, capsys: pytest.CaptureFixture[str]) -> None:
        self._model, self._capsys = model, capsys

    def __call__(self, options: str, code: int = 0) -> tuple[list[str], str]:
        """The strings that it prints, and what it says besides."""
        self._capsys.readouterr()
        assert main(["generate", self._model, *shlex.split(options)]) == code
        output, said = self._capsys.readouterr()
        return output.splitlines(), said


@pytest.fixture(params=["exact", "fast"])
def generate(
    trained: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> Command:
    """The command in the directory of the models."""
    monkeypatch.chdir(trained)
    return Command(request.param, capsys)


@pytest.mark.slow
def test_prefix_suffix_and_lengths(generate: Command) -> None:
    assert all(text.startswith("an") for text in generate("--prefix an -n 50")[0])
    assert all(text.endswith("nn") for text in generate("--suffix nn -n 50")[0])
    strings, said = generate("--prefix a --suffix a --length 4..5 -n 50 --seed 1")
    assert len(strings) == 50
    assert all(re.fullmatch("a.{2,3}a", text) for text in strings)
    assert said == ""


@pytest.mark.slow
def test_strings_go_on_beyond_the_block(generate: Command) -> None:
    assert max(map(len, generate("--length ..30 --temperature 10 -n 50 --seed 1")[0])) > 8
    strings, said = generate("--prefix annannannann --length 20..30 --no-unbiased -n 20 --seed 1")
    assert all(text.startswith("annannannann") and 20 <= len(text) <= 30 for text in strings)
    assert (len(strings), said) == (20, "")


def test_a_string_may_end_with_nul(generate: Command) -> None:
    strings = generate("-n 5 --seed 1")[0]
    assert generate("-n 5 --seed 1 --print0")[0] == ["".join([f"{text}\0" for text in strings])]
    assert "--json and --print0 exclude each other" in generate("--json --print0", code=2)[1]


@pytest.mark.slow
def test_a_pattern_is_met_by_the_whole_string(generate: Command) -> None:
    for pattern in ("(ha|na)+", "[^aeiou]*[aeiou]", r"\w{3}", "(?i:ANN).?"):
        strings, _ = generate(f"--pattern {shlex.quote(pattern)} -n 30")
        assert len(strings) == 30
        assert all(re.fullmatch(pattern, text) for text in strings)


@pytest.mark.slow
def test_no_string_twice_and_none_that_was_trained_on(generate: Command) -> None:
    strings, _ = generate("--distinct --novel -n 300")
    assert len(strings) == len(set(strings)) == 300
    assert set(strings).isdisjoint(NAMES)


def test_novelty_by_edits(generate: Command) -> None:
    assert set(generate("--novel 2 -n 50 --temperature 1")[0]).isdisjoint(
        {"anna", "hanna", "hannah", "ana", "hana", "an"}
    )


def test_words_to_avoid_occur_nowhere(generate: Command, trained: Path) -> None:
    (trained / "words.txt").write_text("AN\nb\n\n")
    strings, _ = generate("--avoid words.txt -n 200 --temperature 1")
    assert not any("an" in text or "b" in text for text in strings)
    (trained / "words.txt").write_text("\n")
    assert len(generate("--avoid words.txt -n 2")[0]) == 2


def test_fewer_strings_than_asked_for_all_come_and_one_line_says_so(generate: Command) -> None:
    strings, said = generate("--pattern 'an{1,3}a' --distinct -n 20")
    assert sorted(strings) == ["ana", "anna", "annna"]
    assert said == "tapegpt: note: only 3 strings meet the constraints, 20 were requested\n"
    strings, said = generate("--pattern '(anna|bob)' --novel -n 2")
    assert (strings, said) == ([], "tapegpt: note: no string meets the constraints, 2 were requested\n")


def test_temperature_0_repeats_the_most_probable_string(generate: Command) -> None:
    strings, _ = generate("--temperature 0 -n 3")
    assert len(set(strings)) == 1
    assert generate("--top-k 1 -n 3")[0] == strings
    assert generate("--min-p 1 -n 3")[0] == strings
    assert generate("--top-p 0.0001 -n 3")[0] == strings
    assert generate("--temperature 0 --distinct -n 3")[0][0] == strings[0]


def test_a_seed_repeats_the_strings(generate: Command) -> None:
    assert generate("--distinct --seed 3 -n 5") == generate("--distinct --seed 3 -n 5")
    assert generate("--distinct --seed 3 -n 5") != generate("--distinct --seed 4 -n 5")


def test_json_gives_the_probability_of_every_character(generate: Command) -> None:
    lines, _ = generate("--json -n 20 --distinct --seed 1")
    assert [json.loads(line)["text"] for line in lines] == generate("-n 20 --distinct --seed 1")[0]
    for line in map(json.loads, lines):
        assert len(line["log_probabilities"]) == len(line["text"]) + 1
        assert math.isclose(sum(line["log_probabilities"]), line["log_probability"], abs_tol=1e-4)
        assert max(line["log_probabilities"]) <= 0


def test_the_probability_of_the_constraints_is_said_on_request(generate: Command) -> None:
    said = generate("--pattern 'a.*' -n 1 --temperature 1 --probability")[1]
    found = re.fullmatch(r"tapegpt: note: probability of the constraints: (\S+) ± (\S+)\n", said)
    assert found
    share = sum(text.startswith("a") for text in generate("-n 20000 --temperature 1")[0]) / 20000
    assert abs(float(found[1]) - share) < 0.02


def test_exact_strings_meet_the_constraints_too(generate: Command) -> None:
    strings, _ = generate("--unbiased --suffix a --prefix a -n 50")
    assert len(strings) == 50
    assert all(text[0] + text[-1] == "aa" for text in strings)


@pytest.mark.slow
def test_the_training_data_can_be_elsewhere(generate: Command, trained: Path) -> None:
    (trained / "names.txt").rename(trained / "moved.txt")
    try:
        _, said = generate("--novel -n 5", code=2)
        assert "names.txt" in said
        assert said.count("\n") == 1
        assert set(generate("--novel -n 50 --training-data moved.txt")[0]).isdisjoint(NAMES)
    finally:
        (trained / "moved.txt").rename(trained / "names.txt")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--prefix é", "prefix 'é': the model does not know 'é'"),
        ("--prefix annannannann", "strings have at most 8 characters"),
        ("--length 9..", "--length 9: strings have at most 8 characters"),
        ("--length 3..2", "--length 3..2 ends before it begins: no string is both"),
        ("--length x..", "--length must be a range such as 4..8, 4.., ..8 or 8, not 'x..'"),
        ("--pattern '('", "pattern"),
        (r"--pattern '(a)\1'", "pattern"),
        ("--pattern '(a|b)*a(a|b){30}'", "states"),
        ("--avoid missing", "missing: no such file"),
        ("--top-k -1", "--top-k must be a whole number from 0 to 1,114,112, not -1"),
        ("--top-p 2", "--top-p must be a number above 0, at most 1, not 2.0"),
        ("--min-p -1", "--min-p must be a number from 0 to 1, not -1.0"),
        ("--temperature 1e-9", "--temperature must be 0 or a number from 0.001"),
        ("--novel -1", "--novel must be a whole number from 0 on, not -1"),
        ("--novel x", "--novel must be a whole number from 0 on, not 'x'"),
        ("--unbiased --top-k 3", "leave out top_k"),
        ("--probability --top-k 3", "leave out top_k"),
        ("--novel --training-data missing", "missing: no such file"),
        ("-n -5", "-n must be a whole number from 0 on, not -5"),
    ],
)
def test_one_line_for_what_cannot_be(generate: Command, options: str, message: str) -> None:
    strings, said = generate(options, code=2)
    assert (strings, said.count("\n")) == ([], 1)
    assert message in said


@pytest.mark.slow
def test_a_reader_that_leaves_ends_a_stream_of_millions(trained: Path) -> None:
    command = f"{sys.executable} -m tapegpt generate fast -n 1000000000 --distinct --pattern '.*a.*' | head -n 3"
    done = subprocess.run(["sh", "-c", command], cwd=trained, capture_output=True, text=True, timeout=60)
    assert len(set(done.stdout.split())) == 3
    assert done.stderr == "tapegpt: note: up to 300.0 GB of memory: strings are kept, so that none comes twice\n"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:only 40 strings meet the constraints")
def test_a_model_of_strings_that_end_nowhere_keeps_to_its_block() -> None:
    model = tapegpt.train(["abcabc"], n_embd=4, n_head=1, block_size=3, steps=2)
    strings = model.generate(100, distinct=True, temperature=1.0)
    assert len(strings) == sum(3**length for length in range(4))


def test_lengths_may_be_one_and_beyond_the_block() -> None:
    constraints, _ = split_options({"min_length": 3, "max_length": 3})
    assert constraints.lengths(3, Vocabulary.of("abc")) == constraints.lengths(2, Vocabulary.of("abc")) == (3, 3)
    with pytest.raises(tapegpt.TapeGPTError, match="min_length 3: strings have at most 2 characters"):
        constraints.replace(max_length=None).lengths(2, Vocabulary.of("abc"))
