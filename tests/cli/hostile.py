"""Hostile files: valid ones of every format, with some values made extreme and checksums made right again.

Whatever reads one either does what it is asked, or raises `TapeGPTError` with one line, within a time and a memory,
and leaves the file as it was. `python -m tests.cli.fuzz files 10000` makes so many; batches run in forked processes, so
that a crash is seen.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import resource
import struct
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import tapegpt
from tapegpt import Corpus, Ensemble, TapeGPTError, Trainer, tensors
from tapegpt.analysis.diff import compare, losses_of
from tapegpt.experiments.journal import JOURNAL
from tapegpt.experiments.population import Candidate, Field, Outcome, Population
from tapegpt.experiments.sweep import sweep
from tapegpt.models import writing
from tapegpt.models.gpt import Config
from tapegpt.models.microgpt_json import from_state_dict
from tapegpt.models.trained import GPT
from tapegpt.settings import Settings
from tapegpt.tensors import Contents
from tests.cli.fuzz import fault, limited

BATCH = 200  # files a process
SECONDS = 20  # that a file may take on a busy machine
MEMORY = 3 << 30  # bytes of address space, beyond what is taken already
NAMES = ["anna", "otto", "bob", "hannah", "eve", "ada", "natan", "aviva"]
CORPUS = Corpus.of(NAMES)
SEARCH: dict[str, Any] = {"n_embd": 4, "n_head": 2, "block_size": 4, "random": {"learning_rate": (0.001, 0.1)}}
SEARCH |= {"trials": 8, "seeds": 2, "validation": 0.3}

WHOLE = [0, 1, -1, 2, 3, 255, 2**16, 2**31 - 1, 2**31, 2**32, 2**45, 2**46, 2**53, 2**62, 2**63 - 1, 2**63, 2**64]
WHOLE += [-(2**31), -(2**63), 10**9, 10**9 + 1, 10**30, 10**400]
REAL = [math.nan, math.inf, -math.inf, -0.0, 0.0, 5e-324, -5e-324, 1e-300, 1e38, -1e38, 1e39, 1e308, -1e308, 0.5, 1.0]
TEXT = ["", "a", "0", "-1", " 1", "1_0", "9" * 5000, "x" * 20_000, "\ud800", "\x00", "é", "名", "NaN", "1e999", "[]"]
TEXT += ["\n", "exact", "fast", "reference", "window", "../m", "/dev/zero", "-"]
OTHER: list[Any] = [None, True, False, [], {}, [[]], [0], {"a": 1}, [None] * 3]


class Mutations:
    """Makes values extreme, from one generator of random numbers."""

    def __init__(self, rng: random.Random) -> None:
        self.random = rng

    def value(self, former: object) -> Any:
        """An extreme value, often of the kind that was there."""
        kinds: list[list[Any]] = [WHOLE, REAL, TEXT, OTHER]
        if self.random.random() < 0.7 and not isinstance(former, bool):
            kinds = [kinds[0 if isinstance(former, int) else 1 if isinstance(former, float) else 2]]
        return self.random.choice(self.random.choice(kinds))

    def tree(self, value: Any) -> Any:
        """A value somewhere in lists and dictionaries, or one of these, changed."""
        if isinstance(value, list | dict) and value and self.random.random() < 0.95:
            keys = list(value) if isinstance(value, dict) else list(range(len(value)))
            key = self.random.choice(keys)
            what = self.random.random()
            changed = value.copy()
            if what < 0.85:
                changed[key] = self.tree(value[key])
            elif what < 0.9:
                del changed[key]
            elif isinstance(changed, list):
                changed = self.random.choice([changed * 2, changed[::-1], [*changed, self.value(value[key])]])
            else:
                changed[self.random.choice(TEXT)] = value[key]
            return changed
        return self.value(value)

    def raw(self, data: bytes) -> bytes:
        """Bytes changed, cut or repeated."""
        changed = bytearray(data)
        for _ in range(self.random.randint(1, 3)):
            if changed:
                changed[self.random.randrange(len(changed))] = self.random.randrange(256)
        stop = self.random.choice([len(changed), len(changed), self.random.randrange(len(changed) + 1)])
        return bytes(changed[:stop]) * self.random.choice([1, 1, 1, 2])

    def text(self, text: str) -> str:
        """A line of JSON changed, or the characters."""
        lines = text.splitlines(keepends=True)
        if not lines or self.random.random() < 0.2:
            return self.raw(text.encode()).decode("utf-8", "replace")
        place = self.random.randrange(len(lines))
        with contextlib.suppress(ValueError):
            lines[place] = json.dumps(self.tree(json.loads(lines[place]))) + "\n"
        return "".join(lines)

    def numbers(self, data: bytes, code: str) -> bytes:
        """A tensor with extreme numbers in it."""
        size = struct.calcsize(code)
        number = self.random.choice([n for n in REAL if code == "d" or not math.isfinite(n) or abs(n) <= 1e38])
        packed = struct.pack(f"<{code}", number)
        what = self.random.random()
        if what < 0.4:
            return packed * (len(data) // size)
        if what < 0.9:
            place = size * self.random.randrange(max(len(data) // size, 1))
            return data[:place] + packed + data[place + size :]
        return data[: self.random.randrange(len(data) + 1)]

    def contents(self, contents: Contents) -> Contents:
        """What a model file holds, changed in some places."""
        metadata, tensors, kind = dict(contents.metadata), dict(contents.tensors), contents.type
        for _ in range(self.random.choice([1, 1, 1, 2, 3])):
            what = self.random.random()
            name = self.random.choice(list(metadata if what < 0.7 else tensors) or [""])
            if not name:
                continue
            if what < 0.7:
                metadata[name] = self._field(metadata[name])
            elif what < 0.9:
                tensors[name] = tensors[name][0], self.numbers(tensors[name][1], "d" if kind == "F64" else "f")
            elif what < 0.95:
                rows, columns = tensors[name][0]
                shape = self.random.choice([(columns, rows), (rows * columns, 1), (0, columns), (rows, columns + 1)])
                tensors[name] = shape, tensors[name][1]
            elif what < 0.98:
                data = tensors.pop(name)
                tensors[self.random.choice([*TEXT, *tensors, "last.wte", "adam.mean.wte"])] = data
            else:
                kind = "F32" if kind == "F64" else "F64"
        return Contents(metadata, tensors, kind)

    def _field(self, text: str) -> str:
        """Metadata changed: the text, or what it says as JSON; the models of an ensemble have metadata themselves."""
        try:
            value = json.loads(text)
        except ValueError:
            return str(self.value(text))
        if isinstance(value, list) and value and all(isinstance(each, dict) and "config" in each for each in value):
            place = self.random.randrange(len(value))
            name = self.random.choice(list(value[place]))
            changed = {**value[place], name: self._field(value[place][name])}
            return json.dumps([*value[:place], changed, *value[place + 1 :]])
        return json.dumps(self.tree(value))


# --- what is done with a file -----------------------------------------------------------------------------------


def use(model: GPT, place: Path) -> None:
    """All that a model is for; each may be refused, and the others are tried."""
    uses: list[Callable[[], object]] = [
        lambda: model.generate(3, seed=1),
        lambda: model.generate(3),
        lambda: model.generate(2, seed=1, prefix=model.vocabulary[0], distinct=True, top_k=2),
        lambda: model.generate(2, seed=1, pattern=".*", min_length=1, temperature=0.01),
        lambda: model.score(["anna", "", "zoë"]).percentiles,
        lambda: model.next_probabilities("", temperature=0),
        lambda: resume(model, place),
        lambda: finetune(model),
        lambda: convert(model, place),
    ]
    for each in uses:
        with contextlib.suppress(TapeGPTError):
            each()


def resume(model: GPT, place: Path) -> None:
    """Go on for some steps, and save."""
    trainer = Trainer.resume(model, CORPUS)
    trainer.run(3)
    if trainer.held_out:
        trainer.evaluate()
    trainer.keep(lambda kept: tapegpt.save(kept, place / "kept"))
    tapegpt.load(place / "kept")


def finetune(model: GPT) -> None:
    settings = model.state.settings if model.state else Settings(model.engine.name, 9)
    Trainer.finetune(model, CORPUS, settings.replace(budget=None)).run(2)


def convert(model: GPT, place: Path) -> None:
    for name in ("converted.json", "converted"):
        tapegpt.save(model, place / name)
        again = tapegpt.load(place / name)
        assert again.config == model.config, "it is another one in the other format"


def _text(value: object) -> str:
    """Of ints with more digits than Python writes, those of another."""
    with contextlib.suppress(ValueError):
        return str(value)
    return "9" * 400


def toy(field: Field, candidates: Iterable[Candidate], threads: int | None = None, keep: int = 0) -> Population:
    """An executor that trains nothing."""
    return Population((Outcome(each, 1.0 / each.settings.steps, None, 1.0, 0.1, {}, 9) for each in candidates), [])


class Hostile:
    """Makes files in a directory, and uses them."""

    def __init__(self, place: Path) -> None:
        self._place = place
        (place / "names.txt").write_text("\n".join(NAMES) + "\n", encoding="utf-8")
        corpus = Corpus.read(place / "names.txt")
        shape, runs = Config(1, 4, 2, 4), Config(1, 4, 2, 4, n_gram=2, gram_rows=16)
        trainings = {
            "exact": (shape, Settings(steps=9, validation=0.3)),
            "fast": (runs, Settings("fast", 9, batch_size=2, validation=0.3, threads=2)),
            "budget": (shape, Settings("fast", 9, budget=1000.0, batch_size=2, threads=1)),
        }
        trained = {name: self._trained(corpus, *how) for name, how in trainings.items()}
        self._models = {name: writing.contents(model) for name, model in trained.items()}
        self._models["ensemble"] = writing.contents(Ensemble(list(trained.values())))
        former = writing.contents(trained["exact"], weights_only=True)
        self._models["format 1"] = former.replace(metadata={**former.metadata, "format": "1"})
        parameters = trained["exact"].parameters
        matrices = {
            name: [parameters[name][row * columns : (row + 1) * columns].tolist() for row in range(rows)]
            for name, (rows, columns) in shape.shapes(corpus.vocab_size).items()
        }
        self._state_dict = {"state_dict": matrices, "uchars": list(corpus.vocabulary)}
        sweep(corpus, **SEARCH, steps=300, run_dir=place / "sweep", executor=toy)
        self._journal = (place / "sweep" / JOURNAL).read_bytes()
        shaped = ["--n-embd", "4", "--n-head", "2", "--block-size", "4", "--steps", "9", "--samples", "0"]
        assert fault(["train", "names.txt", *shaped, "-o", "trained", "--metrics", "metrics"]) == (0, "")
        self._metrics = Path("metrics").read_text(encoding="utf-8")
        self.kinds: dict[str, Callable[[Mutations], str]] = {
            "safetensors": lambda mutations: self._model_file(mutations, "m.safetensors"),
            "json": lambda mutations: self._model_file(mutations, "m.json"),
            "bytes": self._bytes,
            "state_dict": self._as_state_dict,
            "journal": self._as_journal,
            "plan": self._as_plan,
            "metrics": self._as_metrics,
            "losses": self._as_losses,
        }

    @staticmethod
    def _trained(corpus: Corpus, config: Config, settings: Settings) -> GPT:
        """A model that knows all that there is to know."""
        trainer = Trainer(corpus, config, settings)
        trainer.run(3)
        if trainer.held_out:
            trainer.evaluate()
            trainer.run(2)
        trainer.model.rank()
        trainer.keep(lambda _: None)
        return trainer.model

    def one(self, rng: random.Random) -> tuple[str, str]:
        """A file of some kind, made and used; its kind, and "taken" or "refused". Raises whatever is a fault."""
        kind = rng.choice(["safetensors", "safetensors", "json", *self.kinds])
        try:
            return kind, self.kinds[kind](Mutations(rng))
        except TapeGPTError:
            return kind, "refused"

    def _kept(self, path: Path, content: bytes, call: Callable[[], object]) -> str:
        """Use a file, which stays as it is."""
        path.write_bytes(content)
        try:
            call()
        finally:
            assert path.read_bytes() == content, "the file has changed"
        return "taken"

    def _model_file(self, mutations: Mutations, name: str) -> str:
        changed = mutations.contents(self._models[mutations.random.choice(list(self._models))])
        try:
            content = tensors._as_json(changed) if name.endswith("json") else tensors._as_safetensors(changed)
        except (ValueError, UnicodeError, struct.error):
            return "no file"  # such as bytes that are no whole numbers, or digits that JSON does not write
        path = self._place / name
        return self._kept(path, content, lambda: use(tapegpt.load(path), self._place))

    def _bytes(self, mutations: Mutations) -> str:
        whole = self._models[mutations.random.choice(list(self._models))]
        as_bytes = mutations.random.choice([tensors._as_json, tensors._as_safetensors])
        path = self._place / "m"
        return self._kept(path, mutations.raw(as_bytes(whole)), lambda: use(tapegpt.load(path), self._place))

    def _as_state_dict(self, mutations: Mutations) -> str:
        path = self._place / "state.json"
        content = json.dumps(mutations.tree(self._state_dict)).encode()
        heads, vocabulary = (
            mutations.random.choice([2] * 9 + [1, 0, 2**63]),
            mutations.random.choice([*[None] * 30, *TEXT]),
        )
        return self._kept(path, content, lambda: use(from_state_dict(path, heads, vocabulary), self._place))

    def _as_journal(self, mutations: Mutations) -> str:
        path = self._place / "sweep" / JOURNAL
        content = mutations.text(self._journal.decode()).encode("utf-8", "surrogatepass")
        path.write_bytes(content)
        try:
            sweep(CORPUS, **SEARCH, steps=300, run_dir=path.parent, executor=toy).as_json()
        except TapeGPTError:
            assert path.read_bytes() == content, "the journal has changed"
            raise
        whole, end, _ = content.rpartition(b"\n")
        assert path.read_bytes().startswith(whole + end), "the journal has lost lines"
        return "taken"

    def _as_plan(self, mutations: Mutations) -> str:
        rungs = mutations.tree([[8, 100], [2, 300, 2]])
        is_nested = isinstance(rungs, list) and all(isinstance(rung, list) for rung in rungs)
        plan = " ".join("x".join(map(_text, rung)) for rung in rungs) if is_nested else _text(rungs)
        sweep(CORPUS, **SEARCH, plan=plan, executor=toy).as_json()
        return "taken"

    def _as_metrics(self, mutations: Mutations) -> str:
        path, content = self._place / "metrics", mutations.text(self._metrics).encode("utf-8", "surrogatepass")
        path.write_bytes(content)
        code, wrong = fault(
            ["resume", "trained", "--more-steps", "2", "-o", "new", "--samples", "0", "--metrics", "metrics"]
        )
        assert not wrong, wrong
        assert code == 0 or path.read_bytes() == content, "the metrics have changed"
        return "refused" if code else "taken"

    def _as_losses(self, mutations: Mutations) -> str:
        text = mutations.text(self._metrics)
        compare(losses_of(text, "a"), losses_of(self._metrics, "b"), 0.1)
        return "taken"


# --- processes --------------------------------------------------------------------------------------------------


def batch(hostile: Hostile, seed: int, first: int, last: int, found: int) -> None:
    """Files of these numbers, in this process; what became of each is a line of JSON to a descriptor."""
    taken = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    for number in range(first, last):
        os.write(found, f"{json.dumps([number, '', ''])}\n".encode())
        kind, what = "", ""
        try:
            with limited(SECONDS):
                kind, what = hostile.one(random.Random(f"{seed} {number}"))
        except BaseException as error:  # noqa: BLE001  # whatever gets out is what is looked for
            where = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__}: {error} at {where.filename}:{where.lineno}"[:1500]
        os.write(found, f"{json.dumps([number, kind, what])}\n".encode())


def forked(hostile: Hostile, seed: int, first: int, last: int) -> list[tuple[int, str, str]]:
    """The same in a process of its own: (number, kind, what became of it), and the last one's is its crash."""
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        os.close(receive)
        try:
            batch(hostile, seed, first, last, send)
        finally:
            os._exit(0)
    os.close(send)
    with open(receive, encoding="utf-8") as lines:
        found = {number: (number, kind, what) for number, kind, what in map(json.loads, lines)}
    _, status = os.waitpid(child, 0)
    number, _, what = list(found.values())[-1]
    if not what or status:
        found[number] = number, "", f"the process ended with status {status}"
    return list(found.values())


def fuzz_files(count: int, seed: int) -> list[str]:
    """The faults of so many files."""
    faults, ends = [], Counter[tuple[str, str]]()
    former = Path.cwd()
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        try:
            hostile = Hostile(Path(place))
            first = 0
            while first < count:
                for number, kind, what in forked(hostile, seed, first, min(first + BATCH, count)):
                    first = number + 1
                    if kind and what in ("taken", "refused", "no file"):
                        ends[kind, what] += 1
                    else:
                        faults.append(f"{number}: {what}")
        finally:
            os.chdir(former)
    print(f"seed {seed}:", ", ".join(f"{kind} {what}: {n}" for (kind, what), n in sorted(ends.items())))
    return faults
