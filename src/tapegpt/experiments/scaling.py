"""What twice the data, twice the parameters or twice the time would buy: small trainings, and a law fitted to them.

    found = tapegpt.scaling("input.txt", budget="60s")
    found.gains[0]                           # what twice the strings would buy, with its interval
    found.checks                             # what the law predicted of trainings that it had not seen

A loss is the lowest on the held-out strings, during a training or a shorter one alike: whoever holds strings out keeps
the best weights, and too long a training costs time only. Not here: the law (`power_law.py`), what is printed.
"""

from __future__ import annotations

import math
import time

from tapegpt.data.rng import Random
from tapegpt.data.sources import READING
from tapegpt.errors import DivergedError, TapeGPTError, argument
from tapegpt.experiments.population import Candidate, Field, Outcome, populate
from tapegpt.experiments.power_law import bootstrap, deviation, fit, interval
from tapegpt.experiments.predictions import PARAMETERS, STEPS, STRINGS, Check, Measured, Pace, Scaling
from tapegpt.models.gpt import Config
from tapegpt.processes import cores, thread_time
from tapegpt.settings import SECONDS
from tapegpt.training.presets import resolve
from tapegpt.training.train import corpus_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    from tapegpt.autograd.model import Model
    from tapegpt.data.corpus import Corpus
    from tapegpt.experiments.predictions import Amounts
    from tapegpt.models.loading import Choice
    from tapegpt.models.trained import GPT
    from tapegpt.settings import Settings


SHAPE = ("n_layer", "n_embd", "n_head")  # settings that are varied
BUDGET = 60.0  # seconds of the trainings
SHARES = (1, 2, 4, 8)  # of the strings: all, a half, a quarter, an eighth
LENGTHS = (1, 4, 16)  # of the steps, likewise
REPEATS = 5  # of all trainings, at most, each time with other seeds
EVALUATIONS = 10  # of a training
JUDGES = 1000  # held-out strings, at most, that a loss is measured on
LEAST_STRINGS = 100  # distinct ones to train on: an eighth of fewer says nothing
LEAST_STEPS = 160  # of the longest trainings
USED = 0.85  # share of a budget that is planned: threads wait for the last one, and machines are busy
DRAWS, DRAWS_CHECK = 200, 100  # laws that say how uncertain the law is, and what it predicts in a check


def scaling(
    data: str | os.PathLike[str] | Corpus | Iterable[str],
    *,
    budget: float | str | None = BUDGET,
    validation: float = 0.1,
    seed: int = 42,
    model: Choice = Config,
    preset: str | None = "quick",
    threads: int | None = None,
    watch: Callable[[int, float], object] | None = None,
    **options: Any,
) -> Scaling:
    """Find what more of each resource would buy at a setting: data, model, options and preset as `train` takes them.

    Trainings of the engine fast, smaller, of fewer strings and shorter ones, are repeated with other seeds as long as
    the `budget` lasts, in seconds or as "60s"; with None they are done once, in the full length of the setting.
    Compiling is not counted. `watch` gets how many are done, and the loss of the last one. Raises `TapeGPTError` for
    input that cannot be used, fewer than 100 distinct strings to train on, and a budget that is too short.
    """
    reading = {name: options.pop(name) for name in READING if name in options}
    given: Any = {**options, "engine": "fast", "seed": seed}
    config, settings = resolve(given, preset, model=model)
    laboratory = Laboratory(corpus_from(data, reading), config, settings, validation)
    trainings = laboratory.measure(SECONDS.of("budget", budget), cores() if threads is None else threads, watch)
    return laboratory.conclude(trainings)


class Laboratory:
    """The strings and the shapes that are tried: half and a quarter of the width, and twice the layers."""

    def __init__(self, corpus: Corpus, config: Model, settings: Settings, validation: float) -> None:
        self._field = _Parts(corpus, validation, settings.seed)
        distinct = len(set(self._field.training.documents))
        if distinct < LEAST_STRINGS:
            raise TapeGPTError(
                f"a scaling law needs {LEAST_STRINGS} distinct strings to train on, not {distinct}: give more data"
            )
        for name in SHAPE:
            if name not in config.fields:
                raise TapeGPTError(
                    f"a scaling law is found by other {', '.join(SHAPE)}, and {type(config).__name__} has no {name}: "
                    "choose another model"
                )
        self._config = config
        if settings.steps < LEAST_STEPS:
            raise TapeGPTError(f"a scaling law needs trainings of {LEAST_STEPS} steps or more, not {settings.steps}")
        self._settings, self._distinct = settings.replace(threads=1, validation=0.0, patience=None), distinct
        self._shapes = sorted({_narrow(config, 4), _narrow(config, 2), config, _deepen(config)}, key=self._size)
        if len(self._shapes) < 4:
            width = config.as_dict()["n_embd"]
            raise TapeGPTError(f"n_embd must be 4 or more, so that narrower models can be tried, not {width}")

    def _size(self, config: Model) -> int:
        """Parameters without sparse ones, such as n-gram embeddings."""
        return sum(each.size for each in config.parameters(self._field.corpus.vocab_size) if each.is_dense)

    # --- the trainings ------------------------------------------------------------------------------------------

    def measure(
        self, budget: float | None, threads: int, watch: Callable[[int, float], object] | None
    ) -> list[Measured]:
        """Do them, within a budget in seconds; again with other seeds where there is time for all of them."""
        for shape in self._shapes:
            self._field.prepare(Candidate(0, shape, self._settings))
        started = time.perf_counter()
        steps = self._settings.steps if budget is None else self._affordable(budget, threads)
        trainings: list[Measured] = []
        for repeat in range(1 if budget is None else REPEATS):
            spent = time.perf_counter() - started
            if repeat and spent + spent / repeat > (budget or 0.0):
                break
            trainings += self._done(self._choose(repeat, steps, len(trainings)), threads, watch)
        return trainings

    def _choose(self, repeat: int, steps: int, first: int) -> list[Candidate]:
        """One of each kind, and one's own with twice the steps; the longest first, so that threads end together."""
        kinds = [
            (shape, share, max(steps // length, 1)) for shape in self._shapes for share in SHARES for length in LENGTHS
        ]
        kinds.append((self._config, 1, 2 * steps))
        kinds.sort(key=lambda kind: -self._size(kind[0]) * kind[2])
        candidates = []
        for number, (shape, share, length) in enumerate(kinds, first):
            settings = self._settings.replace(steps=length, seed=self._settings.seed + 1 + number)
            candidates.append(Candidate(number, shape, settings, JUDGES))
            self._field.give(number, share, repeat)
        return candidates

    def _done(
        self, candidates: list[Candidate], threads: int, watch: Callable[[int, float], object] | None
    ) -> Iterator[Measured]:
        """The trainings of one repeat; a loss is that of a shorter one where that was lower."""
        outcomes = []
        for outcome in populate(self._field, candidates, threads):
            outcomes.append(outcome)
            if watch is not None:
                watch(outcome.candidate.number + 1, outcome.loss)
        lowest: dict[object, float] = {}
        for outcome in sorted(outcomes, key=lambda outcome: outcome.candidate.settings.steps):
            candidate, held_out = outcome.candidate, outcome.losses
            strings = self._field.strings(candidate.number)
            alike = (candidate.config, strings)
            loss = lowest[alike] = min(outcome.loss, lowest.get(alike, math.inf))
            if math.isfinite(loss):
                settings, size = candidate.settings, self._size(candidate.config)
                best = held_out["steps"][held_out["mean"].index(outcome.loss)] if held_out["mean"] else settings.steps
                yield Measured(size, strings, settings.steps, settings.seed, loss, best, outcome.seconds)

    def _affordable(self, budget: float, threads: int) -> int:
        """Steps of the longest trainings, so that all are done in time, once; not more than one's own."""
        costs = {each: self._field.measure(Candidate(0, each, self._settings, JUDGES)) for each in self._shapes}
        evaluating = sum(cost.evaluating for cost in costs.values()) * len(SHARES) * len(LENGTHS) * EVALUATIONS
        weight = len(SHARES) * sum(1 / length for length in LENGTHS)
        a_step = weight * sum(cost.a_step for cost in costs.values()) + 2 * costs[self._config].a_step
        steps = int((budget * threads * USED - evaluating) / a_step)
        if steps < LEAST_STEPS:
            needed = math.ceil((LEAST_STEPS * a_step + evaluating) / (threads * USED))
            raise TapeGPTError(f"a budget of {budget:g} s is too short to tell anything: give {needed} s or more")
        return min(steps, self._settings.steps)

    # --- what they say ------------------------------------------------------------------------------------------

    def conclude(self, trainings: Sequence[Measured]) -> Scaling:
        """The law of trainings, and what follows; raises `TapeGPTError` where the longest have learned nothing."""
        longest = max((training.steps for training in trainings), default=0) // 2
        own = (self._size(self._config), self._distinct, longest)
        deep = (self._size(_deepen(self._config)), self._distinct, longest)
        more = (self._size(self._config), self._distinct, 2 * longest)
        guessing = math.log(self._field.corpus.vocab_size)
        learned = {training.amounts for training in trainings if training.loss < guessing}
        if not {own, deep, more} <= learned:
            raise TapeGPTError(
                "the longest trainings came to no better than guessing, so that no law is seen: "
                f"choose a smaller {argument('learning_rate')}, or more steps"
            )
        checks = tuple(
            self._check(name, axis, amounts, trainings)
            for name, axis, amounts in (
                ("twice the strings", STRINGS, own),
                ("twice the layers", PARAMETERS, deep),
                ("twice the steps", STEPS, more),
            )
        )
        points, losses = _measure(trainings)
        law = fit(points, losses, own)
        return Scaling(
            config=self._config,
            settings=self._settings,
            own=(own[PARAMETERS], own[STRINGS], self._settings.steps),
            trainings=tuple(trainings),
            law=law,
            laws=tuple(bootstrap(points, losses, DRAWS, self._settings.seed, own)),
            noise=deviation(law, points, losses, own),
            checks=checks,
            pace=_pace(trainings),
            held_out=min(len(self._field.held_out), JUDGES),
        )

    def _check(self, name: str, axis: int, amounts: Amounts, trainings: Sequence[Measured]) -> Check:
        """The last doubling that was measured, predicted from what had less of that resource."""
        points, losses = _measure([each for each in trainings if each.amounts[axis] < amounts[axis]])
        found = [each.loss for each in trainings if each.amounts == amounts]
        law, rng = fit(points, losses, amounts), Random(self._settings.seed)
        noise = deviation(law, points, losses, amounts)  # which seeds do not average away: the law is off by as much
        laws = bootstrap(points, losses, DRAWS_CHECK, self._settings.seed, amounts)
        spread = interval(each.loss(amounts) * math.exp(rng.gauss(0.0, noise)) for each in laws)
        return Check(name, amounts, law.loss(amounts), spread, math.fsum(found) / len(found))


class _Parts(Field):
    """A field whose trainings see shares of the strings, the greater ones all of the smaller ones'."""

    def __init__(self, corpus: Corpus, validation: float, seed: int) -> None:
        super().__init__(corpus, validation, seed)
        self._parts: dict[tuple[int, int], tuple[Field, int]] = {}
        self._given: dict[int, tuple[Field, int]] = {}

    def give(self, number: int, share: int, repeat: int) -> None:
        """Let a candidate see one of so many equal shares; which one is another in each repeat."""
        key = (share, 0 if share == 1 else repeat)
        if key not in self._parts:
            self._parts[key] = self._part(share, repeat)
        self._given[number] = self._parts[key]

    def strings(self, number: int) -> int:
        """How many distinct ones a candidate sees."""
        return self._given[number][1]

    def _part(self, share: int, repeat: int) -> tuple[Field, int]:
        distinct = list(dict.fromkeys(self.training.documents))
        order = Random((self.seed << 64) + repeat).permutation(len(distinct))
        chosen = {distinct[place] for place in order[: len(distinct) // share]}
        part = Field(self.corpus, self.validation, self.seed)
        documents = [document for document in self.training.documents if document in chosen]
        part.training = self.training.replace(documents=documents)
        return part, len(chosen)

    def train(self, candidate: Candidate, stopped: Callable[[], bool] = bool) -> tuple[Outcome, GPT]:
        """Train one candidate; its loss is the lowest of several evaluations, which are the outcome's curve."""
        field, _ = self._given[candidate.number]
        trainer = field.trainer(candidate)
        held_out: dict[str, list[Any]] = {"steps": [], "mean": []}
        seconds, losses, diverged = 0.0, [math.inf], ""
        every = math.ceil(candidate.settings.steps / EVALUATIONS)
        try:
            while not trainer.is_over and not stopped():
                started = thread_time()
                losses = trainer.run(every)
                seconds += thread_time() - started
                held_out["steps"].append(trainer.step)
                held_out["mean"].append(field.loss(trainer.model, candidate.strings))
        except DivergedError as error:
            diverged = str(error)
        return Outcome(
            candidate,
            loss=min(held_out["mean"], default=math.inf),
            error=None,
            training_loss=math.fsum(losses) / len(losses),
            seconds=seconds,
            losses=held_out,
            parameters=trainer.model.num_parameters,
            diverged=diverged,
        ), trainer.model


def _narrow(config: Model, times: int) -> Model:
    """So many times narrower, with heads as wide as they are, as far as that divides."""
    _, n_embd, n_head = (config.as_dict()[name] for name in SHAPE)
    width = max(n_embd // times, 1)
    most = max(n_head * width // n_embd, 1)
    return config.replace(n_embd=width, n_head=next(heads for heads in range(most, 0, -1) if width % heads == 0))


def _deepen(config: Model) -> Model:
    return config.replace(n_layer=2 * config.as_dict()["n_layer"])


def _measure(trainings: Sequence[Measured]) -> tuple[list[Amounts], list[float]]:
    return [training.amounts for training in trainings], [training.loss for training in trainings]


def _pace(trainings: Sequence[Measured]) -> Pace:
    """By the longest trainings of each size."""
    longest: dict[int, tuple[int, float]] = {}
    for training in trainings:
        steps, seconds = training.steps, training.seconds
        longest[training.parameters] = max(longest.get(training.parameters, (0, 0.0)), (steps, -seconds / steps))
    return Pace(tuple((size, -seconds) for size, (_, seconds) in sorted(longest.items())))
