"""A training that a request asks for: in its own thread, with its progress, until it ends or the client disconnects.

Not here: how requests come and responses go (`runs.py`).
"""

from __future__ import annotations

import math
from time import perf_counter

from tapegpt.data.vocabulary import listed
from tapegpt.errors import DivergedError, TapeGPTError, quote
from tapegpt.inference.constraints import TEMPERATURE
from tapegpt.models.curves import curve
from tapegpt.models.loading import reference
from tapegpt.studio.controls import ENGINES
from tapegpt.studio.work import Deadline
from tapegpt.training.presets import resolve
from tapegpt.training.recording import record_in_pieces, spread
from tapegpt.training.trainer import Trainer
from tapegpt.web.data import Portrait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tapegpt.autograd.model import Model
    from tapegpt.pools import Pieces
    from tapegpt.settings import Settings
    from tapegpt.studio.limits import Limits
    from tapegpt.studio.requests import NewRun
    from tapegpt.studio.store import KeptCorpus

FIRST_SECONDS = 0.08  # a training that ends sooner tells no progress
PROGRESS_SECONDS = 0.05  # between two looks at a training
PROGRESS_STRINGS = 5
EVALUATIONS = 3  # of what is held out: each takes 1.7 ms of the default names


class TrainingTask:
    """One training; `progress` is replaced as it proceeds, `run` is to be called in a thread."""

    def __init__(self, wanted: NewRun, corpus: KeptCorpus, limits: Limits) -> None:
        """Raises `TapeGPTError` for an impossible training, `RefusedError` for one beyond the limits."""
        self.started = perf_counter()
        options: Any = wanted.settings
        self.config, self.settings = resolve(options, corpus=corpus.corpus)
        ENGINES.check("engine", self.settings.engine)
        vocab_size = corpus.corpus.vocab_size
        limits.check_training(self.config, self.settings, vocab_size, corpus.tokens / len(corpus.corpus))
        limits.check_text(self.config, vocab_size, wanted.text)
        TEMPERATURE.check("temperature", wanted.temperature)
        vocabulary = corpus.corpus.vocabulary
        vocabulary.combination(wanted.label)
        pieces = vocabulary.split(wanted.text)[: self.config.block_size]
        if unknown := set(pieces).difference(vocabulary):  # else the error would come after the training
            raise TapeGPTError(f"text {quote(wanted.text)}: {listed(unknown)} is not in the data: leave that out")
        self.corpus, self._wanted = corpus, wanted
        self._moments = limits.moments(self.config, vocab_size, wanted.moments)
        self._parameters = self.config.num_parameters(vocab_size)
        self.deadline = Deadline(limits.seconds)
        self.trainer: Trainer | None = None
        self._losses: list[float] = []
        self._next = self.started + FIRST_SECONDS  # when to look
        self.progress: dict[str, Any] = self._progress([], is_compiling=True)

    def run(self) -> Pieces[tuple[Portrait, dict[str, Any]]]:
        """Train, piece by piece; the recording, and the response `Run` but for what the store knows."""
        begun = perf_counter()
        trainer = self.trainer = Trainer(self.corpus.corpus, self.config, self.settings)
        trainer.evaluate_every = math.ceil(self.settings.steps / EVALUATIONS)
        made = perf_counter()
        moments = spread(self.settings.steps, self._moments)
        try:
            recording = yield from record_in_pieces(trainer, moments, self._watch)
        except DivergedError as error:  # the client is to see where
            self._losses += error.losses
            self.progress = self._progress([], is_compiling=False)
            raise
        trained = perf_counter()
        self.deadline.check()
        portrait = Portrait(recording, self.corpus.facts)
        self.progress = {**self.progress, "step": trainer.step, "compiling": True}  # of a new shape, what looks into it
        data = portrait.run(self._wanted.text, self._wanted.temperature, self._wanted.label)
        compiling = trainer.model.engine.compile_seconds
        seconds = {"train": trained - made, "compile": compiling, "all": perf_counter() - begun}
        return portrait, {**data, "seconds": {name: round(value, 4) for name, value in seconds.items()}}

    def _watch(self, losses: list[float]) -> bool:
        """Note how far it is, now and then; whether it is to end."""
        self._losses += losses
        now = perf_counter()
        if now > self._next and self.trainer is not None:
            model = self.trainer.model
            wanted = self._wanted
            strings = model.generate(PROGRESS_STRINGS, seed=0, temperature=wanted.temperature, label=wanted.label)
            self.progress = self._progress(list(map(str, strings)), is_compiling=False)
            self._next = now + PROGRESS_SECONDS
        return self.deadline.is_over

    def _progress(self, strings: list[str], is_compiling: bool) -> dict[str, Any]:
        return {
            "step": self.trainer.step if self.trainer else 0,
            "steps": self.settings.steps,
            "parameters": self._parameters,
            "losses": curve(self._losses),
            "strings": strings,
            "compiling": is_compiling,
        }


def name_of(config: Model, settings: Settings) -> str:
    """A name for a run, such as "gpt · n_layer 1 · n_embd 16 · n_head 4 · block_size 16 · 1,000 steps · exact"."""
    length = f"{settings.steps:,} steps" if settings.budget is None else f"{settings.budget:g} s"
    fields = [f"{name} {value}" for name, value in config.in_use().items()]
    return " · ".join([reference(type(config)), *fields, length, settings.engine])
