"""From a model's recording to an engine's tape: operation by operation, but where an engine has something better.

What is better is a rule: a pattern of recorded operations, and what replaces them. `EXACT` rules bring gradients into
microgpt.py's order, `FAST` rules save time; what each gains stands beside it. What no rule fits is recorded as it is.
Not here: the operations (`operations/`), how a tape runs (`tape.py`).
"""

from __future__ import annotations

from tapegpt.operations.attention.exact import Attention
from tapegpt.operations.attention.heads import Heads
from tapegpt.operations.attention.pairs import CachedAttention, PairedAttention
from tapegpt.operations.attention.tiles import TiledAttention
from tapegpt.operations.base import Shape
from tapegpt.operations.columns import Columns
from tapegpt.operations.cross_entropy import CrossEntropy
from tapegpt.operations.elementwise import Elementwise
from tapegpt.operations.embedding import Embedding, FastEmbedding
from tapegpt.operations.layer_norm import FastLayerNorm, LayerNorm
from tapegpt.operations.linear import FastLinear, Linear
from tapegpt.operations.rmsnorm import FastRMSNorm, RMSNorm
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tapegpt.operations.base import Batch, Operation
    from tapegpt.tape import Node, Tape

    Rule = Callable[["Rewriting", Node], "Match | None"]

ROWS = 256  # positions that go through a model together: enough for the tiles, few enough for the cache


class Match(Record):
    """What a rule replaces, beside the operation that it was asked about, and how."""

    covered: list[Node]
    make: Callable[[], Node]  # records what stands for that operation


class Place(Record):
    """Where a parameter or a stage lies in an engine's tape: in these rows and columns of a node."""

    node: Node
    rows: Sequence[int]
    columns: Sequence[int]


class Rewriting:
    """A recording recorded again, on another tape and by rules, as far as its `outputs` need it.

    `about` are the tape's nodes about its rows, by name (see `Operation.fast`); they stand for recorded inputs of the
    same name, but for `inputs` that have others to stand for them.
    """

    def __init__(
        self,
        recorded: Tape,
        outputs: Sequence[Node],
        tape: Tape,
        rules: Sequence[Rule],
        about: dict[str, Node],
        batch: Batch | None = None,
        inputs: dict[Node, Node] | None = None,
    ) -> None:
        self.tape, self.about, self.batch = tape, about, batch
        self.parameters: dict[str, Place] = {}  # by name
        self.stages: dict[str, Place] = {}  # results that have a name
        self.units: dict[int, list[int]] = {}  # recorded operations that are one on the tape; all by index
        self._new: dict[Node, Node] = dict(inputs or {})
        self._spread: dict[Node, list[int]] = {}  # columns that are in use, of the tape's nodes that have others too
        needed = {node.index for node in recorded.order(*outputs)}
        nodes = [node for node in recorded.nodes if node.index in needed]
        self._users: dict[Node, list[Node]] = {node: [] for node in nodes}
        for node in nodes:
            for each in node.inputs:
                self._users[each].append(node)
        self._outputs = set(outputs)
        matches, covered = self._matches(nodes, rules)
        for node in nodes:
            if node.sparse:  # first in memory: they have an Adam of their own
                self.input(node)
        for node in nodes:
            if node.operation and node not in covered:
                match = matches.get(node)
                made = match.make() if match else self._as_it_is(node, node.operation)
                self.stand(node, made)
                unit = [node, *match.covered] if match else [node]
                self.units[made.index] = [each.index for each in unit if each.operation]

    def _matches(self, nodes: list[Node], rules: Sequence[Rule]) -> tuple[dict[Node, Match], set[Node]]:
        """What rules apply to, the last operations first."""
        matches: dict[Node, Match] = {}
        covered: set[Node] = set()
        for node in reversed(nodes):
            if node.operation and node not in covered:
                match = next(filter(None, (rule(self, node) for rule in rules)), None)
                if match and not covered.intersection(match.covered):
                    matches[node] = match
                    covered.update(match.covered)
        return matches, covered

    def _as_it_is(self, node: Node, recorded: Operation) -> Node:
        operation, about = recorded.fast(self.batch) if self.batch else (recorded, ())
        inputs = [self.input(each) for each in node.inputs]
        for place in operation.sets:
            if self._users[node.inputs[place]] != [node]:
                inputs[place] = self.tape.record(Columns(range(inputs[place].shape.columns)), inputs[place])
        return self.tape.record(operation, *inputs, *[self.about[name] for name in about])

    # --- what rules ask -----------------------------------------------------------------------------------------

    def alone(self, node: Node, user: Node) -> bool:
        """Whether only this one uses a node, and uses it once."""
        return self._users[node] == [user] and node not in self._outputs

    def users(self, node: Node) -> list[Node]:
        """The operations that use a node."""
        return self._users[node]

    # --- what rules make ----------------------------------------------------------------------------------------

    def input(self, node: Node) -> Node:
        """What stands for a recorded node, with its columns; parameters and inputs are recorded when they are used."""
        if node not in self._new:
            self._new[node] = self.parameter(node) if node.is_parameter else self.about[node.name]
        made = self._new[node]
        if made in self._spread:
            self._new[node] = made = self.tape.record(Columns(self._spread[made]), made)
        return made

    def parameter(self, node: Node, columns: Sequence[int] | None = None, width: int = 0) -> Node:
        """Record a parameter, in these columns of a wider one."""
        rows = node.shape.rows or 0
        made = self.tape.parameter(node.name, rows, width or node.shape.columns, start=node.start, sparse=node.sparse)
        self.parameters[node.name] = Place(made, range(rows), columns or range(node.shape.columns))
        return made

    def stand(self, node: Node, made: Node) -> None:
        """Let a node of the tape stand for a recorded one."""
        self._new[node] = made
        if node.name:
            self.stages[node.name] = Place(made, (), self._spread.get(made, range(made.shape.columns)))

    def spread(self, node: Node, columns: list[int]) -> Node:
        """Note that only these columns of a node are in use."""
        if columns != list(range(node.shape.columns)):
            self._spread[node] = columns
        return node

    def product(self, node: Node, record: Callable[[Node, Node], Node]) -> Node:
        """Record the product that a node is, on x as it stands, if need be with W spread as x is."""
        x, w = node.inputs
        made = self._new.get(x)
        if made not in self._spread or not self.alone(w, node):
            return record(self.input(x), self.input(w))
        return record(made, self.parameter(w, self._spread[made], made.shape.columns))

    def stacked(self, products: Sequence[Node], count: int, rows: Sequence[Sequence[int]]) -> Node:
        """The products of one x with several matrices as that with one of `count` rows, where each has some."""
        names = [product.inputs[1].name for product in products]
        alike = next(place for place, letters in enumerate(zip(*names, strict=False)) if len(set(letters)) > 1)
        x, w = products[0].inputs
        name = names[0][:alike] + "".join(each[alike:] for each in names)
        stack = self.tape.parameter(name, count, w.shape.columns)
        operation = FastLinear() if self.batch else Linear()
        made = self.tape.record(operation, self.input(x), stack)
        for product, part in zip(products, rows, strict=True):
            self.parameters[product.inputs[1].name] = Place(stack, part, range(w.shape.columns))
            if product.name:
                self.stages[product.name] = Place(made, (), part)
        return made


def is_product(node: Node) -> bool:
    """Whether a node is x W^T with a parameter W of numbers that are drawn."""
    w = node.inputs[1] if isinstance(node.operation, Linear) and len(node.inputs) == 2 else None
    return w is not None and w.is_parameter and w.start is None


def _of_one_input(rewriting: Rewriting, node: Node) -> list[Node]:
    """The products that attention takes, and their matrices, where all are of one x and used for nothing else."""
    products = list(node.inputs)
    if not all(map(is_product, products)) or len({product.inputs[0] for product in products}) > 1:
        return []
    alone = all(rewriting.alone(product, node) and rewriting.alone(product.inputs[1], product) for product in products)
    return [*products, *[product.inputs[1] for product in products]] if alone else []


# --- exact ------------------------------------------------------------------------------------------------------


def interleaved(rewriting: Rewriting, node: Node) -> Match | None:
    """One matrix for q, k and v, head by head: the gradient of their x is then a single ordered sum, as in scalars."""
    if not isinstance(node.operation, Attention) or not (covered := _of_one_input(rewriting, node)):
        return None
    n_head, columns = node.operation.n_head, node.shape.columns
    width = columns // n_head
    rows = [[(3 * h + part) * width + j for h in range(n_head) for j in range(width)] for part in range(3)]

    def make() -> Node:
        qkv = rewriting.stacked(node.inputs, 3 * columns, rows)
        return rewriting.tape.record(Attention(n_head, packed=True), qkv)

    return Match(covered, make)


def target_last(rewriting: Rewriting, node: Node) -> Match | None:
    """At the output layer the target's logit comes first on the graph of scalars, so its share of x's gradient last."""
    if not isinstance(node.operation, CrossEntropy):
        return None
    logits, targets = node.inputs
    if not is_product(logits) or rewriting.users(logits) != [node]:
        return None

    def make() -> Node:
        x, w, last = (rewriting.input(each) for each in (*logits.inputs, targets))
        rewriting.stand(logits, rewriting.tape.record(Linear(), x, w, last))
        return rewriting.tape.record(CrossEntropy(), rewriting.input(logits), last)

    return Match([logits], make)


EXACT: tuple[Rule, ...] = (interleaved, target_last)


# --- fast -------------------------------------------------------------------------------------------------------


def heads_side_by_side(rewriting: Rewriting, node: Node) -> Match | None:
    """Attention in lanes, on q, k and v from one product where they have one x."""
    if not isinstance(node.operation, Attention):
        return None
    assert rewriting.batch
    covered = _of_one_input(rewriting, node)
    batch, n_head, columns = rewriting.batch, node.operation.n_head, node.shape.columns
    heads = Heads(n_head, columns // n_head, batch.block_size)
    used = heads.places()

    def make() -> Node:
        if covered:
            rows = [[part * heads.columns + place for place in used] for part in range(3)]
            matrices = [rewriting.stacked(node.inputs, 3 * heads.columns, rows)]
        else:
            sources = [-1] * heads.columns
            for column, place in enumerate(used):
                sources[place] = column
            matrices = [rewriting.tape.record(Columns(sources), rewriting.input(each)) for each in node.inputs]
        packed, about = bool(covered), rewriting.about
        if batch.cached:
            operation: Operation = CachedAttention(heads, batch.rows, packed=packed)
            made = rewriting.tape.record(operation, *matrices, about["positions"], about["lines"])
        else:
            operation = (TiledAttention if heads.tiled else PairedAttention)(heads, packed=packed)
            made = rewriting.tape.record(operation, *matrices, about["ends"])
        return rewriting.spread(made, used)

    return Match(covered, make)


def summed_embeddings(rewriting: Rewriting, node: Node) -> Match | None:
    """A sum of embeddings is one operation."""
    if not _is_sum(node):
        return None
    inner, leaves, ahead = [], [], [node]
    while ahead:
        each = ahead.pop()
        if _is_sum(each) and (each is node or rewriting.alone(each, users(rewriting, each))):
            inner.append(each)
            ahead += reversed(each.inputs)
        elif isinstance(each.operation, Embedding) and rewriting.alone(each, users(rewriting, each)):
            leaves.append(each)
        else:
            return None
    if len(leaves) < 2:
        return None

    def make() -> Node:
        inputs = [rewriting.input(each) for leaf in leaves for each in leaf.inputs]
        return rewriting.tape.record(FastEmbedding(len(leaves)), *inputs)

    return Match([*inner[1:], *leaves], make)


def users(rewriting: Rewriting, node: Node) -> Node:
    """The first operation that uses a node."""
    return rewriting.users(node)[0]


def normalised(rewriting: Rewriting, node: Node) -> Match | None:
    """A gain is the end of a norm, and after it a bias that of a layer norm.

    With gains the GPT's step takes 2.56 us a document by this rule, 2.85 without (n_embd 16, batches of 16).
    """
    inner = node
    rows: dict[str, Node] = {}
    covered: list[Node] = []
    for name, rule in (("bias", "add"), ("gain", "mul")):
        pair = _with_row(inner, rule)
        if pair and rewriting.alone(pair[0], inner):
            inner, rows[name] = pair
            covered.append(inner)
    operation: Operation
    if isinstance(inner.operation, LayerNorm) and rows:
        operation = FastLayerNorm(gain="gain" in rows, bias="bias" in rows)
    elif isinstance(inner.operation, RMSNorm) and [*rows] == ["gain"]:
        operation = FastRMSNorm(gain=True)
    else:
        return None

    def make() -> Node:
        inputs = [*inner.inputs, *(rows[name] for name in ("gain", "bias") if name in rows)]
        return rewriting.tape.record(operation, *map(rewriting.input, inputs))

    return Match(covered, make)


def _with_row(node: Node, rule: str) -> tuple[Node, Node] | None:
    """A matrix and the row that is added to all of its rows, or multiplied by each."""
    if isinstance(node.operation, Elementwise) and node.operation.name == rule and len(node.inputs) == 2:
        for x, row in (node.inputs, node.inputs[::-1]):
            if x.shape == node.shape and row.shape == Shape(1, node.shape.columns) and x is not row:
                return x, row
    return None


class Product(Record):
    """A product x W^T, and the bias that is added to it, if one is."""

    linear: Node
    bias: list[Node]
    covered: list[Node]  # the operations that they are, the last first

    def ending(
        self, rewriting: Rewriting, covered: list[Node], activation: str = "", residual: Sequence[Node] = ()
    ) -> Match:
        """One operation for this and what comes next."""
        operation = FastLinear(activation, residual=bool(residual), bias=bool(self.bias))

        def record(x: Node, w: Node) -> Node:
            return rewriting.tape.record(operation, x, w, *map(rewriting.input, (*residual, *self.bias)))

        return Match(covered, lambda: rewriting.product(self.linear, record))


def product_of(rewriting: Rewriting, node: Node) -> Product | None:
    """The product that a node is, with its bias."""
    pair = _with_row(node, "add")
    if pair and is_product(pair[0]) and rewriting.alone(pair[0], node):
        return Product(pair[0], [pair[1]], [node, pair[0]])
    return Product(node, [], [node]) if is_product(node) else None


def residual(rewriting: Rewriting, node: Node) -> Match | None:
    """A sum of a product and what was there before is the end of the product."""
    if not _is_sum(node):
        return None
    for end, other in (node.inputs, node.inputs[::-1]):
        product = product_of(rewriting, end)
        if product and rewriting.alone(end, node) and _is_before(rewriting, other, product.linear, node):
            return product.ending(rewriting, product.covered, residual=[other])
    return None


def _is_before(rewriting: Rewriting, node: Node, product: Node, total: Node) -> bool:
    """Whether all that uses a node, but for the total, comes before the product: then it may share its gradient."""
    if not node.operation:
        return False
    found: set[Node] = set()
    ahead = [product]
    while ahead:
        for each in ahead.pop().inputs:
            if each.index > node.index and each not in found:
                found.add(each)
                ahead.append(each)
    return all(user is total or user is product or user in found for user in rewriting.users(node))


def activated(rewriting: Rewriting, node: Node) -> Match | None:
    """An activation is the end of the product before it, and its slope that of the product after it."""
    rule = node.operation
    if not isinstance(rule, Elementwise) or not rule.is_activation or len(rewriting.users(node)) != 1:
        return None
    end, user = node.inputs[0], users(rewriting, node)
    product = product_of(rewriting, end)
    if not (product and rewriting.alone(end, node) and is_product(user) and user.inputs[0] is node):
        return None
    return product.ending(rewriting, product.covered, rule.name)


def lone_product(rewriting: Rewriting, node: Node) -> Match | None:
    """A bias is the end of a product, which takes the result of attention with the columns that it has in lanes.

    With biases the GPT's step takes 2.59 us a document where they are ends, 2.86 where not (n_embd 16, batches of 16).
    """
    product = product_of(rewriting, node)
    return product.ending(rewriting, product.covered[1:]) if product else None


def _is_sum(node: Node) -> bool:
    """Whether a node is a + b, both of its shape."""
    is_add = isinstance(node.operation, Elementwise) and node.operation.name == "add"
    return is_add and [each.shape for each in node.inputs] == [node.shape] * 2


FAST: tuple[Rule, ...] = (heads_side_by_side, summed_embeddings, normalised, residual, activated, lone_product)
