"""A recorded training as data for pictures: plain dicts, lists, numbers and strings, as JSON has them.

Losses are in nats per token. Not here: drawing (`views.js`), what is drawn (`explanation.py`, `recording.py`).
"""

from __future__ import annotations

import math
from _thread import allocate_lock
from collections import Counter
from itertools import chain, islice
from operator import mul

from tapegpt.data.corpus import Corpus
from tapegpt.data.labels import Labelled, labels_of
from tapegpt.errors import TapeGPTError, quote
from tapegpt.inference.explanation import explain
from tapegpt.inference.scores import UNKNOWN, Scores
from tapegpt.models.curves import curve
from tapegpt.models.loading import reference
from tapegpt.processes import renew_at_fork
from tapegpt.text import round_digits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence
    from typing import Any

    from tapegpt.data.vocabulary import Vocabulary
    from tapegpt.engines.base import Parameters
    from tapegpt.inference.explanation import Explanation
    from tapegpt.inference.scores import Score
    from tapegpt.models.trained import GPT
    from tapegpt.training.recording import Moment, Recording

    Data = dict[str, Any]

STRINGS = 20
LIKELY = 8  # next tokens
MAPPED = 100  # tokens, the most frequent ones
SAMPLED = 16  # rows and columns of a parameter in the picture of the model
AXES, ROUNDS = 2, 30  # of their map, and of the iteration that finds each
STILL = 0.99999  # cosine of the angle of a round, 0.26 degrees, from which an axis is found


class Facts:
    """What pictures need to know of a corpus."""

    def __init__(self, corpus: Corpus) -> None:
        self.known = frozenset(corpus.documents)
        counts = Counter(chain.from_iterable(corpus.vocabulary.split_all(corpus.documents)))
        self.shares = {token: round_digits(count / counts.total()) for token, count in counts.items()}


class Portrait:
    """A recording to look at, from any number of threads.

    Facts of its corpus cost milliseconds: whoever has them gives them.
    """

    def __init__(self, recording: Recording, facts: Facts | None = None) -> None:
        self.recording = recording
        self._revision = recording.model.engine.revision
        self._viewer: GPT | None = None
        self._lock = renew_at_fork(allocate_lock())
        self.facts = facts or Facts(recording.corpus or Corpus([], recording.model.vocabulary))
        model = recording.model
        self._shapes = {
            each.name: (each.rows, each.columns)
            for each in model.config.parameters(model.vocab_size)
            if not each.fixed  # which no moment has
        }
        self._shares = [self.facts.shares.get(token, 0.0) for token in model.vocabulary]
        self._rows = sorted(sorted(range(len(self._shares)), key=lambda row: -self._shares[row])[:MAPPED])
        self._map: _Map | None = None

    def run(self, text: str, temperature: float, label: Sequence[str] = ()) -> Data:
        """The whole training, and the moment of the model that came out."""
        recording, model = self.recording, self.recording.model
        return {
            "model": reference(type(model.config)),
            "settings": {**model.config.as_dict(), **recording.settings.as_dict()},
            "parameters": model.num_parameters,
            "vocabulary": list(model.vocabulary),
            "graph": graph_data(model),
            "labels": columns_data(model.vocabulary),
            "steps": model.steps,
            "losses": curve(recording.losses, recording.moments[0].step),
            "held_out": [evaluation.as_dict() for evaluation in recording.evaluations],
            "moments": [moment.step for moment in recording.moments],
            "moment": self.moment(recording.step, text, temperature, label),
        }

    def moment(self, step: int, text: str, temperature: float, label: Sequence[str] = ()) -> Data:
        """The model after so many steps, or at the last moment before: what it generates, and how it reads a text.

        The strings come from the same random numbers at every moment, and have the label where one is given. Raises
        `TapeGPTError` for a step that is not in the training, and as `explain` and `GPT.generate` do.
        """
        moment = self.recording.moment(step)
        parameters = moment.parameters
        with self._lock:
            viewer = self._model_at(moment)
            texts = viewer.generate(STRINGS, seed=self.recording.settings.seed, temperature=temperature, label=label)
            strings = string_data(viewer, texts, self.facts.known)
            explanation = explain(viewer, labelled(viewer, text, label))
        return {
            "step": moment.step,
            "loss": self._loss(moment.step),
            "strings": strings,
            "embeddings": self._embeddings(parameters),
            "explanation": explanation_data(explanation),
            "matrices": self._thumbnails(parameters),
        }

    def _model_at(self, moment: Moment) -> GPT:
        """The model as it was then; where it has not changed since, itself."""
        model = self.recording.model
        if moment.step == self.recording.step and model.engine.revision == self._revision:
            return model
        if self._viewer is None:
            self._viewer = self.recording.at(moment.step)
        self._viewer.engine.restore(moment.snapshot)
        return self._viewer

    def matrix(self, step: int, name: str) -> Data:
        """A parameter after so many steps; raises `TapeGPTError` for a name that there is not."""
        if name not in self._shapes:
            raise TapeGPTError(f"matrix must be one of {', '.join(self._shapes)}, not {quote(name)}")
        rows, columns = self._shapes[name]
        values = self.recording.moment(step).parameters[name]
        return {"name": name, "rows": rows, "columns": columns, "values": [round_digits(value) for value in values]}

    def _thumbnails(self, parameters: Parameters) -> list[Data]:
        """Every parameter, as a few of its rows and columns from -1 to 1."""
        found = []
        for name, (rows, columns) in self._shapes.items():
            down, across = (-(-size // SAMPLED) for size in (rows, columns))
            cells = [
                parameters[name][start : start + columns : across].tolist()
                for start in range(0, rows * columns, down * columns)
            ]
            most = max(max(map(abs, row)) for row in cells) or 1.0
            cells = [[round(number / most, 2) for number in row] for row in cells]
            found.append({"name": name, "rows": rows, "columns": columns, "cells": cells})
        return found

    def _loss(self, step: int) -> float | None:
        """The mean of the losses of the steps around one."""
        losses = self.recording.losses
        at = step - self.recording.moments[0].step
        reach = min(max(at, 1), max(1, len(losses) // 40))  # in the first steps it falls fast
        near = losses[max(0, at - reach) : at + reach]
        return round_digits(math.fsum(near) / len(near)) if near else None

    def _embeddings(self, parameters: Parameters) -> list[Data]:
        """The tokens in a plane, by the rows of the table in which they are looked up, where there is one."""
        model = self.recording.model
        table = model.config.record(model.vocab_size).table
        if table is None:
            return []
        if self._map is None:
            last = self.recording.moments[-1].parameters[table.name]
            self._map = _Map(last, self._rows, table.shape.columns)
        points = zip(self._rows, self._map.project(parameters[table.name]), strict=True)
        vocabulary, shares = self.recording.model.vocabulary, self._shares
        return [{"character": vocabulary[row], "share": shares[row], "x": x, "y": y} for row, (x, y) in points]


def graph_data(model: GPT) -> list[Data]:
    """The recorded forward pass and the loss, operation by operation, each behind those whose results it takes.

    Parameters are those that are trained.
    """
    recorded = model.config.record(model.vocab_size)
    nodes = [node for node in recorded.tape.order(recorded.loss) if node.operation]
    index = {node: number for number, node in enumerate(nodes)}
    found = []
    for node in nodes:
        operation = node.operation
        assert operation
        found.append(
            {
                "name": node.name,
                "operation": operation.name,
                "formula": operation.formula.format(name=operation.name, n="n"),
                "parameters": [each.name for each in node.inputs if each.is_parameter and not each.fixed],
                "inputs": [index[each] for each in node.inputs if each in index],
            }
        )
    return found


def nats(model: GPT, text: str) -> float:
    """The mean surprise of a token of a text, by the model's own engine where it fits the block."""
    vocabulary = model.vocabulary
    pieces = vocabulary.split_all([text])
    if len(vocabulary.labels) + len(pieces[0]) >= model.config.block_size:
        return round_digits(Scores(model.inference, vocabulary, [text], (), counts=model.counts).nats[0])
    unknown = vocabulary.unknown(pieces)  # where it was generated by other tokens than those it is split into
    tokens = vocabulary.encode_all(vocabulary.without(unknown, pieces)).behind(vocabulary.heads([text]))
    total, count = model.engine.evaluate(tokens)
    lost = len(vocabulary.labels) + len(pieces[0]) + 1 - count
    return round_digits((total + UNKNOWN * lost) / (count + lost))


def string_data(model: GPT, texts: Iterable[str], known: Container[str]) -> list[Data]:
    """Generated strings: whether each is a training string, and how surprising it is."""
    return [
        {"text": str(text), "labels": list(labels_of(text)), "known": text in known, "nats": nats(model, text)}
        for text in texts
    ]


def columns_data(vocabulary: Vocabulary) -> list[Data]:
    """The columns of labels."""
    return [{"name": name, "values": list(values)} for name, values in vocabulary.labels]


def labelled(model: GPT, text: str, label: Sequence[str] = ()) -> str:
    """A text to read: with the labels that it has, else those that are given, else the most probable ones."""
    if not model.vocabulary.labels or labels_of(text):
        return text
    (found,) = model.classify([text], label=label).labels
    return Labelled(text, found or ())


def score_data(score: Score, classes: Iterable[tuple[tuple[str, ...], float]] = ()) -> Data:
    """How surprising a string is, and how probable its labels are, the most probable first."""
    return {
        "text": score.text,
        "tokens": list(score.tokens),
        "nats": score.nats,
        "bits": score.bits,
        "perplexity": score.perplexity,
        "percentile": score.percentile,
        "surprises": list(score.surprises),
        "unknown": sorted({score.tokens[position] for position in score.unknown}),
        "classes": [[" · ".join(labels), round_digits(p)] for labels, p in islice(classes, LIKELY)],
    }


def explanation_data(explanation: Explanation) -> Data:
    """How a text is read."""
    tokens = explanation.vocabulary
    index = {token: number for number, token in enumerate(tokens)}
    following = [sorted(zip(row, tokens, strict=True), reverse=True)[:LIKELY] for row in explanation.probabilities]
    came = [row[index[target]] for row, target in zip(explanation.probabilities, explanation.targets, strict=True)]
    heads = [[[list(map(round_digits, row)) for row in head] for head in layer] for layer in explanation.attention]
    return {
        "text": str(explanation.text),
        "labels": list(explanation.targets[: len(labels_of(explanation.text))]),
        "inputs": list(explanation.inputs),
        "targets": list(explanation.targets),
        "surprises": list(map(round_digits, explanation.surprises)),
        "loss": round_digits(explanation.loss),
        "next": [[[token, round_digits(p)] for p, token in row] for row in following],
        "target_p": list(map(round_digits, came)),
        "attention": heads,
        "gradients": [{"name": name, "norms": list(map(round_digits, norms))} for name, norms in explanation.gradients],
    }


class _Map:
    """Rows of a table as points in a plane: the first two principal components of one state of it.

    Found by power iteration. With one state's axes for all, points move from state to state and do not flip.
    """

    def __init__(self, table: Sequence[float], rows: list[int], columns: int) -> None:
        self._rows, self._columns = rows, columns
        self._centre, self._axes, self._scale = [0.0] * columns, list[list[float]](), 1.0
        self._centre = [math.fsum(column) / len(rows) for column in zip(*self._points(table), strict=True)]
        left = self._points(table)
        for _ in range(AXES):
            axis = _unit(max(left, key=lambda point: _dot(point, point)))
            for _ in range(ROUNDS):
                former, weights = axis, [_dot(point, axis) for point in left]
                axis = _unit([_dot(weights, column) for column in zip(*left, strict=True)])
                if _dot(former, axis) > STILL:
                    break
            left = [_minus(point, axis, _dot(point, axis)) for point in left]
            self._axes.append(axis)
        self._scale = max(abs(number) for point in self.project(table) for number in point) or 1.0

    def _points(self, table: Sequence[float]) -> list[list[float]]:
        starts = [row * self._columns for row in self._rows]
        return [_minus(table[start : start + self._columns], self._centre) for start in starts]

    def project(self, table: Sequence[float]) -> list[list[float]]:
        """(rows, 2): from -1 to 1 in the state that the axes are of."""
        return [[round_digits(_dot(point, axis) / self._scale) for axis in self._axes] for point in self._points(table)]


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    product: float = sum(map(mul, a, b))
    return product


def _unit(vector: Sequence[float]) -> list[float]:
    length = math.hypot(*vector) or 1.0
    return [number / length for number in vector]


def _minus(a: Sequence[float], b: Sequence[float], times: float = 1.0) -> list[float]:
    return [x - times * y for x, y in zip(a, b, strict=True)]
