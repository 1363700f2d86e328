"""Influence: the time to rank documents, and whether leaving out the first of a ranking makes a difference.

Each way to rank documents is tested: the model is trained again without the first k, the others in their order, and
the change of a string's loss is compared with that without k random ones. The gradients of all documents need NumPy.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from benchmarks.timing import Contender, figure, seconds, table, take_turns
from tapegpt import GPT, Corpus, Random, train
from tapegpt.analysis.attribution import Lessons, Retraining, attribute, encoded
from tapegpt.analysis.influence import EPSILON, Rater
from tapegpt.data.tokens import Tokens
from tapegpt.engines.base import Parameters
from tapegpt.engines.graph import exact_graph
from tapegpt.training.recording import replay

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector = NDArray[Any]

MODELS: dict[str, Any] = {"the default model": {}, "--preset quick": {"preset": "quick"}}
STEPS = 1000
SEEDS, STRINGS = 3, 8
LEFT_OUT = (10, 50)
DRAWS = 20
CHECKPOINTS = 10
RELATIVE = 1e-9  # of the largest product
ABSENT = "NumPy is not installed here, so that rankings cannot be compared: pip install -e '.[test]'\n"


def by_question(corpus: Corpus, rounds: int, steps: int = STEPS) -> str:
    """Milliseconds for an answer."""
    models = {name: train(corpus, steps=steps, **options) for name, options in MODELS.items()}
    contenders = [
        Contender(f"{name}, {about}", _asking(model, corpus.documents[0], unseen))
        for name, model in models.items()
        for about, unseen in (("documents trained on", False), ("all documents", True))
    ]
    rows = [[each.name, figure(each.median), each.spread] for each in take_turns(contenders, rounds)]
    return table("What taught a string", ["", "ms", "lowest..highest, ms"], rows)


def _asking(model: GPT, text: str, unseen: bool) -> Callable[[], float]:
    return lambda: 1e3 * seconds(lambda: attribute(model, text, unseen=unseen))


def by_ranking(corpus: Corpus, rounds: int, steps: int = STEPS, left_out: Sequence[int] = LEFT_OUT) -> str:
    """Changes of the loss, in standard deviations of random draws: means over strings and seeds, with their errors."""
    if not importlib.util.find_spec("numpy"):
        return ABSENT
    found: dict[str, dict[str, list[float]]] = {}
    for seed in range(1, min(SEEDS, rounds) + 1):
        model = train(corpus, steps=steps, seed=seed)
        trial = Trial(model, model.generate(STRINGS, seed=seed, min_length=2, distinct=True), left_out)
        for name, rankings in trial.rankings().items():
            for place, ranking in enumerate(rankings):
                for column, change in trial.changes(place, ranking).items():
                    found.setdefault(name, {}).setdefault(column, []).append(change)
    heads = list(next(iter(found.values())))
    rows = [[name, *[_mean(columns[head]) for head in heads]] for name, columns in found.items()]
    return table("A string's loss without the first k, in standard deviations of k at random", ["", *heads], rows)


def _mean(numbers: list[float]) -> str:
    return f"{fmean(numbers):+.1f} ± {stdev(numbers) / len(numbers) ** 0.5:.1f}"


class Trial:
    """A model, the documents that it was trained on, and trainings without some of them."""

    def __init__(self, model: GPT, texts: Sequence[str], left_out: Sequence[int] = LEFT_OUT) -> None:
        self.model, self.texts, self._left_out = model, texts, left_out
        self._queries = [encoded(model, text) for text in texts]
        self._lessons = Lessons(model, None)
        self._windows = self._lessons.order[: self._lessons.visits]
        self._documents = [self._lessons.document(window) for window in self._windows]
        self._retraining = Retraining(model, self._lessons)
        rng, distinct = Random(0), list(dict.fromkeys(self._documents))
        self._random = {count: [self._losses(rng.sample(distinct, count)) for _ in range(DRAWS)] for count in left_out}

    def _losses(self, left_out: Sequence[str]) -> list[float]:
        """Of all texts, after a training without some documents."""
        self._retraining.run_without(set(left_out))
        return [self._retraining.loss(query) for query in self._queries]

    def changes(self, place: int, ranking: Vector) -> dict[str, float]:
        """How far from random draws a text's loss gets without the first of a ranking, and without the last."""
        falling = list(dict.fromkeys(self._documents[number] for number in ranking.argsort()[::-1]))
        found = {}
        for what, order in (("taught", falling), ("hindered", falling[::-1])):
            for count in self._left_out:
                random = [losses[place] for losses in self._random[count]]
                loss = self._losses(order[:count])[place]
                found[f"{what}, k = {count}"] = (loss - fmean(random)) / stdev(random)
        return found

    def rankings(self) -> dict[str, list[Vector]]:
        """How much each document taught each text, by several ways."""
        import numpy as np

        steps, settings, tokens = self.model.steps, self._lessons.settings, self._lessons.tokens
        recording = replay(self.model, range(steps + 1), self._lessons.corpus)
        gradients = Gradients(self.model)
        gone = (np.arange(steps) + 1) / steps
        own, traced, scaled = (np.zeros((len(self.texts), steps)) for _ in range(3))
        for step, window in enumerate(self._windows):
            gradients.load(recording.moment(step).parameters)
            lesson = settings.learning_rate * (1 - step / steps) * gradients.of(tokens, window)
            own[:, step] = [lesson @ gradients.of(query, 0) for query in self._queries]

        def products_after(step: int) -> tuple[Vector, Vector, Vector]:
            gradients.load(recording.moment(step).parameters)
            lessons = np.stack([gradients.of(tokens, window) for window in self._windows])
            sizes = np.sqrt((lessons**2).mean(0)) + EPSILON
            queries = np.stack([gradients.of(query, 0) for query in self._queries])
            return queries @ lessons.T, (queries / sizes) @ lessons.T, np.linalg.norm(lessons, axis=1)

        for checkpoint in range(1, CHECKPOINTS + 1):
            products, over, _ = products_after(checkpoint * steps // CHECKPOINTS)
            rate = settings.learning_rate * (1 - (checkpoint - 0.5) / CHECKPOINTS)
            traced += rate * products
            scaled += rate * over
        products, over, norms = products_after(steps)
        self._check(over)
        shared = [[_shared(text, document) for document in self._documents] for text in self.texts]
        return {
            "pairs of characters in common": list(np.array(shared)),
            "gradients at each document's step": list(own),
            "gradients at the end": list(products),
            "their cosines": list(products / norms),
            f"gradients at {CHECKPOINTS} checkpoints (TracIn)": list(traced),
            "the same, over their sizes": list(scaled),
            "the same, by the share gone": list(scaled * gone),
            "gradients at the end, over their sizes": list(over),
            "the same, by the share gone (tapegpt why)": list(over * gone),
        }

    def _check(self, products: Vector) -> None:
        """The kernel's products are those of NumPy."""
        import numpy as np

        rater = Rater(self.model.config, self.model.vocab_size, self.model.parameters)
        for query, expected in zip(self._queries, products, strict=True):
            _, found = rater.rate(query, self._lessons.tokens, self._windows)
            apart = np.abs(np.array(found) - expected).max()
            assert apart <= RELATIVE * np.abs(expected).max(), f"a product is {apart} from NumPy's"


def _shared(text: str, document: str) -> float:
    """The share of the pairs of characters, the ends too, that two strings have in common."""
    some, others = (set(pairwise(["", *string, ""])) for string in (text, document))
    return len(some & others) / len(some | others)


class Gradients:
    """Gradients of single documents as arrays."""

    def __init__(self, model: GPT) -> None:
        import numpy as np

        self._graph = graph = exact_graph(model.config, model.vocab_size)
        extent = graph.tape.parameter_extent()
        self._own = np.frombuffer(graph.tape.regions()[1].view, dtype=np.float64, count=extent)

    def load(self, parameters: Parameters) -> None:
        """Take the gradients at these parameters from now on."""
        self._graph.places.write(self._graph.tape.arena, parameters)

    def of(self, tokens: Tokens, window: int) -> Vector:
        """The gradient of a window's loss."""
        graph = self._graph
        ids = tokens.ids[tokens.starts[window] : tokens.starts[window + 1] + 1][: graph.block_size + 1]
        about = {"tokens": ids[:-1], "positions": range(len(ids) - 1), "targets": ids[1:]}
        for name, each in about.items():
            graph.tape.write(graph.about(name), each)
        graph.tape.forward(graph.loss, len(ids) - 1)
        graph.tape.backward(graph.loss, len(ids) - 1)
        return self._own.copy()
