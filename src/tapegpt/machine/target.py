"""What the code is made for: vector width, fused multiply-add, and the identity of the CPU and the C library.

Read from the operating system, so that a warm start need not ask LLVM. Not here: making code.
"""

from __future__ import annotations

import os
import sys

from tapegpt.errors import TapeGPTError
from tapegpt.record import Record

VARIABLE = "TAPEGPT_TARGET"  # avx512, avx2, sse2, neon or interpreted: for tests and curiosity


class Target(Record):
    """A vector unit. The exact engine's bits do not depend on it."""

    name: str
    vector_bytes: int
    registers: int  # vector registers
    fma: bool
    cpu: str = ""  # for LLVM; "" is the CPU of this machine with all it has
    features: str = ""
    certified: bool = False  # the error bound of this C library's pow is known, see operations/certified.py


AVX512 = Target("avx512", 64, 32, True)
AVX2 = Target("avx2", 32, 16, True)
SSE2 = Target("sse2", 16, 16, False)
NEON = Target("neon", 16, 32, True)
INTERPRETED = Target("interpreted", 64, 32, False)

_FORCED = {  # a narrower unit than the CPU has needs its own features, or LLVM would use the wider one's
    "avx512": AVX512.replaced(cpu="x86-64-v4"),
    "avx2": AVX2.replaced(cpu="x86-64-v3"),
    "sse2": SSE2.replaced(cpu="x86-64"),
    "neon": NEON,
    "interpreted": INTERPRETED,
}
_IDENTITY = ("vendor_id", "cpu family", "model", "stepping", "flags", "CPU ", "Features")


def cpu_identity() -> str:
    """What tells this CPU from others with other instructions; "" where the system does not say (not Linux)."""
    try:
        descriptor = os.open("/proc/cpuinfo", os.O_RDONLY)
    except OSError:
        return ""
    try:
        text = os.read(descriptor, 8192).decode("ascii", "replace")
    finally:
        os.close(descriptor)
    first = text.partition("\n\n")[0]
    return "\n".join(line for line in first.splitlines() if line.startswith(_IDENTITY))


def c_library() -> str:
    """Name and version of the C library, for instance `glibc 2.36`; "" where it does not say."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):
        return ""


def has_known_pow(library: str) -> bool:
    """Whether this is a glibc of 2.28 or later, whose pow is bounded by 0.52 ulp (see operations/certified.py)."""
    name, _, version = library.partition(" ")
    major, _, minor = version.partition(".")
    return name == "glibc" and major.isdigit() and minor.isdigit() and (int(major), int(minor)) >= (2, 28)


def detect(identity: str, machine: str) -> Target:
    """The widest vector unit of a CPU that names its features."""
    if machine in ("aarch64", "arm64"):
        return NEON
    flags = set(identity.split())
    if {"avx512f", "avx512dq", "avx512vl", "avx512bw"} <= flags:
        return AVX512
    if {"avx2", "fma"} <= flags:
        return AVX2
    return SSE2


def host_target() -> Target:
    """The target of this process: `TAPEGPT_TARGET` if set, else the CPU's widest.

    Raises `TapeGPTError` for a name that is not known.
    """
    forced = os.environ.get(VARIABLE)
    if forced and forced not in _FORCED:
        raise TapeGPTError(f"{VARIABLE} must be one of {', '.join(_FORCED)}, not {forced!r}")
    target = _FORCED[forced] if forced else detect(cpu_identity() or _features_from_llvm(), _machine())
    return target.replaced(certified=target.fma and has_known_pow(c_library()))


def _machine() -> str:
    return os.uname().machine if hasattr(os, "uname") else os.environ.get("PROCESSOR_ARCHITECTURE", "").lower()


def _features_from_llvm() -> str:
    """Feature names in the manner of /proc/cpuinfo, where LLVM has to be loaded anyhow (not Linux)."""
    if sys.platform == "linux":
        return ""
    from tapegpt.machine.llvm import host_features

    return " ".join(host_features())
