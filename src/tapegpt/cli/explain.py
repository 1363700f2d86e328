"""`tapegpt explain`: what a model expects at each position of a string, where it looks, how large gradients are.

Not here: how that is found (`explanation.py`).
"""

from __future__ import annotations

import math

from tapegpt.cli.console import colour, notice
from tapegpt.cli.models import load_model, model_argument
from tapegpt.cli.options import ArgumentParser, Namespace, label_argument, option, switch
from tapegpt.cli.score import STRONG
from tapegpt.data.labels import Labelled
from tapegpt.errors import TapeGPTError
from tapegpt.inference.scores import END, ODD
from tapegpt.ranges import Whole
from tapegpt.record import plain
from tapegpt.text import columns, json_line, visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tapegpt.data.vocabulary import Vocabulary
    from tapegpt.inference.explanation import Explanation, Trace
    from tapegpt.models.trained import GPT

WIDTH = 100  # columns of a page
TOP = 5
MARGIN, GAP = 9, 3  # columns before the grids of attention, and between them
STAGE, NORM = 24, 10  # columns of the names and norms of the gradient
BAR, BAR_NATS = 24, 8  # columns of a bar, and the nats that fill it
START = "•"  # how the beginning of a string is shown
HEIGHTS, LENGTHS = " ▁▂▃▄▅▆▇█", " ▏▎▍▌▋▊▉█"  # eighths
BOLD, BLUE, YELLOW, RED = "1", "34", "33", "1;31"


def arguments(parser: ArgumentParser) -> None:
    model_argument(parser)
    option(parser, "texts", "TEXT", "strings", nargs="+")
    label_argument(parser, "the strings")
    option(parser, "--top", Whole(1), "most probable tokens to list at each position", default=TOP)
    option(parser, "--trace", "NAME", "the terms of one number instead, see below")
    option(parser, "--depth", Whole(1), "levels of --trace: 2 for the terms of the inputs, too", default=1)
    switch(parser, "--json", "JSON lines, all numbers of a string in each")
    parser.epilog = (
        "--trace takes the name of a stage with a position and a column, counted from 0: layer0.mlp_fc1[3,17], "
        "logits[0,4]. layer0.attn_weights[4,1,2] is the weight with which head 1 looks from position 4 at position 2; "
        "surprise[2] has a position only, and loss none. A parameter has a row and a column: wte[5,3], "
        "layer0.mlp_fc1.weight[17,3]. --trace list prints all names and shapes."
    )


def run(options: Namespace) -> int:
    if options.depth != 1 and options.trace is None:
        raise TapeGPTError("--depth needs --trace: give the name of a number")
    model = load_model(options)
    for number, text in enumerate(options.texts):
        vocabulary, seen = model.vocabulary, model.config.block_size - len(model.vocabulary.labels)
        if seen < len(pieces := vocabulary.split(text)):
            notice(f"the model sees {seen} {vocabulary.unit}s of {len(pieces)}, the rest is left out")
        if number and not options.json:
            print()
        for line in _lines(model, Labelled(text, vocabulary.combination(options.label)), options):
            print(line)
    return 0


def _lines(model: GPT, text: str, options: Namespace) -> Iterable[str]:
    """What is printed about a string."""
    from tapegpt.inference.explanation import explain, stages, token_indices, trace

    found: object
    if options.trace == "list":
        found = shapes = stages(model, text)
        sizes = {name: " x ".join(map(str, shape)) or "one number" for name, shape in shapes.items()}
        lines: Iterable[str] = [f"{name:28}{size}" for name, size in sizes.items()]
    elif options.trace is not None:
        found = traced = trace(model, text, options.trace, options.depth)
        lines = tree(traced, model.vocabulary, token_indices(model))
    else:
        found = explanation = explain(model, text)
        lines = page(explanation, options.top)
    return [json_line(plain(found))] if options.json else lines


# --- position by position ----------------------------------------------------------------------------------------


def page(explanation: Explanation, top: int) -> Iterator[str]:
    """An explanation for people."""
    text = visible(explanation.text) or "the empty string"
    perplexity = math.exp(min(explanation.loss, 700.0))
    yield f"{colour(text, BOLD)}: {explanation.loss:.3f} nats per token, perplexity {perplexity:.1f}"
    yield ""
    yield from _expectations(explanation, top)
    yield ""
    if explanation.attention:
        yield from _attention(explanation)
        yield ""
    yield from _path(explanation)


def _expectations(explanation: Explanation, top: int) -> Iterator[str]:
    tokens = explanation.vocabulary
    rows = [dict(zip(tokens, row, strict=True)) for row in explanation.probabilities]
    likely = [sorted(shares, key=lambda token: -shares[token])[:top] for shares in rows]
    cell = _cell([_name(token) for listed in likely for token in listed])
    yield f"{'came':6}{'share':>7}{'nats':>8}  {'':{BAR}}  most probable"
    for target, shares, nats, listed in zip(explanation.targets, rows, explanation.surprises, likely, strict=True):
        style = RED if nats > ODD else YELLOW if nats > STRONG else BLUE
        expected = [
            colour(f"{_pad(_name(token), cell)}{_percent(shares[token]):>5}", BOLD if token == target else "")
            for token in listed
        ]
        came = f"{_pad(_name(target), 6)}{_percent(shares[target]):>7}{nats:>8.2f}"
        yield f"{came}  {colour(_bar(nats), style)}  {'  '.join(expected)}"


def _percent(share: float) -> str:
    percent = 100 * share
    return f"{percent:.0f}%" if percent >= 9.5 else f"{percent:.1f}%" if percent >= 0.05 else "<0.1%"


def _bar(nats: float) -> str:
    whole, eighths = divmod(round(8 * BAR * min(nats / BAR_NATS, 1.0)), 8)
    return f"{'█' * whole}{LENGTHS[eighths] if eighths else ''}".ljust(BAR)


def _attention(explanation: Explanation) -> Iterator[str]:
    names = [_name(token, START) for token in explanation.inputs]
    cell = _cell(names)
    width = max((1 + len(names)) * cell + 1, len("head 00"))
    if MARGIN + width > WIDTH:
        yield f"where heads look: {len(names)} positions are too wide for a page, --json has them"
        return
    yield "where heads look: a row is a position, full height all of its attention, half height a quarter"
    together = (WIDTH - MARGIN + GAP) // (width + GAP)
    for layer, heads in enumerate(explanation.attention):
        for first in range(0, len(heads), together):
            yield ""
            grids = [
                _grid(f"head {first + number}", head, names, cell, width)
                for number, head in enumerate(heads[first : first + together])
            ]
            for number, rows in enumerate(zip(*grids, strict=True)):
                margin = "" if number else f"layer {layer}"
                yield f"{margin:{MARGIN}}{(' ' * GAP).join(rows)}".rstrip()


def _grid(title: str, head: list[list[float]], names: list[str], cell: int, width: int) -> Iterator[str]:
    yield f"{title:{width}}"
    yield _pad(" " * (cell + 1) + "".join(_pad(name, cell) for name in names), width)
    for name, row in zip(names, head, strict=True):
        yield f"{_pad(name, cell)} {_heights(row, cell)}{'':{width - (1 + len(row)) * cell - 1}}"


def _heights(shares: Sequence[float], cell: int) -> str:
    """Shares of 1 as blocks of so many columns, as high as their roots: most shares are small."""
    return colour("".join(HEIGHTS[round(8 * math.sqrt(share))] * cell for share in shares), BLUE)


def _path(explanation: Explanation) -> Iterator[str]:
    names = [_name(token, START) for token in explanation.inputs]
    cell = _cell(names)
    fits = STAGE + len(names) * cell + NORM <= WIDTH
    most = max(norm for _, norms in explanation.gradients for norm in norms) or 1.0
    heads = "".join(_pad(name, cell) for name in names) if fits else ""
    yield f"how the gradient flows back: the norm of d loss / d stage at each position, full height {most:.3g}"
    yield ""
    yield f"{'':{STAGE}}{heads}{'norm':>{NORM}}"
    for stage, norms in explanation.gradients:
        bars = _heights([norm / most for norm in norms], cell) if fits else ""
        yield f"{stage:{STAGE}}{bars}{math.hypot(*norms):>#{NORM}.3g}"


def _cell(names: list[str]) -> int:
    return max(map(columns, names))


def _name(token: str, empty: str = END) -> str:
    return {"": empty, " ": "␣"}.get(token) or visible(token)


def _pad(text: str, width: int) -> str:
    return text + " " * (width - columns(text))


# --- number by number -------------------------------------------------------------------------------------------


def tree(
    found: Trace, vocabulary: Vocabulary, of_tokens: dict[str, tuple[int, bool]], indent: str = ""
) -> Iterator[str]:
    """A number with its inputs, and below them the same of each that has inputs too.

    `of_tokens` says which index of a number is a token's, by stage.
    """
    name = colour(_describe(found.name, vocabulary, of_tokens), BOLD)
    yield f"{indent}{name} = {found.value:.6g}, gradient {found.gradient:.6g}"
    if found.inputs and len(found.terms[0]) == 2:
        yield from _products(found, indent)
    else:
        yield f"{indent}{found.formula}"
        if found.inputs:
            yield f"{indent}  {'':30}{'value':>12}{'local gradient':>18}{'gradient':>12}"
        for each in found.inputs:
            numbers = f"{each.value:>12.5g}{each.local_gradient:>18.5g}{each.gradient:>12.5g}"
            yield f"{indent}  {_pad(_describe(each.name, vocabulary, of_tokens), 30)}{numbers}"
    for each in found.inputs:
        if each.inputs:
            yield ""
            yield from tree(each, vocabulary, of_tokens, f"{indent}    ")


def _describe(name: str, vocabulary: Vocabulary, of_tokens: dict[str, tuple[int, bool]]) -> str:
    """The name of a number, with the token that it is of."""
    stage, _, indices = name.rstrip("]").partition("[")
    if stage not in of_tokens:
        return name
    index, is_read = of_tokens[stage]
    token = vocabulary.names[int(indices.split(",")[index])]
    return f"{name} {_name(token, START if is_read else END)}"


def _products(found: Trace, indent: str) -> Iterator[str]:
    """A sum of products, with the formula's letter for each of the two that are multiplied."""
    from tapegpt.inference.explanation import PRODUCTS

    stages = [factor.name.partition("[")[0] for factor in found.terms[0]]
    a, _, b = found.formula.partition(PRODUCTS)[2].replace(",", "").split()[:3]
    letters = (a, b)
    meanings = ", ".join(f"{letter} = {stage}" for letter, stage in zip(letters, stages, strict=True))
    yield f"{indent}{found.formula}, {meanings}"
    gradients = f"{f'gradient of {a}':>16}{f'of {b}':>12}"
    yield f"{indent}  {'':11}{'value':>11}    {'':11}{'value':>11}{f'{a} * {b}':>14}{gradients}"
    for term in found.terms:
        names = [
            letter + factor.name.removeprefix(stage)
            for letter, factor, stage in zip(letters, term, stages, strict=True)
        ]
        first, second = [f"{name:11}{factor.value:>11.4g}" for name, factor in zip(names, term, strict=True)]
        product = term[0].value * term[1].value
        yield f"{indent}  {first}  * {second}  ={product:>11.4g}{term[0].gradient:>16.4g}{term[1].gradient:>12.4g}"
