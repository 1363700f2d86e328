"""The studio under load: a slider's moves one after another, then many clients that generate from one model at once.

Every response is checked; a failure ends the benchmark. The clients are part of this process, on the same machine.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import quantiles
from time import perf_counter
from typing import Any

from benchmarks.timing import figure, table

CLIENTS = 200
SECONDS = 60.0
MOVES = 30
WANTED = {"n": 20}


def under_load(seconds: float = SECONDS, clients: int = CLIENTS, moves: int = MOVES) -> str:
    """Milliseconds of a slider's move, all included, and of generating with so many clients at once."""
    with studio() as (port, _):
        corpus = asyncio.run(_asked(port, "GET", "/api/corpora"))[0]["id"]
        moved = asyncio.run(_moves(port, corpus, moves))
        run = asyncio.run(_asked(port, "GET", "/api/runs"))[-1]["id"]
        started = perf_counter()
        generated = asyncio.run(_crowd(port, f"/api/runs/{run}/generate", clients, seconds))
        elapsed = perf_counter() - started
    rows = [
        _row("a slider's move: 1,000 steps anew, and all that is shown", moved, sum(moved)),
        _row(f"20 strings, {clients} clients at once", generated, elapsed),
    ]
    heads = ["", "requests", "errors", "p50, ms", "p99, ms", "requests/s"]
    return table("The studio's server", heads, rows)


def _row(name: str, times: list[float], elapsed: float) -> list[str]:
    shares = quantiles(times, n=100, method="inclusive")
    figures = [figure(1e3 * shares[49]), figure(1e3 * shares[98]), figure(len(times) / elapsed)]
    return [name, f"{len(times):,}", "0", *figures]


@contextmanager
def studio() -> Iterator[tuple[int, int]]:
    """A studio of its own: the port that it listens at, and its process."""
    command = [sys.executable, "-m", "tapegpt", "studio", "--dataset", "names", "--port", "0", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline().split()[2].rstrip("/").rpartition(":")[2]), process.pid
        finally:
            process.send_signal(signal.SIGINT)


def resident(process: int) -> float:
    """Megabytes of memory of a process, on Linux."""
    with open(f"/proc/{process}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1e3


async def _moves(port: int, corpus: str, count: int) -> list[float]:
    """Seconds of each training, the first, which may compile, left out."""
    connection, times = await _connected(port), []
    for seed in range(count + 1):
        body = {"corpus": corpus, "settings": {"seed": seed, "validation": 0.1}, "text": "emma"}
        started = perf_counter()
        run = await _exchange(connection, "POST", "/api/runs", body, 201)
        times.append(perf_counter() - started)
        assert (run["steps"], len(run["moment"]["strings"])) == (1000, 20)
    connection[1].close()
    return times[1:]


async def _crowd(port: int, path: str, clients: int, seconds: float) -> list[float]:
    """Seconds of each request of clients that ask again as soon as they are answered."""
    times, end = list[float](), perf_counter() + seconds

    async def client() -> None:
        connection = await _connected(port)
        while (started := perf_counter()) < end:
            found = await _exchange(connection, "POST", path, WANTED, 200)
            times.append(perf_counter() - started)
            assert len(found["strings"]) == WANTED["n"]
        connection[1].close()

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return times


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _connected(port: int) -> Connection:
    return await asyncio.open_connection("127.0.0.1", port)


async def _asked(port: int, method: str, path: str) -> Any:
    connection = await _connected(port)
    found = await _exchange(connection, method, path, None, 200)
    connection[1].close()
    return found


async def _exchange(connection: Connection, method: str, path: str, body: Any, status: int) -> Any:
    """A request and the JSON of its response, whose status must be this one."""
    reader, writer = connection
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
    writer.write(head.encode() + content)
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines if line)
    found = await reader.readexactly(int(headers["content-length"]))
    assert int(first.split()[1]) == status, found
    return json.loads(found)
