"""Records a model's recording again on an engine's tape, and replaces patterns of operations by rules.

A rule is a pattern of recorded operations, and what replaces them. Operations that match no rule are recorded one by
one. The `EXACT` rules bring gradients into microgpt.py's order. Not here: rules that save time (`fast_rewrites.py`),
operations (`operations/`), how a tape runs (`tape.py`).
"""

from __future__ import annotations

from tapegpt.autograd.operations.attention.exact import Attention
from tapegpt.autograd.operations.cross_entropy import CrossEntropy
from tapegpt.autograd.operations.linear import FastLinear, Linear
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tapegpt.autograd.node import Node
    from tapegpt.autograd.operations.base import Batch, Operation
    from tapegpt.autograd.tape import Tape

    Rule = Callable[["Rewriting", Node], "Match | None"]

ROWS = 256  # positions that go through a model together: enough for the tiles, few enough for the cache


class Match(Record):
    """The operations that a rule replaces beside the one that it matched; nothing else uses their results."""

    covered: list[Node]
    make: Callable[[], Node]  # records the replacement


class Location(Record):
    """Where a parameter or a stage lies in an engine's tape: in these rows and columns of a node."""

    node: Node
    rows: Sequence[int]
    columns: Sequence[int]


def users_of(nodes: Sequence[Node]) -> dict[Node, list[Node]]:
    """The operations that use each node, among nodes that have all inputs of each other."""
    users: dict[Node, list[Node]] = {node: [] for node in nodes}
    for node in nodes:
        for each in node.inputs:
            users[each].append(node)
    return users


class Rewriting:
    """A recording recorded again, on another tape and by rules, as far as its `outputs` need it.

    `about` are the tape's nodes about its rows, by name (see `Operation.to_f32`); they stand for recorded inputs of the
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
        self.parameters: dict[str, Location] = {}  # by name
        self.stages: dict[str, Location] = {}  # results that have a name
        self.units: dict[int, list[int]] = {}  # recorded operations that are one on the tape; all by index
        self._new: dict[Node, Node] = dict(inputs or {})
        self._spread: dict[Node, list[int]] = {}  # columns that are in use, of the tape's nodes that have others too
        needed = {node.index for node in recorded.order(*outputs)}
        nodes = [node for node in recorded.nodes if node.index in needed]
        self.users = users_of(nodes)
        matches, covered = self._matches(nodes, rules)
        for node in nodes:
            if node.sparse:  # first in memory: they have an Adam of their own
                self.input(node)
        for node in nodes:
            if node.operation and node not in covered:
                match = matches.get(node)
                made = match.make() if match else self._as_it_is(node, node.operation)
                self.assign(node, made)
                unit = [node, *match.covered] if match else [node]
                self.units[made.index] = [each.index for each in unit if each.operation]

    def _matches(self, nodes: list[Node], rules: Sequence[Rule]) -> tuple[dict[Node, Match], set[Node]]:
        """The operations that rules match, and all that these cover; the last operations choose first."""
        matches: dict[Node, Match] = {}
        covered: set[Node] = set()
        for node in reversed(nodes):
            if node.operation and node not in covered:
                match = next(filter(None, (rule(self, node) for rule in rules)), None)
                if match:
                    matches[node] = match
                    covered.update(match.covered)
        return matches, covered

    def _as_it_is(self, node: Node, recorded: Operation) -> Node:
        operation = recorded.to_f32(self.batch) if self.batch else recorded
        inputs = [self.input(each) for each in node.inputs]
        if operation.takes:  # a product's third input says what is added last, which f32 does not need
            inputs = inputs[: max(operation.takes)]
        for index in operation.sets:
            if not self.alone(node.inputs[index], node):
                inputs[index] = inputs[index][:, :]
        return self.record(operation, *inputs)

    # --- what rules ask -----------------------------------------------------------------------------------------

    def only_user(self, node: Node) -> Node | None:
        """The operation that uses a node once, if no other does."""
        users = self.users[node]
        return users[0] if len(users) == 1 else None

    def alone(self, node: Node, user: Node) -> bool:
        """Whether `user` is the only operation that uses a node, and uses it once."""
        return self.only_user(node) is user

    # --- what rules make ----------------------------------------------------------------------------------------

    def input(self, node: Node) -> Node:
        """The node that replaces a recorded one, with its columns; parameters and inputs are recorded when used."""
        if node not in self._new:
            self._new[node] = self.parameter(node) if node.is_parameter else self.about[node.name]
        made = self._new[node]
        if made in self._spread:
            from tapegpt.autograd.operations.columns import Columns

            self._new[node] = made = self.tape.record(Columns(self._spread[made]), made)
        return made

    def parameter(self, node: Node, columns: Sequence[int] | None = None, width: int = 0) -> Node:
        """Record a parameter, if need be in these columns of a wider one."""
        rows = node.shape.rows or 0
        kind = {"sparse": node.sparse, "fixed": node.fixed}
        made = self.tape.parameter(node.name, rows, width or node.shape.columns, **kind)
        self.parameters[node.name] = Location(made, range(rows), columns or range(node.shape.columns))
        return made

    def record(self, operation: Operation, *inputs: Node) -> Node:
        """Record an operation, and what it takes about the rows."""
        return self.tape.record(operation, *inputs, *[self.about[name] for name in operation.about])

    def assign(self, node: Node, made: Node) -> None:
        """Note that a node of the tape replaces a recorded one."""
        self._new[node] = made
        if node.name:
            self.stages[node.name] = Location(made, (), self._spread.get(made, range(made.shape.columns)))

    def spread(self, node: Node, columns: list[int]) -> Node:
        """Note that a node uses only these columns; returns the node."""
        if columns != list(range(node.shape.columns)):
            self._spread[node] = columns
        return node

    def product(self, node: Node, record: Callable[[Node, Node], Node]) -> Node:
        """Record a product of x as it is on the tape; if x uses only some columns, W is spread over them."""
        x, w = node.inputs
        made = self._new.get(x)
        if made not in self._spread or not self.alone(w, node):
            return record(self.input(x), self.input(w))
        return record(made, self.parameter(w, self._spread[made], made.shape.columns))

    def stack(self, products: Sequence[Node], count: int, rows: Sequence[Sequence[int]]) -> Node:
        """Record the products of one x with several matrices as one product, with a matrix of `count` rows."""
        names = [product.inputs[1].name for product in products]
        alike = next(index for index, letters in enumerate(zip(*names, strict=False)) if len(set(letters)) > 1)
        x, w = products[0].inputs
        name = names[0][:alike] + "".join(each[alike:] for each in names)
        stack = self.tape.parameter(name, count, w.shape.columns)
        operation = FastLinear() if self.batch else Linear()
        made = self.tape.record(operation, self.input(x), stack)
        for product, part in zip(products, rows, strict=True):
            self.parameters[product.inputs[1].name] = Location(stack, part, range(w.shape.columns))
            if product.name:
                self.stages[product.name] = Location(made, (), part)
        return made


def is_product(node: Node) -> bool:
    """Whether a node is x W^T with a parameter W."""
    w = node.inputs[1] if isinstance(node.operation, Linear) and len(node.inputs) == 2 else None
    return w is not None and w.is_parameter


def of_one_input(rewriting: Rewriting, node: Node) -> list[Node]:
    """The inputs of attention and their matrices, if they are products of one x with no other use; else nothing."""
    products = list(node.inputs)
    if not all(map(is_product, products)) or len({product.inputs[0] for product in products}) > 1:
        return []
    alone = all(rewriting.alone(product, node) and rewriting.alone(product.inputs[1], product) for product in products)
    return [*products, *[product.inputs[1] for product in products]] if alone else []


# --- exact ------------------------------------------------------------------------------------------------------


def interleave_heads(rewriting: Rewriting, node: Node) -> Match | None:
    """One matrix for q, k and v, head by head: x's gradient is then one ordered sum, as in scalars."""
    if not isinstance(node.operation, Attention) or not (covered := of_one_input(rewriting, node)):
        return None
    n_head, columns = node.operation.n_head, node.shape.columns
    width = columns // n_head
    rows = [[(3 * h + part) * width + j for h in range(n_head) for j in range(width)] for part in range(3)]

    def make() -> Node:
        qkv = rewriting.stack(node.inputs, 3 * columns, rows)
        return rewriting.tape.record(Attention(n_head, packed=True), qkv)

    return Match(covered, make)


def add_target_last(rewriting: Rewriting, node: Node) -> Match | None:
    """At the output layer the target's logit is first on the graph of scalars, so x's gradient adds its share last."""
    if not isinstance(node.operation, CrossEntropy):
        return None
    logits, targets = node.inputs
    if not is_product(logits) or not rewriting.alone(logits, node):
        return None

    def make() -> Node:
        x, w, last = (rewriting.input(each) for each in (*logits.inputs, targets))
        rewriting.assign(logits, rewriting.tape.record(Linear(), x, w, last))
        return rewriting.tape.record(CrossEntropy(), rewriting.input(logits), last)

    return Match([logits], make)


EXACT: tuple[Rule, ...] = (interleave_heads, add_target_last)
