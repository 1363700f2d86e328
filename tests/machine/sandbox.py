"""Programs as WebAssembly modules in wasmtime, which are called like others: `Sandbox` in place of `Program`."""

from __future__ import annotations

import ctypes
from functools import partial
from typing import Any, cast

import wasmtime

from tapegpt.machine.interpreter import LIBM
from tapegpt.machine.memory import Address
from tapegpt.machine.program import Argument, Program

PAGE = 65536
ENGINE = wasmtime.Engine()


class Sandbox(Program):
    """What a call's addresses lead to is copied into the module's memory, and back after the call."""

    def _load(self) -> None:
        module = wasmtime.Module(ENGINE, self.wasm())
        self._store = wasmtime.Store(ENGINE)
        imports = [self._outside(each.name or "") for each in module.imports]
        exports = wasmtime.Instance(self._store, module, imports).exports(self._store)
        self._memory: Any = exports["memory"]
        self._start = cast("wasmtime.Global", exports["__heap_base"]).value(self._store)
        for name in self._signatures:
            self._functions[name] = partial(self._call, name, cast("wasmtime.Func", exports[name]))
        self._code = module

    def _outside(self, name: str) -> wasmtime.Func:
        kind = wasmtime.ValType.f64()
        kinds = wasmtime.FuncType([kind] * (2 if name == "pow" else 1), [kind])
        return wasmtime.Func(self._store, kinds, LIBM[name])

    def _call(self, name: str, function: wasmtime.Func, *arguments: Argument) -> None:
        addresses = [each for each in arguments if isinstance(each, Address)]
        blocks = {_end(each): each.view for each in sorted(addresses, key=lambda each: len(each.view))}
        stops, stop = {}, self._start
        for end, block in blocks.items():
            stops[end] = stop = -(-stop // 64) * 64 + len(block)
        self._memory.grow(self._store, max(0, -(-stop // PAGE) - self._memory.size(self._store)))
        start = ctypes.addressof(self._memory.data_ptr(self._store).contents)
        for end, block in blocks.items():
            ctypes.memmove(start + stops[end] - len(block), bytes(block), len(block))
        kinds = self._signatures[name].kinds.values()
        numbers = [
            stops[_end(each)] - len(each.view)
            if isinstance(each, Address)
            else float(each)
            if kind == "d"
            else int(each)
            for each, kind in zip(arguments, kinds, strict=True)
        ]
        function(self._store, *numbers)
        for end, block in blocks.items():
            if not block.readonly:
                block[:] = ctypes.string_at(start + stops[end] - len(block), len(block))


def _end(address: Address) -> int:
    """Where the memory ends that an address leads to: others may lead into the same."""
    return address.number + len(address.view)
