"""The command as typed: what it prints, what it writes, and one clear line for whatever goes wrong."""

from __future__ import annotations

import io
import json
import os
import pty
import random
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

import tapegpt
from tapegpt import Corpus
from tapegpt.cli import main
from tapegpt.text import unescape_line
from tapegpt.training.presets import resolve
from tapegpt.training.trainer import Trainer

NAMES = ["anna", "otto", "bob", "hannah", "eve", "ada", "natan", "aviva"]
COMMAND = [sys.executable, "-m", "tapegpt"]
SMALL = ["--n-embd", "4", "--n-head", "1", "--block-size", "7"]  # which is compiled or interpreted quickly


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test in a directory of its own, with some names in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.txt").write_text("\n".join(NAMES) + "\n")
    return tmp_path


def run(
    *arguments: str, before: Callable[[], None] | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The command done, after a call in its process, with some more environment variables."""
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=before,  # the tests have no threads
        env={**os.environ, **environment},
    )


def shell(command: str) -> subprocess.CompletedProcess[str]:
    """A shell's command done, in which `tapegpt` is ours."""
    function = f"tapegpt() {{ '{sys.executable}' -m tapegpt \"$@\"; }}"
    return subprocess.run(["sh", "-c", f"{function}; {command}"], capture_output=True, text=True, timeout=60)


def typed(*arguments: str) -> list[str]:
    """What is printed, by a process of its own, with nothing to be said beside it."""
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def output(*arguments: str) -> list[str]:
    """The same without one."""
    out, said = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    with redirect_stdout(out), redirect_stderr(said):
        code = main(list(arguments))
    assert (code, said.getvalue()) == (0, "")
    out.seek(0)
    return out.read().splitlines()


def refusal(*arguments: str) -> str:
    """The one line of a command that is refused, here without a process of its own; nothing else happens."""
    before, lines = sorted(os.listdir()), io.StringIO()
    with redirect_stdout(io.TextIOWrapper(io.BytesIO(), encoding="utf-8")), redirect_stderr(lines):
        assert main(list(arguments)) == 2, lines.getvalue()
    assert re.fullmatch(r"tapegpt: error: [^\n]+\n", lines.getvalue()), lines.getvalue()
    assert sorted(os.listdir()) == before
    return lines.getvalue()


# --- the main job -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_without_arguments_it_trains_on_the_embedded_names() -> None:
    lines = typed()
    assert lines[:4] == ["num docs: 5163", "vocab size: 27", "num params: 4192", "step 1000 / 1000 | loss 2.1466"]
    assert lines[4:7] == ["sample  1: shela", "sample  2: marin", "sample  3: selele"]
    assert len(lines) == 24
    assert lines[23].startswith("sample 20: ")


@pytest.mark.slow
def test_without_arguments_it_trains_on_input_txt(place: Path) -> None:
    shutil.copy("names.txt", "input.txt")
    assert typed() == typed("train", "names.txt")
    assert typed()[0] == "num docs: 8"


def test_the_published_strings(shared: Path) -> None:
    lines = output("train", str(shared / "data" / "names.txt"))
    assert lines[:4] == ["num docs: 32033", "vocab size: 27", "num params: 4192", "step 1000 / 1000 | loss 2.6497"]
    strings = (shared / "oracle" / "names_default_samples.txt").read_text().split()
    assert lines[4:] == [f"sample {number:2d}: {string}" for number, string in enumerate(strings, 1)]


def test_options_alone_are_those_of_train() -> None:
    assert output("--steps", "3", "--samples", "0") == output("train", "--steps", "3", "--samples", "0")


@pytest.mark.slow
def test_options_reach_the_model() -> None:
    shape = {"n_layer": 2, "n_embd": 12, "n_head": 3, "block_size": 5}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in shape.items()]
    options += ["--steps=7", "--learning-rate=0.02", "--seed=9", "--temperature=0.9", "--samples=3"]
    done = run("train", "names.txt", *options)
    assert re.fullmatch(r"tapegpt: note: 3 of 8 documents are cut, [^\n]+\n", done.stderr)
    lines = done.stdout.splitlines()
    trainer = tapegpt.Trainer(
        tapegpt.Corpus.read("names.txt"), tapegpt.Config(**shape), steps=7, learning_rate=0.02, seed=9
    )
    losses = trainer.run(7)
    model = trainer.model
    assert lines[2] == f"num params: {model.num_parameters}"
    assert lines[3] == f"step    7 /    7 | loss {losses[-1]:.4f}"
    strings = model.generate(3, temperature=0.9)
    assert lines[4:] == [f"sample {number:2d}: {string}" for number, string in enumerate(strings, 1)]


@pytest.mark.slow
def test_both_engines_print_the_same() -> None:
    options = ["train", "names.txt", "--steps", "3", *SMALL, "--samples", "2"]
    assert typed(*options, "--engine", "reference") == typed(*options)


@pytest.mark.slow
def test_interpreted_kernels_print_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["train", "names.txt", "--steps", "2", *SMALL, "--samples", "1"]
    compiled = typed(*options)
    monkeypatch.setenv("TAPEGPT_TARGET", "interpreted")
    assert typed(*options) == compiled
    monkeypatch.setenv("TAPEGPT_TARGET", "z80")
    done = run(*options)
    assert done.returncode == 2
    assert re.fullmatch(r"tapegpt: error: [^\n]*TAPEGPT_TARGET must be one of[^\n]+\n", done.stderr)


@pytest.mark.slow
def test_without_llvmlite_one_line_says_so(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    options = ["train", "names.txt", "--steps", "2", *SMALL, "--samples", "1"]
    compiled = typed(*options)
    (place / "llvmlite.py").write_text("raise ImportError('No module named llvmlite')")
    monkeypatch.setenv("PYTHONPATH", str(place))
    monkeypatch.setenv("TAPEGPT_CACHE_DIR", "")
    done = run(*options)
    assert done.stdout.splitlines() == compiled
    assert re.fullmatch(
        r"tapegpt: note: no machine code here \(.*llvmlite.*\): the kernels are interpreted.*\n", done.stderr
    )


def test_data_sets() -> None:
    assert output("train", "--dataset", "surnames", "--steps", "1", "--samples", "0")[0] == "num docs: 88799"
    assert output("train", "--dataset", "names", "--steps", "1", "--samples", "0")[0] == "num docs: 5163"


@pytest.mark.slow
def test_encodings(place: Path) -> None:
    (place / "latin").write_bytes("façade\nnoël\n".encode("latin-1"))
    error = refusal("train", "latin")
    assert "latin: line 1, byte 2: 0xe7 is not utf-8: choose another, for instance --encoding" in error
    lines = output("train", "latin", "--encoding", "latin-1", "--steps", "1", "--samples", "0")
    assert lines[:2] == ["num docs: 2", f"vocab size: {len(set('façadenoël')) + 1}"]


# --- files ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_generate_goes_on_where_training_ended() -> None:
    samples = output("train", "names.txt", "--steps", "20")[4:]
    output("train", "names.txt", "--steps", "20", "--samples", "0", "-o", "m")
    strings = output("generate", "m")
    assert [f"sample {number:2d}: {string}" for number, string in enumerate(strings, 1)] == samples
    assert output("generate", "m") == strings
    assert output("generate", "m", "-n", "3", "--seed", "5") == output("generate", "m", "-n", "3", "--seed", "5")
    assert output("generate", "m", "-n", "0") == []


@pytest.mark.slow
def test_samples_drawn_are_not_drawn_again() -> None:
    output("train", "names.txt", "--steps", "20", "--samples", "4", "-o", "m4")
    output("train", "names.txt", "--steps", "20", "--samples", "0", "-o", "m0")
    assert output("generate", "m0", "-n", "9")[4:] == output("generate", "m4", "-n", "5")


@pytest.mark.slow
def test_metrics_round_trip() -> None:
    output("train", "names.txt", "--steps", "70", "--samples", "0", "--metrics", "losses")
    losses: list[float] = []
    tapegpt.train("names.txt", steps=70, callbacks=[lambda _, new: losses.extend(new)])
    rows = [json.loads(line) for line in Path("losses").read_text().splitlines()]
    assert rows == [{"step": step, "loss": loss} for step, loss in enumerate(losses, 1)]


@pytest.mark.slow
def test_metrics_hold_every_evaluation() -> None:
    options = ("--steps", "45", "--validation", "0.1", "--engine", "fast", "--threads", "1")
    output("train", "names.txt", *options, "--samples", "0", "--metrics", "losses")
    config, settings = resolve({"engine": "fast", "steps": 45, "validation": 0.1, "threads": 1})
    trainer = Trainer(Corpus.read("names.txt"), config, settings)
    for _ in trainer.chunks():
        pass
    rows = [json.loads(line) for line in Path("losses").read_text().splitlines()]
    held_out = [row for row in rows if "held_out" in row]
    assert held_out == [{"step": e.step, "held_out": e.loss} for e in trainer.evaluations]
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 46))
    assert held_out[-1]["step"] == 45


# --- the terminal -----------------------------------------------------------------------------------------------


def on_terminal(*arguments: str, **environment: str) -> tuple[int, str]:
    """Exit code and what is seen, with some more environment variables."""
    reader, writer = pty.openpty()
    variables = {**os.environ, "TERM": "xterm", **environment}
    process = subprocess.Popen([*COMMAND, *arguments], stdout=writer, stderr=writer, env=variables)
    os.close(writer)
    text = b""
    try:
        while block := os.read(reader, 4096):
            text += block
    except OSError:  # how Linux says that the other side is closed
        pass
    os.close(reader)
    return process.wait(timeout=60), text.decode()


def test_on_a_terminal_the_step_line_is_updated_in_place() -> None:
    code, text = on_terminal("train", "names.txt", "--steps", "400", "--samples", "1")
    assert code == 0
    lines = text.split("\r\n")
    assert lines[2].startswith("num params: ")
    steps = lines[3].split("\r")
    assert len(steps) > 3
    shown = r"step +\d+ /  400 \| loss \d+\.\d{4} \| [\d,.]+ steps/(s|min), \d+:\d\d left\x1b\[K"
    assert all(re.fullmatch(shown, step) for step in steps[1:-1])
    assert re.fullmatch(r"\x1b\[Kstep  400 /  400 \| loss \d+\.\d{4}", steps[-1])
    assert lines[4].startswith("sample  1: ")


@pytest.mark.slow
def test_a_reader_that_leaves_is_no_error() -> None:
    done = shell("tapegpt | head -n 1")
    assert (done.stdout, done.stderr) == ("num docs: 5163\n", "")
    done = shell("(sleep 0.2; tapegpt --steps 2 -o m; echo $? >code) | true")
    assert done.stderr == ""
    assert Path("code").read_text() == "141\n"  # m has not been made
    output("train", "names.txt", "--steps", "2", "--samples", "0", "-o", "m")
    done = shell("tapegpt generate m -n 1000000000 | head -n 2 | wc -l")
    assert (done.stdout.strip(), done.stderr) == ("2", "")


@pytest.mark.slow
def test_a_terminal_that_can_do_little_gets_plain_lines() -> None:
    for arguments in (["train", "names.txt", "--steps", "400", "--samples", "1"], ["show", "--stage", "kernels"]):
        for variables in ({"TERM": "dumb"}, {"TERM": "dumb", "NO_COLOR": "1"}):
            code, text = on_terminal(*arguments, **variables)
            assert (code, "\x1b" in text, "\r" in text.replace("\r\n", "")) == (0, False, False)


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # as far as Python can be told


@pytest.mark.slow
@pytest.mark.parametrize("variables", [ASCII, {"LC_ALL": "C"}, {"LC_ALL": "POSIX"}, {"PYTHONIOENCODING": "utf-8"}])
def test_what_is_written_is_utf_8_whatever_the_locale(place: Path, variables: dict[str, str]) -> None:
    (place / "żółw.txt").write_text("żółw\n", encoding="utf-8")
    command = [*COMMAND, "train", "./żółw.txt", "--steps", "200", "--samples", "9"]
    done = subprocess.run(command, capture_output=True, timeout=60, env={**os.environ, **variables})
    assert (done.returncode, done.stderr) == (0, b"")
    assert "żółw" in done.stdout.decode("utf-8")


@pytest.mark.slow
def test_what_an_encoding_that_is_asked_for_does_not_have(place: Path) -> None:
    """Python's word counts; on a terminal, which shows and does not keep, an escape stands for it."""
    (place / "żółw.txt").write_text("żółw\n")
    command = ["train", "żółw.txt", "--steps", "1", "--samples", "3"]
    done = run(*command, PYTHONIOENCODING="ascii")
    message = "output cannot be written: '\\u017c' is not ascii: leave PYTHONIOENCODING out"
    assert (done.returncode, done.stderr) == (2, f"tapegpt: error: {message}\n")
    done = run(*command, PYTHONIOENCODING="ascii:backslashreplace")
    for code, text in ((done.returncode, done.stdout), on_terminal(*command, **ASCII)):
        assert code == 0
        assert "\\u017c" in text


@pytest.mark.slow
def test_strings_of_several_lines_stay_a_line_each(place: Path) -> None:
    """And nothing in them reaches a terminal."""
    (place / "poems").write_text("a\nb\n\nb\x1b[31m\n\n\\a\n")
    done = run("train", "poems", "--delimiter", "blank", "--steps", "9", "--samples", "9", "--run-dir", "run")
    assert re.fullmatch(r"tapegpt: note: the documents have control characters, '\\x1b': [^\n]+\n", done.stderr)
    samples = [line.partition(": ")[2] for line in done.stdout.splitlines() if line.startswith("sample")]
    assert Path("run/samples.txt").read_text().splitlines() == samples
    model = tapegpt.load("run/model.safetensors")
    strings = model.generate(200, seed=1, temperature=1.0)
    assert any("\n" in text for text in strings)
    assert any("\\" in text for text in strings)
    done = run("generate", "run/model.safetensors", "-n", "200", "--seed", "1", "--temperature", "1")
    assert list(map(unescape_line, done.stdout.splitlines())) == strings
    assert "\x1b" not in done.stdout
    done = run("generate", "run/model.safetensors", "-n", "200", "--seed", "1", "--temperature", "1", "--print0")
    assert done.stdout == "".join([f"{text}\0" for text in strings])
    scored = subprocess.run(
        [*COMMAND, "score", "run/model.safetensors"], input="a\\b\x1b[0m\n", capture_output=True, text=True
    )
    assert unescape_line(scored.stdout.splitlines()[1][22:].partition("  (")[0]) == "a\\b\x1b[0m"
    assert "\x1b" not in scored.stdout


def test_a_message_is_one_line() -> None:
    assert refusal("train", "no\nsuch\x1b[31mfile").count("\n") == 1


@pytest.mark.slow
def test_streams_that_are_full_or_closed() -> None:
    full = shell("tapegpt > /dev/full")
    assert (full.returncode, full.stderr) == (2, "tapegpt: error: output cannot be written: No space left on device\n")
    assert shell("tapegpt generate missing 2> /dev/full").returncode == 2
    closed = shell("tapegpt --steps 2 -o m <&- >&- 2>&-")
    assert (closed.returncode, tapegpt.load("m").steps) == (0, 2)


def test_on_a_terminal_an_error_has_a_line_of_its_own() -> None:
    done, text = on_terminal("train", "names.txt", "--learning-rate", "1000")
    assert done == 2
    lines = text.split("\r\n")
    assert re.search(r"\x1b\[Kstep +\d+ / 1000 \| loss \S+$", lines[3])
    assert lines[4].startswith("tapegpt: error: the loss or a gradient is not finite")


# --- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train missing.txt", "missing.txt: no such file"),
        ("train .", "./bad: line 2, byte 5: 0xff is not utf-8"),
        ("train ''", "no such file"),
        ("train empty", "empty: no document in it"),
        ("train blank", "blank: no document in it"),
        ("train bad", "bad: line 2, byte 5: 0xff is not utf-8: choose another, for instance --encoding"),
        ("train bad --encoding nonsense", "--encoding 'nonsense' is not known"),
        ("train names.txt --n-embd 10", "10 is no multiple of 4: choose --n-head from 1, 2, 5, 10"),
        ("train names.txt --n-head 5", "--n-embd must be a multiple of --n-head"),
        ("train names.txt --dataset names", "exclude each other"),
        ("train --dataset cities", "--dataset"),
        ("train names.txt --engine faster", "--engine"),
        ("train names.txt --samples -1", "--samples must be a whole number from 0 on, not -1"),
        ("train names.txt --temperature -1", "--temperature must be 0 or a number from 0.001 to 1000, not -1.0"),
        ("train names.txt --n-embd 8192 --n-head 1", "the limit is 100,000,000"),
        ("train names.txt --n-layer 200 --block-size 8192", "choose"),
        ("train names.txt -o missing/m", "there is no directory"),
        ("train names.txt -o .", "is a directory"),
        ("train names.txt -o /dev/null", "is not a regular file"),
        ("train names.txt -o names.txt", "--output names.txt is DATA too"),
        ("train names.txt --metrics names.txt", "--metrics names.txt is DATA too"),
        ("train names.txt -o hard", "--output hard is DATA too"),
        ("train names.txt --metrics hard", "--metrics hard is DATA too"),
        ("train names.txt --metrics soft", "--metrics soft is DATA too"),
        ("train names.txt -o m --metrics m", "--metrics m is --output too"),
        ("train names.txt -o m --metrics ./new/../m", "--metrics ./new/../m is --output too"),
        ("train names.txt -o ''", "the name of a file to write is empty: give one"),
        ("train names.txt --metrics ''", "--metrics : cannot be written"),
        ("train names.txt --metrics .", "--metrics .: cannot be written"),
        ("train names.txt --metrics missing/m", "--metrics missing/m: cannot be written"),
        ("train names.txt --metrics /dev/full", "--metrics /dev/full: cannot be written: No space left"),
        ("train names.txt more", "more: no such file"),
        ("train names.txt --step 3", "unrecognized arguments: --step 3"),
        ("sing", "COMMAND must be one of train, resume, "),
        ("--step 3", "unrecognized arguments: --step"),
        ("generate", "MODEL"),
        ("generate missing", "missing: no such file"),
        ("generate ''", "the name of a model file is empty"),
        ("generate names.txt", "names.txt: not a model of tapegpt"),
        ("generate .", "./model.safetensors: no such file"),
        ("generate names.txt -n x", "-n must be a whole number from 0 on, not 'x'"),
        ("generate model -n -1", "-n must be a whole number from 0 on, not -1"),
        ("generate model --temperature nan", "--temperature must be 0 or a number from 0.001 to 1000, not nan"),
        ("generate model --seed 1e3", "--seed must be a whole number, not '1e3'"),
    ],
)
def test_bad_input_gets_one_line(arguments: str, message: str, place: Path) -> None:
    (place / "empty").write_bytes(b"")
    (place / "blank").write_bytes(b" \r\n\t\n\xe2\x80\x83\n")
    (place / "bad").write_bytes(b"abc\nd\xff\n")
    os.link("names.txt", "hard")
    os.symlink("names.txt", "soft")
    if "model" in arguments:
        tapegpt.save(tapegpt.train(NAMES, steps=1), "model")
    assert message in refusal(*shlex.split(arguments))
    assert Path("names.txt").read_text().split() == NAMES


@pytest.mark.slow
def test_input_txt_is_not_overwritten(place: Path) -> None:
    shutil.copy("names.txt", "input.txt")
    for option in ("-o", "--metrics"):
        assert "input.txt is DATA too" in refusal(option, "input.txt")
        assert "input.txt is DATA too" in refusal("train", option, str(place / "input.txt"))
    output("--dataset", "names", "--steps", "1", "--metrics", "input.txt")  # then it is not what is read


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="the special files of Linux")
def test_special_files_get_one_line() -> None:
    assert "cannot be read: Input/output error" in refusal("train", "/proc/self/mem")
    assert "/dev/null: no document in it" in refusal("train", "/dev/null")
    for option in ("-o", "--metrics"):
        assert "/proc/x" in refusal("train", "names.txt", option, "/proc/x")
    assert "/dev/full: is not a regular file" in refusal("train", "names.txt", "-o", "/dev/full")


@pytest.mark.slow
def test_memory_that_is_not_there_gets_one_line() -> None:
    with open("large", "wb") as file:
        file.truncate(1 << 28)
    for command in ("train", "generate"):
        done = run(command, "large", before=lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 27, 1 << 27)))
        assert done.returncode == 2
        assert done.stderr == "tapegpt: error: not enough memory: choose a smaller model or less data\n"


NUMBERS = ["--steps", "--n-layer", "--n-embd", "--n-head", "--block-size", "--learning-rate", "--temperature"]


@pytest.mark.parametrize("option", NUMBERS)
def test_absurd_numbers_get_one_line(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    for number in ("0", "-1", "1" + 30 * "0", "9" * 5000, "nan", "inf", "-inf", "1e999", "abc", "", "0x10", "1,5", "½"):
        if (option, number) == ("--temperature", "0"):
            continue
        assert main(["train", "names.txt", f"{option}={number}"]) == 2, number
        captured = capsys.readouterr()
        assert re.fullmatch(r"tapegpt: error: [^\n]{1,300}\n", captured.err)
    assert os.listdir() == ["names.txt"]


@pytest.mark.parametrize("option", ["--seed", "--samples"])
def test_what_is_no_whole_number_gets_one_line(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    for number in ("9" * 5000, "nan", "inf", "1.0", "1e999", "abc", "", "0x10", "½"):
        assert main(["train", "names.txt", f"{option}={number}"]) == 2, number
        assert re.fullmatch(r"tapegpt: error: [^\n]{1,300}\n", capsys.readouterr().err)


def test_any_whole_number_is_a_seed() -> None:
    for seed in (0, -1, 10**30):
        lines = output("train", "names.txt", "--steps", "2", "--samples", "2", f"--seed={seed}")
        strings = tapegpt.train("names.txt", steps=2, seed=seed).generate(2)
        assert lines[4:] == [f"sample {number:2d}: {string}" for number, string in enumerate(strings, 1)]


@pytest.mark.parametrize("option", ["--help", "--version", "train --help"])
def test_help_meets_broken_streams_quietly(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # text that waits in a buffer is what fails late
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COMMAND, *option.split()], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (
        2,
        "tapegpt: error: output cannot be written: No space left on device\n",
    )
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as left:
        done = subprocess.run([*COMMAND, *option.split()], stdout=left, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (141, "")


def test_outputs_are_checked_before_training() -> None:
    for option, place in (("-o", "missing/m"), ("--metrics", "missing/m"), ("-o", ".")):
        done = run("train", "names.txt", option, place, "--steps", "1000")
        assert (done.returncode, "step" in done.stdout) == (2, False)


def test_unwritable_directories_are_refused(place: Path) -> None:
    (place / "locked").mkdir(mode=0o500)
    arguments = ["train", "names.txt", "-o", "locked/m"]
    if os.access(place / "locked", os.W_OK):  # nothing is locked for root
        output(*arguments, "--steps", "1", "--samples", "0")
    else:
        assert "cannot be written" in refusal(*arguments) or "not writable" in refusal(*arguments)


def test_a_full_disk_loses_nothing(place: Path) -> None:
    (place / "m").write_bytes(b"old")
    arguments = ("train", "names.txt", "-o", "m")
    done = run(*arguments, before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)))
    assert done.returncode == 2
    error = done.stderr.splitlines()[-1]  # before it maybe that no code can be kept either
    assert error.startswith("tapegpt: error: m: cannot be written: File too large")
    assert (place / "m").read_bytes() == b"old"
    assert sorted(os.listdir()) == ["m", "names.txt"]


@pytest.mark.slow
def test_a_damaged_model_is_refused(place: Path) -> None:
    output("train", "names.txt", "--steps", "1", "--samples", "0", "-o", "m")
    whole = (place / "m").read_bytes()
    for damaged in (whole[:-1], whole[:1000], b"", bytes([*whole[:-9], whole[-9] ^ 4, *whole[-8:]])):
        (place / "m").write_bytes(damaged)
        assert "m: not a model of tapegpt" in refusal("generate", "m")


def test_divergence_keeps_what_was_good(place: Path) -> None:
    done = run("train", "names.txt", "--learning-rate", "0.3", "-o", "m", "--metrics", "losses")
    assert done.returncode == 2
    found = re.fullmatch(r"tapegpt: error: the loss or a gradient is not finite at step (\d+), [^\n]*\n", done.stderr)
    assert found
    steps = int(found[1]) - 1
    trainer = tapegpt.Trainer(tapegpt.Corpus.read("names.txt"), tapegpt.Config(), learning_rate=0.3)
    losses = trainer.run(steps)
    assert steps > 5  # not at the begin of a chunk
    assert tapegpt.load("m").steps == steps
    assert tapegpt.load("m").parameters == trainer.model.parameters
    assert [json.loads(line)["loss"] for line in Path("losses").read_text().splitlines()] == losses


@pytest.mark.slow
def test_a_damaged_cache_changes_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["train", "names.txt", "--steps", "5", *SMALL]
    monkeypatch.setenv("TAPEGPT_CACHE_DIR", str(place / "cache"))
    expected = typed(*options)
    entries = {path: path.read_bytes() for path in (place / "cache").iterdir()}
    assert entries
    for damage in ("garbage", "cut", "flip", "open to all"):
        for path, data in entries.items():
            middle = len(data) // 2
            flip = bytes([*data[:middle], data[middle] ^ 16, *data[middle + 1 :]])
            damaged = {"garbage": b"\x90" * 5000, "cut": data[:middle], "flip": flip, "open to all": data}
            path.write_bytes(damaged[damage])
            path.chmod(0o666 if damage == "open to all" else 0o600)
        assert typed(*options) == expected, damage
        assert {path: path.read_bytes() for path in (place / "cache").iterdir()} == entries, damage  # made again
        assert not any(path.stat().st_mode & 0o077 for path in entries), damage


@pytest.mark.slow
def test_no_cache_changes_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be kept is said once, however many programs are compiled."""
    options = ["train", "names.txt", "--steps", "5", *SMALL, "--validation", "0.2"]
    expected = typed(*options)
    for cache in ("", "names.txt", "names.txt/below", "/dev/full", "/proc/x", "a\nb"):
        monkeypatch.setenv("TAPEGPT_CACHE_DIR", cache)
        assert main(options) == 0
        printed, said = capsys.readouterr()
        assert printed.splitlines() == expected, cache
        note = f"tapegpt: note: compiled code cannot be kept in {cache} ("
        assert said.count("\n") == said.startswith(note) == (cache not in ("", "a\nb")), cache
        assert Path("names.txt").read_text().split() == NAMES


# --- interruptions ----------------------------------------------------------------------------------------------


def interrupted(after: float, *arguments: str, number: signal.Signals = signal.SIGINT) -> tuple[int, str]:
    """Exit code and stderr of a command that gets a signal once training has begun, or after some seconds."""
    process = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    if after >= 0:
        time.sleep(after)
    else:
        while not process.stdout.readline().startswith("num params"):
            pass
        time.sleep(-after)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_keeps_what_is_trained(number: signal.Signals) -> None:
    arguments = ["train", "names.txt", "--steps", "100000000", "-o", "m", "--metrics", "losses"]
    code, errors = interrupted(-0.2, *arguments, number=number)
    assert code == 130
    found = re.fullmatch(r"tapegpt: error: interrupted after step (\d+) of 100000000, saved to m\n", errors)
    assert found
    model = tapegpt.load("m")
    assert model.steps == int(found[1])
    rows = [json.loads(line) for line in Path("losses").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, model.steps + 1))


def test_an_interrupted_run_is_the_run_so_far() -> None:
    code, _ = interrupted(-0.1, "train", "names.txt", "--steps", "1000000", "-o", "m")
    assert code == 130
    model = tapegpt.load("m")
    trainer = tapegpt.Trainer(tapegpt.Corpus.read("names.txt"), tapegpt.Config(), steps=1_000_000)
    trainer.run(model.steps)
    assert trainer.model.parameters == model.parameters


@pytest.mark.slow
def test_an_interruption_at_any_moment_is_quiet() -> None:
    rng = random.Random(0)
    for _ in range(10):
        code, errors = interrupted(rng.uniform(0.03, 0.3), "train", "names.txt", "--steps", "3000", "-o", "m")
        assert not re.search(r'cli\.py", line \d+, in ', errors.replace("in <module>", ""))
        # Other codes are Python's, where it was starting itself; its import lock drops an interruption, and says so.
        if code in (0, 130) and "in cb\nKeyboardInterrupt" not in errors:
            assert "Traceback" not in errors
        assert not [name for name in os.listdir() if name.endswith(".tmp")]
        if os.path.exists("m"):
            tapegpt.load("m")
            os.unlink("m")


def test_an_interruption_of_generate_is_quiet() -> None:
    tapegpt.save(tapegpt.train(NAMES, steps=1), "m")
    with subprocess.Popen(
        [*COMMAND, "generate", "m", "-n", str(10**30)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert first == tapegpt.load("m").generate(1)[0] + "\n"
    assert (process.returncode, errors) == (130, "tapegpt: error: interrupted\n")


# --- in the process ---------------------------------------------------------------------------------------------


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, start in ((["--version"], f"tapegpt {tapegpt.__version__}\n"), (["train", "--help"], "usage: ")):
        assert main(arguments) == 0
        assert capsys.readouterr().out.startswith(start)
