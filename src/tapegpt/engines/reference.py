"""The reference engine: a model's operations in scalars, and Adam in plain Python, as microgpt.py does it. The oracle.

Every number is a `Value`. Independent of machine code and never optimised: what it computes is right by definition.
Gradients go back operation by operation, in the order of the exact engine's tape, and within an operation in the
reverse depth-first post-order of its scalars; of the GPT that is the order of microgpt.py's one graph. Not here: speed
(about 0.2 s a step), what each operation is (`Operation.reference`).
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from itertools import repeat

from tapegpt.autograd.value import Matrix, Value, softmax, walk_back
from tapegpt.data.tokens import Strings, Tokens
from tapegpt.data.windows import window_start
from tapegpt.engines.base import Adam, Engine, Moments, Parameters, Snapshot
from tapegpt.engines.graph import exact_graph
from tapegpt.errors import DivergedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from tapegpt.autograd.model import Model
    from tapegpt.autograd.node import Node
    from tapegpt.data.rng import Random


class ReferenceEngine(Engine):
    """Trains and samples one model number by number (see `base.Engine`)."""

    name = "reference"
    notice = ""

    def __init__(self, config: Model, vocab_size: int) -> None:
        super().__init__()
        self.config, self.vocab_size = config, vocab_size
        self._recorded = config.record(vocab_size)
        self._graph = exact_graph(config, vocab_size)
        self._state: dict[str, Matrix] = {
            name: [[Value(0.0) for _ in range(columns)] for _ in range(rows)]
            for name, (rows, columns) in config.shapes(vocab_size).items()
        }
        self._values = [value for matrix in self._state.values() for row in matrix for value in row]
        self._m, self._v = [0.0] * len(self._values), [0.0] * len(self._values)

    def _parameters(self) -> Parameters:
        return {name: array("d", [v.data for row in matrix for v in row]) for name, matrix in self._state.items()}

    _snapshot = _parameters

    def _load_parameters(self, parameters: Parameters) -> None:
        moments = [0.0] * len(self._values), [0.0] * len(self._values)
        self._set_state(self._flatten(parameters), *moments, self.steps)

    def _flatten(self, numbers: Parameters) -> list[float]:
        return [number for name in self._state for number in numbers[name]]

    def _set_state(self, numbers: list[float], m: list[float], v: list[float], steps: int) -> None:
        """Take these parameters and moments all together: in the last line, which Ctrl-C does not cut."""
        moves = map(setattr, self._values, repeat("data"), numbers)
        (self._m, self._v), self._taken[0] = (m, v), steps
        deque(moves, 0)

    def _restore(self, snapshot: Snapshot) -> None:
        assert isinstance(snapshot, dict)
        self._set_state(self._flatten(snapshot), self._m, self._v, self.steps)

    def parameters_in(self, snapshot: Snapshot) -> Parameters:
        assert isinstance(snapshot, dict)
        return snapshot

    def _copy_moments(self) -> Moments:
        return Moments(self._unflatten(self._m), self._unflatten(self._v))

    def _unflatten(self, numbers: list[float]) -> Parameters:
        """Numbers in the order of the parameters, by name."""
        result, start = {}, 0
        for name, matrix in self._state.items():
            stop = start + len(matrix) * len(matrix[0])
            result[name] = array("d", numbers[start:stop])
            start = stop
        return result

    def _load_moments(self, moments: Moments) -> None:
        self._m, self._v = self._flatten(moments.mean), self._flatten(moments.square)

    def logits(self, document: Sequence[int]) -> Matrix:
        """Of the next token at each position of a document but the last; all rows on the way are kept, see `rows`."""
        self._run(self._recorded.logits, document)
        return self.rows[self._recorded.logits]

    def loss(self, document: Sequence[int], noise: int = 0) -> Value:
        """Mean cross entropy of a document with the BOS before and after it, cut to the block; as `logits`.

        `noise` is its number among the examples of a training, from 1 on.
        """
        self._run(self._recorded.loss, document[: self.config.block_size + 1], noise)
        return self.rows[self._recorded.loss][0][0]

    def _run(self, output: Node, document: Sequence[int], noise: int = 0) -> None:
        n = len(document) - 1
        ids = {"tokens": document[:n], "targets": document[1:], "positions": range(n), "noise": [noise] * n}
        self.rows: dict[Node, Matrix] = {}  # by recorded node
        self.inner: dict[Node, dict[str, Matrix]] = {}  # numbers within an operation, by name
        for node in self._recorded.tape.order(output):
            if node.operation:
                inputs = [self.rows[each] for each in node.inputs]
                self.rows[node] = node.operation.reference(self.inner.setdefault(node, {}), *inputs)
            elif node.is_parameter:
                self.rows[node] = self._state[node.name]
            else:
                self.rows[node] = [[Value(number)] for number in ids[node.name]]

    def named(self) -> dict[str, tuple[Node, str]]:
        """All named results in the order of the last run: a node's own (node, ""), or rows within its operation."""
        found: dict[str, tuple[Node, str]] = {}
        for node, inner in self.inner.items():
            layer, dot, _ = node.name.rpartition(".")
            for name in inner:
                stage = f"{layer}{dot}{name}"
                found[f"{node.name}.{name}" if stage in found else stage] = (node, name)
            if node.name:
                found[node.name] = (node, "")
        return found

    def stages(self) -> dict[str, Matrix]:
        """The rows of all that `named` names."""
        return {
            stage: self.inner[node][name] if name else self.rows[node] for stage, (node, name) in self.named().items()
        }

    def backward(self) -> None:
        """Add to the gradient of every number that the last loss depends on."""
        rows, graph, nodes = self.rows, self._graph, self._recorded.tape.nodes
        rows[self._recorded.loss][0][0].grad = 1.0
        for made in reversed(graph.tape.order(graph.loss)):
            unit = [nodes[index] for index in graph.units.get(made.index, [])]
            ends = [x for node in unit for each in node.inputs if each not in unit for row in rows[each] for x in row]
            walk_back([x for node in unit[:1] for row in rows[node] for x in row], ends)

    def _train(self, tokens: Tokens, adam: Adam, first: int, count: int, progress: float | None) -> list[float]:
        assert (tokens.order, progress) == (None, None), "documents and schedule are microgpt.py's"
        losses: list[float] = []
        for step in range(first, first + count):
            document = self._document(tokens, step % len(tokens))
            try:
                loss = self.loss(document, step + 1)
                if not math.isfinite(loss.data):
                    raise ValueError("not finite")
                self.backward()
                if not all(math.isfinite(value.grad**2) for value in self._values):
                    raise ValueError("not finite")
                updated = self._take_step(adam, step)
            except (ArithmeticError, ValueError) as error:
                raise DivergedError(step, losses) from error
            finally:
                for value in self._values:
                    value.grad = 0.0
            self._set_state(*updated, step + 1)
            losses.append(loss.data)
        return losses

    def _document(self, tokens: Tokens, number: int) -> array[int]:
        return tokens.ids[tokens.starts[number] : tokens.starts[number + 1] + 1]

    def _evaluate(self, tokens: Tokens) -> tuple[float, int]:
        total, positions = 0.0, 0
        for number in range(len(tokens)):
            document = self._document(tokens, number)
            n = min(self.config.block_size, len(document) - 1)
            total += self.loss(document).data * n
            positions += n
        return total, positions

    def _take_step(self, adam: Adam, step: int) -> tuple[list[float], list[float], list[float]]:
        """The parameters after Adam's step, and its moments."""
        learning_rate = adam.learning_rate * (1 - step / adam.steps)
        updated, m, v = [], self._m[:], self._v[:]
        for i, p in enumerate(self._values):
            m[i] = adam.beta1 * m[i] + (1 - adam.beta1) * p.grad
            v[i] = adam.beta2 * v[i] + (1 - adam.beta2) * p.grad**2
            m_hat = m[i] / (1 - adam.beta1 ** (step + 1))
            v_hat = v[i] / (1 - adam.beta2 ** (step + 1))
            updated.append(p.data - learning_rate * m_hat / (v_hat**0.5 + adam.epsilon))
        return updated, m, v

    def _generate(self, rng: Random, count: int, temperature: float, max_length: int) -> Strings:
        strings = Strings.empty(count, max_length)
        for number in range(count):
            sample = array("I", self._sample(rng, temperature, max_length))
            strings.ids[number * max_length : number * max_length + len(sample)] = sample
            strings.lengths[number] = len(sample)
        return strings

    def _sample(self, rng: Random, temperature: float, max_length: int) -> list[int]:
        bos = self.vocab_size - 1
        read = [bos]
        for number in range(max_length):
            logits = self.logits([*read[window_start(number, self.config.block_size) :], bos])[-1]
            probabilities = softmax([logit / temperature for logit in logits])
            token = rng.choices(range(self.vocab_size), weights=[p.data for p in probabilities])[0]
            if token == bos:
                break
            read.append(token)
        return read[1:]
