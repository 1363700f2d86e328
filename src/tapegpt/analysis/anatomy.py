"""What a model consists of, from Python to machine code: its operations, each at every stage, and what each costs.

Nothing is told from memory: listings are made from the kernels of this very shape, times are measured, and additions,
multiplications and bytes are counted by code that counts what it does. Not here: how a page is laid out
(`cli/show.py`).
"""

from __future__ import annotations

from functools import lru_cache
from statistics import median

from tapegpt.analysis.costs import REPEATS, SAMPLE, SAMPLES, Bench, KernelCost, Part, Walk, about, clock
from tapegpt.autograd.operations.base import Operation, View
from tapegpt.autograd.operations.elementwise import Rule
from tapegpt.autograd.rewrites import ROWS
from tapegpt.data.corpus import Corpus
from tapegpt.engines.adam import Schedule, adam_update
from tapegpt.engines.base import Adam, Parameters
from tapegpt.engines.compiled import Numbers
from tapegpt.engines.fast.adam import Move, adamw, adamw_rows, gather_gradients
from tapegpt.engines.graph import exact_graph, fast_graph
from tapegpt.errors import TapeGPTError, quote
from tapegpt.machine import wasm
from tapegpt.machine.assembly import annotate
from tapegpt.machine.emitter import Module
from tapegpt.machine.host import host_target
from tapegpt.machine.language import F64, U32, Builder, Int, Kernel, Reals
from tapegpt.machine.target import WASM, Target
from tapegpt.models.trained import GPT, make_engine
from tapegpt.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from tapegpt.autograd.model import Model
    from tapegpt.autograd.node import Node
    from tapegpt.data.tokens import Tokens
    from tapegpt.data.vocabulary import Vocabulary

STAGES = ("python", "tape", "llvm", "asm", "wasm")
DEFAULTS = ("attention", "linear")  # kinds to look at where none is said


class Anatomy:
    """The parts of a model of this shape, in the order in which a training step runs them.

    Engine reference is shown as exact, which gives the same numbers. Raises `TapeGPTError` for too large a model, and
    for one that the engine does not do.
    """

    def __init__(self, config: Model, vocab_size: int, engine: str = "exact", target: Target | None = None) -> None:
        config.num_parameters(vocab_size)
        if engine != "fast" and (what := config.needs_fast(vocab_size)):
            raise TapeGPTError(f"{what} needs the engine fast, not {engine}, which does what microgpt.py does")
        self.config, self.vocab_size = config, vocab_size
        self.engine = "fast" if engine == "fast" else "exact"
        self.target = target or host_target()
        self.graph = (fast_graph if self.engine == "fast" else exact_graph)(config, vocab_size, target=self.target)
        self.tape = self.graph.tape
        self.tape.plan()
        self.parts = self._parts()
        self._known: dict[tuple[str, str], str] = {}

    def _parts(self) -> list[Part]:
        tape = self.tape
        nodes = [node for node in tape.nodes if node.operation]
        kinds = [node.operation.name.split()[0] for node in nodes if node.operation]
        parts = []
        for place, node in enumerate(nodes):
            kind, number = kinds[place], kinds[: place + 1].count(kinds[place])
            name = f"{kind} {number}" if kinds.count(kind) > 1 else kind
            extra = (node.operation.activation,) if node.operation and node.operation.activation else ()
            parts.append(
                Part(name, (kind, *extra), node, tape.kernels(node, self.graph.loss, accumulate=self.engine == "fast"))
            )
        return [*parts, Part("adam", ("adam",), None, {"update": self._adam()})]

    def operations(self) -> list[str]:
        """The names that one may ask for."""
        return list(dict.fromkeys(kind for part in self.parts for kind in part.kinds))

    def find(self, name: str | None = None) -> Part:
        """The part of a name, of a kind its first one, of a line of the tape, of a stage, or that takes a parameter.

        Without a name it is attention, or where there is none the first product, or the first of all. Raises
        `TapeGPTError` for a name that there is not.
        """
        if name is None:
            return next((part for kind in DEFAULTS for part in self.parts if kind in part.kinds), self.parts[0])
        asked = name.strip()
        kind, _, number = asked.partition(" ")
        of_kind = [part for part in self.parts if kind in part.kinds]
        for place, part in enumerate(of_kind, 1):
            if number in ("", str(place)):
                return part
        stage, parameter = (places.get(asked) for places in (self.graph.stages, self.graph.parameters))
        for part in self.parts:
            node = part.node
            if node and (asked == f"%{node.index}" or (stage is not None and node is stage.node)):
                return part
        for part in self.parts:
            if parameter and part.node and parameter.node in part.node.inputs:
                return part
        counted = f"{kind} 1 to {kind} {len(of_kind)}" if of_kind else ", ".join(self.operations())
        line = next(part.node.index for part in self.parts if part.node)
        raise TapeGPTError(
            f"operation must be one of {counted}, a line of the tape such as %{line}, or a stage or parameter such as "
            f"{next(iter(self.graph.parameters))}; not {quote(name)}"
        )

    def computing(self, name: str) -> Part | None:
        """The part that computes the operation of this name in the model's forward pass, maybe with others in one."""
        stage = self.graph.stages.get(name)
        nodes = self.config.record(self.vocab_size).tape.nodes
        recorded = {node.index for node in nodes if node.name == name}
        for part in self.parts:
            unit = self.graph.units.get(part.node.index, ()) if part.node else ()
            if part.node is stage.node if stage else recorded.intersection(unit):
                return part
        return None

    # --- kernels ------------------------------------------------------------------------------------------------

    def _adam(self) -> Kernel:
        extent, defaults = self.tape.parameter_extent(), Adam().as_dict()

        def parts(k: Builder, shared: Reals, gradients: Reals, moments: Reals) -> tuple[Numbers, Schedule]:
            schedule = Schedule(**{name: k.real(number) for name, number in defaults.items()})
            return Numbers(shared, gradients, moments, moments + extent), schedule

        def exact(k: Builder, shared: Reals, gradients: Reals, moments: Reals) -> None:
            numbers, schedule = parts(k, shared, gradients, moments)
            adam_update(k, numbers, moments + 2 * extent, extent, k.integer(0), schedule)

        def fast(k: Builder, shared: Reals, gradients: Reals, work: Reals, moments: Reals, stop: Int) -> None:
            table = self.graph.sparse
            dense = self.tape.extent(table) if table else 0
            numbers, schedule = parts(k, shared, gradients, moments)
            gather_gradients(k, gradients, dense, extent, 1, (moments + 2 * extent).cast(F64), extent=extent)
            move = Move(schedule.learning_rate, k.real(1.0), schedule.beta1, schedule.beta2)
            adamw(k, numbers, dense, extent, schedule, move)
            for node in self.graph.looked_up:
                assert table
                rows = ((work + node.value).cast(U32), stop, k.integer(0), k.integer(1))
                sizes = {"columns": table.shape.columns, "extent": extent}
                adamw_rows(k, numbers, *rows, schedule, move, **sizes)

        return Kernel(fast if self.engine == "fast" else exact, "update.adam", self.tape.real)

    # --- listings -----------------------------------------------------------------------------------------------

    def listing(self, part: Part, stage: str) -> str:
        """The text of a part at one of `STAGES`; raises `TapeGPTError` for another, and where LLVM is missing."""
        if stage not in STAGES:
            raise TapeGPTError(f"stage must be one of {', '.join(STAGES)}, not {quote(stage)}")
        makers: dict[str, Callable[[Part], str]] = {
            "python": self._python,
            "tape": self.lines,
            "llvm": lambda part: str(self._module(part)),
            "asm": self._assembly,
            "wasm": self._webassembly,
        }
        if (part.name, stage) not in self._known:
            self._known[part.name, stage] = makers[stage](part)
        return self._known[part.name, stage]

    def lines(self, part: Part | None = None) -> str:
        """The tape, a line for each node, with what it computes; that of a part is marked."""
        rows = [("", "line", "shape", "is", "")]
        for node in self.tape.nodes:
            mark = ">" if part and node is part.node else ""
            shape = str(node.shape).replace(" u32", " ids")
            rows.append((mark, f"%{node.index}", shape, self.expression(node), self._meaning(node)))
        if part and not part.node:
            rows.append((">", "", "", "adam", "moves each parameter against its gradient"))
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        return "\n".join(
            "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]).rstrip()
            for row in rows
        )

    def expression(self, node: Node) -> str:
        """A node as a call, with parameters by name: `linear(%9, layer0.attn_wo)`."""
        if not node.operation:
            return node.name
        kind, _, rest = str(node.operation).partition(" ")
        return f"{kind}({', '.join(f'%{i.index}' if i.operation else i.name for i in node.inputs)}) {rest}".rstrip()

    def _meaning(self, node: Node) -> str:
        if node.operation:
            stages = ", ".join(name for name, place in self.graph.stages.items() if place.node is node)
            formula = node.operation.formula.format(name=node.operation.name, n="n")
            return f"{stages}: {formula}" if stages else formula
        if node.is_parameter:
            return f"parameter, {node.rows * node.shape.columns:,} numbers"
        return "input"

    def _python(self, part: Part) -> str:
        """The source of an operation's methods, of the kernels that they call and of these kernels' helpers."""
        module = _Heard(self.target).add_all({stage: (kernel, {}) for stage, kernel in part.kernels.items()})
        texts = [f"# {part.name}" + (f": %{part.node.index} = {self.expression(part.node)}" if part.node else "")]
        if part.node:
            operation = part.node.operation
            texts += [_source(getattr(type(operation), stage)) for stage in part.kernels]
            rules = [each for each in vars(operation).values() if isinstance(each, Rule)]
            texts += [_source(formula) for rule in rules for formula in (rule.formula, *rule.locals)]
        for body, calls in module.heard.items():
            given = [", ".join(f"{name}={value}" for name, value in constants.items()) for constants in calls]
            notes = [f"# {body.__name__}: here with {constants}\n" for constants in given if constants]
            texts += ["".join(notes) + _source(body), *map(_source, _helpers(body))]
        return "\n\n".join(dict.fromkeys(texts))

    def _module(self, part: Part) -> Module:
        return Module(self.target).add_all({kernel.name: (kernel, {}) for kernel in part.kernels.values()})

    def _assembly(self, part: Part) -> str:
        try:
            from tapegpt.machine.llvm import compile_assembly
        except ImportError as error:
            raise TapeGPTError(
                f"stage asm needs LLVM, which cannot be loaded ({error}): install llvmlite, or choose wasm"
            ) from None
        return annotate(compile_assembly(str(self._module(part)), self.target))

    def _webassembly(self, part: Part) -> str:
        """The part's kernels as they are for WebAssembly's vectors."""
        target = self.target if self.target.name == "wasm" else WASM
        kernels = Anatomy(self.config, self.vocab_size, self.engine, target).find(part.name).kernels.values()
        return str(wasm.Module(target).add_all({kernel.name: (kernel, {}) for kernel in kernels}))

    # --- numbers ------------------------------------------------------------------------------------------------

    def measure(self, tokens: Tokens, parameters: Parameters, parts: Sequence[Part] | None = None) -> list[KernelCost]:
        """What the parts cost for documents, in order: all that fit in a run, of engine exact the first.

        Of all parts (None) on the numbers of a real step; of some alone on random ones.
        """
        chosen = self.parts if parts is None else parts
        counting, timing = (
            Bench(self.graph, self.target, chosen, tokens, parameters, counted=counted) for counted in (True, False)
        )
        for bench in (counting, timing):
            bench.step()
        return [
            KernelCost(part, stage, timing.rows, timing.nanoseconds(part, stage), counting.counts(part, stage))
            for part in chosen
            for stage in part.kernels
        ]

    def cost_of(self, part: Part, model: GPT) -> str:
        """A line about what a part of a model costs."""
        if (part.name, "") not in self._known:
            documents = model.documents or ["".join(model.vocabulary.tokens[:8])]
            tokens = occasion(documents, model.vocabulary, self.config, self.engine)
            self._known[part.name, ""] = about(self.measure(tokens, model.parameters, [part]))
        return self._known[part.name, ""]

    def step_nanoseconds(self, tokens: Tokens, parameters: Parameters) -> float:
        """What a whole training step on the documents takes, of engine exact on the first."""
        documents = len(tokens) if self.engine == "fast" else 1
        engine = make_engine(self.engine, self.config, self.vocab_size, documents)
        tokens = tokens.replace(starts=tokens.starts[: documents + 1])

        def sample(count: int) -> float:
            engine.load_parameters(parameters)
            engine.train(tokens, Adam(), 0, 1)  # which touches the memory of Adam's moments
            start = clock()
            engine.train(tokens, Adam(), 1, count)
            return (clock() - start) / count

        count = max(1, min(200, round(SAMPLE * REPEATS / max(1.0, min(sample(1) for _ in range(3))))))
        return median(sample(count) for _ in range(SAMPLES))

    def gradients(self, tokens: Tokens, parameters: Parameters) -> Walk:
        """The walk back over documents: all that fit in a run, of engine exact the first."""
        bench = Bench(self.graph, self.target, self.parts, tokens, parameters)
        norms = []

        def look(part: Part) -> None:
            if part.node:
                norms.append((part.node, bench.norm(part.node)))

        bench.step(look)
        norms += [(node, bench.norm(node)) for node in reversed(self.tape.parameters())]
        return Walk(bench.loss, bench.rows, norms)


class _Heard(Module):
    """A module that remembers which kernels it was given to call, and what is fixed then."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.heard: dict[Callable[..., None], list[dict[str, Any]]] = {}  # by the kernel's body

    def internal(self, kernel: Kernel, constants: dict[str, Any]) -> str:
        views = {name: form for name, form in kernel.forms.items() if isinstance(form, View)}
        calls, fixed = self.heard.setdefault(kernel.body, []), {**views, **constants}
        if fixed not in calls:
            calls.append(fixed)
        return super().internal(kernel, constants)


# --- Python sources ---------------------------------------------------------------------------------------------


def _source(thing: Any) -> str:
    """The text of a function or class, and where it stands."""
    import inspect
    import os
    import textwrap

    lines, first = inspect.getsourcelines(thing)
    path = inspect.getfile(thing).replace(os.sep, "/").rpartition("/tapegpt/")[2]
    return f"# {path}, line {first}\n{textwrap.dedent(''.join(lines)).rstrip()}\n"


def _helpers(body: Any) -> list[Any]:
    """The functions, methods and classes of a kernel's module that it uses, directly or not; kernels are none."""
    found: list[Any] = []
    owner = type(getattr(body, "__self__", None))
    ahead = [body]
    while ahead:
        code = ahead.pop().__code__
        for name in code.co_names:
            thing = body.__globals__.get(name, None if hasattr(Operation, name) else getattr(owner, name, None))
            is_ours = getattr(thing, "__module__", "") == body.__module__ and not isinstance(thing, Kernel)
            if is_ours and thing not in found:
                found.append(thing)
                ahead += [thing] if hasattr(thing, "__code__") else []
    return found


# --- for a page -------------------------------------------------------------------------------------------------


def occasion(documents: Sequence[str], vocabulary: Vocabulary, config: Model, engine: str) -> Tokens:
    """What is measured on: of engine exact a document of median length, of engine fast a batch, as much as fits."""
    by_length = sorted(range(min(len(documents), 1000)), key=lambda place: len(documents[place]))
    corpus = Corpus(list(documents), vocabulary)
    if engine != "fast":
        return corpus.tokens([by_length[len(by_length) // 2]])
    batch = Settings.fields["batch_size"].fast
    tokens = corpus.windows(config.block_size, range(min(len(documents), batch)))
    fitting = sum(end <= max(config.block_size, ROWS) for end in tokens.starts[1 : batch + 1])
    return tokens.replace(starts=tokens.starts[: fitting + 1])


@lru_cache(maxsize=8)
def anatomy_of(config: Model, vocab_size: int, engine: str, target: Target) -> Anatomy:
    """The anatomy of a shape, its listings kept."""
    return Anatomy(config, vocab_size, engine, target)


def code(model: GPT, operation: str, stage: str) -> dict[str, object]:
    """A stage of an operation of a model, for a page: its text, and a line about time and arithmetic.

    Raises `TapeGPTError` for an unknown operation or stage.
    """
    anatomy = anatomy_of(model.config, model.vocab_size, model.engine.name, host_target())
    part = anatomy.computing(operation) or anatomy.find(operation or None)
    return {
        "operation": operation.strip() or part.kinds[0],
        "stage": stage,
        "text": anatomy.listing(part, stage),
        "operations": anatomy.operations(),
        "about": anatomy.cost_of(part, model),
    }
