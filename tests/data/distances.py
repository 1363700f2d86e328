"""The edit distance of two strings as its definition says, for tests of what is faster."""

from __future__ import annotations


def edits(some: str, other: str) -> int:
    """Insertions, deletions and replacements that make one of the other (Wagner and Fischer, 1974)."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(some, 1):
        former, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            former, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, former + (a != b))
    return row[-1]
