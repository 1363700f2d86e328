"""A GPT that can speak: its shape, vocabulary, random state and the engine that holds its numbers.

Not here: training (`trainer.py`), files (`checkpoint.py`), arithmetic (the engines).
"""

from __future__ import annotations

import sys
import time

from tapegpt.errors import TapeGPTError, is_number, is_whole, shown
from tapegpt.rng import Random
from tapegpt.settings import ENGINES, Settings, check_seed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterator

    from tapegpt.config import Config
    from tapegpt.engine import Engine, Strings

MIN_TEMPERATURE, MAX_TEMPERATURE = 1e-3, 1e3
BATCH_SECONDS, MAX_BATCH = 0.02, 4096  # strings generated at a time, so that Ctrl-C is prompt


def make_engine(name: str, config: Config, vocab_size: int, batch_size: int = 1, threads: int = 1) -> Engine:
    """The engine of this name, its parameters zero; raises `TapeGPTError` for another name or too large a model.

    Batches and threads are the fast engine's.
    """
    config.num_parameters(vocab_size)
    if name != "fast" and not config.is_plain:
        raise TapeGPTError(f"n_gram needs the engine fast, not {name}, which does what microgpt.py does")
    if name == "exact":
        from tapegpt.exact import ExactEngine

        return ExactEngine(config, vocab_size)
    if name == "fast":
        from tapegpt.fast.engine import FastEngine

        return FastEngine(config, vocab_size, batch_size, threads)
    if name == "reference":
        from tapegpt.reference import ReferenceEngine

        return ReferenceEngine(config, vocab_size)
    raise TapeGPTError(f"engine must be one of {', '.join(ENGINES)}, not {shown(name)}")


def initialise(
    engine: Engine, config: Config, vocab_size: int, rng: Random, deviation: float = Settings.init_std
) -> None:
    """Draw all parameters from a normal distribution around 0, row by row, in the order of `Config.shapes`.

    Embeddings of runs are left out, so zero: a run counts for something once it has been seen.
    """
    sizes = {name: rows * columns for name, (rows, columns) in config.shapes(vocab_size).items()}
    sizes.pop("wte_gram", 0)
    numbers = rng.gauss_array(sum(sizes.values()), 0.0, deviation)
    parameters, start = {}, 0
    for name, size in sizes.items():
        parameters[name] = numbers[start : start + size]
        start += size
    engine.load_parameters(parameters)


class GPT:
    """A model: `generate` invents strings."""

    def __init__(self, config: Config, vocabulary: str, rng: Random, engine: Engine, steps: int = 0) -> None:
        self.config = config
        self.vocabulary = vocabulary  # token t is vocabulary[t]; BOS comes after the last
        self.rng = rng
        self.engine = engine
        self.steps = steps  # taken in training

    @property
    def vocab_size(self) -> int:
        """Number of tokens: the characters and BOS."""
        return len(self.vocabulary) + 1

    @property
    def num_parameters(self) -> int:
        """Number of parameters."""
        return self.config.num_parameters(self.vocab_size)

    @property
    def parameters(self) -> dict[str, array[float]]:
        """A copy of the parameters by name, each row by row; their shapes are `config.shapes(vocab_size)`."""
        return self.engine.parameters()

    def generate(self, n: int = 20, *, temperature: float = 0.5, seed: int | None = None) -> list[str]:
        """n invented strings of at most block_size characters: `stream` as a list."""
        return list(self.stream(n, temperature=temperature, seed=seed))

    def stream(self, n: int = 20, *, temperature: float = 0.5, seed: int | None = None) -> Iterator[str]:
        """Invent n strings of at most block_size characters, a few at a time.

        Without a seed the model's own generator goes on; with one the strings depend on nothing else, and the model's
        generator stays as it is. Raises `TapeGPTError` for a negative n, a temperature out of range or a seed that is
        no whole number.
        """
        if not is_whole(n) or n < 0:
            raise TapeGPTError(f"n must be a whole number from 0 on, not {shown(n)}")
        check_temperature(temperature)
        if seed is not None:
            check_seed(seed)
        return self._strings(n, float(temperature), self.rng if seed is None else Random(seed))

    def _strings(self, n: int, temperature: float, rng: Random) -> Iterator[str]:
        count = 1
        while n:
            start = time.perf_counter()
            batch = self.engine.generate(rng, min(n, count), temperature)
            n -= len(batch)
            if time.perf_counter() - start < BATCH_SECONDS:
                count = min(2 * count, MAX_BATCH)
            yield from texts(batch, self.vocabulary)

    def __repr__(self) -> str:
        config = self.config
        return (
            f"<GPT of {self.num_parameters:,} parameters: n_layer={config.n_layer} n_embd={config.n_embd} "
            f"n_head={config.n_head} block_size={config.block_size}, {self.vocab_size} tokens, {self.steps} steps>"
        )


def texts(strings: Strings, vocabulary: str) -> list[str]:
    """Generated strings as text."""
    if max(vocabulary) < "\x80":  # a byte a character: all at once, ten times faster
        place = 0 if sys.byteorder == "little" else 3
        codes = strings.ids.tobytes()[place::4].translate(vocabulary.encode("ascii").ljust(256, b"?"))
        text = codes.decode("ascii")
    else:
        text = "".join([vocabulary[token] for token in strings.ids])
    block = len(text) // max(len(strings), 1)
    return [text[i * block : i * block + length] for i, length in enumerate(strings.lengths)]


def check_temperature(temperature: float) -> None:
    """Raise `TapeGPTError` unless the temperature is in its range."""
    if not is_number(temperature) or not MIN_TEMPERATURE <= temperature <= MAX_TEMPERATURE:
        raise TapeGPTError(
            f"temperature must be a number from {MIN_TEMPERATURE} to {MAX_TEMPERATURE:g}, not {shown(temperature)}"
        )
