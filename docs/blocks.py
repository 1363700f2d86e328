"""The blocks of a page, run: Python as its console does, commands as a shell does, as far as the pages need one.

A block begins where the blocks above it have ended, whatever has run since. The page runs this in Pyodide
(`javascripts/blocks-worker.js`), `make_figures.py` makes the figures' first data with it. Not here: pages.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import BytesIO, TextIOWrapper
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from traceback import format_exception_only
from typing import Any

from tapegpt import GPT, Corpus, TapeGPTError
from tapegpt.cli import main
from tapegpt.data.ngrams import baselines
from tapegpt.models.curves import curve
from tapegpt.training.recording import replay
from tapegpt.web.data import Portrait

TEMPERATURE = 0.5
MOMENTS = 12  # at equal distances, in addition to those at the beginning
Show = Callable[[str, str], object]  # takes a command with its prompts, and what it printed


class Page:
    """What the blocks of a page have left: names, and files in the working directory."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self._names: dict[str, Any] = {"__name__": "__main__"}
        self._before: list[tuple[dict[str, Any], dict[Path, bytes]]] = []  # each block that has run

    def run(self, number: int, text: str, is_python: bool) -> None:
        """Run a block, all blocks above it having run; those below have to run again."""
        del self._before[number + 1 :]
        if number == len(self._before):
            self._before.append((dict(self._names), _files()))
        names, files = self._before[number]
        self._names.clear()  # it is the functions' own dictionary of globals
        self._names |= names
        for path in _files().keys() - files.keys():
            path.unlink()
        for path, content in files.items():
            path.write_bytes(content)
        if is_python:
            _run_python(text, self._names, self._show)
        else:
            _run_console(text, self._show)

    def film(self, text: str) -> str:
        """The page's `model` as the figures need it, as JSON; or why not."""
        model = self._names.get("model")
        if not isinstance(model, GPT):
            return json.dumps({"problem": "no block that has run makes a model"})
        try:
            return json.dumps({"film": film(model, text)})
        except TapeGPTError as error:
            return json.dumps({"problem": str(error)})


def film(model: GPT, text: str) -> dict[str, Any]:
    """The training of a model: its losses, and each of its moments, with how it reads a text there."""
    corpus = Corpus(list(model.training_documents()), model.vocabulary)
    recording = replay(model, MOMENTS, corpus)
    portrait = Portrait(recording)
    levels = baselines(corpus, corpus, corpus.vocab_size)
    del levels["5-gram"]  # it has memorised the names that it counted
    return {
        "losses": curve(recording.losses, recording.moments[0].step),
        "baselines": levels,
        "moments": [portrait.moment(moment.step, text, TEMPERATURE) for moment in recording.moments],
    }


def _files() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


# --- Python -------------------------------------------------------------------------------------------------------


def _run_python(text: str, names: dict[str, Any], show: Show) -> None:
    """Run statements; those that begin in the same line together, since only lines have prompts."""
    lines, start = text.splitlines(), 0
    try:
        body = ast.parse(text).body
    except SyntaxError as error:
        show(_prompted(lines), _last_line(error))
        return
    for line, group in groupby(body, attrgetter("lineno")):
        statements, screen = list(group), _stream()
        end = statements[-1].end_lineno or line
        try:
            with redirect_stdout(screen), redirect_stderr(screen):
                code = compile(ast.Interactive(statements), "<block>", "single", dont_inherit=True)
                exec(code, names)  # noqa: S102  # this is what it is for
        except BaseException as error:  # noqa: BLE001  # it is the reader's
            screen.write(_last_line(error))
        show(_prompted(lines[start:end], line - start), _text(screen))
        start = end


def _prompted(lines: list[str], first: int = 1) -> str:
    """Lines as in a console; the statement begins in the first one, after comments."""
    while lines and not lines[0].strip():
        lines, first = lines[1:], first - 1
    marked = [f"{'>>>' if number <= first else '...'} {line}".rstrip() for number, line in enumerate(lines, 1)]
    return "\n".join([*marked, "..."] if lines and lines[-1].startswith(" ") else marked)


def _last_line(error: BaseException) -> str:
    return "".join(format_exception_only(error)).splitlines()[-1]


# --- a shell ------------------------------------------------------------------------------------------------------


def _run_console(text: str, show: Show) -> None:
    """Run commands, one a line; after a backslash a line goes on."""
    for command in re.split(r"(?<!\\)\n", text):
        if command.strip():
            screen = _stream()
            with redirect_stderr(screen):
                try:
                    _pipe(command.replace("\\\n", ""), screen)
                except Exception as error:  # noqa: BLE001  # of whatever a reader may write
                    print(f"sh: {error}", file=screen)
            show(f"$ {command}", _text(screen))


def _pipe(command: str, screen: TextIOWrapper) -> None:
    """Run `command | command > file`."""
    words = shlex.shlex(command, posix=True, punctuation_chars=True)
    words.whitespace_split, words.commenters = True, ""
    stages: list[list[str]] = [[]]
    for word in words:
        if word == "|":
            stages.append([])
        elif word != ">" and re.fullmatch("[();<>|&]+", word):
            raise ValueError(f"{word} is not available: only | and > are")
        else:
            stages[-1].append(word)
    given = b""
    for number, stage in enumerate(stages, 1):
        target = None
        if ">" in stage[:-1]:
            at = stage.index(">")
            _, target = stage.pop(at), Path(stage.pop(at))
        if not stage or ">" in stage:
            raise ValueError("commands have the forms a | b and a > file")
        name, *arguments = stage
        if name not in COMMANDS:
            raise ValueError(f"{name}: not found, only {', '.join(COMMANDS)}")
        output = screen if number == len(stages) and target is None else _stream()
        sys.stdin = TextIOWrapper(BytesIO(given), "utf-8")
        with redirect_stdout(output):
            COMMANDS[name](arguments)
        if output is not screen:
            given = _content(output)
        if target is not None:
            target.write_bytes(given)


def _printf(arguments: list[str]) -> None:
    """Write a format, again for as long as arguments are left."""
    form, *texts = arguments
    form, count = form.replace(r"\n", "\n"), form.count("%s")
    for start in range(0, max(len(texts), 1), count or len(texts) or 1):
        print(form % tuple(texts[start : start + count]), end="")


COMMANDS: dict[str, Callable[[list[str]], object]] = {
    "tapegpt": main,
    "printf": _printf,
    "echo": lambda arguments: print(*arguments),
}


def _stream() -> TextIOWrapper:
    return TextIOWrapper(BytesIO(), "utf-8", newline="\n", write_through=True)


def _content(stream: TextIOWrapper) -> bytes:
    content = stream.buffer
    assert isinstance(content, BytesIO)
    return content.getvalue()


def _text(stream: TextIOWrapper) -> str:
    return _content(stream).decode("utf-8", "replace")
