"""Immutable records, as `@dataclass(frozen=True)` makes them. Not here: anything else that dataclasses can do.

Importing `dataclasses` costs 15 ms, a quarter of what the whole command may take, and this package uses only its
fields, defaults, equality and repr. Type checkers see a dataclass.
"""

from __future__ import annotations

from math import isfinite

from tapegpt.errors import TapeGPTError, check_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, Self, dataclass_transform

    from tapegpt.ranges import Range
else:
    dataclass_transform = lambda **_: lambda cls: cls  # noqa: E731  # a name for type checkers only

NOTHING = object()


class Field:
    """What is known of a field of a record: `kind` is its annotation as text, such as `int` or `float | None`."""

    kind = ""

    def __init__(self, about: str, within: Range | None, default: Any, fast: Any, usual: str) -> None:
        self.about, self.within, self.default, self.fast, self.usual = about, within, default, fast, usual

    @property
    def needs_fast(self) -> bool:
        """Whether only the engine fast can have another value than the default."""
        return self.fast is not NOTHING

    @property
    def is_optional(self) -> bool:
        """Whether it may be None."""
        return self.kind.endswith("None")


def field(
    about: str = "", within: Range | None = None, *, default: Any = NOTHING, fast: Any = NOTHING, usual: str = ""
) -> Any:
    """A field as a line of a table: what it is, the values that it takes, its default; without one it is required.

    `fast` is the default of a setting that only the engine fast can change; `usual` says what None or 0 stands for.
    """
    return Field(about, within, default, fast, usual)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Record:
    """A base class: the annotated names of a subclass are its fields, in order; class attributes are defaults.

    Its own come before those of its bases. Values outside the range of a `field` are refused.
    """

    fields: ClassVar[dict[str, Field]]
    ranges: ClassVar[dict[str, Range]]  # of the fields that have one

    def __init_subclass__(cls) -> None:
        own, inherited = dict[str, Field](), getattr(super(cls, cls), "fields", {})
        for name, kind in cls.__annotations__.items():
            if "ClassVar" in str(kind):
                continue
            given = cls.__dict__.get(name)
            if isinstance(given, Field):
                own[name] = given
                delattr(cls, name) if given.default is NOTHING else setattr(cls, name, given.default)
            else:
                own[name] = field()
                own[name].__dict__.update(vars(inherited.get(name, own[name])))
            own[name].kind = kind.__name__ if isinstance(kind, type) else str(kind)
        cls.fields = {**own, **{name: each for name, each in inherited.items() if name not in own}}
        cls.ranges = {name: each.within for name, each in cls.fields.items() if each.within}

    def __init__(self, *values: Any, **named: Any) -> None:
        fields = self.fields
        if len(values) > len(fields):
            raise TypeError(f"{type(self).__name__} takes {len(fields)} values, not {len(values)}")
        given = dict(zip(fields, values, strict=False))
        for name, value in named.items():
            if name not in fields or name in given:
                check_names(type(self).__name__, [name], fields)
                raise TypeError(f"{type(self).__name__} got {name!r} twice")
            given[name] = value
        own = self.__dict__
        for name in fields:
            if name in given:
                own[name] = given[name]
            elif hasattr(type(self), name):
                own[name] = getattr(type(self), name)
            else:
                raise TypeError(f"{type(self).__name__} needs {name!r}")
        for name, within in self.ranges.items():
            if own[name] is not None or not fields[name].is_optional:
                within.check(name, own[name])
        self.check()

    def check(self) -> None:
        """Raise `TapeGPTError` where fields, each in its range, do not fit together."""

    def as_dict(self) -> dict[str, Any]:
        """The fields by name."""
        return dict(zip(self.fields, self._values(), strict=True))

    def _values(self) -> tuple[Any, ...]:
        """Of the fields, in order; `__dict__` has cached properties too."""
        return tuple(map(self.__dict__.__getitem__, self.fields))

    def as_json(self) -> dict[str, Any]:
        """The fields by name, and all that is in them, as JSON has it."""
        return {name: plain(value) for name, value in self.as_dict().items()}

    def replace(self, **changes: Any) -> Self:
        """A record of the same kind with some fields changed."""
        return type(self)(**{**self.as_dict(), **changes})

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable: make a changed one with replace({name}=...)")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable: it keeps {name}")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), *self._values()))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.as_dict().items())
        return f"{type(self).__name__}({fields})"


def plain(value: Any) -> Any:
    """A value as JSON has it: objects with str keys for records, lists, errors as text, infinite numbers as None."""
    if isinstance(value, Record):
        return value.as_json()
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, TapeGPTError):
        return str(value)
    return None if isinstance(value, float) and not isfinite(value) else value
