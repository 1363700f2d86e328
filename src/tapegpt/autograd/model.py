"""What a model is before it has numbers: a record of its settings, with a forward pass.

    class Bigram(Model):
        def forward(self, tape, tokens, positions, vocab_size):
            return tape.embedding(tape.parameter("table", vocab_size, vocab_size), tokens)

The forward pass is written once. It is recorded on a tape, and all that tapegpt does with a model follows from the
recording: names and shapes of the parameters, training, generation, scores, explanations. Not here: what the engines
make of it (`graph.py`), how classes are found (`loading.py`).
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

from tapegpt.errors import TapeGPTError, argument, line_of, quote
from tapegpt.machine import notes
from tapegpt.ranges import Instance, Number, Whole
from tapegpt.record import Record, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tapegpt.autograd.node import Node
    from tapegpt.autograd.tape import Tape

MAX_PARAMETERS = 100_000_000  # beyond this the scalar order of the exact engine takes hours a step
RESERVED = ("adam.", "last.", "__metadata__")  # beginnings of names in files, see `checkpoint.py`
KINDS = {"bool": Instance(bool), "int": Whole(), "float": Number(), "str": Instance(str)}  # of settings, or None


class Parameter(Record):
    """What is known of a parameter before it has numbers."""

    name: str
    rows: int
    columns: int
    start: float | None  # of all its numbers; None: random
    fixed: bool  # not trained
    is_dense: bool  # trained, and all of its numbers take part in each position
    products: int  # operations that take all of it, not rows of it, to each position

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return self.rows * self.columns


class Model(Record):
    """The settings of a model and its forward pass; subclasses add settings with their defaults.

    A setting is a whole number, a number, a bool or a str; `field` may say which numbers. Raises `TapeGPTError` for
    settings out of range, and where a class is defined with one that cannot be.
    """

    block_size: int = field(
        "context length, in characters; longer strings are cut, with the engine fast divided into windows",
        Whole(1, 8192),
        default=16,
    )

    def __init_subclass__(cls) -> None:
        """Raise `TapeGPTError` for a setting without a default or of another kind, or with the name of a method."""
        super().__init_subclass__()
        for name, each in cls.fields.items():
            kind = each.kind.removesuffix(" | None")
            if name not in Model.fields and hasattr(Model, name):
                raise TapeGPTError(f"{cls.__name__}: every model has a {name} already: give the setting another name")
            if not hasattr(cls, name):
                raise TapeGPTError(f"{cls.__name__}: the setting {name} needs a default, such as {name}: int = 1")
            if kind not in KINDS:
                raise TapeGPTError(
                    f"{cls.__name__}: the setting {name} must be annotated {', '.join(KINDS)}, or one of these | None, "
                    f"not {each.kind}"
                )
            cls.ranges[name] = each.within = each.within or KINDS[kind]

    def __init__(self, *values: Any, **named: Any) -> None:
        try:
            super().__init__(*values, **named)
        except (TapeGPTError, TypeError):
            raise
        except Exception as error:
            raise _error_of(type(self).check, error) from error

    def forward(self, tape: Tape, tokens: Node, positions: Node, vocab_size: int) -> Node:
        """Logits of the next token, (T, vocab_size), from token ids and positions in the document, (T, 1) each."""
        raise NotImplementedError

    def in_use(self) -> dict[str, Any]:
        """The settings that make a difference beside the others, which a model's file may leave out."""
        return self.as_dict()

    def record(self, vocab_size: int) -> ForwardPass:
        """The forward pass and the loss on a tape; raises `TapeGPTError` for a forward pass that cannot be used."""
        return _record_once(self, vocab_size)

    def parameters(self, vocab_size: int) -> tuple[Parameter, ...]:
        """The parameters, in the order of the recording, which is that of their initialisation."""
        return _parameters_once(self, vocab_size)

    def shapes(self, vocab_size: int) -> dict[str, tuple[int, int]]:
        """Rows and columns of the parameters by name."""
        return {each.name: (each.rows, each.columns) for each in self.parameters(vocab_size)}

    def growth(self, vocab_size: int) -> dict[str, tuple[float, float]]:
        """How many more rows and columns the parameters have, by name, for each token more."""
        more = self.shapes(2 * vocab_size)  # which a forward pass takes that needs some tokens, or a multiple of some
        return {
            name: ((more[name][0] - rows) / vocab_size, (more[name][1] - columns) / vocab_size)
            for name, (rows, columns) in self.shapes(vocab_size).items()
        }

    def num_parameters(self, vocab_size: int) -> int:
        """Number of parameters, fixed ones not counted; raises `TapeGPTError` above `MAX_PARAMETERS`."""
        count = sum(each.size for each in self.parameters(vocab_size) if not each.fixed)
        if count > MAX_PARAMETERS:
            settings = ", ".join(f"{name} {value}" for name, value in self.in_use().items())
            raise TapeGPTError(
                f"{settings} and {vocab_size:,} tokens make {count:,} parameters; the limit is {MAX_PARAMETERS:,}: "
                "choose a smaller model"
            )
        return count

    def heads(self, vocab_size: int) -> list[int]:
        """How many heads each attention has, in the order of the forward pass."""
        from tapegpt.autograd.operations.attention.exact import Attention

        operations = [node.operation for node in self.record(vocab_size).tape.nodes]
        return [each.n_head for each in operations if isinstance(each, Attention)]

    def needs_fast(self, vocab_size: int) -> str:
        """What the fast engine alone does, if anything: a setting, or a parameter that is sparse or fixed."""
        if all(each.is_dense for each in self.parameters(vocab_size)):
            return ""
        settings = [name for name, each in self.fields.items() if each.needs_fast and getattr(self, name) != each.fast]
        return argument(settings[0]) if settings else f"a sparse or fixed parameter of {type(self).__name__}"


class ForwardPass(Record):
    """A model's forward pass and loss, operation by operation, as every engine begins with it."""

    tape: Tape
    tokens: Node
    positions: Node
    targets: Node
    logits: Node  # (T, V)
    loss: Node  # (1, 1)

    @property
    def table(self) -> Node | None:
        """The parameter with a row for each token that is read, where there is one."""
        from tapegpt.autograd.operations.embedding import Embedding

        lookups = [node for node in self.tape.nodes if isinstance(node.operation, Embedding)]
        tables = [node.inputs[0] for node in lookups if node.inputs[1] is self.tokens]
        return next((table for table in tables if table.is_parameter), None)


@lru_cache(maxsize=64)
def _parameters_once(model: Model, vocab_size: int) -> tuple[Parameter, ...]:
    of = ("parameters", model, vocab_size)
    found: tuple[Parameter, ...] | None = notes.recall(*of, names=[Parameter])
    if found is None:
        found = _parameters(model.record(vocab_size).tape)
        notes.note(found, *of)
    return found


def _parameters(tape: Tape) -> tuple[Parameter, ...]:
    from tapegpt.autograd.operations.embedding import Embedding

    uses = Counter(each for node in tape.nodes if not isinstance(node.operation, Embedding) for each in node.inputs)
    found = []
    for node in tape.parameters():
        about = (node.start, node.fixed, node.is_dense, uses[node])
        found.append(Parameter(node.name, node.shape.rows or 0, node.shape.columns, *about))
    return tuple(found)


@lru_cache(maxsize=64)
def _record_once(model: Model, vocab_size: int) -> ForwardPass:
    if type(model).forward is Model.forward:
        raise TapeGPTError(f"{type(model).__name__}.forward: is missing: write it, it returns logits (T, vocab_size)")
    if type(model).__module__.startswith("tapegpt.models."):  # whose forward passes are tested
        return _record(model, vocab_size)
    recorded, again = (_record_checked(model, vocab_size) for _ in range(2))
    for node, other in zip(recorded.tape.nodes, again.tape.nodes, strict=False):
        if _describe(node) != _describe(other):
            raise TapeGPTError(
                f"{type(model).__name__}.forward: records something else each time, first {node!r} and then {other!r}: "
                "let it depend on nothing but the settings and vocab_size"
            )
    if len(recorded.tape.nodes) != len(again.tape.nodes):
        raise TapeGPTError(
            f"{type(model).__name__}.forward: records {len(recorded.tape.nodes)} nodes and then "
            f"{len(again.tape.nodes)}: let it depend on nothing but the settings and vocab_size"
        )
    return recorded


def _record(model: Model, vocab_size: int) -> ForwardPass:
    from tapegpt.autograd.node import Node
    from tapegpt.autograd.tape import Tape

    tape = Tape(model.block_size)
    tokens, positions = tape.indices("tokens"), tape.indices("positions")
    tokens.below, positions.below = vocab_size, model.block_size
    logits = model.forward(tape, tokens, positions, vocab_size)
    who = f"{type(model).__name__}.forward"
    if not isinstance(logits, Node) or logits.tape is not tape:
        raise TapeGPTError(f"{who}: must return logits, a node of its tape, not {quote(logits)}")
    if (logits.shape.rows, logits.shape.columns) != (None, vocab_size):
        raise TapeGPTError(f"{who}: must return logits (T, {vocab_size}), one for each token, not {logits!r}")
    for node in tape.order(logits):
        if node.operation and not node.operation.is_causal(*[each.shape for each in node.inputs]):
            raise TapeGPTError(f"{who}: {node!r} mixes positions, and none may see later ones: use axis=1")
    targets = tape.indices("targets")
    loss = tape.cross_entropy(logits, targets).named("loss")
    logits.name = logits.name or "logits"
    _name(tape, who)
    return ForwardPass(tape, tokens, positions, targets, logits, loss)


def _name(tape: Tape, who: str) -> None:
    """Name the results that have no name by operation and number: tanh 1, tanh 2; but not ids."""
    counts: Counter[str] = Counter()
    names: set[str] = set()
    for node in tape.nodes:
        if node.operation:
            what = node.operation.name
            counts[what] += 1
            if not node.name and not node.shape.index:
                node.name = f"{what} {counts[what]}"
            if node.name in names:
                raise TapeGPTError(f"{who}: two results are named {quote(node.name)}: give each a name of its own")
            names |= {node.name} - {""}


def _record_checked(model: Model, vocab_size: int) -> ForwardPass:
    """A recording of a model that nobody has tested."""
    who = f"{type(model).__name__}.forward"
    try:
        recorded = _record(model, vocab_size)
    except TapeGPTError as error:
        place = line_of(error, _path(type(model).forward))
        raise TapeGPTError(f"{place}: {error}" if ":" in place else str(error)) from None
    except Exception as error:
        raise _error_of(type(model).forward, error) from error
    tape, given = recorded.tape, (recorded.tokens, recorded.positions, recorded.targets, recorded.tape.noise)
    used = set(tape.order(recorded.loss))
    for node in tape.nodes:
        if node.is_parameter and node.name.startswith(RESERVED):
            raise TapeGPTError(f"{who}: files have other things named {node.name}: give the parameter another name")
        if node.is_parameter and node not in used:
            raise TapeGPTError(f"{who}: the logits do not depend on the parameter {node.name}: use it, or leave it out")
        if not node.is_parameter and node.operation is None and node not in given:
            raise TapeGPTError(f"{who}: knows tokens and positions alone, there is nothing to write to {node!r}")
    _check_sparse(tape, who)
    if not tape.parameters():
        raise TapeGPTError(f"{who}: there is no parameter to train: record one with tape.parameter")
    return recorded


def _check_sparse(tape: Tape, who: str) -> None:
    """Raise `TapeGPTError` where rows of a sparse parameter would have gradients without being looked up."""
    from tapegpt.autograd.operations.embedding import Embedding

    sparse = [node for node in tape.parameters() if node.sparse]
    if len(sparse) > 1:
        raise TapeGPTError(f"{who}: one parameter may be sparse, not {' and '.join(node.name for node in sparse)}")
    for node in tape.nodes:
        if set(sparse) & set(node.inputs) and not isinstance(node.operation, Embedding):
            name = sparse[0].name
            raise TapeGPTError(f"{who}: the parameter {name} is sparse, which embedding alone may use, not {node!r}")


def _error_of(method: Any, error: Exception) -> TapeGPTError:
    """What a user's method raised, and where."""
    what = f"{type(error).__name__}: {error}".removesuffix(": ")
    return TapeGPTError(f"{line_of(error, _path(method))}: {what}")


def _path(method: Any) -> str:
    return method.__code__.co_filename if hasattr(method, "__code__") else ""


def _describe(node: Node) -> tuple[object, ...]:
    """What tells nodes of two tapes apart."""
    constants = [each for each in vars(node.operation or node.shape).items() if isinstance(each[1], int | float | str)]
    return repr(node), [each.index for each in node.inputs], node.start, node.sparse, constants
