"""The costs of a Ray cluster, measured on this machine, and a simulation of a thousand machines.

The simulation has one driver, which sends chunks and receives outcomes one after the other, and workers that differ in
speed, are late and are lost; the costs of the driver are those measured here. Needs Ray.
"""

from __future__ import annotations

import importlib.util
import math
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any

from benchmarks.timing import Contender, figure, seconds, table, take_turns
from tapegpt import Config, Corpus, Random
from tapegpt.cluster import Cluster, Executor
from tapegpt.cluster.population import AHEAD, chunk_size
from tapegpt.experiments.population import Candidate, Field, Outcome, populate
from tapegpt.settings import Settings

ABSENT = "Ray is not installed here: pip install -e '.[ray]'\n"
TASKS, TRAININGS, IN_A_CHUNK = 500, 100, 50
CORES, WIDTH = 64, 8  # of a machine, and threads of a worker
MACHINES = (1, 10, 100, 1000)
LONG = (0.02, 1.0, 10.0, 100.0)  # seconds of a training
CHUNKS = (0.5, 1.5, 5.0, 15.0, 60.0)  # seconds of a chunk
WORK = 120.0  # seconds that all workers are busy
SPREAD = 0.1  # of the speed of workers: the standard deviation of its logarithm
LATE, HOW_LATE = 0.01, 4.0  # share of the chunks that take so many times as long
LOST = 1 / 86_400  # workers a second: each once a day
AGAIN = 10.0  # seconds until a lost worker's chunk begins once more


@dataclass(frozen=True)
class Driver:
    """Seconds of the driver's, and of the way."""

    task: float  # a chunk: sending it, waiting for it
    outcome: float  # one of a chunk's outcomes
    latency: float  # from sending to beginning


def by_cost(corpus: Corpus, rounds: int) -> str:
    """What is measured, and what is simulated by it."""
    if importlib.util.find_spec("ray") is None:
        return ABSENT
    with Cluster("local", num_cpus=2) as cluster:
        driver, measured = _measured(corpus, min(rounds, 5))
        throughput = _throughput(cluster, corpus, min(rounds, 5))
    return "\n".join([measured, throughput, _by_machines(driver), _by_chunks(driver)])


# --- measured ---------------------------------------------------------------------------------------------------


def _measured(corpus: Corpus, rounds: int) -> tuple[Driver, str]:
    import ray

    field = Field(corpus)
    population = populate(field, _candidates(IN_A_CHUNK), keep=IN_A_CHUNK)
    outcomes: list[Outcome] = list(population)
    models = [pickle.dumps(model) for _, model in population.kept]
    answer: Any = ray.remote(_same)
    answers = {"nothing": ray.put(None), "outcomes": ray.put(outcomes), "models": ray.put(models)}
    ray.get([answer.remote(each) for each in answers.values() for _ in range(4)])  # workers are there, and warm

    def in_turn() -> float:
        return seconds(lambda: [ray.get(answer.remote(None)) for _ in range(TASKS)]) / TASKS

    def together() -> float:
        return seconds(lambda: ray.get([answer.remote(None) for _ in range(TASKS)])) / TASKS

    def of_a_chunk(name: str, more: Callable[[Any], object]) -> Callable[[], float]:
        def sample() -> float:
            tasks = [answer.remote(answers[name]) for _ in range(10)]
            ray.wait(tasks, num_returns=10, fetch_local=True)
            return seconds(lambda: [more(ray.get(task)) for task in tasks]) / 10 / IN_A_CHUNK

        return sample

    summaries = take_turns(
        [
            Contender("an empty task, there and back", in_turn),
            Contender("an empty task of many at once", together),
            Contender(f"an outcome of {_size(outcomes) / 1000:.1f} kB, written down", of_a_chunk("outcomes", _noted)),
            Contender(
                f"a model of {_size(models) / 1000:.0f} kB",
                of_a_chunk("models", lambda held: list(map(pickle.loads, held))),
            ),
        ],
        rounds,
    )
    driver = Driver(summaries[1].median, summaries[2].median, summaries[0].median)
    rows = [[each.name, figure(each.median * 1e3), _in_ms(each.samples)] for each in summaries]
    return driver, table("What the driver needs", ["for", "ms", "lowest..highest"], rows)


def _throughput(cluster: Cluster, corpus: Corpus, rounds: int) -> str:
    """The same trainings by one worker and by two, and by two threads of this process."""
    field = Field(corpus)
    todo = _candidates(TRAININGS)
    there = Executor(cluster, width=1)
    expected = _losses(populate(field, todo))

    def by_two() -> None:
        assert _losses(there(field, todo)) == expected

    def by_one() -> float:
        with _occupied():
            return seconds(by_two)

    seconds(by_two)  # both have made their field and their code
    contenders = [
        Contender("two threads here", lambda: seconds(lambda: list(populate(field, todo, 2)))),
        Contender("one worker", by_one),
        Contender("two workers", lambda: seconds(by_two)),
    ]
    rows = [
        [each.name, figure(each.median), f"{TRAININGS / each.median:.0f}", each.spread]
        for each in take_turns(contenders, rounds)
    ]
    return table(f"{TRAININGS} trainings of the default job", ["by", "s", "a second", "lowest..highest"], rows)


@contextmanager
def _occupied() -> Iterator[None]:
    """While it lasts, one core is somebody else's."""
    import ray

    holder: Any = ray.remote(_Holder).options(num_cpus=1).remote()
    ray.get(holder.hold.remote())
    yield
    ray.kill(holder)


class _Holder:
    def hold(self) -> None:
        """Be there."""


def _same(value: object) -> object:
    return value


def _noted(outcomes: list[Outcome]) -> None:
    """What a sweep's journal takes."""
    import json

    for outcome in outcomes:
        json.dumps([outcome.loss, outcome.losses])


def _candidates(number: int) -> list[Candidate]:
    return [Candidate(each, Config(), Settings(seed=each)) for each in range(number)]


def _losses(outcomes: Iterator[Outcome]) -> list[float]:
    return [outcome.loss for outcome in outcomes]


def _size(values: list[Any]) -> float:
    """Bytes of one, as it travels."""
    import pickle

    return len(pickle.dumps(values, 5)) / len(values)


def _in_ms(samples: Any) -> str:
    return f"{figure(min(samples) * 1e3)}..{figure(max(samples) * 1e3)}"


# --- simulated --------------------------------------------------------------------------------------------------


def simulated(driver: Driver, workers: int, training: float, trainings: int, chunk: float | None, even: bool) -> float:
    """Seconds that so many trainings take, in chunks of so many seconds (None: as `chunk_size` has them).

    With `even` all workers are alike, none is late and none is lost.
    """
    rng = Random(1)
    free = [(0.0, 1.0 if even else math.exp(rng.gauss(0.0, SPREAD))) for _ in range(workers)]  # from when, slowness
    under_way: list[tuple[float, int]] = []  # end, trainings
    clock, left, known = 0.0, trainings, math.inf

    def send() -> None:
        nonlocal clock, left
        size = chunk_size(left, workers, WIDTH, known)
        if chunk is not None:
            fair = left // (AHEAD * workers * WIDTH)
            size = min(left, WIDTH * max(1, min(int(chunk / training), fair)))
        clock += driver.task
        left -= size
        start, slowness = heappop(free)  # whoever is free first takes what was sent first
        lasts = -(-size // WIDTH) * training * slowness
        if not even:
            lasts *= HOW_LATE if rng.random() < LATE else 1.0
            lasts += lasts * rng.random() + AGAIN if rng.random() < lasts * LOST else 0.0
        end = max(start, clock + driver.latency) + lasts
        heappush(free, (end, slowness))
        heappush(under_way, (end, size))

    for _ in range(workers * AHEAD):
        if left:
            send()
    while under_way:
        end, size = heappop(under_way)
        clock, known = max(clock, end) + size * driver.outcome, training
        if left:
            send()
    return clock


def efficiency(driver: Driver, machines: int, training: float, chunk: float | None = None, even: bool = False) -> float:
    """Share of the time that goes into trainings, by the mean speed: of `WORK` seconds, or ten trainings a thread."""
    workers = machines * CORES // WIDTH
    rounds = max(10, round(WORK / training))
    took = simulated(driver, workers, training, workers * WIDTH * rounds, chunk, even)
    return rounds * training / took


def _by_machines(driver: Driver) -> str:
    rows = [
        [f"{machines:,}", *[f"{efficiency(driver, machines, training):.0%}" for training in LONG]]
        for machines in MACHINES
    ]
    title = f"Simulated: time of {CORES}-core machines that goes into trainings"
    return table(title, ["machines", *[f"of {training:g} s" for training in LONG]], rows)


def _by_chunks(driver: Driver) -> str:
    rows = [
        [
            f"{chunk:g} s",
            *[f"{efficiency(driver, machines, 0.5, chunk):.0%}" for machines in MACHINES],
        ]
        for chunk in CHUNKS
    ]
    return table("Simulated: chunks of trainings of 0.5 s", ["chunk", *[f"{n:,} machines" for n in MACHINES]], rows)
