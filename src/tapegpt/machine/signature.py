"""How an entry of a program is called: in which order and of which kinds its arguments are. Not here: its code."""

from __future__ import annotations

from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any


class KernelError(TypeError):
    """A bug in a kernel, never in a user's data; `place` says where, once it is known."""

    def __init__(self, rule: str, place: str = "") -> None:
        super().__init__(f"{place}: {rule}" if place else rule)
        self.place = place


class Structure(Record):
    """Arguments of a kernel under one name: the fields of a subclass, annotated as arguments are."""


class Signature(Record):
    """An entry's arguments."""

    name: str
    given: dict[str, tuple[str, ...]]  # what a call gives, by name; the fields of a structure, else ()
    kinds: dict[str, str]  # of each argument, by name: P for a pointer, d for a double, q for a whole number

    def in_order(self, arguments: Sequence[Any]) -> Iterator[Any]:
        """The arguments one by one; those of a structure are given as a dictionary."""
        for (name, fields), argument in zip(self.given.items(), arguments, strict=True):
            if not fields:
                yield argument
            elif isinstance(argument, dict) and argument.keys() == set(fields):
                yield from map(argument.get, fields)
            else:
                told = ", ".join(argument) if isinstance(argument, dict) else repr(argument)
                raise KernelError(f"{self.name}: {name} has the fields {', '.join(fields)}, not {told}")
