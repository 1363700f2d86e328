"""Held-out documents, patience and budgets; and these with the other options of the fast engine, as typed."""

from __future__ import annotations

import io
import math
import os
import re
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tapegpt
from tapegpt import Config, Corpus, DivergedError, TapeGPTError, Trainer
from tapegpt.cli import main
from tapegpt.engines.base import Adam
from tapegpt.models.provenance import Evaluation
from tapegpt.training.clock import EVALUATIONS
from tests.languages import RomanNumerals
from tests.properties import many

SHAPE = Config(1, 8, 2, 6)
FEW = RomanNumerals().sample(40, seed=1)  # so few that a model soon memorises them; XXIII twice
CORPUS = Corpus.of(FEW)
ENGINES: dict[str, dict[str, Any]] = {
    "exact": {"engine": "exact", "learning_rate": 0.05},
    "fast": {"engine": "fast", "learning_rate": 0.05, "batch_size": 4, "weight_decay": 0.01},
}
each_engine = pytest.mark.parametrize("engine", ENGINES)


def trainer(engine: str, **named: Any) -> Trainer:
    return Trainer(CORPUS, SHAPE, **{**ENGINES[engine], "validation": 0.3, "steps": 400, **named})


def ran(trainer: Trainer) -> list[float]:
    return [loss for chunk in trainer.chunks() for loss in chunk]


def held_out_loss(trainer: Trainer) -> float:
    assert trainer.held_out
    total, count = trainer.model.engine.evaluate(trainer.held_out.sorted_windows(SHAPE.block_size))
    assert count == sum(len(document) + 1 for document in trainer.held_out.documents)
    return total / count


@pytest.mark.slow
@each_engine
def test_the_best_weights_are_kept(engine: str) -> None:
    """They are those of a run that is stopped there, in every bit."""
    run = trainer(engine)
    assert len(ran(run)) == run.step == 400
    steps = [evaluation.step for evaluation in run.evaluations]
    assert steps == list(range(400 // EVALUATIONS, 401, 400 // EVALUATIONS))
    best = run.best
    assert best == min(run.evaluations, key=lambda evaluation: evaluation.loss)
    assert best is not None
    assert best.step < 400
    assert held_out_loss(run) == best.loss < run.evaluations[-1].loss
    again = trainer(engine)
    again.run(best.step)
    assert again.model.parameters == run.model.parameters
    assert again.evaluate() == best


@each_engine
def test_the_last_weights_are_kept_beside_the_best_where_these_are_others(engine: str) -> None:
    run = trainer(engine)
    run.run(10)
    run.evaluate()
    for more in (0, 1):
        run.run(more)
        run.keep(lambda _: None)
        assert run.model.state
        assert run.model.state.last == (run.model.parameters if more else None)


@each_engine
def test_what_is_held_out_changes_no_step(engine: str) -> None:
    run = trainer(engine, steps=60)
    alone = Trainer(run.training, SHAPE, **{**ENGINES[engine], "steps": 60})
    assert ran(run) == alone.run(60)
    assert run.training.vocabulary == CORPUS.vocabulary


@each_engine
def test_evaluating_more_often_changes_nothing(engine: str) -> None:
    run, again = trainer(engine, steps=30), trainer(engine, steps=30)
    losses = run.run(30)
    for _ in range(30):
        assert again.evaluate() == again.evaluate()
        assert again.run(1) == [losses[again.step - 1]]
    assert again.model.parameters == run.model.parameters


@pytest.mark.slow
@given(
    st.lists(st.text("ab", min_size=1, max_size=4), min_size=2, max_size=40).filter(lambda found: len(set(found)) > 1),
    st.floats(0.01, 0.99),
    st.integers(),
)
@settings(max_examples=many(50))
def test_no_document_is_on_both_sides(documents: list[str], share: float, seed: int) -> None:
    run = Trainer(Corpus.of(documents), Config(1, 2, 1, 2), validation=share, seed=seed)
    assert run.held_out
    held, learned = run.held_out.documents, run.training.documents
    assert len(held) == len(set(held)) == min(max(round(share * len(set(documents))), 1), len(set(documents)) - 1)
    assert set(held).isdisjoint(learned)
    assert learned == [document for document in documents if document not in held]


# Patience


def scripted(run: Trainer, losses: list[float]) -> None:
    """Let the evaluations of a run come out like this, the last of them again and again."""
    ahead = iter(losses)

    def evaluate(*_: object) -> tuple[float, int]:
        return next(ahead, losses[-1]), 1

    run.model.engine.evaluate = evaluate  # type: ignore[method-assign,assignment]  # losses as they are wanted


@pytest.mark.parametrize(
    ("losses", "patience", "evaluations", "best"),
    [
        ([5, 4, 4.5, 4.4, 3], 2, 4, 2),
        ([5, 4, 4.5, 3, 3.1, 3.2, 3.3, 1], 3, 7, 4),
        ([5, 4, 4.5, 3, 3.1, 3.2, 2, 2, 2], 3, 10, 7),  # an equal one is no better
        ([5, 5, 5], 1, 2, 1),
        ([5, 4, 3, 2, 1, 0.5], 14, 20, 6),
        ([5, 4, 4, 5], 3, 5, 2),  # of equal ones the first
        ([5, 6], 19, 20, 1),
        ([5, 6], 30, 20, 1),
    ],
)
def test_patience_ends_a_run(losses: list[float], patience: int, evaluations: int, best: int) -> None:
    run = trainer("fast", steps=100, patience=patience)
    scripted(run, losses)
    assert len(ran(run)) == run.step == 5 * evaluations
    assert [evaluation.step for evaluation in run.evaluations] == [5 * (i + 1) for i in range(evaluations)]
    assert run.best == Evaluation(5 * best, losses[best - 1])
    again = trainer("fast", steps=100)
    again.run(5 * best)
    assert run.model.parameters == again.model.parameters


@each_engine
def test_a_run_without_patience_goes_on(engine: str) -> None:
    impatient = trainer(engine, patience=2)
    taken = len(ran(impatient))
    assert taken < 400
    assert impatient.best
    assert taken == impatient.best.step + 2 * 400 // EVALUATIONS
    whole = trainer(engine)
    ran(whole)
    assert whole.evaluations[: len(impatient.evaluations)] == impatient.evaluations


@pytest.mark.parametrize("steps", [1, 7, 19, 20, 21, 45])
def test_short_runs_are_evaluated_at_their_end(steps: int) -> None:
    run = trainer("fast", steps=steps)
    assert len(ran(run)) == steps
    every = max(1, steps // EVALUATIONS)
    expected = [*range(every, steps + 1, every)]
    assert [evaluation.step for evaluation in run.evaluations] == sorted({*expected, steps})


# Divergence

WILD: dict[str, dict[str, Any]] = {
    "exact": {"engine": "exact", "learning_rate": 0.7},
    "fast": {"engine": "fast", "learning_rate": 1.0, "weight_decay": 30.0, "batch_size": 4},
}


@each_engine
def test_a_divergence_keeps_the_best(engine: str) -> None:
    run, again = (Trainer(CORPUS, SHAPE, **WILD[engine], steps=60, validation=0.3) for _ in range(2))
    with pytest.raises(DivergedError) as caught:
        ran(run)
    assert run.step == run.model.steps == caught.value.step > 3
    best = run.best
    assert best
    assert best.step < run.step
    again.run(best.step)
    assert run.model.parameters == again.model.parameters
    assert held_out_loss(run) == best.loss
    assert run.model.generate(3, seed=1) == again.model.generate(3, seed=1)


@each_engine
def test_a_divergence_before_any_evaluation_keeps_the_last(engine: str) -> None:
    run, again = (Trainer(CORPUS, SHAPE, **WILD[engine], steps=60, validation=0.3) for _ in range(2))
    with pytest.raises(DivergedError) as caught:
        run.run(60)
    assert run.evaluations == []
    assert run.step == caught.value.step
    assert again.run(run.step) == caught.value.losses
    assert run.model.parameters == again.model.parameters


# What a loss is to be compared with


def test_baselines() -> None:
    from tapegpt.data.ngrams import baselines

    run = trainer("fast")
    assert run.held_out
    found = run.baselines()
    assert found == baselines(run.training, run.held_out, CORPUS.vocab_size)
    assert list(found) == ["uniform", "unigram", "bigram", "5-gram"]
    assert found["uniform"] == math.log(CORPUS.vocab_size)
    assert found["bigram"] < found["unigram"] < found["uniform"]


def test_without_held_out_documents_nothing_is_judged() -> None:
    run = Trainer(CORPUS, SHAPE, steps=5)
    ran(run)
    assert (run.held_out, run.best, run.evaluations) == (None, None, [])
    for judge in (run.evaluate, run.baselines):
        with pytest.raises(TapeGPTError, match=r"no documents are held out: give validation, for instance 0\.1"):
            judge()


def test_one_document_cannot_be_split() -> None:
    with pytest.raises(TapeGPTError, match="documents that are all the same cannot be split"):
        Trainer(Corpus.of(["anna", "anna"]), SHAPE, validation=0.5)


# Budgets, by a clock of their own


class Clock:
    """Time that passes only while the engine works: so many seconds a step, and an evaluation."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: float, evaluation: float) -> None:
        self.now, self.step, self.evaluation = 0.0, step, evaluation
        self.schedule: list[tuple[int, int, float, float]] = []  # of each call: first, count, steps, progress
        trainer("fast")  # so that its code is there, which is compiled by another clock
        monkeypatch.setattr("tapegpt.training.trainer.passes_that_help", lambda documents: 1e9)
        monkeypatch.setattr("time.perf_counter", lambda: self.now)

    def governs(self, run: Trainer) -> Trainer:
        engine, evaluate = run.model.engine, run.model.engine.evaluate

        def train(tokens: object, adam: Adam, first: int, count: int, progress: float) -> list[float]:
            self.schedule.append((first, count, adam.steps, progress))
            self.now += count * self.step
            engine.steps = first + count
            return [1.0] * count

        def evaluated(tokens: Any) -> tuple[float, int]:
            self.now += self.evaluation
            return evaluate(tokens)

        engine.train, engine.evaluate = train, evaluated  # type: ignore[method-assign,assignment]  # on a clock of ours
        return run


@pytest.mark.parametrize("step", [1e-5, 1e-3, 0.02, 0.07, 0.3])
@pytest.mark.parametrize("validation", [0.0, 0.3])
def test_a_budget_is_spent_and_kept(step: float, validation: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The learning rate comes down as the time goes, from nothing to all of it."""
    clock = Clock(monkeypatch, step, 0.008)
    run = clock.governs(trainer("fast", budget=4.0, validation=validation))
    clock.now = 0.5  # of starting
    losses = ran(run)
    assert len(losses) == run.step == sum(count for _, count, _, _ in clock.schedule)
    assert 4.0 - 2 * max(step, 0.01) <= clock.now <= 4.0 + 1e-9
    done = [progress / steps for _, _, steps, progress in clock.schedule]
    assert done == sorted(done)
    assert done[0] < 0.02
    assert 0.85 < done[-1] < 1
    firsts = [first for first, *_ in clock.schedule]
    assert firsts == [sum(count for _, count, _, _ in clock.schedule[:i]) for i in range(len(firsts))]
    for _, count, steps, progress in clock.schedule[1:]:
        assert count * step <= 0.05 + 1e-9 or count == 1
        assert progress + count <= steps + 1
    if validation:
        assert run.evaluations[-1].step == run.step
        missed = min(EVALUATIONS, int(0.02 * 3.5 / 0.008)) - (len(run.evaluations) - 1)
        assert 0 <= missed <= (step > 0.1)  # where steps are long one may come too late
    else:
        assert run.evaluations == []


def test_a_budget_that_is_over_still_takes_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, 0.1, 0.01)
    run = clock.governs(trainer("fast", budget=1e-3))
    clock.now = 5.0
    assert ran(run) == [1.0]
    assert [evaluation.step for evaluation in run.evaluations] == [1]


def test_patience_ends_a_run_with_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, 1e-3, 1e-3)
    run = clock.governs(trainer("fast", budget=100.0, patience=2))
    ran(run)
    assert clock.now < 50  # a model that is not trained does not get better
    assert len(run.evaluations) == 3


def test_a_budget_in_real_time() -> None:
    run = Trainer(CORPUS, SHAPE, engine="fast", batch_size=4, validation=0.3, budget=0.3)
    losses = ran(run)
    assert len(losses) == run.step > 10
    assert run.best
    assert held_out_loss(run) == run.best.loss
    assert losses[-1] < losses[0]


# As typed

OPTIONS = ["--n-embd", "8", "--n-head", "2", "--block-size", "6"]
FAST = ["train", "data", *OPTIONS, "--engine", "fast"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the data in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").write_text("\n".join(FEW) + "\n")
    return tmp_path


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, without a process of its own."""
    out, said = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    with redirect_stdout(out), redirect_stderr(said):
        code = main(list(arguments))
    out.seek(0)
    return subprocess.CompletedProcess(arguments, code, out.read(), said.getvalue())


def output(*arguments: str) -> list[str]:
    """What is printed; nothing but notes on compiling, passes and what is cut may be said beside it."""
    done = run(*arguments)
    assert done.returncode == 0, done
    notes = r"(tapegpt: note: (compiled|[\d,]+ (steps? saw|passes)|\d+ of \d+ documents are cut)[^\n]+\n)*"
    assert re.fullmatch(notes, done.stderr), done.stderr
    return done.stdout.splitlines()


def sampled(strings: list[str]) -> list[str]:
    return [f"sample {number:2d}: {string}" for number, string in enumerate(strings, 1)]


@pytest.mark.slow
@pytest.mark.usefixtures("place")
def test_a_validated_run_as_typed() -> None:
    arguments = ["--batch-size", "4", "--learning-rate", "0.05", "--validation", "0.3", "--steps", "400"]
    lines = output(*FAST, *arguments, "--samples", "2", "-o", "m", "--threads", "2", "--weight-decay", "0.01")
    expected = trainer("fast", threads=2, long="window")
    losses, best = ran(expected), expected.best
    assert expected.held_out
    assert best
    assert best.step < 400
    assert lines[:4] == [
        "num docs: 40",
        f"held out: {len(expected.held_out)}, no two alike",
        f"vocab size: {CORPUS.vocab_size}",
        f"num params: {expected.model.num_parameters}",
    ]
    assert lines[4] == f"step  400 /  400 | loss {losses[-1]:.4f} | held-out {expected.evaluations[-1].loss:.4f}"
    perplexity = f"perplexity {math.exp(best.loss):.2f}, after step {best.step}, whose weights are kept"
    assert lines[5] == f"held-out loss: {best.loss:.4f} nats per token, {perplexity}"
    compared = ", ".join(f"{name} {loss:.4f}" for name, loss in expected.baselines().items())
    assert lines[6] == f"to compare: {compared}"
    assert lines[7:] == sampled(expected.model.generate(2))
    model = tapegpt.load("m")
    assert model.parameters == expected.model.parameters
    assert model.engine.name == "fast"
    assert output("generate", "m", "-n", "3") == expected.model.generate(3)


@pytest.mark.usefixtures("place")
def test_patience_as_typed() -> None:
    arguments = ["--validation", "0.3", "--steps", "400", "--learning-rate", "0.05", "--samples", "0"]
    lines = output("train", "data", *OPTIONS, *arguments, "--patience", "2")
    expected = trainer("exact", patience=2)
    steps = len(ran(expected))
    assert expected.best
    assert steps < 400
    assert lines[4].startswith(f"step {steps:4d} /  400 | loss ")
    assert lines[5].endswith(f", after step {expected.best.step}, whose weights are kept")
    assert len(lines) == 7


@pytest.mark.slow
@pytest.mark.usefixtures("place")
def test_a_budget_as_typed() -> None:
    lines = output(*FAST, "--budget", "400ms", "--samples", "1", "--validation", "0.2", "--metrics", "losses")
    found = re.fullmatch(r"step +(\d+) \| loss \d\.\d{4}( \| held-out \d\.\d{4})?", lines[4])  # few passes: in no time
    assert found
    assert Path("losses").read_text().count('"loss"') == int(found[1])
    assert lines[5].startswith("held-out loss: ")
    assert lines[7].startswith("sample  1: ")
    assert "lr" not in lines[4]


@pytest.mark.slow
@pytest.mark.usefixtures("place")
def test_a_budget_longer_than_helps_says_so() -> None:
    done = run(*FAST, "--budget", "3600s", "--samples", "0")
    assert done.stderr.splitlines()[-1] == (
        f"tapegpt: note: 4 passes through {len(CORPUS)} training strings are enough, more would memorise them: "
        "the rest of the budget is not used"
    )


@pytest.mark.slow
def test_a_short_budget_says_what_it_takes_and_is_resumed_with_it(place: Path) -> None:
    (place / "data").write_text("".join(f"{number:06b}\n" for number in range(60_000)))
    done = run(*FAST, "--budget", "100ms", "--validation", "0.2", "--samples", "0", "-o", "m", "--seed", "3")
    assert done.returncode == 0
    assert re.search(
        r"^tapegpt: note: sampled to save time: 0\.1 of 1\.0 MB are read, "
        r"n-gram models count 1,\d{3} of 5,\d{3} strings",
        done.stderr,
        re.MULTILINE,
    ), done.stderr
    model = tapegpt.load("m")
    assert model.data
    assert model.data.source
    assert (model.data.source["sample"], model.data.documents) == (100_000, int(done.stdout.split()[2]))
    for again in ([], ["data"]):
        done = run("resume", "m", *again, "--more-steps", "2", "--samples", "0")
        assert done.returncode == 0, done
    assert tapegpt.load("m").steps == model.steps + 4


@pytest.mark.slow
@pytest.mark.usefixtures("place")
def test_a_preset_as_typed() -> None:
    lines = output("train", "data", "--preset", "quick", "--steps", "5", "--samples", "1", *OPTIONS)
    losses: list[float] = []
    shape: Any = {"n_embd": 8, "n_head": 2, "block_size": 6}
    model = tapegpt.train("data", preset="quick", steps=5, callbacks=[lambda _, new: losses.extend(new)], **shape)
    assert lines[3] == f"step    5 /    5 | loss {losses[-1]:.4f}"
    assert lines[4:] == sampled(model.generate(1))


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("options", [{"batch_size": 3}, {"threads": 2, "clip": 0.5}, {"warmup": 0.2, "beta1": 0.9}, {}])
def test_options_of_the_fast_engine_as_typed(options: dict[str, Any]) -> None:
    typed = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    lines = output(*FAST, "--steps", "7", "--samples", "2", *typed)
    losses: list[float] = []
    model = tapegpt.train(
        "data",
        engine="fast",
        steps=7,
        n_embd=8,
        n_head=2,
        block_size=6,
        callbacks=[lambda _, new: losses.extend(new)],
        **options,
    )
    assert lines[3:] == [f"step    7 /    7 | loss {losses[-1]:.4f}", *sampled(model.generate(2))]


@pytest.mark.slow
def test_long_strings_as_typed(place: Path) -> None:
    (place / "data").write_text("ABCDEFGHIJKLMNO\nCDEFGHI\nGHI")
    corpus, found = Corpus.read("data"), {}
    arguments = [*FAST, "--steps", "9", "--batch-size", "2", "--samples", "0"]
    for how in ("cut", "window"):
        found[how] = output(*arguments, "--long", how)
        losses = Trainer(corpus, SHAPE, engine="fast", long=how, steps=9, batch_size=2).run(9)
        assert found[how][3] == f"step    9 /    9 | loss {losses[-1]:.4f}"
    assert found["cut"] != found["window"] == output(*arguments)


@pytest.mark.parametrize(
    ("delimiter", "text", "count"),
    [
        (r"\n---\n", "AB\nC\n---\nD\n---\nA", 3),
        ("blank", "AB\nC\n\n\nD\n \nA\n", 3),
        ("none", "AB\nC\n\nD", 1),
        ("line", "AB\nC\n\nD", 3),
        (";", "AB;C;;D\n", 3),
        (r"\t", "AB\tC\t\nD", 3),
    ],
)
def test_delimiters_as_typed(delimiter: str, text: str, count: int, place: Path) -> None:
    (place / "data").write_text(text)
    lines = output("train", "data", *OPTIONS, "--steps", "1", "--samples", "0", f"--delimiter={delimiter}")
    assert lines[0] == f"num docs: {count}"


@pytest.mark.usefixtures("place")
def test_a_divergence_as_typed_keeps_the_best() -> None:
    arguments = ["--learning-rate", "1", "--weight-decay", "30", "--batch-size", "4", "--steps", "60"]
    done = run(*FAST, *arguments, "--validation", "0.3", "-o", "m")
    assert done.returncode == 2
    assert re.fullmatch(r"tapegpt: error: the loss or a gradient is not finite at step \d+, [^\n]+\n", done.stderr)
    expected = Trainer(CORPUS, SHAPE, **WILD["fast"], steps=60, validation=0.3, long="window")
    with pytest.raises(DivergedError):
        ran(expected)
    assert tapegpt.load("m").parameters == expected.model.parameters


@pytest.mark.slow
@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--validation 1", "--validation must be a number from 0 up to but not 1, not 1.0"),
        ("--validation -0.1", "--validation must be a number from 0 up to but not 1, not -0.1"),
        ("--validation nan", "--validation must be a number from 0 up to but not 1, not nan"),
        ("--validation some", "--validation must be a number from 0 up to but not 1, not 'some'"),
        ("--patience 3", "--patience needs documents that are held out"),
        ("--validation 0.1 --patience 0", "--patience must be a whole number from 1 on, not 0"),
        ("--budget 1", "a budget must be a number and a unit, such as 500ms, 1s, 2m or 1h, not '1'"),
        ("--budget 0s", "--budget must be a number of seconds above 0, at most 1,000,000,000, not 0.0"),
        ("--budget soon", "a budget must be a number and a unit"),
        ("--budget 1s --steps 5", "--steps and --budget exclude each other: give one"),
        ("--budget 1s --engine exact", "needs the engine fast, not exact"),
        ("--preset slow", "--preset"),
        ("--preset quick --engine reference", "needs the engine fast, not reference"),
        ("--batch-size 2", "--batch-size needs the engine fast, not exact"),
        ("--engine fast --batch-size 0", "--batch-size must be a whole number from 1 to 65,536, not 0"),
        ("--engine fast --batch-size 2.5", "--batch-size must be a whole number from 1 to 65,536, not '2.5'"),
        ("--threads 2", "--threads needs the engine fast, not exact"),
        ("--engine fast --threads 0", "--threads must be a whole number from 1 to 256, not 0"),
        ("--engine fast --threads 1000", "--threads must be a whole number from 1 to 256, not 1000"),
        ("--long window", "--long needs the engine fast, not exact"),
        ("--engine fast --long whole", "--long"),
        ("--engine fast --warmup 1", "--warmup must be a number from 0 up to but not 1, not 1.0"),
        ("--engine fast --clip -1", "--clip must be a number from 0 to 1,000,000, not -1.0"),
        ("--engine fast --beta2 1", "--beta2 must be a number from 0 up to but not 1, not 1.0"),
        ("--weight-decay 0.1", "--weight-decay needs the engine fast, not exact"),
        (r"--delimiter \x", r"--delimiter \x: \x is no escape: choose from \n \t \r"),
        ("--delimiter \\", "is no escape"),
    ],
)
def test_what_is_refused(arguments: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With one line, before anything is printed or written."""
    assert main(["train", "data", "-o", "m", "--metrics", "losses", *arguments.split(" ")]) == 2
    printed, said = capsys.readouterr()
    assert printed == ""
    assert re.fullmatch(r"tapegpt: error: [^\n]{1,300}\n", said), said
    assert message in said
    assert os.listdir() == ["data"]


def test_documents_that_cannot_be_split_are_refused(place: Path) -> None:
    (place / "data").write_text("anna\nanna\n")
    done = run("train", "data", "--validation", "0.5")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "tapegpt: error: documents that are all the same cannot be split: "
        "give two distinct ones or more, or hold out none\n"
    )
