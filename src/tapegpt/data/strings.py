"""Several strings as Python users have them: any iterable, or a column of a data frame.

Not here: files (`sources.py`).
"""

from __future__ import annotations

from collections.abc import Mapping

from tapegpt.errors import TapeGPTError, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_COLUMN_METHODS = ("to_pylist", "to_list", "tolist")  # of pyarrow, of pandas and polars, of numpy


def strings_of(values: Iterable[str], name: str, *, drop_nulls: bool = False) -> list[str]:
    """The values as a list; nulls of a column are left out if asked.

    Raises `TapeGPTError`, with the name of what they are, for whatever would give something else where it is gone
    through: one string or bytes, a table (the names of its columns), a mapping (its keys), and values that are no str.
    """
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
    strings = list(converted)
    try:
        "".join(strings)  # the fastest look at all types
    except TypeError:
        return _check(strings, name, drop_nulls and convert is not None)
    return strings


def _check(values: list[object], name: str, drop_nulls: bool) -> list[str]:
    strings = []
    for place, each in enumerate(values):
        value = each.as_py() if hasattr(each, "as_py") else each  # a scalar of pyarrow
        if drop_nulls and _is_null(value):
            continue
        if not isinstance(value, str):
            raise TapeGPTError(
                f"{name.removesuffix('s')} {place} must be a str, not {type(value).__name__}: {quote(value)}"
            )
        strings.append(value)
    return strings


def _is_null(value: object) -> bool:
    """None, NaN, and the NA of pandas, which is not even equal or unequal to itself."""
    return value is None or type(value).__name__ == "NAType" or (isinstance(value, float) and value != value)
