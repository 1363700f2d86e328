"""Corpora and runs, in memory alone; where they become too many, the least recently used are dropped.

Used by the event loop's thread only. Not here: what is done with them (`runs.py`).
"""

from __future__ import annotations

import time
from collections import Counter
from secrets import token_urlsafe
from typing import Generic, TypeVar

from tapegpt.data.corpus import Corpus
from tapegpt.data.labels import Labelled, identity
from tapegpt.errors import quote
from tapegpt.studio.limits import RefusedError, weights
from tapegpt.web.data import Facts, columns_data

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from tapegpt.inference.scores import Score
    from tapegpt.training.trainer import Trainer
    from tapegpt.web.data import Portrait

MAX_CORPORA, MAX_CORPUS_BYTES = 32, 256 << 20
MAX_RUNS, MAX_RUN_BYTES = 64, 1 << 30
TEXT_BYTES = 120  # of a short string in a list and a set
RANK_WORK = 2e10  # multiply-adds, some seconds
JUDGED = 1000  # held-out strings that runs are compared by
ENGINES = 8  # copies of parameters and attention weights in engines and what they work with


class KeptCorpus:
    """A corpus and what is known of it."""

    def __init__(self, corpus: Corpus, name: str) -> None:
        self.id, self.corpus, self.name = token_urlsafe(12), corpus, name
        self.baselines: dict[str, float] | None = None
        self.lengths = sorted(corpus.lengths())  # in tokens
        self.characters = sum(map(len, corpus.documents))
        self.tokens = sum(self.lengths) + len(corpus)
        self.facts = Facts(corpus)
        self.distinct = len(set(map(identity, corpus.documents)))
        self.dataset = corpus.source.dataset if corpus.source else None
        self.bytes = self.characters + TEXT_BYTES * len(corpus)

    def as_dict(self) -> dict[str, Any]:
        """The response of that name in `responses.py`."""
        corpus, lengths = self.corpus, self.lengths
        apart = max(1, len(corpus) // 10)
        return {
            "id": self.id,
            "name": self.name,
            "dataset": self.dataset,
            "documents": len(corpus),
            "distinct": self.distinct,
            "characters": self.characters,
            "tokens": corpus.vocabulary.rule,
            "vocabulary": list(corpus.vocabulary),
            "labels": columns_data(corpus.vocabulary),
            "longest": lengths[-1],
            "median": lengths[len(lengths) // 2],
            "lengths": list(Counter(lengths).items()),
            "sample": [text[:100] for text in corpus.documents[::apart][:10]],
            "baselines": self.baselines,
        }


class KeptRun:
    """A recorded training, or a model from a file; `trainer` is what made it, where it was made here."""

    def __init__(
        self,
        portrait: Portrait,
        name: str,
        corpus: KeptCorpus | None = None,
        seconds: dict[str, float] | None = None,
        trainer: Trainer | None = None,
    ) -> None:
        self.id, self.portrait, self.name = token_urlsafe(12), portrait, name
        self.corpus, self._trainer = corpus, trainer
        self.created = int(time.time())
        self.recording = portrait.recording
        self.model = self.recording.model
        self.known = portrait.facts.known
        self._seconds = seconds or dict.fromkeys(("train", "compile", "all"), 0.0)
        config = self.model.config
        numbers = self.model.num_parameters * (len(self.recording.moments) + ENGINES)
        numbers += ENGINES * weights(config, self.model.vocab_size, config.block_size)
        self.bytes = 8 * numbers + 32 * len(self.recording.losses)

    def as_dict(self) -> dict[str, Any]:
        """The response `Run` of `responses.py`, but for what its portrait shows."""
        return {
            "id": self.id,
            "corpus": self.corpus.id if self.corpus else None,
            "name": self.name,
            "seconds": self._seconds,
            "baselines": self.corpus.baselines if self.corpus else None,
        }

    @property
    def tokens(self) -> int:
        """Of its training strings."""
        return (
            self.corpus.tokens
            if self.corpus
            else Corpus(list(self.model.documents or ()), self.model.vocabulary).predictions
        )

    def as_summary(self) -> dict[str, Any]:
        """The response `Summary` of `responses.py`."""
        model = self.model
        return {"id": self.id, "name": self.name, "parameters": model.num_parameters, "steps": model.steps}

    def scores(self, strings: list[str], label: list[str]) -> Iterable[Score]:
        """How surprising strings are; compared with the training strings where judging these is quick.

        Labels that are not given are summed over.
        """
        from tapegpt.inference.scores import Scores

        model = self.model
        if self.tokens * model.num_parameters <= RANK_WORK:
            model.rank()
        known = model.vocabulary.combination(label)
        texts = [Labelled(text, known) for text in strings] if known else strings
        ranks = () if None in known else model.ranks
        return Scores(model.inference, model.vocabulary, texts, ranks, counts=model.counts) if strings else ()

    def judge(self) -> dict[str, Any]:
        """The response `Judgement` of `responses.py`; none of what is not held out."""
        judged = self._trainer.judged if self._trainer else None
        texts = judged.documents[:JUDGED] if judged else []
        return {"documents": list(map(str, texts)), "nats": self.model.score(texts).nats.tolist() if texts else []}

    def file(self) -> bytes:
        """The bytes of its model file, which holds the training where it was made here."""
        from tapegpt.models.writing import dumps

        self._keep_training()
        return dumps(self.model)

    def page(self) -> bytes:
        """It as a page in one file, which trains it again where it was made here."""
        from tapegpt.export.page import export

        self._keep_training()
        return export(self.model, train=self._trainer is not None)

    def _keep_training(self) -> None:
        if self._trainer is not None and self.model.state is None:
            self._trainer.keep(lambda _: None)


T = TypeVar("T", KeptCorpus, KeptRun)


class Shelf(Generic[T]):
    """What is kept by its id, in the order of its use; where it is too much, the least recently used is dropped.

    The last is never dropped, nor is the first where it is to stay.
    """

    def __init__(self, what: str, most: int, most_bytes: int, *, first_stays: bool = False) -> None:
        self._what, self._most, self._most_bytes, self._first_stays = what, most, most_bytes, first_stays
        self._kept: dict[str, T] = {}

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._kept.values()))

    def add(self, kept: T) -> None:
        """Keep it."""
        self._kept[kept.id] = kept
        for key in list(self._kept)[self._first_stays : -1]:
            if len(self._kept) <= self._most and sum([each.bytes for each in self]) <= self._most_bytes:
                return
            del self._kept[key]

    def __getitem__(self, key: str) -> T:
        """What has this id, which is used now; raises `RefusedError` where there is none."""
        if key not in self._kept:
            missing = f"there is no {self._what} {quote(key)}, or no longer: make it anew"
            raise RefusedError(404, "not_found", missing)
        if not (self._first_stays and key == next(iter(self._kept))):
            self._kept[key] = self._kept.pop(key)
        return self._kept[key]

    def __delitem__(self, key: str) -> None:
        """Forget it; raises `RefusedError` where there is none."""
        del self._kept[self[key].id]
