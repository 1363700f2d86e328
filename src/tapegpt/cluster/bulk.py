"""Strings generated, or scored, by the billion: a part for each file that is written, through Ray Data.

A worker has one core, makes the model once and does part after part. What a part holds depends on its number alone: it
is the same whoever makes it, and made again where a worker was lost. Not here: files (`parts.py`).
"""

from __future__ import annotations

import os
from functools import lru_cache

from tapegpt.cluster.parts import FORMATS, new_directory, pieces, strings, write
from tapegpt.errors import TapeGPTError, argument, quote
from tapegpt.inference.constraints import split_options
from tapegpt.ranges import Number, Whole
from tapegpt.record import Record
from tapegpt.settings import SEED
from tapegpt.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, Unpack

    from tapegpt.cluster.connection import Cluster
    from tapegpt.cluster.parts import Piece
    from tapegpt.data.sources import Source
    from tapegpt.inference.constraints import GenerateOptions
    from tapegpt.models.trained import GPT

BLOCK = 100_000  # strings of a part that are generated: half a second of work
ROUNDS = 8  # tasks for each core: Ray Data's driver needs 15 ms for one, so that a part alone is too little
IN_A_TASK = 100  # parts at most, a minute of work, which is what is lost with a worker


class Part(Record):
    """A part that is written: its number, how many there are, how many strings are in it."""

    number: int
    of: int
    strings: int


class _Generating(Record):
    """The job of generating."""

    directory: str
    format: str
    parts: int
    block: int
    n: int
    seed: int
    options: dict[str, Any]

    def do(self, model: GPT, number: int) -> int:
        """Generate and write a part; how many strings it has."""
        n = min(self.block, self.n - number * self.block)
        texts = model.generate(n, seed=(self.seed << 64) + number, **self.options)
        write(self.directory, number, self.parts, self.format, {"text": texts})
        return len(texts)


class _Scoring(Record):
    """The job of scoring."""

    directory: str
    format: str
    parts: int
    pieces: list[Piece]
    source: Source
    threshold: float | None
    min_percentile: float | None
    label: Any

    def do(self, model: GPT, number: int) -> int:
        """Score a piece and write it; how many strings it has that are surprising enough."""
        texts = strings(self.pieces[number], self.source)
        scores = model.score(model.vocabulary.relabel(texts, self.source.labels, self.label))
        rows = zip(scores.nats, scores.percentiles, scores.texts, strict=True)
        chosen = [row for row in rows if self._is_chosen(row[0], row[1])]
        columns = {name: [row[place] for row in chosen] for place, name in enumerate(("nats", "percentile", "text"))}
        write(self.directory, number, self.parts, self.format, columns)
        return len(chosen)

    def _is_chosen(self, nats: float, percentile: float | None) -> bool:
        if self.threshold is not None and nats <= self.threshold:
            return False
        return self.min_percentile is None or (percentile or 0.0) >= self.min_percentile


_Job = _Generating | _Scoring


def generate(
    cluster: Cluster,
    model: GPT,
    n: int,
    directory: str | os.PathLike[str],
    *,
    format: str = "text",  # noqa: A002  # as in `Source`
    seed: int | None = None,
    **options: Unpack[GenerateOptions],
) -> Iterator[Part]:
    """Write n generated strings to a new directory, `BLOCK` to a file; an iterator over the parts as they are done.

    Options are those of `GPT.generate`, but `distinct`. Without a seed the model's next random number is one. Part p
    is `model.generate(BLOCK, seed=(seed << 64) + p, **options)`, on any cluster.
    Raises `TapeGPTError` for what cannot be done.
    """
    Whole(0).check("n", n)
    if seed is None:
        seed = model.rng.getrandbits(64)
    SEED.check("seed", seed)
    constraints, drawing = split_options(options)
    if constraints.distinct:
        raise TapeGPTError(f"ray: {argument('distinct')} compares all strings, and a worker sees some: leave it out")
    model.draw(n, constraints, drawing, seed=seed)  # refuses here what cannot be met
    documents = None if constraints.distance is None else model.training_documents()
    parts = -(-n // BLOCK)
    job = _Generating(_directory(directory, format), format, parts, BLOCK, n, seed, dict(options))
    return _spread(cluster, model, documents, job)


def score(
    cluster: Cluster,
    model: GPT,
    source: Source,
    directory: str | os.PathLike[str],
    *,
    format: str = "jsonl",  # noqa: A002  # as in `Source`
    threshold: float | None = None,
    min_percentile: float | None = None,
    label: Any = None,
) -> Iterator[Part]:
    """Write the strings of files with their scores to a new directory; an iterator over the parts as they are done.

    Columns are nats (of a character, the end counted as one), percentile (see `Score`) and text. Of all strings, or
    those above a threshold of nats, and at least at a percentile; given the labels in columns of the source, or one
    label for all, as `generate` takes it. Raises `TapeGPTError` for what cannot be done.
    """
    model.vocabulary.combination(label)
    for name, value in (("threshold", threshold), ("min_percentile", min_percentile)):
        if value is not None:
            Number().check(name, value)
    model.rank()
    if min_percentile is not None and not model.ranks:
        raise TapeGPTError("the model keeps no percentiles of its training strings: give a threshold instead")
    found = pieces(source)
    job = _Scoring(_directory(directory, format), format, len(found), found, source, threshold, min_percentile, label)
    return _spread(cluster, model, None, job)


def _directory(directory: str | os.PathLike[str], kind: str) -> str:
    if kind not in FORMATS:
        raise TapeGPTError(f"format must be one of {', '.join(FORMATS)}, not {quote(kind)}")
    return new_directory(os.fspath(directory))


def _spread(cluster: Cluster, model: GPT, documents: Sequence[str] | None, job: _Job) -> Iterator[Part]:
    """Let workers do all parts."""
    if not job.parts:
        return
    import logging

    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what goes wrong is raised
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    sent = cluster.send(job, (model, documents, job))
    numbers: Any = ray.data.range(job.parts, override_num_blocks=tasks(job.parts, cluster.cores()))
    done = numbers.map_batches(_do, batch_size=1, num_cpus=1, fn_kwargs={"sent": [sent], "version": __version__})
    try:
        for row in done.iter_rows():
            if row["fault"]:
                raise TapeGPTError(row["fault"])
            yield Part(row["number"], job.parts, row["strings"])
    except ray.exceptions.RayTaskError:  # a bug of ours, with all that is known of it
        raise
    except ray.exceptions.RayError as error:
        raise TapeGPTError(
            f"ray: parts are lost, again and again with their workers ({type(error).__name__}): look for their end in "
            "the logs of Ray"
        ) from error


def tasks(parts: int, cores: int) -> int:
    """In how many tasks so many parts are done by so many cores."""
    return max(min(parts, ROUNDS * cores), -(-parts // IN_A_TASK))


# --- in a worker ------------------------------------------------------------------------------------------------


def _do(batch: Any, sent: list[Any], version: str) -> Any:
    """Do a part, whose number is under "id"; the job is a reference, in a list that Ray leaves as it is.

    What cannot be done is said under "fault": of an error Ray keeps a text of many lines.
    """
    (number,) = map(int, batch["id"])
    fault, count = "", 0
    try:
        if version != __version__:
            raise TapeGPTError(f"ray: a worker has tapegpt {__version__}, the driver {version}: install the same")
        model, job = _prepare(sent[0])
        count = job.do(model, number)
    except TapeGPTError as error:
        fault = str(error)
    return {"number": [number], "strings": [count], "fault": [fault]}


@lru_cache(maxsize=1)
def _prepare(sent: Any) -> tuple[GPT, _Job]:
    """The model, made once for all parts that a worker does."""
    import ray

    model, documents, job = ray.get(sent)
    model.documents = documents
    return model, job
