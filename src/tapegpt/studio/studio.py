"""What the studio's endpoints share: corpora and runs, threads, limits. Not here: HTTP."""

from __future__ import annotations

from tapegpt.data.vocabulary import NAMED
from tapegpt.errors import TapeGPTError
from tapegpt.pools import one_piece
from tapegpt.studio.limits import JSON_BYTES, Limits, RefusedError, too_large
from tapegpt.studio.store import MAX_CORPORA, MAX_CORPUS_BYTES, MAX_RUN_BYTES, MAX_RUNS, KeptCorpus, KeptRun, Shelf
from tapegpt.studio.training import name_of
from tapegpt.studio.warming import Warming
from tapegpt.studio.work import Deadline, Workers, answer
from tapegpt.training.recording import Recording, still
from tapegpt.web.data import Portrait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from starlette.requests import Request

    from tapegpt.models.trained import Shape

    T = TypeVar("T")


class Studio:
    """One studio; `log` takes a line about whatever goes wrong inside."""

    def __init__(self, corpus: KeptCorpus, limits: Limits, log: Callable[[str], None]) -> None:
        self.limits, self.log = limits, log
        self.corpora = Shelf[KeptCorpus]("corpus", MAX_CORPORA, MAX_CORPUS_BYTES, first_stays=True)
        self.runs = Shelf[KeptRun]("run", MAX_RUNS, MAX_RUN_BYTES)
        self.training = Workers("training", threads=2, waiting=8)
        self.drawing = Workers("drawing", threads=4, waiting=1000)
        self.counting = Workers("counting", threads=1, waiting=100)
        self.warming = Warming(self)
        self.corpora.add(corpus)

    def open(self) -> None:
        """Start the background work; the event loop runs."""
        self.count(next(iter(self.corpora)))

    def close(self) -> None:
        """Start no more tasks."""
        for workers in (self.training, self.drawing, self.counting):
            workers.close()

    def add_corpus(self, kept: KeptCorpus) -> KeptCorpus:
        """Keep a corpus, and begin to count its n-grams."""
        self.corpora.add(kept)
        self.count(kept)
        return kept

    def count(self, kept: KeptCorpus) -> None:
        """Compute in the background the losses of n-gram models on a corpus; a busy studio skips this."""

        def task() -> None:
            from tapegpt.data.ngrams import baselines_within

            kept.baselines = baselines_within(kept.corpus)

        try:
            self.counting.submit(one_piece(task), Deadline(self.limits.seconds))
        except RefusedError:
            return

    def add_recording(self, recording: Recording) -> KeptRun:
        """Keep a training that was not made here, without the paths of its data."""
        recording.model.data = None
        kept = KeptRun(Portrait(recording), name_of(recording.model.config, recording.settings))
        self.runs.add(kept)
        return kept

    def run(self, request: Request) -> KeptRun:
        """The run that a request's path names; raises `RefusedError` where there is none."""
        return self.runs[request.path_params["id"]]

    async def short(self, request: Request, task: Callable[[Deadline], T]) -> T:
        """Run a task that takes milliseconds, or checks its deadline."""
        deadline = Deadline(self.limits.search_seconds)
        return await answer(request, self.drawing, one_piece(lambda: task(deadline)), deadline)

    async def long(self, request: Request, task: Callable[[Deadline], T]) -> T:
        """Run a task that may take as long as a training."""
        deadline = Deadline(self.limits.seconds)
        return await answer(request, self.training, one_piece(lambda: task(deadline)), deadline)

    def uploaded(self, data: bytes, deadline: Deadline) -> Recording:
        """The model in a file's bytes.

        Raises `TapeGPTError` for what is no model file or takes too long, `RefusedError` for too large a model.
        """
        from tapegpt.models.checkpoint import loads
        from tapegpt.tensors import is_json

        if is_json(data) and len(data) > JSON_BYTES:
            raise too_large(f"a model as JSON may have {JSON_BYTES:,} bytes: convert it with tapegpt convert")
        try:
            recording = still(loads(data, name="the file", admit=self._admit))
            "".join(recording.model.vocabulary).encode()
        except UnicodeEncodeError as error:
            raise TapeGPTError(f"the file has a character that is no text, {error.object[error.start]!r}") from None
        if recording.model.vocabulary.rule not in NAMED:
            raise TapeGPTError(
                "the file has tokens by a regular expression, which can take for ever on a text: open it with tapegpt "
                "studio --load, if you trust it"
            )
        deadline.check()
        return recording

    def _admit(self, shapes: list[Shape]) -> None:
        """Refuse the models of a file that are several or too large, before code is made for any."""
        if len(shapes) > 1:
            raise TapeGPTError(single("the file", len(shapes)))
        ((_, config, vocab_size),) = shapes
        self.limits.check_shape(config, vocab_size)


def single(name: str, models: int) -> str:
    """Why an ensemble of so many models is not opened, and what to do."""
    return (
        f"{name} is an ensemble of {models} models, and the studio looks into one: save one of them in Python with "
        'tapegpt.load("FILE").models[0].save("MODEL.safetensors"), and open that'
    )
