"""Which documents a string is like: edit distances to all of them (insertions, deletions, replacements). Not here: how
a distance is computed (rapidfuzz).
"""

from __future__ import annotations

from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Neighbour(Record):
    """The document nearest to a string; of several the first."""

    document: str
    distance: int


class Neighbours:
    """Documents, at least one, that strings are compared with: about 1 ms a string for 30,000 short ones."""

    def __init__(self, documents: Iterable[str]) -> None:
        self._distinct = dict.fromkeys(documents)
        self._listed = list(self._distinct)
        self._by_length: dict[int, list[str]] = {}

    def __len__(self) -> int:
        """Distinct documents."""
        return len(self._listed)

    def within(self, text: str, distance: int) -> bool:
        """Whether a document is at most so many edits away."""
        if text in self._distinct:
            return True
        if not distance:
            return False
        from rapidfuzz.distance import Levenshtein
        from rapidfuzz.process import extract_iter

        for more in sorted(range(-distance, distance + 1), key=abs):  # the likeliest first
            some = self._of_length(len(text) + more)
            if next(extract_iter(text, some, scorer=Levenshtein.distance, score_cutoff=distance), None):
                return True
        return False

    def _of_length(self, length: int) -> list[str]:
        if not self._by_length:
            by_length: dict[int, list[str]] = {}
            for document in self._distinct:
                by_length.setdefault(len(document), []).append(document)
            self._by_length = by_length  # whole at once, for other threads
        return self._by_length.get(length, [])

    def nearest(self, text: str) -> Neighbour:
        """The nearest document, itself where it is one; there must be one."""
        from rapidfuzz.distance import Levenshtein
        from rapidfuzz.process import extractOne

        if text in self._distinct:
            return Neighbour(text, 0)
        document, distance, _ = extractOne(text, self._listed, scorer=Levenshtein.distance)
        return Neighbour(document, int(distance))
