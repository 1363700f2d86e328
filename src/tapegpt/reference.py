"""The reference engine: scalar autograd and the GPT over it in plain Python, as microgpt.py does it. The oracle.

Every number is a `Value`; `backward` walks the graph in reverse depth-first post-order. Independent of the other
engine and never optimised: what it computes is right by definition. Not here: speed (about 0.2 s a step).
Source: Andrej Karpathy's microgpt.py, whose arithmetic this follows operation by operation.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from itertools import repeat

from tapegpt.engine import Engine, Moments, Strings
from tapegpt.errors import DivergedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tapegpt.config import Config
    from tapegpt.engine import Adam, Parameters, Snapshot, Tokens
    from tapegpt.rng import Random

Matrix = list[list["Value"]]  # (out, in)
Vector = list["Value"]
Stages = dict[str, Vector]  # what a position goes through, by name, in its order


class Value:
    """A number of the graph: its data, its gradient, and the local gradients with respect to its children."""

    __slots__ = ("children", "data", "grad", "local_grads")

    def __init__(self, data: float, children: tuple[Value, ...] = (), local_grads: tuple[float, ...] = ()) -> None:
        self.data = data
        self.grad = 0.0
        self.children = children
        self.local_grads = local_grads

    def __add__(self, other: Value | float) -> Value:
        other = other if isinstance(other, Value) else Value(other)
        return Value(self.data + other.data, (self, other), (1, 1))

    def __mul__(self, other: Value | float) -> Value:
        other = other if isinstance(other, Value) else Value(other)
        return Value(self.data * other.data, (self, other), (other.data, self.data))

    def __pow__(self, exponent: float) -> Value:
        return Value(self.data**exponent, (self,), (exponent * self.data ** (exponent - 1),))

    def log(self) -> Value:
        """Natural logarithm."""
        return Value(math.log(self.data), (self,), (1 / self.data,))

    def exp(self) -> Value:
        """e to this power."""
        return Value(math.exp(self.data), (self,), (math.exp(self.data),))

    def relu(self) -> Value:
        """This number where it is positive, else zero."""
        return Value(max(0.0, self.data), (self,), (float(self.data > 0),))

    def __neg__(self) -> Value:
        return self * -1

    def __radd__(self, other: float) -> Value:
        return self + other

    def __sub__(self, other: Value | float) -> Value:
        return self + (-other)

    def __rsub__(self, other: float) -> Value:
        return -self + other

    def __rmul__(self, other: float) -> Value:
        return self * other

    def __truediv__(self, other: Value | float) -> Value:
        return self * other**-1

    def __rtruediv__(self, other: float) -> Value:
        return self**-1 * other

    def __repr__(self) -> str:
        return f"Value(data={self.data}, grad={self.grad})"

    def backward(self) -> None:
        """Add to the gradient of every number that this one depends on."""
        order: list[Value] = []
        visited: set[Value] = set()
        stack = [(self, False)]  # explicit, so that no graph is too deep
        while stack:
            value, expanded = stack.pop()
            if expanded:
                order.append(value)
            elif value not in visited:
                visited.add(value)
                stack.append((value, True))
                stack.extend((child, False) for child in reversed(value.children))
        self.grad = 1.0
        for value in reversed(order):
            for child, local_grad in zip(value.children, value.local_grads, strict=True):
                child.grad += local_grad * value.grad


def linear(x: Vector, w: Matrix) -> Vector:
    """w x."""
    return [total(wi * xi for wi, xi in zip(row, x, strict=True)) for row in w]


def softmax(logits: Vector) -> Vector:
    """Probabilities."""
    largest = max(value.data for value in logits)
    exps = [(value - largest).exp() for value in logits]
    denominator = total(exps)
    return [e / denominator for e in exps]


def rmsnorm(x: Vector) -> Vector:
    """x over its root mean square."""
    mean_square = total(xi * xi for xi in x) / len(x)
    scale = (mean_square + 1e-5) ** -0.5
    return [xi * scale for xi in x]


def total(values: Iterable[Value]) -> Value:
    """Python's `sum`: from 0 on and in order."""
    numbers = iter(values)
    result = 0 + next(numbers)
    for value in numbers:
        result = result + value
    return result


class ReferenceEngine(Engine):
    """Trains and samples one model number by number (see `engine.Engine`)."""

    name = "reference"
    notice = ""

    def __init__(self, config: Config, vocab_size: int) -> None:
        super().__init__()
        self.config, self.vocab_size = config, vocab_size
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
        self._become(self._ordered(parameters), *moments, self.steps)

    def _ordered(self, numbers: Parameters) -> list[float]:
        return [number for name in self._state for number in numbers[name]]

    def _become(self, numbers: list[float], m: list[float], v: list[float], steps: int) -> None:
        """Take these parameters and moments all together: in the last line, which Ctrl-C does not cut."""
        moves = map(setattr, self._values, repeat("data"), numbers)
        (self._m, self._v), self._taken[0] = (m, v), steps
        deque(moves, 0)

    def _restore(self, snapshot: Snapshot) -> None:
        assert isinstance(snapshot, dict)
        self._become(self._ordered(snapshot), self._m, self._v, self.steps)

    def parameters_in(self, snapshot: Snapshot) -> Parameters:
        assert isinstance(snapshot, dict)
        return snapshot

    def _copied_moments(self) -> Moments:
        return Moments(self._named(self._m), self._named(self._v))

    def _named(self, numbers: list[float]) -> Parameters:
        """Numbers in the order of the parameters, by name."""
        result, start = {}, 0
        for name, matrix in self._state.items():
            stop = start + len(matrix) * len(matrix[0])
            result[name] = array("d", numbers[start:stop])
            start = stop
        return result

    def _load_moments(self, moments: Moments) -> None:
        self._m, self._v = self._ordered(moments.mean), self._ordered(moments.square)

    def gpt(
        self, token: int, position: int, keys: list[Matrix], values: list[Matrix], stages: Stages | None = None
    ) -> Vector:
        """Logits of the next token; `keys` and `values` of each layer grow by this position's, `stages` by all."""
        state, head_dim = self._state, self.config.head_dim
        stages = {} if stages is None else stages
        x = stages["embedding"] = [t + p for t, p in zip(state["wte"][token], state["wpe"][position], strict=True)]
        x = stages["embedding_norm"] = rmsnorm(x)
        for layer in range(self.config.n_layer):
            name = f"layer{layer}"
            residual = x
            x = stages[f"{name}.attn_norm"] = rmsnorm(x)
            q = stages[f"{name}.attn_wq"] = linear(x, state[f"{name}.attn_wq"])
            k = stages[f"{name}.attn_wk"] = linear(x, state[f"{name}.attn_wk"])
            v = stages[f"{name}.attn_wv"] = linear(x, state[f"{name}.attn_wv"])
            keys[layer].append(k)
            values[layer].append(v)
            all_logits: Vector = stages.setdefault(f"{name}.attn_logits", [])
            all_weights: Vector = stages.setdefault(f"{name}.attn_weights", [])
            attended: Vector = stages.setdefault(f"{name}.attention", [])
            for start in range(0, self.config.n_embd, head_dim):
                columns = range(start, start + head_dim)
                logits = [total(q[j] * key[j] for j in columns) / head_dim**0.5 for key in keys[layer]]
                weights = softmax(logits)
                pairs = list(zip(weights, values[layer], strict=True))
                attended += [total(weight * value[j] for weight, value in pairs) for j in columns]
                all_logits += logits
                all_weights += weights
            x = stages[f"{name}.attn_wo"] = linear(attended, state[f"{name}.attn_wo"])
            residual = x = stages[f"{name}.attn_residual"] = [a + b for a, b in zip(x, residual, strict=True)]
            x = stages[f"{name}.mlp_norm"] = rmsnorm(x)
            x = stages[f"{name}.mlp_fc1"] = linear(x, state[f"{name}.mlp_fc1"])
            x = stages[f"{name}.mlp_relu"] = [xi.relu() for xi in x]
            x = stages[f"{name}.mlp_fc2"] = linear(x, state[f"{name}.mlp_fc2"])
            x = stages[f"{name}.mlp_residual"] = [a + b for a, b in zip(x, residual, strict=True)]
        stages["logits"] = linear(x, state["lm_head"])
        return stages["logits"]

    def _cache(self) -> tuple[list[Matrix], list[Matrix]]:
        return [[] for _ in range(self.config.n_layer)], [[] for _ in range(self.config.n_layer)]

    def loss(self, document: Sequence[int], trail: list[Stages] | None = None) -> Value:
        """Mean cross entropy of a document with the BOS before and after it, cut to the block.

        `trail` grows by the stages of each position.
        """
        n = min(self.config.block_size, len(document) - 1)
        keys, values = self._cache()
        losses = []
        for position in range(n):
            stages: Stages = {}
            probabilities = softmax(self.gpt(document[position], position, keys, values, stages))
            losses.append(-probabilities[document[position + 1]].log())
            if trail is not None:
                trail.append({**stages, "probability": probabilities, "surprise": losses[-1:]})
        return (1 / n) * total(losses)

    def _train(self, tokens: Tokens, adam: Adam, first: int, count: int, progress: float | None) -> list[float]:
        assert (tokens.order, progress) == (None, None), "documents and schedule are microgpt.py's"
        losses: list[float] = []
        for step in range(first, first + count):
            document = self._document(tokens, step % len(tokens))
            try:
                loss = self.loss(document)
                if not math.isfinite(loss.data):
                    raise ValueError("not finite")
                loss.backward()
                if not all(math.isfinite(value.grad**2) for value in self._values):
                    raise ValueError("not finite")
                updated = self._updated(adam, step)
            except (ArithmeticError, ValueError) as error:
                raise DivergedError(step, losses) from error
            finally:
                for value in self._values:
                    value.grad = 0.0
            self._become(*updated, step + 1)
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

    def _updated(self, adam: Adam, step: int) -> tuple[list[float], list[float], list[float]]:
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

    def _generate(self, rng: Random, count: int, temperature: float) -> Strings:
        block = self.config.block_size
        ids, lengths = array("I", bytes(4 * count * block)), array("q")
        for number in range(count):
            sample = array("I", self._sample(rng, temperature))
            ids[number * block : number * block + len(sample)] = sample
            lengths.append(len(sample))
        return Strings(ids, lengths)

    def _sample(self, rng: Random, temperature: float) -> list[int]:
        bos = self.vocab_size - 1
        keys, values = self._cache()
        sample, token = [], bos
        for position in range(self.config.block_size):
            logits = self.gpt(token, position, keys, values)
            probabilities = softmax([logit / temperature for logit in logits])
            token = rng.choices(range(self.vocab_size), weights=[p.data for p in probabilities])[0]
            if token == bos:
                break
            sample.append(token)
        return sample
