"""Immutable records, as `@dataclass(frozen=True)` makes them. Not here: anything else that dataclasses can do.

Importing `dataclasses` costs 15 ms, a quarter of what the whole command may take, and this package uses only its
fields, defaults, equality and repr. Type checkers see a dataclass.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, ClassVar, Self, dataclass_transform

    from tapegpt.ranges import Number
else:
    dataclass_transform = lambda **_: lambda cls: cls  # noqa: E731  # a name for type checkers only


@dataclass_transform(frozen_default=True)
class Record:
    """A base class: the annotated names of a subclass are its fields, in order; class attributes are defaults.

    Its own come before those of its bases.

    Fields that are numbers from outside have their `ranges`; None is in them where the annotation has it.
    """

    ranges: ClassVar[Mapping[str, Number]] = {}
    fields: ClassVar[dict[str, object]]  # names and annotations

    def __init_subclass__(cls) -> None:
        own = {name: kind for name, kind in cls.__annotations__.items() if "ClassVar" not in str(kind)}
        inherited = getattr(super(cls, cls), "fields", {})
        cls.fields = {**own, **{name: kind for name, kind in inherited.items() if name not in own}}

    def __init__(self, *values: Any, **named: Any) -> None:
        fields = self.fields
        if len(values) > len(fields):
            raise TypeError(f"{type(self).__name__} takes {len(fields)} values, not {len(values)}")
        given = dict(zip(fields, values, strict=False))
        for name, value in named.items():
            if name not in fields or name in given:
                raise TypeError(f"{type(self).__name__}: unexpected {name!r}")
            given[name] = value
        own = self.__dict__
        for name in fields:
            if name in given:
                own[name] = given[name]
            elif hasattr(type(self), name):
                own[name] = getattr(type(self), name)
            else:
                raise TypeError(f"{type(self).__name__} needs {name!r}")
        self.check()

    def check(self) -> None:
        """Raise `TapeGPTError` where a field is out of its range; in subclasses too where they do not fit together."""
        for name, numbers in self.ranges.items():
            value = self.__dict__[name]
            if value is not None or not self.annotation(name).endswith("None"):
                numbers.check(name, value)

    @classmethod
    def annotation(cls, name: str) -> str:
        """The annotation of a field as text: `int`, `float | None`."""
        annotation = cls.fields[name]
        return annotation.__name__ if isinstance(annotation, type) else str(annotation)

    def as_dict(self) -> dict[str, Any]:
        """The fields by name."""
        return dict(self.__dict__)

    def replaced(self, **changes: Any) -> Self:
        """A record of the same kind with some fields changed."""
        return type(self)(**{**self.__dict__, **changes})

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable: make a changed one with replaced({name}=...)")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), *self.__dict__.values()))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items())
        return f"{type(self).__name__}({fields})"
