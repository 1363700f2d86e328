"""Fingerprints of code: every edit that decides it counts, and nothing that does not."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from array import array
from collections import deque
from functools import partial
from itertools import combinations
from pathlib import Path
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

import pytest

from tapegpt.autograd.node import Node
from tapegpt.autograd.operations.base import Operation
from tapegpt.autograd.operations.reductions import Sum
from tapegpt.autograd.tape import Tape
from tapegpt.machine.fingerprint import fingerprint
from tapegpt.machine.language import Kernel
from tapegpt.machine.memory import Memory
from tapegpt.machine.program import Program

SOURCE = """
from __future__ import annotations
import functools
import math
import helpers
from helpers import halved
from tapegpt.machine.language import Builder, F64s, Int, kernel
from tapegpt.autograd.operations.base import Operation

FACTOR = 2.0
NAMES = {"a", "b", "c"}
TABLE = {"double": lambda k, x: x + x, "square": lambda k, x: x * x}
shifted = functools.partial(pow, 2)

def tripled(x, times=3):
    return x * times

def scaled(by, *, bias=0.0):
    def scale(x):
        return x * by + bias
    return scale

closure = scaled(5.0)

class Base:
    order = [1, 2]
    def first(self, x):
        return x + 1.0
    @staticmethod
    def second(x):
        return x - 1.0
    @property
    def third(self):
        return 7.0

class Rule(Base):
    __slots__ = ("weight",)
    def __init__(self, weight):
        self.weight = weight
    def __call__(self, x):
        return self.first(x) * self.weight

rule = Rule(4.0)

@kernel
def body(k: Builder, x: F64s, y: F64s, n: Int, *, columns: int) -> None:
    for i in k.range(n):
        value = TABLE["double"](k, x[i]) * FACTOR + tripled(x[i]) + closure(x[i]) + rule(x[i]) + rule.third
        value = value + halved(x[i]) + helpers.quartered(x[i]) + shifted(3) + math.pi + ("b" in NAMES) + rule.order[0]
        value = value + ("b" in {"b", "letter", "another"}) + x[2:3]
        y[i * columns] = Rule.second(value)

class Mine(Operation):
    name = "mine"
    def shape(self, *inputs):
        return inputs[0]
    def forward(self, k, scratch, out, *inputs):
        body(k, inputs[0].value, out.value, out.stop, columns=out.columns)
    def backward(self, k, scratch, out, *inputs):
        pass
"""
HELPERS = """
def halved(x):
    return x * HALF
HALF = 0.5
def quartered(x):
    return halved(halved(x))
"""
EDITS = [
    ("FACTOR = 2.0", "FACTOR = 3.0"),
    ("FACTOR = 2.0", "FACTOR = 2"),
    ("FACTOR = 2.0", "FACTOR = -0.0"),
    ("FACTOR = 2.0", "FACTOR = 0.0"),
    ("FACTOR = 2.0", "FACTOR = float('nan')"),
    ('{"a", "b", "c"}', '{"a", "b"}'),
    ('{"b", "letter", "another"}', '{"b", "letter", "other"}'),
    ("x[2:3]", "x[2:4]"),
    ("x + x,", "x + x + x,"),
    ("x * x}", "x * x * x}"),
    ("partial(pow, 2)", "partial(pow, 3)"),
    ("partial(pow, 2)", "partial(max, 2)"),
    ("times=3", "times=4"),
    ("times", "often"),
    ("x * times", "times * x"),
    ("scaled(5.0)", "scaled(6.0)"),
    ("bias=0.0", "bias=1.0"),
    ("order = [1, 2]", "order = [2, 1]"),
    ("x + 1.0", "x + 1.5"),
    ("x - 1.0", "x - 1.5"),
    ("@staticmethod\n    def second(x)", "@classmethod\n    def second(cls, x)"),
    ("return 7.0", "return 8.0"),
    ("Rule(4.0)", "Rule(4.5)"),
    ("self.first(x) * self.weight", "self.first(x * self.weight)"),
    ("class Rule(Base):", "class Rule(Base):\n    def first(self, x):\n        return x\n"),
    ("x: F64s, y: F64s, n", "y: F64s, x: F64s, n"),
    ("n: Int, *", "n: Int, m: Int, *"),
    ("x: F64s, y: F64s", "x: U32s, y: F64s"),
    ("math.pi", "math.e"),
    ("def body", "def other_body"),
    ("out.value, out.stop", "out.value, out.start"),
    ("quartered(x[i])", "halved(x[i])"),
    ("y[i * columns]", "y[i]"),
    ("        pass", "        inputs[0].gradient"),
    ("def shape(self, *inputs):", "activation = 'relu'\n    def shape(self, *inputs):"),
    ("import helpers\n", "import helpers\nhelpers.HALF = 0.25\n"),
    ("return inputs[0]\n", "return inputs[-1]\n"),
]


def loaded(source: str, folder: Path, helpers: str = HELPERS) -> ModuleType:
    """A module from a file, as Python would import it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "helpers.py").write_text(helpers)
    (folder / "mine.py").write_text(source)
    module, beside = ModuleType("mine"), ModuleType("helpers")
    exec(compile(helpers, folder / "helpers.py", "exec"), vars(beside))
    before = sys.modules.get("helpers")
    sys.modules["helpers"] = beside
    try:
        exec(compile(source, folder / "mine.py", "exec"), vars(module))
    finally:
        del sys.modules["helpers"]
    assert before is None
    return module


def runs(operation: Operation, *given: Any) -> None:
    """What the tape does with an operation: of a class counts what code has names for."""
    operation.prepare(*given)
    operation.forward(*given)
    operation.backward(*given)
    str(operation.activation) + str(operation.shape)


def key(module: ModuleType) -> str:
    return fingerprint(runs, module.Mine(), given="tapegpt.machine")


def edited(change: tuple[str, str]) -> str:
    source = SOURCE.replace(*change)
    return source.replace(" body(", " other_body(") if "other_body" in source else source


def test_each_edit_gives_another_fingerprint(tmp_path: Path) -> None:
    keys: dict[object, str] = {}
    for change in [("", ""), *EDITS]:
        source = SOURCE if change == ("", "") else edited(change)
        assert (source == SOURCE) == (change == ("", "")), change
        keys[change] = key(loaded(source, tmp_path))
    keys["helper"] = key(loaded(SOURCE, tmp_path, HELPERS.replace("halved(halved(x))", "halved(x) * HALF")))
    keys["constant of a helper"] = key(loaded(SOURCE, tmp_path, HELPERS.replace("0.5", "0.4")))
    for one, other in combinations(keys, 2):
        assert keys[one] != keys[other], (one, other)


SAME = [
    ("def tripled", "# a comment\n\n\ndef tripled"),
    ("for i in k.range(n):\n", "for i in k.range(n):  # all of them\n"),
    ("NAMES = ", "UNUSED = object()\nNAMES = "),
    ("value = value + halved", "value = (value) + halved"),
    ("def shape(self, *inputs):\n        return inputs[0]", "def shape(self, *nodes):\n        return nodes[0]"),
]


def test_what_decides_nothing_does_not_count(tmp_path: Path) -> None:
    expected = key(loaded(SOURCE, tmp_path / "one"))
    assert key(loaded(SOURCE, tmp_path / "another" / "place")) == expected
    for change in SAME:
        assert SOURCE.replace(*change) != SOURCE
        assert key(loaded(SOURCE.replace(*change), tmp_path)) == expected, change


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
import mine
from tapegpt.machine.fingerprint import fingerprint
for _ in range(2):
    print(fingerprint(mine.Mine(), given="tapegpt.machine"))
    junk = [object() for _ in range(1000)]  # other addresses
"""


def test_equal_code_has_one_fingerprint_in_every_process(tmp_path: Path) -> None:
    keys = set()
    for seed, place in enumerate(("one", "two", "two")):  # the last reads the bytecode that the second wrote
        folder = tmp_path / place
        folder.mkdir(exist_ok=True)
        (folder / "mine.py").write_text(SOURCE)
        (folder / "helpers.py").write_text(HELPERS)
        environment = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONDONTWRITEBYTECODE": ""}
        command = [sys.executable, "-c", SCRIPT, str(folder)]
        keys.update(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split())
    assert len(keys) == 1


def test_changes_in_memory_count(tmp_path: Path) -> None:
    """As in a notebook, where cells are run again while files stay."""
    module = loaded(SOURCE, tmp_path)
    keys = [key(module)]

    def guarded(x: str, times: int) -> int:
        try:
            return int(x)
        except ValueError:
            return times

    def changed(owner: object, name: str, value: object) -> None:
        before = getattr(owner, name)
        setattr(owner, name, value)
        keys.append(key(module))
        setattr(owner, name, before)
        assert key(module) == keys[0]

    changed(module, "FACTOR", 9.0)
    changed(module, "tripled", lambda x: x)
    changed(module.tripled, "__defaults__", (9,))
    changed(module.tripled, "__code__", (lambda x, times: x).__code__)
    changed(module.tripled, "__code__", (lambda x, *, times: x).__code__)
    changed(module.tripled, "__code__", (lambda x, *, often: x).__code__)
    changed(module.tripled, "__code__", guarded.__code__)
    changed(module.tripled, "__code__", guarded.__code__.replace(co_exceptiontable=b""))  # what `try` covers
    changed(module.rule, "weight", 9.0)
    changed(module.Base, "first", lambda self, x: x)
    changed(module.helpers, "HALF", 9.0)
    changed(module.body, "body", (lambda k, x, y, n, *, columns: None))
    module.TABLE["double"] = module.TABLE["square"]
    keys.append(key(module))
    assert len(set(keys)) == len(keys)


def test_a_module_imported_within_a_function_counts_once_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def traced() -> None:
        from later import value  # type: ignore[import-not-found]  # it comes below

        value()

    keys = [fingerprint(traced)]
    for number in (1, 2):
        module = ModuleType("later")
        exec(f"def value(): return {number}", vars(module))
        monkeypatch.setitem(sys.modules, "later", module)
        keys.append(fingerprint(traced))
    assert len(set(keys)) == 3


class Circle:
    def __init__(self, radius: float) -> None:
        self.radius, self.itself = radius, [self]

    def area(self) -> float:
        return math.pi * self.radius**2


class Named:
    """What pickle knows by a name, and which has more to it."""

    def __init__(self, name: str, number: int) -> None:
        self.name, self.number = name, number

    def __reduce__(self) -> str:
        return self.name


def noted(number: int) -> object:
    """A function with an attribute."""

    def function() -> None:
        return

    function.number = number  # type: ignore[attr-defined]
    return function


def test_objects_of_all_kinds() -> None:
    read: Any = len
    kinds: list[object] = [
        *(None, True, 1, 1.0, 1j, "1", b"1", ..., 10**5000, -0.0, 0.0, float("nan"), NotImplemented),
        *((), (1,), ((1,),), [], [1], {}, {1: 2}, {2: 1}, set(), {1}, {2}, frozenset({1}), range(3), slice(1, 2)),
        *(len, max, "".join, "a".join, str.join, int, dict.fromkeys, int.real, [].append, [1].append),
        *(
            array("d", [1.0]),
            array("f", [1.0]),
            deque([1]),
            bytearray(b"1"),
            SimpleNamespace(a=1),
            SimpleNamespace(b=1),
        ),
        *(partial(max, 1), partial(max, 2), partial(max, key=len), Circle, Circle(1.0), Circle(2.0), sys, os),
        *(
            Circle(1.0).area,
            lambda: 1,
            lambda: 2,
            lambda x=1: 1,
            lambda *, x=1: 1,
            lambda x: 1,
            lambda x, /: 1,
            lambda *x: 1,
        ),
        *(property(read), property(None, read), property(None, None, read), staticmethod(read), classmethod(read)),
        *(Named("a", 1), Named("a", 2), Named("b", 1), noted(1), noted(2)),
    ]
    told = [fingerprint(each) for each in kinds]
    assert len(set(told)) == len(told)
    assert told == [fingerprint(each) for each in kinds]


def test_of_classes_counts_what_code_has_names_for() -> None:
    def area(circle: Circle) -> float:
        return circle.area()

    def by_string(circle: Circle) -> float:
        area: float = getattr(circle, "area")()  # noqa: B009  # as code may find it
        return area

    def other(circle: Circle) -> float:
        return circle.radius

    def keys() -> list[str]:
        return [fingerprint(reader, Circle(1.0)) for reader in (area, by_string, other)]

    before, method = keys(), Circle.area
    Circle.area = lambda self: 0.0  # type: ignore[method-assign]
    after = keys()
    Circle.area = method  # type: ignore[method-assign]
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, False, True]
    assert keys() == before


def test_how_objects_are_made_counts_where_code_makes_some(monkeypatch: pytest.MonkeyPatch) -> None:
    def makes() -> float:
        return Circle(2.0).radius

    kinds, one = {"circle": Circle}, Circle(1.0)

    def makes_by_name() -> float:
        return kinds["circle"](2.0).radius

    def keys() -> list[str]:
        return [fingerprint(makes), fingerprint(makes_by_name), fingerprint(lambda: Circle), fingerprint(one)]

    before = keys()
    monkeypatch.setattr(Circle, "__init__", lambda self, radius: None)
    assert [one == other for one, other in zip(before, keys(), strict=True)] == [False, False, False, True]


@pytest.mark.slow
def test_a_long_chain_is_no_deep_recursion() -> None:
    chain: list[object] = []
    for _ in range(100_000):
        chain = [chain]
    assert fingerprint(chain) == fingerprint(chain)


def test_what_cannot_be_looked_into_never_comes_again() -> None:
    with open(os.devnull, encoding="utf-8") as file:
        assert fingerprint(file) != fingerprint(file)
    generator = (i for i in range(3))
    assert fingerprint(generator) != fingerprint(generator)


def test_left_out_are_the_types_that_hold_no_code() -> None:
    """A lock is None, an item of a dictionary is as if it were not there."""
    memory = Memory(8)
    assert fingerprint([memory], without=(Memory,)) == fingerprint([None])
    assert fingerprint({1: memory, 2: 3}, without=(Memory,)) == fingerprint({2: 3})
    assert fingerprint(Memory, without=(Memory,)) == fingerprint(None)


def test_a_shadow_of_one_of_python_s_own_modules_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = []
    for number in (1, 2):
        module = ModuleType("colorsys")
        module.__file__ = str(tmp_path / "colorsys.py")
        monkeypatch.setitem(sys.modules, "colorsys", module)
        monkeypatch.setattr("tapegpt.machine.fingerprint._own", {})
        exec(f"def value(): return {number}", vars(module))
        assert isinstance(module.value, FunctionType)
        keys.append(fingerprint(module.value))
    assert keys[0] != keys[1]


def test_a_program_s_key_is_made_of_its_kernels(tmp_path: Path) -> None:
    keys = set()
    for change in (("", ""), ("FACTOR = 2.0", "FACTOR = 3.0"), ("x: F64s, y: F64s", "y: F64s, x: F64s")):
        body = loaded(SOURCE.replace(*change) if change[0] else SOURCE, tmp_path).body
        assert isinstance(body, Kernel)
        program = Program.__new__(Program)
        program._given, program._counted, program.target = {"body": (body, {"columns": 1})}, (), None  # type: ignore[assignment]
        keys.add(program.key())
    assert len(keys) == 3


def test_recording_is_no_part_of_a_tape_s_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels hold what was laid out and not the tape, all of whose methods would take time at each start."""
    tape = Tape(2)
    w = tape.parameter("w", 2, 2)
    y = tape.linear(w, w).sum()
    kernels = [tape.prepare_kernel(y), tape.forward_kernel(y), tape.backward_kernel(y)]
    before = [fingerprint(each, given="tapegpt.machine") for each in kernels]
    for kind in (Tape, Node):
        monkeypatch.setattr(kind, "__init__", lambda self: None)
    assert [fingerprint(each, given="tapegpt.machine") for each in kernels] == before
    monkeypatch.setattr(Sum, "forward", lambda self, *_: None)
    after = [fingerprint(each, given="tapegpt.machine") for each in kernels]
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, True]
