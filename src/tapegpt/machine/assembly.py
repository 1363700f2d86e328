"""Assembly text made readable: without directives, its functions summed up, its innermost loops marked.

Knows instructions of x86-64 and AArch64. Not here: making it (`llvm.py`).
"""

from __future__ import annotations


def annotate(assembly: str) -> str:
    """Assembly without directives; each function begins with what it consists of, `|` marks its innermost loops."""
    functions: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in assembly.splitlines():
        if not line.startswith((" ", "\t")):
            label = line.partition(":")[0]
            if "BB" in label and label.lstrip(".").startswith("LBB"):
                lines.append(line.partition(":")[0] + ":")
            elif label and not label.lstrip(".").startswith("L"):
                lines = functions.setdefault(label.strip('"'), [])
        elif not line.strip().startswith((".", "#", "//", ";")):
            lines.append("    " + line.strip().expandtabs(16))
    return "\n\n".join(_function(name, lines) for name, lines in functions.items() if lines)


def _function(name: str, lines: list[str]) -> str:
    loops = _loops(lines)
    text = [f"{name}:  {_summary(lines)}"]
    for index, line in enumerate(lines):
        for start, end in loops:
            if index == start:
                text.append(f"| loop: {_summary(lines[start : end + 1])}")
        inside = any(start <= index <= end for start, end in loops)
        text.append(("| " if inside else "  ") + line)
    return "\n".join(text)


def _loops(lines: list[str]) -> list[tuple[int, int]]:
    """First and last line of each loop that has no other inside: from a label to the last jump back to it."""
    labels = {line[:-1]: index for index, line in enumerate(lines) if line.endswith(":")}
    ends: dict[int, int] = {}
    for index, line in enumerate(lines):
        target = labels.get(line.replace(",", " ").split()[-1], index)
        if target < index:
            ends[target] = index
    loops = list(ends.items())
    return [
        (start, end)
        for start, end in loops
        if not any(start <= other <= last <= end for other, last in loops if (other, last) != (start, end))
    ]


def _summary(lines: list[str]) -> str:
    counts: dict[str, int] = {}
    instructions = [line for line in lines if not line.endswith(":")]
    for line in instructions:
        for kind in instruction_kinds(line):
            counts[kind] = counts.get(kind, 0) + 1
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    return f"{len(instructions)} instructions: {kinds}"


_ARITHMETIC = {
    **dict.fromkeys(("fmadd", "fmsub", "fnmadd", "fnmsub", "fmla", "fmls"), "multiply-add"),
    **dict.fromkeys(("add", "sub", "fadd", "fsub"), "add"),
    **dict.fromkeys(("mul", "fmul", "fnmul"), "multiply"),
    **dict.fromkeys(("div", "fdiv", "sqrt", "fsqrt"), "divide or root"),
    **dict.fromkeys(("max", "min", "fmax", "fmin", "fmaxnm", "fminnm"), "maximum"),
}
_SUFFIXES = {"ps": "vector", "pd": "vector", "ss": "scalar", "sd": "scalar"}  # of x86


def instruction_kinds(instruction: str) -> list[str]:
    """What an instruction of x86-64 or AArch64 is: one kind, and load or store where it reaches memory as well."""
    mnemonic, *operands = instruction.replace(",", " ").split()
    core = mnemonic.removeprefix("v")
    stem, width = core.rstrip("0123456789"), "vector" if "." in "".join(operands[:1]) else "scalar"
    if core[-2:] in _SUFFIXES:
        stem, width = core[:-2].rstrip("0123456789"), _SUFFIXES[core[-2:]]
    arithmetic = stem if core[-2:] in _SUFFIXES or core.startswith("f") else ""
    kinds = [f"{width} {_ARITHMETIC[arithmetic]}"] if arithmetic in _ARITHMETIC else []
    reaches = any("(" in operand or operand.startswith("[") for operand in operands) and not mnemonic.startswith("lea")
    if reaches:
        stores = ")" in operands[-1] if "(" in instruction else mnemonic.startswith("st")
        kinds.append("store" if stores and not mnemonic.startswith(("cmp", "test", "call", "jmp")) else "load")
    if mnemonic.startswith(("call", "bl")):
        kinds.append("call")
    elif mnemonic.startswith(("j", "b.", "cb", "tb")) or mnemonic == "b":
        kinds.append("jump")
    return kinds or ["other"]
