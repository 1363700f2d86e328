"""A tape's parameters in a file, with what a step needs to resume: behind `Tape.save` and `Step.save`.

Not here: the file's bytes (`tensors.py`), models of text (`checkpoint.py`).
"""

from __future__ import annotations

import json
import os
from array import array

from tapegpt.errors import TapeGPTError, quote
from tapegpt.files import Path, path_text
from tapegpt.machine.language import F64
from tapegpt.ranges import Whole
from tapegpt.tensors import TYPES, Contents, ForeignError, little_endian, read_contents, write_contents
from tapegpt.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from tapegpt.autograd.node import Node
    from tapegpt.autograd.step import Step
    from tapegpt.autograd.tape import Tape

_FORMAT = "tape"
TAKEN = Whole(0, 1 << 45)  # steps


def save(tape: Tape, path: Path, step: Step | None = None) -> None:
    """Write the parameters of a tape; of a step too how many were taken, and what its optimizer keeps."""
    where, kind = path_text(path), "F64" if tape.real is F64 else "F32"
    metadata = {"format": _FORMAT, "tapegpt": __version__}
    tensors = {}

    def add(name: str, node: Node, numbers: Sequence[float]) -> None:
        if name in tensors or name == "__metadata__":
            raise TapeGPTError(f"{where}: a parameter cannot be saved as {quote(name)}: choose another name")
        tensors[name] = _shape(node), little_endian(array(TYPES[kind], numbers))

    for node in tape.parameters():
        add(node.name, node, [number for row in tape.read(node) for number in row])
    if step:
        metadata |= {"steps": str(step.steps_taken), "optimizer": json.dumps(type(step.optimizer).__name__)}
        for name, (node, indices) in step.kept().items():
            add(name, node, [step.numbers[index] for index in indices])
    if not tensors:
        raise TapeGPTError(f"{where}: the tape has no parameters to save")
    write_contents(Contents(metadata, tensors, kind), path)


def load(tape: Tape, path: Path, step: Step | None = None) -> None:
    """Read what `save` wrote, a tape also what a step of it did; nothing changes where it does not fit."""
    where, kept = path_text(path), step.kept() if step else {}
    wanted = {node.name: node for node in tape.parameters()} | {name: node for name, (node, _) in kept.items()}
    if not os.path.exists(where):
        raise TapeGPTError(f"{where}: no such file: give one that a tape or step saved")
    try:
        held = read_contents(path)
        steps = _check(held, wanted, step)
    except ForeignError as error:
        raise TapeGPTError(f"{where}: not of this {'step' if step else 'tape'}: {error}") from None
    numbers = {name: held.numbers(name) for name in wanted}
    for node in tape.parameters():
        tape.write(node, numbers[node.name])
    if step:
        for name, (_, indices) in kept.items():
            for index, number in zip(indices, numbers[name], strict=True):
                step.numbers[index] = number
        step.steps_taken = steps


def _check(held: Contents, wanted: dict[str, Node], step: Step | None) -> int:
    """Raise `ForeignError` for a file that does not fit; the steps that it has taken."""
    metadata, steps = held.metadata, 0
    if metadata.get("format") != _FORMAT:
        raise ForeignError("it is no tape's: give a file that one saved")
    if step:
        optimizer = json.dumps(type(step.optimizer).__name__)
        if metadata.get("optimizer") != optimizer:
            raise ForeignError(f"its optimizer is {metadata.get('optimizer', 'none')}, not {optimizer}")
        if not metadata.get("steps", "").isdecimal() or (steps := int(metadata["steps"])) not in TAKEN:
            raise ForeignError("its steps are no number of steps")
    others = () if "optimizer" in metadata and not step else held.tensors  # a tape passes over what a step needs
    for name in dict.fromkeys((*wanted, *others)):
        shape, found = _shape(wanted[name]) if name in wanted else None, held.tensors.get(name, (None,))[0]
        if shape != found:
            raise ForeignError(f"{name} is {_describe(found)} in the file, {_describe(shape)} here")
    return steps


def _shape(node: Node) -> tuple[int, int]:
    return node.shape.rows or 0, node.shape.columns


def _describe(shape: tuple[int, int] | None) -> str:
    return "not there" if shape is None else f"({shape[0]}, {shape[1]})"
