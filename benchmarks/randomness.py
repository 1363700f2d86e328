"""The generator of random numbers beside CPython's own, on what the default job draws before it trains."""

from __future__ import annotations

import random

from benchmarks.timing import Contender, comparison, seconds, take_turns
from tapegpt import Random

DOCUMENTS = 32_033  # of the file that microgpt.py is measured on
PARAMETERS = 4_192  # of the default model on it
SEED = 42


def against_cpython(rounds: int) -> str:
    """Shuffling and drawing normal numbers, ours and `random.Random`, which take turns."""
    check_equal()
    generators = {"tapegpt.Random": Random(SEED), "random.Random": random.Random(SEED)}
    sections = []
    for title, draw in (
        (f"Shuffle of {DOCUMENTS:,} documents", _shuffle),
        (f"{PARAMETERS:,} normal numbers", _normal_numbers),
    ):
        contenders = [
            Contender(name, lambda draw=draw, generator=generator: 1e3 * seconds(lambda: draw(generator)))
            for name, generator in generators.items()
        ]
        summaries = take_turns(contenders, rounds)
        sections.append(comparison(title, "ms", summaries, summaries[1]))
    return "\n".join(sections)


def check_equal() -> None:
    """Both generators give the same order and the same numbers, and end in the same state."""
    ours, cpython = Random(SEED), random.Random(SEED)
    assert _shuffle(ours) == _shuffle(cpython)
    assert _normal_numbers(ours) == _normal_numbers(cpython)
    assert ours.getstate() == cpython.getstate()


def _shuffle(generator: Random | random.Random) -> list[int]:
    documents = list(range(DOCUMENTS))
    generator.shuffle(documents)
    return documents


def _normal_numbers(generator: Random | random.Random) -> list[float]:
    return [generator.gauss(0, 0.08) for _ in range(PARAMETERS)]
