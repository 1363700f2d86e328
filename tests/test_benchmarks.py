"""The benchmarks run, refuse to time a wrong result, and sum up what they are told; no figure is looked at."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

import tapegpt
from benchmarks import (
    command,
    constraints,
    detectors,
    fast,
    generators,
    inference,
    kernels,
    ladder,
    peer_torch,
    quality,
    randomness,
    text,
    tokens,
    training,
    whole,
)
from benchmarks.__main__ import PARTS, arguments
from benchmarks.timing import Contender, Summary, comparison, cpu_name, figure, take_turns
from tapegpt import Config, Corpus, Random
from tapegpt.inference.forward import Inference
from tapegpt.models.trained import GPT
from tapegpt.processes import cores
from tapegpt.settings import Settings
from tapegpt.training.trainer import Trainer

CORPUS = Corpus.of(["ada", "grace", "emmy", "sofja"])
SMALL = Config(n_embd=4, n_head=2, block_size=4)


def first_cells(printed: str) -> list[str]:
    """The first column of a table, without its head."""
    rows = [line.split("|")[1].strip() for line in printed.splitlines() if line.startswith("| ")]
    return rows[2:]


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_whole_trainings_are_timed_by_thirds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "JOBS", [(SMALL, Settings("exact")), (SMALL, Settings("fast", batch_size=3, threads=2))])
    monkeypatch.setattr(whole, "THREADED", (SMALL, 3))
    monkeypatch.setattr(whole, "Config", lambda: SMALL)  # that engines are compared with
    trainings: list[Trainer] = []
    run = Trainer.run

    def noted(self: Trainer, count: int) -> list[float]:
        trainings.append(self)
        return run(self, count)

    monkeypatch.setattr(Trainer, "run", noted)
    program = "import time\nfor step in range(60): print(f'step {step} of', open('input.txt').name); time.sleep(0.002)"
    printed = whole.by_third(CORPUS, 60, 2, {"peer": shlex.join([sys.executable, "-c", program])})
    rows = [row.strip("| ").split(" | ") for row in printed.splitlines()[4:]]
    assert [row[:4] for row in rows] == [["exact", "4", "1", "1"], ["fast", "4", "3", "2"], ["peer", "", "", ""]]
    assert [trainer.step for trainer in trainings[-2:]] == [64 + 60] * 2


def test_the_cpu_has_a_name() -> None:
    assert cpu_name().endswith(f", {cores()} cores")


# --- the fast engine --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_fast_engine_is_timed_where_it_is_close(monkeypatch: pytest.MonkeyPatch) -> None:
    fast.check_against_exact(CORPUS, SMALL, 5)
    run = Trainer.run

    def a_little_off(self: Trainer, count: int) -> list[float]:
        return [loss + (2e-4 if self.settings.engine == "fast" else 0) for loss in run(self, count)]

    monkeypatch.setattr(Trainer, "run", a_little_off)
    with pytest.raises(AssertionError, match=r"losses of fast and exact are 0\.000"):
        fast.check_against_exact(CORPUS, SMALL, 5)


def test_threads_are_timed_where_they_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    fast.check_threads(CORPUS, SMALL, 4)
    run = Trainer.run
    monkeypatch.setattr(
        Trainer, "run", lambda self, count: [x * (self.settings.threads or 1) for x in run(self, count)]
    )
    with pytest.raises(AssertionError, match="losses of one thread and two are"):
        fast.check_threads(CORPUS, SMALL, 4)


def test_the_peak_is_measured_on_right_results() -> None:
    peak = fast.Peak()
    assert [peak.measure(), peak.measure()] == peak.samples
    assert min(peak.samples) > 0
    assert len(re.findall("fmadd|fmla", peak._program.assembly())) >= fast.CHAINS or not peak._program.target.fma
    peak._numbers[0] = 0.25
    with pytest.raises(AssertionError, match="comes to 2"):
        peak.measure()


@pytest.mark.parametrize(("block_size", "positions"), [(16, 21 / 4), (5, 21 / 6), (3, 21 / 8)])
def test_positions_of_a_document_are_those_of_its_windows(block_size: int, positions: float) -> None:
    assert fast.positions_a_document(CORPUS, SMALL.replace(block_size=block_size)) == positions


def test_multiply_adds_are_the_weights_of_the_linear_layers() -> None:
    for config in (SMALL, *[shape for shape, _ in (*fast.SHAPES, *fast.LONG)]):
        linear = [r * c for name, (r, c) in config.shapes(27).items() if name not in ("wte", "wpe")]
        assert fast.linear_multiply_adds(config, 27) == sum(linear)


@pytest.mark.slow
def test_the_fast_engine_s_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = {"SAMPLE_SECONDS": 1e-6, "SHAPES": ((SMALL, 1), (SMALL, 3)), "THREADED": (SMALL, 4)}
    tiny |= {"LONG": ((SMALL.replace(block_size=40), 2),), "PEAK_ROUNDS": 1000}
    for name, value in tiny.items():
        monkeypatch.setattr(fast, name, value)
    printed = fast.training_step(CORPUS, rounds=1)
    by_shape, by_threads, long_texts = printed.split("###")[1:]
    assert first_cells(by_shape) == ["4", "4"]
    assert first_cells(by_threads) == ["1 thread", "2 threads"]
    assert first_cells(long_texts) == ["4"]
    assert printed.count(" % |") == 3
    assert "Peak of one core" in printed


def test_generation_is_timed_where_all_ways_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "SPEAKERS", (SMALL,))
    monkeypatch.setattr(fast, "STRINGS", 70)  # more than a batch
    ways = ["one string at a time", "batched", "batched, as text"]
    ways += [f"batched, up to {blocks * SMALL.block_size} tokens at temperature 100" for blocks in (1, fast.BLOCKS)]
    assert first_cells(fast.generation(CORPUS, rounds=1)) == [f"n_embd 4, {way}" for way in ways]
    generate = GPT.generate

    def one_differs(self: GPT, n: int = 20, **options: float) -> list[str]:
        return [*generate(self, n, **options)[:-1], "x"]  # type: ignore[arg-type]  # a seed is a whole number

    monkeypatch.setattr(GPT, "generate", one_differs)
    with pytest.raises(AssertionError, match="differ"):
        fast.generation(CORPUS, rounds=1)


def test_generated_tokens_are_counted_with_their_ends() -> None:
    model = Trainer(CORPUS, SMALL, engine="fast", steps=1).model
    assert fast.check_strings(model, {"by hand": lambda: ["", "ad", "ada", "emmy"]}) == 1 + 3 + 4 + 4


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [3, 100], ids=["one run", "several runs"])
def test_kernels_are_timed_on_their_own(batch_size: int) -> None:
    rows = first_cells(kernels.by_kernel(CORPUS, SMALL, batch_size, rounds=1))
    assert rows[:2] == ["pack", "prepare linear, layer0.attn_wqkv (48, 4)"]
    assert [row for row in rows if "attention" in row] == [
        f"{way} attention n_head=2 head_dim=2 block_size=4" for way in ("forward", "backward")
    ]
    assert len([row for row in rows if "linear" in row]) == 3 * 5
    assert rows[-3:-1] == ["Adam", "all of these"]
    assert rows[-1].startswith("the whole step (")


def test_kernels_alone_must_come_to_the_whole() -> None:
    step = kernels.Step(CORPUS, SMALL, 100)
    assert sum(step.rows for _ in step.runs()) == step.positions > step.tape.positions
    kernels.check_parts(step)
    del step.parts[next(entry for entry, part in step.parts.items() if part.name == "backward rmsnorm")]
    with pytest.raises(AssertionError, match="another step than the whole"):
        kernels.check_parts(step)


@pytest.mark.slow
def test_quality_is_read_from_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "input.txt"
    data.write_text("\n".join(Corpus.dataset("names").documents[:200]))
    rows = first_cells(quality.by_preset(str(data), ["100ms"], rounds=1, presets=["quick"]))
    assert rows == ["quick, 100ms", "exact, 1000 steps", "uniform", "unigram", "bigram", "5-gram"]
    read = quality.results

    def a_little_off(printed: str) -> tuple[float, dict[str, float]]:
        loss, baselines = read(printed)
        return loss + 2e-4, baselines

    monkeypatch.setattr(quality, "results", a_little_off)
    with pytest.raises(AssertionError, match=r"the printed loss is 0\.000"):
        quality.check_printed_loss(Corpus.read(data), tmp_path)


def test_held_out_losses_are_parsed() -> None:
    printed = (
        "num docs: 3\nheld-out loss: 2.0500 nats per token, perplexity 7.77\nto compare: uniform 3.2, 5-gram 2.1\n"
    )
    assert quality.results(printed) == (2.05, {"uniform": 3.2, "5-gram": 2.1})
    with pytest.raises(AssertionError, match="no held-out loss"):
        quality.results("num docs: 3\n")


def test_a_peer_that_is_not_installed_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_torch, "torch_module", lambda: None)
    assert peer_torch.against_torch(CORPUS, rounds=1) == peer_torch.ABSENT


@pytest.mark.slow
@pytest.mark.parametrize("installed", [False, True])
def test_generators_are_those_that_are_installed(monkeypatch: pytest.MonkeyPatch, installed: bool) -> None:
    monkeypatch.setattr(generators, "find_spec", lambda name: (installed and name == "faker") or None)
    monkeypatch.setattr(generators, "WAYS", {"engine exact": {"steps": 3}})
    monkeypatch.setattr(generators, "STRINGS", 20)
    printed = generators.by_tool(CORPUS, rounds=1)
    assert first_cells(printed) == ["tapegpt, engine exact", *["Faker, first_name"] * installed]
    assert generators.ABSENT.format("markovify") in printed


def test_a_chain_finds_impossible_what_it_has_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "markovify.chain", SimpleNamespace(BEGIN="<", END=">"))
    chain = SimpleNamespace(state_size=1, model={("<",): {"a": 1}, ("a",): {"b": 1, ">": 1}, ("b",): {">": 1}})
    assert generators.possible(chain, ["a", "ab"]) == ("", 1.0)
    assert generators.possible(chain, ["a", "b", "aa", "ab"]) == ("infinite", 0.5)


@pytest.mark.slow
def test_detectors_are_those_that_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detectors, "WAYS", {"engine exact": {"steps": 3}})
    monkeypatch.setattr(detectors, "HELD_OUT", 0.5)
    monkeypatch.setattr(detectors, "find_spec", lambda _: None)
    printed = detectors.by_kind(CORPUS, rounds=1)
    ours = ["tapegpt, engine exact", "smoothed 5-gram"]
    assert first_cells(printed) == ours
    assert printed.count("is not installed here") == 2
    monkeypatch.setattr(detectors, "find_spec", lambda name: name == "nostril_detector")
    monkeypatch.setattr(detectors, "LONG", bool)
    monkeypatch.setitem(sys.modules, "nostril_detector", SimpleNamespace(nonsense=lambda text: True))
    scored, judged = detectors.by_kind(CORPUS, rounds=1).split("###")[1:]
    assert (first_cells(scored), first_cells(judged)) == (ours, [*ours, "nostril"])
    assert judged.count("| 1.000 | 1.000 | 1.000 |") == 3


def test_fakes_are_caught_above_what_is_real() -> None:
    drawn, shuffled, replaced = detectors.fake(CORPUS.documents)
    for texts in zip(CORPUS.documents, drawn, shuffled, replaced, strict=True):
        assert len(set(map(len, texts))) == 1
        assert sorted(texts[2]) == sorted(texts[0])
        assert sum(one != other for one, other in zip(texts[0], texts[3], strict=True)) <= 1
    real = [1.0, 2.0, 2.0, 4.0]
    assert detectors.area(real, [3.0, 2.0]) == (3 + 2) / 8
    assert detectors.area(real, [5.0]) == 1
    assert [detectors.caught(real, [1.0, 3.0, 5.0], alarms) for alarms in (0, 0.25, 1)] == [1 / 3, 2 / 3, 1]


@pytest.mark.slow
def test_each_model_of_the_ladder_has_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_torch, "torch_module", lambda: None)
    monkeypatch.setattr(ladder, "RUNGS", [("bigram", {}), ("gru", {"n_embd": 3, "n_hidden": 5})])
    monkeypatch.setattr(ladder, "STEPS", 3)
    monkeypatch.setattr(fast, "SAMPLE_SECONDS", 1e-6)
    printed = ladder.by_model(CORPUS, rounds=1)
    assert first_cells(printed) == ["bigram", "gru"]
    assert "| gru | 3 | " in printed


def test_a_model_of_the_ladder_that_is_another_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "CLOSE", 1e-12)
    with pytest.raises(AssertionError, match="losses of fast and exact are"):
        ladder.check_against_exact(CORPUS, SMALL)


# --- random numbers, the command --------------------------------------------------------------------------------


def test_random_numbers_are_timed_only_where_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = randomness.against_cpython(rounds=1)
    assert printed.count("| tapegpt.Random |") == printed.count("| random.Random |") == 2
    monkeypatch.setattr(Random, "permutation", lambda self, count: list(range(count)))
    with pytest.raises(AssertionError, match="the results differ"):
        randomness.against_cpython(rounds=1)


@pytest.mark.slow
def test_the_command_is_timed_beside_its_peers(tmp_path: Path) -> None:
    data = tmp_path / "few.txt"
    data.write_text("ada\ngrace\n\nemmy\n")
    peer = f"{sys.executable} -c \"print(open('input.txt').read())\""
    printed = command.whole_command(str(data), {"reader": peer}, rounds=1)
    wall, memory, cold = printed.split("###")[1:]
    assert first_cells(wall) == first_cells(memory) == ["tapegpt", "bare interpreter", "reader"]
    assert first_cells(cold) == ["tapegpt"]


def test_a_peer_that_fails_stops_the_benchmark(tmp_path: Path) -> None:
    program = command.Program("broken", [sys.executable, "-c", "raise SystemExit(3)"], tmp_path)
    with pytest.raises(SystemExit, match=r"^broken: .* ended with 3"):
        program.run()


@pytest.mark.parametrize(
    ("program", "error"),
    [("print('step 1')", "names 1 steps"), ("print('loss 2.5')", "names 0 steps"), ("exit(3)", "ended with 3")],
)
def test_a_peer_that_names_no_steps_is_not_timed(tmp_path: Path, program: str, error: str) -> None:
    with pytest.raises(SystemExit, match=f"^peer: .* {error}"):
        whole.peer_thirds("peer", [sys.executable, "-c", program], tmp_path)


def test_memory_is_the_program_s_own(tmp_path: Path) -> None:
    lean = command.Program("lean", [sys.executable, "-c", "pass"], tmp_path)
    large = command.Program("large", [sys.executable, "-c", "bytearray(b'x') * 50_000_000"], tmp_path)
    for program in (lean, large):
        program.run()
    assert 1 < lean.peaks[0] < 50 < large.peaks[0] < 50 + 2 * lean.peaks[0]


def test_arguments() -> None:
    options = arguments(["training", "sizes", "--rounds", "3", "--peer", "a=b c=d"])
    assert (options.parts, options.rounds, options.peer) == (["training", "sizes"], 3, [("a", "b c=d")])
    options = arguments(["kernels", "--n-embd", "32", "--batch-size", "8", "--budget", "1s", "--budget", "1m"])
    assert (options.n_embd, options.n_head, options.batch_size, options.budget) == (32, 4, 8, ["1s", "1m"])


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["trainig"], f"no part is called trainig: choose from {', '.join(PARTS)}"),
        (["kernels", "--n-embd", "30"], "--n-embd must be a multiple of --n-head"),
        (["kernels", "--batch-size", "0"], "batch_size must be a whole number from 1"),
        (["quality", "--budget", "soon"], "a budget must be a number and a unit"),
        (["--rounds", "0"], "--rounds must be at least 1"),
        (["--steps", "32"], "--steps must be at least three times --rounds"),
        (["--oracle", "folder"], "--oracle needs --data"),
        (["--peer", "nothing"], "must be NAME=COMMAND, not 'nothing'"),
    ],
)
def test_wrong_arguments_are_named(words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(words)
    assert complaint in capsys.readouterr().err


@pytest.mark.slow
def test_a_model_that_is_read_is_timed_where_it_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "STEPS", 5)
    monkeypatch.setattr(inference, "STRINGS", 70)
    rows = first_cells(inference.by_task(CORPUS, rounds=1, config=SMALL))
    assert rows[:3] == ["a string scored", "a token drawn", "a token drawn, pattern .*a"]
    with pytest.raises(AssertionError, match=r"'dan' does not match \.\*a"):
        inference.check_strings(["ada", "dan"], ".*a")
    totals = Inference.totals
    monkeypatch.setattr(Inference, "totals", lambda self, tokens: [x + 0.01 for x in totals(self, tokens)])
    with pytest.raises(AssertionError, match=r"scores are 0\.00"):
        inference.by_task(CORPUS, rounds=1, config=SMALL)


def test_strings_within_constraints_are_timed_where_they_keep_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constraints, "STEPS", 5)
    kinds = {"all": (5, {}), "a": (5, {"pattern": "a.*", "novel": True}), "b": (3, {"distinct": True, "suffix": "a"})}
    monkeypatch.setattr(constraints, "KINDS", kinds)
    assert first_cells(constraints.by_kind(CORPUS, rounds=1, config=SMALL)) == ["all", "a", "b"]
    model = tapegpt.train(CORPUS, steps=1, **SMALL.as_dict())
    for strings, wishes in (
        (["b"], {"pattern": "a"}),
        (["b"], {"prefix": "a"}),
        (["b"], {"suffix": "a"}),
        (["b", "b"], {"distinct": True}),
        (["ada"], {"novel": True}),
    ):
        with pytest.raises(AssertionError):
            constraints.check(model, strings, wishes)


@pytest.mark.slow
def test_a_text_is_read_in_windows_until_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = Corpus.of(["abcab"])
    tokens = text.windows(corpus, "abcabcab", 3)
    assert (tokens.ids.tolist(), tokens.starts.tolist()) == ([0, 1, 2, 0, 1, 2, 0], [0, 3, 6])
    monkeypatch.setattr(text, "torch_module", lambda: None)
    monkeypatch.setattr(text, "topics", {"one": "some text\n" * 200, "two": "and more of it"})
    found = text.by_time(["50ms"], {"block_size": 8, "n_layer": 1, "n_embd": 8, "n_head": 2})
    assert first_cells(found) == ["tapegpt", "tapegpt, n-gram embeddings"]
    with pytest.raises(AssertionError, match="is not the loss of chance"):
        text.check_chance((20.0, 10), 27)


SONG = "M:2/4\nL:1/8\nK:G\nG2|A2B2|c3/2d/e2|\nf4|g2"


def test_bars_are_as_long_as_their_notes() -> None:
    assert tokens.normal("2/4", "1/8", "G", "G2 | A2B2 | c3/2d/ e2\nf4 | g2") == SONG
    assert tokens.right_bars(SONG) == [True, True, True]
    assert tokens.right_bars(SONG.replace("A2", "_A,4").replace("f4", "[f4")) == [False, True, False]
    assert tokens.right_bars(SONG.replace("L:1/8", "L:1")) == tokens.right_bars("L:1/8\nA|B|c|d") == []
    assert tokens.right_bars(SONG.replace("f4", "f4/0")) == [True, True, False]
    assert set(tokens.walk(Corpus.of(["abcabd", "ba"]), 50)) == {"abcabd", "ba"}


@pytest.mark.slow
def test_rules_of_tokens_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "STRINGS", 20)
    monkeypatch.setattr(tokens, "SMILES", {"one": "characters", "two": "CC|."})
    printed = tokens.molecules(["CCO", "CCCl", "CO"] * 9, lambda text: "C" in text, ["50ms"], 1)
    assert first_cells(printed) == ["50ms, one", "50ms, two"]
    with pytest.raises(AssertionError):
        tokens.molecules(["CCO"], lambda text: False, ["50ms"], 1)
    rows = first_cells(tokens.scripts({"Devanagari": ["\u0915\u093e\u0928", "\u0915\u0941", "\u0928"] * 9}, ["50ms"]))
    assert rows == ["Devanagari, characters", "Devanagari, graphemes"]
    model = SimpleNamespace(steps=1, generate=lambda n, **_: ["no head"] + [SONG.replace("f4", "f3")] * (n - 1))
    monkeypatch.setattr(tokens, "trained", lambda *_, **__: model)
    printed = tokens.tunes([SONG] * 9, ["1s"], 1)
    assert first_cells(printed) == [f"{first}, {name}" for first in ("5-gram", "1s") for name in tokens.ABC]
    assert "| 1 | 66.7% (66.7%..66.7%) | 0.0% (0.0%..0.0%) |" in printed
    monkeypatch.setattr(tokens, "find_spec", lambda _: None)
    assert tokens.by_task().count("is not installed here") == 4
