"""This machine: its CPU, its C library, and the target that they make.

Read from the operating system where it says, so that a warm start need not ask LLVM. Not here: making code.
"""

from __future__ import annotations

import math
import os
from _blake2 import blake2b
from array import array
from functools import cache

from tapegpt.errors import TapeGPTError
from tapegpt.machine.target import AVX2, AVX512, INTERPRETED, NEON, SSE2, WASM, Target

VARIABLE = "TAPEGPT_TARGET"  # a narrower target than the CPU's widest: for tests and curiosity

# A narrower unit is the one of a lesser CPU, or LLVM would use the wider one's instructions all the same.
_LESSER = {"avx512": "x86-64-v4", "avx2": "x86-64-v3", "sse2": "x86-64"}
_EXPONENTIALS = {"f094b6fc1b1c7788": "fused", "d0d85ef4c7babed5": "unfused"}
_POWERS = "358ae53f5531b39e", "f2a15f1f796f5b51"  # fused and not
RELAXED = bytes.fromhex("0061736d01000000 010401600000 03020100 0a0901070000fd85021a0b")  # has f32x4.relaxed_madd
_IDENTITY = ("vendor_id", "cpu family", "model", "stepping", "flags", "CPU ", "Features")


def host_target() -> Target:
    """The target of this process: `TAPEGPT_TARGET` if set, else the CPU's widest vector unit.

    Raises `TapeGPTError` for a target that this machine does not have.
    """
    widest, forced = detect(cpu_identity(), machine()), os.environ.get(VARIABLE)
    if not forced:
        return _with_library(widest)
    targets = {target.name: target for target in available(widest)}
    if forced not in targets:
        raise TapeGPTError(f"{VARIABLE} must be one of {', '.join(targets)} on this machine, not {forced!r}")
    return targets[forced]


def fast_target() -> Target:
    """The target of f32 trainings: with the multiply-add that rounds as it likes, where this WebAssembly has one."""
    target = host_target()
    return target.replace(relaxed=True) if target.name == "wasm" and _has_relaxed_simd() else target


@cache
def _has_relaxed_simd() -> bool:
    """Whether this WebAssembly takes a module with such an instruction; a fast step takes 0.81 of the time then."""
    try:
        from js import WebAssembly  # type: ignore[import-not-found]
        from pyodide.ffi import to_js  # type: ignore[import-not-found]
    except ImportError:
        return False
    return bool(WebAssembly.validate(to_js(RELAXED)))


def available(widest: Target) -> list[Target]:
    """What a CPU can run, the best first: its own target, and for tests those of lesser CPUs and the interpreter."""
    narrower = [
        _with_library(target.replace(cpu=_LESSER[target.name]))
        for target in (AVX512, AVX2, SSE2)
        if widest.name in _LESSER and target.vector_bytes < widest.vector_bytes
    ]
    return [_with_library(widest), *narrower, INTERPRETED]


def _with_library(target: Target) -> Target:
    """A target with what is known of the C library. On AArch64 exp rounds its multiples of ln 2 otherwise."""
    form = exp_form()
    can_form = target.name != "neon" and (target.fma or form != "fused")
    return target.replace(certified=has_known_pow(c_library()), known_exp=form if can_form else "")


def detect(identity: str, architecture: str) -> Target:
    """The widest vector unit of a CPU that names its features."""
    if architecture in ("aarch64", "arm64"):
        return NEON
    if architecture == "wasm32":
        return WASM
    flags = set(identity.split())
    if {"avx512f", "avx512dq", "avx512vl", "avx512bw"} <= flags:
        return AVX512
    if {"avx2", "fma"} <= flags:
        return AVX2
    return SSE2


def machine() -> str:
    """The architecture: `x86_64`, `aarch64`, `arm64`, `amd64`, `wasm32`."""
    return os.uname().machine if hasattr(os, "uname") else os.environ.get("PROCESSOR_ARCHITECTURE", "").lower()


@cache
def cpu_identity() -> str:
    """What tells this CPU from others with other instructions."""
    lines = _processor()
    return "\n".join(line for line in lines if line.startswith(_IDENTITY)) if lines else _identity_from_llvm()


def cpu_name() -> str:
    """The CPU as the system names it, or its architecture where it has no name."""
    return next((line.partition(": ")[2] for line in _processor() if line.startswith("model name")), machine())


def _processor() -> list[str]:
    """What Linux says of the first processor, line by line."""
    try:
        descriptor = os.open("/proc/cpuinfo", os.O_RDONLY)
    except OSError:
        return []
    try:
        return os.read(descriptor, 8192).decode("ascii", "replace").partition("\n\n")[0].splitlines()
    finally:
        os.close(descriptor)


def _identity_from_llvm() -> str:
    """Where the system does not say, LLVM has to be loaded anyhow; "" where there is none."""
    try:
        from tapegpt.machine.llvm import host_cpu
    except ImportError:
        return ""
    return host_cpu()


def c_library() -> str:
    """Name and version of the C library, for instance `glibc 2.36`; "" where it does not say."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):
        return ""


def has_known_pow(library: str) -> bool:
    """Whether pow has the error bound of operations/certified.py, as glibc from 2.28 on has.

    Other libraries (Emscripten's musl says `glibc 2.14`) are told by 1,024 squares, 2^-10 ulp from the middle between
    two doubles: 68 or 28 of these go to the wrong side, with and without a fused multiply-add.
    """
    name, _, version = library.partition(" ")
    major, _, minor = version.partition(".")
    if name == "glibc" and major.isdigit() and minor.isdigit() and (int(major), int(minor)) >= (2, 28):
        return True
    return _digest([math.pow(1 + i / 1024 + 255 / 2**31, 2.0) for i in range(1024)]) in _POWERS


@cache
def exp_form() -> str:
    """Which form of exp in operations/certified.py is the C library's: "fused", "unfused", or "" for neither.

    Told by 1,024 results: of these, 5 differ between the forms, and 5 if they are rounded correctly.
    """
    return _EXPONENTIALS.get(_digest([math.exp(0.945385 * i) for i in range(-512, 512)]), "")


def _digest(results: list[float]) -> str:
    return blake2b(array("d", results).tobytes(), digest_size=8).hexdigest()
