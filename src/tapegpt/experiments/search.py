"""What a sweep looks through, and how: the space of candidates, the plan of successive halving.

Successive halving trains all for a while, the best third three times as long, and so on; the last ones with several
seeds. Each time they start anew: the learning rate falls to zero over a training, so that a short one is no beginning
of a long one (Jamieson and Talwalkar, 2016; Li et al., "Hyperband", 2018). Not here: training (`population.py`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from itertools import count, product

from tapegpt.data.rng import Random
from tapegpt.errors import TapeGPTError, is_number, is_whole, quote
from tapegpt.experiments.population import Candidate, Outcome
from tapegpt.models.gpt import Config
from tapegpt.ranges import Instance, Whole
from tapegpt.record import Record, field
from tapegpt.settings import MAX_STEPS, Settings
from tapegpt.text import round_digits
from tapegpt.training.presets import resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from tapegpt.autograd.model import Model
    from tapegpt.models.loading import Choice


ETA = 3  # so many times fewer continue, so many times as long
FINALISTS = 5  # at most, but for a plan that says otherwise
LEAST_STEPS = 100  # after fewer a loss says little about the end
LEAST_STRINGS = 500  # held-out ones that the first rungs are judged by
MAX_TRIALS = 100_000
COUNTS = {"trials": Whole(1, MAX_TRIALS), "seeds": Whole(1, 1000), "threads": Whole(1, 100_000)}  # a cluster has many
DECADE = 10.0  # a range that spans one is drawn from on a logarithmic scale
TRIES = 1000  # draws in a row that give nothing possible and new, after which there is taken to be no more

# --- the space --------------------------------------------------------------------------------------------------


class Space:
    """Settings of a model and its training (and "preset") with the values or the range that each is searched in.

    `grid` lists values, all combinations of them; `random` gives ranges (lowest, highest) to draw from, on a
    logarithmic scale where they span a decade. With both, the combinations take turns in the draws. Whatever is not
    searched is what `options` and a preset say. Raises `TapeGPTError` for anything that is no such field or range.
    """

    def __init__(
        self,
        grid: Mapping[str, Sequence[Any]] | None = None,
        random: Mapping[str, tuple[float, float]] | None = None,
        preset: str | None = None,
        options: Mapping[str, Any] | None = None,
        model: Choice = Config,
    ) -> None:
        for argument, asked in (("grid", grid), ("random", random)):
            if asked is not None:
                Instance(Mapping, "give values by name").check(argument, asked)
        for name, values in (grid or {}).items():
            if isinstance(values, str) or not hasattr(values, "__iter__"):
                raise TapeGPTError(f"grid {name}: its values must be several in a list, not {quote(values)}")
        self.grid = {name: list(values) for name, values in (grid or {}).items()}
        self.random = dict(random or {})
        self.preset, self.options = preset, dict(options or {})
        self.left_out: Counter[str] = Counter()  # how many candidates could not be, by reason
        self._choice, self.model = model, resolve({}, model=model)[0]
        self.fields = fields_of(type(self.model))
        self._check_names()
        for name, values in self.grid.items():
            if not values:
                raise TapeGPTError(f"grid {name}: there is no value: give at least one")
        for name, ends in self.random.items():
            self._check_range(name, ends)
        combinations = math.prod(map(len, self.grid.values()))
        if combinations > MAX_TRIALS:
            raise TapeGPTError(
                f"the grid has {combinations:,} combinations; the limit is {MAX_TRIALS:,}: give random ranges"
            )

    def candidates(self, trials: int, seed: int) -> list[Candidate]:
        """As many of the grid, or drawn with the seed where there are ranges: no two alike, fewer where there are none.

        What is impossible, such as an n_embd that n_head does not divide, is left out, and counted in `left_out`.
        """
        found: dict[tuple[Model, Settings], Candidate] = {}
        in_vain = 0
        for point in self._points(seed):
            candidate = self.candidate(len(found), point, seed)
            size = len(found)
            if candidate is not None:
                found.setdefault((candidate.config, candidate.settings), candidate)
            in_vain = 0 if len(found) > size else in_vain + 1
            if len(found) == trials or (self.random and in_vain == TRIES):
                break
        return list(found.values())

    def candidate(self, number: int, point: Mapping[str, Any], seed: int) -> Candidate | None:
        """The candidate at a point of the space; None, counted in `left_out`, where there can be none."""
        options: Any = {"seed": seed, **self.options, **point}
        preset = options.pop("preset", self.preset)
        try:
            return Candidate(number, *resolve(options, preset, model=self._choice))
        except TapeGPTError as error:
            self.left_out[str(error)] += 1
            return None

    def _points(self, seed: int) -> Iterator[dict[str, Any]]:
        combinations = [dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())]
        if not self.random:
            yield from combinations
            return
        rng = Random(seed)
        for number in count():
            drawn = {name: draw(rng, *ends, whole=self.is_whole(name)) for name, ends in self.random.items()}
            yield {**combinations[number % len(combinations)], **drawn}

    def is_whole(self, name: str) -> bool:
        """Whether a field takes whole numbers."""
        return self.fields[name].startswith("int")

    def _check_names(self) -> None:
        for name in (*self.grid, *self.random, *self.options):
            if name not in self.fields:
                raise TapeGPTError(f"a sweep searches in {', '.join(self.fields)}; not in {quote(name)}")
        for name in self.grid:
            if name in self.random:
                raise TapeGPTError(f"{name} has values and a range: give one")
        for name in self.options:
            if name in self.grid or name in self.random:
                raise TapeGPTError(f"{name} is searched and given: leave one out")

    def _check_range(self, name: str, ends: object) -> None:
        if not self.fields[name].startswith(("int", "float")):
            raise TapeGPTError(f"random {name}: {name} is no number: give its values as a grid")
        rule = "two whole numbers" if self.is_whole(name) else "two numbers"
        known = is_whole if self.is_whole(name) else is_number
        if (
            not isinstance(ends, tuple | list)
            or len(ends) != 2
            or not all(known(end) and math.isfinite(end) for end in ends)
        ):
            raise TapeGPTError(f"random {name}: a range is {rule}, not {quote(ends)}")
        if not ends[0] < ends[1]:
            raise TapeGPTError(f"random {name}: a range rises, {quote(ends[0])} to {quote(ends[1])} does not")


def fields_of(model: type[Model]) -> dict[str, str]:
    """What a sweep can search in, by name, and the annotation of each."""
    own = ("budget", "validation", "patience")  # which are the sweep's
    names = {
        name: each.kind
        for record in (model, Settings)
        for name, each in record.fields.items()
        if record is model or name not in own
    }
    return {**names, "preset": "str"}


def is_logarithmic(low: float, high: float) -> bool:
    """Whether a range is drawn from on a logarithmic scale."""
    return low > 0 and high / low >= DECADE


def draw(rng: Random, low: float, high: float, *, whole: bool) -> float:
    """A number from a range, both ends included."""
    if whole and not is_logarithmic(low, high):
        return rng.randint(int(low), int(high))
    number = (
        math.exp(rng.uniform(math.log(low), math.log(high))) if is_logarithmic(low, high) else rng.uniform(low, high)
    )
    return min(max(round(number) if whole else round_digits(number), low), high)


# --- the plan ---------------------------------------------------------------------------------------------------


class Rung(Record):
    """So many candidates are trained for so many steps, with so many seeds each."""

    count: int = field("", COUNTS["trials"])
    steps: int = field(
        "where steps are searched, of the candidate with the most: others keep their share of it", Whole(1, MAX_STEPS)
    )
    seeds: int = field("", COUNTS["seeds"], default=1)

    def check(self) -> None:
        """Raise `TapeGPTError` where a field is out of range, or there are too many trainings."""
        Whole(1, MAX_TRIALS).check("the number of a rung's trainings", self.count * self.seeds)

    def __str__(self) -> str:
        return f"{self.count}x{self.steps}" + (f"x{self.seeds}" if self.seeds > 1 else "")


class Plan(Record):
    """Rung after rung, the best of each continue; as text `100x250 33x750 11x2250 3x6750x3`."""

    rungs: tuple[Rung, ...]

    def check(self) -> None:
        """Raise `TapeGPTError` unless there are rungs, with no more candidates than the one before."""
        counts = [rung.count for rung in self.rungs]
        if not counts or counts != sorted(counts, reverse=True):
            raise TapeGPTError(f"a plan has rungs with fewer and fewer candidates, not {quote(str(self))}")

    def __str__(self) -> str:
        return " ".join(map(str, self.rungs))

    @classmethod
    def parse(cls, text: str) -> Plan:
        """The plan of a text; raises `TapeGPTError` for what is none."""
        rungs = []
        for part in text.split():
            numbers = part.split("x")
            if not 2 <= len(numbers) <= 3 or not all(n.isascii() and n.isdigit() and len(n) < 20 for n in numbers):
                raise TapeGPTError(
                    f"plan: a rung is CANDIDATESxSTEPS or CANDIDATESxSTEPSxSEEDS, such as 33x750, not {quote(part)}"
                )
            rungs.append(Rung(*map(int, numbers)))
        return cls(tuple(rungs))

    def strings(self, rung: int, held_out: int) -> int:
        """By how many held-out strings a rung is judged: all in the last; as the steps get fewer, so do they."""
        left = len(self.rungs) - 1 - rung
        strings: int = held_out // ETA**left
        return max(strings, min(LEAST_STRINGS, held_out))


def halve(candidates: int) -> list[int]:
    """How many there are in each rung, until there are few: 100, 33, 11, 3."""
    counts = [candidates]
    while counts[-1] > FINALISTS:
        counts.append(counts[-1] // ETA)
    return counts


def plan_by_steps(candidates: int, steps: int, seeds: int) -> Plan:
    """The plan whose last rung takes so many steps, each before it a third of the next one's, but never too few."""
    counts = halve(candidates)
    lengths = [steps]
    while len(lengths) < len(counts) and lengths[0] // ETA >= LEAST_STEPS:
        lengths.insert(0, lengths[0] // ETA)
    if len(lengths) == 1 < len(counts):
        lengths = [steps, steps]  # too short to halve: all run to the end, the best with more seeds
    numbers = counts[: len(lengths)]
    numbers[-1] = min(numbers[-1], FINALISTS) if len(counts) > 1 else candidates
    last = len(lengths) - 1
    pairs = enumerate(zip(numbers, lengths, strict=True))
    return Plan(tuple(Rung(number, length, seeds if place == last else 1) for place, (number, length) in pairs))


def survivors(outcomes: Iterable[Outcome], number: int) -> list[Candidate]:
    """The candidates with the lowest losses, best first; of equal ones the first. One outcome each."""
    ranked = sorted(outcomes, key=lambda outcome: (outcome.loss, outcome.candidate.number))
    return [outcome.candidate for outcome in ranked[:number]]
