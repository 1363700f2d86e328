"""What a model thinks of a text, place by place; and where any of its numbers comes from, number by number.

`explain` reads the probe, machine code for all models. `trace` reads the scalars of the reference engine, each of which
knows what it was made of. Not here: the arithmetic (`probe.py`, `reference.py`), what is printed (`cli/explain.py`).
"""

from __future__ import annotations

import math
from weakref import WeakKeyDictionary

from tapegpt.errors import TapeGPTError, is_whole, shown
from tapegpt.probe import Probe
from tapegpt.record import Record
from tapegpt.reference import ReferenceEngine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tapegpt.engine import Engine
    from tapegpt.model import GPT
    from tapegpt.reference import Stages, Value

OFF_PATH = ("attn_norm", "attn_wo", "mlp_norm", "mlp_relu", "mlp_fc2")  # their gradients say little or nothing new
OVERFLOW = "the model's numbers overflow on this text: train it again at a smaller learning rate"
MAX_PRODUCTS = 1_000_000  # of a text that is traced: more take minutes, and gigabytes
MAX_TRACED = 20_000  # numbers of a tree


# --- place by place ---------------------------------------------------------------------------------------------


class Explanation(Record):
    """How a model reads a text of T positions: BOS and the characters, cut to the block. Losses are in nats."""

    text: str  # what was read, cut to the block
    inputs: tuple[str, ...]  # (T) "" is BOS
    targets: tuple[str, ...]  # (T) what came next; "" is the end, which a text as long as the block has not
    probabilities: list[list[float]]  # (T, V) of each next token, in the order of the vocabulary, then the end
    surprises: list[float]  # (T) of what came
    attention: list[list[list[list[float]]]]  # [layer][head][t][s], s <= t: how much t looks at s
    gradients: list[tuple[str, list[float]]]  # from the loss back: a stage, and (T) the norm of d loss / d stage
    loss: float  # the mean surprise


_probes: WeakKeyDictionary[Engine, Probe] = WeakKeyDictionary()


def explain(model: GPT, text: str) -> Explanation:
    """Look into a model while it reads a text, in f64 whatever its engine is; any number of threads may.

    Raises `TapeGPTError` for anything but a str, and for characters that the model does not know.
    """
    document = _encoded(model, text)
    probe = _probe(model)
    with probe.lock:
        revision = model.engine.revision
        if probe.revision != revision:
            probe.load(model.parameters)  # which an ensemble does not have
            probe.revision = revision
        loss = probe.run(document)
        n, probabilities = probe.positions, probe.probabilities()
        attention = [probe.attention(layer) for layer in range(probe.layers)]
        path = [stage for stage in reversed(probe.stages) if not stage.endswith(OFF_PATH)]
        gradients = [(stage, [math.hypot(*row) for row in probe.gradients(stage)]) for stage in path]
    if not math.isfinite(loss) or not all(math.isfinite(norm) for _, norms in gradients for norm in norms):
        raise TapeGPTError(OVERFLOW)
    surprises = [-math.log(row[token]) for row, token in zip(probabilities, document[1:], strict=True)]
    inputs, targets = ("", *text)[:n], (*text, "")[:n]
    return Explanation(text[:n], inputs, targets, probabilities, surprises, attention, gradients, loss)


def _probe(model: GPT) -> Probe:
    """The one that is kept for a model's engine."""
    if model.engine not in _probes:
        _probes[model.engine] = Probe(model.config, model.vocab_size)
    return _probes[model.engine]


def _encoded(model: GPT, text: str) -> list[int]:
    """A text's tokens between two BOS, cut to what a block predicts; raises as `explain` does."""
    if not isinstance(text, str):
        raise TapeGPTError(f"text must be a str, not {shown(text)}")
    unknown = sorted(set(text) - set(model.vocabulary))
    if unknown:
        raise TapeGPTError(f"text {shown(text)}: the model does not know {shown(''.join(unknown))}: leave that out")
    bos = len(model.vocabulary)
    return [bos, *map(model.vocabulary.index, text), bos][: model.config.block_size + 1]


# --- number by number -------------------------------------------------------------------------------------------

FORMULAS = {  # of the stages, by the last part of their names; n is how many inputs, or products, there are
    "embedding": "the token's embedding + the position's",
    "embedding_norm": "over the root mean square of {n}",
    "attn_norm": "over the root mean square of {n}",
    **dict.fromkeys(("attn_wq", "attn_wk", "attn_wv"), "sum of {n} products"),
    "attn_logits": "sum of {n} products, over sqrt({n})",
    "attn_weights": "softmax of {n}",
    "attention": "sum of {n} products",
    "attn_wo": "sum of {n} products",
    "attn_residual": "what attention adds + what was there",
    "mlp_norm": "over the root mean square of {n}",
    "mlp_fc1": "sum of {n} products",
    "mlp_relu": "the number where it is above 0, else 0",
    "mlp_fc2": "sum of {n} products",
    "mlp_residual": "what the MLP adds + what was there",
    "logits": "sum of {n} products",
    "probability": "softmax of {n}",
    "surprise": "minus the log",
    "loss": "mean of {n}",
}


class Trace(Record):
    """A number of the forward pass and what it is made of, down to the depth that was asked for."""

    name: str  # such as "layer0.attn_wo[2,5]"
    formula: str  # how it is made of its inputs; "parameter" is made of none
    value: float
    gradient: float  # d loss / d it
    local_gradient: float  # d the number it is an input of / d it; of the number that was asked for, 1
    inputs: tuple[Trace, ...]  # of a sum of products its factors, one pair after the other

    @property
    def terms(self) -> list[tuple[Trace, ...]]:
        """The inputs, factors of a product together."""
        size = 2 if "products" in self.formula else 1
        return [self.inputs[start : start + size] for start in range(0, len(self.inputs), size)]


def trace(model: GPT, text: str, name: str, depth: int = 1) -> Trace:
    """Where a number comes from while a model reads a text: its inputs, theirs, and so on, `depth` levels.

    The name is that of a stage, with its place t and its column, both from 0 on, or of a parameter, with its row and
    column: `stages` lists both. All numbers are the reference engine's own, which takes them one by one: a text of
    ten characters takes the default model 0.3 s. Raises `TapeGPTError` as `explain` does, for a name that there is not,
    a depth below 1 or with too many numbers, a model that is too large for this or has embeddings of runs.
    """
    if not is_whole(depth) or depth < 1:
        raise TapeGPTError(f"depth must be a whole number from 1 on, not {shown(depth)}")
    return _Scalars(model, text).trace(name, depth)


def stages(model: GPT, text: str) -> dict[str, tuple[int, ...]]:
    """What `trace` can be asked for, each with its shape: the stages in the order of the forward pass, parameters.

    Of `attn_logits` and `attn_weights` [t,h,s] is how head h looks from place t at s <= t. Raises as `trace` does.
    """
    return _Scalars(model, text).shapes


class _Scalars(ReferenceEngine):
    """The scalars of a model and a text, all by name."""

    def __init__(self, model: GPT, text: str) -> None:
        document = _encoded(model, text)
        if not model.config.is_plain:
            raise TapeGPTError(
                f"a model with n_gram {model.config.n_gram} cannot be traced: the reference engine has no embeddings "
                "of runs; choose a model with n_gram 1"
            )
        products = (len(document) - 1) * model.num_parameters
        if products > MAX_PRODUCTS:
            raise TapeGPTError(
                f"{products:,} products are too many to be traced one by one, the limit is {MAX_PRODUCTS:,}: "
                "choose a shorter text, or a smaller model"
            )
        super().__init__(model.config, model.vocab_size)
        self.load_parameters(model.parameters)
        trail: list[Stages] = []
        try:
            loss = self.loss(document, trail)
            if not math.isfinite(loss.data):
                raise ValueError("not finite")
            loss.backward()
        except (ArithmeticError, ValueError) as error:
            raise TapeGPTError(OVERFLOW) from error
        self.shapes = self._shapes(trail)
        self._found = dict(self._numbers(trail, loss))
        self._names = {value: name for name, value in self._found.items()}

    def _shapes(self, trail: list[Stages]) -> dict[str, tuple[int, ...]]:
        """Of all stages, and of the parameters."""
        n = len(trail)
        shapes: dict[str, tuple[int, ...]] = {}
        for stage, vector in trail[0].items():
            by_head = stage.endswith(("attn_logits", "attn_weights"))
            shapes[stage] = (n, self.config.n_head, n) if by_head else (n, len(vector))
        parameters = {_weight(name): shape for name, shape in self.config.shapes(self.vocab_size).items()}
        return {**shapes, "surprise": (n,), "loss": (), **parameters}

    def _numbers(self, trail: list[Stages], loss: Value) -> Iterator[tuple[str, Value]]:
        """All names with their numbers."""
        for t, each in enumerate(trail):
            for stage, vector in each.items():
                dimensions = len(self.shapes[stage])
                for column, value in enumerate(vector):
                    indices = (t, *divmod(column, t + 1)) if dimensions == 3 else (t, column)
                    yield _indexed(stage, indices[:dimensions]), value
        yield "loss", loss
        for name, matrix in self._state.items():
            for row, line in enumerate(matrix):
                for column, value in enumerate(line):
                    yield _indexed(_weight(name), (row, column)), value

    def trace(self, name: str, depth: int) -> Trace:
        """As the function `trace`."""
        asked = str(name).replace(" ", "")
        if asked not in self._found:
            stage = asked.partition("[")[0]
            if stage not in self.shapes:
                raise TapeGPTError(f"there is no number {shown(name)}: --trace list names all there are")
            shape = self.shapes[stage]
            limits = f"has shape {shape}, counted from 0" + (", and looks at no later place" if len(shape) > 2 else "")
            raise TapeGPTError(f"there is no number {shown(name)}: {stage} {limits}")
        self._left = MAX_TRACED
        return self._traced(self._found[asked], 1.0, depth)

    def _traced(self, value: Value, slope: float, depth: int) -> Trace:
        self._left -= 1
        if self._left < 0:
            raise TapeGPTError(f"more than {MAX_TRACED:,} numbers lie that deep: choose a smaller depth")
        name = self._names[value]
        stage = name.partition("[")[0].rpartition(".")[2]
        slopes = self._slopes(value)
        formula = FORMULAS.get(stage, "parameter")
        count = len(slopes) // 2 if "products" in formula else len(slopes)
        inputs = [self._traced(each, local, depth - 1) for each, local in slopes.items()] if depth else []
        return Trace(name, formula.format(n=count), value.data, value.grad, slope, tuple(inputs))

    def _slopes(self, value: Value) -> dict[Value, float]:
        """The named numbers that one is made of, from left to right, and its slopes with respect to them."""
        order: list[Value] = []
        visited = set()
        stack = [(value, False)]
        while stack:
            each, expanded = stack.pop()
            if expanded:
                order.append(each)
            elif each not in visited:
                visited.add(each)
                stack.append((each, True))
                if each is value or each not in self._names:
                    stack.extend((child, False) for child in reversed(each.children))
        slopes = dict.fromkeys(order, 0.0)
        slopes[value] = 1.0
        for each in reversed(order):
            if each is value or each not in self._names:
                for child, local in zip(each.children, each.local_grads, strict=True):
                    slopes[child] += local * slopes[each]
        return {each: slopes[each] for each in order if each in self._names and each is not value}


def _weight(name: str) -> str:
    """A parameter's name: that of a layer's matrix alone is what it makes."""
    return f"{name}.weight" if "." in name else name


def _indexed(name: str, indices: Sequence[int]) -> str:
    return f"{name}[{','.join(map(str, indices))}]"
