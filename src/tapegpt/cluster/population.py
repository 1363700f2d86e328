"""Trainings on a cluster: `population.populate`, with the same outcomes in the same order.

A task of Ray is a chunk of candidates, one or two seconds of work: the driver would be busy with single trainings of
20 ms. Tasks go wherever a machine has cores free, also one that has joined; a task whose worker is lost is done again
elsewhere. The corpus goes through the object store once, and each worker makes a `Field` of it once. Not here: which
candidates, and training itself (`population.py` of the package).
"""

from __future__ import annotations

import math
from functools import lru_cache
from pickle import dumps, loads

from tapegpt.cluster.connection import SEEN
from tapegpt.errors import TapeGPTError
from tapegpt.experiments.population import Field, Population, populate
from tapegpt.ranges import Whole
from tapegpt.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence
    from typing import Any

    from tapegpt.cluster.connection import Cluster
    from tapegpt.experiments.population import Candidate, Outcome
    from tapegpt.models.trained import GPT

    Chunk = tuple[list[Outcome], list[tuple[Outcome, bytes]]]  # models are pickled: only the best are made again

WIDTH = 8  # threads of a worker: with more they wait for the interpreter's lock, with fewer they take more memory
SECONDS = 1.5  # that a chunk should take, so that little is lost with a worker; but for
DRIVER = 0.002  # seconds for each worker, twice what a chunk takes of the driver
AHEAD = 2  # chunks for each worker, so that it has the next one when one is done
TRIES = 5  # of a chunk whose worker was lost, after the first


class Executor:
    """`population.populate` on a cluster. `width` is how many trainings a worker does at once, at most."""

    def __init__(self, cluster: Cluster, width: int = WIDTH) -> None:
        self._cluster, self._width = cluster, width

    def __call__(
        self, field: Field, candidates: Iterable[Candidate], threads: int | None = None, keep: int = 0
    ) -> Population:
        """Train candidates; threads are those of a worker at most: how many workers there are is the cluster's affair.

        What is closed early sends no more chunks. Those that were sent end by themselves: cancelling tasks can bring
        Ray 2.60 down, "Tried to complete task that was not pending".
        Raises `TapeGPTError` as `populate` does, and where workers are lost again and again.
        """
        if threads is not None:
            Whole(1).check("threads", threads)
        width = min(self._width, threads or self._width, self._cluster.smallest())
        kept: list[tuple[Outcome, GPT]] = []
        return Population(self._outcomes(field, list(candidates), width, keep, kept), kept)

    def _outcomes(
        self, field: Field, candidates: list[Candidate], width: int, keep: int, kept: list[tuple[Outcome, GPT]]
    ) -> Generator[Outcome]:
        import ray

        train = ray.remote(_train).options(num_cpus=width, max_retries=TRIES)
        corpus = self._cluster.send(field, (field.corpus, field.validation, field.seed))
        running: dict[Any, slice] = {}
        done: dict[int, Chunk] = {}  # by the place of its first candidate
        sent = given = 0
        seconds = math.inf  # of a training
        while given < len(candidates):
            workers = max(self._cluster.cores() // width, 1)
            while sent < len(candidates) and len(running) < AHEAD * workers:
                places = slice(sent, sent + chunk_size(len(candidates) - sent, workers, width, seconds))
                running[train.remote([corpus], candidates[places], width, keep, __version__)] = places
                sent = places.stop
            for task in _ready(list(running)):
                places = running.pop(task)
                chunk = done[places.start] = _result(task, candidates[places])
                seconds = math.fsum(outcome.seconds for outcome in chunk[0]) / len(chunk[0])
            while given in done:
                outcomes, models = done.pop(given)
                given += len(outcomes)
                best = _best(models, kept, keep)
                kept += [(outcome, loads(model)) for outcome, model in best]  # noqa: S301  # of our own worker
                kept.sort(key=lambda pair: pair[0].loss)
                del kept[keep:]
                yield from outcomes


def chunk_size(left: int, workers: int, width: int, seconds: float) -> int:
    """Candidates of the next chunk, where so many are left and one takes so long: enough that the driver keeps up.

    One for each thread while it is not known how long they take, and no fewer ever. Towards the end not much more, so
    that workers end together (guided self-scheduling, Polychronopoulos and Kuck, 1987).
    """
    wanted = 1 if math.isinf(seconds) else int(max(SECONDS, DRIVER * workers) / max(seconds, 1e-9))
    fair = left // (AHEAD * workers * width)
    return min(left, width * max(1, min(wanted, fair)))


def _best(
    models: list[tuple[Outcome, bytes]], kept: Sequence[tuple[Outcome, GPT]], keep: int
) -> list[tuple[Outcome, bytes]]:
    """The models of a chunk that are among the best so far, so that no others are made."""
    return [pair for pair in models if len(kept) < keep or pair[0].loss < kept[-1][0].loss]


def _ready(tasks: list[Any]) -> list[Any]:
    """The tasks that are done: all, once there is one or it is time to look for machines that have joined."""
    import ray

    ray.wait(tasks, num_returns=1, timeout=SEEN)
    ready: list[Any] = ray.wait(tasks, num_returns=len(tasks), timeout=0)[0]
    return ready


def _result(task: Any, candidates: Sequence[Candidate]) -> Chunk:
    import ray

    try:
        chunk: Chunk = ray.get(task)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, TapeGPTError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise TapeGPTError(
            f"ray: trainings {candidates[0].number} to {candidates[-1].number} are lost, {TRIES} times with their "
            f"worker ({type(error).__name__}): look for its end in the logs of Ray, or choose smaller models"
        ) from error
    return chunk


# --- in a worker ------------------------------------------------------------------------------------------------


def _train(corpus: list[Any], candidates: list[Candidate], width: int, keep: int, version: str) -> Chunk:
    """Outcomes of a chunk, in order, and its best models. The list of a reference is left by Ray as it is."""
    if version != __version__:
        raise TapeGPTError(f"ray: a worker has tapegpt {__version__}, the driver {version}: install the same")
    population = populate(_field(corpus[0]), candidates, width, keep)
    outcomes = list(population)
    return outcomes, [(outcome, dumps(model)) for outcome, model in population.kept]


@lru_cache(maxsize=1)
def _field(corpus: Any) -> Field:
    """Made once for all chunks that a worker does of a sweep."""
    import ray

    return Field(*ray.get(corpus))
