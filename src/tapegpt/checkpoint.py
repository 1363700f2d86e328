"""A model in one safetensors file: the parameters as tensors of shape (out, in), everything else in the metadata.

The tensors are F64, of the fast engine F32: a file keeps every bit, and says which engine goes on with it.

A file is written under a temporary name, flushed to the disk and renamed, so that a crash leaves the old file or the
new one; a checksum over all of it finds damage when it is read. Not here: training state beyond the random generator.
Source: the safetensors format, https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import json
import math
import os
import stat
import sys
from array import array
from hashlib import sha256

from tapegpt.config import Config
from tapegpt.errors import TapeGPTError
from tapegpt.model import GPT, make_engine
from tapegpt.rng import Random
from tapegpt.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tapegpt.engine import Parameters

FORMAT = 1  # of the metadata; a reader refuses newer ones

Path = str | os.PathLike[str]
_Tensors = dict[str, tuple[tuple[int, int], bytes]]  # shape and little-endian data
_TYPES = {"F64": "d", "F32": "f"}  # of tensors, as codes of arrays


def save(model: GPT, path: Path) -> None:
    """Write a model. On any failure what stood at the path stays, and `TapeGPTError` says why."""
    target = writable(path)
    content = _serialised(model)
    temporary = _temporary(target)
    try:
        try:
            _write(temporary, content)
            if os.path.exists(target):  # what was private stays private
                os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))
            os.replace(temporary, target)
        except BaseException:
            _remove(temporary)
            raise
    except OSError as error:
        raise TapeGPTError(f"{os.fspath(path)}: cannot be written: {error.strerror}: choose another place") from None
    _flush_directory(os.path.dirname(target))


def writable(path: Path) -> str:
    """The file that a path means, after a look whether it can be written; raises `TapeGPTError` where not."""
    try:
        target = os.path.realpath(path)
        directory = os.path.dirname(target)
        if not os.path.basename(os.fspath(path)) or os.path.isdir(target):
            raise TapeGPTError(f"{os.fspath(path)}: is a directory: give the name of a file in it")
        if not os.path.isdir(directory):
            raise TapeGPTError(f"{os.fspath(path)}: there is no directory {directory}: make it first")
        if os.path.lexists(target) and not stat.S_ISREG(os.stat(target).st_mode):
            raise TapeGPTError(f"{os.fspath(path)}: is not a regular file: choose another name")
        if os.path.exists(target) and not os.access(target, os.W_OK):
            raise TapeGPTError(f"{os.fspath(path)}: is write-protected: choose another name")
        temporary = _temporary(target)
        try:
            _write(temporary, b"")  # some directories, such as those of /proc, only look as if they could be written
        finally:
            _remove(temporary)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise TapeGPTError(f"{os.fspath(path)!r}: cannot be written: {reason}: choose another name") from None
    return target


def load(path: Path) -> GPT:
    """Read a model written by `save`. Raises `TapeGPTError` for any other or damaged file."""
    name = os.fspath(path)
    try:
        if os.path.exists(path) and not os.path.isdir(path) and not os.path.isfile(path):
            raise TapeGPTError(f"{name}: is not a regular file: give a model file")  # a pipe or device may never end
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        raise TapeGPTError(f"{name}: no such file: train one with tapegpt train DATA -o {name}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise TapeGPTError(f"{name!r}: cannot be read: {reason}: give a model file") from None
    try:
        return _deserialised(data)
    except _ForeignError as error:
        raise TapeGPTError(f"{name}: not a model of tapegpt: {error}: give a file written by tapegpt") from None


class _ForeignError(Exception):
    """Why a file is not a whole model of ours."""


# --- bytes ------------------------------------------------------------------------------------------------------


def _serialised(model: GPT) -> bytes:
    import safetensors

    shapes = model.config.shapes(model.vocab_size)
    code = "f" if model.engine.name == "fast" else "d"
    tensors = {name: (shapes[name], _little_endian(array(code, v))) for name, v in model.parameters.items()}
    metadata = {
        "format": str(FORMAT),
        "tapegpt": __version__,
        "config": json.dumps(_fields(model.config)),
        "vocabulary": json.dumps(model.vocabulary),
        "random_state": json.dumps(model.rng.getstate()),
        "steps": str(model.steps),
        "engine": model.engine.name,
    }
    metadata["checksum"] = _checksum(metadata, tensors)
    held = {name: array(code, data) for name, (_, data) in tensors.items()}  # serialize reads them by address
    specs = {
        name: safetensors.TensorSpec(
            dtype={"d": "float64", "f": "float32"}[code],
            shape=list(shape),
            data_ptr=held[name].buffer_info()[0],
            data_len=len(data),
        )
        for name, (shape, data) in tensors.items()
    }
    return bytes(safetensors.serialize(specs, metadata))


def _fields(config: Config) -> dict[str, int]:
    """What a plain model does not use is left out, so that older readers know all that they find."""
    fields = config.as_dict()
    return {name: n for name, n in fields.items() if not config.is_plain or name not in ("n_gram", "gram_rows")}


def _little_endian(values: array[float]) -> bytes:
    if sys.byteorder == "big":
        values = array(values.typecode, values)
        values.byteswap()
    return values.tobytes()


def _checksum(metadata: dict[str, str], tensors: _Tensors) -> str:
    """Over everything in the file."""
    sums = sha256(json.dumps(sorted(metadata.items())).encode())
    for name, (shape, data) in sorted(tensors.items()):
        sums.update(json.dumps([name, shape]).encode() + data)
    return sums.hexdigest()


def _deserialised(data: bytes) -> GPT:
    import safetensors

    try:
        listed = safetensors.deserialize(data)  # type: ignore[no-untyped-call]  # it has no type hints
        size = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + size]).get("__metadata__")
    except (safetensors.SafetensorError, ValueError, TypeError, AttributeError, RecursionError, MemoryError) as error:
        raise _ForeignError(f"it is damaged or no safetensors file ({type(error).__name__})") from None
    if not isinstance(metadata, dict) or "tapegpt" not in metadata:
        raise _ForeignError("its metadata names no tapegpt")
    version = metadata.get("format", "")
    if version != str(FORMAT):
        raise _ForeignError(f"its format is {version!r:.20}, this tapegpt reads {FORMAT}")
    types = {tensor["dtype"] for _, tensor in listed}
    if len(types) != 1 or not types <= _TYPES.keys() or any(len(tensor["shape"]) != 2 for _, tensor in listed):
        raise _ForeignError("its tensors are not matrices, all of F64 or all of F32")
    tensors: _Tensors = {name: ((t["shape"][0], t["shape"][1]), bytes(t["data"])) for name, t in listed}
    checksum = metadata.pop("checksum", None)
    if checksum != _checksum(metadata, tensors):
        raise _ForeignError("its checksum does not hold, it is damaged")
    return _model(metadata, tensors, types.pop())


def _model(metadata: dict[str, Any], tensors: _Tensors, kind: str) -> GPT:
    """The model, everything checked once more: the checksum finds damage, not malice."""
    try:
        config = Config(**json.loads(metadata["config"]))
        vocabulary = json.loads(metadata["vocabulary"])
        version, words, gauss_next = json.loads(metadata["random_state"])
        rng = Random(0)
        rng.setstate((version, tuple(words), None if gauss_next is None else float(gauss_next)))
        if gauss_next is not None and not math.isfinite(gauss_next):
            raise ValueError(f"gauss_next is {gauss_next}")
        steps = int(metadata["steps"])
        if steps < 0:
            raise ValueError(f"steps are {steps}")
    except (TapeGPTError, LookupError, TypeError, ValueError, RecursionError, OverflowError) as error:
        raise _ForeignError(f"its metadata does not hold ({error})") from None
    if not isinstance(vocabulary, str) or not vocabulary or list(vocabulary) != sorted(set(vocabulary)):
        raise _ForeignError("its vocabulary is not a sorted set of characters")
    shapes = config.shapes(len(vocabulary) + 1)
    if {name: shape for name, (shape, _) in tensors.items()} != shapes:
        raise _ForeignError("its tensors are not those of its configuration")
    code = _TYPES[kind]
    native = {name: array(code, _little_endian(array(code, tensors[name][1]))) for name in shapes}
    parameters: Parameters = {name: array("d", numbers) for name, numbers in native.items()}
    if not all(math.isfinite(number) for values in parameters.values() for number in values):
        raise _ForeignError("it has parameters that are not finite")
    engine = make_engine("fast" if kind == "F32" else "exact", config, len(vocabulary) + 1)
    engine.load_parameters(parameters)
    return GPT(config, vocabulary, rng, engine, steps)


# --- files ------------------------------------------------------------------------------------------------------


def _temporary(target: str) -> str:
    """A new name beside the file: what a crash left under another is in nobody's way."""
    return os.path.join(os.path.dirname(target), f".tapegpt-{os.urandom(8).hex()}.tmp")


def _write(path: str, content: bytes) -> None:
    """A new file, down to the disk."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    with open(os.open(path, flags, 0o666), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _remove(temporary: str) -> None:
    """A temporary file away, wherever its writing was interrupted."""
    try:
        os.unlink(temporary)
    except FileNotFoundError:
        return


def _flush_directory(path: str) -> None:
    """Make the rename itself durable, where directories can be opened and flushed; the file is whole in any case."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        return
    finally:
        os.close(descriptor)
