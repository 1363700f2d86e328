"""Limits of the studio's requests. Not here: sizes of bodies (`guard.py`), numbers of tasks (`work.py`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tapegpt.data.vocabulary import NAMED, Vocabulary
from tapegpt.errors import TapeGPTError, quote
from tapegpt.ranges import Number, Whole
from tapegpt.record import Record, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from tapegpt.autograd.model import Model
    from tapegpt.settings import Settings

PORTS = Whole(0, 65_535)
CHARACTER_BYTES = 4  # of data
JSON_BYTES = 8 << 20  # of a model file that is JSON, which takes ten times as much once it is read
MOMENT_BYTES = 128 << 20  # of a run's parameters at its moments
WEIGHTS = 1 << 22  # attention weights of a block, 8 bytes each several times over
SHOWN_WEIGHTS = 300_000  # attention weights of a text, as JSON
STRINGS = 1000  # to generate in a call
LENGTH = 2000  # tokens of each: under the worst constraints 0.4 s
TRIAL = "import json, re, sys; rule, *texts = json.load(sys.stdin); list(map(re.compile(rule).findall, texts))"
RATE = 1.5e9  # multiply-adds a second that are counted on: half of what the exact engine does at the default shape


class RefusedError(Exception):
    """A request that is not answered: the HTTP status, the kind of error and one line."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status, self.kind = status, kind


_SOME, _ABOVE_0 = Whole(1), Number(0, ends="(]")


class Limits(Record):
    """What is allowed; raises `TapeGPTError` where nothing would be."""

    characters: int = field("maximum number of characters of the data", _SOME, default=2_000_000)
    parameters: int = field("maximum number of parameters of a model", _SOME, default=2_000_000)
    steps: int = field("maximum number of steps of a training", _SOME, default=100_000)
    seconds: float = field("maximum duration of a training, in seconds", _ABOVE_0, default=60.0)
    search_seconds: float = field("most seconds of a search for strings", _ABOVE_0, default=5.0)
    layers: int = field("most layers of a model", _SOME, default=12)
    block_size: int = field("largest block of a model", _SOME, default=256)
    strings: int = field("most strings to generate in a call", _SOME, default=STRINGS)
    length: int = field("most tokens of a generated string", _SOME, default=LENGTH)
    model_bytes: int = field("most bytes of a model file", _SOME, default=64 << 20)

    def check_shape(self, config: Model, vocab_size: int) -> None:
        """Raise `RefusedError` for a model that is too large; `TapeGPTError` where it is for tapegpt itself."""
        self._check("n_layer", config.as_dict().get("n_layer", 1), self.layers)
        self._check("block_size", config.block_size, self.block_size)
        self._check("the number of parameters", config.num_parameters(vocab_size), self.parameters)
        self._check(
            "the number of heads times block_size squared", weights(config, vocab_size, config.block_size), WEIGHTS
        )

    def check_training(self, config: Model, settings: Settings, vocab_size: int, tokens: float) -> None:
        """Raise `RefusedError` for a model that is too large, or a training that takes too long.

        Tokens are those of a document, as a mean.
        """
        self.check_shape(config, vocab_size)
        if settings.budget is not None:
            self._check("budget", settings.budget, self.seconds)
        else:
            self._check("steps", settings.steps, self.steps)
        self._check("threads", settings.threads or 1, os.cpu_count() or 1)
        steps = settings.steps if settings.budget is None else 1
        seen = steps * settings.batch_size * min(tokens, config.block_size)
        self.check_work(3 * seen * config.num_parameters(vocab_size), self.seconds)

    def check_work(self, multiply_adds: float, seconds: float) -> None:
        """Raise `RefusedError` for arithmetic that takes longer."""
        if multiply_adds / RATE > seconds:
            raise too_large(
                f"this would take about {multiply_adds / RATE:,.0f} seconds, the limit of this studio is {seconds:g}: "
                "ask for less, or of a smaller model"
            )

    def check_length(self, tokens: int | None) -> None:
        """Raise `RefusedError` for strings that may be longer."""
        self._check("the length of strings", tokens or 0, self.length)

    def check_text(self, config: Model, vocab_size: int, text: str) -> None:
        """Raise `RefusedError` for a text whose attention weights are too many to be sent."""
        positions = min(len(text) + 1, config.block_size)
        if weights(config, vocab_size, positions) > SHOWN_WEIGHTS:
            raise too_large(f"a text of {positions} positions has too many attention weights: give a shorter one")

    def moments(self, config: Model, vocab_size: int, wanted: int) -> int:
        """How many moments a run may keep, at least its first and its last."""
        return max(1, min(wanted, MOMENT_BYTES // (8 * config.num_parameters(vocab_size))))

    def _check(self, name: str, value: float, largest: float) -> None:
        if value > largest:
            raise too_large(f"{name} is {value:,}, the limit of this studio is {largest:,}: choose less")


def too_large(message: str) -> RefusedError:
    """The refusal of what is more than is allowed."""
    return RefusedError(413, "too_large", message)


def check_rule(rule: str, texts: Iterable[str], seconds: float) -> None:
    """Raise `TapeGPTError` for a regular expression that is none, or takes longer to split these texts.

    It is tried in a process of its own: a match holds the interpreter's lock, and nothing ends it but its end.
    """
    Vocabulary((), rule)
    if rule in NAMED or sys.platform == "emscripten":  # which has no processes: the page itself can be closed
        return
    try:
        given = json.dumps([rule, *texts]).encode()
        command = [sys.executable, "-ISc", TRIAL]
        subprocess.run(command, input=given, timeout=seconds, check=False, capture_output=True)  # noqa: S603  # our own
    except subprocess.TimeoutExpired:
        raise TapeGPTError(
            f"tokens {quote(rule)} take more than {seconds:g} seconds to split the data: repeat nothing that is a "
            "repetition itself"
        ) from None


def weights(config: Model, vocab_size: int, positions: int) -> int:
    """Attention weights of so many positions."""
    return sum(config.heads(vocab_size)) * positions**2
