"""A model of somebody's own through every door: the command line, Python, files; and one line for what is no model."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import tapegpt
from tapegpt import Config, Corpus, Model, TapeGPTError, Trainer
from tapegpt.analysis.doctor import examine
from tapegpt.cli import main
from tapegpt.experiments.search import fields_of
from tapegpt.experiments.sweep import sweep
from tapegpt.models import NAMES, named
from tapegpt.models.loading import address, class_of, reference
from tapegpt.models.trained import GPT
from tapegpt.settings import Settings
from tapegpt.training.clock import layers, seconds_a_position, threads_that_pay, weights
from tapegpt.training.presets import PRESETS, resolve

if TYPE_CHECKING:
    from tapegpt.autograd.node import Node
    from tapegpt.autograd.tape import Tape

STRINGS = ["anna", "otto", "bob", "hannah", "eve", "ada", "natan", "aviva", "nathan", "eva", "bonnie", "tobias"]
SOURCE = '''
from tapegpt import Model


class MyGPT(Model):
    """One block, tied weights, GELU, a temperature."""

    n_embd: int = 8
    n_head: int = 2
    heat: float = 1.0
    norm: bool = True
    block_size = 8

    def forward(self, tape, tokens, positions, vocab_size):
        d = self.n_embd
        wte = tape.parameter("wte", vocab_size, d)
        x = tape.embedding(wte, tokens) + tape.embedding(tape.parameter("wpe", self.block_size, d), positions)
        if self.norm:
            x = x.rmsnorm()
        q, k, v = (x.linear(name, d) for name in ("q", "k", "v"))
        x = x + tape.attention(q, k, v, self.n_head).linear("o", d)
        x = x + x.rmsnorm().linear("up", 2 * d).gelu().linear("down", d)
        return tape.linear(x, wte) * self.heat


class Wider(MyGPT):
    def forward(self, tape, tokens, positions, vocab_size):
        return super().forward(tape, tokens, positions, vocab_size) + tape.parameter("bias", 1, vocab_size)
'''
OWN = ["--model", "mymodel.py:MyGPT"]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test in a directory of its own, with names and a model in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.txt").write_text("\n".join(STRINGS) + "\n")
    (tmp_path / "mymodel.py").write_text(SOURCE)
    return tmp_path


class Command:
    """`tapegpt` in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> str:
        """What it prints."""
        self._capsys.readouterr()
        code = main(list(arguments))
        output, said = self._capsys.readouterr()
        assert code == 0, said
        return output

    def refuses(self, *arguments: str) -> str:
        """The one line that it ends with."""
        self._capsys.readouterr()
        assert main(list(arguments)) == 2
        (line,) = self._capsys.readouterr().err.splitlines()
        return line.removeprefix("tapegpt: error: ")


@pytest.fixture
def tapegpt_(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def mine(name: str = "MyGPT") -> Any:
    return class_of(f"mymodel.py:{name}")


# --- every command ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["exact", "fast"])
def test_a_file_of_one_s_own_goes_through_every_command(tapegpt_: Command, engine: str) -> None:
    more = ["--engine", engine, "--steps", "20", "--samples", "2", "-o", "m"]
    shown = tapegpt_("train", "names.txt", *OWN, "--set", "heat=0.5", "--set", "norm=true", "--n-embd", "8", *more)
    assert "num params: 672" in shown
    assert shown.count("sample") == 2
    model = tapegpt.load("m", model=mine())
    assert model.config == mine()(heat=0.5)
    assert repr(model).startswith("<MyGPT of 672 parameters: n_embd=8 n_head=2 heat=0.5 norm=True block_size=8, ")
    strings = tapegpt_("generate", "m", *OWN, "-n", "4", "--seed", "1", "--prefix", "an", "--length", "4..")
    assert [len(each) >= 4 and each.startswith("an") for each in strings.split()] == [True] * 4
    Path("held.txt").write_text("annabob\nhannan\n")
    judged = json.loads(tapegpt_("score", "m", "names.txt", *OWN, "--json").splitlines()[0])
    assert judged["text"] == "anna"
    assert judged["nats"] == pytest.approx(model.score(["anna"]).nats[0])
    assert json.loads(tapegpt_("eval", "m", "held.txt", *OWN, "--samples", "10", "--json"))["losses"]
    assert tapegpt_("diff", "m", "m", *OWN).startswith("no difference")
    tapegpt_("convert", "m", "m.json", *OWN)
    assert tapegpt.load("m.json", mine()).parameters == model.parameters
    assert json.loads(Path("m.json").read_text())["model"] == "mymodel.py:MyGPT"
    Path("more.txt").write_text("anna\nnoe\n")
    tapegpt_("finetune", "m", "more.txt", "--steps", "1", *OWN, "-o", "finer", "--samples", "0")
    assert tapegpt.load("finer", mine()).parameters != model.parameters


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["exact", "fast"])
def test_a_resumed_training_ends_with_the_bits_of_one_that_was_not_interrupted(tapegpt_: Command, engine: str) -> None:
    corpus, settings = Corpus.read("names.txt"), Settings(engine, 12, threads=1 if engine == "fast" else None)
    whole, half = (Trainer(corpus, mine()(heat=0.5), settings) for _ in range(2))
    whole.run(12)
    half.run(5)
    half.keep(lambda model: tapegpt.save(model, "m"))
    tapegpt_("resume", "m", *OWN, "--samples", "0")
    assert tapegpt.load("m", mine()).parameters == whole.model.parameters
    assert "unrecognized arguments: --n-embd 16" in tapegpt_.refuses("resume", "m", *OWN, "--n-embd", "16")


def test_the_names_of_the_package_are_models_too(tapegpt_: Command) -> None:
    assert "num params: 144" in tapegpt_("train", "names.txt", "--model", "bigram", "--steps", "3", "-o", "b")
    assert json.loads(Path("b").read_bytes()[8:].split(b"}}")[0] + b"}}")["__metadata__"]["model"] == "bigram"
    assert tapegpt.load("b").config == named("bigram")()
    assert tapegpt_("generate", "b", "-n", "3").count("\n") == 3
    assert tapegpt_("generate", "b", "--model", "bigram", "-n", "3").count("\n") == 3
    said = tapegpt_.refuses("generate", "b", *OWN)
    assert said == "b: its model is 'bigram', not MyGPT: leave that out"
    assert "leave it out" in tapegpt_.refuses("show", "b", "--set", "block_size=3")


@pytest.mark.slow
def test_a_sweep_searches_in_the_settings_of_the_model(tapegpt_: Command) -> None:
    grid = ["--grid", "heat=0.5", "--grid", "norm=true,false", "--steps", "5", "--seeds", "1", "--validation", "0.2"]
    assert "norm" in tapegpt_("sweep", "names.txt", *OWN, *grid, "-o", "best")
    assert tapegpt.load("best", mine()).config.as_dict()["heat"] == 0.5
    said = tapegpt_.refuses("sweep", "names.txt", *OWN, "--grid", "n_layer=1,2")
    assert said.startswith("a sweep searches in n_embd, n_head, heat, norm, block_size, engine, ")
    assert "random norm: norm is no number" in tapegpt_.refuses(
        "sweep", "names.txt", *OWN, "--random", "norm=true..false"
    )
    found = sweep(STRINGS, model=mine()(heat=0.5), grid={"learning_rate": [0.1, 0.01]}, steps=4, seeds=1)
    assert [row.outcome.candidate.config for row in found.rows] == [found.best.config] * 2 == [mine()(heat=0.5)] * 2


def test_the_doctor_names_the_model_in_its_command() -> None:
    command = examine(Corpus.of(STRINGS), mine()(), measured=False).command
    assert f"--model {Path('mymodel.py').resolve()}:MyGPT" in command
    assert "--block-size" not in command
    assert "--block-size 9" in examine(Corpus.of(["a" * 8]), mine()(), measured=False).command


# --- Python -----------------------------------------------------------------------------------------------------


def test_train_takes_a_class_an_instance_or_a_name() -> None:
    train: Any = tapegpt.train
    expected = train(STRINGS, model=mine(), heat=0.5, steps=3).parameters
    assert tapegpt.train(STRINGS, model=mine()(heat=0.5), steps=3).parameters == expected
    assert train(STRINGS, model="mymodel.py:MyGPT", heat=0.5, steps=3).parameters == expected
    assert tapegpt.train(STRINGS, steps=3).parameters == tapegpt.train(STRINGS, model="gpt", steps=3).parameters


def test_an_instance_has_settings_of_its_own_and_presets_have_a_shape_for_gpt_alone() -> None:
    assert resolve({}, "good", model="gpt") == resolve({}, "good")
    assert resolve({}, "good", model=Config(n_embd=20))[0] == Config(n_embd=20)
    for preset, given in PRESETS.items():
        config, settings = resolve({"block_size": 9}, preset, model=mine())
        assert config == mine()(block_size=9)
        assert (settings.engine, settings.steps, settings.batch_size) == ("fast", given["steps"], given["batch_size"])
    corpus = Corpus.of(STRINGS)
    for budget in (0.1, 60.0, 7200.0):
        config, settings = resolve({"budget": budget}, None, corpus, mine())
        assert (config, settings.budget) == (mine()(), budget)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_layer": 2}, "training a MyGPT got an unexpected argument 'n_layer': "),
        ({"heat": "x"}, "heat must be a number, not 'x'"),
        ({"n_embd": 2.5}, "n_embd must be a whole number, not 2.5"),
        ({"norm": 1}, "norm must be a bool, not 1"),
        ({"n_embd": None}, "n_embd must be a whole number, not None"),
        ({"heat": None}, "heat must be a number, not None"),
        ({"norm": None}, "norm must be a bool, not None"),
        ({"block_size": 0}, "block_size must be a whole number from 1 to 8,192, not 0"),
    ],
)
def test_settings_that_a_model_has_not_or_that_are_not_of_its_kind(options: Any, message: str) -> None:
    with pytest.raises(TapeGPTError, match=f"^{re.escape(message)}"):
        tapegpt.train(STRINGS, model=mine(), **options)


@pytest.mark.slow
def test_other_processes_find_the_class_in_its_file() -> None:
    model = tapegpt.train(STRINGS, model=mine()(heat=0.5), steps=2)
    again = pickle.loads(pickle.dumps(model))
    assert (again.config, again.parameters) == (model.config, model.parameters)
    Path("pickled").write_bytes(pickle.dumps(model))
    program = "import pickle; print(pickle.load(open('pickled', 'rb')))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == repr(model)


# --- classes and files ------------------------------------------------------------------------------------------


def test_names_and_places_find_classes() -> None:
    for name in NAMES:
        assert (class_of(name), reference(named(name)), address(named(name))) == (named(name), name, name)
    kind = mine()
    assert (reference(kind), class_of(address(kind)), class_of(kind())) == ("mymodel.py:MyGPT", kind, kind)
    assert reference(Here) == "test_own_models.py:Here"
    Path("mymodel.py").write_text(SOURCE.replace("8", "16"))
    assert mine() is not kind
    assert mine()().block_size == 16


@pytest.mark.parametrize(
    ("model", "source", "message"),
    [
        ("none.py:A", "", "none.py: cannot be read: No such file or directory: give FILE.py:CLASS"),
        ("own.py:A", "b = 1", "own.py: there is no class 'A': give FILE.py:CLASS"),
        ("own.py:A", "class A: pass", "own.py: A is no subclass of tapegpt.Model: give FILE.py:CLASS"),
        ("own.py:A", "A = 1", "own.py: A is no subclass of tapegpt.Model: give FILE.py:CLASS"),
        ("own.py", "A = 1", "model 'own.py': must be a file and a class in it, such as mymodel.py:MyGPT"),
        ("own.py:", "A = 1", "model 'own.py:': must be a file and a class in it, such as mymodel.py:MyGPT"),
        ("own.py:A", "\nA = 1 / 0", "own.py:2: ZeroDivisionError: division by zero"),
        ("own.py:A", "raise SystemExit(3)", "own.py:1: SystemExit: 3"),
        ("own.py:A", "x = 1\nclass A(", "own.py:2: '(' was never closed: give a file of Python"),
        ("own.py:A", "import nothing_like_it", "own.py:1: ModuleNotFoundError: No module named 'nothing_like_it'"),
        ("gtp", "", "model 'gtp': there is none of this name: choose one of "),
    ],
)
def test_what_is_no_class_of_a_model_is_told_in_one_line(model: str, source: str, message: str) -> None:
    Path("own.py").write_text(source)
    with pytest.raises(TapeGPTError, match=f"^{re.escape(message)}"):
        class_of(model)


def test_a_file_may_import_what_stands_beside_it() -> None:
    Path("beside_it.py").write_text("WIDTH = 5\n")
    Path("own.py").write_text(
        "from beside_it import WIDTH\nfrom tapegpt import Model\nclass A(Model):\n    n: int = WIDTH\n"
    )
    before = list(sys.path)
    assert class_of("own.py:A")().as_dict() == {"n": 5, "block_size": 16}
    assert sys.path == before


@pytest.mark.slow
def test_a_file_says_which_class_it_is_of_and_has_to_be_given_it() -> None:
    model = tapegpt.train(STRINGS, model=mine(), steps=1)
    tapegpt.save(model, "m")
    message = (
        "m: its model is MyGPT of mymodel.py, a class of one's own, and a file holds no code: give it as model, "
        "the class or 'mymodel.py:MyGPT'"
    )
    for given in (None, "gpt"):
        with pytest.raises(TapeGPTError, match=f"^{re.escape(message)}$"):
            tapegpt.load("m", given)
    with pytest.raises(TapeGPTError, match=r"^none\.py: cannot be read"):
        tapegpt.load("m", "none.py:MyGPT")
    fit = "is not the class that it was trained with:"
    with pytest.raises(
        TapeGPTError, match=rf"^m: Wider {fit} bias is not there in the file, \(1, 12\) in the class: g"
    ):
        tapegpt.load("m", mine("Wider"))
    Path("mymodel.py").write_text(SOURCE.replace("2 * d", "3 * d"))
    with pytest.raises(TapeGPTError, match=rf"^m: MyGPT {fit} up is \(16, 8\) in the file, \(24, 8\) in the class: g"):
        tapegpt.load("m", mine())
    Path("mymodel.py").write_text(SOURCE.replace("heat", "cold"))
    with pytest.raises(TapeGPTError, match=f"^m: MyGPT {fit} MyGPT got an unexpected argument 'heat'"):
        tapegpt.load("m", mine())


@pytest.mark.slow
def test_an_ensemble_of_models_of_one_s_own_is_a_file_too() -> None:
    models = [tapegpt.train(STRINGS, model=mine(), steps=1, seed=seed) for seed in (1, 2)]
    both = tapegpt.Ensemble([*models, tapegpt.train(STRINGS, steps=1, block_size=8)])
    tapegpt.save(both, "m")
    assert [type(each.config) for each in tapegpt.load("m", mine()).models] == [mine(), mine(), Config]
    with pytest.raises(TapeGPTError, match="a file holds no code"):
        tapegpt.load("m")


def test_files_of_the_default_model_name_none() -> None:
    tapegpt.save(tapegpt.train(STRINGS, steps=1), "m.json")
    assert "model" not in json.loads(Path("m.json").read_text())


# --- what follows from the recorded parameters ------------------------------------------------------------------


@pytest.mark.parametrize("config", [Config(), Config(2, 32, 8, 24), Config(4, 128, 4, n_gram=4), Config(3, 27, 3)])
def test_costs_of_a_gpt_are_those_of_its_shape(config: Config) -> None:
    d, deep, vocab_size = config.n_embd, config.n_layer, 27
    assert layers(config, vocab_size) == 12 * deep * d**2
    assert weights(config, vocab_size) == 12 * deep * d**2 + vocab_size * d
    alone = seconds_a_position(config, vocab_size, 7) / (weights(config, vocab_size) + 32 * deep * config.n_head * 7)
    assert alone == pytest.approx(seconds_a_position(Config(), 27, 7) / (weights(Config(), 27) + 32 * 4 * 7))


def test_more_threads_pay_for_wider_layers_whatever_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)), raising=False)
    assert threads_that_pay(mine()(), 27, 64) == 1
    assert threads_that_pay(mine()(n_embd=64), 27, 64) > 4
    assert [threads_that_pay(named(name)(), 27, 64) for name in ("bigram", "gpt")] == [1, 1]


@pytest.mark.slow
def test_new_characters_move_rows_and_columns_of_any_model() -> None:
    for kind, moved in (
        (mine("Wider"), {"wte": (True, False), "bias": (False, True)}),
        (named("bigram"), {"table": (True, True)}),
    ):
        model = tapegpt.train(["ac", "ca"], model=kind, steps=4)
        trainer = Trainer.finetune(model, Corpus.of(["abc"]), Settings())
        old, new, kept = model.parameters, trainer.model.parameters, [0, 2, 3]  # a, c, BOS
        for name, (rows, columns) in kind().shapes(3).items():
            by_row, by_column = moved.get(name, (False, False))
            width = kind().shapes(4)[name][1]
            for row in range(rows):
                for column in range(columns):
                    place = (kept[row] if by_row else row) * width + (kept[column] if by_column else column)
                    assert new[name][place] == old[name][row * columns + column]


def test_rows_that_are_no_character_s_own_stay_with_the_vocabulary() -> None:
    model = tapegpt.train(["ac", "ca"], model=Pairs, steps=1)
    assert Trainer.finetune(model, Corpus.of(["cc"]), Settings()).model.parameters == model.parameters
    message = (
        "parameter pairs: 6 rows or columns are for 3 tokens, so that none is a character's own: finetune on documents"
    )
    with pytest.raises(TapeGPTError, match=f"^{message}"):
        Trainer.finetune(model, Corpus.of(["abc"]), Settings())


def test_a_sweep_s_fields_are_of_the_model_and_the_training() -> None:
    fields = fields_of(mine())
    assert list(fields)[:5] == ["n_embd", "n_head", "heat", "norm", "block_size"]
    assert (fields["norm"], fields["heat"], fields["preset"]) == ("bool", "float", "str")


def test_a_scaling_law_needs_what_it_varies() -> None:
    with pytest.raises(
        TapeGPTError, match=r"^a scaling law is found by other n_layer, n_embd, n_head, and Bigram has no"
    ):
        tapegpt.scaling(
            [f"{a}{b}{c}" for a in "abcdef" for b in "abcdef" for c in "abcdef"], model="bigram", preset=None
        )


# --- what is no model -------------------------------------------------------------------------------------------


class Here(Model):
    """Whatever is wrong is put into `broken`."""

    block_size = 4
    broken: str = ""

    def forward(self, tape: Tape, tokens: Node, positions: Node, vocab_size: int) -> Node:
        table = tape.parameter("table", vocab_size, vocab_size)
        logits = tape.embedding(table, tokens)
        return BROKEN[self.broken](tape, logits, tokens) if self.broken else logits


class Pairs(Model):
    """A parameter with two rows for each token, added up by twice the table."""

    block_size = 4

    def forward(self, tape: Tape, tokens: Node, positions: Node, vocab_size: int) -> Node:
        return tape.embedding(tape.parameter("pairs", 2 * vocab_size, vocab_size), tokens)


class Tables(Model):
    """Of several tables one has a row for each token that is read."""

    block_size = 4
    reads: bool = True

    def forward(self, tape: Tape, tokens: Node, positions: Node, vocab_size: int) -> Node:
        places, halves = tape.parameter("wpe", 4, vocab_size), tape.parameter("halves", vocab_size, vocab_size)
        x = tape.embedding(places, positions) + tape.embedding(halves + halves, tokens)
        return x + tape.embedding(tape.parameter("wte", vocab_size, vocab_size), tokens) if self.reads else x


@pytest.mark.parametrize(("reads", "name"), [(True, "wte"), (False, None)])
def test_the_table_of_tokens_is_found_among_others(reads: bool, name: str | None) -> None:
    table = Tables(reads=reads).record(4).table
    assert (table and table.name) == name


CALLS: list[Node] = []


def called(logits: Node) -> int:
    """How often before."""
    CALLS.append(logits)
    return len(CALLS) - 1


BROKEN: dict[str, Any] = {
    "shapes": lambda tape, logits, tokens: logits + tape.embedding(tape.parameter("w", 9, 2), tokens),
    "twice": lambda tape, logits, tokens: logits.linear("table", logits.shape.columns),
    "tokens": lambda tape, logits, tokens: logits + tape.embedding(tape.parameter("w", 5, 6), tokens),
    "positions": lambda tape, logits, tokens: logits + tape.embedding(tape.parameter("w", 3, 6), tape.nodes[1]),
    "unused": lambda tape, logits, tokens: (tape.parameter("w", 2, 2), logits)[1],
    "input": lambda tape, logits, tokens: logits * tape.input("x", 1),
    "parameters": lambda tape, logits, tokens: tape.embedding(tape.input("x", 6, 6), tokens),
    "raises": lambda tape, logits, tokens: logits.nothing(),
    "nothing": lambda tape, logits, tokens: None,
    "few": lambda tape, logits, tokens: logits.linear("w", 2),
    "rows": lambda tape, logits, tokens: tape.parameter("w", 6, 6),
    "changing": lambda tape, logits, tokens: logits * float(called(logits)),
    "growing": lambda tape, logits, tokens: sum([logits] * called(logits), logits),
    "losing": lambda tape, logits, tokens: logits * tape.cross_entropy(logits, tokens),
    "sparse": lambda tape, logits, tokens: tape.linear(logits, tape.parameter("w", 6, 6, sparse=True)),
    "sparser": lambda tape, logits, tokens: sum(
        [tape.embedding(tape.parameter(name, 6, 6, sparse=True), tokens) for name in ("v", "w")], logits
    ),
    "reserved": lambda tape, logits, tokens: logits.linear("last.w", logits.shape.columns),
}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (
            "shapes",
            r"test_own_models\.py:\d+: add: .*\(T, 6\) and \(T, 2\): %3 \(T, 6\) embedding.*, %5 \(T, 2\) embed",
        ),
        ("twice", r"test_own_models\.py:\d+: parameter 'table': there is one of this name$"),
        (
            "tokens",
            r"test_own_models\.py:\d+: embedding: has rows for ids below 5, and those of %0 .*tokens are below 6: ",
        ),
        ("positions", r"test_own_models\.py:\d+: embedding: .* below 3, and those of %1 .*positions are below 4: give"),
        ("unused", r"Here\.forward: the logits do not depend on the parameter w: use it, or leave it out$"),
        ("input", r"Here\.forward: knows tokens and positions alone, there is nothing to write to %4 \(T, 1\) x$"),
        ("raises", r"test_own_models\.py:\d+: AttributeError: 'Node' object has no attribute 'nothing'$"),
        ("nothing", r"Here\.forward: must return logits, a node of its tape, not None$"),
        ("few", r"Here\.forward: must return logits \(T, 6\), one for each token, not %5 \(T, 2\) linear w$"),
        ("rows", r"Here\.forward: must return logits \(T, 6\), one for each token, not %4 \(6, 6\) w$"),
        (
            "changing",
            r"Here\.forward: records something else each time, first %4 .*0\.0.* and then %4 .*1\.0.*: ",
        ),
        (
            "growing",
            r"Here\.forward: records something else each time, first .* and then .*: let it depend on nothing but",
        ),
        (
            "losing",
            r"Here\.forward: %4 \(1, 1\) cross_entropy mixes positions, and none may see later ones: use axis=1$",
        ),
        ("sparse", r"Here\.forward: the parameter w is sparse, which embedding alone may use, not %5 .* logits$"),
        ("sparser", r"Here\.forward: one parameter may be sparse, not v and w$"),
        ("reserved", r"Here\.forward: files have other things named last\.w: give the parameter another name$"),
    ],
)
def test_a_forward_that_cannot_be_is_told_in_one_line(broken: str, message: str) -> None:
    CALLS.clear()
    with pytest.raises(TapeGPTError, match=f"^{message}") as caught:
        Here(broken=broken).record(6)
    assert "\n" not in str(caught.value)


def test_a_number_too_large_for_f32_is_told_where_it_is_needed() -> None:
    class Large(Model):
        def forward(self, tape: Tape, tokens: Node, positions: Node, vocab_size: int) -> Node:
            x = tape.embedding(tape.parameter("table", vocab_size, vocab_size), tokens)
            return (x * 1e300).rmsnorm()

    model = tapegpt.train(["anna", "bob"], model=Large, steps=2)
    assert len(model.generate(3)) == 3
    for needs in (lambda: model.score(["anna"]), lambda: tapegpt.train(["anna"], model=Large, engine="fast", steps=2)):
        with pytest.raises(TapeGPTError, match=r"^mul: 1e\+300 is too large for f32$"):
            needs()


def test_a_forward_without_parameters_or_without_anything() -> None:
    class Constant(Model):
        def forward(self, tape: Tape, tokens: Node, positions: Node, vocab_size: int) -> Node:
            return tape.input("x", vocab_size)

    with pytest.raises(TapeGPTError, match=r"^Constant\.forward: knows tokens and positions alone"):
        Constant().record(3)
    with pytest.raises(TapeGPTError, match=r"^Nothing\.forward: is missing"):
        type("Nothing", (Model,), {})().record(3)
    with pytest.raises(TapeGPTError, match=r"^Model\.forward: is missing"):
        tapegpt.train(STRINGS, model=Model)


def test_a_check_that_fails_is_told_with_its_line() -> None:
    class Even(Here):
        def check(self) -> None:
            super().check()
            assert self.block_size % 2 == 0

    with pytest.raises(TapeGPTError, match=r"^test_own_models\.py:\d+: AssertionError"):
        tapegpt.train(STRINGS, model=Even, block_size=5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_hidden": int}, "A: the setting n_hidden needs a default, such as n_hidden: int = 1"),
        ({"shapes": (int, 3)}, "A: every model has a shapes already: give the setting another name"),
        (
            {"sizes": (list, [1])},
            "A: the setting sizes must be annotated bool, int, float, str, or one of these | None, not",
        ),
    ],
)
def test_settings_that_cannot_be_are_told_where_the_class_is_defined(fields: dict[str, Any], message: str) -> None:
    kinds = {name: each[0] if isinstance(each, tuple) else each for name, each in fields.items()}
    values = {name: each[1] for name, each in fields.items() if isinstance(each, tuple)}
    with pytest.raises(TapeGPTError, match=f"^{re.escape(message)}"):
        type("A", (Model,), {"__annotations__": kinds, **values})


@pytest.mark.parametrize("name", ["steps", "learning_rate", "column", "preset", "data"])
def test_a_setting_may_not_have_the_name_of_another_option(name: str) -> None:
    kind = type("A", (Here,), {"__annotations__": {name: int}, name: 1})
    with pytest.raises(TapeGPTError, match=f"^A: a training has a {name} too: give the setting another name$"):
        tapegpt.train(STRINGS, model=kind)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["exact", "fast"])
def test_a_forward_may_need_some_tokens_or_a_multiple_of_some(engine: Any) -> None:
    class Third(Here):
        def forward(self, tape: Tape, tokens: Node, positions: Node, vocab_size: int) -> Node:
            x = tape.embedding(tape.parameter("table", vocab_size, vocab_size), tokens)
            return tape.attention(x, x, x, 3) + x[:, 5:6]

    strings = ["abcdefghijk", "ba"]  # and BOS
    model = tapegpt.train(strings, model=Third, engine=engine, steps=5)
    assert model.explain("ab").loss == pytest.approx(model.score(["ab"]).nats[0], rel=1e-5)


@pytest.mark.parametrize("model", [1, GPT, object(), None])
def test_what_is_no_model_at_all(model: Any) -> None:
    with pytest.raises(TapeGPTError, match=r"^model must be a name, a subclass of tapegpt\.Model or an instance, not "):
        tapegpt.train(STRINGS, model=model)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "heat"], "--set heat: must be NAME=VALUES"),
        (["--set", "heat=x"], "--set heat: must be a number, not 'x'"),
        (["--set", "norm=yes"], "--set norm: must be true or false, not 'yes'"),
        (["--set", "n_embd=2.5"], "--set n_embd: must be a whole number, not '2.5'"),
        (["--set", "n_embd=-8"], "'wte': columns must be a whole number from 1 to 8,589,934,592, not -8"),
        (["--set", "steps=3"], "--set steps: MyGPT has no such setting, it has n_embd, n_head, heat, norm, block_size"),
        (["--n-layer", "2"], "--n-layer: MyGPT has no such setting, it has n_embd, n_head, heat, norm, block_size"),
        (["--n-embd", "2", "--set", "n_embd=2"], "--n-embd and --set n_embd exclude each other: give one"),
        (["--set", "heat=1", "--set", "heat=2"], "--set heat: is given twice"),
    ],
)
def test_settings_that_are_typed_wrongly(tapegpt_: Command, arguments: list[str], message: str) -> None:
    assert message in tapegpt_.refuses("train", "names.txt", *OWN, *arguments)


def test_a_state_dict_of_microgpt_is_of_gpt(tapegpt_: Command) -> None:
    Path("state.json").write_text("{}")
    said = tapegpt_.refuses("convert", "state.json", "m.safetensors", *OWN)
    assert said == "--model is not about a state_dict of microgpt.py, which is of gpt: leave it out"
