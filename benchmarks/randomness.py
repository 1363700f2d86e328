"""The random number generator, compared with CPython's, on the numbers that the default training needs at its start."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from benchmarks.timing import Contender, comparison, seconds, take_turns
from tapegpt import Random

DOCUMENTS = 32_033  # of the file that microgpt.py is measured on
PARAMETERS = 4_192  # of the default model on it
SEED = 42


def against_cpython(rounds: int) -> str:
    """The order of the documents and the initial parameters, ours and `random.Random`'s, which take turns."""
    ours, cpython = Random(SEED), random.Random(SEED)
    sections = []
    cases: list[tuple[str, Callable[[], Iterable[float]], Callable[[], list[float] | list[int]]]] = [
        (f"Order of {DOCUMENTS:,} documents", lambda: ours.permutation(DOCUMENTS), lambda: _shuffled(cpython)),
        (f"{PARAMETERS:,} normal numbers", lambda: ours.gauss_array(PARAMETERS, 0, 0.08), lambda: _normal(cpython)),
    ]
    for title, our_way, cpython_way in cases:
        assert list(our_way()) == cpython_way(), f"{title}: the results differ"
        assert ours.getstate() == cpython.getstate(), f"{title}: the states after it differ"
        contenders = [_milliseconds("tapegpt.Random", our_way), _milliseconds("random.Random", cpython_way)]
        summaries = take_turns(contenders, rounds)
        sections.append(comparison(title, "ms", summaries, summaries[0]))
    return "\n".join(sections)


def _milliseconds(name: str, action: Callable[[], object]) -> Contender:
    return Contender(name, lambda: 1e3 * seconds(action))


def _shuffled(generator: random.Random) -> list[int]:
    documents = list(range(DOCUMENTS))
    generator.shuffle(documents)
    return documents


def _normal(generator: random.Random) -> list[float]:
    return [generator.gauss(0, 0.08) for _ in range(PARAMETERS)]
