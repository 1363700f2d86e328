"""What a model remembers of its training, so that it can be resumed: settings, moments, evaluations, data.

Not here: resuming (`trainer.py`), files (`checkpoint.py`).
"""

from __future__ import annotations

from tapegpt.data.corpus import Corpus
from tapegpt.data.packed import STDIN
from tapegpt.data.sources import Source
from tapegpt.data.vocabulary import distinct
from tapegpt.engines.base import STEPS, Moments, Parameters
from tapegpt.errors import TapeGPTError, either, is_number, quote
from tapegpt.ranges import Number, Whole
from tapegpt.record import Record, field
from tapegpt.settings import SECONDS, Settings
from tapegpt.text import amount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


COUNT = Whole(0, 1 << 53)


class Evaluation(Record):
    """The held-out loss after so many steps, in nats per token; infinite where it is no number."""

    step: int = field("", STEPS)
    loss: float

    def check(self) -> None:
        """Raise `TapeGPTError` for a loss that is none."""
        if not is_number(self.loss) or not self.loss >= 0:
            raise TapeGPTError(f"a held-out loss must be a number from 0 on, not {quote(self.loss)}")


class TrainingState(Record):
    """Where a training stands; its steps and random generator are the model's."""

    settings: Settings  # with the threads that were used, which decide about bits
    moments: Moments
    evaluations: tuple[Evaluation, ...] = ()
    last: Parameters | None = None  # parameters to resume with, where the model generates with better ones
    spent: float = field("seconds of a budget", Number(0, SECONDS.most), default=0.0)


class DataRecord(Record):
    """Which documents a model was trained on, without the documents."""

    source: dict[str, Any] | None  # fields of `Source`, paths absolute, "-" for a stream; None for a program's strings
    documents: int = field("", COUNT)
    characters: int = field("", COUNT)
    vocabulary: str
    digest: str

    def check(self) -> None:
        """Raise `TapeGPTError` for fields of another kind."""
        if not isinstance(self.vocabulary, str) or not isinstance(self.digest, str):
            raise TapeGPTError(f"vocabulary and digest of the data must be a str, not {quote(self.vocabulary)}")
        if self.source is not None:
            Source(**self.source)

    @classmethod
    def of(cls, corpus: Corpus) -> DataRecord:
        """What there is to say of a corpus."""
        source = corpus.source
        if source:
            source = source.absolute() if source.again else source.replace(paths=(STDIN,))
        text = "".join(corpus.documents)
        fields = source.as_json() if source else None
        if fields and not fields["labels"]:
            del fields["labels"]  # a file of a model without them knows nothing of any
        return cls(fields, len(corpus), len(text), distinct(text), corpus.digest())

    def source_of(self, *paths: str) -> Source:
        """Other files, read as these documents were."""
        return Source(**{**(self.source or {}), "paths": paths, "dataset": None})

    def check_equals(self, corpus: Corpus, name: str) -> None:
        """Raise `TapeGPTError`, saying all that differs, unless these are the documents."""
        other = DataRecord.of(corpus)
        differences = []
        for noun in ("document", "character"):
            then, now = getattr(self, f"{noun}s"), getattr(other, f"{noun}s")
            if then != now:
                differences.append(f"{amount(now, noun)}, not {then:,}")
        for what, here, there in (("new", other, self), ("missing", self, other)):
            if characters := set(here.vocabulary) - set(there.vocabulary):
                differences.append(f"{what} in the vocabulary {quote(''.join(sorted(characters)))}")
        if not differences and self.digest != other.digest:
            differences.append("as many documents and characters, but others, or in another order")
        if differences:
            raise TapeGPTError(
                f"{name} is not what the model was trained on: {'; '.join(differences)}: give that data, or finetune"
            )

    def read(self) -> Corpus:
        """The documents, from where they came; raises `TapeGPTError` where they are not there, or have changed."""
        source = None if self.source is None else Source(**self.source)
        if source is None or not source.again:
            raise TapeGPTError(
                "the training data came from a program or standard input: give its file again by "
                f"{either('read_training_data', '--training-data')}, or to resume as data"
            )
        corpus = Corpus.from_source(source)
        self.check_equals(corpus, source.dataset or ", ".join(source.paths))
        return corpus
