"""A trained model as kernels that work on one block of memory, so that they can be written down in any language.

Every kind of file is these entries, the parameters, the vocabulary, and a few lines that make tokens of text and call:

    prepare(memory)                               once, when the parameters are at the start of the memory
    seed(memory, words)                           by a number of so many u32 at `key`, see `mersenne.seed`
    generate(memory, given, longest, temperature) the next string, whose first tokens are given at `ids`: all of them
                                                  there, at most `longest`, and how many as an i64 at `length`
    read(memory, count, apart)                    of the string of so many tokens at `ids`: -log p of each and of its
                                                  end, f64 at `surprises`, and the probability of every token behind
                                                  none, one, ... of them: rows of f64 at `rows`, so many f64 `apart`;
                                                  where that is 0 only the last row stays

A string is its tokens without BOS. Strings are those of the model's own engine, from the numbers of the same seed: in
f64, drawn by MT19937, or of the engine fast in f32, drawn from a stream each; they are read in the same arithmetic, and
where they are longer than the block in the windows of `data/windows.py`. Not here: constraints, languages.
"""

from __future__ import annotations

from tapegpt.autograd.operations.base import padded, row_stride
from tapegpt.autograd.operations.functions import log, power
from tapegpt.autograd.operations.rows import exponentiate, fast_exponentiate
from tapegpt.autograd.packing import Rows
from tapegpt.data.mersenne import WORDS, seed, word
from tapegpt.data.rng import GOLDEN
from tapegpt.data.windows import overlap
from tapegpt.engines import exact_kernels
from tapegpt.engines.compiled import Generation
from tapegpt.engines.decoding import Decoding
from tapegpt.engines.fast import generation as fast_kernels
from tapegpt.engines.graph import Graph, exact_graph
from tapegpt.errors import TapeGPTError
from tapegpt.inference.language_model import MODEL
from tapegpt.machine.language import F32, F64, I64, U32, Builder, F64s, Int, Kernel, Operand, Pointer, Real, Type, Value
from tapegpt.machine.memory import Memory
from tapegpt.models.gpt import Config
from tapegpt.record import Record
from tapegpt.text import amount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tapegpt.data.vocabulary import Vocabulary
    from tapegpt.machine.program import Entries
    from tapegpt.machine.target import Target
    from tapegpt.models.trained import GPT

KEY = 64  # words of a seed, at most
ALIGNED = 64  # bytes: each region begins at a multiple of them
ROOM = 1024  # tokens of a string, at most, or a block
TRIES = 10_000  # strings, one after the other, that have other labels than they should


class Portable(Record):
    """A model for other languages."""

    entries: Entries
    regions: Regions
    parameters: bytes
    vocabulary: Vocabulary
    block_size: int
    room: int  # tokens of a string, at most
    engine: str  # exact or fast

    @property
    def size(self) -> int:
        """Bytes of the memory."""
        return self.regions.size

    @property
    def places(self) -> dict[str, int]:
        """Where each region begins, in bytes."""
        return self.regions.places


def portable(model: GPT, target: Target, room: int = ROOM, rows: int = 1) -> Portable:
    """A model as it is now; strings have room for so many tokens, at least a block, and `read` for so many rows.

    Raises `TapeGPTError` for an ensemble.
    """
    MODEL.check("model", model)
    if model.models:
        raise TapeGPTError("an ensemble cannot be exported: export each of its models")
    vocab_size, block, engine = model.vocab_size, model.config.block_size, model.engine.name
    own: _Arithmetic = (_Fast if engine == "fast" else _Exact)(model, target)
    room, regions = max(room, block), Regions()
    for name, kind, count in (
        ("shared", own.real, own.shared),
        ("work", own.real, own.work),
        ("weights", own.real, padded(vocab_size)),
        ("key", U32, KEY),
        ("random", U32, WORDS + 1),
        ("ids", U32, room),
        ("length", I64, 1),
        ("surprises", F64, room + 1),
        ("rows", F64, rows * vocab_size),
    ):
        regions.add(name, kind, count)
    return Portable(
        {name: (kernel, {}) for name, kernel in _kernels(own, regions.at, vocab_size, block).items()},
        regions,
        own.parameters,
        model.vocabulary,
        block,
        room,
        own.engine,
    )


def name_of(model: GPT) -> str:
    """What a model is called where nothing else is known of it."""
    return f"A {'GPT' if type(model.config) is Config else 'model'} of {amount(model.num_parameters, 'parameter')}"


def template(name: str) -> str:
    """The text of a file of this folder."""
    from importlib.resources import files

    return files(__package__).joinpath(name).read_text("utf-8")


def fill(name: str, /, **values: object) -> bytes:
    """A template with each `@name@` in it replaced by a value; what is not ASCII is an escape."""
    import re

    text = re.sub(r"@(\w+)@", lambda found: str(values[found[1]]), template(name))
    return text.encode("ascii", "backslashreplace")


class Regions:
    """The regions of a memory, one after the other."""

    def __init__(self) -> None:
        self.size, self.places, self._types = 0, dict[str, int](), dict[str, Type]()

    def add(self, name: str, kind: Type, count: int) -> None:
        """A region of so many numbers."""
        self.places[name], self._types[name] = self.size, kind
        self.size += -(-count * kind.size // ALIGNED) * ALIGNED

    def at(self, memory: Pointer, *names: str) -> list[Pointer]:
        """Where some begin."""
        return [(memory + self.places[name] // F64.size).cast(self._types[name]) for name in names]


def _kernels(own: _Arithmetic, at: Callable[..., list[Pointer]], vocab_size: int, block: int) -> dict[str, Kernel]:
    bos, again = vocab_size - 1, overlap(block)

    def prepare(k: Builder, memory: F64s) -> None:
        own.prepare(k, *at(memory, "shared", "work"))

    def start(k: Builder, memory: F64s, words: Int) -> None:
        seed(k, *at(memory, "random", "key"), words)

    def generate(k: Builder, memory: F64s, given: Int, longest: Int, temperature: Real) -> None:
        ids, length = at(memory, "ids", "length")
        strings = {"ids": ids, "lengths": length, "count": k.integer(1), "room": longest, "given": given}
        memory_of = at(memory, "shared", "work", "weights", "random")
        length[0] = given
        for _ in k.when(given < longest):  # the engines draw at least one token
            own.generate(k, *memory_of, strings=strings, temperature=temperature)

    def read(k: Builder, memory: F64s, count: Int, apart: Int) -> None:
        shared, work, weights, ids, surprises, rows = at(
            memory, "shared", "work", "weights", "ids", "surprises", "rows"
        )
        t, begin = k.variable(k.integer(0)), k.variable(k.integer(0))  # the position, and the token that is at 0
        token, following = k.variable(k.integer(bos)), k.variable(k.integer(bos))
        for number in k.range(count + 1):
            for _ in k.when(t.equals(block)):
                begin += block - again
                for position in k.range(again):
                    own.logits(k, shared, work, position, ids[begin + position - 1])
                t.set(again)
            following.set(k.integer(bos))
            for _ in k.when(number < count):
                following.set(ids[number])
            logits = own.logits(k, shared, work, t, token)
            surprises[number] = own.probabilities(k, logits, weights, rows + number * apart, following)
            token.set(following)
            t += 1

    bodies: dict[str, Callable[..., None]] = {"prepare": prepare, "seed": start, "generate": generate, "read": read}
    return {name: Kernel(body, name, own.real) for name, body in bodies.items()}


class _Exact:
    """The arithmetic of microgpt.py.

    `prepare` is what follows from parameters alone; `generate` takes memory for shared, work, weights and random;
    `logits` are those behind a token at position t; `probabilities` of all tokens are written to a row, and give -log p
    of one.
    """

    engine, real = "exact", F64

    def __init__(self, model: GPT, target: Target) -> None:
        graph = exact_graph(model.config, model.vocab_size, target)
        self._layout, extents = graph.layout(), graph.tape.plan()
        self.shared, self.work = extents.shared, extents.work
        self._graph, self._forward = graph, graph.tape.forward_kernel(graph.logits)
        self.parameters = parameter_bytes(graph, model)

    def prepare(self, k: Builder, shared: Pointer, work: Pointer) -> None:
        self._graph.prepare(k, shared)

    def generate(self, k: Builder, *memory: Pointer, strings: dict[str, Any], temperature: Operand) -> None:
        exact_kernels.generation_kernel(self._graph)(k, *memory, Generation(**strings), temperature)

    def logits(self, k: Builder, shared: Pointer, work: Pointer, t: Operand, token: Operand) -> Pointer:
        layout, t = self._layout, k.value(t)
        Rows(work, layout.about).tell(t, {"tokens": token, "positions": t, "noise": 0})
        self._forward(k, shared, work, t, t + 1)
        return work + layout.logits + t * row_stride(layout.vocab_size)

    def probabilities(self, k: Builder, logits: Pointer, weights: Pointer, row: Pointer, token: Operand) -> Value:
        count = self._layout.vocab_size
        scale = power(k, exponentiate(k, logits, weights, count), -1.0)
        for i in k.range(count):
            row[i] = weights[i] * scale
        return -log(k, row[token])


class _Fast:
    """The arithmetic of the engine fast, as `_Exact` has it."""

    engine, real = "fast", F32

    def __init__(self, model: GPT, target: Target) -> None:
        self._decoding = decoding = Decoding(model.config, model.vocab_size, target, lines=1, has_tables=False)
        self._layout, self.shared = decoding.layout, decoding.shared
        self._rows, self._stream = decoding.work, decoding.work + 4  # behind it what generation has to know of a row
        self.work = self._stream + 4
        self.parameters = parameter_bytes(decoding.graph, model)

    def prepare(self, k: Builder, shared: Pointer, work: Pointer) -> None:
        self._decoding.prepare(k, shared, work)

    def generate(self, k: Builder, *memory: Pointer, strings: dict[str, Any], temperature: Operand) -> None:
        shared, work, _, random = memory
        rows, stream = ((work + offset).cast(I64) for offset in (self._rows, self._stream))
        upper = word(k, random)
        stream[0], stream[1] = (upper << 32) | word(k, random), GOLDEN - (1 << 64)
        generation = fast_kernels.BatchGeneration(rows=rows, streams=stream, **strings)
        fast_kernels.generation_kernel(self._decoding)(k, shared, work, generation, temperature)

    def logits(self, k: Builder, shared: Pointer, work: Pointer, t: Operand, token: Operand) -> Pointer:
        layout = self._layout
        Rows(work, layout.about).tell(k.integer(0), {"tokens": token, "positions": t, "lines": 0})
        self._decoding.forward(k, shared, work, k.integer(0), k.integer(1))
        return work + layout.logits

    def probabilities(self, k: Builder, logits: Pointer, weights: Pointer, row: Pointer, token: Operand) -> Value:
        count = self._layout.vocab_size
        total, largest = fast_exponentiate(k, logits, weights, count)
        for i in k.range(count):
            row[i] = k.convert(weights[i] / total, F64)
        return k.convert(largest - logits[token] + log(k, total), F64)


_Arithmetic = _Exact | _Fast


def parameter_bytes(graph: Graph, model: GPT) -> bytes:
    """The parameters as they lie in memory."""
    memory = Memory(graph.places.size * graph.tape.parameter_extent(fixed=True))
    graph.places.write(memory, model.parameters)
    return bytes(memory.at(0).view)
