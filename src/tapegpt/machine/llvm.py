"""LLVM through llvmlite: IR text to object code, and object code to addresses. The only module that imports llvmlite.

Importing it costs 65 to 90 ms, so it happens when code is compiled, never on a warm start.
"""

from __future__ import annotations

import ctypes
import sys
from _thread import allocate_lock

import llvmlite.binding as llvm  # type: ignore[import-untyped]  # it has no type hints

from tapegpt.machine.image import outside_addresses
from tapegpt.processes import renew_at_fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tapegpt.machine.target import Target

# Kernels are vectors already, unrolled where it pays, and compute nothing twice: LLVM's level 2 took four times as
# long, `new_gvn` 7 % of compiling, loop strength reduction 16 %, and no step was faster.
_PASSES = ("always_inliner", "sroa", "loop_rotate", "instruction_combine", "simplify_cfg")
_emitting = renew_at_fork(allocate_lock())  # LLVM's options are for all threads

if not hasattr(llvm, "create_pass_builder"):
    raise ImportError("llvmlite is too old: it has no new pass manager")

if lock := getattr(getattr(llvm.ffi.lib, "_lock", None), "_lock", None):  # llvmlite's own, which every call takes
    renew_at_fork(lock)
llvm.initialize_native_target()
llvm.initialize_native_asmprinter()


def host_cpu() -> str:
    """This CPU's name and the features that it has, as words."""
    features = [name for name, present in llvm.get_host_cpu_features().items() if present]
    return " ".join([llvm.get_host_cpu_name(), *sorted(features)])


def _machine(target: Target, level: int = 3) -> llvm.TargetMachine:
    """Code for the target: position-independent, so that it can be mapped anywhere."""
    triple = llvm.Target.from_default_triple()
    cpu = target.cpu or llvm.get_host_cpu_name()
    features = "" if target.cpu else llvm.get_host_cpu_features().flatten()
    # Large model where LLVM loads the object itself: sections may land farther apart than 2 GB.
    model = "small" if sys.platform == "linux" else "jitdefault"
    return triple.create_target_machine(cpu=cpu, features=features, opt=level, reloc="pic", codemodel=model)


def _optimise(ir: str, machine: llvm.TargetMachine) -> llvm.ModuleRef:
    """A module of IR text after LLVM's passes. Kernels carry no fast-math flag, so no pass changes a bit."""
    module = llvm.parse_assembly(ir)
    module.verify()
    passes = llvm.create_new_module_pass_manager()
    for name in _PASSES:
        getattr(passes, f"add_{name}_pass")()
    passes.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options()))
    return module


def _emit(form: str, machine: llvm.TargetMachine, module: llvm.ModuleRef) -> Any:
    """Object code or assembly text; loops are left as they are, and LLVM's options to whoever else uses it."""
    with _emitting:
        _set_option("-disable-lsr")
        try:
            return getattr(machine, f"emit_{form}")(module)
        finally:
            _set_option("-disable-lsr=false")


def _set_option(option: str) -> None:
    if llvm.llvm_version_info[0] <= 22:  # one that does not know an option ends the process
        llvm.set_option("", option)


def compile_object(ir: str, target: Target, optimised: bool = True) -> bytes:
    """Object code of a module of IR text; as it stands where it is not optimised, in a seventh of the time."""
    if optimised:
        machine = _machine(target)
        return bytes(_emit("object", machine, _optimise(ir, machine)))
    # LLVM's fast selection has `vblendvpd` read 16 bytes where a select has 8. The option cannot be unset again, and
    # matters to level 0 alone.
    _set_option("-fast-isel=false")
    return bytes(_emit("object", _machine(target, level=0), llvm.parse_assembly(ir)))


def compile_assembly(ir: str, target: Target) -> str:
    """The same as text, for readers."""
    machine = _machine(target)
    return str(_emit("assembly", machine, _optimise(ir, machine)))


class Loaded:
    """Object code loaded by LLVM, where it is not mapped directly."""

    def __init__(self, code: bytes, target: Target) -> None:
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine(target))
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        self._engine.finalize_object()
        functions = outside_addresses()
        table = self._engine.get_global_value_address("outside")
        ctypes.memmove(table, (ctypes.c_uint64 * len(functions))(*functions), 8 * len(functions))

    def address(self, symbol: str) -> int:
        return int(self._engine.get_function_address(symbol))
