"""Contenders that take turns, their samples, and tables of medians."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter, process_time

from tapegpt.processes import cores


@dataclass(frozen=True)
class Contender:
    """Something that can be measured: one call of `sample` gives one figure, lower is better."""

    name: str
    sample: Callable[[], float]


@dataclass(frozen=True)
class Summary:
    """The samples of one contender."""

    name: str
    samples: Sequence[float]

    @property
    def median(self) -> float:
        """Middle of the samples."""
        return median(self.samples)

    @property
    def spread(self) -> str:
        """Lowest and highest sample."""
        return f"{figure(min(self.samples))}..{figure(max(self.samples))}"


def take_turns(contenders: Sequence[Contender], rounds: int) -> list[Summary]:
    """`rounds` samples of each contender, in the order A B A B."""
    samples: list[list[float]] = [[] for _ in contenders]
    for _ in range(rounds):
        for contender, taken in zip(contenders, samples, strict=True):
            taken.append(contender.sample())
    return [Summary(contender.name, taken) for contender, taken in zip(contenders, samples, strict=True)]


def seconds(action: Callable[[], object]) -> float:
    """Wall time of one call, in seconds."""
    started = perf_counter()
    action()
    return perf_counter() - started


def cpu_seconds(action: Callable[[], object]) -> float:
    """CPU time of one call, in seconds: what else the machine does counts little."""
    started = process_time()
    action()
    return process_time() - started


def cpu_name() -> str:
    """The CPU as the system names it, and how many of its cores this process may use."""
    facts: dict[str, str] = {}
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            pairs = (line.partition(":") for line in file)
            facts = {name.strip(): fact.strip() for name, _, fact in pairs}
    name = facts.get("model name") or platform.processor() or platform.machine()
    kind = f" (family {facts['cpu family']}, model {facts['model']})" if "cpu family" in facts else ""
    return f"{name}{kind}, {cores()} cores"


def figure(value: float) -> str:
    """A number with three significant digits, in plain notation."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table under a title; the first column is text, the others are figures."""
    lines = [f"| {' | '.join(heads)} |", f"| --- |{' ---: |' * (len(heads) - 1)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return f"### {title}\n\n" + "\n".join(lines) + "\n"


def comparison(title: str, unit: str, summaries: Sequence[Summary], yardstick: Summary) -> str:
    """A table of summaries with their ratio to one of them."""
    heads = ["", f"median, {unit}", f"lowest..highest, {unit}", f"ratio to {yardstick.name}"]
    rows = [[s.name, figure(s.median), s.spread, figure(s.median / yardstick.median)] for s in summaries]
    return table(title, heads, rows)
