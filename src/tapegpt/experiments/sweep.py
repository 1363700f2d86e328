"""A sweep: many candidates trained, the best ones longer; kept in a journal, so that it can be resumed.

    swept = tapegpt.sweep("input.txt", random={"n_embd": (16, 64), "learning_rate": (0.001, 0.1)}, trials=100)
    swept.rows[0]                            # the best candidate, with its held-out loss
    swept.best.generate(20)

Whatever the number of threads, a sweep by steps gives the same. One of a time budget measures what trainings cost,
makes its plan by that, and gives the same again if it is given that plan. Not here: the space and the rules
(`search.py`), training (`population.py`), the file of the journal (`journal.py`), what is printed.
"""

from __future__ import annotations

import math
import time
from collections import Counter

from tapegpt.data.sources import READING
from tapegpt.errors import TapeGPTError, argument
from tapegpt.experiments.journal import Journal
from tapegpt.experiments.optuna_sampler import adapt
from tapegpt.experiments.pacing import Pacing
from tapegpt.experiments.population import Candidate, Field, Outcome, Population, populate
from tapegpt.experiments.ranking import Row, Sweep, mean_outcome
from tapegpt.experiments.search import COUNTS, ETA, MAX_TRIALS, Plan, Rung, Space, halve, plan_by_steps, survivors
from tapegpt.models.gpt import Config
from tapegpt.processes import cores
from tapegpt.record import Record, field
from tapegpt.settings import MAX_STEPS, SECONDS, SEED
from tapegpt.training.train import corpus_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any, Protocol

    from tapegpt.data.corpus import Corpus
    from tapegpt.models.loading import Choice
    from tapegpt.models.trained import GPT

    Executor = Callable[[Field, Iterable[Candidate], int | None, int], Population]

    class Sampler(Protocol):
        """Chooses candidates by what became of those before."""

        name: str

        def ask(self, number: int) -> list[Candidate]:
            """So many more, fewer where there are no more."""

        def tell(self, outcomes: Sequence[Outcome]) -> None:
            """The outcomes of those requested last, in their order; without those that could not be trained."""


TRIALS, SEEDS = 50, 3
KEPT = 32  # models of the last rung that stay in memory
ASKED = 10  # candidates that a sampler chooses at a time, however many threads there are
PROBED = 5  # turns of trainings that are timed for a budget
PROBING = 0.05  # share of it that a measurement with ever more steps takes at most
LEAST_STEPS = 10  # that a budget has to suffice for


def sweep(
    data: str | os.PathLike[str] | Corpus | Iterable[str],
    *,
    grid: Mapping[str, Sequence[Any]] | None = None,
    random: Mapping[str, tuple[float, float]] | None = None,
    preset: str | None = None,
    model: Choice = Config,
    sampler: Any = None,
    run_dir: str | os.PathLike[str] | None = None,
    executor: Executor = populate,
    **options: Any,
) -> Sweep:
    """Look for the settings with the lowest held-out loss: data as `train` takes it, the space as `search.Space`.

    `trials` candidates are drawn (by default 50), or the whole grid is taken; the last ones get so many `seeds`. How
    long they train is said by `steps`, of the last ones, by a `budget` in seconds, of the whole sweep, or by a plan
    such as "100x250 33x750 11x2250 3x6750x3"; threads are trainings at once, by default the cores. A `sampler` of
    Optuna, "tpe" or one of its own, chooses the candidates instead of drawing them. With `run_dir` a journal is kept
    there, and a sweep resumes where its journal ends. Options are the fields of `SweepSetup` (trials, seeds, budget,
    plan, validation, seed, threads), settings of the `model`, as `train` takes it, and of a training, and how data is
    read.

    Raises `TapeGPTError` for input that cannot be used.
    """
    started = time.perf_counter()
    reading = {name: options.pop(name) for name in READING if name in options}
    chosen = {name: options.pop(name) for name in SweepSetup.fields if name in options}
    setup = SweepSetup(**{**chosen, "budget": SECONDS.of("budget", chosen.get("budget"))})
    space = Space(grid, random, preset, options, model)
    chooses = adapt(sampler, space, setup.seed)
    sweeping = Sweeping(corpus_from(data, reading), space, setup, chooses, run_dir, executor, started)
    for _ in sweeping:
        pass
    return sweeping.so_far()


class SweepSetup(Record):
    """What a sweep is told besides its space: see `sweep`."""

    trials: int | None = field("", COUNTS["trials"], default=None)
    seeds: int = field("", COUNTS["seeds"], default=SEEDS)
    budget: float | None = field("", SECONDS, default=None)
    plan: str | None = None
    validation: float = 0.1
    seed: int = field("", SEED, default=42)
    threads: int | None = field("", COUNTS["threads"], default=None)

    def check(self) -> None:
        """Raise `TapeGPTError` where they are out of range, or do not fit together."""
        if self.budget is not None and self.plan is not None:
            raise TapeGPTError("a budget makes a plan of its own: give one of the two")


class Sweeping:
    """A sweep under way: an iterator over the outcomes as they come, in an order that threads do not change.

    `plan` is what it does, `rung` where it is, `done` how much of that. Raises `TapeGPTError` as `sweep` does.
    """

    def __init__(
        self,
        corpus: Corpus,
        space: Space,
        setup: SweepSetup,
        sampler: Sampler | None = None,
        run_dir: str | os.PathLike[str] | None = None,
        executor: Executor = populate,
        started: float | None = None,
    ) -> None:
        self._space, self._setup, self._sampler, self._executor = space, setup, sampler, executor
        self._threads = setup.threads or cores()
        self._pacing = Pacing(setup.budget, time.perf_counter() if started is None else started, self._threads)
        if setup.budget is not None and "steps" in {**space.options, **space.grid, **space.random}:
            raise TapeGPTError(f"{argument('steps')} and {argument('budget')} exclude each other: give one")
        self.field = Field(corpus, setup.validation, setup.seed)
        self.compile_seconds = 0.0
        self._trials = _trials(space, setup, sampler)
        self._batches = filter(None, self._choose())
        self._first = next(self._batches, [])
        if not self._first:
            raise TapeGPTError(f"no combination is possible: {next(iter(space.left_out))}")
        lengths = [candidate.settings.steps for candidate in self._first]
        if sampler is not None:  # which may choose longer ones later
            lengths += [*space.grid.get("steps", []), *space.random.get("steps", [])]
        self._longest = max(lengths)
        self.plan = self._plan(len(self._first) if sampler is None else self._trials)
        self.rung = self.done = 0
        self._outcomes: list[dict[int, list[Outcome]]] = []  # by rung, then by candidate
        self._kept: list[tuple[Outcome, GPT]] = []
        self._baselines: dict[str, float] = {}
        self._slowdown = 1.0  # seconds of a turn for each of its trainings' own
        self._journal = Journal(run_dir, {} if run_dir is None else self._spec())
        self._pacing.spent = self._journal.spent

    def __iter__(self) -> Iterator[Outcome]:
        try:
            yield from self._run()
        finally:
            self._journal.close()

    def so_far(self) -> Sweep:
        """What has come of it; raises `TapeGPTError` before the first outcome."""
        rows: dict[int, Row] = {}
        for rung, outcomes in enumerate(self._outcomes):
            for number, each in outcomes.items():
                rows[number] = Row(mean_outcome(each), rung, tuple(each))
        if not rows:
            raise TapeGPTError("the sweep has no outcome yet: let it run longer")
        ranked = sorted(rows.values(), key=lambda row: (-row.rung, row.outcome.loss, row.outcome.candidate.number))
        return Sweep(ranked, self.plan, dict(self._space.left_out), self._baselines, self.field, self._kept)

    # --- the course of it ---------------------------------------------------------------------------------------

    def _plan(self, count: int) -> Plan:
        """By steps, as wished; of a budget the counts, whose steps are not known yet."""
        setup = self._setup
        if setup.plan is not None:
            plan = Plan.parse(setup.plan)
            if plan.rungs[0].count != count:
                raise TapeGPTError(
                    f"the plan begins with {plan.rungs[0].count} candidates, but there are {count}: "
                    "give another plan, or other trials"
                )
            return plan
        if setup.budget is not None:
            counts = halve(count)
            return Plan(tuple(Rung(each, 1, setup.seeds if each == counts[-1] else 1) for each in counts))
        return plan_by_steps(count, self._longest, setup.seeds)

    def _run(self) -> Iterator[Outcome]:
        self._baselines = self.field.baselines()
        candidates = self._first
        self._measure(candidates)
        for place, rung in enumerate(self.plan.rungs):
            if place:
                outcomes = {number: mean_outcome(each) for number, each in self._outcomes[-1].items()}
                numbers = {candidate.number: candidate for candidate in candidates}
                candidates = [numbers[each.number] for each in survivors(outcomes.values(), rung.count)]
                seconds = math.fsum(outcomes[each.number].seconds for each in candidates) / len(candidates)
                self._pacing.learn(self._strings(place - 1), self.plan.rungs[place - 1].steps, seconds * self._slowdown)
            self.rung, self.done = place, 0
            self._settle_steps()
            self._outcomes.append({})
            yield from self._train(candidates)
            for batch in self._batches:  # after the first rung there are none
                yield from self._train(batch)
                candidates = candidates + batch

    def _choose(self) -> Iterator[list[Candidate]]:
        """The candidates of the first rung, all at once, or batches that a sampler chooses by the outcomes before."""
        space, sampler = self._space, self._sampler
        if sampler is None:
            yield self._prepare(space.candidates(self._trials, self._setup.seed))
            return
        left = self._trials
        while left and (batch := sampler.ask(min(ASKED, left))):
            left -= len(batch)
            possible = self._prepare(batch)
            yield possible
            sampler.tell([mean_outcome(self._outcomes[0][candidate.number]) for candidate in possible])

    def _train(self, candidates: list[Candidate]) -> Iterator[Outcome]:
        """One rung, or a batch of its first one: each seed for all candidates, then the next one."""
        todo, known = self._trainings(candidates), self._journal.outcomes
        last = self.rung == len(self.plan.rungs) - 1
        missing = [candidate for candidate in todo if _key(candidate) not in known]
        population = self._executor(self.field, missing, self._threads, KEPT if last else 0)
        start, seconds = time.perf_counter(), 0.0
        try:
            for candidate in todo:
                noted = known.get(_key(candidate))
                outcome = next(population) if noted is None else noted.replace(candidate=candidate)
                self._outcomes[-1].setdefault(candidate.number, []).append(outcome)
                self.done += 1
                if noted is None:
                    seconds += outcome.seconds
                    # Last: an interruption shows all that the journal has.
                    self._journal.note(_key(candidate), outcome, self._pacing.spent)
                yield outcome
        finally:
            population.close()
            self._kept += population.kept
        if seconds:
            turn = seconds / len(missing)
            self._slowdown = (time.perf_counter() - start) / (turn * self._pacing.turns(len(missing)))

    def _trainings(self, candidates: list[Candidate]) -> list[Candidate]:
        """A rung's trainings of these candidates."""
        rung = self.plan.rungs[self.rung]
        strings = self._strings(self.rung)
        proportional = "steps" in {**self._space.grid, **self._space.random}
        trainings = []
        for place in range(rung.seeds):
            for candidate in candidates:
                settings = candidate.settings
                share = settings.steps / self._longest if proportional else 1.0
                steps = max(1, round(rung.steps * share))
                settings = settings.replace(steps=steps, seed=settings.seed + place)
                trainings.append(candidate.replace(settings=settings, strings=strings))
        return trainings

    def _prepare(self, candidates: list[Candidate]) -> list[Candidate]:
        """Make their code, which no budget counts; those that there can be."""
        from tapegpt.pools import pool

        def prepare(candidate: Candidate) -> float | str:
            try:
                return self.field.prepare(candidate)
            except TapeGPTError as error:
                return str(error)

        start = time.perf_counter()
        with pool(min(self._threads, cores())) as threads:
            results = list(threads.map(prepare, candidates))
        seconds = math.fsum(result for result in results if isinstance(result, float))
        self._space.left_out.update(Counter(result for result in results if isinstance(result, str)))
        if seconds:
            self._pacing.exclude(time.perf_counter() - start)
            self.compile_seconds += seconds
        return [each for each, result in zip(candidates, results, strict=True) if isinstance(result, float)]

    # --- the budget ---------------------------------------------------------------------------------------------

    def _measure(self, candidates: list[Candidate]) -> None:
        """See what a turn takes: with hardly any steps, with so many that they take as long as all else, and others."""
        if self._setup.budget is None:
            return
        some = candidates[:: -(-len(candidates) // (PROBED * self._threads))]
        one = some[: self._threads]
        least = min(self._time(one, LEAST_STEPS) for _ in range(2))  # the first also makes what all trainings share
        steps, took = LEAST_STEPS, 0.0
        while took < min(2 * least, PROBING * self._setup.budget) and steps < MAX_STEPS // 4:
            steps *= 4
            took = self._time(one, steps)
        self._pacing.compare(self._strings(0), (LEAST_STEPS, least), (steps, took))
        self._pacing.learn(self._strings(0), steps, self._time(some, steps) / self._pacing.turns(len(some)))

    def _strings(self, rung: int) -> int:
        """By how many held-out strings a rung is judged."""
        return self.plan.strings(rung, len(self.field.held_out))

    def _time(self, candidates: list[Candidate], steps: int) -> float:
        """Seconds that trainings of so many steps take, judged as in the first rung."""
        strings = self._strings(0)
        short = [each.replace(settings=each.settings.replace(steps=steps), strings=strings) for each in candidates]
        start = time.perf_counter()
        for _ in self._executor(self.field, short, self._threads, 0):
            pass
        return time.perf_counter() - start

    def _settle_steps(self) -> None:
        """Of a budget: how many steps this rung can have, and what that makes of the plan."""
        if self._setup.budget is None:
            return
        rungs = list(self.plan.rungs)
        kept = self._journal.rungs.get(self.rung)
        if kept is None:
            ahead = range(self.rung, len(rungs))
            steps = self._pacing.affordable([(rungs[i].count * rungs[i].seeds, self._strings(i)) for i in ahead])
            if not self.rung and steps < LEAST_STEPS:
                raise TapeGPTError(
                    f"a budget of {self._setup.budget:g} s is too short for {rungs[0].count} candidates: "
                    "give a longer one, or fewer trials"
                )
            if self.rung:
                steps = max(steps, rungs[self.rung - 1].steps)
        else:
            steps = kept
        for place in range(self.rung, len(rungs)):
            rungs[place] = rungs[place].replace(steps=min(steps * ETA ** (place - self.rung), MAX_STEPS))
        self.plan = Plan(tuple(rungs))
        if kept is None:
            self._journal.write({"rung": self.rung, "steps": steps, "at": self._pacing.spent})

    # --- the journal --------------------------------------------------------------------------------------------

    def _spec(self) -> dict[str, Any]:
        """What has to be the same for a sweep to be resumed."""
        from tapegpt.models.loading import reference
        from tapegpt.version import __version__

        space, setup = self._space, self._setup
        return {
            "tapegpt": __version__,
            "data": self.field.corpus.digest(),
            "grid": space.grid,
            "random": {name: list(ends) for name, ends in space.random.items()},
            "preset": space.preset,
            "model": [reference(type(space.model)), space.model.as_dict()],
            "options": space.options,
            "sampler": self._sampler.name if self._sampler else None,
            **{name: value for name, value in setup.as_dict().items() if name != "threads"},
        }


def _trials(space: Space, setup: SweepSetup, sampler: Sampler | None) -> int:
    """Candidates to draw; all of a grid."""
    if space.random or sampler is not None:
        return TRIALS if setup.trials is None else setup.trials
    if setup.trials is not None:
        raise TapeGPTError("trials are drawn at random, and a grid is not: give a range with random, or no trials")
    return MAX_TRIALS


def _key(candidate: Candidate) -> tuple[int, int, int, int | None]:
    """What tells a sweep's trainings apart."""
    return candidate.number, candidate.settings.steps, candidate.settings.seed, candidate.strings
