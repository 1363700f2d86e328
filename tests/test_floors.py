"""The order of folders: a module imports only from its own folder and from lower ones, and its share of the outside.

Read from the source, so that an import inside a function, or for type checkers alone, counts as much as one at the top.
`python -m tests.test_floors` prints figures of the import graph.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tapegpt.machine import notes

PACKAGE = Path(__file__).parents[1] / "src" / "tapegpt"

FOLDERS = (  # a module imports only from its own folder and from those before it
    "",  # the package's own modules: errors, records, settings, files
    "machine",
    "data",
    "autograd",
    "engines",
    "inference",
    "models",
    "training",
    "analysis",
    "experiments",
    "web",
    "export",
    "cluster",
    "studio",
    "cli",
)
TOP = ("tapegpt", "tapegpt.__main__", "tapegpt.faker")  # they import from everywhere
SOLE_IMPORTERS = {
    "llvmlite": "tapegpt.machine.llvm",
    "argparse": "tapegpt.cli",
    "random": "tapegpt.data.rng",
    "_random": "tapegpt.data.rng",
}
NEVER_IMPORTED = {"numpy"}
ORACLE_STAYS_FREE_OF = ("adam", "compiled", "exact", "fast")  # of engines; an operation stands beside its kernels


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


@cache
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
            assert module in ("tapegpt.lazy", "tapegpt.cli", "tapegpt.models"), (
                f"{module} imports what this test cannot see"
            )
    return found


def resolve(target: str, modules: set[str]) -> str:
    """The module behind an import: `tapegpt.config.Config` is found in `tapegpt.config`; "" for none of ours."""
    while target and target not in modules:
        target = target.rpartition(".")[0]
    return target


def folder(module: str) -> str:
    """The folder of a module, "" for the package's own."""
    name, _, rest = module.removeprefix("tapegpt.").partition(".")
    is_file = not rest and module not in {f"tapegpt.{each}" for each in FOLDERS}
    assert is_file or name in FOLDERS, f"{module}: give its folder a place in {Path(__file__).name}"
    return "" if is_file else name


def height(module: str) -> int:
    """How high in the house a module stands."""
    return len(FOLDERS) if module in TOP else FOLDERS.index(folder(module))


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
            if inside and height(inside) > height(module):
                found.append(f"{module} imports {inside}, which stands higher")
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
UPWARD = "tapegpt.machine.llvm imports tapegpt.autograd.tape, which stands higher"


@pytest.mark.slow
def test_modules_import_only_from_their_folder_and_lower_ones() -> None:
    assert len(SOURCES) > 10
    assert faults(SOURCES) == []


@pytest.mark.slow
def test_no_module_imports_itself_through_others() -> None:
    graph = running_graph(SOURCES)
    assert [module for module in graph if module in reachable(graph, module)] == []


@pytest.mark.slow
def test_notes_see_all_files_that_decide_them() -> None:
    assert FOLDERS[FOLDERS.index("models") + 1 :] == notes.ABOVE
    recall = {"tapegpt.machine.notes", "tapegpt.machine.program.load"}
    users = {module for module, source in SOURCES.items() if recall & {each.target for each in imports(source, module)}}
    assert "tapegpt.engines.compiled" in users
    assert [module for module in users if folder(module) in notes.ABOVE] == ["tapegpt.cli"]  # where they begin


@pytest.mark.slow
def test_the_oracle_shares_no_arithmetic_with_what_it_judges() -> None:
    reached = reachable(running_graph(SOURCES), "tapegpt.engines.reference")
    names = {module.split(".")[2] for module in reached if module.startswith("tapegpt.engines.")}
    assert "base" in names
    assert names.isdisjoint(ORACLE_STAYS_FREE_OF)


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("from tapegpt.autograd import tape", UPWARD),
        ("from tapegpt.autograd.tape import Tape", UPWARD),
        ("def late():\n    from tapegpt.autograd.tape import Tape", UPWARD),
        ("if TYPE_CHECKING:\n    from tapegpt.autograd.tape import Tape", UPWARD),
        ("from tapegpt import __version__", "tapegpt.machine.llvm imports tapegpt, which stands higher"),
        ("import random", "tapegpt.machine.llvm imports random, which only tapegpt.data.rng may"),
        ("from numpy.linalg import norm", "tapegpt.machine.llvm imports numpy"),
        ("import argparse", "tapegpt.machine.llvm imports argparse, which only tapegpt.cli may"),
        ("import llvmlite.binding as llvm\nfrom tapegpt.errors import TapeGPTError", None),
    ],
)
def test_the_check_sees_a_bad_import(source: str, fault: str | None) -> None:
    house = dict.fromkeys(("tapegpt", "tapegpt.errors", "tapegpt.machine", "tapegpt.autograd.tape"), "")
    assert faults({**house, "tapegpt.machine.llvm": source}) == ([fault] if fault else [])


def test_the_check_sees_a_cycle_and_passes_over_types() -> None:
    types_only = "if TYPE_CHECKING:\n    from tapegpt.autograd.tape import Tape"
    house = {
        "tapegpt.models.trained": "from tapegpt.data.rng import Random",
        "tapegpt.autograd.tape": "",
        "tapegpt.data.rng": types_only,
    }
    assert reachable(running_graph(house), "tapegpt.models.trained") == {"tapegpt.data.rng"}
    house["tapegpt.data.rng"] = "def late():\n    import tapegpt.models.trained"
    assert "tapegpt.models.trained" in reachable(running_graph(house), "tapegpt.models.trained")


def test_a_folder_without_a_place_is_a_fault() -> None:
    with pytest.raises(AssertionError, match=r"tapegpt\.attic\.box: give its folder a place"):
        folder("tapegpt.attic.box")


def levels(graph: dict[str, set[str]]) -> int:
    """Modules in the longest chain of imports."""
    known: dict[str, int] = {}

    def level(module: str) -> int:
        if module not in known:
            known[module] = 1 + max(map(level, graph[module]), default=0)
        return known[module]

    return max(map(level, graph))


if __name__ == "__main__":
    running = running_graph(SOURCES)
    arrows = [(module, target) for module in running for target in running[module] if module not in TOP]
    between = {(folder(module), folder(target)) for module, target in arrows if folder(module) != folder(target)}
    crossing = sum(folder(module) != folder(target) for module, target in arrows)
    print(f"{len(SOURCES)} modules in {len(FOLDERS)} folders, {levels(running)} levels of imports")
    print(f"{len(arrows)} imports, {crossing} of them from one folder to another, over {len(between)} arrows")
    circles = sum(module in reachable(running, module) for module in running)
    print(f"{len(faults(SOURCES))} imports that climb, {circles} modules in circles")
