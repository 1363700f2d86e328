"""WebAssembly's format: instructions, those that `wasm.py` makes, and what modules consist of, as bytes and as text."""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    Instruction = tuple[Any, ...]  # its name and immediates: numbers, or bytes as they stand in the module

TYPES = {"i32": b"\x7f", "i64": b"\x7e", "f32": b"\x7d", "f64": b"\x7c", "v128": b"\x7b"}
_NO_RESULT = b"\x40"  # of a block
_INSTRUCTIONS = {  # by prefix: name and number
    b"": """
        loop 03 if 04 end 0b br 0c br_if 0d call 10 select 1b local.get 20 local.set 21 local.tee 22 global.get 23
        i32.load 28 i64.load 29 f32.load 2a f64.load 2b i64.load32_u 35
        i32.store 36 i64.store 37 f32.store 38 f64.store 39 i64.store32 3e
        i32.const 41 i64.const 42 f32.const 43 f64.const 44
        i32.eqz 45 i32.eq 46 i32.ne 47 i32.lt_s 48 i32.gt_s 4a i32.le_s 4c i32.ge_s 4e
        i64.eq 51 i64.ne 52 i64.lt_s 53 i64.gt_s 55 i64.le_s 57 i64.ge_s 59
        f32.eq 5b f32.ne 5c f32.lt 5d f32.gt 5e f32.le 5f f32.ge 60
        f64.eq 61 f64.ne 62 f64.lt 63 f64.gt 64 f64.le 65 f64.ge 66
        i32.add 6a i32.sub 6b i32.mul 6c i32.div_s 6d i32.rem_s 6f i32.and 71 i32.or 72 i32.xor 73 i32.shl 74
        i32.shr_u 76
        i64.ctz 7a i64.add 7c i64.sub 7d i64.mul 7e i64.div_s 7f i64.rem_s 81 i64.and 83 i64.or 84 i64.xor 85
        i64.shl 86 i64.shr_u 88
        f32.abs 8b f32.sqrt 91 f32.add 92 f32.sub 93 f32.mul 94 f32.div 95
        f64.abs 99 f64.sqrt 9f f64.add a0 f64.sub a1 f64.mul a2 f64.div a3
        i32.wrap_i64 a7 i64.extend_i32_s ac i64.extend_i32_u ad f32.convert_i32_s b2 f32.convert_i64_s b4
        f32.demote_f64 b6 f64.convert_i32_s b7 f64.convert_i64_s b9 f64.promote_f32 bb
        i32.reinterpret_f32 bc i64.reinterpret_f64 bd f32.reinterpret_i32 be f64.reinterpret_i64 bf
        """,
    b"\xfc": "i32.trunc_sat_f32_s 00 i32.trunc_sat_f64_s 02 i64.trunc_sat_f32_s 04 i64.trunc_sat_f64_s 06",
    b"\xfd": """
        v128.load 00 v128.load32x2_u 06 v128.load32_splat 09 v128.load64_splat 0a v128.load64_zero 5d
        v128.load32_lane 56 v128.store 0b v128.store32_lane 5a v128.store64_lane 5b
        i8x16.shuffle 0d i32x4.splat 11 i64x2.splat 12 f32x4.splat 13 f64x2.splat 14
        i32x4.extract_lane 1b i64x2.extract_lane 1d f32x4.extract_lane 1f f64x2.extract_lane 21
        i32x4.replace_lane 1c i64x2.replace_lane 1e f32x4.replace_lane 20 f64x2.replace_lane 22
        i32x4.eq 37 i32x4.ne 38 i32x4.lt_s 39 i32x4.gt_s 3b i32x4.le_s 3d i32x4.ge_s 3f
        f32x4.eq 41 f32x4.ne 42 f32x4.lt 43 f32x4.gt 44 f32x4.le 45 f32x4.ge 46
        f64x2.eq 47 f64x2.ne 48 f64x2.lt 49 f64x2.gt 4a f64x2.le 4b f64x2.ge 4c
        i64x2.eq d6 i64x2.ne d7 i64x2.lt_s d8 i64x2.gt_s d9 i64x2.le_s da i64x2.ge_s db
        v128.not 4d v128.and 4e v128.or 50 v128.xor 51 v128.bitselect 52 v128.any_true 53
        f32x4.demote_f64x2_zero 5e f64x2.promote_low_f32x4 5f i32x4.bitmask a4 i64x2.bitmask c4
        i32x4.shl ab i32x4.shr_u ad i32x4.add ae i32x4.sub b1 i32x4.mul b5
        i64x2.extend_low_i32x4_s c7 i64x2.extend_high_i32x4_s c8
        i64x2.shl cb i64x2.shr_u cd i64x2.add ce i64x2.sub d1 i64x2.mul d5
        f32x4.abs e0 f32x4.sqrt e3 f32x4.add e4 f32x4.sub e5 f32x4.mul e6 f32x4.div e7 f32x4.pmin ea f32x4.pmax eb
        f64x2.abs ec f64x2.sqrt ef f64x2.add f0 f64x2.sub f1 f64x2.mul f2 f64x2.div f3 f64x2.pmin f6 f64x2.pmax f7
        i32x4.trunc_sat_f32x4_s f8 f32x4.convert_i32x4_s fa i32x4.trunc_sat_f64x2_s_zero fc
        f64x2.convert_low_i32x4_s fe f32x4.relaxed_madd 105 f64x2.relaxed_madd 107
        """,
}


def unsigned(number: int) -> bytes:
    """A number in LEB128."""
    groups = bytearray()
    while number > 127:
        groups.append(number & 127 | 128)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def signed(number: int) -> bytes:
    """A number of either sign in LEB128."""
    groups = bytearray()
    while not -64 <= number < 64:
        groups.append(number & 127 | 128)
        number >>= 7
    groups.append(number & 127)
    return bytes(groups)


def _read() -> Iterator[tuple[str, bytes]]:
    for prefix, text in _INSTRUCTIONS.items():
        words = iter(text.split())
        for name, number in zip(words, words, strict=True):
            code = prefix + (unsigned(int(number, 16)) if prefix else bytes.fromhex(number))
            yield name, code + _NO_RESULT if name in ("loop", "if") else code


_CODES = dict(_read())


def encode(instruction: Instruction) -> bytes:
    """An instruction as bytes."""
    name, *immediates = instruction
    write = signed if name in ("i32.const", "i64.const") else unsigned
    return _CODES[name] + b"".join([x if isinstance(x, bytes) else write(x) for x in immediates])


def section(number: int, content: bytes) -> bytes:
    """A section of a module."""
    return bytes([number]) + unsigned(len(content)) + content


def row(items: Sequence[bytes]) -> bytes:
    """How many, and one after the other."""
    return unsigned(len(items)) + b"".join(items)


def name(text: str) -> bytes:
    """A name, as modules have them."""
    encoded = text.encode()
    return unsigned(len(encoded)) + encoded


# --- text -------------------------------------------------------------------------------------------------------


def quote(content: bytes) -> str:
    """A string."""
    plain = [chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:02x}" for byte in content]
    return f'"{"".join(plain)}"'


def label(text: str) -> str:
    """A name that instructions refer to."""
    is_plain = text.isascii() and all(each.isalnum() or each in "._'" for each in text)
    return f"${text}" if is_plain else f"${quote(text.encode())}"


def words(name: str, immediates: Sequence[Any]) -> str:
    """An instruction as text."""
    if ".load" in name or ".store" in name:
        align, offset, *lane = immediates
        whole = 16 if name in ("v128.load", "v128.store") else 4 if "32" in name and "x2" not in name else 8
        options = ((offset, f"offset={offset}"), (1 << align != whole, f"align={1 << align}"))
        return " ".join([name, *(text for is_said, text in options if is_said), *map(str, lane)])
    if name in ("f32.const", "f64.const"):
        return f"{name} {_decimal(immediates[0])}"
    numbers = [each for x in immediates for each in (x if isinstance(x, bytes) else (x,))]
    return " ".join([name, *map(str, numbers)])


def _decimal(held: bytes) -> str:
    (number,), (bits,) = (struct.unpack(formats[len(held) == 8], held) for formats in (("<f", "<d"), ("<I", "<Q")))
    if number == number:
        return repr(number)
    mantissa = 23 if len(held) == 4 else 52
    return f"{'-' if bits >> 8 * len(held) - 1 else ''}nan:0x{bits & (1 << mantissa) - 1:x}"
