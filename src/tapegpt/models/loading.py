"""Classes of models, by name or from a user's file, and how a file of a model says of which class it is.

A user's file is executed where the user names it, and only there: files of models hold no code. Not here: those files
(`checkpoint.py`).
"""

from __future__ import annotations

import copyreg
import os
import sys

from tapegpt.autograd.model import Model
from tapegpt.errors import TapeGPTError, line_of, quote
from tapegpt.machine import notes
from tapegpt.models import NAMES, named

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    Choice = str | type[Model] | Model  # whatever says which model is meant


def class_of(model: Choice) -> type[Model]:
    """The class of a model: of one's own, of an instance, of a name as `named` takes it, or in a file, "FILE.py:CLASS".

    Raises `TapeGPTError` for anything else, and for a file that has no such class or fails.
    """
    if isinstance(model, str):
        return _in_file(model) if ":" in model or model.endswith(".py") else named(model)
    kind = model if isinstance(model, type) else type(model)
    if not issubclass(kind, Model):
        raise TapeGPTError(f"model must be a name, a subclass of tapegpt.Model or an instance, not {quote(model)}")
    return kind


def reference(kind: type[Model]) -> str:
    """What files call a class: the package's by name, a user's by the names of its file and itself."""
    place, colon, name = address(kind).rpartition(":")
    return f"{os.path.basename(place)}{colon}{name}"


def address(kind: type[Model]) -> str:
    """What `class_of` finds it by on this machine."""
    name = kind.__module__.rpartition(".")[2]
    if kind.__module__ == f"tapegpt.models.{name}" and NAMES.get(name) == kind.__name__:
        return name
    module = sys.modules.get(kind.__module__)
    return f"{getattr(module, '__file__', None) or kind.__module__}:{kind.__qualname__}"


def _in_file(place: str) -> type[Model]:
    path, _, name = place.rpartition(":")
    if not path or not name:
        raise TapeGPTError(f"model {quote(place)}: must be a file and a class in it, such as mymodel.py:MyGPT")
    kind = getattr(_module(path), name, None)
    if kind is None:
        raise TapeGPTError(f"{path}: there is no class {quote(name)}: give FILE.py:CLASS")
    if not isinstance(kind, type) or not issubclass(kind, Model):
        raise TapeGPTError(f"{path}: {name} is no subclass of tapegpt.Model: give FILE.py:CLASS")
    copyreg.pickle(kind, _reduce)  # other processes find it in its file
    return kind


def _module(path: str) -> ModuleType:
    full = os.path.abspath(path)
    try:
        with open(full, "rb") as file:
            source = file.read()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise TapeGPTError(f"{path}: cannot be read: {reason}: give FILE.py:CLASS") from None
    known = sys.modules.get(full)
    if known is not None and known.__dict__.get("__source__") == source:
        return known
    module = type(sys)(full)
    module.__dict__.update(__file__=full, __source__=source)
    notes.end()
    sys.modules[full] = module
    sys.path.insert(0, os.path.dirname(full))  # as where Python runs the file
    try:
        exec(compile(source, full, "exec", dont_inherit=True), module.__dict__)  # noqa: S102  # the user has named it
    except (Exception, SystemExit) as error:
        del sys.modules[full]
        if isinstance(error, SyntaxError):
            raise TapeGPTError(f"{path}:{error.lineno}: {error.msg}: give a file of Python") from None
        raise TapeGPTError(f"{line_of(error, full)}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(os.path.dirname(full))
    return module


def _reduce(model: Model) -> tuple[Callable[..., Model], tuple[Any, ...]]:
    return _made, (address(type(model)), model.as_dict())


def _made(place: str, fields: dict[str, Any]) -> Model:
    return class_of(place)(**fields)
