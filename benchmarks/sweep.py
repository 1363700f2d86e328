"""Populations and sweeps: the gain of threads, the memory of a model, a sweep compared with an exhaustive search.

Correct first: the outcomes of all threads are equal. On a busy machine, look at the ratio of CPU time to wall time.
"""

from __future__ import annotations

import gc
import resource
import sys
from functools import partial
from time import perf_counter, process_time
from typing import Any

from benchmarks.timing import Contender, figure, seconds, table, take_turns
from tapegpt import Config, Corpus
from tapegpt.experiments.population import Candidate, Field, Outcome, populate
from tapegpt.experiments.ranking import Sweep
from tapegpt.experiments.sweep import sweep
from tapegpt.processes import cores
from tapegpt.settings import Settings

TRAININGS = 100
MODELS = 50  # that are held to see what one takes
BUDGET = 10  # seconds
SPACE: dict[str, Any] = {"random": {"n_embd": (16, 64), "learning_rate": (0.001, 0.1)}, "trials": 100}


def by_threads(corpus: Corpus, rounds: int, settings: Settings | None = None) -> str:
    """Seconds of 100 trainings of the default job, with seeds of their own; threads take turns."""
    field = Field(corpus)
    jobs = [Candidate(seed, Config(), (settings or Settings()).replace(seed=seed)) for seed in range(TRAININGS)]
    losses = {threads: [each.loss for each in populate(field, jobs, threads)] for threads in (1, cores())}
    assert len(set(map(tuple, losses.values()))) == 1
    used: dict[int, list[float]] = {threads: [] for threads in losses}

    def sample(threads: int) -> float:
        start, before = perf_counter(), process_time()
        for _ in populate(field, jobs, threads):
            pass
        elapsed = perf_counter() - start
        used[threads].append((process_time() - before) / elapsed)
        return elapsed

    contenders = [Contender(f"{threads} thread(s)", partial(sample, threads)) for threads in losses]
    summaries = take_turns(contenders, rounds)
    rows = [
        [
            each.name,
            figure(each.median),
            each.spread,
            figure(summaries[0].median / each.median),
            figure(sorted(shares)[len(shares) // 2]),
        ]
        for each, shares in zip(summaries, used.values(), strict=True)
    ]
    heads = ["", "median, s", "lowest..highest, s", "times as fast as one", "cores in use"]
    return table(f"{TRAININGS} trainings of the default job", heads, rows)


def by_memory(corpus: Corpus) -> str:
    """MB that each further model takes, with its training state."""
    field = Field(corpus)
    rows = []
    for name, settings in (("exact", Settings()), ("fast", Settings(engine="fast", batch_size=16, long="window"))):
        job = Candidate(0, Config(), settings.replace(steps=50))
        held: list[tuple[Outcome, object]] = [field.train(job)]
        gc.collect()
        before = _resident()
        held += [field.train(job) for _ in range(MODELS)]
        gc.collect()
        rows.append([name, figure((_resident() - before) / MODELS / 1e6)])
        del held
    return table("A further model of a population", ["engine", "MB"], rows)


def _resident() -> float:
    """Bytes of this process in memory."""
    if sys.platform == "linux":
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def by_choice(corpus: Corpus, budget: float = BUDGET) -> str:
    """A sweep within a budget, and all of its candidates trained to the end: the losses of what each would choose.

    Both are judged by the exhaustive one's trainings, of one seed. It takes minutes.
    """
    chosen: list[Sweep] = []
    took = seconds(lambda: chosen.append(sweep(corpus, **SPACE, budget=budget)))  # compiles, which no budget counts
    chosen.clear()
    took = seconds(lambda: chosen.append(sweep(corpus, **SPACE, budget=budget)))
    plan = chosen[0].plan
    whole: list[Sweep] = []
    all_took = seconds(
        lambda: whole.append(sweep(corpus, **SPACE, seeds=1, plan=f"{plan.rungs[0].count}x{plan.rungs[-1].steps}"))
    )
    losses = {row.outcome.candidate.number: row.outcome.loss for row in whole[0].rows}
    picked = losses[chosen[0].rows[0].outcome.candidate.number]
    place = sorted(losses.values()).index(picked) + 1
    rows = [
        [f"sweep, {plan}", figure(took), f"{picked:.4f}", str(place)],
        [f"all, {whole[0].plan}", figure(all_took), f"{min(losses.values()):.4f}", "1"],
    ]
    title = f"The best of {len(losses)} candidates, n_embd 16..64 and learning_rate 0.001..0.1"
    return table(title, ["", "seconds", "held-out loss of the choice", "its rank among all"], rows)
