"""The windows in which a string longer than the block is read, whether it is generated or judged.

The first is the block. When it is full, its last half begins the next one: it is read again at positions 0 on, without
BOS, and reading continues behind it. So each token beyond the block follows at least half a block, and costs up to
twice as much as one within it. Those of a training have nothing in common, unless they overlap likewise.
"""

from __future__ import annotations

from array import array
from operator import sub

from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from tapegpt.data.tokens import Tokens


def overlap(block_size: int) -> int:
    """Tokens that a window has in common with the one before."""
    return block_size // 2


def window_start(number: int, block_size: int) -> int:
    """The token that begins the window in which token `number` is read for the first time; BOS is number 0."""
    apart = block_size - overlap(block_size)
    return max(number - overlap(block_size), 0) // apart * apart


def tilings(predictions: int, block_size: int, long: str) -> list[list[int]]:
    """Where the windows of a training begin in a document, or in each of two copies of it; see `Corpus.windows`."""
    if long == "cut":
        return [[0]]
    tilings = [[*range(0, predictions, block_size)]]
    if long == "overlap" and predictions > block_size:
        tilings.append([0, *range(block_size - overlap(block_size), predictions, block_size)])
    return tilings


class Windows(Record):
    """Documents in windows: w reads `ids[begins[w]]` up to before `ids[starts[w + 1]]`, from `starts[w]` on anew."""

    ids: array[int]  # typecode "I"
    begins: array[int]  # typecode "q"
    starts: array[int]  # typecode "q", number of windows + 1
    several: tuple[tuple[int, int], ...] = ()  # documents that take several windows, and how many

    @classmethod
    def of(cls, tokens: Tokens, block_size: int) -> Windows:
        """Whole documents of any length; what fits the block is one window."""
        bounds, apart = tokens.starts, block_size - overlap(block_size)
        if max(map(sub, bounds[1:], bounds), default=0) <= block_size:  # half of the time of looking at each
            return cls(tokens.ids, bounds, bounds)
        long = [place for place, size in enumerate(map(sub, bounds[1:], bounds)) if size > block_size]
        begins, starts, several, done = array("q"), array("q"), [], 0
        for place in long:
            start, end = bounds[place : place + 2]
            later = range(start + block_size, end, apart)
            starts.extend([*bounds[done:place], start, *later])
            begins.extend([*bounds[done:place], *range(start, start + len(later) * apart + 1, apart)])
            several.append((place, 1 + len(later)))
            done = place + 1
        starts.extend(bounds[done:])
        begins.extend(bounds[done:-1])
        return cls(tokens.ids, begins, starts, tuple(several))

    def documents(self, numbers: array[float], others: Iterable[float]) -> array[float]:
        """The numbers of documents: those of their windows, and others for documents that take several."""
        found, window, document = array("d"), 0, 0
        for (place, count), other in zip(self.several, others, strict=True):
            end = window + place - document
            found.extend(numbers[window:end])
            found.append(other)
            window, document = end + count, place + 1
        found.extend(numbers[window:])
        return found

    def __len__(self) -> int:
        return len(self.starts) - 1
