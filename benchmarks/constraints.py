"""Generation with constraints, through the Python API: the strings of each kind are checked, then timed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from benchmarks.timing import Contender, figure, seconds, table, take_turns
from tapegpt import GPT, Config, Corpus, train

STEPS = 1000
SEED = 1
KINDS: dict[str, tuple[int, dict[str, Any]]] = {  # strings that are drawn, and what they are to be like
    "none": (20_000, {}),
    "top_k 10": (20_000, {"top_k": 10}),
    "prefix mar": (20_000, {"prefix": "mar"}),
    "pattern ([aeiou].)+[aeiou]": (20_000, {"pattern": "([aeiou].)+[aeiou]"}),
    "the same, token by token": (20_000, {"pattern": "([aeiou].)+[aeiou]", "unbiased": False}),
    "suffix ella": (100, {"suffix": "ella"}),
    "the same, token by token ": (20_000, {"suffix": "ella", "unbiased": False}),
    "distinct, temperature 1": (50_000, {"distinct": True, "temperature": 1.0}),
    "distinct and novel": (20_000, {"distinct": True, "novel": True}),
    "two edits from all training data": (100, {"novel": 2}),
}


def by_kind(corpus: Corpus, rounds: int, config: Config | None = None) -> str:
    """Microseconds a string, and strings a second, of kinds that take turns."""
    shape = (config or Config()).as_dict()
    model = train(corpus, steps=STEPS, **shape)
    contenders = []
    for name, (count, wishes) in KINDS.items():
        check(model, model.generate(min(count, 200), seed=SEED, **wishes), wishes)
        contenders.append(Contender(name, _drawing(model, count, wishes)))
    rows = [
        [each.name.strip(), figure(each.median), each.spread, f"{1e6 / each.median:,.0f}"]
        for each in take_turns(contenders, rounds)
    ]
    return table("Strings within constraints, one thread", ["", "us", "lowest..highest, us", "strings/s"], rows)


def check(model: GPT, strings: list[str], wishes: dict[str, Any]) -> None:
    """The strings are as they were split_options for."""
    for text in strings:
        assert re.fullmatch(wishes.get("pattern", "(?s:.*)"), text), f"{text!r} does not match"
        assert text.startswith(wishes.get("prefix", "")), f"{text!r} does not begin so"
        assert text.endswith(wishes.get("suffix", "")), f"{text!r} does not end so"
    if "distinct" in wishes:
        assert len(set(strings)) == len(strings), "a string comes twice"
    if novel := wishes.get("novel"):
        distance = 0 if novel is True else novel
        assert not any(model.neighbours.within(text, distance) for text in strings[:50]), "a string is not new"


def _drawing(model: GPT, count: int, wishes: dict[str, Any]) -> Callable[[], float]:
    return lambda: 1e6 * seconds(lambda: model.generate(count, seed=SEED, **wishes)) / count
