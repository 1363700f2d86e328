"""The benchmarks run, refuse to time a wrong result, and sum up what they are told; no figure is looked at."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks import command, randomness, training
from benchmarks.__main__ import arguments
from benchmarks.timing import Contender, Summary, comparison, figure, take_turns
from tapegpt import Config, Corpus, Random
from tapegpt.trainer import Trainer

CORPUS = Corpus.of(["ada", "grace", "emmy", "sofja"])
SMALL = Config(n_embd=4, n_head=2, block_size=4)


def test_contenders_take_turns() -> None:
    order: list[str] = []

    def contender(name: str, figures: Sequence[float]) -> Contender:
        rest = iter(figures)

        def sample() -> float:
            order.append(name)
            return next(rest)

        return Contender(name, sample)

    first, second = take_turns([contender("a", [3.0, 1.0, 2.0]), contender("b", [9.0, 7.0, 500.0])], 3)
    assert order == ["a", "b", "a", "b", "a", "b"]
    assert (first.median, first.spread) == (2.0, "1.00..3.00")
    assert (second.median, second.spread) == (9.0, "7.00..500")


def test_a_comparison_is_a_markdown_table() -> None:
    ours, theirs = Summary("ours", [2.0]), Summary("theirs", [50.0])
    assert comparison("Race", "ms", [ours, theirs], ours).splitlines() == [
        "### Race",
        "",
        "|  | median, ms | lowest..highest, ms | ratio to ours |",
        "| --- | ---: | ---: | ---: |",
        "| ours | 2.00 | 2.00..2.00 | 1.00 |",
        "| theirs | 50.0 | 50.0..50.0 | 25.0 |",
    ]


@pytest.mark.parametrize(
    ("value", "text"), [(0.12345, "0.123"), (1.005, "1.00"), (12.34, "12.3"), (123.4, "123"), (213_999.7, "214,000")]
)
def test_figures_are_short(value: float, text: str) -> None:
    assert figure(value) == text


def test_engines_that_agree_may_be_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    training.check_against_reference(CORPUS, SMALL, 3)
    run = Trainer.run

    def off_by_an_ulp(self: Trainer, count: int) -> list[float]:
        losses = run(self, count)
        return (
            losses
            if type(self.model.engine).__name__ == "ReferenceEngine"
            else [*losses[:-1], losses[-1] * (1 + 2**-52)]
        )

    monkeypatch.setattr(Trainer, "run", off_by_an_ulp)
    with pytest.raises(AssertionError, match="the engines' losses differ"):
        training.check_against_reference(CORPUS, SMALL, 3)


def test_published_results_are_read_and_compared(tmp_path: Path) -> None:
    trainer = Trainer(CORPUS, Config(), steps=1000)
    losses = trainer.run(1000)
    parameters = [number for matrix in trainer.model.engine.parameters().values() for number in matrix]
    written = {"losses.hex": losses, "params.hex": parameters}
    for name, numbers in written.items():
        (tmp_path / f"names_default_{name}").write_text("".join(f"{number.hex()}\n" for number in numbers))
    samples = tmp_path / "names_default_samples.txt"
    samples.write_text("".join(f"{sample}\n" for sample in trainer.model.generate(20)))
    training.check_against_oracle(CORPUS, str(tmp_path))
    samples.write_text(samples.read_text() + "one more\n")
    with pytest.raises(AssertionError, match="samples differ"):
        training.check_against_oracle(CORPUS, str(tmp_path))
    (tmp_path / "names_default_losses.hex").write_text("0x1p0\n")
    with pytest.raises(AssertionError, match="losses differ"):
        training.check_against_oracle(CORPUS, str(tmp_path))


def test_random_numbers_are_timed_only_where_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = randomness.against_cpython(rounds=1)
    assert printed.count("| tapegpt.Random |") == printed.count("| random.Random |") == 2
    monkeypatch.setattr(Random, "permutation", lambda self, count: list(range(count)))
    with pytest.raises(AssertionError, match="the results differ"):
        randomness.against_cpython(rounds=1)


def test_the_command_is_timed_beside_its_peers(tmp_path: Path) -> None:
    data = tmp_path / "few.txt"
    data.write_text("ada\ngrace\n\nemmy\n")
    peer = f"{sys.executable} -c \"print(open('input.txt').read())\""
    printed = command.whole_command(str(data), {"reader": peer}, rounds=1)
    rows = [line.split("|")[1].strip() for line in printed.splitlines() if line.startswith("| ")]
    assert rows == ["", "---", *["tapegpt", "bare interpreter", "reader"]] * 2 + ["", "---", "tapegpt"]


def test_a_peer_that_fails_stops_the_benchmark(tmp_path: Path) -> None:
    program = command.Program("broken", [sys.executable, "-c", "raise SystemExit(3)"], tmp_path)
    with pytest.raises(SystemExit, match=r"^broken: .* ended with 3"):
        program.run()


def test_memory_is_the_program_s_own(tmp_path: Path) -> None:
    lean = command.Program("lean", [sys.executable, "-c", "pass"], tmp_path)
    large = command.Program("large", [sys.executable, "-c", "bytearray(b'x') * 50_000_000"], tmp_path)
    for program in (lean, large):
        program.run()
    assert 1 < lean.peaks[0] < 50 < large.peaks[0] < 50 + 2 * lean.peaks[0]


def test_arguments() -> None:
    options = arguments(["training", "sizes", "--rounds", "3", "--peer", "a=b c=d"])
    assert (options.parts, options.rounds, options.peer) == (["training", "sizes"], 3, [("a", "b c=d")])


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["trainig"], "no part is called trainig: choose from training, sizes, command, random"),
        (["--rounds", "0"], "--rounds must be at least 1"),
        (["--oracle", "folder"], "--oracle needs --data"),
        (["--peer", "nothing"], "must be NAME=COMMAND, not 'nothing'"),
    ],
)
def test_wrong_arguments_are_named(words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(words)
    assert complaint in capsys.readouterr().err
