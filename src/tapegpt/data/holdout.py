"""Documents held out to validate on. Not here: the loss on them (`ngrams.py` says what it is to be compared with).

A document and its duplicates stay on one side: a model is not to be praised for a string that it was trained on, and
2,539 of the 32,033 names that microgpt.py is measured on come more than once.
"""

from __future__ import annotations

from itertools import filterfalse

from tapegpt.data.labels import identity
from tapegpt.data.rng import Random
from tapegpt.errors import TapeGPTError
from tapegpt.ranges import Number
from tapegpt.settings import SEED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.data.corpus import Corpus

_OWN_DRAWS = 0x686F6C646F7574  # "holdout": the words of the seed after it make the draws other than a training's


def hold_out(corpus: Corpus, share: float, seed: int) -> tuple[Corpus, Corpus]:
    """(training, validation): this share of the distinct documents, chosen at random, is held out.

    Both keep the file's order and the whole vocabulary. Training keeps its duplicates, validation has each document
    once: `round(share * distinct)` of them, at least one and never all; of a text with several labels it has each of
    these once. The same corpus, share and seed give the same.
    Raises `TapeGPTError` for a share that is not between 0 and 1, and where there are not two distinct documents.
    """
    Number(0, 1, "()").check("the share to hold out", share)
    SEED.check("seed", seed)
    distinct = list(dict.fromkeys(corpus.documents))
    if len(distinct) < 2:
        raise TapeGPTError(
            "documents that are all the same cannot be split: give two distinct ones or more, or hold out none"
        )
    count = min(max(round(share * len(distinct)), 1), len(distinct) - 1)
    order = Random((seed << 64) + _OWN_DRAWS).permutation(len(distinct))
    held_out = set(map(distinct.__getitem__, order[:count]))
    found = filter(held_out.__contains__, corpus.documents)
    validation = list({identity(document): document for document in found}.values())
    training = list(filterfalse(held_out.__contains__, corpus.documents))
    whole = corpus.replace(source=None)  # which gives more than either
    return whole.replace(documents=training), whole.replace(documents=validation)
