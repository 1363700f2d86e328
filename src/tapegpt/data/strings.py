"""Several strings as Python users have them: any iterable, or a column of a data frame.

Not here: files (`sources.py`).
"""

from __future__ import annotations

from collections.abc import Mapping

from tapegpt.errors import TapeGPTError, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_COLUMN_METHODS = ("to_pylist", "to_list", "tolist")  # of pyarrow, of pandas and polars, of numpy


def strings_of(values: Iterable[str], name: str, *, drop_nulls: bool = False) -> list[str]:
    """The values as a list; nulls of a column are left out if asked.

    Raises `TapeGPTError`, with the name of what they are, for whatever would give something else where it is gone
    through: one string or bytes, a table (the names of its columns), a mapping (its keys), and values that are no str.
    """
    found, is_column = _list(values, name)
    if drop_nulls and is_column:
        found = [value for value in found if not _is_null(_plain(value))]
    return _check(found, name)


def values_of(values: Iterable[str | None], name: str) -> list[str | None]:
    """The values as a list, with None for nulls; raises as `strings_of`."""
    found, _ = _list(values, name)
    try:
        return _check(found, name)  # type: ignore[return-value]  # a new list
    except TapeGPTError:
        plain = [None if _is_null(value) else value for value in map(_plain, found)]
        _check(["" if value is None else value for value in plain], name)
        return plain


def _list(values: Iterable[Any], name: str) -> tuple[list[Any], bool]:
    """The values, and whether they are a column."""
    if hasattr(values, "columns"):
        raise TapeGPTError(f"{name} must be several strings, not a {type(values).__name__}: give one of its columns")
    if isinstance(values, Mapping):
        raise TapeGPTError(
            f"{name} must be several strings, not a {type(values).__name__}: give a list, of its keys or its values"
        )
    convert = next((getattr(values, method) for method in _COLUMN_METHODS if hasattr(values, method)), None)
    converted = values if convert is None else convert()
    if isinstance(converted, str | bytes | bytearray) or not hasattr(converted, "__iter__"):
        raise TapeGPTError(f"{name} must be several strings, not {quote(values)}: give a list")
    return list(converted), convert is not None


def _check(values: list[Any], name: str) -> list[str]:
    try:
        "".join(values)  # the fastest look at all types
    except TypeError:
        strings = list(map(_plain, values))
        for place, value in enumerate(strings):
            if not isinstance(value, str):
                raise TapeGPTError(
                    f"{name.removesuffix('s')} {place} must be a str, not {type(value).__name__}: {quote(value)}"
                ) from None
        return strings
    return values


def _plain(value: Any) -> Any:
    """What a scalar of pyarrow stands for."""
    return value.as_py() if hasattr(value, "as_py") else value


def _is_null(value: object) -> bool:
    """None, NaN, and the NA of pandas, which is not even equal or unequal to itself."""
    return value is None or type(value).__name__ == "NAType" or (isinstance(value, float) and value != value)
