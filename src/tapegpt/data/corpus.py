"""Documents and their vocabulary. Not here: files and how they are read (`sources.py`), order, training.

A document is a stripped string, with labels a `Labelled` one; the vocabulary is the sorted set of tokens, then labels,
and after them comes BOS, the token before and after every document. Whatever selects documents keeps their labels.
"""

from __future__ import annotations

from functools import cached_property

from tapegpt.data.labels import labels_of, read_labels, without_gaps
from tapegpt.data.sources import Selection, Source
from tapegpt.data.vocabulary import CHARACTERS, Vocabulary
from tapegpt.errors import TapeGPTError
from tapegpt.log import log
from tapegpt.ranges import Instance, Whole
from tapegpt.record import Record
from tapegpt.settings import Settings
from tapegpt.text import amount

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Iterable
    from typing import Any, Unpack

    from tapegpt.data.labels import Columns
    from tapegpt.data.sources import Reading
    from tapegpt.data.tokens import Tokens


class Corpus(Record):
    """Documents in order, and the vocabulary: their distinct tokens, sorted. Any number of threads may use one."""

    documents: list[str]
    vocabulary: Vocabulary
    source: Source | None = None  # what gives the documents again

    @classmethod
    def of(
        cls,
        strings: Iterable[str],
        *,
        tokens: str = CHARACTERS,
        lowercase: bool = False,
        max_length: int | None = None,
        unique: bool = False,
        labels: Any = None,
    ) -> Corpus:
        """A corpus of these strings, stripped, empty ones left out.

        A column of pandas, pyarrow, polars or numpy does as well, and its nulls are left out too. `tokens` is the rule
        of a `Vocabulary`; `lowercase`, `max_length` and `unique` are those of `Source`. `labels` are a value for each
        string, or several columns of them by name; strings without one are left out, of which it warns. Raises
        `TapeGPTError` for anything but strings, and where no characters are left.
        """
        from tapegpt.data.strings import strings_of, values_of

        selection = Selection(lowercase=lowercase, max_length=max_length, unique=unique)
        columns: Columns = {}
        if labels is None:
            documents = selection.select(strings_of(strings, "documents", drop_nulls=True))
        else:
            values = values_of(strings, "documents")
            columns = read_labels(labels, len(values))
            documents = without_gaps(selection.select(values, labels=list(columns.values())), list(columns))
        if not documents:
            longest = "" if max_length is None else f" and has at most {max_length} characters"
            raise TapeGPTError(f"there is no document: give at least one string that is not blank{longest}")
        return cls(documents, Vocabulary.of(documents, tokens, list(columns)))

    @classmethod
    def read(cls, *paths: str | os.PathLike[str], tokens: str = CHARACTERS, **options: Unpack[Reading]) -> Corpus:
        r"""The documents of files, of all files in directories and zip files, and for "-" of standard input.

        Gzip, xz and bzip2 are inflated. A document is a line of a text, stripped, blank ones left out; CR LF, CR and LF
        end a line, a BOM is dropped. In tables, `.csv`, `.tsv`, `.jsonl`, `.json`, `.parquet`, `.arrow` and `.feather`
        files or what `format` says is one, it is a value of the `column`. Of a text the `delimiter` lies between
        documents: "\n" makes each line one, "\n\n" each block of lines between blank lines (of spaces and tabs at
        most), "" the whole file, any other text what lies between its occurrences. `tokens` is the rule of a
        `Vocabulary`, options are the fields of `Source`, of which `labels` names columns. Raises `TapeGPTError` for a
        file that is missing, unreadable, not text in this encoding, or no table with such a column, and where no
        document is left.
        """
        from tapegpt.files import path_text

        return cls.from_source(Source(paths=tuple(map(path_text, paths)), **options), tokens)

    @classmethod
    def dataset(cls, name: str, tokens: str = CHARACTERS) -> Corpus:
        """An embedded data set, one of `DATASETS` in `sources.py`; provenance in `datasets/README.md`."""
        return cls.from_source(Source(dataset=name), tokens)

    @classmethod
    def from_source(cls, source: Source, tokens: str = CHARACTERS) -> Corpus:
        """The documents of a source; raises `TapeGPTError` as `read` does."""
        Instance(Source).check("source", source)
        Vocabulary((), tokens)  # refuses before it reads
        documents = source.documents()
        log("read %d documents", len(documents))
        return cls(documents, Vocabulary.of(documents, tokens, source.labels), source)

    def __eq__(self, other: object) -> bool:
        """Whether these are the same documents and tokens, wherever they come from."""
        if not isinstance(other, Corpus):
            return NotImplemented
        here, there = (list(map(labels_of, each.documents)) for each in (self, other))
        return (self.documents, self.vocabulary, here) == (other.documents, other.vocabulary, there)

    __hash__ = None  # type: ignore[assignment]  # its documents are a list

    def digest(self) -> str:
        """SHA-256 of the documents and their order, in hexadecimal: of lengths, then of characters, then of labels."""
        from hashlib import sha256

        lengths = list(map(len, self.documents))
        shown = {length: str(length) for length in set(lengths)}  # few differ: half the time
        text = "".join([",".join(map(shown.__getitem__, lengths)), "\n", *self.documents])
        digest = sha256(text.encode("utf-8", "surrogatepass"))
        if self.vocabulary.labels:
            digest.update(repr([self.vocabulary.columns, *map(labels_of, self.documents)]).encode("ascii", "replace"))
        return digest.hexdigest()

    @property
    def vocab_size(self) -> int:
        """Number of tokens, with BOS."""
        return self.vocabulary.size

    def __len__(self) -> int:
        return len(self.documents)

    def __repr__(self) -> str:
        return f"<Corpus of {len(self):,} documents, {amount(len(self.vocabulary), self.vocabulary.unit)}>"

    @cached_property  # by a regular expression 30,000 strings take 0.2 s, and a budget asks three times
    def predictions(self) -> int:
        """Tokens that are predicted in all documents: their own, and the end of each."""
        return sum(self.lengths()) + len(self)

    def lengths(self) -> list[int]:
        """How many tokens each document has, with its labels."""
        return list(map(len(self.vocabulary.labels).__add__, map(len, self.vocabulary.split_all(self.documents))))

    def sample(self, predictions: int) -> Corpus:
        """Evenly spaced documents that make about so many predictions, at least one; all where they make no more."""
        total, size = self.predictions, len(self)
        if total <= predictions:
            return self
        count = max(size * predictions // total, 1)
        return self.replace(documents=[self.documents[i * size // count] for i in range(count)], source=None)

    def tokens(self, order: Iterable[int] | None = None) -> Tokens:
        """Documents as token ids: all, or those with these numbers, in this order."""
        documents = self.documents if order is None else [self.documents[number] for number in order]
        return self.vocabulary.encode_documents(documents)

    def windows(self, block_size: int, order: Iterable[int] | None = None, long: str = "window") -> Tokens:
        """`tokens(order)`, with a document of more than `block_size` predictions as several windows in a row.

        Each window but a document's last makes `block_size` predictions, and the next one starts with the token that
        it ends with. Where they "overlap", a copy of the document follows whose windows begin in the middle of these,
        as strings beyond the block are generated. "cut" is for an engine that trains on the beginning: every document
        is one window, whatever its length. Raises `TapeGPTError` unless block_size is a whole number from 1 on, and
        for another `long`.
        """
        Whole(1).check("block_size", block_size)
        Settings.ranges["long"].check("long", long)
        tokens = self.tokens(order)
        longest = max(map(len, self.documents), default=0) + len(self.vocabulary.labels)
        short = longest < block_size  # no token is shorter than a character
        return tokens if long == "cut" or short else tokens.windows(block_size, long)

    def sorted_windows(self, block_size: int, order: Iterable[int] | None = None) -> Tokens:
        """`windows(block_size, order)` sorted by text: the engine exact reads what they begin with only once."""
        numbers = range(len(self)) if order is None else order
        return self.windows(block_size, sorted(numbers, key=self.documents.__getitem__))


CORPUS = Instance(Corpus, "give Corpus.read(path) or Corpus.of(strings)")
