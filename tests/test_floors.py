"""The house's order: a module imports only from its own floor or from below, and only its own share of the outside.

Read from the source, so that an import inside a function, or for type checkers alone, counts as much as one at the top.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "tapegpt"

FLOORS = {
    **dict.fromkeys(("errors", "files", "processes", "ranges", "record", "text", "value", "version"), 0),
    "machine": 1,
    "operations": 2,
    **dict.fromkeys(
        (
            "tape",
            "node",
            "walk",
            "fast_rewrites",
            "rewrites",
            "step",
            "optimizers",
            "tensors",
            "saving",
            "packing",
            "rng",
            "mersenne",
        ),
        3,
    ),
    **dict.fromkeys(("models", "engine", "corpus", "gradients"), 4),
    **dict.fromkeys(("graph", "adam", "compiled", "exact", "reference", "model", "trainer"), 4),
    **dict.fromkeys(("fast", "settings", "clock", "split", "ngrams", "state", "callbacks"), 4),
    **dict.fromkeys(
        (
            "sources",
            "strings",
            "tables",
            "doctor",
            "automata",
            "regex",
            "constraints",
            "sampling",
            "neighbours",
            "scores",
            "tokens",
            "language_model",
            "presets",
            "curves",
        ),
        4,
    ),
    **dict.fromkeys(("evaluation", "ensemble", "law"), 4),
    **dict.fromkeys(("recording", "probe", "explanation", "attribution", "comparison", "anatomy", "costs"), 4),
    **dict.fromkeys(("checkpoint", "state_dict", "cli", "__main__", "__init__"), 5),
    **dict.fromkeys(("web", "report", "notebook", "studio", "leaderboard"), 5),
    **dict.fromkeys(("population", "search", "journal", "sweeping", "optuna_sampler", "cluster"), 5),
    **dict.fromkeys(("scaling_laws", "scaling_page"), 5),
}
SOLE_IMPORTERS = {"llvmlite": "tapegpt.machine.llvm", "safetensors": "tapegpt.tensors", "argparse": "tapegpt.cli"}
NEVER_IMPORTED = {"random", "numpy"}
ORACLE_STAYS_FREE_OF = ("adam", "compiled", "exact", "fast")  # an operation in scalars stands beside its kernels


@dataclass(frozen=True)
class Import:
    """One import statement's target as it is written, and whether it happens when the program runs."""

    target: str
    runs: bool


def source_files(package: Path) -> dict[str, str]:
    """Source text by dotted module name, `tapegpt.machine` for the folder's `__init__`."""
    files = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        files[name] = path.read_text(encoding="utf-8")
    return files


def imports(source: str, module: str) -> list[Import]:
    """Every import of a source text."""
    tree = ast.parse(source)
    for_types = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.If) and ast.unparse(outer.test).endswith("TYPE_CHECKING")
        for statement in outer.body
        for inner in ast.walk(statement)
    }
    found = []
    for node in ast.walk(tree):
        runs = id(node) not in for_types
        if isinstance(node, ast.Import):
            found += [Import(alias.name, runs) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports relatively: write the full name"
            found += [Import(f"{node.module}.{alias.name}", runs) for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "__import__",
            "import_module",
            "importlib.import_module",
        ):
            assert module in ("tapegpt", "tapegpt.cli", "tapegpt.models"), f"{module} imports what this test cannot see"
    return found


def resolve(target: str, modules: set[str]) -> str:
    """The module behind an import: `tapegpt.config.Config` is found in `tapegpt.config`; "" for none of ours."""
    while target and target not in modules:
        target = target.rpartition(".")[0]
    return target


def floor(module: str) -> int:
    """The floor of a module, by its first name inside the package."""
    name = [*module.split("."), "__init__"][1]
    assert name in FLOORS, f"{module} has no floor: give it one in {Path(__file__).name}"
    return FLOORS[name]


def faults(sources: dict[str, str]) -> list[str]:
    """What is wrong with the imports of these modules, one line each."""
    found = []
    for module, source in sources.items():
        for each in imports(source, module):
            outside = each.target.partition(".")[0]
            inside = resolve(each.target, set(sources))
            if outside in NEVER_IMPORTED:
                found.append(f"{module} imports {outside}")
            if outside in SOLE_IMPORTERS and not f"{module}.".startswith(f"{SOLE_IMPORTERS[outside]}."):
                found.append(f"{module} imports {outside}, which only {SOLE_IMPORTERS[outside]} may")
            if inside and floor(inside) > floor(module):
                found.append(f"{module} (floor {floor(module)}) imports {inside} (floor {floor(inside)})")
    return found


def running_graph(sources: dict[str, str]) -> dict[str, set[str]]:
    """Module -> modules of ours that it imports when it runs."""
    return {
        module: {resolve(each.target, set(sources)) for each in imports(source, module) if each.runs} - {"", module}
        for module, source in sources.items()
    }


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    """Everything that a module imports, directly or not; itself only in a cycle."""
    seen: set[str] = set()
    ahead = list(graph[start])
    while ahead:
        module = ahead.pop()
        if module not in seen:
            seen.add(module)
            ahead += graph[module]
    return seen


SOURCES = source_files(PACKAGE)
UPWARD = "tapegpt.machine.llvm (floor 1) imports tapegpt.tape (floor 3)"


def test_modules_import_only_from_their_floor_and_below() -> None:
    assert len(SOURCES) > 10
    assert faults(SOURCES) == []


def test_no_module_imports_itself_through_others() -> None:
    graph = running_graph(SOURCES)
    assert [module for module in graph if module in reachable(graph, module)] == []


def test_the_oracle_shares_no_arithmetic_with_what_it_judges() -> None:
    names = {(module + ".").split(".")[1] for module in reachable(running_graph(SOURCES), "tapegpt.reference")}
    assert "engine" in names
    assert names.isdisjoint(ORACLE_STAYS_FREE_OF)


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("from tapegpt import tape", UPWARD),
        ("from tapegpt.tape import Tape", UPWARD),
        ("def late():\n    from tapegpt.tape import Tape", UPWARD),
        ("if TYPE_CHECKING:\n    from tapegpt.tape import Tape", UPWARD),
        ("from tapegpt import __version__", "tapegpt.machine.llvm (floor 1) imports tapegpt (floor 5)"),
        ("import random", "tapegpt.machine.llvm imports random"),
        ("from numpy.linalg import norm", "tapegpt.machine.llvm imports numpy"),
        ("import argparse", "tapegpt.machine.llvm imports argparse, which only tapegpt.cli may"),
        ("import llvmlite.binding as llvm\nfrom tapegpt.errors import TapeGPTError", None),
    ],
)
def test_the_check_sees_a_bad_import(source: str, fault: str | None) -> None:
    house = dict.fromkeys(("tapegpt", "tapegpt.errors", "tapegpt.machine", "tapegpt.tape"), "")
    assert faults({**house, "tapegpt.machine.llvm": source}) == ([fault] if fault else [])


def test_the_check_sees_a_cycle_and_passes_over_types() -> None:
    types_only = "if TYPE_CHECKING:\n    from tapegpt.tape import Tape"
    house = {"tapegpt.model": "from tapegpt.rng import Random", "tapegpt.tape": "", "tapegpt.rng": types_only}
    assert reachable(running_graph(house), "tapegpt.model") == {"tapegpt.rng"}
    house["tapegpt.rng"] = "def late():\n    import tapegpt.model"
    assert "tapegpt.model" in reachable(running_graph(house), "tapegpt.model")


def test_a_module_without_a_floor_is_a_fault() -> None:
    with pytest.raises(AssertionError, match=r"tapegpt\.attic has no floor"):
        floor("tapegpt.attic")
