"""Where two runs part: differences that were planted are found, at their step and their place."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tapegpt
from tapegpt import GPT, Corpus, Random, TapeGPTError
from tapegpt.analysis.diff import STOPS, Losses, Pair, _stops, compare, losses_of
from tapegpt.models.provenance import DataRecord
from tapegpt.training.trainer import Trainer
from tests.properties import many

PAIRS = [first + second for first in "abcd" for second in "abcd"]
NAMES = PAIRS * 6
SHAPE: dict[str, Any] = {"n_embd": 4, "n_head": 2, "block_size": 4}
STEPS = 90
NUMBERS = st.lists(st.floats(0.001, 10), min_size=1, max_size=30)


def trained(documents: list[str] = NAMES, **options: Any) -> GPT:
    return tapegpt.train(Corpus.of(documents), **{**SHAPE, "steps": STEPS, **options})


def parameters_after(model: GPT, documents: list[str], steps: int) -> dict[str, array[float]]:
    assert model.state is not None
    trainer = Trainer(Corpus.of(documents), model.config, model.state.settings)
    trainer.run(steps)
    return trainer.model.parameters


# --- models -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=many(12, few=4))
@given(step=st.integers(1, STEPS), other=st.sampled_from(PAIRS))
def test_another_document_is_found_at_its_step(step: int, other: str) -> None:
    place = Random(42).permutation(len(NAMES))[step - 1]
    documents = [*NAMES[:place], other, *NAMES[place + 1 :]]
    a, b = trained(), trained(documents)
    found = compare(a, b)
    if documents == NAMES:
        assert found.equal
        assert found.parting is None
        return
    assert not found.equal
    assert found.settings.keys() == {"digest"}
    assert found.losses is not None
    assert (found.losses.step, found.losses.last_equal) == (step, step - 1)
    parting = found.parting
    assert parting is not None
    assert parting.step == step
    assert parameters_after(a, NAMES, step - 1) == parameters_after(b, documents, step - 1)
    x, y = parameters_after(a, NAMES, step), parameters_after(b, documents, step)
    columns = {name: shape[1] for name, shape in a.config.shapes(a.vocab_size).items()}
    cells = [
        (f"{name}[{i // columns[name]}, {i % columns[name]}]", Pair(p, q))
        for name in x
        for i, (p, q) in enumerate(zip(x[name], y[name], strict=True))
        if p != q
    ]
    assert (str(parting.cell), parting.cell.pair, parting.differing) == (*cells[0], len(cells))
    for distance in found.distances:
        x, y = parameters_after(a, NAMES, distance.step), parameters_after(b, documents, distance.step)
        farthest = max(abs(p - q) for name in x for p, q in zip(x[name], y[name], strict=True))
        assert distance.parameters == farthest
    assert [distance.step for distance in found.distances] == [1, 2, 5, 10, 20, 50, STEPS]


@settings(max_examples=many(20))
@given(data=st.data())
def test_another_number_is_found_at_its_place(data: st.DataObject) -> None:
    a, b = trained(steps=3), trained(steps=3)
    parameters = b.parameters
    name = data.draw(st.sampled_from(list(parameters)))
    place = data.draw(st.integers(0, len(parameters[name]) - 1))
    former = parameters[name][place]
    parameters[name][place] = math.nextafter(former, math.inf)
    b.engine.load_parameters(parameters)
    found = compare(a, b)
    row, column = divmod(place, a.config.shapes(a.vocab_size)[name][1])
    assert not found.equal
    assert str(found.reason).startswith("B: the training cannot be repeated: other weights come out")
    (tensor,) = [tensor for tensor in found.tensors if tensor.largest is not None]
    assert tensor.equal == len(parameters[name]) - 1
    assert tensor.largest is not None
    assert str(tensor.largest) == f"{name}[{row}, {column}]"
    assert (tensor.largest.pair.ulps, tensor.largest.pair.a) == (1, former)


def test_the_largest_difference_is_so_whatever_its_sign() -> None:
    a, b = trained(steps=3), trained(steps=3)
    for name, changes in (("wte", (1e-3, -0.5)), ("wpe", (-1e-3, 0.5))):
        parameters = b.parameters
        for place, change in enumerate(changes, 3):
            parameters[name][place] += change
        b.engine.load_parameters(parameters)
    largest = {tensor.name: str(tensor.largest) for tensor in compare(a, b).tensors if tensor.largest is not None}
    assert largest == {"wte": "wte[1, 0]", "wpe": "wpe[1, 0]"}


@given(st.integers(-1, 500), st.integers(1, 5000))
def test_stops_are_few_and_all_where_there_are_few(first: int, count: int) -> None:
    stops = _stops(first, first + count)
    assert (stops[0], stops[-1], len(stops)) == (first, first + count, len(set(stops)))
    assert len(stops) == count + 1 if count <= STOPS else STOPS / 2 < len(stops) <= STOPS + 1
    assert max(later - step for step, later in pairwise(stops)) <= -(-count // STOPS)


def test_distances_end_with_the_last_step() -> None:
    distances = compare(trained(steps=5), trained(steps=5, seed=1)).distances
    assert [distance.step for distance in distances] == [1, 2, 5]


def test_documents_are_read_once_however_often_a_training_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    model = tapegpt.train(tmp_path / "names.txt", **SHAPE, steps=STEPS)
    tapegpt.save(model, tmp_path / "a")
    tapegpt.save(tapegpt.train(tmp_path / "names.txt", **SHAPE, steps=STEPS, learning_rate=0.02), tmp_path / "b")
    read, reads = DataRecord.read, list[DataRecord]()

    def counted(self: DataRecord) -> Corpus:
        reads.append(self)
        return read(self)

    monkeypatch.setattr(DataRecord, "read", counted)
    found = compare(tapegpt.load(tmp_path / "a"), tapegpt.load(tmp_path / "b"))
    assert found.parting is not None
    assert (found.parting.step, len(reads)) == (1, 2)


def test_the_same_training_is_equal_whatever_engine_did_it() -> None:
    found = compare(trained(steps=2), trained(steps=2, engine="reference"))
    assert found.equal
    assert found.settings == {"engine": ("exact", "reference")}


@pytest.mark.slow
def test_the_fast_engine_parts_by_its_roundings() -> None:
    same: dict[str, Any] = {"batch_size": 1, "long": "cut", "beta1": 0.85, "threads": 1}
    found = compare(trained(), trained(engine="fast", **same))
    assert found.parting is not None
    assert (found.parting.step, str(found.parting.cell)) == (0, "wte[0, 0]")
    assert all(0 < distance.parameters < 1e-4 for distance in found.distances)
    assert "engine" in found.settings


@pytest.mark.slow
def test_models_of_other_shapes_and_lengths_are_compared_as_far_as_they_go() -> None:
    found = compare(trained(), trained(n_embd=8, steps=STEPS + 5))
    assert found.parting is None
    assert {(tensor.a_shape, tensor.b_shape) for tensor in found.tensors} >= {((5, 4), (5, 8)), ((4, 4), (8, 8))}
    assert found.losses is not None
    assert (found.losses.steps, found.losses.a_last, found.losses.b_last) == (STEPS, STEPS, STEPS + 5)
    assert found.settings["steps taken"] == (STEPS, STEPS + 5)
    assert not found.equal


def test_what_cannot_be_trained_again_is_compared_as_it_is() -> None:
    a, b = trained(steps=3), trained(steps=3)
    b.state = None
    found = compare(a, b)
    assert found.equal
    assert found.losses is None
    assert str(found.reason) == (
        "B: the training cannot be repeated: the file holds weights only, not how they were trained"
    )


# --- losses -----------------------------------------------------------------------------------------------------


def written(numbers: list[float], way: str) -> str:
    steps = iter(range(1, 100))
    lines: dict[str, Callable[[float], str]] = {
        "repr": repr,
        "hex": float.hex,
        "printed": lambda number: f"step {next(steps):4d} / 1000 | loss {number:.4f}",
        "ours": lambda number: f"step {next(steps):4d} | loss {number:.4f} | held-out 2.0000",
        "logged": lambda number: f'{{"step": {next(steps)}, "loss": {number!r}}}\n{{"step": 1, "held_out": 2.0}}',
    }
    return "\n".join(map(lines[way], numbers))


@given(numbers=NUMBERS, way=st.sampled_from(["repr", "hex", "printed", "ours", "logged"]))
def test_losses_are_read_as_they_were_written(numbers: list[float], way: str) -> None:
    text = written(numbers, way)
    if way == "printed":
        text = f"num docs: 3\n{text}\r\nsample  1: step by step\n"
    read = losses_of(text, "here")
    if way in ("printed", "ours"):
        assert read == Losses({step: float(f"{number:.4f}") for step, number in enumerate(numbers, 1)}, 4)
    else:
        assert read.values == dict(enumerate(numbers, 1))


@given(numbers=NUMBERS, data=st.data())
def test_the_first_loss_that_differs_is_found(numbers: list[float], data: st.DataObject) -> None:
    step = data.draw(st.integers(1, len(numbers)))
    others = [number if place < step else number * 1.5 for place, number in enumerate(numbers, 1)]
    found = compare(losses_of(written(numbers, "hex"), "a"), losses_of(written(others, "logged"), "b"))
    assert found.losses is not None
    assert (found.losses.step, found.losses.last_equal) == (step, step - 1)
    assert found.losses.pair == Pair(numbers[step - 1], others[step - 1])
    assert compare(losses_of(written(numbers, "hex"), "a"), Losses(dict(enumerate(numbers, 1)))).equal


@given(numbers=NUMBERS, decimals=st.integers(1, 8))
def test_rounded_losses_are_compared_as_rounded(numbers: list[float], decimals: int) -> None:
    rounded = losses_of("\n".join(f"{number:.{decimals}f}" for number in numbers), "a")
    assert compare(rounded, Losses(dict(enumerate(numbers, 1)))).equal
    moved = [number + 0.6 * 10**-decimals for number in numbers]
    apart = compare(Losses(dict(enumerate(moved, 1))), rounded)
    assert apart.equal == all(round(p, decimals) == round(q, decimals) for p, q in zip(numbers, moved, strict=True))
    assert compare(Losses(dict(enumerate(moved, 1))), rounded, tolerance=10**-decimals).equal


def test_digits_are_counted_in_every_way_of_writing() -> None:
    written = {"2": 0, "2.50": 2, "1.25e-3": 5, "2.5E+1": 0, "1e3": 0}
    assert {text: losses_of(text, "here").decimals for text in written} == written
    assert losses_of("2.5\n1.125", "here").decimals == 3
    assert [losses_of(f"0.{'1' * digits}", "here").decimals for digits in (14, 15, 16)] == [14, None, None]


def test_losses_within_the_tolerance_are_equal() -> None:
    a, b = Losses({1: 3.0, 2: 2.0}), Losses({1: 3.25, 2: math.nan})
    found = compare(a, b, tolerance=0.25)
    assert found.losses is not None
    assert (found.losses.last_equal, found.losses.step) == (1, 2)
    assert compare(b, b).equal


def test_losses_of_some_steps_are_compared_there_and_at_their_end() -> None:
    whole = Losses(dict(enumerate([3.0, 2.0, 1.0], 1)))
    assert compare(whole, Losses({3: 1.0})).equal
    assert not compare(whole, Losses({1: 3.0, 2: 2.0})).equal
    with pytest.raises(TapeGPTError, match="the runs have no step in common"):
        compare(whole, Losses({7: 1.0}))


def test_a_model_is_compared_with_losses_by_training_it_again() -> None:
    losses: list[float] = []
    model = trained(callbacks=[lambda trainer, more: losses.extend(more)])
    assert compare(model, losses_of(written(losses, "hex"), "b")).equal
    assert compare(losses_of(written(losses, "printed"), "a"), model).equal
    losses[70] = math.nextafter(losses[70], 0.0)
    found = compare(model, losses_of(written(losses, "hex"), "b")).losses
    assert found is not None
    assert found.pair is not None
    assert (found.step, found.pair.ulps) == (71, 1)
    model.state = None
    with pytest.raises(TapeGPTError, match="the file holds weights only"):
        compare(model, Losses({1: 3.0}))


@given(st.floats(-1e300, 1e300), st.integers(0, 50))
def test_ulps_count_the_doubles_between(number: float, count: int) -> None:
    other = number
    for _ in range(count):
        other = math.nextafter(other, math.inf)
    assert Pair(number, other).ulps == Pair(other, number).ulps == count
    assert Pair(-5e-324, 5e-324).ulps == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "here: holds no losses"),
        ("3.0\nthree\n", "here: line 2 is no loss: 'three': give a model"),
        ('{"step": 1}', "here: line 1 is no loss"),
        ('{"step": "x", "loss": 1.0}', "here: line 1 is no loss"),
        ('{"step": 1, "loss": null}', "here: line 1 is no loss"),
        ("step x / 3 | loss 1.0", "here: line 1 is no loss"),
        ("[" * 10_000, "here: line 1 is no loss"),
    ],
)
def test_what_are_no_losses_is_refused_in_a_line(text: str, message: str) -> None:
    with pytest.raises(TapeGPTError) as error:
        losses_of(text, "here")
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("tolerance", [-1.0, math.nan, "1"])
def test_a_tolerance_is_a_number_from_0_on(tolerance: Any) -> None:
    with pytest.raises(TapeGPTError, match="tolerance must be a number from 0 on"):
        compare(Losses({1: 3.0}), Losses({1: 3.0}), tolerance)
