"""Several models as one: at each position the mean of their probabilities (a mixture), to generate and to score.

    ensemble = Ensemble([model, other, third])
    ensemble.generate(20)
    ensemble.score(["anna"]).nats

The models share a vocabulary and may differ in shape; each reads strings longer than its block in windows of its own. A
temperature acts on the mean. Not here: files (`checkpoint.py`), which models are worth it (`sweep.py`).
"""

from __future__ import annotations

import math
from array import array
from itertools import chain, pairwise

from tapegpt.autograd.operations.base import PAD
from tapegpt.autograd.operations.functions import exp, log
from tapegpt.data.rng import Random
from tapegpt.data.tokens import Strings, Tokens
from tapegpt.data.vocabulary import listed
from tapegpt.engines.base import Engine
from tapegpt.errors import TapeGPTError, quote
from tapegpt.inference.automata import FORBIDDEN
from tapegpt.inference.choice import Choice, random_unit
from tapegpt.inference.constraints import Drawing
from tapegpt.inference.forward import Drawn, Inference, Rules, sums
from tapegpt.inference.reading import rank
from tapegpt.machine.language import F32, Builder, F32s, Int, Real, kernel
from tapegpt.machine.memory import address_of
from tapegpt.machine.program import Program
from tapegpt.models.trained import GPT, MODELS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn


_SURPRISES, _LOGS = 1.0, -1.0  # what they are multiplied by to be -log p
PYTHON = 300_000  # multiply-adds for which there is time while a token is drawn: 3 us


class Ensemble(GPT):
    """Models as one `GPT`, which generates, scores and is evaluated as each of them.

    `config` is that of the model with the smallest block; its random state is the first model's. Raises
    `TapeGPTError` for no model, anything but models, and models of different characters; later for whatever needs
    parameters, which only each of its `models` has.
    """

    def __init__(self, models: Sequence[GPT]) -> None:
        self.models = _check(models)
        first, self._mixture, rng = self.models[0], Mixture(self.models), Random(0)
        rng.setstate(first.random_state)
        engine, steps = _Engine(self._mixture), sum(model.steps for model in self.models)
        super().__init__(self._mixture.config, first.vocabulary, rng, engine, steps)
        self.counts = first.counts

    def __reduce__(self) -> tuple[Callable[..., GPT], tuple[object, ...], dict[str, Any]]:
        return Ensemble, (self.models,), {"rng": self.rng, "ranks": self.ranks}

    @property
    def num_parameters(self) -> int:
        """Number of parameters of all models."""
        return sum(model.num_parameters for model in self.models)

    @property
    def inference(self) -> Mixture:
        """The mean of the models as they are now."""
        return self._mixture

    def rank(self, most: int | None = None) -> None:
        """Note how surprising the training strings are, where those of all models are known."""
        if all(model.documents for model in self.models):
            self.training_documents()
        super().rank(most)

    def training_documents(self) -> Sequence[str]:
        """What any of the models has taken gradients of; raises `TapeGPTError` where that of one is not known."""
        if self.documents is None:
            first, *others = [model.learned_documents() for model in self.models]
            is_same = all(each == first for each in others)
            self.documents = first if is_same else list(dict.fromkeys(chain(first, *others)))
        return self.documents

    def __repr__(self) -> str:
        return (
            f"<Ensemble of {len(self.models)} models, {self.num_parameters:,} parameters: "
            f"block_size={self.config.block_size}, {self.vocab_size} tokens>"
        )

    def _repr_html_(self) -> str:
        """A line for each model, and what they say together."""
        from html import escape

        lines = "".join(f"<li>{escape(repr(model))}</li>" for model in self.models)
        says = ", ".join(f"<bdi>{escape(text)}</bdi>" for text in self.generate(8, seed=0))
        return f"<ol>{lines}</ol><p>{says}</p>"


def _check(models: Sequence[GPT]) -> tuple[GPT, ...]:
    try:
        checked = tuple(models)
    except TypeError:
        raise TapeGPTError(f"an ensemble takes several models, not {quote(models)}: give a list") from None
    MODELS.check("the number of models of an ensemble", len(checked))
    for position, model in enumerate(checked):
        if not isinstance(model, GPT) or isinstance(model, Ensemble):
            raise TapeGPTError(f"model {position} of an ensemble must be a GPT, not {quote(model)}")
        if model.vocabulary != checked[0].vocabulary:
            vocabulary, first = model.vocabulary, checked[0].vocabulary
            others = set(vocabulary.names) ^ set(first.names) if vocabulary.rule == first.rule else set()
            what = f"{vocabulary.unit}s {listed(others)}" if others else "rule of tokens or the order of labels"
            raise TapeGPTError(
                f"model {position} of an ensemble differs from model 0 in the {what}: train them on the same data"
            )
    return checked


# --- the mean ---------------------------------------------------------------------------------------------------


@kernel
def mix(k: Builder, mean: F32s, more: F32s, sign: Real, share: Real, count: Int) -> None:
    """Make of `mean` the mean of its probabilities and of `more`, which count by their share.

    Both hold numbers that times the sign are -log p, and have room for `PAD` more.
    """
    width = k.width(F32)
    flip, weight, rest = (k.spread(k.convert(number, F32), width) for number in (sign, share, 1.0 - share))
    for position in k.range(0, count, width):
        one, other = mean.vector(position, width) * flip, more.vector(position, width) * flip
        least = k.minimum(one, other)  # so that one of the exponentials is 1
        total = rest * exp(k, least - one) + weight * exp(k, least - other)
        mean.store(position, (least - log(k, total)) * flip)


class Mixture(Inference):
    """The mean of what models say, as they are now; strings are drawn in Python, by what the kernel draws them by."""

    def __init__(self, models: Sequence[GPT]) -> None:
        self.models = models
        self.config = min((model.config for model in models), key=lambda config: config.block_size)
        self.vocab_size = models[0].vocab_size
        self._program = Program({each.name: (each, {}) for each in (mix, rank)})
        self.notice, self.compile_seconds = self._program.notice, self._program.compile_seconds

    def __reduce__(self) -> tuple[type, tuple[Sequence[GPT]]]:  # type: ignore[override]  # it is made of models
        return Mixture, (self.models,)

    def _score(self, tokens: Tokens) -> tuple[array[float], array[float], array[float]]:
        found = self._mean([model.inference.surprises(tokens) for model in self.models], _SURPRISES)
        return found, *sums(found, pairwise(tokens.starts))

    @property
    def work(self) -> int:
        """Of a position: that of all models, and what drawing a token in Python takes."""
        return sum(model.inference.work for model in self.models) + PYTHON

    def next_logs(self, prefixes: list[list[int]]) -> list[array[float]]:
        """log p of each token after each prefix, which follows BOS."""
        rows = [model.inference.next_logs(prefixes) for model in self.models]
        logs = self._mean([array("f", b"".join(map(array.tobytes, each))) for each in rows], _LOGS)
        return [logs[start : start + self.vocab_size] for start in range(0, len(logs), self.vocab_size)]

    def _mean(self, parts: list[array[float]], sign: float) -> array[float]:
        """Of what each model says."""
        mean, *others = parts
        count, room = len(mean), bytes(4 * PAD)
        mean.frombytes(room)
        for number, other in enumerate(others, 2):
            other.frombytes(room)
            self._program.run(mix.name, address_of(mean), address_of(other), sign, 1.0 / number, count)
        del mean[count:]
        return mean

    def draw(self, streams: array[int], drawing: Drawing, rules: Rules, margin: float = 0.0) -> Drawn:
        """As that of one model, from the same random numbers; each prefix is looked at once for all its strings.

        All are in doubt where there is a margin.
        """
        count, room, bos = len(streams) // 2, max(rules.most, self.config.block_size), self.vocab_size - 1
        strings = Strings.empty(count, room)
        log_weights = array("d", bytes(8 * count))
        ahead: dict[tuple[int, ...], tuple[int, list[int]]] = {}  # the state and the strings of each prefix
        if count:
            ahead[()] = (rules.start, list(range(count)))
        for position in range(room):
            beyond: dict[tuple[int, ...], tuple[int, list[int]]] = {}
            rows = self.next_logs([list(prefix) for prefix in ahead]) if ahead else []
            for (prefix, (state, numbers)), logs in zip(ahead.items(), rows, strict=True):
                choice = Choice(logs, state, position, drawing, rules)
                for number in numbers:
                    token = choice.token(random_unit(streams[2 * number], streams[2 * number + 1], position))
                    log_weights[number] += choice.log_weight(token)
                    if token == bos:
                        continue  # its length is that of the prefix
                    strings.ids[number * room + position] = token
                    strings.lengths[number] = position + 1
                    beyond.setdefault((*prefix, token), (choice.after(token), []))[1].append(number)
            ahead = beyond
        return Drawn(strings, log_weights, array("I", [margin > 0.0]) * count)


class _Engine(Engine):
    """What a `GPT` asks its engine for, by the mean of models; it has no parameters."""

    name = "ensemble"

    def __init__(self, mixture: Mixture) -> None:
        super().__init__()
        self.config, self.vocab_size = mixture.config, mixture.vocab_size
        self.mixture, self.notice, self.compile_seconds = mixture, mixture.notice, mixture.compile_seconds

    @property
    def revision(self) -> int:
        """Another number whenever a model's parameters may have changed."""
        return sum(model.engine.revision for model in self.mixture.models)

    def _evaluate(self, tokens: Tokens) -> tuple[float, int]:
        return math.fsum(self.mixture.totals(tokens)), tokens.starts[-1] - tokens.starts[0]

    def _generate(self, rng: Random, count: int, temperature: float, max_length: int) -> Strings:
        return self.mixture.draw(rng.streams(count), Drawing(temperature), self._anything(max_length)).strings

    def _anything(self, most: int) -> Rules:
        """Those that every string of at most so many tokens keeps to."""
        ahead, characters = array("f", [FORBIDDEN, 0.0]) * (most + 1), self.mixture.vocab_size - 1
        return Rules(array("I", [0]) * characters, 1, array("I", [0, 1]), 1, b"\0\1", ahead, 0, most)

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TapeGPTError("an ensemble has no parameters of its own: take one of its models")

    parameters_in = _parameters = _load_parameters = _snapshot = _restore = _refuse
    _copy_moments = _load_moments = _train = _refuse
