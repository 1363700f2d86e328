"""Which documents a string is like: edit distances to all of them (insertions, deletions, replacements). Not here: how
a distance is computed (`edits.py`).
"""

from __future__ import annotations

from tapegpt.data.edits import is_near, nearest
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
        lengths = sorted(range(len(text) - distance, len(text) + distance + 1), key=lambda n: abs(n - len(text)))
        return any(is_near(text, self._of_length(length), distance) for length in lengths)  # the likeliest first

    def _of_length(self, length: int) -> list[str]:
        if not self._by_length:
            by_length: dict[int, list[str]] = {}
            for document in self._distinct:
                by_length.setdefault(len(document), []).append(document)
            self._by_length = by_length  # whole at once, for other threads
        return self._by_length.get(length, [])

    def nearest(self, text: str) -> Neighbour:
        """The nearest document, itself where it is one; there must be one."""
        return Neighbour(text, 0) if text in self._distinct else Neighbour(*nearest(text, self._listed))
