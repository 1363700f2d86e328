"""`tapegpt show`: a model from its text to its machine code. Not here: what is shown (`anatomy.py`)."""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise

from tapegpt.cli.console import facts, notice, table
from tapegpt.cli.data import corpus_of, data_arguments
from tapegpt.cli.models import (
    class_argument,
    find_class,
    is_model,
    load_model,
    model_file,
    read_settings,
    shape_arguments,
)
from tapegpt.cli.options import ArgumentParser, Defaults, Namespace, flag, given, option
from tapegpt.errors import TapeGPTError
from tapegpt.ranges import OneOf
from tapegpt.text import amount, clip, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from tapegpt.analysis.anatomy import Anatomy
    from tapegpt.analysis.costs import KernelCost, Part
    from tapegpt.autograd.model import Model
    from tapegpt.data.corpus import Corpus
    from tapegpt.data.tokens import Tokens
    from tapegpt.data.vocabulary import Vocabulary
    from tapegpt.engines.base import Parameters
    from tapegpt.models.trained import GPT
    from tapegpt.settings import Settings

STAGES = ("text", "tokens", "tape", "gradient", "kernels", "llvm", "asm", "wasm")
OF_OPERATION = ("tape", "kernels", "llvm", "asm", "wasm")
KEPT = ("data", "stage", "op", "kind")  # options that are about a model as it is
LABEL, LISTED, WIDTH = 10, 10, 40  # columns of a label, documents that are listed, characters of one
KINDS = (  # columns of the survey
    ("add", ("add", "sub")),
    ("mul", ("mul",)),
    ("fma", ("fma",)),
    ("div, sqrt", ("div", "sqrt")),
    ("libm", ("exp", "log", "pow")),
    ("bytes", ("loaded", "stored")),
)
COMMON = "--stage --op --dataset --model --engine"


def arguments(parser: ArgumentParser) -> None:
    about = f"{', '.join(STAGES)} [a survey of all, with the time and arithmetic of each operation]"
    option(parser, "--stage", OneOf(STAGES), about)
    about = "such as attention, linear, 'linear 3', adam, a stage, or a line of the tape, %%13 [attention]"
    option(parser, "--op", "NAME", about)
    data_arguments(parser.add_argument_group("data, or a MODEL that tapegpt train -o wrote"))
    shape = parser.add_argument_group("model, where it is a new one")
    class_argument(shape)
    shape_arguments(shape)
    option(shape, "--engine", OneOf(("exact", "fast")), "exact or fast [exact]")


def run(options: Namespace) -> int:
    if options.op is not None and options.stage not in (None, *OF_OPERATION):
        raise TapeGPTError(f"--op is about the stages {', '.join(OF_OPERATION)}, not {options.stage}: leave it out")
    subject = _subject(options)
    for line in _page(subject, options.stage, options.op):
        print(line)
    return 0


def _page(subject: Subject, stage: str | None, name: str | None) -> Iterator[str]:
    anatomy = subject.anatomy
    part = anatomy.find(name)
    if name is not None or stage in OF_OPERATION[1:]:
        _say_which(anatomy, part)
    if stage == "tape":
        yield anatomy.lines(None if name is None else part)
    elif stage in OF_OPERATION:
        yield anatomy.listing(part, "python" if stage == "kernels" else stage)
    elif name is not None:
        yield from _operation(subject, part)
    else:
        pages = {"text": _text, "tokens": _tokens, "gradient": _gradient, None: _survey}
        yield from pages[stage](subject)


def _say_which(anatomy: Anatomy, part: Part) -> None:
    """Which operation it is, where there are several of a name, and how to ask for another."""
    alike = [other for other in anatomy.parts if part.kinds[0] in other.kinds]
    other = next((other for other in alike if other is not part), None)
    if other and other.node:
        notice(f"{part.name} of {len(alike)}: for another, --op '{other.name}', or its line, --op %{other.node.index}")


class Subject:
    """What is looked at: a model or the shape of a new one, and documents, read when they are wanted."""

    def __init__(
        self, vocabulary: Vocabulary, config: Model, settings: Settings, *, corpus: Corpus | None, model: GPT | None
    ) -> None:
        from tapegpt.analysis.anatomy import Anatomy

        self.vocabulary, self._settings, self._corpus, self._model = vocabulary, settings, corpus, model
        self.anatomy = Anatomy(config, vocabulary.size, settings.engine)

    @cached_property
    def documents(self) -> Sequence[str]:
        """Those given, or those of the model's training, or where those are not available, strings of its own."""
        if self._corpus:
            return self._corpus.documents
        assert self._model
        try:
            return self._model.training_documents()
        except TapeGPTError as error:
            notice(f"{error.for_command}: strings of its own stand for the data")
            return self._model.generate(LISTED, seed=0, min_length=1)

    @cached_property
    def tokens(self) -> Tokens:
        """The documents that are measured on."""
        from tapegpt.analysis.anatomy import occasion

        return occasion(self.documents, self.vocabulary, self.anatomy.config, self.anatomy.engine)

    @cached_property
    def parameters(self) -> Parameters:
        """Of the model, or of a new one as its training begins."""
        if self._model:
            return self._model.parameters
        from tapegpt.training.trainer import Trainer

        assert self._corpus
        return Trainer(self._corpus, self.anatomy.config, self._settings).model.parameters

    @property
    def ids(self) -> Sequence[int]:
        """The first document that is measured on: from the first token that is seen to the last to be expected."""
        first, last = self.tokens.starts[:2]
        return self.tokens.ids[first : last + 1]

    @property
    def first(self) -> str:
        """The same as text, labels with a space behind."""
        names, labels = self.vocabulary.names, range(len(self.vocabulary), self.vocabulary.bos)
        return clip("".join([f"{names[number]}{' ' * (number in labels)}" for number in self.ids]), WIDTH)

    def token(self, number: int) -> str:
        """A token as it is shown."""
        return visible(self.vocabulary.names[number]) or "BOS"


def _subject(options: Namespace) -> Subject:
    from tapegpt.settings import Settings
    from tapegpt.training.presets import resolve

    if len(options.data) != 1 or not is_model(model_file(options.data[0])):
        kind = find_class(options)
        named: Any = given(options, ["engine"]) | read_settings(options, kind)
        config, settings = resolve(named, model=kind)
        corpus = corpus_of(options, options.tokens)
        return Subject(corpus.vocabulary, config, settings, corpus=corpus, model=None)
    defaults = Defaults()
    arguments(defaults)  # type: ignore[arg-type]  # it takes options as a parser does
    for name, default in defaults.values.items():
        if name not in KEPT and getattr(options, name) != default:
            typed = flag(f"no_{name}" if default is True else name)
            raise TapeGPTError(f"{typed} is not about a model as it is, which {options.data[0]} has: leave it out")
    options.model = options.data[0]
    model = load_model(options)
    model.engine.parameters()  # an ensemble says that it has none
    return Subject(model.vocabulary, model.config, Settings(engine=model.engine.name), corpus=None, model=model)


# --- pages ------------------------------------------------------------------------------------------------------


def _text(subject: Subject) -> Iterator[str]:
    lengths, unit = sorted(map(len, subject.vocabulary.split_all(subject.documents))), subject.vocabulary.unit
    yield f"{len(lengths):,} documents; the first, as they come:"
    yield from (f"  {clip(text, WIDTH)}" for text in subject.documents[:LISTED])
    yield f"{unit}s of a document: {lengths[0]} to {lengths[-1]}, median {lengths[len(lengths) // 2]}"
    block = subject.anatomy.config.block_size
    longer = sum(length > block for length in lengths)
    yield f"block_size {block}, which {longer:,} of them exceed"
    yield f"{len(subject.vocabulary)} {unit}s: {' '.join(map(visible, subject.vocabulary))}"
    yield f"{subject.vocabulary.size} tokens: these, and BOS, which stands before and after every document"


def _tokens(subject: Subject) -> Iterator[str]:
    yield f"the document {subject.first}, split by the rule {subject.vocabulary.rule}:"
    yield f"{'position':>8}  {'sees':>6}  {'id':>6}  {'is to expect':>12}  {'id':>6}"
    for position, (token, target) in enumerate(pairwise(subject.ids[: subject.anatomy.config.block_size + 1])):
        yield f"{position:>8}  {subject.token(token):>6}  {token:>6}  {subject.token(target):>12}  {target:>6}"
    yield "each position sees itself and those before it"


def _gradient(subject: Subject) -> Iterator[str]:
    """The operations from last to first, each with the norm of its gradient and of what parameters gather from it."""
    anatomy = subject.anatomy
    walk = anatomy.gradients(subject.tokens, subject.parameters)
    norms = dict(walk.norms)
    yield f"{_what(subject, walk.positions)}: loss {walk.loss:.4f} nats per token"
    rows = [("line", "norm", "gradient of the loss with respect to", "gathered by")]
    for node, norm in walk.norms:
        if node.operation:
            gatherers = [f"{i.name} {norms[i]:.3g}" for i in node.inputs if i.is_parameter]
            rows.append((f"%{node.index}", f"{norm:.3g}", anatomy.expression(node), ", ".join(gatherers)))
    yield from table(rows, ">><<")


def _survey(subject: Subject) -> Iterator[str]:
    anatomy = subject.anatomy
    numbers = anatomy.config.num_parameters(anatomy.vocab_size)
    yield f"a model of {numbers:,} parameters, engine {anatomy.engine}, machine code for {anatomy.target.name}"
    yield ""
    walk = anatomy.gradients(subject.tokens, subject.parameters)
    node, norm = max((pair for pair in walk.norms if pair[0].is_parameter), key=lambda pair: pair[1])
    gradient = f"loss {walk.loss:.4f} nats per token; the largest gradient is {node.name}'s, of norm {norm:.3g}"
    yield from facts((*_before(subject), ("gradient", gradient), *_after(anatomy)), LABEL)
    yield ""
    yield f"a training step on {_what(subject, walk.positions)}; times are medians in ns, the rest is counted"
    costs = anatomy.measure(subject.tokens, subject.parameters)
    yield from _table(costs, anatomy.step_nanoseconds(subject.tokens, subject.parameters))
    yield ""
    kind = "linear" if "linear" in anatomy.operations() else anatomy.operations()[0]
    yield f"look closer: tapegpt show --stage {'wasm' if anatomy.target.name == 'wasm' else 'asm'} --op {kind}"


def _before(subject: Subject) -> Iterator[tuple[str, str]]:
    documents, tape, ids = subject.documents, subject.anatomy.tape, list(map(str, subject.ids))
    yield "text", f"{len(documents):,} documents of {len(subject.vocabulary)} different {subject.vocabulary.unit}s:"
    yield "", ", ".join(clip(text, WIDTH) for text in documents[:3])
    yield "tokens", f"{subject.first} becomes {' '.join(ids[:LISTED])}{' ...' if len(ids) > LISTED else ''}"
    nodes = [node for node in tape.nodes if node.operation]
    yield "tape", f"{len(nodes)} operations on {len(tape.parameters())} matrices of parameters, from first to last:"
    for node in (nodes[0], nodes[-1]):
        yield "", f"%{node.index} = {subject.anatomy.expression(node)}"


def _after(anatomy: Anatomy) -> Iterator[tuple[str, str]]:
    """One operation from kernels to machine code, with a line that says something."""
    part = anatomy.find()
    for stage, listing, what, beginning, mark in (
        ("kernels", "python", "Python", "", '"""y_t'),
        ("llvm", "llvm", "LLVM's intermediate code", "", " fmul "),
        ("asm", "asm", "assembly", "| loop", "multiply"),
        ("wasm", "wasm", "WebAssembly", "", ".mul"),
    ):
        if stage == "asm" and anatomy.target.name == "wasm":  # in a browser, where no LLVM is
            continue
        lines = anatomy.listing(part, listing).splitlines()
        yield stage, f"{part.name} is {len(lines):,} lines of {what}"
        whole = [line for line in lines if line.count("(") == line.count(")")]
        telling = [line.strip("| ") for line in whole if line.startswith(beginning) and mark in line]
        if telling:
            yield "", min(telling, key=len)


def _table(costs: Sequence[KernelCost], whole: float) -> Iterator[str]:
    rows: dict[str, list[KernelCost]] = {}
    for cost in costs:
        rows.setdefault(_operands(cost.part), []).append(cost)
    cells = [("", "forward", "backward", *(head for head, _ in KINDS), "flops/ns", "share")]
    for label, row in [*((_label(operands, row), row) for operands, row in rows.items()), ("sum", costs)]:
        cells.append((label, *_numbers(row), f"{sum(cost.nanoseconds for cost in row) / whole:.0%}"))
    yield from table(cells, "<>")
    yield f"whole step: {whole:,.0f} ns, measured as one: documents copied, all code in turn"


def _numbers(row: Sequence[KernelCost]) -> list[str]:
    """Nanoseconds forwards, with what is prepared for it, and backwards; counts; flops a nanosecond."""
    times = [
        sum(cost.nanoseconds for cost in row if (cost.stage in ("prepare", "forward")) == is_forward)
        for is_forward in (True, False)
    ]
    counts = [sum(cost.counts[kind] for cost in row for kind in kinds) for _, kinds in KINDS]
    speed = sum(cost.flops for cost in row) / sum(times)
    return [*(f"{number:,.0f}" for number in (*times, *counts)), f"{speed:.1f}"]


def _operands(part: Part) -> str:
    """What parts have in common that take as long: kind and shapes."""
    inputs = part.node.inputs if part.node else ()
    return " ".join([part.kinds[0], *(str(i.shape) for i in inputs if not i.shape.index)])


def _label(operands: str, row: Sequence[KernelCost]) -> str:
    """The name of the first, the shapes that it takes, and how many there are."""
    number = len({cost.part.name for cost in row})
    return f"{row[0].part.name} {operands.partition(' ')[2]}{f' x {number}' if number > 1 else ''}".strip()


def _operation(subject: Subject, part: Part) -> Iterator[str]:
    from tapegpt.analysis.costs import about

    anatomy = subject.anatomy
    yield part.name + (f": {anatomy.expression(part.node)}, line %{part.node.index} of the tape" if part.node else "")
    for cost in anatomy.measure(subject.tokens, subject.parameters, [part]):
        yield about([cost])
    yield f"look closer: --stage {', '.join(OF_OPERATION)}"


def _what(subject: Subject, positions: int) -> str:
    documents = len(subject.tokens) if subject.anatomy.engine == "fast" else 1
    name = subject.first if documents == 1 else f"{subject.first} and {documents - 1} more"
    return f"{name}, {amount(positions, 'position')}"
