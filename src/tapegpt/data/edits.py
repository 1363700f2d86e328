"""Edit distances from a string to many others: by rapidfuzz, or some ten times slower where that is not installed."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


def is_near(text: str, others: Sequence[str], distance: int) -> bool:
    """Whether one of the others is at most so many edits away."""
    try:
        from rapidfuzz.distance import Levenshtein
        from rapidfuzz.process import extract_iter
    except ImportError:
        return any(edits <= distance for edits in map(_edits_from(text), others))
    found: Iterable[object] = extract_iter(text, others, scorer=Levenshtein.distance, score_cutoff=distance)
    return any(True for _ in found)


def nearest(text: str, others: Sequence[str]) -> tuple[str, int]:
    """The other one with the fewest edits, of several the first, and how many."""
    try:
        from rapidfuzz.distance import Levenshtein
        from rapidfuzz.process import extractOne
    except ImportError:
        edits, place = min(zip(map(_edits_from(text), others), range(len(others)), strict=True))
        return others[place], edits
    document, distance, _ = extractOne(text, others, scorer=Levenshtein.distance)
    return document, int(distance)


def _edits_from(text: str) -> Callable[[str], int]:
    """The edits from a text to another (Hyyrö, 2003): a column of the table of distances at a time, one bit a row.

    `rises` and `falls` are the rows where the column grows and shrinks by one.
    """
    places: dict[str, int] = {}
    for row, character in enumerate(text):
        places[character] = places.get(character, 0) | 1 << row
    last, all_rows = 1 << len(text) - 1 if text else 0, (1 << len(text)) - 1

    def edits(other: str) -> int:
        rises, falls, distance = all_rows, 0, len(text)
        for character in other:
            equal = places.get(character, 0)
            level = ((equal & rises) + rises ^ rises) | equal | falls  # rows that keep the diagonal's distance
            grows, shrinks = falls | ~(level | rises), level & rises  # from the former column to this one
            distance += bool(grows & last) - bool(shrinks & last)
            grows = grows << 1 | 1
            rises, falls = (shrinks << 1 | ~(level | grows)) & all_rows, grows & level & all_rows
        return distance

    return edits if text else len
