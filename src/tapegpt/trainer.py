"""Training: a corpus in, a model out, in chunks of steps so that progress and interruption are prompt.

Random numbers are drawn in microgpt.py's order: the documents are shuffled, the parameters initialised, and generation
goes on with the same generator. Not here: arithmetic, files, what is printed.
"""

from __future__ import annotations

import os
import time

from tapegpt.config import Config
from tapegpt.corpus import Corpus
from tapegpt.engine import Adam
from tapegpt.errors import DivergedError, TapeGPTError, is_number, is_whole, shown
from tapegpt.model import GPT, check_seed, initialise, make_engine
from tapegpt.rng import Random

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MAX_STEPS = 1_000_000_000
CHUNK_SECONDS = 0.05


class Trainer:
    """One training run; `model` is as far as it has come.

    Raises `TapeGPTError` for settings out of range.
    """

    def __init__(
        self,
        corpus: Corpus,
        config: Config,
        *,
        steps: int = 1000,
        learning_rate: float = 0.01,
        seed: int = 42,
        engine: str = "exact",
    ) -> None:
        if not is_whole(steps) or not 1 <= steps <= MAX_STEPS:
            raise TapeGPTError(f"steps must be a whole number from 1 to {MAX_STEPS:,}, not {shown(steps)}")
        if not is_number(learning_rate) or not 0 < learning_rate <= 1000:
            raise TapeGPTError(f"learning_rate must be a number above 0, at most 1000, not {shown(learning_rate)}")
        check_seed(seed)
        self.adam = Adam(steps=steps, learning_rate=float(learning_rate))
        rng = Random(seed)
        self._tokens = corpus.tokens(rng.permutation(len(corpus))[:steps])  # no step comes to any later document
        self.model = GPT(config, corpus.vocabulary, rng, make_engine(engine, config, corpus.vocab_size))
        initialise(self.model.engine, config, corpus.vocab_size, rng)

    @property
    def step(self) -> int:
        """Steps taken."""
        return self.model.steps

    def run(self, count: int) -> list[float]:
        """Take up to `count` more steps; their losses.

        Raises `DivergedError` before a step that cannot be taken, `TapeGPTError` for a negative count.
        """
        if not is_whole(count) or count < 0:
            raise TapeGPTError(f"count must be a whole number from 0 on, not {shown(count)}")
        count = min(count, self.adam.steps - self.step)
        try:
            losses = self.model.engine.train(self._tokens, self.adam, self.step, count)
        except DivergedError as error:
            self.model.steps += len(error.losses)
            raise
        self.model.steps += len(losses)
        return losses

    def chunks(self) -> Iterator[list[float]]:
        """Run to the end, giving the losses about every 50 ms. The cuts change no number."""
        count = 1
        while self.step < self.adam.steps:
            start = time.perf_counter()
            losses = self.run(count)
            elapsed = max(time.perf_counter() - start, 1e-6)
            yield losses
            count = max(1, min(4 * count, int(count * CHUNK_SECONDS / elapsed)))


def train(
    data: str | os.PathLike[str] | Corpus | Iterable[str],
    *,
    steps: int = 1000,
    n_layer: int = 1,
    n_embd: int = 16,
    n_head: int = 4,
    block_size: int = 16,
    learning_rate: float = 0.01,
    seed: int = 42,
    engine: str = "exact",
    encoding: str = "utf-8",
    on_progress: Callable[[int, list[float]], None] | None = None,
) -> GPT:
    """Train a model on a text file (a str is a path), a corpus or strings.

    `on_progress(step, losses)` is called about every 50 ms with the steps taken and the losses since the last call.
    Raises `TapeGPTError` for input that cannot be used.
    """
    if isinstance(data, str | os.PathLike):
        data = Corpus.read(data, encoding)
    corpus = data if isinstance(data, Corpus) else Corpus.of(data)
    config = Config(n_layer, n_embd, n_head, block_size)
    trainer = Trainer(corpus, config, steps=steps, learning_rate=learning_rate, seed=seed, engine=engine)
    for losses in trainer.chunks():
        if on_progress:
            on_progress(trainer.step, losses)
    return trainer.model
