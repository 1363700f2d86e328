"""The whole command: wall time and peak memory of `tapegpt`, cold and warm, and of other programs.

Every program is started by a launcher, a bare interpreter that waits for it: a child inherits the peak memory of the
process that started it, and this one is larger than what it measures.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.timing import Contender, Summary, comparison, figure, table, take_turns

LAUNCHER = """
import os, sys, time
output, *command = sys.argv[1:]
to_file = (os.POSIX_SPAWN_OPEN, 1, output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
started = time.perf_counter()
child = os.posix_spawnp(command[0], command, os.environ, file_actions=[to_file])
status, usage = os.wait4(child, 0)[1:]
print(time.perf_counter() - started, usage.ru_maxrss, os.waitstatus_to_exitcode(status))
"""
KILOBYTE = 1 if sys.platform == "darwin" else 1024  # macOS reports ru_maxrss in bytes


@dataclass
class Program:
    """A command line in a folder; each start adds to its memory figures and leaves its output."""

    name: str
    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    peaks: list[float] = field(default_factory=list)  # megabytes

    def run(self) -> float:
        """Wall time of one run, in milliseconds."""
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", LAUNCHER, str(self._output), *self.command],
            cwd=self.folder,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=True,
        )
        wall, peak, status = map(float, done.stdout.split())
        if status:
            raise SystemExit(f"{self.name}: {shlex.join(self.command)} ended with {status:.0f}: {done.stderr.strip()}")
        self.peaks.append(peak * KILOBYTE / 1e6)
        return 1e3 * wall

    def output(self) -> str:
        """The output of the last start."""
        return self._output.read_text(encoding="utf-8")

    @property
    def _output(self) -> Path:
        return self.folder / f"{self.name}.out"


@contextmanager
def workplace(data: str | None) -> Iterator[Path]:
    """A folder to run in, with the data as `input.txt`, where both tapegpt and microgpt.py look for it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if data is not None:
            shutil.copy(data, folder / "input.txt")
        yield folder


def whole_command(data: str | None, peers: Mapping[str, str], rounds: int) -> str:
    """`tapegpt` with a warm cache, beside the bare interpreter and other programs; then its first run ever."""
    with workplace(data) as folder:
        warm = Program("tapegpt", [_installed()], folder, {"TAPEGPT_CACHE_DIR": str(folder / "cache")})
        bare = Program("bare interpreter", [sys.executable, "-c", "pass"], folder)
        others = [Program(name, shlex.split(command), folder) for name, command in peers.items()]
        check_output(warm, data)
        return "\n".join((_warm([warm, bare, *others], rounds), _cold(warm, min(rounds, 5))))


def check_output(program: Program, data: str | None) -> None:
    """Cold and warm runs print the same 24 lines, and count the documents that are there."""
    program.run()
    cold = program.output()
    program.run()
    assert program.output() == cold, "a warm start prints something else than a cold one"
    lines = cold.splitlines()
    assert len(lines) == 24, f"expected 24 lines, got {len(lines)}"
    assert lines[-1].startswith("sample 20: "), lines[-1]
    if data is not None:
        with open(data, encoding="utf-8") as file:
            assert lines[0] == f"num docs: {sum(bool(line.strip()) for line in file)}", lines[0]


def _warm(programs: Sequence[Program], rounds: int) -> str:
    for program in programs:
        program.run()  # a peer's first run may fill a cache of its own
        program.peaks.clear()
    summaries = take_turns([Contender(program.name, program.run) for program in programs], rounds)
    memory = [[p.name, figure(s.median), s.spread] for p in programs for s in (Summary(p.name, p.peaks),)]
    return "\n".join(
        (
            comparison("The whole command, warm", "ms", summaries, summaries[0]),
            table("Its peak memory", ["", "median, MB", "lowest..highest, MB"], memory),
        )
    )


def _cold(warm: Program, rounds: int) -> str:
    """Every start finds an empty cache."""

    def first_run() -> float:
        with tempfile.TemporaryDirectory() as cache:
            program = Program("first run", warm.command, warm.folder, {"TAPEGPT_CACHE_DIR": cache})
            wall = program.run() / 1e3
            assert program.output() == warm.output()
            return wall

    (summary,) = take_turns([Contender("tapegpt", first_run)], rounds)
    rows = [[summary.name, figure(summary.median), summary.spread]]
    return table("The first run, which compiles", ["", "median, s", "lowest..highest, s"], rows)


def _installed() -> str:
    """The `tapegpt` command of this environment."""
    found = shutil.which("tapegpt", path=sysconfig.get_path("scripts"))
    if found is None:
        raise SystemExit("tapegpt is not installed in this environment: run pip install . first")
    return found
