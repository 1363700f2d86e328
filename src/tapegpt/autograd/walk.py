"""The nodes of a tape as they were laid out, and the walks over them while machine code is made.

Kernels hold these and not the tape: all of it would be in the key of their code. Not here: the layout (`tape.py`).
"""

from __future__ import annotations

from collections.abc import Callable

from tapegpt.autograd.operations.base import Operation, Scratch, Shape, Slot, clear
from tapegpt.machine.language import U32, Builder, Kernel, Number, Pointer


class Laid:
    """What code is made of: of a node all but its tape, which would be in the key of the code. Fields are as there."""

    index: int
    shape: Shape
    is_parameter: bool
    operation: Operation | None
    inputs: tuple[Laid, ...]
    rows: int
    extent: int
    value: int
    gradient: int
    prepared: int
    kept: int
    is_early: bool
    shares_gradient: bool


class Run:
    """The memory regions of one run while its code is made, and the gradients that have been written."""

    def __init__(
        self,
        shared: Pointer,
        gradients: Pointer | None,
        work: Pointer,
        start: Number = 0,
        stop: Number = 0,
    ) -> None:
        self._shared, self._gradients, self._work = shared, gradients, work
        self._start, self._stop = start, stop
        self.written: set[int] = set()

    def prepare(self, k: Builder, node: Laid, operation: Operation) -> None:
        """Call `prepare` of a node's operation, if it prepares something."""
        if operation.prepared_size(*[i.shape for i in node.inputs]):
            self._call(k, operation.prepare, node, *[self._slot(i) for i in node.inputs])

    def forward(self, k: Builder, node: Laid, operation: Operation) -> None:
        """Call `forward` of a node's operation."""
        if not node.is_early:
            self.prepare(k, node, operation)
        self._call(k, operation.forward, node, *[self._slot(i) for i in (node, *node.inputs)])

    def backward(self, k: Builder, node: Laid, operation: Operation) -> None:
        """Call `backward` of a node's operation."""
        for index in operation.clears:
            table = node.inputs[index]
            if table.gradient >= 0 and table.index not in self.written:
                clear(k, self.gradient(table), table.extent)
                self.written.add(table.index)
        views = {i.index: self._slot(i) for i in (node, *node.inputs)}
        out, *slots = [views[i.index] for i in (node, *node.inputs)]  # one view for an input used twice
        self._call(k, operation.backward, node, out, *slots)
        self.written.update(i.index for i in node.inputs)

    def _call(self, k: Builder, method: Callable[..., None], node: Laid, *slots: Slot) -> None:
        """A method of a node's operation is a kernel."""
        Kernel(method, f"{node.operation}.{method.__name__}")(k, self._scratch(node), *slots)

    def gradient(self, node: Laid) -> Pointer:
        """Where a node's gradient lies."""
        assert self._gradients is not None
        return (self._gradients if node.is_parameter else self._work) + node.gradient

    def _slot(self, node: Laid) -> Slot:
        value = (self._shared if node.is_parameter else self._work) + node.value
        fixed = node.shape.rows
        return Slot(
            node.shape,
            node.rows,
            value.cast(U32) if node.shape.index else value,
            self.gradient(node) if self._gradients is not None and node.gradient >= 0 else None,
            node.index not in self.written,
            self._start if fixed is None else 0,
            self._stop if fixed is None else fixed,
            node.operation.activation if node.operation else "",
            self._work + node.kept if node.operation and node.operation.activation not in ("", "relu") else None,
        )

    def _scratch(self, node: Laid) -> Scratch:
        prepared = self._shared if node.is_early else self._work
        return Scratch(prepared + node.prepared, self._work + node.kept)
