"""What a model consists of: counts against formulas, parts against the whole tape, and listings of every stage."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tapegpt
from tapegpt import Config, Corpus, TapeGPTError, Trainer
from tapegpt.analysis.anatomy import STAGES, Anatomy, code, occasion
from tapegpt.analysis.costs import COUNTED, Bench, KernelCost, Part, about, arithmetic
from tapegpt.autograd.operations.base import padded
from tapegpt.data.tokens import Tokens
from tapegpt.data.vocabulary import Vocabulary
from tapegpt.engines.base import Adam
from tapegpt.engines.graph import Graph, exact_graph, fast_graph
from tapegpt.machine.assembly import annotate, instruction_kinds
from tapegpt.machine.host import host_target
from tapegpt.machine.target import INTERPRETED
from tapegpt.models import NAMES as NAMES_OF_MODELS
from tapegpt.models import named
from tapegpt.models.trained import GPT, make_engine
from tests.models.test_models import MODELS, VOCAB

NAMES = ["anna", "otto", "bob", "natan", "aviva", "b", "banana"]
SHAPES = {
    "exact": Config(n_layer=2, n_embd=6, n_head=3, block_size=5),
    "fast": Config(n_layer=2, n_embd=6, n_head=2, block_size=7, n_gram=2, gram_rows=5),
}
ENGINES = tuple(SHAPES)
EXACT_FLOATS = 8


@cache
def made(engine: str) -> tuple[Anatomy, Tokens, GPT]:
    """An anatomy, documents for it, and a model whose parameters all differ from zero."""
    config, corpus = SHAPES[engine], Corpus.of(NAMES)
    model = Trainer(corpus, config, engine=engine, steps=3).model
    parameters = {
        name: array("d", [0.3 * math.sin(1 + place + 7 * len(name)) for place in range(rows * columns)])
        for name, (rows, columns) in config.shapes(corpus.vocab_size).items()
    }
    model.engine.load_parameters(parameters)
    anatomy = Anatomy(config, corpus.vocab_size, engine)
    return anatomy, occasion(corpus.documents, corpus.vocabulary, config, engine), model


def bench(
    engine: str,
    parts: Sequence[Part] | None = None,
    *,
    counted: bool = False,
    documents: int = 16,
    **target: bool,
) -> Bench:
    """The parts, after a step; a `target` that differs from the host's in that."""
    anatomy, tokens, model = made(engine)
    tokens = tokens.replace(starts=tokens.starts[: documents + 1])
    found = Bench(
        anatomy.graph,
        anatomy.target.replace(**target),
        anatomy.parts if parts is None else parts,
        tokens,
        model.parameters,
        counted=counted,
    )
    found.step()
    return found


# --- counts -----------------------------------------------------------------------------------------------------


def counted(name: str) -> dict[str, dict[str, int]]:
    """The counts that are not zero, of each kernel of a part of the exact model, where a power is a call of pow."""
    anatomy, _, _ = made("exact")
    part = anatomy.find(name)
    place = bench("exact", [part], counted=True, certified=False)
    assert place.rows == 5
    return {stage: {kind: n for kind, n in place.counts(part, stage).items() if n} for stage in part.kernels}


@pytest.mark.slow
def test_a_linear_layer_counts_as_by_hand() -> None:
    rows, ins, outs = 5, 6, 18
    found = counted("linear")
    assert set(found["prepare"]) == {"loaded", "stored"}
    forward = rows * ins * padded(outs)
    weights, inputs = outs * rows * padded(ins), rows * outs * padded(ins)
    assert {kind: found["forward"][kind] for kind in ("add", "mul")} == {"add": forward, "mul": forward}
    assert {kind: n for kind, n in found["backward"].items() if kind not in ("loaded", "stored")} == {
        "add": weights + inputs,
        "mul": weights + inputs,
    }
    assert found["forward"]["stored"] == EXACT_FLOATS * rows * padded(outs)
    assert found["backward"]["stored"] == EXACT_FLOATS * (outs + rows) * padded(ins)


def test_a_norm_counts_as_by_hand() -> None:
    rows, columns, lanes = 5, 6, padded(6)
    found = counted("rmsnorm 1")
    assert found["forward"] == {
        "add": rows * (columns + 1),
        "mul": rows * (columns + 1 + lanes),
        "pow": rows,
        "loaded": EXACT_FLOATS * rows * (2 * columns + lanes),
        "stored": EXACT_FLOATS * rows * (lanes + 2),
    }
    assert found["backward"] == {
        "add": rows * (columns + 2 * lanes),
        "mul": rows * (columns + 3 + 2 * lanes),
        "pow": rows,
        "loaded": EXACT_FLOATS * rows * (2 * columns + 2 + 3 * lanes),
        "stored": EXACT_FLOATS * rows * 2 * lanes,
    }


def test_a_gradient_that_is_added_to_costs_another_addition() -> None:
    rows, columns = 5, 6
    fresh, added = counted("rmsnorm 1")["backward"], counted("rmsnorm 2")["backward"]
    assert added["add"] - fresh["add"] == rows * padded(columns)
    assert added["loaded"] - fresh["loaded"] == EXACT_FLOATS * rows * padded(columns)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_machine_code_counts_what_the_interpreter_counts(engine: str) -> None:
    anatomy, _, _ = made(engine)
    compiled, interpreted = (bench(engine, counted=True, documents=1) for _ in range(2))
    interpreted._program._interpret()
    for part in anatomy.parts:
        for stage in part.kernels:
            expected = interpreted.counts(part, stage)
            if not expected["sqrt"]:  # else roots may be estimates of the CPU's, made better
                assert compiled.counts(part, stage) == expected, (part.name, stage)


def test_counts_add_up_over_runs() -> None:
    anatomy, _, _ = made("exact")
    part = anatomy.find("attention")
    place = bench("exact", [part], counted=True)
    once = place.counts(part, "forward")
    place.run(part, "forward", 2)
    assert dict(zip(COUNTED, place._counts, strict=True)) == {kind: 3 * n for kind, n in once.items()}


# --- parts and the whole ----------------------------------------------------------------------------------------


def whole_tape(engine: str) -> Graph:
    """A model's tape after it has run on the documents by itself, forwards and backwards."""
    anatomy, tokens, model = made(engine)
    ids, starts = tokens.ids, tokens.starts
    lengths = [end - start for start, end in pairwise(starts)]
    rows = sum(lengths)
    if engine == "fast":
        graph = fast_graph(anatomy.config, anatomy.vocab_size, anatomy.tape.positions)
        ends = [end for end, n in zip(starts[1:], lengths, strict=True) for _ in range(n)]
        graph.tape.write(graph.about("ends"), ends)
        graph.tape.write(graph.about("share"), [1 / rows])
    else:
        graph = exact_graph(anatomy.config, anatomy.vocab_size)
    graph.places.write(graph.tape.arena, model.parameters)
    graph.tape.write(graph.about("positions"), [place for length in lengths for place in range(length)])
    graph.tape.write(graph.about("tokens"), ids[:rows])
    graph.tape.write(graph.about("targets"), ids[1 : rows + 1])
    graph.tape.forward(graph.loss, rows)
    graph.tape.backward(graph.loss, rows)
    return graph


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_parts_alone_give_what_the_whole_tape_gives(engine: str) -> None:
    place, graph = bench(engine), whole_tape(engine)
    tape = graph.tape
    assert place.loss == tape.read(graph.loss)[0][0]
    for node in tape.nodes:
        if not node.shape.index:
            values = place._shared if node.is_parameter else place._work
            views = place._views(values, node, node.value)
            assert [*map(list, views)] == tape.read(node)[: len(views)]
    for node in tape.parameters():
        gradients = place._views(place._gradients, node, node.gradient)
        assert [*map(list, gradients)] == tape.gradient(node)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_norms_are_those_of_the_gradients_when_they_are_complete(engine: str) -> None:
    anatomy, tokens, model = made(engine)
    walk, tape = anatomy.gradients(tokens, model.parameters), whole_tape(engine).tape
    norms = {node.index: norm for node, norm in walk.norms}
    assert [node.index for node, _ in walk.norms if node.operation] == sorted(
        (node.index for node in tape.nodes if node.operation), reverse=True
    )
    for node in tape.parameters():
        assert norms[node.index] == math.hypot(*[number for row in tape.gradient(node) for number in row])
    assert norms[anatomy.graph.loss.index] == 1.0


@pytest.mark.slow
def test_a_gradient_passed_on_is_seen_before_others_add_to_it() -> None:
    anatomy, tokens, model = made("fast")
    norms = {node.index: norm for node, norm in anatomy.gradients(tokens, model.parameters).norms}
    residual = [part.node for part in anatomy.parts if part.node and "residual" in str(part.node.operation)]
    assert len(residual) == 4
    for node in residual:
        heir = node.inputs[2]
        assert heir.gradient == node.gradient
        assert norms[heir.index] != norms[node.index]


def test_a_part_alone_reads_random_numbers() -> None:
    anatomy, _, _ = made("exact")
    for name, memory in (("relu", "_work"), ("adam", "_gradients")):
        part = anatomy.find(name)
        place = bench("exact", [part])
        read = [*part.node.inputs] if part.node else anatomy.tape.parameters()
        for node in read:
            for row in place._views(getattr(place, memory), node, node.value if part.node else node.gradient):
                assert all(row)
                assert len(set(row)) == len(row)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_adam_alone_does_what_a_training_step_does(engine: str) -> None:
    anatomy, tokens, model = made(engine)
    place = bench(engine)
    place.run(anatomy.find("adam"), "update")
    trained = make_engine(engine, anatomy.config, anatomy.vocab_size, len(tokens))
    trained.load_parameters(model.parameters)
    trained.train(tokens, Adam(), 0, 1)
    after = trained.parameters()
    again = bench(engine)
    again._graph.places.write(again._shared, after)
    extent = anatomy.tape.real.size * anatomy.tape.plan().gradients
    assert bytes(place._shared.at(0).view[:extent]) == bytes(again._shared.at(0).view[:extent])


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_costs_are_of_every_kernel(engine: str) -> None:
    anatomy, tokens, model = made(engine)
    costs = anatomy.measure(tokens, model.parameters)
    assert [(cost.part.name, cost.stage) for cost in costs] == [
        (part.name, stage) for part in anatomy.parts for stage in part.kernels
    ]
    assert {cost.positions for cost in costs} == {bench(engine).rows}
    assert all(cost.nanoseconds > 0 and cost.moved > 0 for cost in costs)
    assert anatomy.step_nanoseconds(tokens, model.parameters) > 0


# --- listings ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("engine", ENGINES)
def test_every_operation_has_every_stage(engine: str, stage: str) -> None:
    anatomy, _, _ = made(engine)
    for part in {part.kinds[0]: part for part in anatomy.parts}.values():
        text = anatomy.listing(part, stage)
        assert part.kinds[0] in text
        if stage in ("llvm", "asm", "wasm"):
            assert all(f"{name}.{part.kinds[0]}" in text for name in part.kernels)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_tape_marks_the_line_asked_for(engine: str) -> None:
    anatomy, _, _ = made(engine)
    for part in anatomy.parts:
        (line,) = [line for line in anatomy.lines(part).splitlines() if line.startswith(">")]
        assert (f"%{part.node.index} " if part.node else "adam") in line
    assert not [line for line in anatomy.lines().splitlines() if line.startswith(">")]


def test_a_line_says_how_many_tables_an_embedding_sums() -> None:
    anatomy, _, _ = made("fast")
    assert "embedding: sum of rows of 3 tables" in anatomy.lines(anatomy.find("embedding"))


def test_python_shows_kernels_helpers_constants_and_rules() -> None:
    anatomy, _, _ = made("exact")
    linear = anatomy.listing(anatomy.find("linear 3"), "python")
    assert linear.count("def products(") == linear.count("def _add_products(") == 1
    assert "# products: here with x=(i64, 6), w=(6, 24), y=(i64, 24), fresh=True" in linear
    assert "k.select(a > 0.0, a, 0.0)" in anatomy.listing(anatomy.find("relu"), "python")


def test_llvm_shows_that_part_and_nothing_else() -> None:
    anatomy, _, _ = made("exact")
    text = anatomy.listing(anatomy.find("relu"), "llvm")
    assert "relu.forward" in text
    assert "products" not in text
    assert "counts" not in text


def test_operations_are_found_by_name_number_activation_and_line() -> None:
    for engine, kinds in (
        ("exact", ["embedding", "add", "rmsnorm", "linear", "attention", "relu", "cross_entropy", "adam"]),
        ("fast", ["ngrams", "embedding", "rmsnorm", "linear", "attention", "relu", "cross_entropy", "adam"]),
    ):
        anatomy, _, _ = made(engine)
        assert anatomy.operations() == kinds
        for part in anatomy.parts:
            assert anatomy.find(part.name) is part
            assert part.node is None or anatomy.find(f"%{part.node.index}") is part
        assert anatomy.find("linear").name == "linear 1"
    relu = made("fast")[0].find("relu 2").node
    assert str(relu and relu.operation) == "linear relu"


def known(anatomy: Anatomy) -> set[str]:
    return {*anatomy.operations(), *anatomy.graph.stages, *anatomy.graph.parameters}


@given(
    st.text().filter(lambda name: name.strip().partition(" ")[0] not in known(made("exact")[0]))
    | st.sampled_from(("linear 0", "linear 10", "linear  1", "%0", "%", "adam 2", "attention 03"))
)
def test_an_unknown_operation_is_a_line(name: str) -> None:
    with pytest.raises(TapeGPTError, match=r"^operation must be one of .*; not .*$"):
        made("exact")[0].find(name)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", NAMES_OF_MODELS)
def test_any_model_is_laid_open(name: str, engine: str) -> None:
    config = next(model for model in MODELS if type(model) is named(name))
    corpus = Corpus.of(["abcde", "dab", "bee", "cadea"])  # as many characters as its other tests have
    assert corpus.vocab_size == VOCAB
    model = Trainer(corpus, config, engine=engine, steps=1, batch_size=1).model
    anatomy = Anatomy(config, corpus.vocab_size, engine)
    tokens = occasion(corpus.documents, corpus.vocabulary, config, engine)
    total, count = model.engine.evaluate(tokens)
    assert anatomy.gradients(tokens, model.parameters).loss == pytest.approx(total / count, rel=1e-5)
    for part in anatomy.parts:
        assert part.kinds[0] in anatomy.listing(part, "python")
    assert anatomy.find("logits").node is anatomy.graph.logits
    for parameter in config.shapes(corpus.vocab_size):
        if parameter not in anatomy.graph.stages:
            node = anatomy.find(parameter).node
            assert node
            assert anatomy.graph.parameters[parameter].node in node.inputs
    assert anatomy.find() in anatomy.parts


def test_what_cannot_be_listed_is_a_line() -> None:
    anatomy, _, _ = made("exact")
    with pytest.raises(TapeGPTError, match="stage must be one of python, tape, llvm, asm, wasm, not 'source'"):
        anatomy.listing(anatomy.parts[0], "source")
    with pytest.raises(TapeGPTError, match="parameters; the limit is"):
        Anatomy(Config(n_layer=200, n_embd=1024), 27)
    with pytest.raises(TapeGPTError, match="n_gram needs the engine fast"):
        Anatomy(Config(n_gram=2), 27)


def test_without_llvm_there_is_no_assembly(monkeypatch: pytest.MonkeyPatch) -> None:
    anatomy = Anatomy(SHAPES["exact"], 8)
    monkeypatch.setitem(sys.modules, "tapegpt.machine.llvm", None)
    with pytest.raises(TapeGPTError, match=r"stage asm needs LLVM, which cannot be loaded .*: install llvmlite"):
        anatomy.listing(anatomy.parts[0], "asm")
    assert "embedding" in anatomy.listing(anatomy.find("embedding"), "llvm")


# --- assembly ---------------------------------------------------------------------------------------------------

X86 = """\t.text
"sum.n_4":
\tvxorpd\t%xmm0, %xmm0, %xmm0
.LBB0_1:
\tmovl\t$8, %eax
.LBB0_2:
\tvfmadd231pd\t(%rsi,%rax,8), %zmm1, %zmm0
\tvaddsd\t%xmm1, %xmm0, %xmm0
\tdecq\t%rax
\tjne\t.LBB0_2
\tvmovupd\t%zmm0, (%rdi)
\tcmpq\t%rdx, 8(%rsp)
\tjl\t.LBB0_1
\tcallq\t*outside+16(%rip)
\tretq
.Lfunc_end0:
\t.size\tsum, .Lfunc_end0-sum
outside:
\t.zero\t48
"""
MARKED = """sum.n_4:  11 instructions: 4 other, 1 vector multiply-add, 3 load, 1 scalar add, 2 jump, 1 store, 1 call
      vxorpd          %xmm0, %xmm0, %xmm0
  .LBB0_1:
      movl            $8, %eax
| loop: 4 instructions: 1 vector multiply-add, 1 load, 1 scalar add, 1 other, 1 jump
| .LBB0_2:
|     vfmadd231pd     (%rsi,%rax,8), %zmm1, %zmm0
|     vaddsd          %xmm1, %xmm0, %xmm0
|     decq            %rax
|     jne             .LBB0_2
      vmovupd         %zmm0, (%rdi)
      cmpq            %rdx, 8(%rsp)
      jl              .LBB0_1
      callq           *outside+16(%rip)
      retq"""


def test_assembly_is_without_directives_and_its_inner_loops_are_marked() -> None:
    assert annotate(X86) == MARKED


def test_a_loop_ends_at_the_last_jump_back_to_it() -> None:
    body = [".LBB0_1:", "\tjne\t.LBB0_1", "\tdecq\t%rax", "\tjmp\t.LBB0_1", "\tjmp\t.LBB0_9", ".LBB0_9:"]
    marks = [line[0] for line in annotate("\n".join(["f:", *body])).splitlines()]
    assert marks == ["f", *"|||||", " ", " "]


def test_real_assembly_has_loops_that_jump_back() -> None:
    anatomy, _, _ = made("exact")
    text = anatomy.listing(anatomy.find("linear"), "asm")
    assert "| loop: " in text
    assert "multiply" in text
    lines = text.splitlines()
    assert not [line for line in lines if line.lstrip("| ").startswith((".p2align", ".size", ".cfi"))]
    for line, following in pairwise(lines):
        if line.startswith("|") and not following.startswith("|"):
            assert "BB" in line.split()[-1]


@pytest.mark.parametrize(
    ("instruction", "kinds"),
    [
        ("vmulpd (%rdi), %ymm0, %ymm0", ["vector multiply", "load"]),
        ("mulss %xmm1, %xmm0", ["scalar multiply"]),
        ("vdivsd 8(%rsp), %xmm1, %xmm0", ["scalar divide or root", "load"]),
        ("vmaxps %zmm1, %zmm2, %zmm3", ["vector maximum"]),
        ("vbroadcastsd 8(%rsi), %ymm2", ["load"]),
        ("movq %rax, 16(%rsp)", ["store"]),
        ("leaq 64(%rsi), %rdx", ["other"]),
        ("addq $8, %rax", ["other"]),
        ("subq $-128, %rax", ["other"]),
        ("jb .LBB4_3", ["jump"]),
        ("callq *outside+16(%rip)", ["load", "call"]),
        ("fmla v0.2d, v1.2d, v2.d[0]", ["vector multiply-add"]),
        ("fadd v4.2d, v4.2d, v5.2d", ["vector add"]),
        ("fmadd d0, d1, d2, d3", ["scalar multiply-add"]),
        ("fsqrt s0, s1", ["scalar divide or root"]),
        ("ldp q0, q1, [x12], #32", ["load"]),
        ("str d0, [x12]", ["store"]),
        ("add x8, x8, #2", ["other"]),
        ("b.le .LBB1_4", ["jump"]),
        ("cbnz x8, .LBB1_4", ["jump"]),
        ("blr x8", ["call"]),
    ],
)
def test_instructions_are_told_apart(instruction: str, kinds: list[str]) -> None:
    assert instruction_kinds(instruction) == kinds


# --- for a page -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("engine", [*ENGINES, "reference"])
def test_a_page_gets_text_names_and_a_line(engine: str) -> None:
    config = Config(n_embd=6, n_head=3, block_size=5)
    model = Trainer(Corpus.of(NAMES), config, engine=engine, steps=1).model
    found: dict[str, Any] = code(model, "linear 2", "llvm")
    anatomy = Anatomy(config, model.vocab_size, engine)
    assert found["text"] == anatomy.listing(anatomy.find("linear 2"), "llvm")
    assert found["operations"] == anatomy.operations()
    assert (found["operation"], found["stage"]) == ("linear 2", "llvm")
    assert found["about"].count(" ns") >= 2
    assert "positions: " in found["about"]
    assert code(model, "linear 2", "llvm") == found
    model.documents = None
    assert "positions: " in str(code(model, "adam", "tape")["about"])


def test_arithmetic_in_words() -> None:
    counts = {**dict.fromkeys(COUNTED, 0), "add": 1200, "mul": 3000, "pow": 2, "loaded": 8}
    assert arithmetic(counts) == "3,000 multiplications, 1,200 additions, 2 pow"
    part = made("exact")[0].parts[0]
    cost = KernelCost(part, "forward", 7, 100.0, counts)
    assert (cost.flops, cost.moved) == (4200, 8)
    assert about([cost, cost.replace(stage="backward", nanoseconds=300.0)]) == (
        "7 positions: forward 100 ns, backward 300 ns; 6,000 multiplications, 2,400 additions, 4 pow, "
        "21.0 flops/ns, 0.0 bytes/ns"
    )
    assert cost.replace(counts={**counts, "fma": 10, "div": 1, "sqrt": 2, "stored": 4}).flops == 4223
    assert cost.replace(counts={**counts, "stored": 4}).moved == 12
    nothing = cost.replace(counts={**dict.fromkeys(COUNTED, 0), "loaded": 50})
    assert about([nothing]) == "7 positions: forward 100 ns; no arithmetic, 0.5 bytes/ns"


@given(st.lists(st.text("abc", min_size=1, max_size=30), min_size=1, max_size=40), st.sampled_from(ENGINES))
def test_what_is_measured_on_fits_in_a_run(documents: list[str], engine: str) -> None:
    config = Config(block_size=20)
    tokens = occasion(documents, Vocabulary.of("abc"), config, engine)
    lengths = [end - start for start, end in pairwise(tokens.starts)]
    if engine == "exact":
        assert lengths == [sorted(map(len, documents))[len(documents) // 2] + 1]
    else:
        assert 1 <= len(lengths) <= 16
        assert max(lengths) <= 20
        assert sum(lengths) <= 256


def test_it_works_where_no_code_is_made() -> None:
    _, tokens, model = made("exact")
    anatomy = Anatomy(SHAPES["exact"], model.vocab_size, target=INTERPRETED)
    part = anatomy.find("attention")
    costs = anatomy.measure(tokens, model.parameters, [part])
    compiled = bench("exact", [part], counted=True)
    assert host_target().name == "interpreted" or costs[0].nanoseconds > 1000
    called = 0 if host_target().known_exp else 3 * 15  # else compiled code takes them in lanes
    assert (costs[0].counts["exp"], compiled.counts(part, "forward")["exp"]) == (3 * 15, called)


class TwoReaders(tapegpt.Model):
    """Recurrence, two attentions, a gate, a bias and a table that is used twice."""

    n_embd: int = 8

    def forward(self, tape: Any, tokens: Any, positions: Any, vocab_size: int) -> Any:
        wte, wpe = tape.parameter("wte", vocab_size, 8), tape.parameter("wpe", self.block_size, 8)
        x = tape.embedding(wte, tokens) + tape.embedding(wpe, positions)
        x = tape.gru(x.linear("gru_w", 24), tape.parameter("gru_u", 24, 8)) + x
        for name in ("first", "second"):
            q, k, v = (x.linear(f"{name}_{each}", 8) for each in "qkv")
            x = tape.attention(q, k, v, 2).named(name) + x
        gated = x.linear("gate", 8, bias=True).silu() * x.linear("up", 8)
        return tape.linear(gated.rmsnorm(), wte)


@pytest.mark.parametrize("engine", ENGINES)
def test_every_operation_of_a_model_is_found_by_its_name_though_others_are_one_with_it(engine: str) -> None:
    for config in (TwoReaders(), Config(n_embd=8, n_head=2)):
        anatomy = Anatomy(config, VOCAB, engine)
        recorded = config.record(VOCAB)
        for node in recorded.tape.order(recorded.loss):
            if node.operation:
                part = anatomy.computing(node.name)
                assert part
                assert part.node
                (line,) = [line for line in anatomy.lines(part).splitlines() if line.startswith(">")]
                assert node.name in line or node.index in anatomy.graph.units[part.node.index]
        assert anatomy.computing("nowhere") is None
        if isinstance(config, TwoReaders):
            attentions = [anatomy.computing(name) for name in ("first", "second")]
            assert [part and part.name for part in attentions] == ["attention 1", "attention 2"]
