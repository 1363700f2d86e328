"""Links one relocatable ELF object into a block of bytes that runs wherever it is mapped. x86-64 and AArch64.

The code that the emitter writes is position-independent and refers to nothing outside itself, so the only relocations
are distances within the block, settled here once; the block is cached and mapped without LLVM. Anything else in an
object is refused. Not here: dynamic linking, debug information, other formats.
Source: System V ABI, processor supplements for AMD64 and for the Arm 64-bit architecture.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from tapegpt.machine.image import Image
from tapegpt.record import Record

PAGE = 4096  # AArch64 addresses constants by 4 KB page, so the block must start on one

_Field = Callable[[int, int], int]  # (place, target) -> the bits to put into the instruction

_X86_64, _AARCH64 = 62, 183
_PROGBITS, _SYMTAB, _RELA, _NOBITS = 1, 2, 4, 8
_LARGEST = 1 << 26  # bytes in a section
_ALLOC, _TLS = 0x2, 0x400


class LinkError(Exception):
    """An object that this linker does not understand."""


class _Section(Record):
    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry: int


def link(data: bytes) -> Image:
    """Lay out the sections that are loaded, settle the relocations, and list the global symbols.

    Raises `LinkError` for an object that this linker does not understand.
    """
    try:
        return _link(data)
    except (struct.error, LookupError, ValueError, OverflowError) as error:
        raise LinkError(f"malformed object: {error}") from error


def _link(data: bytes) -> Image:
    if data[:6] != b"\x7fELF\x02\x01":
        raise LinkError("not a 64-bit little-endian ELF object")
    machine = struct.unpack_from("<H", data, 18)[0]
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count, names_index = struct.unpack_from("<HHH", data, 58)
    sections = [_Section(*struct.unpack_from("<IIQQQQIIQQ", data, table + i * size)) for i in range(count)]
    names = sections[names_index]

    code = bytearray()
    bases: dict[int, int] = {}
    for index, section in enumerate(sections):
        name = _string(data, names.offset + section.name)
        if not section.flags & _ALLOC or name.startswith(".eh_frame") or not section.size:
            continue
        if section.type not in (_PROGBITS, _NOBITS) or section.flags & _TLS or section.size > _LARGEST:
            raise LinkError(f"section {name} of type {section.type} and {section.size} bytes")
        if section.align > PAGE:
            raise LinkError(f"section {name} aligned to {section.align}")
        code += bytes(-len(code) % max(section.align, 64))
        bases[index] = len(code)
        code += bytes(section.size) if section.type == _NOBITS else data[section.offset : section.offset + section.size]

    symbols, exported = _symbols(data, sections, bases)
    for section in sections:
        if section.type == _RELA and section.info in bases:
            for place in range(section.offset, section.offset + section.size, 24):
                offset, info, addend = struct.unpack_from("<QQq", data, place)
                target = symbols[info >> 32]
                if target is None:
                    raise LinkError("a symbol outside the object")
                _relocate(code, machine, info & 0xFFFFFFFF, bases[section.info] + offset, target + addend)
    return Image(bytes(code), exported)


def _string(data: bytes, start: int) -> str:
    return data[start : data.index(b"\0", start)].decode()


def _symbols(data: bytes, sections: list[_Section], bases: dict[int, int]) -> tuple[list[int | None], dict[str, int]]:
    """Offset of each symbol in the block, in the order of the table, and the global ones by name."""
    offsets: list[int | None] = []
    exported: dict[str, int] = {}
    for section in sections:
        if section.type != _SYMTAB:
            continue
        strings = sections[section.link].offset
        for place in range(section.offset, section.offset + section.size, section.entry):
            name, info, _, index, value, _ = struct.unpack_from("<IBBHQQ", data, place)
            offset = bases[index] + value if index in bases else None
            offsets.append(offset)
            if info >> 4 and offset is not None:
                exported[_string(data, strings + name)] = offset
    return offsets, exported


def _relocate(code: bytearray, machine: int, kind: int, place: int, target: int) -> None:
    if machine == _X86_64 and kind in (2, 4):  # PC32, PLT32
        struct.pack_into("<i", code, place, target - place)
    elif machine == _AARCH64 and kind in _AARCH64_FIELDS:
        word = struct.unpack_from("<I", code, place)[0]
        struct.pack_into("<I", code, place, word | _AARCH64_FIELDS[kind](place, target))
    else:
        raise LinkError(f"relocation {kind} of machine {machine}")


def _page_distance(place: int, target: int) -> int:
    pages = (target // PAGE - place // PAGE) & 0x1FFFFF
    return (pages & 3) << 29 | pages >> 2 << 5


def _low_bits(shift: int) -> _Field:
    return lambda place, target: _shift(target % PAGE, shift) << 10


def _branch(place: int, target: int) -> int:
    words = _shift(target - place, 2)
    if not -(1 << 25) <= words < 1 << 25:
        raise LinkError(f"a branch of {words} words is too far")
    return words & 0x3FFFFFF


def _shift(distance: int, shift: int) -> int:
    if distance % (1 << shift):
        raise LinkError(f"{distance} is not aligned to {1 << shift}")
    return distance >> shift


_AARCH64_FIELDS: dict[int, _Field] = {
    275: _page_distance,  # ADR_PREL_PG_HI21
    277: _low_bits(0),  # ADD_ABS_LO12_NC
    278: _low_bits(0),  # LDST8_ABS_LO12_NC
    284: _low_bits(1),  # LDST16_ABS_LO12_NC
    285: _low_bits(2),  # LDST32_ABS_LO12_NC
    286: _low_bits(3),  # LDST64_ABS_LO12_NC
    299: _low_bits(4),  # LDST128_ABS_LO12_NC
    282: _branch,  # JUMP26
    283: _branch,  # CALL26
}
