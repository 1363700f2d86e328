"""Which rows of the context's tables a position takes: by an earlier token, or by the run of tokens that ends there.

A run has a row of its own where there are as many; else it shares one with those that hash alike (Knuth's
multiplicative hash). Before a document, or a window of one, every token is BOS. Not here: the rows (`Embedding`).
"""

from __future__ import annotations

from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tapegpt.config import Config
    from tapegpt.machine.language import Builder, Value

_MULTIPLIER = 0x9E3779B1  # 2^32 over the golden ratio


class Table(Record):
    """Rows by the token `back` places before, or where that is 0 by the last `run` tokens."""

    name: str
    rows: int
    back: int
    run: int


class Context:
    """The tables of a model, in the order of `Config.context_shapes`."""

    def __init__(self, config: Config, vocab_size: int) -> None:
        self._vocab_size = vocab_size
        self.tables = [
            Table(name, rows, int(name[8:]) if "prev" in name else 0, int(name[8:]) if "gram" in name else 0)
            for name, (rows, _) in config.context_shapes(vocab_size).items()
        ]
        self.reach = max([table.back for table in self.tables] + [table.run - 1 for table in self.tables], default=0)

    def rows(self, k: Builder, token_before: Callable[[int], Value]) -> list[Value]:
        """The row of each table; `token_before(0)` is the position's own token, 1 the one before it, and so on."""
        tokens = [token_before(back) for back in range(self.reach + 1)] if self.tables else []
        return [
            tokens[table.back] if table.back else self._run(tokens[: table.run], table.rows) for table in self.tables
        ]

    def _run(self, tokens: list[Value], rows: int) -> Value:
        number = tokens[0]
        for token in tokens[1:]:
            number = number * self._vocab_size + token
        if self._vocab_size ** len(tokens) <= rows:
            return number
        return (((number * _MULTIPLIER) & 0xFFFFFFFF) * rows) >> 32
