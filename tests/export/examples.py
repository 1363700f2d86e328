"""Models to export, and an export that is called as machine code."""

from __future__ import annotations

from array import array
from functools import cache
from typing import Any

import tapegpt
from tapegpt import GPT, Config, Model, Random
from tapegpt.data.vocabulary import Vocabulary
from tapegpt.engines.base import Parameters
from tapegpt.engines.reference import ReferenceEngine
from tapegpt.export.portable import portable
from tapegpt.machine.host import host_target
from tapegpt.machine.memory import Memory
from tapegpt.machine.program import Program
from tapegpt.machine.target import Target
from tapegpt.models import named
from tapegpt.models.trained import initialise

STRINGS = ["anna", "otto", "bob", "ada", "nora", "tabatha", "bo"]
SHAPES: dict[str, dict[str, Any]] = {"gpt": {"n_head": 2}, "modern": {"n_head": 2}, "mlp": {"context": 3}}
ROOM = 20
HOSTILE = sorted(["'\"\\`${", "</script>", "<!--", "\0", "\u2028", "\u202e", "👩‍👩‍👧", "é"])


@cache
def trained(engine: Any = "exact", name: str = "gpt", **shape: Any) -> GPT:
    """A small model of names."""
    options = {"block_size": 6, **({} if name == "bigram" else {"n_embd": 8}), **SHAPES.get(name, {}), **shape}
    return tapegpt.train(STRINGS, model=named(name), engine=engine, steps=30, learning_rate=0.03, **options)


def untrained(tokens: list[str], config: Model | None = None, parameters: Parameters | None = None) -> GPT:
    """A model of any tokens, which needs no compiling; its parameters are random ones if none are given."""
    config, rng = config or Config(n_embd=4, n_head=1), Random(0)
    vocabulary = Vocabulary(tuple(tokens), r"\S+" if max(map(len, tokens)) > 1 else "characters")
    engine = ReferenceEngine(config, vocabulary.size)
    if parameters is None:
        initialise(engine, config, vocabulary.size, rng)
    else:
        engine.load_parameters(parameters)
    return GPT(config, vocabulary, rng, engine)


def words_of(number: int) -> array[int]:
    """A seed as the kernel takes it."""
    size = max(-(-number.bit_length() // 32), 1)
    return array("I", abs(number).to_bytes(4 * size, "little"))


class Exported:
    """The entries of an export, called."""

    def __init__(self, model: GPT, target: Target | None = None) -> None:
        self.about = portable(model, target or host_target(), ROOM, ROOM + 1)
        self._program, self._memory = Program(self.about.entries, target), Memory(self.about.size)
        self._memory.at(0).view[: len(self.about.parameters)] = self.about.parameters
        self._vocab_size = model.vocab_size
        self._run("prepare")

    def _run(self, name: str, *arguments: float) -> None:
        self._program.run(name, self._memory.at(0), *arguments)

    def _put(self, name: str, numbers: array[int]) -> None:
        self._memory.words(self.about.places[name], len(numbers))[:] = numbers

    def seed(self, number: int) -> list[int]:
        """The state of its generator."""
        words = words_of(number)
        self._put("key", words)
        self._run("seed", len(words))
        return self._memory.words(self.about.places["random"], 625).tolist()

    def generate(self, given: list[int], longest: int, temperature: float) -> list[int]:
        """The next string."""
        self._put("ids", array("I", given))
        self._run("generate", len(given), longest, temperature)
        length = self._memory.at(self.about.places["length"]).view[:8].cast("q")[0]
        return self._memory.words(self.about.places["ids"], length).tolist()

    def read(self, ids: list[int]) -> tuple[list[float], list[list[float]]]:
        """-log p of each token and of the end, and the rows of probabilities."""
        self._put("ids", array("I", ids))
        apart, count = self._vocab_size, len(ids) + 1
        self._run("read", len(ids), apart)
        numbers = [*self._memory.floats(self.about.places["rows"], count * apart)]
        rows = [numbers[start : start + apart] for start in range(0, len(numbers), apart)]
        return [*self._memory.floats(self.about.places["surprises"], count)], rows
