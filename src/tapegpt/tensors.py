"""Matrices of numbers and what is to be known about them in one file: safetensors, or the same as plain JSON.

A checksum over all of a file finds damage when it is read. Not here: what the matrices are (`checkpoint.py`,
`saving.py`), writing (`files.py`).
Source: the safetensors format, https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import json
import os
import sys
from array import array
from hashlib import sha256
from itertools import chain

from tapegpt.errors import TapeGPTError, quote
from tapegpt.files import Path, path_text, write_file
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TYPES = {"F64": "d", "F32": "f"}  # of tensors, as codes of arrays
_PLAIN = ("format", "tapegpt", "steps", "engine", "model", "checksum")  # metadata that is no JSON


class Contents(Record):
    """What a file holds: metadata, and matrices of numbers as (rows, columns) and little-endian bytes."""

    metadata: dict[str, str]
    tensors: dict[str, tuple[tuple[int, int], bytes]]
    type: str  # of the numbers: F64 or F32

    def numbers(self, name: str) -> array[float]:
        """Those of a tensor, row by row."""
        return numbers_of(self.tensors[name][1], self.type)

    @property
    def checksum(self) -> str:
        """SHA-256 of everything in the file."""
        sums = sha256(json.dumps(sorted(self.metadata.items())).encode())
        for name, (shape, data) in sorted(self.tensors.items()):
            sums.update(json.dumps([name, shape]).encode())
            sums.update(data)
        return sums.hexdigest()


class ForeignError(Exception):
    """Why a file is not a whole one of ours."""


def write_contents(contents: Contents, path: Path) -> None:
    """Write what a file is to hold, as JSON if its name ends so; on any failure what stood at the path stays."""
    write_file(path, pack(contents, as_json=path_text(path).lower().endswith(".json")))


def read_contents(path: Path) -> Contents:
    """What a file holds; raises as `unpack` does."""
    return unpack(file_bytes(path))


def pack(contents: Contents, *, as_json: bool = False) -> bytes:
    """The bytes of a file: safetensors, or JSON."""
    return _as_json(contents) if as_json else _as_safetensors(contents)


def unpack(data: bytes) -> Contents:
    """What such bytes hold; raises `ForeignError` for those that are not ours, or damaged."""
    return _from_json(data) if is_json(data) else _from_safetensors(data)


def file_bytes(path: Path) -> bytes:
    """A model file's bytes; raises `TapeGPTError` where it cannot be read."""
    name = path_text(path)
    if not name:
        raise TapeGPTError("the name of a model file is empty: give one")
    try:
        if os.path.exists(name) and not os.path.isdir(name) and not os.path.isfile(name):
            raise TapeGPTError(f"{name}: is not a regular file: give a model file")  # a pipe or device may never end
        with open(name, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise TapeGPTError(f"{name}: no such file: train one with tapegpt train DATA -o {name}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise TapeGPTError(f"{name!r}: cannot be read: {reason}: give a model file") from None


def is_json(data: bytes) -> bool:
    """Whether these are the bytes of JSON: safetensors begins with a length, whose upper bytes are zero."""
    return data[:64].lstrip()[:1] in (b"{", b"[") and b"\0" not in data[:8]


def little_endian(values: array[float]) -> bytes:
    """The bytes of numbers as files have them."""
    return _swap(values[:]).tobytes() if sys.byteorder == "big" else values.tobytes()


def numbers_of(data: bytes, kind: str) -> array[float]:
    """The numbers of such bytes."""
    values: array[float] = array(TYPES[kind], data)
    return _swap(values) if sys.byteorder == "big" else values


def _swap(values: array[float]) -> array[float]:
    values.byteswap()
    return values


def as_type(data: bytes, kind: str, wanted: str) -> bytes:
    """The bytes of numbers as those of another type."""
    return data if kind == wanted else little_endian(array(TYPES[wanted], numbers_of(data, kind)))


# --- bytes ------------------------------------------------------------------------------------------------------


def _as_safetensors(contents: Contents) -> bytes:
    """The same bytes for the same contents, unlike the library's own writer, whose metadata change places."""
    header: dict[str, Any] = {"__metadata__": {**contents.metadata, "checksum": contents.checksum}}
    start = 0
    for name, (shape, data) in contents.tensors.items():
        header[name] = {"dtype": contents.type, "shape": shape, "data_offsets": [start, start + len(data)]}
        start += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # numbers begin at multiples of their size
    return b"".join([len(text).to_bytes(8, "little"), text, *[data for _, data in contents.tensors.values()]])


def _from_safetensors(data: bytes) -> Contents:
    start = 8 + int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8:start])
        metadata = header.pop("__metadata__", None)
        listed = sorted((each["data_offsets"], name, each["shape"], each["dtype"]) for name, each in header.items())
        types, shapes = {kind for *_, kind in listed}, [tuple(shape) for _, _, shape, _ in listed]
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError, MemoryError) as error:
        raise ForeignError(f"it is damaged or no safetensors file ({type(error).__name__})") from None
    if not isinstance(metadata, dict) or "tapegpt" not in metadata:
        raise ForeignError("its metadata names no tapegpt")
    if not all(isinstance(value, str) for value in metadata.values()):
        raise ForeignError("its metadata are not strings")
    are_matrices = all(len(shape) == 2 and all(type(n) is int and n >= 0 for n in shape) for shape in shapes)
    if len(types) != 1 or not types <= TYPES.keys() or not are_matrices:
        raise ForeignError("its tensors are not matrices, all of F64 or all of F32")
    tensors, kind, end = {}, types.pop(), 0
    for (offsets, name, *_), (rows, columns) in zip(listed, shapes, strict=True):
        begin, end = end, end + rows * columns * array(TYPES[kind]).itemsize
        if offsets != [begin, end]:
            raise ForeignError(f"it is damaged: {quote(name)} does not lie where its shape needs")
        tensors[name] = ((rows, columns), data[start + begin : start + end])
    if start + end != len(data):
        raise ForeignError("its checksum does not hold, it is damaged")
    return _whole(metadata, tensors, kind)


def _whole(metadata: dict[str, str], tensors: dict[str, tuple[tuple[int, int], bytes]], kind: str) -> Contents:
    """The contents that a checksum among the metadata is of."""
    checksum, contents = metadata.pop("checksum", None), Contents(metadata, tensors, kind)
    if checksum != contents.checksum:
        raise ForeignError("its checksum does not hold, it is damaged")
    return contents


def _as_json(contents: Contents) -> bytes:
    """One object: the metadata, the type of the numbers, and each tensor as a list of rows, a row a line."""
    metadata = {**contents.metadata, "checksum": contents.checksum}
    fields = {name: text if name in _PLAIN else json.loads(text) for name, text in metadata.items()}
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in {**fields, "type": contents.type}.items()]
    matrices = []
    for name, ((_, columns), data) in contents.tensors.items():
        numbers = numbers_of(data, contents.type).tolist()
        rows = [json.dumps(numbers[start : start + columns]) for start in range(0, len(numbers), columns)]
        matrices.append(json.dumps(name) + ": [\n" + ",\n".join(rows) + "\n]")
    lines.append('"state_dict": {\n' + ",\n".join(matrices) + "\n}")
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _from_json(data: bytes) -> Contents:
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ForeignError(f"it is no JSON ({error})") from None
    if not isinstance(fields, dict) or "tapegpt" not in fields:
        raise ForeignError("it names no tapegpt; a state_dict of microgpt.py is converted first, by tapegpt convert")
    state, kind = fields.pop("state_dict", None), fields.pop("type", None)
    if kind not in list(TYPES) or not isinstance(state, dict):
        raise ForeignError("it has no state_dict, or a type other than F64 and F32")
    metadata = {name: value if name in _PLAIN else json.dumps(value) for name, value in fields.items()}
    if not all(isinstance(value, str) for value in metadata.values()):
        raise ForeignError("its format, tapegpt, steps and engine must be strings")
    try:
        tensors = {name: matrix(rows, TYPES[kind]) for name, rows in state.items()}
    except TapeGPTError as error:
        raise ForeignError(f"a tensor does not hold ({error})") from None
    if "checksum" not in metadata:  # as where numbers were changed by hand
        return Contents(metadata, tensors, kind)
    return _whole(metadata, tensors, kind)


def matrix(rows: Any, code: str) -> tuple[tuple[int, int], bytes]:
    """Shape and little-endian numbers of a list of rows; raises `TapeGPTError` for anything else."""
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) for row in rows):
        raise TapeGPTError("a matrix must be a list of rows, each a list of numbers")
    columns = len(rows[0])
    for place, row in enumerate(rows):
        if not columns or len(row) != columns:
            raise TapeGPTError(f"row {place} of a matrix has {len(row)} numbers, the first has {columns}")
        if not set(map(type, row)) <= {int, float} or not all(abs(number) < 1e38 for number in row):
            raise TapeGPTError(f"row {place} of a matrix has something that is no finite number")
    return (len(rows), columns), little_endian(array(code, chain.from_iterable(rows)))
