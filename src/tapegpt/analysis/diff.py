"""Where two runs part: in their settings, their losses and their parameters, found by training both again.

A run is a model, or the losses that were printed or logged of one. Not here: training again (`recording.py`), how it is
shown (`cli/diff.py`).
"""

from __future__ import annotations

import math
from operator import sub

from tapegpt.data.corpus import Corpus
from tapegpt.data.vocabulary import CHARACTERS
from tapegpt.errors import TapeGPTError, quote
from tapegpt.inference.language_model import MODEL
from tapegpt.models.trained import GPT
from tapegpt.ranges import Number
from tapegpt.record import Record
from tapegpt.training.recording import replay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable, Iterator
    from typing import Any

    from tapegpt.data.vocabulary import Vocabulary
    from tapegpt.engines.base import Parameters
    from tapegpt.training.recording import Recording

EXACT = 15  # decimals from which a loss counts as written out in full
STOPS = 16  # of a replay, between the last step known to be equal and the first known to differ
SERIES = (1, 2, 5)  # times powers of ten: the steps at which it is shown how differences grow


class Losses(Record):
    """The losses of a run as they were written."""

    values: dict[int, float]  # by step, from 1 on
    decimals: int | None = None  # that they are rounded to, None for none


class Pair(Record):
    """A number of the one run, and of the other."""

    a: float
    b: float

    @property
    def apart(self) -> float:
        """|a - b|."""
        return abs(self.a - self.b)

    def is_close(self, tolerance: float, decimals: int | None) -> bool:
        """Whether they are no more apart than a tolerance, rounded to so many decimals, None for as they are."""
        if self.a == self.b or (math.isnan(self.a) and math.isnan(self.b)):
            return True
        if decimals is None:
            return self.apart <= tolerance
        return round(abs(round(self.a, decimals) - round(self.b, decimals)), decimals) <= tolerance

    @property
    def ulps(self) -> int:
        """How many doubles it is from one to the other."""
        return abs(_rank(self.a) - _rank(self.b))


class Cell(Record):
    """A number of a tensor that differs."""

    name: str
    row: int
    column: int
    pair: Pair

    def __str__(self) -> str:
        return f"{self.name}[{self.row}, {self.column}]"


class LossComparison(Record):
    """The losses of both runs."""

    steps: int  # that both have
    a_last: int  # the last step of each
    b_last: int
    decimals: int | None  # that were compared, None for all
    last_equal: int  # the last step before the first that differs, 0 where there is none
    step: int | None  # the first that differs, None where none does
    pair: Pair | None  # its losses

    @property
    def equal(self) -> bool:
        """Whether no step differs, and none is missing at the end."""
        return self.step is None and self.a_last == self.b_last


class TensorComparison(Record):
    """A tensor of both models, as they are."""

    name: str
    a_shape: tuple[int, int] | None  # None where there is none of this name
    b_shape: tuple[int, int] | None
    equal: int  # numbers that are the same
    largest: Cell | None  # the largest difference, None where there is none, or the shapes differ


class Parting(Record):
    """The first difference between the parameters of two trainings."""

    step: int  # after so many steps, 0 for before the first
    cell: Cell  # the first number that differs
    differing: int  # numbers that do


class Distance(Record):
    """How far two trainings are apart."""

    step: int  # after so many
    loss: float  # of that step; 0 before the first
    parameters: float  # the largest difference of any


class Comparison(Record):
    """Two runs beside each other; what does not apply to them is empty or None."""

    settings: dict[str, tuple[Any, Any]]  # those that differ
    losses: LossComparison | None
    parting: Parting | None
    distances: list[Distance]  # where parameters part
    tensors: list[TensorComparison]
    reason: TapeGPTError | None  # why two models could not be trained again

    @property
    def equal(self) -> bool:
        """Whether both came to the same numbers, as far as could be seen, whatever their settings."""
        same = all(each.a_shape == each.b_shape and each.largest is None for each in self.tensors)
        return same and self.parting is None and (self.losses is None or self.losses.equal)


def compare(a: GPT | Losses, b: GPT | Losses, tolerance: float = 0.0) -> Comparison:
    """Where two runs part.

    Losses count as equal where they differ by no more than `tolerance`; where those of one run are rounded, the others
    are too. Parameters have to be the same numbers. Models are trained again, for their losses and what came before the
    end; where that cannot be, two models are compared as they are, and one with losses raises `TapeGPTError`, as a
    tolerance below 0 and losses of no common step do.
    """
    for name, run in (("a", a), ("b", b)):
        if not isinstance(run, Losses):
            MODEL.check(name, run)
    Number(0).check("tolerance", tolerance)
    if isinstance(a, GPT) and isinstance(b, GPT):
        return _compare_models(a, b, tolerance)
    first, second = (_losses(_replay(run, ())) if isinstance(run, GPT) else run for run in (a, b))
    return Comparison({}, _compare_losses(first, second, tolerance), None, [], [], None)


def _replay(model: GPT, stops: Iterable[int]) -> Recording:
    """The training of a model, on its documents, which are read only once."""
    corpus = Corpus(list(model.training_documents()), model.vocabulary) if model.data else None
    return replay(model, stops, corpus)


# --- losses -----------------------------------------------------------------------------------------------------


def losses_of(text: str, name: str) -> Losses:
    """The losses in a text: as --metrics writes them, in lines such as `step 1 / 1000 | loss 3.3660`, or one a line.

    Numbers are decimal, or hexadecimal as `float.hex` gives them. Raises `TapeGPTError`, which names the text, for
    anything else.
    """
    lines = {at: line.strip() for at, line in enumerate(text.splitlines(), 1) if line.strip()}
    printed = {at: line for at, line in lines.items() if line.startswith("step ") and " loss " in line}
    values: dict[int, float] = {}
    decimals = 0
    for position, (at, line) in enumerate((printed or lines).items(), 1):
        try:
            for step, number in _read_line(line, position):
                values[step] = float.fromhex(number) if "x" in number else float(number)
                decimals = max(decimals, EXACT if "x" in number else _decimals(number))
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
            raise TapeGPTError(
                f"{name}: line {at} is no loss: {quote(line)}: give a model, a file of metrics, lines "
                "such as 'step 1 / 1000 | loss 3.3660', or a number a line"
            ) from None
    if not values:
        raise TapeGPTError(f"{name}: holds no losses: give a model, or a file with a loss a line")
    return Losses(values, decimals if decimals < EXACT else None)


def _read_line(line: str, position: int) -> Iterator[tuple[int, str]]:
    """The steps of a line, with their losses as they are written."""
    if line.startswith("{"):
        import json

        fields = json.loads(line, parse_float=str, parse_int=str, parse_constant=str)
        if "held_out" not in fields:
            yield int(fields["step"]), fields["loss"]
    elif line.startswith("step "):
        words = line.split()
        yield int(words[1]), words[words.index("loss") + 1]
    else:
        yield position, line


def _decimals(number: str) -> int:
    mantissa, _, exponent = number.lower().partition("e")
    return len(mantissa.partition(".")[2]) - int(exponent or 0)


def _losses(recording: Recording) -> Losses:
    return Losses(dict(enumerate(recording.losses, 1)))


def _compare_losses(a: Losses, b: Losses, tolerance: float) -> LossComparison:
    steps = sorted(a.values.keys() & b.values.keys())
    if not steps:
        raise TapeGPTError("the runs have no step in common: give losses of the same steps")
    decimals = min((each.decimals for each in (a, b) if each.decimals is not None), default=None)
    pairs = {step: Pair(a.values[step], b.values[step]) for step in steps}
    first = next((step for step in steps if not pairs[step].is_close(tolerance, decimals)), None)
    last_equal = max((step for step in steps if first is None or step < first), default=0)
    pair = None if first is None else pairs[first]
    return LossComparison(len(steps), max(a.values), max(b.values), decimals, last_equal, first, pair)


# --- models -----------------------------------------------------------------------------------------------------


def _compare_models(a: GPT, b: GPT, tolerance: float) -> Comparison:
    settings = _settings(a, b)
    tensors = _tensors(a, b)
    try:
        replays = _Replays(a, b)
    except TapeGPTError as error:
        return Comparison(settings, None, None, [], tensors, error)
    first, second = map(_losses, replays.recordings)
    losses = _compare_losses(first, second, tolerance)
    parting = None
    if a.config.shapes(a.vocab_size) == b.config.shapes(b.vocab_size):
        parting = replays.parting()
    distances = [] if parting is None else replays.distances()
    return Comparison(settings, losses, parting, distances, tensors, None)


def _settings(a: GPT, b: GPT) -> dict[str, tuple[Any, Any]]:
    """What the models, their trainings and their data have under the same name, and is not the same."""
    first, second = _describe(a), _describe(b)
    names = dict.fromkeys((*first, *second))
    return {name: (first.get(name), second.get(name)) for name in names if first.get(name) != second.get(name)}


def _describe(model: GPT) -> dict[str, Any]:
    fields = {**model.config.as_dict(), "vocabulary": _tokens(model.vocabulary), "steps taken": model.steps}
    if model.state is not None:
        fields.update(model.state.settings.as_dict())
    if model.data is not None:
        fields.update(documents=model.data.documents, digest=model.data.digest)
    return fields


def _tokens(vocabulary: Vocabulary) -> str | list[str]:
    """Characters as one text."""
    return "".join(vocabulary) if vocabulary.rule == CHARACTERS else list(vocabulary)


def _tensors(a: GPT, b: GPT) -> list[TensorComparison]:
    a_shapes, b_shapes = (model.config.shapes(model.vocab_size) for model in (a, b))
    first, second = a.parameters, b.parameters
    found = []
    for name in dict.fromkeys((*a_shapes, *b_shapes)):
        a_shape, b_shape = a_shapes.get(name), b_shapes.get(name)
        equal, largest = 0, None
        if a_shape is not None and a_shape == b_shape:
            x, y = first[name], second[name]
            differing = _differing(x, y)
            equal = len(x) - len(differing)
            if differing:
                position = max(differing, key=lambda position: abs(x[position] - y[position]))
                largest = _cell(name, a_shape, position, x, y)
        found.append(TensorComparison(name, a_shape, b_shape, equal, largest))
    return found


def _differing(x: array[float], y: array[float]) -> list[int]:
    return [] if x == y else [position for position, (p, q) in enumerate(zip(x, y, strict=True)) if p != q]


def _cell(name: str, shape: tuple[int, int], position: int, x: array[float], y: array[float]) -> Cell:
    row, column = divmod(position, shape[1])
    return Cell(name, row, column, Pair(x[position], y[position]))


class _Replays:
    """Two trainings done again, and compared at the same steps."""

    def __init__(self, a: GPT, b: GPT) -> None:
        self._models = (a, b)
        self._last = min(a.steps, b.steps)
        self._series = [step for power in range(10) for lead in SERIES if (step := lead * 10**power) < self._last]
        self._stops = sorted({*self._series, *_stops(0, self._last)})
        self.recordings = self._record(self._stops)

    def _record(self, stops: list[int]) -> list[Recording]:
        found = []
        for run, model in zip("AB", self._models, strict=True):
            try:
                found.append(_replay(model, stops))
            except TapeGPTError as error:
                raise TapeGPTError(f"{run}: {error}") from None
        return found

    def parting(self) -> Parting | None:
        """The first difference of parameters; raises `TapeGPTError` where a training cannot be repeated."""
        recordings, stops = self.recordings, self._stops
        while True:
            equal = -1
            for stop in stops:
                x, y = (recording.moment(stop).parameters for recording in recordings)
                if x != y:
                    break
                equal = stop
            else:
                return None
            if stop == equal + 1:
                return self._parting(stop, x, y)
            stops = _stops(equal, stop)
            recordings = self._record(stops)

    def _parting(self, step: int, x: Parameters, y: Parameters) -> Parting:
        model = self._models[0]
        differing = {name: _differing(x[name], y[name]) for name in x}
        name = next(name for name, positions in differing.items() if positions)
        shape = model.config.shapes(model.vocab_size)[name]
        cell = _cell(name, shape, differing[name][0], x[name], y[name])
        return Parting(step, cell, sum(map(len, differing.values())))

    def distances(self) -> list[Distance]:
        """How far the trainings are apart, step by step of the series, and at the end."""
        found = []
        for step in (*self._series, self._last):
            x, y = (recording.moment(step).parameters for recording in self.recordings)
            farthest = max(max(map(abs, map(sub, x[name], y[name]))) for name in x)
            loss, other = (recording.losses[step - 1] for recording in self.recordings)
            found.append(Distance(step, abs(loss - other), farthest))
        return found


def _stops(first: int, last: int) -> list[int]:
    """Steps from first to last, all or `STOPS` of them."""
    apart = max(1, -(-(last - first) // STOPS))
    return [*range(first, last, apart), last]


def _rank(number: float) -> int:
    """The rank of a double among all of them, in their order."""
    from struct import pack, unpack

    bits: int = unpack("<q", pack("<d", number))[0]
    return bits if bits >= 0 else -(bits & 0x7FFF_FFFF_FFFF_FFFF)
