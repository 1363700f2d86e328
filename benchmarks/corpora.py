"""Five different corpora without a download: short and long strings, few and many characters."""

from __future__ import annotations

import ast
import random
import sysconfig
import unicodedata
from collections.abc import Callable
from pathlib import Path

from tapegpt import Corpus

MOLECULES, NAMES, LINES, PARAGRAPHS = 29_000, 60_000, 60_000, 8_000
RINGS = ["c1ccccc1", "C1CCCCC1", "c1ccncc1", "C1CCNCC1", "c1ccoc1", "c1ccsc1", "C1CCOC1"]
RINGS += ["c1ccc({})cc1", "c1cc({})ccc1", "C1CCN({})CC1", "C1CC({})CCC1"]
GROUPS = ["C(=O)", "C(=O)", "C(=O)", "[C@H](C)", "[C@@H](O)", "C#N", "[N+](=O)[O-]", "S(=O)(=O)", "C=C"]


def molecules() -> Corpus:
    """Strings of a grammar like that of SMILES: chains, branches, rings; about 45 characters."""
    rng, found = random.Random(1), dict[str, None]()

    def chain(depth: int) -> str:
        return "".join(link(depth) for _ in range(rng.randint(1, 4) if depth else rng.randint(4, 9)))

    def link(depth: int) -> str:
        chance = rng.random()
        if chance < 0.45 or depth == 3:
            return rng.choice("CCCCCNOOS")
        if chance < 0.6:
            return f"({chain(depth + 1)})"
        if chance < 0.8:
            return rng.choice(RINGS).format(chain(min(depth + 2, 3)))
        return rng.choice(GROUPS) if chance < 0.95 else rng.choice(["F", "Cl", "Br"])

    while len(found) < MOLECULES:
        text = chain(0)
        if 15 < len(text) < 110:
            found[text] = None
    return Corpus.of(list(found))


def code() -> Corpus:
    """Lines of Python's standard library, each once."""
    lines = {line.strip() for path in _sources() for line in path.read_text("utf-8").splitlines()}
    return Corpus.of(random.Random(1).sample(sorted(lines), LINES))


def paragraphs() -> Corpus:
    """Paragraphs of its documentation, each in one line: hundreds of characters."""
    found = dict[str, None]()
    for path in _sources():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
                found.update(dict.fromkeys(" ".join(block.split()) for block in text.split("\n\n")))
    long = sorted(text for text in found if len(text) >= 150)
    return Corpus.of(random.Random(1).sample(long, min(PARAGRAPHS, len(long))))


def scripts() -> Corpus:
    """Names in many scripts, some thousand characters, of which each name uses few."""
    from importlib import import_module

    from faker.config import AVAILABLE_LOCALES

    found = set[str]()
    for locale in AVAILABLE_LOCALES:
        try:
            person = import_module(f"faker.providers.person.{locale}").Provider
        except ModuleNotFoundError:
            continue
        for kind in ("first_names", "last_names"):
            names = getattr(person, kind, ())
            found.update(name for name in (() if isinstance(names, property) else names) if not name.isascii())
    given, rng = sorted(found), random.Random(1)
    east = [name for name in given if unicodedata.east_asian_width(name[0]) == "W"]
    pairs = [rng.choice(east) + rng.choice(east) for _ in range(NAMES)]
    return Corpus.of(list(dict.fromkeys(given + pairs)))


def _sources() -> list[Path]:
    """Of the standard library, without its tests."""
    return sorted(Path(sysconfig.get_path("stdlib")).glob("[a-z]*.py"))


CORPORA: dict[str, Callable[[], Corpus]] = {
    "names": lambda: Corpus.dataset("names"),
    "molecules": molecules,
    "code": code,
    "paragraphs": paragraphs,
    "scripts": scripts,
}
