"""What starting up may load: time to the first character is part of the promise, and imports are most of it.

Counted in modules, not in milliseconds, so that a busy machine cannot fail the test.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tapegpt.machine.image import can_map

THIRD_PARTY = {"llvmlite", "numpy", "platformdirs"}
HEAVY = {"asyncio", "dataclasses", "inspect", "json", "logging", "pathlib", "random", "tempfile", "typing"}
HEAVY |= {"bisect", "ctypes", "locale", "signal"}
MAKING = {"tapegpt.autograd.tape", "tapegpt.machine.language", "tapegpt.machine.fingerprint", "tapegpt.engines.graph"}
JOB = ["train", "--steps", "2", "--samples", "1"]


def loaded(arguments: list[str], cache: Path) -> set[str]:
    """Names of the modules that are imported while the interpreter runs a command, of others their packages."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        env={**os.environ, "TAPEGPT_CACHE_DIR": str(cache)},
        cwd=cache,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    names = {line.rpartition("|")[2].strip() for line in lines}
    return {name if name.startswith("tapegpt.") else name.partition(".")[0] for name in names}


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What the interpreter itself loads, by whatever its environment makes it load."""
    return loaded(["-c", "pass"], tmp_path_factory.mktemp("bare"))


def test_importing_the_package_loads_next_to_nothing(bare: set[str], tmp_path: Path) -> None:
    modules = loaded(["-c", "import tapegpt"], tmp_path)
    assert "tapegpt" in modules
    assert (modules - bare) & (THIRD_PARTY | HEAVY | {"argparse", "ctypes", "re"}) == set()


def test_a_name_is_loaded_when_it_is_asked_for(tmp_path: Path) -> None:
    script = "from tapegpt import Config, Random; Config(), Random(1).random()"
    unneeded = "import sys; assert 'tapegpt.autograd.tape' not in sys.modules"
    modules = loaded(["-c", f"{script}; {unneeded}"], tmp_path)
    assert modules & (THIRD_PARTY | {"argparse", "random"}) == set()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["exact", "fast"])
def test_only_a_cold_start_loads_llvm(bare: set[str], tmp_path: Path, engine: str) -> None:
    command = ["-m", "tapegpt", *JOB, "--engine", engine]
    cold, warm = loaded(command, tmp_path), loaded(command, tmp_path)
    assert "llvmlite" in cold
    assert warm & THIRD_PARTY == (set() if can_map() else {"llvmlite"})
    if can_map():
        assert (warm - bare) & HEAVY == set()
        assert warm & MAKING == set()


@pytest.mark.slow
def test_without_options_argparse_is_not_loaded(bare: set[str], tmp_path: Path) -> None:
    (tmp_path / "input.txt").write_text("anna\nbob\n")
    loaded(["-m", "tapegpt"], tmp_path)  # compiles
    modules = loaded(["-m", "tapegpt"], tmp_path)
    assert (modules - bare) & {"argparse", "gettext", "re", "enum", "signal"} == set()
