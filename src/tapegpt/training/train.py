"""`tapegpt.train`: data in, a model out, in one call. Not here: the training (`trainer.py`), the command's."""

from __future__ import annotations

import os
import time

from tapegpt.data.corpus import Corpus
from tapegpt.data.sources import READING, Selection, Source
from tapegpt.data.vocabulary import CHARACTERS
from tapegpt.errors import TapeGPTError, quote
from tapegpt.models.gpt import Config
from tapegpt.training.clock import within
from tapegpt.training.presets import resolve
from tapegpt.training.trainer import Trainer, watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Unpack

    from tapegpt.data.sources import Reading
    from tapegpt.models.loading import Choice
    from tapegpt.models.trained import GPT
    from tapegpt.training.presets import Options as Shape
    from tapegpt.training.trainer import Callback

    class Options(Shape, Reading, total=False):
        """Whatever `train` takes."""

        tokens: str
        labels: Any  # columns of a file, or values as `Corpus.of` takes them

    Data = str | os.PathLike[str] | Corpus | Iterable[str]


def train(
    data: Data,
    *,
    model: Choice = Config,
    preset: str | None = None,
    callbacks: Iterable[Callback] = (),
    **options: Unpack[Options],
) -> GPT:
    """Train a model on a file or directory (a str is a path), a corpus, strings, or a column of a data frame.

    The model is a subclass of `Model`, an instance of one, or a name, such as "mlp" or "mymodel.py:MyGPT". Options are
    its settings and those of `Settings`, of which a preset gives some, and how data is read, as `Corpus.read` and
    `Corpus.of` take it: `tapegpt.train("people.csv", column="name", labels=["country"])`, or of a data frame
    `tapegpt.train(people["name"], labels=people["country"])`. Each callback is called about
    every 50 ms, with the trainer and the losses since the last call; the first that returns True ends the training. At
    its end each is called once more, with no losses, and closed if it has a method `close`.
    Raises `TapeGPTError` for input that cannot be used.
    """
    started = time.perf_counter()
    given: Any = dict(options)
    reading = {name: given.pop(name) for name in READING if name in given}
    if not hasattr(callbacks, "__iter__") or not all(map(callable, callbacks := list(callbacks))):
        raise TapeGPTError(f"callbacks must be functions of a trainer and losses, not {quote(callbacks)}: give a list")
    config, settings = resolve(given, preset, model=model)  # refuses before it reads
    corpus = corpus_from(data, reading, settings.budget)
    config, settings = resolve(given, preset, corpus, model)
    trainer = Trainer(corpus, config, settings, started=started)
    watch(trainer, trainer.chunks(), list(callbacks))
    trainer.keep(lambda _: None)  # whoever saves the model saves the training too
    return trainer.model


def corpus_from(data: Data, reading: dict[str, Any], budget: float | None = None) -> Corpus:
    """What `train` takes for data, as a corpus; raises `TapeGPTError` for what cannot be used, or read so.

    Of files that are large for a budget a sample is read.
    """
    if isinstance(data, str | os.PathLike):
        how = {"tokens": CHARACTERS, **reading}
        tokens = how.pop("tokens")
        return Corpus.from_source(within(Source(paths=(os.fspath(data),), **how), budget), tokens)
    for name in reading:
        if isinstance(data, Corpus) or name not in ("tokens", "labels", *Selection.fields):
            raise TapeGPTError(f"{name} says how data is read: give a path, or leave it out")
    return data if isinstance(data, Corpus) else Corpus.of(data, **reading)
