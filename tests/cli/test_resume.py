"""Runs that are never lost: one that was cut, killed or refused its disk ends as one that was not, to the last bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import tomllib
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

import tapegpt
from tapegpt import Config, Corpus, TapeGPTError, Trainer
from tapegpt.cli import main
from tapegpt.cli.console import Interruption
from tapegpt.machine import cache
from tapegpt.models.trained import GPT
from tapegpt.settings import Settings
from tests.cli.kills import KINDS, Victim
from tests.properties import many

NAMES = ["anna", "otto", "bob", "hannah", "eve", "ada", "natan", "aviva"]
CORPUS = Corpus.of(NAMES)
SHAPE = Config(1, 8, 2, 4)
RUNS = Config(1, 8, 2, 4, n_gram=3, gram_rows=32)
STEPS = 50
TRAININGS = {
    "exact": (SHAPE, Settings(steps=STEPS)),
    "exact, held out": (SHAPE, Settings(steps=STEPS, validation=0.3, learning_rate=0.05)),
    "exact, patience": (SHAPE, Settings(steps=200, validation=0.3, learning_rate=0.1, patience=4)),
    "fast": (SHAPE, Settings("fast", STEPS, batch_size=3, weight_decay=None, warmup=0.3, threads=1)),
    "fast, all": (
        RUNS,
        Settings(
            "fast", STEPS, batch_size=4, validation=0.3, gram_decay=None, clip=1.0, threads=2, long="window", patience=9
        ),
    ),
}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test in a directory of its own, with some names in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.txt").write_text("\n".join(NAMES) + "\n")
    return tmp_path


def kept(trainer: Trainer, path: Path | str = "m") -> bytes:
    """The bytes of the file of a training as it stands."""
    trainer.keep(lambda model: tapegpt.save(model, path))
    return Path(path).read_bytes()


def trained_to(trainer: Trainer, step: int, stops: Sequence[int] = ()) -> list[float]:
    """The losses up to the first stop at or after a step, as a run that is interrupted there has them."""
    losses: list[float] = []
    for chunk in trainer.chunks(stops or [step]):
        losses += chunk
        if trainer.step >= step:
            break
    return losses


# --- the same bits ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=many(60, few=5))
@given(
    name=st.sampled_from(list(TRAININGS)),
    cuts=st.lists(st.integers(1, STEPS), max_size=4),
    stops=st.lists(st.integers(1, STEPS), unique=True).map(sorted),
    suffix=st.sampled_from([".safetensors", ".json"]),
)
def test_a_training_that_was_cut_ends_as_one_that_was_not(
    name: str, cuts: list[int], stops: list[int], suffix: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"cut{suffix}"
    config, choice = TRAININGS[name]
    whole, cut = (Trainer(CORPUS, config, choice) for _ in range(2))
    for trainer in (whole, cut):
        trainer.model.rng.random()  # as a string does that is drawn on the way
    expected = [loss for chunk in whole.chunks() for loss in chunk]

    losses: list[float] = []
    for step in sorted(cuts):
        losses += trained_to(cut, step, stops)
        if cut.is_over:
            break
        kept(cut, path)
        cut = Trainer.resume(tapegpt.load(path), CORPUS)
    losses += [loss for chunk in cut.chunks(stops) for loss in chunk]

    assert losses == expected
    assert cut.evaluations == whole.evaluations
    assert cut.model.generate(3) == whole.model.generate(3)
    assert cut.model.engine.moments() == whole.model.engine.moments()
    assert kept(cut, path) == kept(whole, path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["exact, held out", "fast, all"])
def test_a_file_speaks_with_the_best_weights_and_goes_on_from_the_last(name: str) -> None:
    config, choice = TRAININGS[name]
    trainer = Trainer(CORPUS, config, choice.replace(steps=1000, patience=None))
    at_best: dict[int, Any] = {}
    for _ in trainer.chunks(range(2000)):
        at_best[trainer.step] = trainer.model.parameters
        if trainer.best and trainer.best.step < trainer.step:
            break
    assert trainer.best
    kept(trainer)
    assert trainer.model.parameters == at_best[trainer.step]  # which go on
    model = tapegpt.load("m")
    assert model.parameters == at_best[trainer.best.step]
    assert Trainer.resume(model, CORPUS).model.parameters == at_best[trainer.step]


def test_a_model_of_the_library_can_go_on(place: Path) -> None:
    tapegpt.save(tapegpt.train(CORPUS, steps=20, n_embd=8, n_head=2, block_size=4), "m")
    trainer = Trainer.resume(tapegpt.load("m"), CORPUS, 5)
    assert (trainer.step, trainer.settings.steps) == (20, 25)


def test_more_steps_are_taken_where_patience_had_ended_it() -> None:
    config, choice = TRAININGS["exact, patience"]
    trainer = Trainer(CORPUS, config, choice.replace(patience=1))
    for _ in trainer.chunks():
        pass
    assert trainer.step < choice.steps
    kept(trainer)
    more = Trainer.resume(tapegpt.load("m"), CORPUS, 5)
    for _ in more.chunks():
        pass
    assert more.step == trainer.step + 5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["exact", "fast", "fast, all"])
def test_more_steps_follow_a_schedule_that_ends_with_them(name: str) -> None:
    config, choice = TRAININGS[name]
    choice = choice.replace(validation=0.0, patience=None)
    first, other = (Trainer(CORPUS, config, choice) for _ in range(2))
    first.run(STEPS)
    other.run(STEPS)
    kept(first)
    trainer = Trainer.resume(tapegpt.load("m"), CORPUS, 30)
    longer = Trainer(CORPUS, config, choice.replace(steps=STEPS + 30))
    engine, adam = other.model.engine, longer.decaying(longer.adam)
    assert trainer.run(99) == engine.train(longer.tokens, adam, STEPS, 30)
    assert trainer.model.parameters == engine.parameters()
    assert trainer.is_over


def test_of_a_budget_the_rest_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that goes on by 1 ms a step."""
    monkeypatch.setattr("tapegpt.training.trainer.passes_that_help", lambda documents: 1e9)
    config, choice = TRAININGS["fast"]
    Trainer(CORPUS, config, choice)  # so that its code is there, which is compiled by another clock
    trainer = Trainer(CORPUS, config, choice.replace(budget=2.0), started=100.0)
    begin = 100.0
    monkeypatch.setattr("time.perf_counter", lambda: begin + trainer.step / 1000)
    for _ in trainer.chunks():
        if trainer.step > 1000:
            break
    kept(trainer)
    begin += 500
    trainer = Trainer.resume(tapegpt.load("m"), CORPUS)
    assert not trainer.is_over
    for _ in trainer.chunks():
        pass
    assert trainer.step == pytest.approx(2000, abs=2)
    kept(trainer)
    with pytest.raises(TapeGPTError, match=r"the training is over, after \d+ steps: say how many to add"):
        Trainer.resume(tapegpt.load("m"), CORPUS)
    assert Trainer.resume(tapegpt.load("m"), CORPUS, 5).settings.budget is None


# --- refusals ---------------------------------------------------------------------------------------------------


@pytest.fixture
def model() -> GPT:
    trainer = Trainer(CORPUS, SHAPE, steps=STEPS)
    trainer.run(10)
    kept(trainer, "model")
    return tapegpt.load("model")


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([*NAMES, "bob"], "9 documents, not 8; 36 characters, not 33:"),
        ([*NAMES[:-1], "zivva"], "new in the vocabulary 'z': give that data, or finetune"),
        ([*NAMES[:-1], "avia"], "32 characters, not 33:"),
        ([*NAMES[:-1], "aniva"], "as many documents and characters, but others, or in another order:"),
        (NAMES[::-1], "as many documents and characters, but others, or in another order:"),
        (["a"], "1 document, not 8; 1 character, not 33; missing in the vocabulary 'bdehinotv': give that data"),
    ],
)
def test_other_data_is_refused_by_what_differs(documents: list[str], message: str, model: GPT) -> None:
    with pytest.raises(TapeGPTError, match="is not what the model was trained on") as caught:
        Trainer.resume(model, Corpus.of(documents))
    assert message in str(caught.value)


def test_what_cannot_go_on_is_refused(model: GPT) -> None:
    wrong: list[Any] = [0, -1, 1.5, True, "5"]
    for more in wrong:
        with pytest.raises(TapeGPTError, match="the steps to add must be a whole number from 1 on"):
            Trainer.resume(model, CORPUS, more)
    tapegpt.save(model, "weights", weights_only=True)
    with pytest.raises(TapeGPTError, match="the model has weights only"):
        Trainer.resume(tapegpt.load("weights"), CORPUS)
    trainer = Trainer.resume(model, CORPUS)
    trainer.run(STEPS)
    kept(trainer)
    with pytest.raises(TapeGPTError, match="the training is over, after 50 steps: say how many to add by more"):
        Trainer.resume(tapegpt.load("m"), CORPUS)


# --- fine-tuning ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "choice"), [(SHAPE, Settings(steps=9)), (RUNS, Settings("fast", 9, batch_size=4, threads=1))]
)
@pytest.mark.parametrize("strings", [["bäh", "zoe", "anna"], ["hat", "ben"]])
def test_a_finetuned_model_begins_with_the_weights(config: Config, choice: Settings, strings: list[str]) -> None:
    former = Trainer(CORPUS, config, choice)
    former.run(9)
    corpus = Corpus.of(strings)
    trainer = Trainer.finetune(former.model, corpus, choice.replace(learning_rate=0.002))
    vocabulary = CORPUS.vocabulary | corpus.vocabulary
    assert trainer.model.vocabulary == vocabulary
    assert (trainer.step, trainer.settings.learning_rate) == (0, 0.002)
    fresh = Trainer(corpus.replace(vocabulary=vocabulary), config, choice).model.parameters
    old, new = former.model.parameters, trainer.model.parameters
    for name in ("wte", "lm_head"):
        for place, character in enumerate([*vocabulary, "BOS"]):
            source = {"BOS": len(CORPUS.vocabulary)}.get(character, CORPUS.vocabulary.characters.find(character))
            expected, row = (old, source) if source >= 0 else (fresh, place)
            assert new[name][8 * place : 8 * place + 8] == expected[name][8 * row : 8 * row + 8]
    same = vocabulary == CORPUS.vocabulary
    for name in set(new) - {"wte", "lm_head"}:
        assert new[name] == (old[name] if same or name != "wte_gram" else array("d", [0.0] * len(old[name])))
    assert not any(number for numbers in trainer.model.engine.moments().mean.values() for number in numbers)
    assert len(trainer.run(9)) == 9


@pytest.mark.slow
def test_a_finetuning_can_be_resumed(place: Path) -> None:
    (place / "other.txt").write_text("zoë\nzoe\nbob\n")
    train = ["train", "names.txt", "--steps", "20", "--n-embd", "8", "--n-head", "2", "--block-size", "4", "-o", "m"]
    assert main([*train, "--samples", "0"]) == 0
    tune = [
        "finetune",
        "m",
        "other.txt",
        "--steps",
        "30",
        "--learning-rate",
        "0.003",
        "--samples",
        "0",
        "-o",
        "tuned",
    ]
    assert main([*tune, "-o", "whole"]) == 0
    trainer = Trainer.finetune(tapegpt.load("m"), Corpus.read("other.txt"), Settings(steps=30, learning_rate=0.003))
    trained_to(trainer, 11)
    kept(trainer, "part")
    assert main(["resume", "part", "--samples", "0"]) == 0
    assert Path("part").read_bytes() == Path("whole").read_bytes()


# --- the command ------------------------------------------------------------------------------------------------

TRAIN = ["train", "names.txt", "--n-embd", "8", "--n-head", "2", "--block-size", "4", "--samples", "2"]


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command that is refused says, in one line."""
    capsys.readouterr()
    assert main(list(arguments)) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


class _CutError(Exception):
    pass


def cut_at(step: int, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """A command that ends without a word at the first chunk at or after a step, as if it was killed."""
    real = Trainer.run

    def run(trainer: Trainer, count: int) -> list[float]:
        if trainer.step >= step:
            raise _CutError
        return real(trainer, count)

    def forced(interruption: Interruption) -> None:
        interruption.asked, interruption.forced, interruption._former = False, True, {}

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run", run)
        patch.setattr(Interruption, "__init__", forced)  # so that nothing is kept at the end
        with pytest.raises(_CutError):
            main(list(arguments))


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--validation", "0.3"], ["--engine", "fast", "--n-gram", "2"]])
def test_the_command_goes_on_as_if_it_had_never_stopped(
    options: list[str], place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = [*TRAIN, *options, "--steps", "60"]
    assert main([*run, "-o", "whole", "--metrics", "whole.jsonl"]) == 0
    cut_at(37, monkeypatch, *run, "-o", "m", "--metrics", "m.jsonl", "--save-every", "10")
    assert tapegpt.load("m").steps in (30, 40)  # as chunks happen to lie
    with open("m.jsonl", "a") as file:
        file.write('{"step": 41, "lo')  # as a kill cuts it
    cut_at(52, monkeypatch, "resume", "m", "--metrics", "m.jsonl", "--save-every", "7", "--samples", "2")
    (place / "elsewhere").mkdir()
    monkeypatch.chdir(place / "elsewhere")
    assert main(["resume", "../m", "--metrics", "../m.jsonl", "--samples", "2"]) == 0
    capsys.readouterr()
    assert (place / "m").read_bytes() == (place / "whole").read_bytes()
    assert (place / "m.jsonl").read_text() == (place / "whole.jsonl").read_text()


def test_a_directory_of_a_run_goes_on_in_it(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = [*TRAIN, "--steps", "60", "--validation", "0.3"]
    assert main([*run, "--run-dir", "a/whole"]) == 0
    said = capsys.readouterr().out.splitlines()
    cut_at(35, monkeypatch, *run, "--run-dir", "cut", "--save-every", "20")
    assert sorted(os.listdir("cut")) == ["config.toml", "metrics.jsonl", "model.safetensors"]
    assert main(["resume", "cut", "--samples", "2"]) == 0
    for name in ("config.toml", "metrics.jsonl", "model.safetensors", "samples.txt"):
        assert Path("cut", name).read_bytes() == Path("a/whole", name).read_bytes()
    fields = tomllib.loads(Path("cut/config.toml").read_text())
    assert {name: fields[name] for name in SHAPE.fields} == SHAPE.as_dict()
    assert (fields["steps"], fields["data"]) == (60, [str(place / "names.txt")])
    samples = Path("cut/samples.txt").read_text().splitlines()
    assert said[-2:] == [f"sample {number:2d}: {text}" for number, text in enumerate(samples, 1)]
    for directory in ("cut", "a/whole"):
        message = f"--run-dir {directory}: holds a run already, its model.safetensors: continue it with tapegpt resume"
        assert message in refusal(capsys, *run, "--run-dir", directory)
    assert main(["resume", "cut", "--more-steps", "10", "-o", "other", "--samples", "0"]) == 0
    assert Path("cut/model.safetensors").read_bytes() == Path("a/whole/model.safetensors").read_bytes()
    assert main(["resume", "cut", "--more-steps", "10", "--samples", "1"]) == 0
    rows = [json.loads(line) for line in Path("cut/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 71))
    assert len(Path("cut/samples.txt").read_text().splitlines()) == 1


def test_weights_only_holds_no_training(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TRAIN, "--steps", "3", "-o", "m", "--weights-only"]) == 0
    model = tapegpt.load("m")
    assert (model.state, model.data, model.steps) == (None, None, 3)
    assert "the model has weights only, no training to resume: tapegpt finetune" in refusal(capsys, "resume", "m")
    assert "the model has weights only" in refusal(capsys, "resume", "m", "names.txt")
    assert main(["finetune", "m", "names.txt", "--steps", "4", "-o", "m"]) == 0
    assert tapegpt.load("m").steps == 4


REFUSED = [
    ("resume m --n-embd 16", "unrecognized arguments: --n-embd 16: see tapegpt resume --help"),
    ("finetune m", "there is nothing to train on: give DATA, or --dataset NAME"),
    ("finetune m names.txt --engine fast", "unrecognized arguments: --engine fast: see tapegpt finetune --help-all"),
    ("finetune m names.txt -o -", "--output -: a model is no text for standard output: give the name of a file"),
    ("resume m other.txt", "the data is not what the model was trained on: 1 document, not 8"),
    ("resume m", "the training is over, after 3 steps: say how many to add by --more-steps"),
    ("resume m --more-steps 0", "--more-steps must be a whole number from 1 on, not 0"),
    ("resume m --more-steps 5 --metrics names.txt", "--metrics names.txt is DATA too"),
    ("resume m --more-steps 5 -o names.txt", "--output names.txt is DATA too"),
    ("resume m --more-steps 5 --metrics m", "--metrics m is --output too"),
    ("resume m --more-steps 5 --metrics other.txt", "--metrics other.txt: line 1 is none of a training"),
    ("resume m --more-steps 5 --metrics .", "--metrics .: cannot be written: Is a directory"),
    ("resume missing", "missing: no such file"),
    ("resume .", "./model.safetensors: no such file"),
    ("resume m --more-steps 5 --save-every 0", "--save-every must be a whole number from 1 on, not 0"),
    ("resume piped", "the training data came from a program or standard input: give its file again"),
    ("train names.txt --save-every 5", "--save-every is about the model's file: give -o FILE too"),
    ("train names.txt --weights-only", "--weights-only is about the model's file: give -o FILE too"),
    ("train names.txt --run-dir d -o m", "--run-dir d has a model and metrics of its own: leave -o and --metrics out"),
    ("train names.txt --run-dir other.txt", "other.txt: cannot be written: File exists"),
    ("train names.txt --run-dir other.txt/d", "other.txt/d: cannot be written: Not a directory"),
]


def test_bad_input_gets_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TRAIN, "--steps", "3", "-o", "m"]) == 0
    tapegpt.save(tapegpt.train(NAMES, steps=2), "piped")
    (place / "other.txt").write_text("zoe\n")
    former = Path("m").read_bytes()
    for arguments, message in REFUSED:
        assert message in refusal(capsys, *arguments.split()), arguments
    assert Path("m").read_bytes() == former
    assert (place / "other.txt").read_text() == "zoe\n"
    (place / "names.txt").write_text("zoe\n")
    assert f"{place}/names.txt is not what the model was trained on" in refusal(
        capsys, "resume", "m", "--more-steps", "5"
    )
    (place / "names.txt").unlink()
    assert "names.txt: no such file" in refusal(capsys, "resume", "m", "--more-steps", "5")


# --- disks and kills --------------------------------------------------------------------------------------------


def failing_saves(failures: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The first so many saves fail, of code none; which were tried."""
    real, tried = os.replace, []

    def replace(source: str, target: str) -> None:
        is_code = target.endswith(cache.SUFFIX)
        tried.extend([] if is_code else [target])
        if not is_code and len(tried) <= failures:
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    return tried


def test_a_save_that_fails_on_the_way_is_noted_and_tried_again(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = [*TRAIN, "--steps", "50"]
    assert main([*run, "-o", "whole"]) == 0
    tried = failing_saves(2, monkeypatch)
    capsys.readouterr()
    assert main([*run, "-o", "m", "--save-every", "10"]) == 0
    note = "m: cannot be written: No space left on device: choose another place; the training continues, "
    said = capsys.readouterr().err
    assert said.partition("\n")[2] == f"tapegpt: note: {note}the next attempt is in 10 steps\n" * 2
    assert said.startswith("tapegpt: note: 5 of 8 documents are cut, block_size 4 does not hold them")
    assert len(tried) == 5  # after 10, 20, 30 and 40 steps, and at the end
    assert Path("m").read_bytes() == Path("whole").read_bytes()
    assert sorted(os.listdir()) == ["m", "names.txt", "whole"]


def test_a_save_that_fails_at_the_end_is_an_error(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "m").write_bytes(b"old")
    failing_saves(1, monkeypatch)
    assert main([*TRAIN, "--steps", "5", "-o", "m"]) == 2
    assert "tapegpt: error: m: cannot be written: No space left on device" in capsys.readouterr().err
    assert (place / "m").read_bytes() == b"old"


def test_the_second_interruption_keeps_no_half_step() -> None:
    interruption = Interruption()
    with interruption:
        signal.raise_signal(signal.SIGINT)
        assert (interruption.asked, interruption.forced) == (True, False)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert interruption.forced
    command = [sys.executable, "-m", "tapegpt", "train", "names.txt", "--engine", "reference", "--n-embd", "128"]
    with subprocess.Popen([*command, "-o", "m"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        while not process.stdout.readline().startswith("num params"):
            pass
        time.sleep(0.3)  # into the first step, which takes seconds
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)  # two of one kind may arrive as one
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.endswith("tapegpt: error: interrupted\n")
    assert not os.path.exists("m")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_any_moment_it_ends_the_same(kind: str) -> None:
    """`python -m tests.cli.kills 200` kills as often as there is time for."""
    victim, rng = Victim(kind), random.Random(0)
    while not victim.killed(rng):
        pass


# --- files of former versions -----------------------------------------------------------------------------------

# Format 1 was written by the last version before format 2, each by
#     train(["anna", "otto", "bob", "hannah", "eve"], n_embd=4, n_head=2, block_size=4, steps=20)
# the fast one with engine="fast", n_gram=2, gram_rows=16; format 2 by the first version that had it, each by
#     trainer = of_a_file(engine); trained_to(trainer, 12); kept(trainer, path)
FILES = Path(__file__).parent / "files"
CORPUS_OF_FILES = Corpus.of(["anna", "otto", "bob", "hannah", "eve"])
STRINGS = {
    "format1-exact": ["bvte", "nhtv", "aato", "taht", "b"],
    "format1-fast": ["hant", "hann", "bobh", "tvvt", "antn"],
    "format2-exact": ["btvh", "hetv", "bavn", "tanv", "e"],
    "format2-fast": ["nehv", "nbno", "eten", "vv", "ahvn"],
}


def of_a_file(engine: str) -> Trainer:
    """The training that left format2-exact or format2-fast."""
    config = Config(1, 4, 2, 4, **({"n_gram": 2, "gram_rows": 16} if engine == "fast" else {}))
    threads = 1 if engine == "fast" else None
    choice = Settings(engine, 20, validation=0.3, learning_rate=0.1, threads=threads)
    return Trainer(CORPUS_OF_FILES, config, choice)


@pytest.mark.slow
@pytest.mark.parametrize("name", [f"format{number}-{engine}" for number in (1, 2) for engine in ("exact", "fast")])
def test_files_of_all_formats_are_read(name: str) -> None:
    path = FILES / f"{name}.safetensors"
    model = tapegpt.load(path)
    tensors = {name: tensor.ravel().tolist() for name, tensor in load_file(path).items()}
    for parameter, numbers in model.parameters.items():
        assert numbers.tolist() == tensors[parameter]
    assert model.generate(5, seed=1) == STRINGS[name]
    assert (model.state is None) == name.startswith("format1")


def test_a_training_of_a_former_version_ends_the_same() -> None:
    trainer = Trainer.resume(tapegpt.load(FILES / "format2-exact.safetensors"), CORPUS_OF_FILES)
    assert (trainer.step, trainer.settings.steps) == (12, 20)
    whole = of_a_file("exact")
    for each in (trainer, whole):
        trained_to(each, 20)
        each.finish()
    assert trainer.evaluations == whole.evaluations
    assert trainer.model.parameters == whole.model.parameters
    assert trainer.model.generate(5) == whole.model.generate(5)
