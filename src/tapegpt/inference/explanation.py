"""How a model reads a text, position by position; and where any of its numbers comes from, number by number.

`explain` reads the probe, machine code for all models. `trace` reads the scalars of the reference engine, each of which
knows what it was made of. Not here: the arithmetic (`probe.py`, `reference.py`), what is printed (`cli/explain.py`).
"""

from __future__ import annotations

import math
from weakref import ref

from tapegpt.autograd.operations.attention.exact import Attention
from tapegpt.autograd.operations.base import Shape
from tapegpt.autograd.operations.linear import Linear
from tapegpt.autograd.value import post_order
from tapegpt.engines.reference import ReferenceEngine
from tapegpt.errors import TapeGPTError, either, quote
from tapegpt.inference.probe import Probe
from tapegpt.inference.scores import END, heat
from tapegpt.ranges import Whole
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

    from tapegpt.autograd.model import Model
    from tapegpt.autograd.value import Matrix, Value
    from tapegpt.inference.language_model import LanguageModel

OVERFLOW = "the model's numbers overflow on this text: train it again at a smaller learning rate"
MAX_PRODUCTS = 1_000_000  # of a text that is traced: more take minutes, and gigabytes
MAX_TRACED = 20_000  # numbers of a tree
PROBES = 8  # that are kept: to make one takes 5 ms
LIKELY = 5  # tokens that a notebook shows as expected
START = "•"  # how a notebook shows the beginning of a string
PRODUCTS = " products "  # in a formula: of two inputs each, which come in pairs


# --- position by position ---------------------------------------------------------------------------------------


class Explanation(Record):
    """How a model reads a text of T positions: BOS and its tokens, cut to the block. Losses are in nats."""

    text: str  # what was read, cut to the block
    inputs: tuple[str, ...]  # (T) "" is BOS
    targets: tuple[str, ...]  # (T) what came next; "" is the end, which a text as long as the block has not
    vocabulary: tuple[str, ...]  # (V) "" is the end
    probabilities: list[list[float]]  # (T, V) of each next token
    surprises: list[float]  # (T) of what came
    attention: list[list[list[list[float]]]]  # [layer][head][t][s], s <= t: how much t looks at s
    gradients: list[tuple[str, list[float]]]  # from the loss back: a stage, and (T) the norm of d loss / d stage
    loss: float  # the mean surprise

    def _repr_html_(self) -> str:
        """What came at each position and what was expected, then where each head looks."""
        from html import escape

        def cell(content: str, style: str = "") -> str:
            return f'<td style="padding: 0.1em 0.6em; {style}">{content}</td>'

        def shown(token: str, end: str = END) -> str:
            return f"<bdi>{escape(token) or end}</bdi>"

        lines = ["<tr><th>came</th><th>share</th><th>nats</th><th>most probable</th></tr>"]
        for target, nats, shares in zip(self.targets, self.surprises, self.probabilities, strict=True):
            likely = sorted(zip(shares, self.vocabulary, strict=True), reverse=True)[:LIKELY]
            expected = ", ".join([f"{shown(token)} {share:.0%}" for share, token in likely])
            came = cell(f"<b>{shown(target)}</b>", heat(nats))
            lines.append(f"<tr>{came}{cell(f'{math.exp(-nats):.1%}')}{cell(f'{nats:.2f}')}{cell(expected)}</tr>")
        pages = [f"<table>{''.join(lines)}</table>"]
        names = [shown(token, START) for token in self.inputs]
        header = "".join([f"<th>{name}</th>" for name in ("", *names)])
        if self.attention:
            pages.append("<p>How much each position, a row, attends to itself and those before it:</p>")
        for layer, heads in enumerate(self.attention):
            for number, head in enumerate(heads):
                rows = [f"<caption>layer {layer}, head {number}</caption><tr>{header}</tr>"]
                for name, row in zip(names, head, strict=True):
                    cells = [cell("", f"background: rgba(47, 91, 234, {share:.2f})") for share in row]
                    rows.append(f"<tr><th>{name}</th>{''.join(cells)}</tr>")
                pages.append(f'<table style="display: inline-table; margin-right: 1em">{"".join(rows)}</table>')
        return "".join(pages)


_probes: dict[tuple[Model, int], Probe] = {}  # one of a shape, the latest used last


def explain(model: LanguageModel, text: str) -> Explanation:
    """Look into a model while it reads a text, in f64 whatever its engine is; any number of threads may.

    Raises `TapeGPTError` for anything but a str, and for what the model does not know.
    """
    document = _encode(model, text)
    probe = _probe(model)
    with probe.lock:
        engine, revision = model.engine, model.engine.revision
        if probe.engine() is not engine or probe.revision != revision:
            probe.load(model.parameters)  # which an ensemble does not have
            probe.engine, probe.revision = ref(engine), revision
        loss = probe.run(document)
        n, probabilities = probe.positions, probe.probabilities()
        attention = [probe.attention(layer) for layer in range(probe.layers)]
        path = reversed(probe.path)
        gradients = [(stage, [math.hypot(*row) for row in probe.gradients(stage)]) for stage in path]
    if not math.isfinite(loss) or not all(math.isfinite(norm) for _, norms in gradients for norm in norms):
        raise TapeGPTError(OVERFLOW)
    surprises = [-math.log(row[token]) for row, token in zip(probabilities, document[1:], strict=True)]
    tokens = model.vocabulary.names
    inputs, targets = (tuple(map(tokens.__getitem__, each)) for each in (document[:n], document[1:]))
    text = model.vocabulary.clip(text, n)
    return Explanation(text, inputs, targets, tokens, probabilities, surprises, attention, gradients, loss)


def _probe(model: LanguageModel) -> Probe:
    """The one that is kept for models of this shape."""
    shape = (model.config, model.vocab_size)
    probe = _probes.pop(shape, None) or Probe(*shape)
    _probes[shape] = probe
    for oldest in list(_probes)[:-PROBES]:
        _probes.pop(oldest, None)
    return probe


def _encode(model: LanguageModel, text: str) -> list[int]:
    """A text's tokens between two BOS, cut to what a block predicts; raises as `explain` does."""
    bos = model.vocabulary.bos
    return [bos, *model.vocabulary.encode(text), bos][: model.config.block_size + 1]


# --- number by number -------------------------------------------------------------------------------------------


class Trace(Record):
    """A number of the forward pass and what it is made of, down to the depth that was requested."""

    name: str  # such as "layer0.attn_wo[2,5]"
    formula: str  # how it is made of its inputs; "parameter" is made of none
    value: float
    gradient: float  # d loss / d it
    local_gradient: float  # d the number it is an input of / d it; of the number that was requested, 1
    inputs: tuple[Trace, ...]  # of a sum of products its factors, one pair after the other

    @property
    def terms(self) -> list[tuple[Trace, ...]]:
        """The inputs, factors of a product together."""
        size = 2 if PRODUCTS in self.formula else 1
        return [self.inputs[start : start + size] for start in range(0, len(self.inputs), size)]


def trace(model: LanguageModel, text: str, name: str, depth: int = 1) -> Trace:
    """Where a number comes from while a model reads a text: its inputs, theirs, and so on, `depth` levels.

    The name is that of a stage, with its position t and its column, both from 0 on, or of a parameter, with its row and
    column: `stages` lists both. All numbers are the reference engine's own, which takes them one by one: a text of
    ten characters takes the default model 0.3 s. Raises `TapeGPTError` as `explain` does, for a name that there is not,
    a depth below 1 or with too many numbers, and a model that is too large for this.
    """
    Whole(1).check("depth", depth)
    return _Scalars(model, text).trace(name, depth)


def stages(model: LanguageModel, text: str) -> dict[str, tuple[int, ...]]:
    """What `trace` takes, each with its shape: the stages in the order of the forward pass, parameters.

    Of `attn_logits` and `attn_weights` [t,h,s] is how head h looks from position t at s <= t. Raises as `trace` does.
    """
    return _Scalars(model, text).shapes


class _Scalars(ReferenceEngine):
    """The scalars of a model and a text, all by name."""

    def __init__(self, model: LanguageModel, text: str) -> None:
        document = _encode(model, text)
        dense = sum(each.size for each in model.config.parameters(model.vocab_size) if each.is_dense)
        products = (len(document) - 1) * dense
        if products > MAX_PRODUCTS:
            raise TapeGPTError(
                f"{products:,} products are too many to be traced one by one, the limit is {MAX_PRODUCTS:,}: "
                "choose a shorter text, or a smaller model"
            )
        super().__init__(model.config, model.vocab_size)
        self.load_parameters(model.parameters)
        try:
            if not math.isfinite(self.loss(document).data):
                raise ValueError("not finite")
            self.backward()
        except (ArithmeticError, ValueError) as error:
            raise TapeGPTError(OVERFLOW) from error
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._found: dict[str, Value] = {}  # by name without spaces
        self._known: dict[Value, tuple[str, str]] = {}  # name and formula
        self._find()

    def _find(self) -> None:
        """All names with their numbers."""
        stages = self.stages()
        for stage, (node, within) in self.named().items():
            operation, rows = node.operation, stages[stage]
            assert operation
            formula = operation.within[within] if within else operation.formula.replace("{name}", operation.name)
            shape: tuple[int, ...] = (len(rows), len(rows[0]))
            if within and isinstance(operation, Attention):  # each head looks at positions up to the row's own
                shape = (len(rows), operation.n_head, len(rows))
            elif within and len(rows[0]) == 1:
                shape = (len(rows),)
            elif not within and node.shape == Shape(1, 1):
                shape = ()
            self._add(stage, formula, shape, rows)
        for name, matrix in self._state.items():
            self._add(_weight(name, stages), "parameter", (len(matrix), len(matrix[0])), matrix)

    def _add(self, name: str, formula: str, shape: tuple[int, ...], rows: Matrix) -> None:
        self.shapes[name] = shape
        for t, row in enumerate(rows):
            for column, value in enumerate(row):
                indices = (t, *divmod(column, t + 1)) if len(shape) == 3 else (t, column)
                indexed = f"{name}[{','.join(map(str, indices[: len(shape)]))}]" if shape else name
                self._found[_squeeze(indexed)] = value
                self._known[value] = (indexed, formula)

    def trace(self, name: str, depth: int) -> Trace:
        """As the function `trace`."""
        asked = _squeeze(str(name))
        if asked not in self._found:
            stages = {_squeeze(stage): stage for stage in self.shapes}
            stage = stages.get(asked.partition("[")[0])
            if stage is None:
                raise TapeGPTError(
                    f"there is no number {quote(name)}: {either('stages', '--trace list')} names all there are"
                )
            shape = self.shapes[stage]
            limits = f"has shape {shape}, counted from 0" + (
                ", and looks at no later position" if len(shape) > 2 else ""
            )
            raise TapeGPTError(f"there is no number {quote(name)}: {stage} {limits}")
        self._left = MAX_TRACED
        return self._trace(self._found[asked], 1.0, depth)

    def _trace(self, value: Value, local_gradient: float, depth: int) -> Trace:
        self._left -= 1
        if self._left < 0:
            raise TapeGPTError(f"more than {MAX_TRACED:,} numbers lie that deep: choose a smaller depth")
        name, formula = self._known[value]
        inputs = self._inputs(value, in_pairs=PRODUCTS in formula)
        count = len(inputs) // 2 if PRODUCTS in formula else len(inputs)
        traced = [self._trace(each, local, depth - 1) for each, local in inputs] if depth else []
        return Trace(name, formula.format(n=count), value.data, value.grad, local_gradient, tuple(traced))

    def _inputs(self, value: Value, *, in_pairs: bool) -> list[tuple[Value, float]]:
        """The named numbers that one is made of, from left to right, and its local_gradients with respect to them.

        Each comes once, or `in_pairs` as often as it is a factor of a product.
        """
        order = post_order([value], lambda each: each.children if each is value or each not in self._known else ())
        local_gradients = dict.fromkeys(order, 0.0)
        local_gradients[value] = 1.0
        inner = [each for each in order if each is value or each not in self._known]
        for each in reversed(inner):
            for child, local in zip(each.children, each.local_grads, strict=True):
                local_gradients[child] += local * local_gradients[each]
        if not in_pairs:
            return [(each, local_gradients[each]) for each in order if each in self._known and each is not value]
        products = [each for each in inner if len(each.children) == 2 and all(map(self._known.get, each.children))]
        return [
            (factor, local * local_gradients[each])
            for each in products
            for factor, local in zip(each.children, each.local_grads, strict=True)
        ]


def token_indices(model: LanguageModel) -> dict[str, tuple[int, bool]]:
    """Which index of a number is a token's, and whether that is read and not predicted; by stage or parameter."""
    recorded = model.config.record(model.vocab_size)
    stages = {node.name for node in recorded.tape.nodes if node.operation}
    found = {recorded.logits.name: (1, False), "probability": (1, False)}
    if recorded.table:
        found[_weight(recorded.table.name, stages)] = (0, True)
    if isinstance(recorded.logits.operation, Linear):
        found[_weight(recorded.logits.inputs[1].name, stages)] = (0, False)
    return found


def _weight(name: str, stages: Container[str]) -> str:
    """A parameter's name, which its product may have too."""
    return f"{name}.weight" if name in stages else name


def _squeeze(name: str) -> str:
    return name.replace(" ", "")
