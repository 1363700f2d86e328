"""The package in Pyodide: its tests of what a libm, a code maker, memory or files decide, and files both ways.

In Pyodide kernels are WebAssembly, libm is musl's, memory has 32-bit addresses, and there are no threads and no LLVM.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.pyodide import package, run
from tests.pyodide import exchange

PARTS = (
    "tests/pyodide/inside.py",
    "tests/data/test_neighbours.py",
    "tests/data/test_rng.py",
    "tests/inference/test_sampling.py",
    "tests/machine/test_structures.py",
)
PROGRAM = f"""
import pytest
from pathlib import Path
from tests.pyodide import exchange
exchange.check(Path("/there"))
exchange.write(Path("/here"))
int(pytest.main(["-q", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib", *{PARTS!r}]))
"""


@pytest.mark.slow
def test_the_package_in_pyodide(tmp_path: Path) -> None:
    if not (installed := package()):
        pytest.skip("needs Node, and PYODIDE, a folder with npm's package pyodide")
    there, here, site = tmp_path / "there", tmp_path / "here", installed.parents[1] / "site"
    there.mkdir()
    here.mkdir()
    exchange.write(there)
    run(PROGRAM, there=there, here=here, site=site)
    exchange.check(here)
