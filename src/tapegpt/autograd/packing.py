"""Packs examples into the rows of a run, one after the other. Not here: what the rows are used for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from tapegpt.machine.language import U32, Builder, Number, Operand, Pointer, Value, Variable


class Rows:
    """What a tape has to know about its rows, see `Operation.to_f32`; `about` says where in the work it lies."""

    def __init__(self, work: Pointer, about: Mapping[str, int]) -> None:
        self._words = {name: (work + offset).cast(U32) for name, offset in about.items() if name != "share"}

    def tell(self, row: Operand, words: Mapping[str, Number]) -> None:
        """Write those words that the tape reads."""
        for name, word in words.items():
            if name in self._words:
                self._words[name][row] = word


class Packer(Rows, ABC):
    """Packs examples into rows."""

    def __init__(self, k: Builder, work: Pointer, positions: int, about: Mapping[str, int]) -> None:
        super().__init__(work, about)
        self._k, self._positions = k, positions

    @abstractmethod
    def length(self, example: Operand) -> Value:
        """Rows of an example."""

    @abstractmethod
    def begin(self, example: Operand, first: Operand, end: Value) -> Callable[[Value], Mapping[str, Number]]:
        """Write an example's own numbers to the rows from `first` to before `end`; returns what to tell of a row."""

    def fill(self, at: Variable, last: Operand, *, training: bool = False) -> Value:
        """Pack as many examples from `at` on as fit, and move `at` behind them; returns the rows that they take.

        In training, examples are numbered and have dropout.
        """
        k = self._k
        rows, fits = k.variable(k.integer(0)), k.variable(k.integer(1))
        for _ in k.repeat_while(lambda: (at < last) & fits.equals(1)):
            end = rows + self.length(at)
            fits.set(k.select(end <= self._positions, k.integer(1), 0))
            for _ in k.when(fits.equals(1)):
                self.put(at, rows, end, noise=at + 1 if training else 0)
                rows.set(end)
                at += 1
        return k.value(rows)

    def put_alone(self, example: Operand, noise: Number = 0) -> Value:
        """Write one example to the first rows; returns how many it takes."""
        rows = self.length(example)
        self.put(example, self._k.integer(0), rows, noise)
        return rows

    def put(self, example: Operand, first: Operand, end: Value, noise: Number = 0) -> None:
        """Write one example to the rows from the first to before the end."""
        first = self._k.value(first)
        told = self.begin(example, first, end)
        for row in self._k.range(first, end):
            self.tell(row, {"positions": row - first, "ends": end, "noise": noise, **told(row)})
