"""Detectors of gibberish as peers: bigrams that learn from the same strings, and nostril, which knows only English.

Each tells held-out strings from three kinds of fakes: random letters, shuffled letters, one letter replaced. Times are
CPU time of one process. Not here: which of several labels a string has (`classify.py`).
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from math import inf
from random import Random
from statistics import fmean, median

import tapegpt
from benchmarks.generators import ABSENT, HELD_OUT, SEED, WAYS
from benchmarks.timing import cpu_seconds, figure, table
from tapegpt import GPT, Corpus
from tapegpt.data.holdout import hold_out
from tapegpt.data.ngrams import NGrams, kernels

Judge = Callable[[Sequence[str]], Sequence[float]]  # of each string how odd it is
Measure = Callable[[Sequence[float], Sequence[float]], float]  # of the results for real strings and for fakes

LONG = re.compile("[A-Za-z]{6,}").fullmatch  # what nostril takes
HEADS = ["", "random letters", "shuffled letters", "one letter replaced", "s per 10,000"]


def by_kind(corpus: Corpus, rounds: int) -> str:
    """The area under the ROC curve of each score; then what each catches where it has the false alarms of nostril."""
    training, held_out = hold_out(corpus, HELD_OUT, SEED)
    known, real = set(corpus.documents), held_out.documents
    texts = [real, *([text for text in kind if text not in known] for kind in fake(real))]
    judges = scores(training)
    title = f"Area under the ROC curve, {len(real):,} held-out strings and fakes of each kind"
    printed = [_compare(title, judges, area, texts, rounds)]
    if find_spec("nostril_detector"):
        judges["nostril"] = lambda texts: [*map(import_module("nostril_detector").nonsense, texts)]
        texts = [[text for text in each if LONG(text)] for each in texts]
        alarms = fmean(judges["nostril"](texts[0]))
        title = f"Share of the fakes of six letters and more that are caught, {alarms:.2%} false alarms"
        printed.append(_compare(title, judges, partial(caught, alarms=alarms), texts, rounds))
    absent = [name for name in ("gibberish-detector", "nostril-detector") if not find_spec(name.replace("-", "_"))]
    return "\n".join([*printed, *map(ABSENT.format, absent)])


def _compare(title: str, judges: dict[str, Judge], measure: Measure, texts: list[list[str]], rounds: int) -> str:
    real, *fakes = texts
    rows = []
    for name, judge in judges.items():
        found = [f"{measure(judge(real), judge(kind)):.3f}" for kind in fakes]
        taken = median(cpu_seconds(lambda: judge(real)) for _ in range(rounds))
        rows.append([name, *found, figure(taken * 10_000 / len(real))])
    return table(title, HEADS, rows)


def fake(strings: Sequence[str]) -> list[list[str]]:
    """Of each string random letters of its length, its letters shuffled, and itself with one letter drawn again."""
    rng, letters = Random(SEED), sorted(set("".join(strings)))
    drawn = ["".join(rng.choices(letters, k=len(text))) for text in strings]
    shuffled = ["".join(rng.sample(text, len(text))) for text in strings]
    spots = [rng.randrange(len(text)) for text in strings]
    replaced = [text[:t] + rng.choice(letters) + text[t + 1 :] for text, t in zip(strings, spots, strict=True)]
    return [drawn, shuffled, replaced]


def scores(training: Corpus) -> dict[str, Judge]:
    """How odd a string is, by each model that learns from the same strings."""
    found = {f"tapegpt, {name}": _surprise(tapegpt.train(training, **options)) for name, options in WAYS.items()}
    grams, encode = NGrams(kernels(), training.tokens(), training.vocab_size, 5), training.vocabulary.encode_documents
    found["smoothed 5-gram"] = lambda texts: [grams.loss(encode([text])) for text in texts]
    if find_spec("gibberish_detector"):
        letters = "".join(sorted(set("".join(training.documents))))
        learned = import_module("gibberish_detector.trainer").train_on_content("\n".join(training.documents), letters)
        detector = import_module("gibberish_detector.detector").Detector(learned, inf)
        found["gibberish-detector"] = lambda texts: [*map(detector.calculate_probability_of_being_gibberish, texts)]
    return found


def _surprise(model: GPT) -> Judge:
    return lambda texts: model.score(texts).nats


def area(real: Sequence[float], fakes: Sequence[float]) -> float:
    """How often a fake is odder than a real string, of all pairs of them; as odd counts half."""
    ordered = sorted(real)
    return fmean(bisect_left(ordered, odd) + bisect_right(ordered, odd) for odd in fakes) / (2 * len(ordered))


def caught(real: Sequence[float], fakes: Sequence[float], alarms: float) -> float:
    """The share of fakes that are odder than all but this share of the real strings."""
    limit = [-inf, *sorted(real)][-1 - round(alarms * len(real))]
    return fmean(odd > limit for odd in fakes)
