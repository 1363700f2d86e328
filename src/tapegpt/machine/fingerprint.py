"""Fingerprints of Python code, taken from memory and without running it.

    fingerprint(function, arguments)

covers a function's own code and all that it reaches: defaults, closures, globals, what it uses of modules and classes,
the state of objects, and so on from there. Equal code has an equal fingerprint in every process and
from every file. Python's version stands for its own modules. If in doubt it covers more: at worst code is compiled
again. Not here: what the fingerprint is of (`program.py`), and names that are put together while code runs.
"""

from __future__ import annotations

import sys
from _blake2 import blake2b  # 0.2 ms, where hashlib takes 2.5
from copyreg import __newobj__, dispatch_table  # type: ignore[attr-defined]  # what pickle makes objects by
from marshal import dumps
from os import urandom
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from types import CellType
    from typing import Any

_PLAIN = {str, bytes, int, float, complex, bool, type(None), type(...)}  # what `marshal` writes as it is
_NAMED = {  # what C code offers to Python: told by its name
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    WrapperDescriptorType,
}
_INCIDENTAL = {  # where a class stands, and what is noted in it when it is used
    "__abstractmethods__",
    "__annotations_cache__",
    "__dict__",
    "__doc__",
    "__firstlineno__",
    "__module__",
    "__slotnames__",
    "__static_attributes__",
    "__weakref__",
    "_abc_impl",
}
_MAKING = {"__init__", "__init_subclass__", "__new__", "__set_name__"}  # what is done when objects or classes are made
_WITHOUT_REFERENCES = 2  # the last version of marshal's format that does not depend on who else holds an object


def fingerprint(*values: object, without: tuple[type, ...] = (), given: str = "") -> str:
    """32 hexadecimal digits for values and the code that they reach.

    Left out are objects and classes of the types `without`, and the functions of the package that is `given`. What
    holds something that cannot be looked into, such as a file, never has the same fingerprint again.
    """
    walk = _Walk(without, given)
    walk.tell(values)
    walk.describe_all()
    return blake2b(dumps(walk.told, _WITHOUT_REFERENCES), digest_size=16).hexdigest()


class _Walk:
    """Describes objects one after the other in what marshal can write, in one list: nested ones take twice as long.

    Before values their number is told, as a list of it; an object is a tuple of its number, so that circles end.
    """

    def __init__(self, without: tuple[type, ...], given: str) -> None:
        self._without, self._left_out, self._package = without, frozenset(without), given
        self._numbers: dict[int, tuple[int]] = {}  # by id
        self._given: dict[str | None, bool] = {}  # by name of a module
        self._stateful: set[type] = set()  # whose objects are what their state is
        self._names: set[object] = set()  # in code that has been told: of attributes, also where they are strings
        self._asked: list[object] = []  # those that are new, and the ids of classes, which code may call
        self._unnamed: dict[object, list[tuple[tuple[int], str, Any]]] = {}  # of classes: number, name and value
        self.objects: list[object] = []
        self.told: list[object] = [sys.version]

    def tell(self, values: Collection[Any]) -> None:
        """Plain values themselves, and the numbers of objects."""
        told, numbers = self.told, self._numbers
        told.append([len(values)])
        for value in values:
            kind = type(value)
            if kind in _PLAIN:
                told.append(value)
            elif kind is tuple:
                self.tell(value)
            elif (number := numbers.get(id(value))) is not None:
                told.append(number)
                if isinstance(value, type):
                    self._ask(id(value))
            elif isinstance(value, self._without) or (isinstance(value, type) and issubclass(value, self._without)):
                told.append(None)
            else:
                numbers[id(value)] = number = (len(self.objects),)
                self.objects.append(value)
                told.append(number)
                if isinstance(value, type):
                    self._ask(id(value))

    def _ask(self, name: object) -> None:
        if name not in self._names:
            self._names.add(name)
            self._asked.append(name)

    def _tell_pairs(self, pairs: dict[Any, Any]) -> None:
        if not self._left_out.isdisjoint(map(type, pairs.values())):
            pairs = {key: value for key, value in pairs.items() if type(value) not in self._left_out}
        if _PLAIN.issuperset(map(type, pairs)):  # all keys as one tuple, where otherwise a list begins
            self.told.append(tuple(pairs))
            self.tell(pairs.values())
        else:
            self.tell((*pairs, *pairs.values()))

    def _is_given(self, module: str | None) -> bool:
        """Whether what a module defines is known without looking: it is Python's own, or of the given package."""
        given = self._given.get(module)
        if given is None:
            given = self._given[module] = _is_own(module) or f"{module}.".startswith(f"{self._package}.")
        return given

    def describe_all(self) -> None:
        """Describe all objects, which grow meanwhile, and of classes what code that has been told has names for."""
        done = 0
        while done < len(self.objects):
            self.describe(self.objects[done])
            done += 1
            if done == len(self.objects):
                asked, self._asked = self._asked, []
                for name in asked:
                    for number, attribute, value in self._unnamed.pop(name, ()):
                        self.told.append(number)
                        self.tell((attribute, value))

    # --- kinds of objects ---------------------------------------------------------------------------------------

    def describe(self, value: Any) -> None:
        """Tell what an object is made of."""
        kind = type(value)
        self.told.append(kind.__name__)
        if kind is FunctionType:
            self._function(value)
        elif kind is list:
            self.tell(value)
        elif kind is dict:
            self._tell_pairs(value)
        elif kind in self._stateful:
            self._tell_kind(kind)
            self._tell_state(value.__getstate__())
        elif isinstance(value, type):
            self._class(value)
        elif kind is property:
            self.tell((value.fget, value.fset, value.fdel))
        elif kind is staticmethod or kind is classmethod:
            self.tell((value.__func__,))
        elif kind is MethodType:
            self.tell((value.__func__, value.__self__))
        elif kind is ModuleType:
            self.told.append(value.__name__)
            if not self._is_given(value.__name__):
                self._tell_pairs(vars(value))
        elif kind in _NAMED:
            owner = getattr(value, "__self__", None)
            self.tell((value.__qualname__, owner.__name__ if type(owner) is ModuleType else owner))
        elif kind is set or kind is frozenset:
            self.tell(sorted(fingerprint(each, without=self._without, given=self._package) for each in tuple(value)))
        else:
            self._object(value, kind)

    def _function(self, function: FunctionType) -> None:
        held: list[object] = [function.__defaults__, function.__kwdefaults__, function.__dict__ or None]
        if function.__closure__:
            held += map(_content, function.__closure__)
        if self._is_given(function.__module__):
            self.told += (function.__module__, function.__qualname__)
            self.tell(held)
            return
        code, names, strings, _ = _code(function.__code__)
        for name in (*names, *strings):
            if name not in self._names:
                self._names.add(name)
                self._asked.append(name)
        known, loaded = function.__globals__, sys.modules
        modules = [value for value in held if type(value) is ModuleType]
        used: list[str] = []
        for name in names:
            if name in known:
                value = known[name]
                if type(value) is ModuleType:
                    modules.append(value)
                else:
                    used.append(name)
                    held.append(value)
            elif name in loaded:  # imported within the function
                modules.append(loaded[name])
        for module in modules:  # which grow meanwhile
            if not self._is_given(module.__name__):
                for name in names:
                    value = vars(module).get(name, module)
                    if type(value) is not ModuleType:
                        used.append(name)
                        held.append(value)
                    elif value not in modules:
                        modules.append(value)
        self.told += (code, tuple(used))
        self.tell(held)

    def _class(self, kind: type) -> None:
        self.told += (kind.__module__ if _is_own(kind.__module__) else "", kind.__qualname__)
        if _is_own(kind.__module__):
            return
        inside = {name: value for name, value in vars(kind).items() if name not in _INCIDENTAL}
        self.tell((type(kind), *kind.__bases__))
        if self._is_given(kind.__module__):  # but for what others have put there, for code that is not looked into
            pairs = {name: value for name, value in inside.items() if not self._is_given_function(name, value)}
            self._tell_pairs(pairs)
            return
        number, told = self._numbers[id(kind)], {}
        for name, value in inside.items():
            asked: object = id(kind) if name in _MAKING else name  # objects that are there have been made
            if asked in self._names or (asked is name and name[:2] == name[-2:] == "__"):
                told[name] = value
            else:
                self._unnamed.setdefault(asked, []).append((number, name, value))
        self._tell_pairs(told)

    def _is_given_function(self, name: str, value: object) -> bool:
        return type(value) is FunctionType and value.__name__ == name and self._is_given(value.__module__)

    def _tell_kind(self, kind: type) -> None:
        """Tell of which class an object is, which is not to call it."""
        number = self._numbers.get(id(kind))
        if number is None:
            self._numbers[id(kind)] = number = (len(self.objects),)
            self.objects.append(kind)
        self.told.append(number)

    def _object(self, value: Any, kind: type) -> None:
        """Tell what pickle would keep."""
        try:
            reduce: Any = dispatch_table.get(kind)
            kept = reduce(value) if reduce else value.__reduce_ex__(4)
        except Exception:  # noqa: BLE001  # whatever an object says that will not be pickled
            self.told.append(urandom(16))
            return
        if isinstance(kept, str):  # it is known by a name
            self.tell((kept, kind, getattr(value, "__dict__", None)))
            return
        make, arguments, state, items, pairs = (*kept, None, None, None)[:5]
        if (make, arguments, items, pairs) == (__newobj__, (kind,), None, None) and _reduces_as_all(kind):
            self._stateful.add(kind)
        if (make, arguments) == (__newobj__, (kind,)):
            self._tell_kind(kind)
            self.tell((*(items or ()), *(pairs or ())))
        else:
            self.tell((kind, make, arguments, *(items or ()), *(pairs or ())))
        self._tell_state(state)

    def _tell_state(self, state: object) -> None:
        if type(state) is dict:
            self._tell_pairs(state)
        else:
            self.tell((state,))


_own: dict[str | None, bool] = {}


def _is_own(module: str | None) -> bool:
    """Whether a module is one of Python's own, for which its version stands."""
    own = _own.get(module)
    if own is None:
        top = (module or "builtins").partition(".")[0]
        file = getattr(sys.modules.get(top), "__file__", None) or sys.base_prefix
        own = _own[module] = top in sys.stdlib_module_names and file.startswith(sys.base_prefix)
    return own


def _reduces_as_all(kind: type) -> bool:
    methods = [(kind.__reduce_ex__, object.__reduce_ex__), (kind.__reduce__, object.__reduce__)]
    return all(own is plain for own, plain in methods) and not hasattr(kind, "__getnewargs__")


def _content(cell: CellType) -> object:
    """What a variable of an enclosing function holds, None where nothing is assigned yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


_Code = tuple[tuple[object, ...], tuple[str, ...], tuple[str, ...], CodeType]
_codes: dict[int, _Code] = {}  # by id; code never changes


def _code(code: CodeType) -> _Code:
    """What code does, wherever it stands; with code within, its names of globals and attributes, and its strings."""
    known = _codes.get(id(code))
    if known is None:
        constants, names = code.co_consts, code.co_names
        strings = tuple([value for value in constants if type(value) is str and value.isidentifier()])
        if not _PLAIN.issuperset(map(type, constants)):
            inner = dict.fromkeys(names)
            found = dict.fromkeys(strings)
            constants = _constants(constants, inner, found)
            names, strings = tuple(inner), tuple(found)
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]  # other names of variables do nothing
        what = (code.co_code, code.co_exceptiontable, constants, code.co_names, arguments, counts)
        known = _codes[id(code)] = (what, names, strings, code)
    return known


def _constants(constants: tuple[Any, ...], names: dict[str, None], strings: dict[str, None]) -> tuple[object, ...]:
    plain: list[object] = []
    for value in constants:
        if type(value) is CodeType:
            text, inner, found, _ = _code(value)
            names.update(dict.fromkeys(inner))
            strings.update(dict.fromkeys(found))
            plain.append((text,))
        elif type(value) is tuple:
            plain.append(_constants(value, names, strings))
        elif type(value) in _PLAIN:
            plain.append(value)
            if type(value) is str and value.isidentifier():
                strings[value] = None
        else:  # a set, a slice
            plain.append(sorted(map(repr, value)) if type(value) is frozenset else [repr(value)])
    return tuple(plain)
