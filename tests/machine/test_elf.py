"""The linker: each relocation at its limits, read back by decoders of the tests, LLVM's objects by a disassembler."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from tapegpt import Config
from tapegpt.engines.fast.training import training_kernel
from tapegpt.engines.graph import fast_graph
from tapegpt.machine.elf import PAGE, LinkError, link
from tapegpt.machine.image import Image
from tapegpt.machine.language import Builder, F64s, Int, Kernel, kernel
from tapegpt.machine.target import NEON, SSE2, Target

X86, ARM = 62, 183
PROGBITS, SYMTAB, STRTAB, RELA, NOTE, NOBITS = 1, 2, 3, 4, 7, 8
ALLOC, CODE, TLS = 0x2, 0x6, 0x402

Section = tuple[str, int, int, int, bytes]  # name, type, flags, alignment, content
Relocation = tuple[int, int, int, int]  # offset in the first section, kind, symbol, addend
Symbol = tuple[str, int, int]  # name, section (from 1; 0 is outside), value


def elf(machine: int, sections: list[Section], symbols: list[Symbol], relocations: list[Relocation]) -> bytes:
    """A relocatable object whose relocations are all of its first section."""
    names, strings, entries = b"\0", b"\0", bytes(24)
    for name, section, value in symbols:
        entries += struct.pack("<IBBHQQ", len(strings), 0x10, 0, section, value, 0)
        strings += name.encode() + b"\0"
    rela = b"".join(struct.pack("<QQq", at, symbol + 1 << 32 | kind, more) for at, kind, symbol, more in relocations)
    count = len(sections)
    whole: list[tuple[str, int, int, int, bytes, int, int, int]] = [
        ("", 0, 0, 0, b"", 0, 0, 0),
        *((*section, 0, 0, 0) for section in sections),
        (".rela", RELA, 0, 8, rela, count + 2, 1, 24),
        (".symtab", SYMTAB, 0, 8, entries, count + 3, 1, 24),
        (".strtab", STRTAB, 0, 1, strings, 0, 0, 0),
    ]
    body, table = bytearray(64), b""
    for name, kind, flags, align, content, linked, info, entry in [*whole, (".names", STRTAB, 0, 1, b"", 0, 0, 0)]:
        offset, size = len(body), len(content)
        table += struct.pack("<IIQQQQIIQQ", len(names), kind, flags, 0, offset, size, linked, info, align, entry)
        names += name.encode() + b"\0"
        body += content if kind != NOBITS else b""
    struct.pack_into("<Q", body, 40, len(body) + len(names))
    last = bytearray(table)
    struct.pack_into("<QQ", last, len(table) - 40, len(body), len(names))
    struct.pack_into("<HHH", body, 58, 64, count + 5, count + 4)
    body[:6], body[18:20] = b"\x7fELF\x02\x01", struct.pack("<H", machine)
    return bytes(body + names + last)


def linked(machine: int, word: int, at: int, kind: int, target: int, addend: int = 0) -> int:
    """The word that is linked at an offset of `.text`, which refers to an offset of the data that begin at 64 KB."""
    text = bytearray(0x10000)
    struct.pack_into("<I", text, at, word)
    sections = [(".text", PROGBITS, CODE, 16, bytes(text)), (".data", PROGBITS, ALLOC, PAGE, bytes(0x10000))]
    image = link(elf(machine, sections, [("x", 2, target)], [(at, kind, 0, addend)]))
    assert image.symbols["x"] == 0x10000 + target
    assert image.code[:at] == bytes(at)
    assert image.code[at + 4 :] == bytes(len(image.code) - at - 4)
    return int.from_bytes(image.code[at : at + 4], "little")


# What the Arm Architecture Reference Manual says that these instructions do


def signed(number: int, bits: int) -> int:
    return number - (1 << bits) if number >> bits - 1 else number


def adrp(word: int, place: int) -> int:
    """The page that the instruction at a place computes."""
    assert word & 0x9F00001F == 0x90000003
    pages = (word >> 5 & 0x7FFFF) << 2 | word >> 29 & 3
    return (place & -PAGE) + signed(pages, 21) * PAGE


def branch(word: int, place: int) -> int:
    return place + 4 * signed(word & 0x3FFFFFF, 26)


DATA = 0x10000  # where the data begin
PLACES = [0, 4, 0xFFC, 0x1000, 0xFFFC]
OFFSETS = [0, 16, 0xFF0, 0x1000, 0x8010, 0xFFF0]


@pytest.mark.parametrize("at", PLACES)
@pytest.mark.parametrize("target", [*OFFSETS, 1, 0xFFF])
def test_pages(at: int, target: int) -> None:
    assert adrp(linked(ARM, 0x90000003, at, 275, target), at) == DATA + target & -PAGE
    assert adrp(linked(ARM, 0x90000003, at, 275, target, -DATA - target), at) == 0


@pytest.mark.parametrize("at", PLACES)
@pytest.mark.parametrize(
    ("kind", "word", "size"),
    [
        (277, 0x91000062, 1),  # add x2, x3, #0
        (278, 0x39400062, 1),  # ldrb w2, [x3]
        (284, 0x79400062, 2),  # ldrh w2, [x3]
        (285, 0xBD400062, 4),  # ldr s2, [x3]
        (286, 0xF9400062, 8),  # ldr x2, [x3]
        (299, 0x3DC00062, 16),  # ldr q2, [x3]
    ],
)
def test_places_in_pages(at: int, kind: int, word: int, size: int) -> None:
    for target in (*OFFSETS, size, 0x1000 - size, 0x5000 + 3 * size):
        result = linked(ARM, word, at, kind, target)
        assert result & ~(0xFFF << 10) == word
        assert (result >> 10 & 0xFFF) * size == target % PAGE
    if size > 1:
        with pytest.raises(LinkError, match="aligned"):
            linked(ARM, word, at, kind, size // 2)


@pytest.mark.parametrize("kind", [282, 283])
@pytest.mark.parametrize("at", PLACES)
def test_branches(kind: int, at: int) -> None:
    word = 0x94000000 if kind == 283 else 0x14000000
    for target in OFFSETS:
        result = linked(ARM, word, at, kind, target)
        assert result >> 26 == word >> 26
        assert branch(result, at) == DATA + target
    backwards = linked(ARM, word, at, kind, 0, -DATA)
    assert branch(backwards, at) == 0
    with pytest.raises(LinkError, match="aligned"):
        linked(ARM, word, at, kind, 2)


@pytest.mark.parametrize("addend", [(1 << 27) - DATA, -(1 << 27) - DATA - 4])
def test_branches_that_are_too_far(addend: int) -> None:
    with pytest.raises(LinkError, match="far"):
        linked(ARM, 0x14000000, 0, 282, 0, addend)


def test_the_farthest_branches() -> None:
    assert branch(linked(ARM, 0x14000000, 0, 282, 0, (1 << 27) - 4 - DATA), 0) == (1 << 27) - 4
    assert branch(linked(ARM, 0x14000000, 0, 282, 0, -(1 << 27) - DATA), 0) == -(1 << 27)


@pytest.mark.parametrize("kind", [2, 4])
@pytest.mark.parametrize("at", [0, 1, 0xFFC, 0xFFFC])
def test_distances_of_x86(kind: int, at: int) -> None:
    for target in (0, 1, 0xFFF, 0xFFFF):
        assert linked(X86, 0, at, kind, target, -4) == DATA + target - 4 - at
    assert signed(linked(X86, 0, at, kind, 0, -DATA - 4), 32) == -4 - at


def test_sections_lie_as_they_ask() -> None:
    sections = [
        (".text", PROGBITS, CODE, 4, b"\x01" * 5),
        (".note", NOTE, 0, 1, b"left out"),
        (".small", PROGBITS, ALLOC, 1, b"\x02" * 3),
        (".eh_frame", PROGBITS, ALLOC, 8, b"left out"),
        (".zeros", NOBITS, ALLOC, 256, bytes(7)),
        (".page", PROGBITS, ALLOC, PAGE, b"\x03" * 2),
    ]
    image = link(elf(X86, sections, [(name, i + 1, 1) for i, (name, *_) in enumerate(sections)], []))
    assert image.symbols == {".text": 1, ".small": 65, ".zeros": 257, ".page": PAGE + 1}
    whole = bytearray(PAGE + 2)
    whole[:5], whole[64:67], whole[PAGE:] = b"\x01" * 5, b"\x02" * 3, b"\x03" * 2
    assert image.code == bytes(whole)


TEXT: Section = (".text", PROGBITS, CODE, 16, bytes(64))


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (elf(X86, [(".text", PROGBITS, CODE, 2 * PAGE, bytes(64))], [], []), "section .text aligned to 8192"),
        (elf(X86, [TEXT, (".tls", PROGBITS, TLS, 8, bytes(8))], [], []), "section .tls"),
        (elf(X86, [TEXT, (".own", NOTE, ALLOC, 8, bytes(8))], [], []), "section .own of type 7"),
        (elf(X86, [TEXT], [("x", 0, 0)], [(0, 2, 0, 0)]), "a symbol outside the object"),
        (elf(X86, [TEXT], [("x", 1, 0)], [(0, 1, 0, 0)]), "relocation 1 of machine 62"),
        (elf(X86, [TEXT], [("x", 1, 0)], [(0, 283, 0, 0)]), "relocation 283 of machine 62"),
        (elf(ARM, [TEXT], [("x", 1, 0)], [(0, 2, 0, 0)]), "relocation 2 of machine 183"),
        (elf(ARM, [TEXT], [("x", 1, 0)], [(0, 287, 0, 0)]), "relocation 287 of machine 183"),
        (elf(X86, [TEXT], [("x", 1, 0)], [(62, 2, 0, 0)]), "malformed"),
        (elf(X86, [TEXT], [("x", 1, 0)], [(0, 2, 0, 1 << 31)]), "malformed"),
        (elf(X86, [TEXT], [], [])[:4] + b"\x01" + elf(X86, [TEXT], [], [])[5:], "not a 64-bit"),
    ],
)
def test_other_objects_are_refused(data: bytes, rule: str) -> None:
    with pytest.raises(LinkError, match=rule):
        link(data)


# LLVM's own objects


@kernel
def cumulate(k: Builder, x: F64s, n: Int, *, factor: float) -> None:
    total = k.zeros()
    for i in k.range(n):
        total += k.exp(x[i]) * factor
        x[i] = total


def train(block_size: int) -> Kernel:
    return training_kernel(fast_graph(Config(1, 8, 2, block_size, n_gram=2), 5, 64, NEON))


def compiled(triple: str, target: Target, body: Kernel, constants: dict[str, Any]) -> bytes:
    from tapegpt.machine.emitter import Module

    binding = pytest.importorskip("llvmlite.binding")
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    module = Module(target)
    module.add(body, constants, "entry")
    machine = binding.Target.from_triple(triple).create_target_machine(reloc="pic", codemodel="small")
    return bytes(machine.emit_object(binding.parse_assembly(str(module))))


def references(data: bytes) -> list[tuple[int, int, int, int]]:
    """Of each relocation of an object: the section and offset of its place, its symbol's section and value."""
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count, _ = struct.unpack_from("<HHH", data, 58)
    rows = [struct.unpack_from("<IIQQQQIIQQ", data, table + i * size) for i in range(count)]
    (symbols,) = [row[4] for row in rows if row[1] == SYMTAB]
    found = []
    for row in rows:
        if row[1] == RELA and rows[row[7]][2] & ALLOC and rows[row[7]][1] == PROGBITS:
            for at in range(row[4], row[4] + row[5], 24):
                offset, info, addend = struct.unpack_from("<QQq", data, at)
                _, _, _, section, value, _ = struct.unpack_from("<IBBHQQ", data, symbols + 24 * (info >> 32))
                found.append((row[7], offset, section, value + addend))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("block_size", [0, 4, 40], ids=["small", "pairs", "tiles"])
def test_a_disassembler_reads_the_same_places_on_aarch64(block_size: int) -> None:
    body, constants = (train(block_size), {}) if block_size else (cumulate, {"factor": 2.1})
    data = compiled("aarch64-unknown-linux-gnu", NEON, body, constants)
    image = link(data)
    assert set(image.symbols) == {"entry", "outside"}
    capstone = pytest.importorskip("capstone")
    code = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    bases = section_bases(data, image)
    pages = 0
    for section, offset, at, value in references(data):
        place, target = bases[section] + offset, bases[at] + value
        (instruction,) = code.disasm(image.code[place : place + 4], place)
        number = int(instruction.op_str.rstrip("]").rpartition("#")[2] or "0", 16) if "#" in instruction.op_str else 0
        if instruction.mnemonic == "adrp":
            assert number == target & -PAGE
            pages += 1
        elif instruction.mnemonic in ("b", "bl"):
            assert number == target
        else:
            assert instruction.mnemonic in ("add", "ldr", "str")
            assert number == target % PAGE
    assert pages


def section_bases(data: bytes, image: Image) -> dict[int, int]:
    """Where the linker put the sections of an object, by its own rule: in order, each at a multiple of 64."""
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count, names = struct.unpack_from("<HHH", data, 58)
    rows = [struct.unpack_from("<IIQQQQIIQQ", data, table + i * size) for i in range(count)]
    bases, end = {}, 0
    for i, row in enumerate(rows):
        name = data[rows[names][4] + row[0] :].partition(b"\0")[0]
        if row[2] & ALLOC and row[5] and not name.startswith(b".eh_frame"):
            end += -end % max(row[8], 64)
            bases[i] = end
            end += row[5]
    assert end == len(image.code)
    return bases


def test_distances_in_code_for_x86_end_where_they_should() -> None:
    data = compiled("x86_64-unknown-linux-gnu", SSE2, cumulate, {"factor": 2.1})
    image = link(data)
    bases = section_bases(data, image)
    found = references(data)
    assert found
    for section, offset, at, value in found:
        place = bases[section] + offset
        (distance,) = struct.unpack_from("<i", image.code, place)
        assert place + distance == bases[at] + value
