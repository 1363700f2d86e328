"""Notes that commands leave for later ones: when they hold, and that a program is the same with them."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tapegpt.data.rng import Random
from tapegpt.engines.base import Adam
from tapegpt.engines.exact import ExactEngine
from tapegpt.engines.fast.engine import FastEngine
from tapegpt.machine import cache, image, notes, program
from tapegpt.machine.target import INTERPRETED
from tapegpt.models.bigram import Bigram
from tapegpt.models.gpt import GPT
from tapegpt.models.loading import class_of
from tests.engines.batches import documents, parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tapegpt.engines.compiled import CompiledEngine

OF = ("thing", GPT(n_embd=8), 3)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of one module, which has not changed for long, as a command of it begins."""
    folder = tmp_path / "package" / "folder"
    folder.mkdir(parents=True)
    (folder / "module.py").write_text("A = 1\n")
    monkeypatch.setattr(notes, "_PACKAGE", str(folder.parent))
    monkeypatch.setattr(notes, "SETTLED", -60.0)
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    program._shared.clear()
    notes.begin()
    yield folder
    notes.end()


def test_what_is_noted_is_recalled(package: Path) -> None:
    value = (OF[1], {"a": [1.5, None], "b": range(3)}, "x\n")
    assert notes.recall(*OF) is None
    notes.note(value, *OF)
    assert notes.recall(*OF, names=[GPT]) == value
    for other in (("thing", GPT(n_embd=4), 3), ("thing", GPT(n_embd=8), 3.0), ("thing", GPT(n_embd=8))):
        assert notes.recall(*other) is None


def edit(module: Path) -> None:
    status = module.stat()
    module.write_text("A = 2\n")
    os.utime(module, ns=(status.st_atime_ns, status.st_mtime_ns))  # as if nothing had happened


CHANGES: dict[str, Callable[[Path], object]] = {
    "edited": lambda folder: edit(folder / "module.py"),
    "added": lambda folder: (folder / "more.py").touch(),
    "removed": lambda folder: (folder / "module.py").unlink(),
    "renamed": lambda folder: (folder / "module.py").rename(folder / "other.py"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="the time of a change can be set there")
@pytest.mark.parametrize("change", CHANGES)
def test_notes_are_of_the_files_as_they_are(package: Path, change: str) -> None:
    notes.note(1, *OF)
    CHANGES[change](package)
    assert notes.recall(*OF) == 1  # what this command has imported is still of the files before
    notes.note(2, "other")
    assert notes.recall("other") is None
    notes.begin()
    assert notes.recall(*OF) is None
    notes.note(2, *OF)
    assert notes.recall(*OF) == 2


def test_files_that_have_just_changed_have_no_notes(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "SETTLED", 60.0)
    notes.begin()
    notes.note(1, *OF)
    monkeypatch.setattr(notes, "SETTLED", -60.0)
    notes.begin()
    assert notes.recall(*OF) is None


def test_files_that_nobody_changes_any_more_have_notes_at_once(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "SETTLED", 60.0)
    notes.begin(settled=True)
    notes.note(1, *OF)
    assert notes.recall(*OF) == 1


def test_code_of_others_ends_the_notes(package: Path, tmp_path: Path) -> None:
    notes.note(1, *OF)
    file = tmp_path / "mine.py"
    file.write_text("from tapegpt import Model\nclass Mine(Model): pass\n")
    class_of(f"{file}:Mine")
    assert notes.recall(*OF) is None
    notes.note(2, *OF)
    notes.begin()
    assert notes.recall(*OF) == 1


def results(engine: CompiledEngine) -> list[object]:
    """What an engine gives, and its plan."""
    rng = random.Random(1)
    engine.load_parameters(parameters(engine.config, engine.vocab_size, rng))
    tokens = documents(engine.vocab_size, rng, [3, 4, 2])
    losses = engine.train(tokens, Adam(), 0, 2)
    made = [losses, engine.parameters(), engine.evaluate(tokens), list(engine.generate(Random(1), 3, 0.5))]
    return [*made, engine._plan, engine._program.interface]


@pytest.mark.skipif(not image.can_map(), reason="machine code is not mapped directly here")
@pytest.mark.parametrize("kind", [ExactEngine, FastEngine])
def test_an_engine_is_the_same_by_notes(
    package: Path, kind: type[CompiledEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, built = Bigram(block_size=4), []
    build = kind._build

    def counted(*of: object) -> object:
        built.append(of)
        return build(*of)  # type: ignore[arg-type]

    counted.__qualname__ = build.__qualname__
    monkeypatch.setattr(kind, "_build", staticmethod(counted))
    expected = results(kind(model, 3))
    for _ in range(2):
        program._shared.clear()
        assert results(kind(model, 3)) == expected
    assert len(built) == 1
    key = expected[-1].key  # type: ignore[attr-defined]
    (Path(cache.directory()) / f"{key}{cache.SUFFIX}").unlink()  # the code alone is lost
    program._shared.clear()
    assert results(kind(model, 3)) == expected
    assert len(built) == 2
    kind(model, 3, target=INTERPRETED)
    kind(model, 3, target=INTERPRETED)
    assert len(built) == 4  # of which there is no code
