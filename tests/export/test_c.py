"""A model as C99, compiled without a warning and run with sanitizers: the engine's own strings and probabilities."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from operator import ne
from pathlib import Path
from typing import Any

import pytest

import tapegpt
from tapegpt import GPT
from tapegpt.export.c import export
from tests.export.examples import HOSTILE, STRINGS, Exported, trained, untrained
from tests.machine.languages import compile_c
from tests.properties import many

KINDS: list[Any] = [("exact", "gpt"), ("exact", "modern"), ("exact", "mlp"), ("fast", "gpt"), ("fast", "gru")]
DRIVER = r"""
#define TAPEGPT_HEADER
#include "model.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* labels, their columns and values; strings, seed, temperature, length, prefix; texts to score */
int main(int argc, char **argv)
{
    static char out[1 << 16];
    double p[TAPEGPT_TOKENS];
    int i = 2, labels = atoi(argv[1]), none = 0;
    for (; labels; labels--, i += 2) printf("%d\n", tapegpt_label(argv[i], argv[i + 1]));
    tapegpt_seed(strtoull(argv[i + 1], NULL, 10));
    for (int n = atoi(argv[i]); n; n--) {
        int size = tapegpt_generate(out, sizeof out, argv[i + 4], atoi(argv[i + 3]), strtod(argv[i + 2], NULL));
        printf("%d ", size);
        for (int at = 0; at < size; at++) printf("%02x", (unsigned)out[at] & 255u);
        printf("\n");
    }
    for (i += 5; i < argc; i++) {
        none = tapegpt_next(argv[i], p);
        printf("%a %d", tapegpt_score(argv[i]), none);
        for (int token = 0; token < TAPEGPT_TOKENS; token++) printf(" %a", p[token]);
        printf("\n");
        if (none) return 0;
    }
    tapegpt_generate(out, 3, argv[i - 1], 0, 1.0);
    return strlen(out) > 2;
}
"""
Run = Callable[..., list[list[str]]]


@pytest.fixture(params=["gcc", "clang"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[GPT], Run]:
    """Compiles a model, to be called with the arguments of the driver: the words of the lines that it prints."""
    if shutil.which(request.param) is None:
        pytest.skip(f"needs {request.param}")

    def compiled(model: GPT) -> Run:
        (tmp_path / "model.h").write_bytes(export(model))
        (tmp_path / "model.c").write_text('#include "model.h"\n')
        (tmp_path / "driver.c").write_text(DRIVER)
        sanitizers = ("-fsanitize=address,undefined", "-fno-sanitize-recover")
        program = compile_c(tmp_path, "model.c", "driver.c", *sanitizers, compiler=request.param)

        def call(*arguments: object) -> list[list[str]]:
            done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (0, "")
            return [line.split(" ") for line in done.stdout.splitlines()]

        return call

    return compiled


def text_of(words: list[str]) -> str:
    """A string that was printed in hexadecimal digits."""
    text = bytes.fromhex(words[1])
    assert int(words[0]) == len(text)
    return text.decode("utf-8", "surrogatepass")


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "name"), KINDS)
def test_strings_and_probabilities_are_the_models_own(engine: Any, name: str, run: Callable[[GPT], Run]) -> None:
    """In f32, sums are grouped by the vector width, so that a string may differ now and then."""
    model, n = trained(engine, name), many(10_000, few=200)
    own, call, lines = Exported(model), run(model), list[list[str]]()
    for length, temperature in ((6, 0.5), (19, 3.0)):
        lines = call(0, n, 2**40 + 7, temperature, length, "", *STRINGS)
        wanted = model.generate(n, seed=2**40 + 7, temperature=temperature, max_length=length)
        assert sum(map(ne, map(text_of, lines[:n]), wanted)) <= (0 if engine == "exact" else n // 1000)
    for text, (nats, none, *probabilities) in zip(STRINGS, lines[n:], strict=True):
        surprises, rows = own.read(model.vocabulary.encode(text))
        found, right = [float.fromhex(nats), *map(float.fromhex, probabilities)], [in_order(surprises), *rows[-1]]
        assert none == "0"
        assert found == (right if engine == "exact" else pytest.approx(right, rel=1e-5))
    assert all(text_of(line).startswith("bo") for line in call(0, 9, 1, 1.0, 0, "bo"))
    assert len({text_of(line) for line in call(0, 9, 1, 0.0, 0, "")}) == 1
    assert call(0, 1, 1, 0.5, 0, "boq") == [["-1", ""]]
    assert call(0, 1, 1, -0.5, 0, "b") == call(0, 1, 1, 0.5, 5000, "b") == call(0, 1, 1, 0.5, 2, "bob") == [["-1", ""]]
    assert call(0, 0, 1, 1, 0, "", "q")[0][:2] == ["nan", "-1"]


def in_order(surprises: list[float]) -> float:
    """Their mean, added up in order."""
    total = 0.0
    for nats in surprises:
        total += nats
    return total / len(surprises)


@pytest.mark.slow
def test_any_token_is_text(run: Callable[[GPT], Run]) -> None:
    tokens = sorted([*HOSTILE, "??=", "\\", "\ud800", "*/"])
    text = "".join([token for token in tokens if token not in ("\0", "\ud800")])
    lines = run(untrained(tokens))(0, 99, 1, 9, 0, "", text)
    strings = [text_of(line) for line in lines[:-1]]
    assert {token for token in tokens if any(token in string for string in strings)} == set(tokens)
    assert lines[-1][0] != "nan"


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["exact", "fast"])
def test_a_block_may_be_one_token(engine: Any, run: Callable[[GPT], Run]) -> None:
    model = trained(engine, block_size=1)
    lines = run(model)(0, 50, 7, 1.0, 9, "")
    assert list(map(text_of, lines)) == model.generate(50, seed=7, temperature=1.0, max_length=9)


@pytest.mark.slow
def test_labels_are_set_or_drawn(run: Callable[[GPT], Run]) -> None:
    labels = {"kind": ["f", "m"] * 4, '"*/': [*"aabbaab", "\ud800"]}
    model = tapegpt.train([*STRINGS, "eve"], labels=labels, steps=20, n_embd=4, n_head=1, block_size=8)
    call = run(model)
    both = ("kind", "m", '"*/', "a")
    *done, string, score = call(2, *both, 1, 1, 1, 0, "bo", "anna")
    assert done == [["0"], ["0"]]
    assert text_of(string).startswith("bo")
    label = dict(zip(both[::2], both[1::2], strict=True))
    assert float.fromhex(score[0]) == pytest.approx(model.score(["anna"], labels=label).nats[0], rel=1e-5)
    assert len(call(1, *both[:2], 5, 1, 1, 0, "a")) == 6
    assert call(1, "kind", "x", 0, 1, 1, 0, "", "anna")[:2][0] == ["-1"]
    assert call(0, 0, 1, 1, 0, "", "anna")[0][:2] == ["nan", "-1"]
