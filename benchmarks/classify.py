"""Labels told by a model and by logistic regression on character n-grams (scikit-learn), on names that packages ship.

Both learn from the same strings and are judged on the same others, each text on one side. What is to be chosen, the
regression's regularisation and this model's shape and temperature, is chosen on a tenth of what is learned from. Times
are CPU time of one process, all that was tried among it. Not here: generation (`generators.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import tapegpt
from benchmarks.timing import cpu_seconds, figure, table
from tapegpt import GPT, Corpus
from tapegpt.data.holdout import hold_out
from tapegpt.data.labels import labels_of

LOCALES = ("de_DE", "en_US", "es_ES", "fi_FI", "fr_FR", "hr_HR", "it_IT", "nl_NL", "sv_SE")
TESTED, VALIDATION, SEED = 0.2, 0.1, 1
STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)  # C of the regression
LEAST = 1e-12  # of a probability whose log is taken
WAYS: tuple[dict[str, Any], ...] = (
    {"preset": "quick"},
    {"engine": "fast", "n_embd": 32, "steps": 6000, "batch_size": 16, "learning_rate": 0.005},
    {"engine": "fast", "n_layer": 2, "n_embd": 32, "steps": 12_000, "batch_size": 16, "learning_rate": 0.005}
    | {"weight_decay": 0.3},
)

Shares = Callable[[Sequence[str]], list[dict[str, float]]]  # of each string the probabilities of labels


def by_task() -> str:
    """Accuracy, log loss and seconds on each task, of each tool that is installed."""
    rows = []
    for name, corpus in tasks().items():
        training, tested = hold_out(corpus, TESTED, SEED)
        tools: dict[str, Callable[[Corpus], Shares]] = {"tapegpt": _train}
        if find_spec("sklearn"):
            tools["logistic regression, 1- to 4-grams"] = _regress
        for tool, train in tools.items():
            made: list[Any] = []
            learned = cpu_seconds(lambda: made.append(train(training)))  # called at once
            told = cpu_seconds(lambda: made.append(made[0](tested.documents)))
            right, nats = _judge(tested.documents, made[1])
            rows.append([name, tool, f"{right:.1%}", f"{nats:.3f}", figure(learned), figure(told)])
    heads = ["", "", "right", "log loss, nats", "training, s", "telling, s"]
    absent = "" if find_spec("sklearn") else "scikit-learn is not installed here: pip install -e '.[peers]'\n"
    return f"{table('Labels of names that were held out', heads, rows)}\n{absent}"


def tasks() -> dict[str, Corpus]:
    """Names with labels: of two lists of the US Census, and of the countries and sexes of Faker's lists."""
    lists = {name: Corpus.dataset(name).documents for name in ("names", "surnames")}
    found = {"first name or surname, US Census": _corpus(lists)}
    if find_spec("faker"):
        people = {name[-2:]: import_module(f"faker.providers.person.{name}").Provider for name in LOCALES}
        found["country of a surname, Faker"] = _corpus({name: each.last_names for name, each in people.items()})
        sexes = {
            sex: [text for each in people.values() for text in getattr(each, f"first_names_{sex}")]
            for sex in ("female", "male")
        }
        found["sex of a first name, Faker"] = _corpus(sexes)
    return found


def _corpus(lists: Mapping[str, Sequence[str]]) -> Corpus:
    texts = [text for each in lists.values() for text in dict.fromkeys(each)]
    labels = [label for label, each in lists.items() for _ in dict.fromkeys(each)]
    return Corpus.of(texts, labels=labels, lowercase=True)


def _train(training: Corpus) -> Shares:
    _, judged = hold_out(training, VALIDATION, SEED)
    models = [tapegpt.train(training, validation=VALIDATION, seed=SEED, threads=1, **way) for way in WAYS]
    return min(map(_teller, models), key=lambda shares: _judge(judged.documents, shares(judged.documents))[1])


def _teller(model: GPT) -> Shares:
    return lambda texts: [{label: share for (label,), share in each.items()} for each in model.classify(texts)]


def _regress(training: Corpus) -> Shares:
    from sklearn.feature_extraction.text import CountVectorizer  # type: ignore[import-not-found,unused-ignore]  # a peer
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-not-found,unused-ignore]  # a peer
    from sklearn.pipeline import make_pipeline  # type: ignore[import-not-found,unused-ignore]  # a peer

    def fit(corpus: Corpus, strength: float) -> Shares:
        grams = CountVectorizer(analyzer="char", ngram_range=(1, 4), lowercase=False, binary=True)
        made = make_pipeline(grams, LogisticRegression(C=strength, max_iter=1000))
        made.fit([f"^{text}$" for text in corpus.documents], [labels_of(text)[0] for text in corpus.documents])
        return lambda texts: [
            dict(zip(made.classes_, row, strict=True)) for row in made.predict_proba([f"^{text}$" for text in texts])
        ]

    learned, judged = hold_out(training, VALIDATION, SEED)
    losses = {each: _judge(judged.documents, fit(learned, each)(judged.documents))[1] for each in STRENGTHS}
    return fit(training, min(losses, key=losses.__getitem__))


def _judge(documents: Sequence[str], shares: Sequence[dict[str, float]]) -> tuple[float, float]:
    """The share of labels that are right, and the mean of -log of their probabilities."""
    right = [labels_of(text)[0] or "" for text in documents]
    hits = sum(max(each, key=each.__getitem__) == label for label, each in zip(right, shares, strict=True))
    nats = [-math.log(max(each.get(label, 0.0), LEAST)) for label, each in zip(right, shares, strict=True)]
    return hits / len(right), math.fsum(nats) / len(right)
