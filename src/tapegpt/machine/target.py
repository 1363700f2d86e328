"""What code is made for: the vector unit, and what is known of the C library. Not here: which it is (`host.py`)."""

from __future__ import annotations

from tapegpt.record import Record

LIBM = ("exp", "log", "pow", "sin", "cos", "tanh")  # scalar f64 functions of the C library
OUTSIDE = (*LIBM, "yield_core")  # all that code calls outside itself, in the order of its table of addresses


class Target(Record):
    """A vector unit. The exact engine's bits do not depend on it."""

    name: str
    vector_bytes: int
    registers: int  # vector registers
    fma: bool  # it has a fused multiply-add
    estimates: bool = False  # it has an estimate of 1 / sqrt(x) in f64
    cpu: str = ""  # LLVM's name; "" is the CPU of this machine with all it has
    certified: bool = False  # the error bound of this C library's pow is known, see operations/certified.py
    known_exp: str = ""  # "fused" or "unfused" if the operations of its exp are known, see there
    relaxed: bool = False  # `mul_add` is WebAssembly's, which rounds once or twice as the CPU likes


AVX512 = Target("avx512", 64, 32, True, estimates=True)
AVX2 = Target("avx2", 32, 16, True)
SSE2 = Target("sse2", 16, 16, False)
NEON = Target("neon", 16, 32, True, estimates=True)
WASM = Target("wasm", 16, 12, False)  # of x86's 16 V8 needs some itself: a fast step takes 0.78, an exact one 1.05
INTERPRETED = Target("interpreted", 64, 32, False)
C = Target("c", 16, 8, False)  # of source text: of 64 bytes it is 3 times as long for a model in f32
PYTHON = Target("python", 32, 8, False)
