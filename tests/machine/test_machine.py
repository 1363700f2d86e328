"""The machine: the code cache trusts nothing, the linker refuses what it does not know, and code runs without LLVM."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import stat
import subprocess
import sys
import time
from array import array
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapegpt import GPT, Config, Random, TapeGPTError
from tapegpt.autograd import SGD, tape
from tapegpt.data.ngrams import kernels
from tapegpt.data.tokens import Tokens
from tapegpt.data.vocabulary import Vocabulary
from tapegpt.engines import exact
from tapegpt.engines.exact import ExactEngine
from tapegpt.engines.fast.engine import FastEngine
from tapegpt.errors import TapeGPTWarning
from tapegpt.inference.automata import anything
from tapegpt.inference.forward import Inference
from tapegpt.inference.probe import Probe
from tapegpt.machine import cache, elf, host, image, language, program
from tapegpt.machine.elf import LinkError, link
from tapegpt.machine.host import available, has_known_pow, host_target
from tapegpt.machine.language import Builder, F64s, I64s, Int, Kernel, Real, kernel
from tapegpt.machine.llvm import Loaded, compile_object
from tapegpt.machine.memory import address_of
from tapegpt.machine.program import Program
from tapegpt.machine.target import AVX2, INTERPRETED, NEON, SSE2, Target
from tests.properties import skip_passes

MAPPED = pytest.mark.skipif(not image.can_map(), reason="machine code is not mapped directly here")


@kernel
def cumulate(k: Builder, x: F64s, n: Int, *, factor: float) -> None:
    total = k.zeros()
    for i in k.range(n):
        total += k.exp(x[i]) * factor
        x[i] = total


def run(made: Program) -> list[float]:
    x = array("d", [0.5, 1.0, -2.0])
    made.run("cumulate", address_of(x), 3)
    return x.tolist()


def make(factor: float = 2.0, target: Target | None = None) -> Program:
    return Program({"cumulate": (cumulate, {"factor": factor})}, target)


EXPECTED = run(make(target=INTERPRETED))


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no code of programs that still live."""
    place = tmp_path / "code"
    monkeypatch.setenv(cache.VARIABLE, str(place))
    program._shared.clear()
    return place


KEYS = [f"{number:032x}" for number in range(9)]


def entries(place: Path) -> list[Path]:
    return sorted(place.iterdir())


def forbid_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Program, may_link: bool = True) -> bytes:
        raise AssertionError("compiled again")

    monkeypatch.setattr(Program, "_compile", refuse)


def test_compiled_once_then_taken_from_the_cache(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(make()) == EXPECTED
    (entry,) = entries(fresh)
    if os.name == "posix":
        assert stat.S_IMODE(entry.stat().st_mode) == 0o600
        assert stat.S_IMODE(fresh.stat().st_mode) == 0o700
    forbid_compiling(monkeypatch)
    assert run(make()) == EXPECTED
    with pytest.raises(AssertionError):
        make(factor=3.0)


def test_code_is_forgotten_with_the_last_program_that_has_it(fresh: Path) -> None:
    made, again = make(), make()
    key = made.key()
    del made
    assert program._shared[key]() is again._code
    del again
    gc.collect()
    assert key not in program._shared


def test_code_that_ends_late_takes_nothing_newer_along(fresh: Path) -> None:
    made, other = make(), make(factor=3.0)
    program._forget(made.key(), program._shared[other.key()])
    assert make()._code is made._code


def damages(data: bytes) -> list[bytes]:
    flipped = [bytes([*data[:i], data[i] ^ 1, *data[i + 1 :]]) for i in (0, 20, 60, len(data) // 2, len(data) - 1)]
    return [b"", b"garbage", data[:10], data[:-1], data + b"\0", *flipped]


def test_a_damaged_entry_is_compiled_again(fresh: Path) -> None:
    key = make().key()
    (entry,) = entries(fresh)
    whole = entry.read_bytes()
    for damaged in damages(whole):
        entry.write_bytes(damaged)
        assert cache.read(key) is None
        assert run(make()) == EXPECTED
        assert entry.read_bytes() == whole


def test_an_entry_under_another_name_is_not_taken(fresh: Path) -> None:
    cache.write(KEYS[0], b"code of a")
    assert [cache.read(key) for key in KEYS[:2]] == [b"code of a", None]
    (fresh / (KEYS[0] + cache.SUFFIX)).rename(fresh / (KEYS[1] + cache.SUFFIX))
    assert [cache.read(key) for key in KEYS[:2]] == [None, None]


@pytest.mark.skipif(os.name != "posix", reason="owners and modes are POSIX's")
def test_an_entry_that_others_may_have_written_is_not_executed(fresh: Path) -> None:
    key = make().key()
    (entry,) = entries(fresh)
    for mode in (0o620, 0o602):
        entry.chmod(mode)
        assert cache.read(key) is None
    entry.chmod(0o644)
    assert cache.read(key) is not None
    assert cache.read(key) is not None
    target = fresh / "elsewhere"
    entry.rename(target)
    entry.symlink_to(target)
    assert cache.read(key) is None
    if os.getuid() == 0:
        entry.unlink()
        target.rename(entry)
        os.chown(entry, 12345, 12345)
        assert cache.read(key) is None
        assert run(make()) == EXPECTED  # and replaced by one that can be trusted
        assert cache.read(key) is not None


def test_without_a_cache_all_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.VARIABLE, "")
    monkeypatch.chdir(tmp_path)
    assert run(make()) == EXPECTED
    assert not cache.write(KEYS[0], b"")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["file", "file/below", "\0"])
def test_where_code_cannot_be_kept_it_runs_all_the_same(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(cache, "directory", lambda: str(tmp_path / place))
    with pytest.warns(TapeGPTWarning, match="every start compiles again: set TAPEGPT_CACHE_DIR to a directory"):
        assert run(make()) == EXPECTED
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failing_write_leaves_nothing(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.warns(TapeGPTWarning, match="No space left on device"):
        assert run(make()) == EXPECTED
    assert entries(fresh) == []


def test_a_directory_that_vanishes_while_it_is_written_costs_no_code(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanish(temporary: str, path: str) -> None:
        shutil.rmtree(fresh)
        raise FileNotFoundError(2, "No such file or directory", temporary)

    monkeypatch.setattr(os, "replace", vanish)
    with pytest.warns(TapeGPTWarning, match="No such file or directory"):
        made = make()
    assert made.compiled
    assert run(made) == EXPECTED


def test_another_process_may_have_written_the_same(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.write(KEYS[0], b"code")

    def fail(*_: object) -> None:
        raise PermissionError(13, "it is being read, which Windows minds")

    monkeypatch.setattr(os, "replace", fail)
    assert cache.write(KEYS[0], b"code")
    assert len(entries(fresh)) == 1


def aged(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def test_what_is_not_used_for_long_is_removed(fresh: Path) -> None:
    for key in KEYS[:3]:
        cache.write(key, b"code")
    files = entries(fresh)
    left = fresh / f"{KEYS[4]}{cache.SUFFIX}.0123456789abcdef"  # by a process that was killed
    others = [fresh / name for name in ("mine.txt", f"{'x' * 32}.code", "0.code")]
    for path in (left, *others):
        path.write_text("")
    for path in (*files[:2], left, *others):
        aged(path, cache.AGE - 60)
    assert cache.read(KEYS[0]) == b"code"  # it is in use, which is noted
    assert files[0].stat().st_mtime >= files[2].stat().st_mtime
    for path in (files[1], left, *others):
        aged(path, cache.AGE + 60)
    cache.write(KEYS[3], b"code")
    assert entries(fresh) == sorted([files[0], files[2], fresh / (KEYS[3] + cache.SUFFIX), *others])


def test_the_last_use_of_an_entry_is_noted_once_a_day(fresh: Path) -> None:
    cache.write(KEYS[0], b"code")
    (entry,) = entries(fresh)
    for seconds, is_noted in ((cache.NOTED - 60, False), (cache.NOTED + 60, True)):
        aged(entry, seconds)
        before = entry.stat().st_mtime
        assert cache.read(KEYS[0]) == b"code"
        assert (entry.stat().st_mtime > before) is is_noted


def test_beyond_the_limit_what_was_not_used_for_longest_is_removed(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for age, key in enumerate(KEYS[:4]):
        cache.write(key, bytes(1000))
        aged(fresh / (key + cache.SUFFIX), 100.0 * age)
    monkeypatch.setattr(cache, "LIMIT", 3 * entries(fresh)[0].stat().st_size)
    cache.write(KEYS[4], bytes(1000))
    assert [path.name.removesuffix(cache.SUFFIX) for path in entries(fresh)] == [*KEYS[:2], KEYS[4]]


def test_the_cache_lies_where_the_system_keeps_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cache.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    import platformdirs

    assert cache.directory() == platformdirs.user_cache_dir("tapegpt", appauthor=False)
    if sys.platform == "linux":
        assert cache.directory() == "/somewhere/tapegpt"
        monkeypatch.setenv("HOME", "/home/somebody")
        for nowhere in ("", "relative"):  # which the standard has ignored
            monkeypatch.setenv("XDG_CACHE_HOME", nowhere)
            assert cache.directory() == "/home/somebody/.cache/tapegpt"


def test_the_key_covers_what_decides_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    made = make()
    keys = [made.key(), make(factor=3.0).key(), Program({"other": (cumulate, {"factor": 2.0})}).key()]
    for name, value in (("cpu_identity", "other"), ("c_library", "other"), ("_llvmlite", "9")):
        with monkeypatch.context() as patch:
            patch.setattr(program, name, lambda value=value: value)
            keys.append(made.key())
    changes: list[tuple[object, str, object]] = [(language, "SOURCES", b""), (Builder, "maximum", Builder.minimum)]
    for owner, name, changed in changes:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, changed)
            keys.append(made.key())
    made.target = made.target.replace(vector_bytes=16)
    keys.append(made.key())
    made._counted = ("add",)
    keys.append(made.key())
    assert len(set(keys)) == len(keys)


@pytest.mark.slow
def test_the_key_holds_before_and_after_use() -> None:
    """Whatever a tape, an engine or an inference notes while it is used is not part of its code."""
    seen: list[Program] = []

    class Seen(Program):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            seen.append(self)

    with pytest.MonkeyPatch.context() as patch:
        for module in ("machine.program", "inference.forward", "autograd.tape"):
            patch.setattr(f"tapegpt.{module}.Program", Seen)
        keys = []
        for _ in range(2):
            model = GPT(Config(1, 8, 2, 4), Vocabulary.of("ab"), Random(1), exact.ExactEngine(Config(1, 8, 2, 4), 3))
            model.generate(3)
            model.score(["ab"])
            recorded = tape.Tape()
            x = recorded.parameter("x", 1, 2)
            y = (x * x).sum()
            recorded.forward(x)
            recorded.forward(y)
            keys.append([made.key() for made in seen])
    first, both = keys
    assert both == first + first


def test_kernels_that_change_while_they_are_compiled_are_not_kept(fresh: Path) -> None:
    step = [1]

    def change(k: Builder, x: F64s) -> None:
        x[0] = float(step[0])
        step[0] += 1

    x = array("d", [0.0])
    for expected in (1.0, 2.0):
        Program({"change": (Kernel(change), {})}).run("change", address_of(x))
        assert x[0] == expected
    assert not fresh.exists()


def test_a_package_that_changes_on_the_disk_keeps_no_code(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "sources", lambda: b"another version")
    assert run(make()) == EXPECTED
    assert not fresh.exists()


def test_loading_through_llvm_gives_the_same(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "can_map", lambda: False)
    assert run(make()) == EXPECTED
    forbid_compiling(monkeypatch)
    assert run(make()) == EXPECTED
    assert isinstance(make()._code, Loaded)


@MAPPED
def test_where_mapping_is_refused_llvm_s_loader_is_asked(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(make())
    program._shared.clear()

    def refuse(linked: image.Image) -> None:
        raise OSError(13, "machine code may not be mapped")

    monkeypatch.setattr(program, "Mapped", refuse)
    made = make()
    assert run(made) == EXPECTED
    assert isinstance(made._code, Loaded)
    assert not made.notice
    forbid_compiling(monkeypatch)  # the next process finds the object
    program._shared.clear()
    assert run(make()) == EXPECTED


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes among its files")
@pytest.mark.parametrize("make_other", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_not_read(make_other: Any, fresh: Path) -> None:
    made = make()
    entry = fresh / f"{made.key()}{cache.SUFFIX}"
    entry.unlink()
    make_other(entry)
    program._shared.clear()
    assert cache.read(made.key()) is None


@MAPPED
def test_pages_that_may_not_be_executed_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "_READ_EXECUTE", 0x03000000)  # to grow both upwards and downwards, which nothing can
    with pytest.raises(OSError, match="machine code may not be mapped"):
        image.Mapped(image.Image(bytes(64), {"outside": 0}))


@MAPPED
def test_no_page_of_code_can_be_written() -> None:
    made = make()
    assert isinstance(made._code, image.Mapped)
    start = made._code.address("cumulate")
    rights = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, right, *_ = line.split()
        first, last = (int(end, 16) for end in place.split("-"))
        rights += [right] if first <= start < last else []
    assert rights == ["r-xp"]


@pytest.mark.parametrize("error", [ImportError("No module\nnamed 'llvmlite'"), OSError(13, "not permitted")])
def test_where_no_code_can_be_made_kernels_are_interpreted(
    error: Exception, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Program) -> None:
        raise error

    monkeypatch.setattr(Program, "_load", fail)
    made = make()
    assert run(made) == EXPECTED
    assert "interpreted" in made.notice
    assert "\n" not in made.notice


def test_an_llvmlite_that_is_too_old_is_as_good_as_none(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import llvmlite.binding  # type: ignore[import-untyped]  # it has no type hints

    monkeypatch.delattr(llvmlite.binding, "create_pass_builder")
    monkeypatch.delitem(sys.modules, "tapegpt.machine.llvm")
    made = make()
    assert run(made) == EXPECTED
    assert made.notice.startswith("no machine code here (llvmlite is too old: ")


def test_code_is_optimised_but_where_operations_are_counted(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tapegpt.machine import llvm

    def doubled(k: Builder, x: F64s, counts: I64s) -> None:
        x[0] = x[0] + x[0]

    calls: list[str] = []
    optimise = llvm._optimise

    def note(ir: str, machine: Any) -> Any:
        calls.append(ir)
        return optimise(ir, machine)

    monkeypatch.setattr(llvm, "_optimise", note)
    for counted in (("add",), ()):
        assert not calls
        Program({"doubled": (Kernel(doubled), {})}, counted=counted)
    assert len(calls) == 1


@pytest.mark.parametrize("target", available(host_target()), ids=lambda target: target.name)
def test_code_that_is_not_optimised_reads_no_wider_than_it_should(target: Target) -> None:
    @kernel
    def chosen(k: Builder, x: F64s, out: F64s, n: Int, least: Real) -> None:
        total = k.zeros()
        for i in k.range(n):
            total += k.select(x[i] >= least, x[i], 1.0)
        out[0] = total

    x, out = array("d", [1.0, 2.0, 5.0]), array("d", [0.0])
    with skip_passes():
        Program({"chosen": (chosen, {})}, target).run("chosen", address_of(x), address_of(out), 3, 2.0)
    assert out[0] == 8.0


@MAPPED
def test_a_warm_start_leaves_llvm_alone(fresh: Path) -> None:
    code = (
        "import sys; from tapegpt.data.rng import Random; Random(1).gauss_array(5000);print('llvmlite' in sys.modules)"
    )
    answers = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        for _ in range(2)
    ]
    assert answers == ["True", "False"]


@pytest.mark.slow
def test_racing_processes_all_win(fresh: Path) -> None:
    code = "from tapegpt.data.rng import Random; print(Random(1).gauss_array(5000)[4999])"
    racers = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(4)]
    answers = {racer.communicate()[0] for racer in racers}
    assert len(answers) == 1
    assert all(racer.returncode == 0 for racer in racers)
    assert len(entries(fresh)) == 1


def compiled(target: Target | None = None) -> bytes:
    from tapegpt.machine.emitter import Module

    target = target or host_target()
    module = Module(target)
    module.add(cumulate, {"factor": 2.0}, "cumulate")
    return compile_object(str(module), target)


@MAPPED
def test_linked_code_needs_nothing_outside() -> None:
    linked = link(compiled())
    assert {"cumulate", "outside"} <= set(linked.symbols)
    assert all(0 <= offset < len(linked.code) for offset in linked.symbols.values())


@MAPPED
def test_an_object_that_is_not_understood_is_loaded_by_llvm(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elf, "_relocate", fail_to_link)
    assert run(make()) == EXPECTED
    forbid_compiling(monkeypatch)
    assert isinstance(make()._code, Loaded)


def fail_to_link(*_: object) -> None:
    raise LinkError("relocation 99")


@MAPPED
@given(st.binary(max_size=200), st.integers(0, 10**9), st.integers(0, 255))
def test_the_linker_survives_any_object(noise: bytes, place: int, byte: int) -> None:
    whole = WHOLE_OBJECT
    for data in (noise, whole[: place % len(whole)], flipped_at(whole, place, byte)):
        with contextlib.suppress(LinkError):
            link(data)


def flipped_at(data: bytes, place: int, byte: int) -> bytes:
    at = place % len(data)
    return bytes([*data[:at], byte, *data[at + 1 :]])


WHOLE_OBJECT = compiled() if image.can_map() else b""


def test_targets_and_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPEGPT_TARGET", "interpreted")
    assert host_target() == INTERPRETED
    assert run(make()) == EXPECTED
    monkeypatch.setenv("TAPEGPT_TARGET", "mmx")
    with pytest.raises(TapeGPTError, match=r"TAPEGPT_TARGET must be one of .*, interpreted on this machine, not 'mmx'"):
        host_target()
    assert NEON.vector_bytes == 16


@pytest.mark.slow
def test_a_target_that_is_given_is_that_of_all_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Target:
        raise AssertionError("this machine was asked")

    monkeypatch.setattr(program, "host_target", refuse)
    shape = (Config(1, 2, 1, 3), 4)
    numbers = {name: array("d", bytes(8 * rows * columns)) for name, (rows, columns) in shape[0].shapes(4).items()}
    document = Tokens(array("I", [3, 0, 3]), array("q", [0, 2]))
    recorded = tape.Tape(1, INTERPRETED)
    x = recorded.parameter("x", 1, 1, start=2.0)
    loss = x * x
    for fast in (False, True):
        recorded.compile(loss, SGD(), fast=fast)(steps=1)
    recorded.forward(loss)
    for engine in (ExactEngine(*shape, INTERPRETED), FastEngine(*shape, target=INTERPRETED)):
        engine.load_parameters(numbers)
        engine.evaluate(document)
    assert len(Inference(*shape, numbers, INTERPRETED).totals(document)) == 1
    assert len(anything("ab").ahead(0, 1, target=INTERPRETED)) == 4
    Probe(*shape, INTERPRETED)
    kernels(INTERPRETED)


def test_making_code_takes_the_time_that_is_told(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert make().compile_seconds > 0
    assert make().compile_seconds == 0
    times = iter([1.0, 3.0, 10.0, 15.0])
    monkeypatch.setattr(program, "perf_counter", lambda: next(times))
    made = make(factor=3.0)
    made._compile()
    assert made.compile_seconds == 7.0


PROCESSOR = """processor\t: {number}
vendor_id\t: GenuineIntel
model\t\t: 85
model name\t: Some CPU
cpu MHz\t\t: {number}700.000
flags\t\t: fpu sse2 avx2 fma

"""


def test_a_cpu_is_known_by_what_decides_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by its clock, which changes, nor by how many there are."""
    told, opens = tmp_path / "cpuinfo", os.open
    told.write_text(PROCESSOR.format(number=1) + PROCESSOR.format(number=2))
    monkeypatch.setattr(os, "open", lambda path, *rest: opens(told if path == "/proc/cpuinfo" else path, *rest))
    identity = host.cpu_identity.__wrapped__()
    lines = PROCESSOR.splitlines()
    assert identity.splitlines() == [*lines[1:4], lines[5]]
    assert host.detect(identity, "x86_64") is AVX2
    told.unlink()
    from tapegpt.machine.llvm import host_cpu

    name, *features = host.cpu_identity.__wrapped__().split()
    assert [name, *features] == host_cpu().split()
    assert name not in features
    assert len(set(features)) > 3 or host.machine() not in ("x86_64", "aarch64")
    monkeypatch.setitem(sys.modules, "tapegpt.machine.llvm", None)
    assert host.cpu_identity.__wrapped__() == ""


def test_the_version_of_llvmlite_is_read_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import llvmlite

    assert program._llvmlite() == llvmlite.__version__
    monkeypatch.setitem(sys.modules, "llvmlite", ModuleType("llvmlite"))  # as another thread begins to import it
    assert program._llvmlite() == llvmlite.__version__
    monkeypatch.delitem(sys.modules, "llvmlite")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert program._llvmlite() == llvmlite.__version__
    (tmp_path / "llvmlite").mkdir()
    (tmp_path / "llvmlite" / "_version.py").write_text("version_json = 1\nversion_version = '9.8'\n")
    assert program._llvmlite() == "9.8"
    assert "llvmlite" not in sys.modules
    monkeypatch.setattr(sys, "path", [])
    assert program._llvmlite() == ""


def test_the_bound_of_pow_is_claimed_for_glibc_and_where_its_results_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_known_pow("glibc 2.14") is has_known_pow(host.c_library())
    monkeypatch.setattr(host, "math", SimpleNamespace(pow=lambda x, _: x * x))  # rounded correctly
    assert has_known_pow("glibc 2.28")
    assert has_known_pow("glibc 2.41")
    assert not any(map(has_known_pow, ["glibc 2.27", "glibc", "glibc x.y", "musl 1.2", ""]))


@pytest.mark.parametrize(("form", "fuses"), [("fused", [AVX2]), ("unfused", [AVX2, SSE2]), ("", [])])
def test_exp_has_a_form_that_the_cpu_can_compute(
    monkeypatch: pytest.MonkeyPatch, form: str, fuses: list[Target]
) -> None:
    monkeypatch.setattr(host, "exp_form", lambda: form)
    for widest in (AVX2, SSE2, NEON):
        assert host.available(widest)[0].known_exp == (form if widest in fuses else "")
