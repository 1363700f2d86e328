"""The studio as a folder of files, for a host that only serves files: Python runs in the browser, by Pyodide.

    index.html    the page, with a policy that allows requests to this folder and to Pyodide's address alone
    studio.json   where Pyodide is, and what the studio begins with
    model.safetensors  a model to begin with, if there is one: its weights alone
    tapegpt.pack  this package, and those that the studio needs, as a tar archive, compressed as gzip does
    pyodide/      Pyodide, if it was in a folder
    web/          scripts and styles, among them the worker in which Python runs

Where Pyodide is in a folder, Node runs it once, and what it compiles becomes part of both (`rehearsal.py`). Not here:
how requests are answered in the browser (`browser.py`).
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
from tarfile import USTAR_FORMAT, TarFile, TarInfo
from tempfile import TemporaryDirectory
from zipfile import BadZipFile, ZipFile

from tapegpt import web
from tapegpt.data.labels import columns_of
from tapegpt.data.vocabulary import GRAPHEMES, NAMED
from tapegpt.errors import TapeGPTError, argument, missing, quote, warn
from tapegpt.files import write_file
from tapegpt.models import NAMES
from tapegpt.models.loading import reference
from tapegpt.models.writing import dumps
from tapegpt.studio.policy import policy
from tapegpt.studio.studio import single

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from tapegpt.data.corpus import Corpus
    from tapegpt.files import Path
    from tapegpt.models.trained import GPT
    from tapegpt.studio.limits import Limits

PYODIDE = "https://cdn.jsdelivr.net/pyodide/v314.0.7/full/"
FILES = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json")
NEEDED = ("starlette",)  # with what it needs
COMPILED = "msgspec"  # of which there is a wheel for Pyodide
REHEARSAL = """
import os, sys
os.environ["TAPEGPT_CACHE_DIR"] = "/tapegpt/cache"
sys.path.insert(0, "/tapegpt")
from tapegpt.studio.rehearsal import rehearse
await rehearse("/folder")
"""
MODEL = "model.safetensors"
INSTEAD = {"studio-transport.js": "studio-static.js"}  # requests are messages here
HEAD = '<meta charset="utf-8">'


def write(
    directory: Path, corpus: Corpus, name: str, limits: Limits, pyodide: str = PYODIDE, model: GPT | None = None
) -> None:
    """Write the folder of a page that begins with a corpus, and with a model; Pyodide's address, or a folder with it.

    Raises `TapeGPTError` for a directory with other files, a folder without Pyodide or msgspec's wheel for it, a corpus
    of graphemes, a model that the page does not open, and where the extra `studio` is not installed.
    """
    if corpus.vocabulary.rule == GRAPHEMES:
        raise TapeGPTError("graphemes need the package regex, which is not in a browser: choose other tokens")
    if model is not None:
        _check_model(model)
    _check_directory(directory)
    is_elsewhere = "://" in pyodide
    wheel = None
    if not is_elsewhere:
        files, wheel = _pyodide(pyodide)
        for path, content in files.items():
            _write(directory, f"pyodide/{path}", content)
    settings = {
        "pyodide": f"{pyodide.rstrip('/')}/" if is_elsewhere else "pyodide/",
        "packages": [] if wheel else [COMPILED],
        "model": MODEL if model else None,
        "start": {"name": name, "limits": limits.as_dict(), "corpus": _arguments(corpus)},
    }
    _write(directory, "studio.json", json.dumps(settings).encode())
    if model is not None:
        _write(directory, MODEL, dumps(model, weights_only=True))
    for each in os.listdir(web.__path__[0]):
        if each.endswith((".js", ".css", ".svg")):
            _write(directory, f"web/{each}", web.source(INSTEAD.get(each, each)).encode())
    host = "/".join(pyodide.split("/", 3)[:3]) if is_elsewhere else ""
    here = f"'self' {host}".strip()
    allowed = policy({"script-src": f"{here} 'wasm-unsafe-eval'", "connect-src": here, "worker-src": "'self' blob:"})
    tag = f'{HEAD}\n  <meta http-equiv="Content-Security-Policy" content="{allowed}">'
    _write(directory, "index.html", web.source("studio.html").replace(HEAD, tag).encode())
    with TemporaryDirectory() as packages:
        _gather(packages, wheel)
        if wheel:
            _rehearse(directory, packages)
        _write(directory, "tapegpt.pack", _packed(packages))


def _arguments(corpus: Corpus) -> dict[str, Any]:
    """Those that make this corpus: of `Corpus.dataset`, or with the strings of `Corpus.of`."""
    dataset, tokens = corpus.source and corpus.source.dataset, corpus.vocabulary.rule
    if dataset:
        return {"name": dataset, "tokens": tokens}
    labels = columns_of(corpus.documents, corpus.vocabulary.columns) or None
    return {"strings": corpus.documents, "tokens": tokens, "labels": labels}


def _check_model(model: GPT) -> None:
    if model.models:
        raise TapeGPTError(single("the model", len(model.models)))
    if model.vocabulary.rule not in NAMED or model.vocabulary.rule == GRAPHEMES:
        raise TapeGPTError(f"a page without a server opens no model with tokens {quote(model.vocabulary.rule)}")
    if (name := reference(type(model.config))) not in NAMES:
        raise TapeGPTError(f"a page without a server has none of your own classes, such as {name}: start the server")


def _check_directory(directory: Path) -> None:
    try:
        os.makedirs(directory, exist_ok=True)
        found = os.listdir(directory)
    except OSError as error:
        raise TapeGPTError(f"{os.fspath(directory)}: {error.strerror}: give another directory") from None
    if found and "studio.json" not in found:
        raise TapeGPTError(f"{os.fspath(directory)}: has other files: give a new directory")


def _write(directory: Path, path: str, content: bytes) -> None:
    target = os.path.join(directory, path)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    write_file(target, content)


def _pyodide(folder: str) -> tuple[dict[str, bytes], str]:
    """The files of Pyodide, by name, and the path of the wheel for it."""
    try:
        files = {name: _read(os.path.join(folder, name)) for name in FILES}
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise TapeGPTError(
            f"{error.filename}: {error.strerror}: run npm install pyodide and give {argument('pyodide')} "
            "node_modules/pyodide, or its address"
        ) from None
    wheels = [each for each in names if each.startswith(f"{COMPILED}-") and each.endswith(".whl")]
    if not wheels:
        info = json.loads(files["pyodide-lock.json"])["info"]
        python = ".".join(info["python"].split(".")[:2])
        raise TapeGPTError(
            f"{folder}: has no wheel of {COMPILED}: run pip download --no-deps --only-binary :all: --platform "
            f"pyemscripten_{info['abi_version']}_wasm32 --python-version {python} --dest {folder} {COMPILED}"
        )
    return files, os.path.join(folder, wheels[-1])


def _rehearse(directory: Path, packages: str) -> None:
    """Let Python in Node do what the page would do at each of its starts."""
    places = {"/folder": os.path.abspath(directory), "/tapegpt": packages}
    pyodide, script = os.path.join(directory, "pyodide"), os.path.join(os.path.dirname(__file__), "pyodide.mjs")
    command = ["node", script, pyodide, json.dumps(places), REHEARSAL]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603  # words, no shell
    except OSError:
        warn("without Node nothing is compiled beforehand, so the page takes seconds longer to start: install Node")
        return
    if done.returncode:
        last = ["it gives no reason", *filter(None, done.stderr.splitlines())][-1]
        raise TapeGPTError(f"{pyodide}: does not run in Node ({last}): install both anew")


def _gather(folder: str, wheel: str | None) -> None:
    """Copy this package and those that it needs into a folder, among them that of a wheel."""
    for name, path in {**dict(_own()), **_others()}.items():
        target = os.path.join(folder, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copyfile(path, target)
    if wheel:
        try:
            with ZipFile(wheel) as compiled:
                compiled.extractall(folder)  # noqa: S202  # zipfile's, which stays below the folder
        except BadZipFile:
            raise TapeGPTError(f"{wheel}: is no wheel: download it again") from None


def _packed(folder: str) -> bytes:
    """An archive of all files below a folder, the same for the same files."""
    packed = io.BytesIO()
    with TarFile(fileobj=packed, mode="w", format=USTAR_FORMAT) as archive:
        for directory, folders, names in os.walk(folder):
            folders.sort()
            for path in [os.path.join(directory, name) for name in sorted(names)]:
                member, content = TarInfo(os.path.relpath(path, folder).replace(os.sep, "/")), _read(path)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), mtime=0)


def _own() -> Iterator[tuple[str, str]]:
    """Files of this package: names in the archive, paths here."""
    root = os.path.dirname(web.__path__[0])
    for directory, _, names in os.walk(root):
        for name in names:
            path = os.path.join(directory, name)
            if not name.endswith(".pyc"):
                yield f"tapegpt/{os.path.relpath(path, root)}".replace(os.sep, "/"), path


def _others() -> dict[str, str]:
    """Files of the packages that it needs: names in the archive, paths here."""
    import re
    from importlib.metadata import PackageNotFoundError, distribution

    files: dict[str, str] = {}
    waiting, seen = list(NEEDED), set[str]()
    while waiting:
        seen.add(name := waiting.pop())
        try:
            found = distribution(name)
        except PackageNotFoundError:
            if name in NEEDED:
                raise missing(name, "studio") from None
            continue  # needed by another version of Python, or on another system
        wanted = [each for each in found.requires or () if "extra ==" not in each]
        waiting += {re.split(r"[^\w.-]", each)[0].lower() for each in wanted} - seen
        kept = [each for each in found.files or () if each.suffix != ".pyc" and ".." not in each.parts]
        files |= {str(each).replace(os.sep, "/"): str(found.locate_file(each)) for each in kept}
    return files


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
