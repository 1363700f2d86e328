"""A function's instructions for WebAssembly's stack: where each is written, and which results locals hold.

A result that is used once stays on the stack, if nothing between changes it: the instruction is written where it is
used. Other results have locals, which are free again once they are used last. What nothing uses is left out. Not here:
which instructions make a kernel (`wasm.py`).
"""

from __future__ import annotations

from bisect import bisect_right

from tapegpt.machine.opcodes import TYPES, encode, label, row, unsigned, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from tapegpt.machine.opcodes import Instruction


class Node:
    """An instruction: what it computes, or without a result what it does."""

    __slots__ = (
        "body",
        "crosses",
        "immediates",
        "is_signed",
        "last",
        "local",
        "op",
        "operands",
        "place",
        "result",
        "stays",
        "uses",
    )

    def __init__(self, op: str, immediates: tuple[Any, ...], operands: Sequence[Node], result: str) -> None:
        self.op, self.immediates, self.operands, self.result = op, immediates, operands, result
        self.body: Body | None = None
        self.is_signed = False  # whether it may be a whole number below zero
        self.uses = self.place = self.last = 0  # how often, where it stands, and where it is used last
        self.crosses = False  # into another body, where it is used
        self.stays = False  # on the stack: it is written where it is used
        self.local: Local | None = None  # what holds it otherwise


class Local:
    """What a function keeps beside the stack."""

    __slots__ = ("index", "kind")

    def __init__(self, kind: str, index: int = 0) -> None:
        self.kind, self.index = kind, index


class Body:
    """Instructions and further bodies, in order: of the function, or a `loop`, `when` or `while` in another body."""

    __slots__ = ("depth", "end", "is_loop", "items", "kind", "operands", "parent", "place", "step")

    def __init__(self, parent: Body | None) -> None:
        self.parent = parent
        self.depth: int = parent.depth + 1 if parent else 0
        self.kind, self.is_loop, self.step = "", False, 0
        self.operands: tuple[Node, ...] = ()  # the condition, or a loop's index, first and last number
        self.items: list[Node | Body] = []
        self.place = self.end = 0


class Code:
    """A function's instructions in their order, each with its locals."""

    def __init__(self, body: Body, parameters: dict[str, Node]) -> None:
        self._names = list(parameters)
        self.parameters = tuple(each.result for each in parameters.values())
        self._instructions: list[Instruction] = []
        self._locals: list[Local] = []
        self._free: dict[str, list[Local]] = {}
        self._ending: dict[int, list[Node]] = {}  # by the place where they are used last
        self._changes: list[int] = []  # places where memory may change
        self._sets: dict[Node, list[int]] = {}  # places where registers change
        self._number(body, 0)
        self._use_items(body)
        self._write(body)
        indices = len(self.parameters)
        self._kinds = []
        for kind in TYPES:
            alike = [each for each in self._locals if each.kind == kind]
            for each in alike:
                each.index, indices = indices, indices + 1
            self._kinds += [(kind, len(alike))] if alike else []

    # --- where things stand, and where they are used --------------------------------------------------------------

    def _number(self, body: Body, place: int) -> int:
        for item in body.items:
            place += 1
            item.place = place
            if isinstance(item, Body):
                place = item.end = self._number(item, place) + 1
            elif not item.result:
                if item.op == "local.set":
                    self._sets.setdefault(item.operands[1], []).append(place)
                elif item.op != "if":
                    self._changes.append(place)
        return place

    def _use_items(self, body: Body) -> None:
        """From last to first: what is used by nothing is left out, and all users of a result are known before it."""
        for item in reversed(body.items):
            if isinstance(item, Body):
                self._use_items(item)
                if item.kind == "loop":
                    index, first, last = item.operands
                    self._use(last, item.place, item)
                    self._use(index, item.place, item)
                    self._use(first, item.place, body)
                for each in item.operands if item.kind == "when" else ():
                    self._use(each, item.place, body)
            elif item.uses or not item.result:
                item.stays = bool(item.result) and item.op != "register" and self._may_stay(item)
                for operand in item.operands:
                    self._use(operand, item.last if item.stays else item.place, body)

    def _use(self, node: Node, place: int, body: Body) -> None:
        node.uses += 1
        if node.body is None or node.body is body:
            node.last = max(node.last, place)
            return
        while body.parent and body.parent is not node.body:
            body = body.parent
        node.last, node.crosses = max(node.last, body.end), True

    def _may_stay(self, node: Node) -> bool:
        if node.op == "local.get":
            return not (node.crosses or _between(self._sets.get(node.operands[0], ()), node.place, node.last))
        if node.uses > 1 or node.crosses:
            return False
        return not (".load" in node.op and _between(self._changes, node.place, node.last))

    # --- instructions ---------------------------------------------------------------------------------------------

    def _write(self, body: Body) -> None:
        for item in body.items:
            if isinstance(item, Body):
                self._write_body(item)
                self._release(item.end)
            elif not item.result:
                self._push(item)
            elif item.uses and not item.stays:
                if item.op == "register":
                    self._keep(item)
                else:
                    self._push(item)
                    self._release(item.place)
                    self._keep(item)
                    self._add("local.set", item.local)
            self._release(item.place)

    def _write_body(self, body: Body) -> None:
        if body.kind == "when":
            self._push(body.operands[0])
            self._add("if")
            self._write(body)
        elif body.kind == "while":
            self._add("loop")
            self._write(body)
            self._add("br", 1)
            self._add("end")
        else:
            self._write_loop(body, *body.operands)
        self._add("end")

    def _write_loop(self, body: Body, index: Node, first: Node, last: Node) -> None:
        """The condition is asked before the first turn, where that is not known to come, and after each."""
        numbers = [each.immediates[0] for each in (first, last) if each.op == "i64.const"]
        has_turns = len(numbers) == 2 and bool(range(numbers[0], numbers[1], body.step))
        self._push(first)
        self._add("local.set", index.local)
        if not has_turns:
            self._compare(index, last, body.step)
            self._add("if")
        self._add("loop")
        self._write(body)
        self._push(index)
        self._add("i64.const", body.step)
        self._add("i64.add")
        self._add("local.set", index.local)
        self._compare(index, last, body.step)
        self._add("br_if", 0)
        if not has_turns:
            self._add("end")

    def _compare(self, index: Node, last: Node, step: int) -> None:
        self._push(index)
        self._push(last)
        self._add("i64.lt_s" if step > 0 else "i64.gt_s")

    def _push(self, node: Node) -> None:
        """Compute what stays on the stack and do what is done with it; fetch what a local holds."""
        ahead: list[Node | Instruction] = [node]
        while ahead:
            each = ahead.pop()
            if isinstance(each, tuple):
                self._add(*each)
            elif each.local:
                self._add("local.get", each.local)
            elif each.op == "local.get":
                self._add("local.get", each.operands[0].local)
            elif each.op == "local.set":
                ahead += [("local.set", each.operands[1].local), each.operands[0]]
            else:
                op, operands = each.op, each.operands
                if op in ("i64.mul", "i32.mul") and operands[1].op.endswith("const"):
                    self._multiply(each, ahead)
                    continue
                source = operands[0] if operands else each
                if op.endswith(".splat") and source.stays and source.op.endswith(".load"):
                    op, each, operands = f"v128.load{'64' if '64' in op else '32'}_splat", source, source.operands
                ahead.append((op, *each.immediates))
                ahead += reversed(operands)

    def _multiply(self, node: Node, ahead: list[Node | Instruction]) -> None:
        """By a constant: by a shift, where it is a power of two."""
        kind, factor = node.result, node.operands[1].immediates[0]
        is_power = factor > 0 and not factor & (factor - 1)
        if factor != 1:
            ahead.append((f"{kind}.{'shl' if is_power else 'mul'}",))
            ahead.append((f"{kind}.const", factor.bit_length() - 1 if is_power else factor))
        ahead.append(node.operands[0])

    def _add(self, op: str, *immediates: Any) -> None:
        instructions = self._instructions
        if op == "local.get" and instructions[-1:] == [("local.set", *immediates)]:
            instructions.pop()
            op = "local.tee"
        instructions.append((op, *immediates))

    def _keep(self, node: Node) -> None:
        """Give it a local until it is used last."""
        free = self._free.setdefault(node.result, [])
        if not free:
            self._locals.append(Local(node.result))
            free.append(self._locals[-1])
        node.local = free.pop()
        self._ending.setdefault(node.last, []).append(node)

    def _release(self, place: int) -> None:
        for node in self._ending.pop(place, ()):
            assert node.local
            self._free[node.result].append(node.local)

    # --- as bytes and as text -------------------------------------------------------------------------------------

    def encode(self, functions: dict[str, int], known: dict[Instruction, bytes]) -> bytes:
        """With its length before it."""
        parts = [row([unsigned(count) + TYPES[kind] for kind, count in self._kinds])]
        for op, *given in self._instructions:
            is_local = op.startswith("local.")
            immediates = [given[0].index] if is_local else [functions[given[0]]] if op == "call" else given
            instruction = op, *immediates
            if instruction not in known:
                known[instruction] = encode(instruction)
            parts.append(known[instruction])
        whole = b"".join(parts) + b"\x0b"
        return unsigned(len(whole)) + whole

    def text(self) -> Iterator[str]:
        """Parameters, locals and instructions, a line each."""
        labels = {index: label(name) for index, name in enumerate(self._names)}
        labels.update({each.index: f"${each.index}" for each in self._locals})
        for name, kind in zip(self._names, self.parameters, strict=True):
            yield f"(param {label(name)} {kind})"
        for kind, _ in self._kinds:
            yield " ".join(f"(local {labels[each.index]} {kind})" for each in self._locals if each.kind == kind)
        depth = 0
        for op, *given in self._instructions:
            depth -= op == "end"
            if op == "call":
                line = f"call {label(given[0])}"
            else:
                line = f"{op} {labels[given[0].index]}" if op.startswith("local.") else words(op, given)
            yield "  " * depth + line
            depth += op in ("if", "loop")


def _between(places: Sequence[int], first: int, last: int) -> bool:
    """Whether one of the places lies between two others."""
    index = bisect_right(places, first)
    return index < len(places) and places[index] < last
