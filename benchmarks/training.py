"""The training step, through the public API; the time excludes compiling and the first steps.

Correct first: the exact engine's losses equal the reference engine's, and with `--oracle` the published ones.
"""

from __future__ import annotations

import os
from itertools import chain

from benchmarks.timing import Contender, comparison, figure, seconds, table, take_turns
from tapegpt import Config, Corpus
from tapegpt.training.trainer import Trainer

WARM_UP = 64  # steps before the first sample
WIDTHS = (16, 32, 64)
DEPTHS = (1, 2, 4)


def check_against_reference(corpus: Corpus, config: Config, count: int) -> None:
    """The first `count` losses of both engines are equal; a second step sees what backward and Adam did."""
    exact, reference = (
        Trainer(corpus, config, steps=1000, engine=engine).run(count) for engine in ("exact", "reference")
    )
    assert exact == reference, f"{config}: the engines' losses differ: {exact} and {reference}"


def check_against_oracle(corpus: Corpus, folder: str) -> None:
    """The default job gives the published losses, parameters and samples.

    `folder` holds `names_default_losses.hex`, `names_default_params.hex` and `names_default_samples.txt`.
    """
    trainer = Trainer(corpus, Config(), steps=1000)
    assert trainer.run(1000) == _hex_floats(os.path.join(folder, "names_default_losses.hex")), "losses differ"
    parameters = list(chain.from_iterable(trainer.model.engine.parameters().values()))
    assert parameters == _hex_floats(os.path.join(folder, "names_default_params.hex")), "parameters differ"
    with open(os.path.join(folder, "names_default_samples.txt"), encoding="utf-8") as file:
        assert trainer.model.generate(20) == file.read().splitlines(), "samples differ"


def against_reference(corpus: Corpus, rounds: int) -> str:
    """The default step beside the same arithmetic in scalar Python."""
    check_against_reference(corpus, Config(), 20)
    exact = _step("exact engine", corpus, Config(), "exact", 1000, rounds)
    reference = _step("reference engine", corpus, Config(), "reference", 4, rounds)
    summaries = take_turns([exact, reference], rounds)
    title = f"One training step, default model, {len(corpus):,} documents"
    return comparison(title, "us", summaries, summaries[0])


def by_size(corpus: Corpus, rounds: int) -> str:
    """The step for wider and deeper models, which take turns."""
    configs = [Config(n_layer=depth, n_embd=width) for width in WIDTHS for depth in DEPTHS]
    for config in configs:
        check_against_reference(corpus, config, 2)
    count = 200
    contenders = [_step("", corpus, config, "exact", count, rounds) for config in configs]
    rows = []
    for config, summary in zip(configs, take_turns(contenders, rounds), strict=True):
        parameters = config.num_parameters(corpus.vocab_size)
        shape = [str(config.n_embd), str(config.n_layer), f"{parameters:,}"]
        per_parameter = figure(1000 * summary.median / parameters)
        rows.append([*shape, figure(summary.median), summary.spread, per_parameter])
    heads = ["n_embd", "n_layer", "parameters", "median, us", "lowest..highest, us", "ns a parameter"]
    return table("One training step by size, exact engine", heads, rows)


def _step(name: str, corpus: Corpus, config: Config, engine: str, count: int, rounds: int) -> Contender:
    """Microseconds a step, over `count` steps a sample, of one training that goes on from sample to sample."""
    warm_up = min(WARM_UP, count)
    trainer = Trainer(corpus, config, steps=warm_up + rounds * count, engine=engine)
    trainer.run(warm_up)
    return Contender(name, lambda: 1e6 * seconds(lambda: trainer.run(count)) / count)


def _hex_floats(path: str) -> list[float]:
    with open(path, encoding="ascii") as file:
        return [float.fromhex(line) for line in file.read().split()]
