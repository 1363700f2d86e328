"""Inference with a trained model: scores, tokens generated with constraints, next characters.

Correct first: scores are the exact engine's losses, and strings meet the constraints.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from benchmarks.fast import CLOSE
from benchmarks.timing import Contender, figure, seconds, table, take_turns
from tapegpt import Config, Corpus, Random
from tapegpt.data.tokens import Tokens
from tapegpt.engines.exact import ExactEngine
from tapegpt.inference.automata import Automaton, matching
from tapegpt.inference.constraints import Drawing
from tapegpt.inference.forward import Drawn, Inference, Rules
from tapegpt.training.trainer import Trainer

STEPS = 2000
STRINGS, SEED = 4096, 1
PREFIXES = 100
FREE = Drawing(temperature=1.0)
NARROW = {"top_k 5": FREE.replace(top_k=5), "top_p 0.9": FREE.replace(top_p=0.9)}


def by_task(corpus: Corpus, rounds: int, config: Config | None = None) -> str:
    """Microseconds for each thing, which take turns."""
    trainer = Trainer(corpus, config or Config(), engine="fast", batch_size=16, threads=1, steps=STEPS)
    trainer.run(STEPS)
    parameters, shape = trainer.model.parameters, trainer.model.config
    model = Inference(shape, corpus.vocab_size, parameters)
    exact = ExactEngine(shape, corpus.vocab_size)
    exact.load_parameters(parameters)
    documents = corpus.windows(shape.block_size)
    check_totals(model, exact, documents)
    ending = f".*{re.escape(corpus.vocabulary[0])}"
    ways = {"": (".*", FREE), f", pattern {ending}": (ending, FREE)}
    ways |= {f", {name}": (".*", drawing) for name, drawing in NARROW.items()}
    prefix = [0] * min(4, shape.block_size - 1)
    contenders = [
        Contender("a string scored", _per(len(corpus), lambda: model.totals(documents))),
        *[Contender(f"a token drawn{name}", _drawing(model, corpus, *way)) for name, way in ways.items()],
        Contender(
            "the next character of one prefix",
            _per(PREFIXES, lambda: [model.next_logs([prefix]) for _ in range(PREFIXES)]),
        ),
        Contender(
            f"the same of {PREFIXES} prefixes, each", _per(PREFIXES, lambda: model.next_logs([prefix] * PREFIXES))
        ),
    ]
    rows = [[each.name, figure(each.median), each.spread] for each in take_turns(contenders, rounds)]
    return table("A model that is read, one thread", ["", "us", "lowest..highest, us"], rows)


def check_totals(model: Inference, exact: ExactEngine, documents: Tokens) -> None:
    """The scores come to the loss that the exact engine finds."""
    loss, count = exact.evaluate(documents)
    apart = abs(sum(model.totals(documents)) - loss) / count
    assert apart <= CLOSE, f"scores are {apart} nats per token from what the exact engine finds"


def check_strings(strings: list[str], pattern: str) -> None:
    """All strings match."""
    others = [text for text in strings if not re.fullmatch(pattern, text)]
    assert not others, f"{others[0]!r} does not match {pattern}"


def _drawing(model: Inference, corpus: Corpus, pattern: str, drawing: Drawing) -> Callable[[], float]:
    """A sampler: microseconds a token."""
    rules = rules_of(matching(pattern, corpus.vocabulary.characters), model.config.block_size)

    def draw() -> Drawn:
        return model.draw(Random(SEED).streams(STRINGS), drawing, rules)

    strings = corpus.vocabulary.texts(draw().strings)
    check_strings(strings, pattern)
    return _per(sum(min(len(string) + 1, model.config.block_size) for string in strings), draw)


def rules_of(automaton: Automaton, block_size: int) -> Rules:
    """What an automaton accepts, of any length that a block holds."""
    ahead = automaton.ahead(0, block_size)
    kinds = (automaton.classes, automaton.count, automaton.table)
    return Rules(*kinds, automaton.start, automaton.accepting, ahead, 0, block_size)


def _per(count: int, action: Callable[[], object]) -> Callable[[], float]:
    return lambda: 1e6 * seconds(action) / count
