"""WebAssembly modules of kernels: they compute as the interpreter does, and loaders find what they look for.

Random kernels are in `kernels.py`, an engine's in `tests/engines/test_exact.py`.
"""

from __future__ import annotations

import pytest
import wasmtime

from tapegpt.machine.language import F64, Builder, F64s, Int, Kernel
from tapegpt.machine.target import WASM
from tapegpt.machine.wasm import Module
from tests.machine.sandbox import ENGINE


def body(k: Builder, x: F64s, n: Int) -> None:
    table = k.table((1.5, -2.0, 0.25), F64)
    for i in k.range(n):
        x[i] = k.exp(x[i]) + table[i % 3]


@pytest.mark.parametrize("is_side", [False, True])
def test_modules_say_what_they_need(is_side: bool) -> None:
    module = Module(WASM, is_side=is_side)
    module.add(Kernel(body), {}, "sum of all")
    code = module.binary()
    parsed = wasmtime.Module(ENGINE, code)
    imports = [(each.module, each.name) for each in parsed.imports]
    exports = [each.name for each in parsed.exports]
    outside = [("env", "exp")]
    if is_side:
        assert imports == [*outside, ("env", "memory"), ("env", "__memory_base")]
        assert exports == ["sum of all"]
        needs = b"\x08dylink.0" + b"\x01\x04" + b"\x20\x04\x00\x00"  # 32 bytes at a multiple of 16, no table
        assert code[8 : 10 + len(needs)] == bytes([0, len(needs)]) + needs
    else:
        assert imports == outside
        assert exports == ["sum of all", "memory", "__heap_base"]
