"""The same trainings in Pyodide, in Node, and in this Python: a first one from `import tapegpt` on, and steps.

Both run in processes of their own, without a cache, and take turns. Needs Node, and the folder that `PYODIDE` names,
where `npm install pyodide` was run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.timing import figure, table
from tapegpt import Corpus

ROOT = Path(__file__).resolve().parents[1]
BEGIN = """
import os, sys
sys.dont_write_bytecode = True
sys.path[:0] = ["/tapegpt/src", "/tapegpt", "/site"]
os.chdir("/tapegpt")
"""
ROWS = ("first training and 20 strings, s", "of these compiling, s", "a step, exact, us", "a step, fast, 16 names, us")
JOBS = """
from time import perf_counter
start = perf_counter()
import tapegpt
model = tapegpt.train(DATA, steps=1000)
model.generate(20)
whole = perf_counter() - start

def trainer(**settings):
    made = tapegpt.Trainer(tapegpt.Corpus.read(DATA), tapegpt.Config(), steps=1_000_000, **settings)
    return made, made.run(2)

def step(**settings):
    made, _ = trainer(**settings)
    times = []
    for _ in range(7):
        start = perf_counter()
        made.run(500)
        times.append(perf_counter() - start)
    return min(times) / 500 * 1e6

assert trainer()[1] == trainer(engine="reference")[1], "the engines' losses differ"
print(whole, model.engine.compile_seconds, step(), step(engine="fast", batch_size=16, threads=1))
"""


def package() -> Path | None:
    """The npm package, where it and Node are installed."""
    place = Path(os.environ.get("PYODIDE", "nowhere"), "node_modules", "pyodide")
    return place if place.is_dir() and shutil.which("node") else None


def run(program: str, **places: Path) -> str:
    """What a program prints in Pyodide; it finds folders of this machine under the names in `places`."""
    seen = {f"/{name}": os.fspath(place.resolve()) for name, place in {"tapegpt": ROOT, **places}.items()}
    script = os.fspath(ROOT / "src" / "tapegpt" / "studio" / "pyodide.mjs")
    return _printed(["node", script, str(package()), json.dumps(seen), BEGIN + program])


def _printed(command: Sequence[str]) -> str:
    environment = {**os.environ, "TAPEGPT_CACHE_DIR": ""}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def by_job(corpus: Corpus, rounds: int, folder: Path) -> str:
    """A table of both, and how many times longer Pyodide takes."""
    if package() is None:
        return "Pyodide is not installed: PYODIDE must name a folder where `npm install pyodide` was run\n"
    data = folder / "input.txt"
    data.write_text("\n".join(corpus.documents), encoding="utf-8")
    there, here = [], []
    for _ in range(rounds):
        there.append(run(f"DATA = '/data/input.txt'{JOBS}", data=folder))
        here.append(_printed([sys.executable, "-c", f"DATA = {os.fspath(data)!r}{JOBS}"]))
    rows = []
    columns = [zip(*(map(float, each.split()) for each in printed), strict=True) for printed in (there, here)]
    for name, times, others in zip(ROWS, *columns, strict=True):
        spread = f"{figure(min(times))}..{figure(max(times))}"
        ratios = [figure(best(times) / best(others)) for best in (median, min)]
        rows.append([name, figure(median(times)), spread, figure(median(others)), *ratios])
    heads = ["", "Pyodide, median", "lowest..highest", "this Python, median", "ratio", "of the lowest"]
    return table("The default model in Pyodide, once that is loaded, and in this Python", heads, rows)
