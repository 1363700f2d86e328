"""Random commands on random files: `python -m tests.cli.fuzz 10000` runs so many, from a seed that it prints;
`files 10000` reads so many hostile files (`hostile.py`).

Each ends within a time, with 0 or with 2 and one line that says why, and leaves every model file whole.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import random
import shlex
import signal
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import FrameType

import pyarrow.ipc  # type: ignore[import-untyped]  # it has no type hints
import pyarrow.parquet  # type: ignore[import-untyped]  # it has no type hints

import tapegpt
from tapegpt.cli import main

SECONDS = 60  # that a command may take on a busy machine
HANGS = "did not end"
TEXTS = [
    "",
    "a",
    "an",
    "anna",
    "é",
    "ß",
    "名",
    "😀",
    "\x00",
    "\n",
    " ",
    "A",
    "aaaaaaaaaaaaaaaaaaaaaaaa",
    "-",
    "--",
    "\\",
    "'",
]
NUMBERS = ["0", "1", "2", "3", "7", "16", "-1", "1000000", "1e3", "0.5", "nan", "inf", "-inf", "x", "", "9" * 40, "1_0"]
PATTERNS = [
    "a.*", ".*b", "(a|b)*", "(an|na){2}", "[^a]+", r"\w{3}", "(?i:A)n?", "^a$", "a$b", "$^", "(a*)*", "(|a)+", "", "|",
    "(", ")", "[", "[]", "a{2,1}", "a{1000}", "(a{1000}){1000}", "(a|b)*a(a|b){20}", r"(a)\1", "(?=a)b", r"\b", "[[a]",
    "(?P<x>a)(?P=x)", "(?m)^a", "a++", "(?>a)", "(" * 3000 + ")" * 3000, "[a-z]" * 200, r"\d", r"\Z", "(?x) a # b",
    "a{,3}", ".{16}", "名+", r"(?a:\w)", "((a?){30}){30}", "(.|..|...)*", r"[\d\D]", "x*y*z*", "\\", "(?", "a" * 5000,
]  # fmt: skip


class Fuzzer:
    """Makes commands and files from one generator of random numbers."""

    def __init__(self, seed: int, place: Path) -> None:
        self._random = random.Random(seed)
        self._place = place
        self.models = ["exact", "fast"]
        names = ["anna", "otto", "bob", "hannah", "eve", "ada", "natan", "aviva", "nathan", "eva"]
        (place / "names.txt").write_text("\n".join(names), encoding="utf-8")
        for engine in self.models:
            options = ["--n-embd", "4", "--n-head", "2", "--block-size", "6", "--steps", "20", "--samples", "0"]
            with contextlib.redirect_stdout(io.StringIO()):
                assert main(["train", "names.txt", *options, "--engine", engine, "-o", engine]) == 0

    def _one(self, *choices: object) -> str:
        return str(self._random.choice(choices))

    def _some(self, choices: dict[str, Callable[[], str | None]], most: int) -> list[str]:
        """Options and values for some of them."""
        arguments = []
        for name in self._random.sample(list(choices), self._random.choice([0, 1, 1, 2, min(most, len(choices))])):
            value = choices[name]()
            arguments += [name] if value is None else [name, value]
        return arguments

    def _number(self) -> str:
        return self._one(*NUMBERS) if self._random.random() < 0.2 else str(self._random.randint(0, 8))

    def _likely(self, usual: str, *others: object) -> str:
        return usual if self._random.random() < 0.8 else self._one(*others)

    def _text(self) -> str:
        return self._one(*TEXTS)

    def _data(self) -> str:
        """A file, often a hostile one."""
        if self._random.random() < 0.5:
            return "names.txt"
        names = ["data.txt", "data.csv", "data.tsv", "data.jsonl", "data.json", "data.gz", "d/x.txt"]
        name = self._one(*names, "data.csv.xz", "data.zip", "data.parquet", "data.arrow")
        path = self._place / name
        path.parent.mkdir(exist_ok=True)
        lines = [self._text() for _ in range(self._random.randint(0, 12))]
        content = {
            0: lambda: "\n".join(lines).encode(),
            1: lambda: "\r\n".join(lines).encode("utf-16"),
            2: lambda: self._random.randbytes(self._random.randint(0, 300)),
            3: lambda: b"\xef\xbb\xbfname,age\n" + b"\n".join(b"%s,1" % line.encode() for line in lines),
            4: lambda: b"\n".join(b'{"name": "%s"}' % line.encode("unicode_escape") for line in lines),
            5: lambda: b'"' * self._random.randint(1, 9),
            6: lambda: b"[" * 5000,
            7: lambda: self._pack(b"anna\nbob\n")[: self._random.randint(1, 40)],
            8: lambda: "\n".join(lines).encode("utf-16-le"),
            9: lambda: json.dumps([{"name": line} if len(line) % 2 else line for line in lines]).encode(),
            10: lambda: "\n".join(f"{line}\x92\x1b[31m" for line in lines).encode("latin-1", "ignore"),
            11: lambda: "".join(f'name;"age"\n{line};"{line}"\n' for line in lines).encode("utf-8", "ignore"),
            12: lambda: self._arrow(lines),
        }[self._random.randint(0, 12)]()
        path.write_bytes(self._pack(content) if self._random.random() < 0.2 else content)
        return self._one(name, name, name, "names.txt", "missing", ".", "d", "exact", "/dev/null")

    def _pack(self, content: bytes) -> bytes:
        """Packed in one of the ways, a zip sometimes with several files."""
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            for name in self._random.sample(
                ["a.txt", "b.csv", "d/c.jsonl", ".d", "e.parquet"], self._random.randint(0, 3)
            ):
                archive.writestr(name, content)
        ways = [gzip.compress(content), lzma.compress(content), bz2.compress(content), stream.getvalue()]
        return self._random.choice(ways)

    def _arrow(self, lines: list[str]) -> bytes:
        """A file of Parquet or Arrow, now and then damaged."""
        stream = io.BytesIO()
        table = pyarrow.table({"name": lines, "age": list(range(len(lines)))})
        if self._random.random() < 0.5:
            pyarrow.parquet.write_table(table, stream)
        else:
            with pyarrow.ipc.new_stream(stream, table.schema) as writer:
                writer.write_table(table)
        content = bytearray(stream.getvalue())
        if self._random.random() < 0.3:
            content[self._random.randrange(len(content))] ^= self._random.randrange(256)
        return bytes(content[: len(content) if self._random.random() < 0.8 else self._random.randrange(len(content))])

    def _model(self) -> str:
        """A model, now and then a damaged one, or none."""
        if self._random.random() < 0.85:
            return self._one(*self.models)
        content = bytearray((self._place / "exact").read_bytes())
        for _ in range(self._random.randint(1, 3)):
            content[self._random.randrange(len(content))] = self._random.randrange(256)
        (self._place / "damaged").write_bytes(
            content[: self._random.choice([len(content), self._random.randrange(len(content))])]
        )
        return self._one("damaged", "names.txt", "missing", ".")

    def _reading(self) -> dict[str, Callable[[], str | None]]:
        return {
            "--encoding": lambda: self._likely("utf-8", "latin-1", "utf-16", "utf-16-le", "x", "", "idna", "base64"),
            "--delimiter": lambda: self._one("line", "blank", "none", ",", "", "\\", "\\x", "\\x1b", "a"),
            "--errors": lambda: self._one("replace", "skip", "skip", "x"),
            "--files": lambda: self._one("*.csv", "*", "[", "", "a/*"),
            "--separator": lambda: self._one(";", "\\t", "\\x00", "a", "", ",,", '"', "\\"),
            "--no-quotes": lambda: None,
            "--format": lambda: self._one("text", "csv", "tsv", "jsonl", "json", "parquet", "arrow", "x"),
            "--column": lambda: self._one("name", "1", "2", "0", "age", "", "a.b"),
            "--no-header": lambda: None,
            "--lowercase": lambda: None,
            "--unique": lambda: None,
            "--max-length": self._number,
        }

    def command(self) -> list[str]:
        """A command's arguments."""
        kinds = (
            "score",
            "pseudonymise",
            "calibrate",
            "train",
            "resume",
            "finetune",
            "eval",
            "doctor",
            "convert",
            "explain",
            "why",
            "diff",
            "show",
            "report",
        )
        kind = self._one("generate", "generate", "generate", *kinds)
        return [kind, *getattr(self, f"_{kind}")()]

    def _generate(self) -> list[str]:
        options: dict[str, Callable[[], str | None]] = {
            **dict.fromkeys(["--temperature", "--top-k", "--top-p", "--min-p", "--seed"], self._number),
            "--length": lambda: self._one("4", "..5", "2..", "3..4", "4..3", "..", "x", "-1..2", "1...2", ""),
            **dict.fromkeys(["--prefix", "--suffix"], self._text),
            "--pattern": lambda: self._one(*PATTERNS),
            "--avoid": self._data,
            "--novel": lambda: self._one("0", "1", "2", "-1", "x"),
            "--training-data": self._data,
            **dict.fromkeys(["--distinct", "--unbiased", "--probability", "--json"], lambda: None),
        }
        return [self._model(), "-n", self._likely("40", 0, 1, 300, -1, "x"), *self._some(options, 6)]

    def _score(self) -> list[str]:
        options: dict[str, Callable[[], str | None]] = {
            **self._reading(),
            "--threshold": self._number,
            "--output": lambda: self._one("scores", "-", "missing/x", "."),
            "--top": self._number,
            "--output-format": lambda: self._one("text", "csv", "csv", "tsv", "jsonl", "parquet", "x"),
            **dict.fromkeys(["--json", "--sort", "--summary", "--characters", "--line-numbers"], lambda: None),
        }
        return [self._model(), self._data(), *self._some(options, 4)]

    def _pseudonymise(self) -> list[str]:
        options: dict[str, Callable[[], str | None]] = {
            **self._reading(),
            "--output": lambda: self._one("names", "-", "missing/x", "."),
            "--output-format": lambda: self._one("text", "csv", "tsv", "jsonl", "parquet", "x"),
            "--temperature": self._number,
            "--pattern": lambda: self._one(*PATTERNS),
            **dict.fromkeys(["--no-unique", "--no-novel"], lambda: None),
        }
        secret = self._likely("exact", "names.txt", "missing", ".")  # as long as a file of a model
        return [self._model(), self._data(), "--secret-file", secret, *self._some(options, 4)]

    def _train(self) -> list[str]:
        options: dict[str, Callable[[], str | None]] = {
            **self._reading(),
            "--seed": self._number,
            "--learning-rate": self._number,
            "--validation": lambda: self._one("0.5", "0", "1", "-1", "nan"),
            "--engine": lambda: self._one("exact", "fast", "x"),
            "--save-every": self._number,
            "--run-dir": lambda: self._one(f"run{self._random.randrange(10**6)}", "run", "names.txt", "/proc/x"),
            "--weights-only": lambda: None,
            "--batch-size": lambda: self._one(1, 2, 0, "x"),
            "--metrics": lambda: self._one("metrics", "exact/x", "names.txt"),
        }
        shape = ["--n-embd", "4", "--n-head", "2", "--block-size", "6", "--steps", self._likely("5", 1, 20, 0)]
        return [
            self._data(),
            *shape,
            "--samples",
            "2",
            "-o",
            self._one("new", "missing/x", "names.txt"),
            *self._some(options, 4),
        ]

    def _resume(self) -> list[str]:
        options: dict[str, Callable[[], str | None]] = {
            "--save-every": self._number,
            "--metrics": lambda: self._one("metrics", "-", "names.txt"),
        }
        data = [self._data()] if self._random.random() < 0.3 else []
        steps = ["--more-steps", self._likely("5", 0, -1, "x")] if self._random.random() < 0.8 else []
        return [self._model(), *data, *steps, "-o", self._likely("new", "missing/x"), *self._some(options, 3)]

    def _finetune(self) -> list[str]:
        options: dict[str, Callable[[], str | None]] = {**self._reading(), "--learning-rate": self._number}
        steps = ["--steps", self._likely("5", 0, -1, "x")]
        return [self._model(), self._data(), *steps, "-o", self._likely("new", "missing/x"), *self._some(options, 3)]

    def _calibrate(self) -> list[str]:
        options: dict[str, Callable[[], str | None]] = {
            **self._reading(),
            "--alarm-rate": self._number,
            "--json": lambda: None,
        }
        return [self._model(), self._data(), *self._some(options, 4)]

    def _eval(self) -> list[str]:
        return [
            self._model(),
            self._data(),
            "--samples",
            self._likely("5", 0, -1, "x"),
            *self._some({**self._reading(), "--json": lambda: None}, 3),
        ]

    def _doctor(self) -> list[str]:
        return [self._data(), *self._some({**self._reading(), "--json": lambda: None, "--block-size": self._number}, 4)]

    def _convert(self) -> list[str]:
        options: dict[str, Callable[[], str | None]] = {
            "--weights-only": lambda: None,
            "--n-head": self._number,
            "--vocabulary": self._text,
        }
        source = self._one(self._model(), "new.json", self._data())
        return [source, self._one("new.json", "new.safetensors", "new.x", "missing/x.json"), *self._some(options, 2)]

    def _explain(self) -> list[str]:
        traced = ("list", "loss", "logits[0,1]", "wte[0,0]", "layer0.attention[1,3]", "logits[9,9]", "[", "", "x[0]")
        options: dict[str, Callable[[], str | None]] = {
            "--top": self._number,
            "--trace": lambda: self._one(*traced),
            "--depth": self._number,
            "--json": lambda: None,
        }
        return [self._model(), *[self._text() for _ in range(self._random.randint(1, 2))], *self._some(options, 3)]

    def _why(self) -> list[str]:
        options: dict[str, Callable[[], str | None]] = {
            "--top": self._number,
            "--training-data": self._data,
            **dict.fromkeys(["--all", "--verify", "--json"], lambda: None),
        }
        return [self._model(), self._text(), *self._some(options, 3)]

    def _diff(self) -> list[str]:
        losses = self._place / "losses.txt"
        losses.write_text("".join(f"{self._one('1.5', '0x1p0', 'nan', 'x', '')}\n" for _ in range(3)), encoding="utf-8")
        options: dict[str, Callable[[], str | None]] = {"--tolerance": self._number, "--json": lambda: None}
        return [self._model(), self._one(self._model(), "losses.txt", self._data()), *self._some(options, 2)]

    def _show(self) -> list[str]:
        options: dict[str, Callable[[], str | None]] = {
            **self._reading(),
            "--stage": lambda: self._one("text", "tokens", "tape", "gradient", "kernels", "llvm", "asm", "wasm", "x"),
            "--op": lambda: self._one("attention", "linear", "linear 3", "%9", "%99", "adam", "x", ""),
            "--n-embd": lambda: self._one("4", "8", "5", "0"),
            "--engine": lambda: self._one("exact", "fast", "x"),
        }
        return [self._one(self._model(), self._data()), *self._some(options, 4)]

    def _report(self) -> list[str]:
        options: dict[str, Callable[[], str | None]] = {"--text": self._text, "--training-data": self._data}
        output = self._one("page.html", "missing/x", "-")
        return [self._model(), "-o", output, "--samples", self._likely("5", 0, -1, "x"), *self._some(options, 2)]


@contextlib.contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Raise `TimeoutError` in what takes longer."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(HANGS)

    former = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)


def fault(arguments: list[str]) -> tuple[int, str]:
    """The exit code of a command, and what is wrong with how it ended, "" for nothing."""
    output, said = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(said), limited(SECONDS):
            code = main(arguments)
    except BaseException as error:  # noqa: BLE001  # whatever gets out is what is looked for
        return -1, f"{type(error).__name__}: {error}"
    lines = [line for line in said.getvalue().splitlines() if not line.startswith("tapegpt: note: ")]
    if code == 0 and ("--metrics", "-") in pairwise(arguments):
        lines = []  # a training's words, since its losses have standard output
    if code not in (0, 2) and (arguments[0], code) != ("diff", 1):
        return code, f"exit code {code}: {said.getvalue()[-300:]}"
    if (code == 2) != (len(lines) == 1) or len(lines) > 1:
        return code, f"exit code {code} with {len(lines)} lines: {lines[:3]}"
    return code, ""


def fuzz(count: int, seed: int) -> list[str]:
    """The faults of so many commands, each with what to type."""
    faults, codes = [], Counter[tuple[str, int]]()
    former = Path.cwd()
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        try:
            fuzzer = Fuzzer(seed, Path(place))
            kept = {name: Path(name).read_bytes() for name in fuzzer.models}
            for number in range(count):
                arguments = fuzzer.command()
                code, what = fault(arguments)
                codes[arguments[0], code] += 1
                if not what:
                    what = next((f"{name} has changed" for name in kept if Path(name).read_bytes() != kept[name]), "")
                if not what and Path("new").exists() and arguments[0] in ("train", "resume", "finetune"):
                    tapegpt.load("new")
                if what:
                    faults.append(f"{number}: tapegpt {shlex.join(arguments)}: {what}"[:2000])
        finally:
            os.chdir(former)
    print(f"seed {seed}:", ", ".join(f"{name} {code}: {n}" for (name, code), n in sorted(codes.items())))
    return faults


if __name__ == "__main__":
    from tests.cli.hostile import fuzz_files

    kind, tried = ("files", fuzz_files) if sys.argv[1] == "files" else ("commands", fuzz)
    count, *seeds = map(int, sys.argv[2:] if kind == "files" else sys.argv[1:])
    found = tried(count, seeds[0] if seeds else random.SystemRandom().getrandbits(32))
    print("\n".join(found) or f"{count} {kind}, no fault")
    sys.exit(bool(found))
