"""Programs in Pyodide, in a process of Node.

`PYODIDE` names a folder where `npm install pyodide` was run. Programs find the package, the tests and what else they
are given in a file system of their own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BEGIN = """
import os, sys
sys.dont_write_bytecode = True
sys.path[:0] = ["/tapegpt/src", "/tapegpt", "/site"]
os.chdir("/tapegpt")
"""


def folder() -> Path:
    """The folder that `PYODIDE` names."""
    place = Path(os.environ.get("PYODIDE", "nowhere"))
    if not shutil.which("node") or not (place / "node_modules" / "pyodide").is_dir():
        pytest.skip("needs Node, and PYODIDE, a folder with npm's package pyodide")
    return place


def run(program: str, **places: Path) -> str:
    """What a program prints; `places` are folders of this machine, which it finds under these names."""
    script, package = Path(__file__).with_name("run.mjs"), folder() / "node_modules" / "pyodide"
    every = {"tapegpt": ROOT, **places}
    seen = json.dumps({f"/{name}": os.fspath(place.resolve()) for name, place in every.items()})
    done = subprocess.run(["node", script, package, seen, BEGIN + program], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
