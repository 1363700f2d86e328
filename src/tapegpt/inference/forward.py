"""A model that is only read: how surprising strings are, what comes next, strings within constraints.

In f32 whatever engine the model is of: logs are within 2e-6 of the exact engine's, as a share of the largest. Any
number of threads may use one `Inference` at once. Not here: training, text, what makes the rules (`automata.py`).
"""

from __future__ import annotations

import math
from array import array

from tapegpt.autograd.operations.base import padded, row_stride
from tapegpt.data.tokens import Strings
from tapegpt.data.windows import Windows, window_start
from tapegpt.engines.compiled import Generation
from tapegpt.engines.decoding import Decoding
from tapegpt.engines.graph import SLOTS, fast_graph
from tapegpt.errors import TapeGPTError
from tapegpt.inference.drawing import Narrowing, drawing_kernel
from tapegpt.inference.reading import Order, Passages, Reader, next_kernel, rank, scoring_kernel
from tapegpt.machine.memory import Memory, address_of
from tapegpt.machine.program import Program
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tapegpt.autograd.model import Model
    from tapegpt.data.tokens import Tokens
    from tapegpt.engines.base import Parameters
    from tapegpt.inference.constraints import Drawing
    from tapegpt.machine.memory import Address
    from tapegpt.machine.program import Argument, Entries
    from tapegpt.machine.target import Target


class Rules(Record):
    """Which tokens may follow: an automaton over classes of characters, and the characters of a string.

    After t characters, in state s, the string may end where accepting[s] and t >= least, and continue with a character
    where t < most and viable[(t + 1) * states + its next state]. At the start, and after what is allowed, something is.
    """

    classes: array[int]  # "I" (V - 1): of each character
    count: int  # classes
    table: array[int]  # "I" (states, count): the next state; 0 is a dead end
    start: int
    accepting: bytes | bytearray  # (states)
    ahead: array[float]  # "f" (most + 1, states), that of state 0 is `FORBIDDEN`
    least: int
    most: int

    def arguments(self) -> dict[str, Argument]:
        """They as a kernel's `Automaton`."""
        return {
            "classes": address_of(self.classes),
            "table": address_of(self.table),
            "accepting": address_of(array("I", bytes(self.accepting) + bytes(-len(self.accepting) % 4))),
            "ahead": address_of(self.ahead),
            "prospects": address_of(array("f", bytes(4 * self.count))),
            "kinds": self.count,
            "states": len(self.accepting),
            "start": self.start,
            "least": self.least,
            "most": self.most,
        }


class Drawn(Record):
    """Strings, and for each the log of the probability of the choices that the rules left, token by token.

    Where nothing else narrows the choice, the mean of exp(log_weight) is the probability that a string drawn without
    the rules keeps to them. At temperature 0 the logs mean nothing.
    """

    strings: Strings
    log_weights: array[float]  # "d"
    doubts: array[int]  # "I": 1 where a random number was within the margin of where it draws another token


class Inference:
    """The forward pass of a model with these parameters, as they are now."""

    def __init__(self, config: Model, vocab_size: int, parameters: Parameters, target: Target | None = None) -> None:
        self.config, self.vocab_size = config, vocab_size
        decoding = Decoding(config, vocab_size, target)
        reader = Reader(decoding, decoding.work)
        self._work = decoding.work + max(reader.size, padded(vocab_size))
        entries: Entries = {
            "prepare": (decoding.prepare, {}),
            "score": (scoring_kernel(reader), {}),
            "next": (next_kernel(reader), {}),
            "draw": (drawing_kernel(decoding, decoding.work), {}),
            rank.name: (rank, {}),
        }
        self._program = Program(entries, target)
        self.notice, self.compile_seconds = self._program.notice, self._program.compile_seconds
        shared = Memory(4 * decoding.shared)
        decoding.graph.places.write(shared, parameters)
        self._memory, self._parameters = shared, shared.at(0)
        self._free: list[Address] = []  # work memories that no call has in use
        self._run("prepare")

    def __reduce__(self) -> tuple[type, tuple[Model, int, Parameters]]:
        places = fast_graph(self.config, self.vocab_size).places
        return Inference, (self.config, self.vocab_size, places.read(self._memory))

    def _run(self, name: str, *arguments: Argument | Mapping[str, Argument]) -> None:
        """Call an entry with a work memory of its own."""
        try:
            work = self._free.pop()
        except IndexError:
            work = Memory(4 * self._work).at(0)
        self._program.run(name, self._parameters, work, *arguments)
        self._free.append(work)

    @property
    def work(self) -> int:
        """The parameters that each position meets, of sparse ones only a few rows."""
        return sum(each.size for each in self.config.parameters(self.vocab_size) if each.is_dense)

    def surprises(self, tokens: Tokens) -> array[float]:
        """-log p of every token after the first, in nats, in the order of ids: number i belongs to ids[i + 1].

        Documents longer than the block are read as they would be generated (`data/windows.py`).
        """
        return self._score(tokens)[0]

    def totals(self, tokens: Tokens) -> array[float]:
        """The sum of these of each document."""
        return self._score(tokens)[1]

    def means(self, tokens: Tokens) -> array[float]:
        """The mean of these of each document."""
        return self._score(tokens)[2]

    def _score(self, tokens: Tokens) -> tuple[array[float], array[float], array[float]]:
        windows = Windows.of(tokens, self.config.block_size)
        surprises = array("f", bytes(4 * (len(tokens.ids) - 1)))
        totals, means = (array("d", bytes(8 * len(windows))) for _ in range(2))
        results = map(address_of, (surprises, totals, means))
        self._read("score", windows, *results)
        _check(math.isfinite(sum(totals)))
        if windows.several:
            more = sums(surprises, [(tokens.starts[place], tokens.starts[place + 1]) for place, _ in windows.several])
            totals, means = map(windows.documents, (totals, means), more)
        return surprises, totals, means

    def _read(self, name: str, windows: Windows, *results: Address) -> None:
        room = array("I", bytes(4 * Order.size(len(windows))))
        self._run(name, Passages.arguments(windows), address_of(room), *results, len(windows))

    def ranks(self, means: array[float], rising: array[float]) -> array[int]:
        """How many of some rising numbers are no larger than each mean."""
        ranks = array("I", bytes(4 * len(means)))
        counted = (address_of(means), len(means), address_of(rising), len(rising))
        self._program.run(rank.name, *counted, address_of(ranks))
        return ranks

    def next_logs(self, prefixes: list[list[int]]) -> list[array[float]]:
        """log p of each token after each prefix, which follows BOS."""
        bos, ids, starts = self.vocab_size - 1, array("I"), array("q", [0])
        for prefix in prefixes:
            ids.fromlist([bos, *prefix][window_start(len(prefix), self.config.block_size) :])
            starts.append(len(ids))
        ids.append(bos)
        apart = row_stride(self.vocab_size)
        logs = array("f", bytes(4 * apart * len(prefixes)))
        self._read("next", Windows(ids, starts, starts), address_of(logs))
        _check(math.isfinite(sum(logs)))
        return [logs[start : start + self.vocab_size] for start in range(0, len(logs), apart)]

    def draw(self, streams: array[int], drawing: Drawing, rules: Rules, margin: float = 0.0) -> Drawn:
        """A string of tokens that keeps to the rules for each of `Random.streams`, on which alone it depends.

        Logits are divided by the temperature, 0 is for the most probable token, of equals the lowest. What the rules
        allow is narrowed to the `top_k` most probable tokens, these to the most probable ones that together have the
        share `top_p`, these to what has at least `min_p` of the most probable one's probability; equals stay together.
        A string that fills the block, and has as many tokens as the rules allow, is cut there.
        """
        assert rules.count <= self.vocab_size
        strings = Strings.empty(len(streams) // 2, max(rules.most, self.config.block_size))
        log_weights, rows = array("d", bytes(8 * len(strings))), array("q", bytes(24 * SLOTS))
        doubts = array("I", bytes(4 * len(strings)))
        narrowing = {name: getattr(drawing, name) for name in Narrowing.fields}
        generation = {"rows": address_of(rows), "streams": address_of(streams), **Generation.arguments(strings)}
        results = (address_of(log_weights), address_of(doubts))
        self._run("draw", generation, *results, margin, rules.arguments(), narrowing)
        _check(not math.isnan(sum(log_weights)))
        return Drawn(strings, log_weights, doubts)


def sums(surprises: array[float], documents: Iterable[tuple[int, int]]) -> tuple[array[float], array[float]]:
    """The sum and the mean of each document's, from its first to before the next one's."""
    totals, means = array("d"), array("d")
    for first, last in documents:
        totals.append(math.fsum(surprises[first:last]))
        means.append(totals[-1] / (last - first))
    return totals, means


def _check(are_numbers: bool) -> None:
    if not are_numbers:
        raise TapeGPTError("the model's numbers overflow on these strings: train it again at a smaller learning rate")
