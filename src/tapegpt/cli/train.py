"""`tapegpt train`: train a model, save it, generate strings."""

from __future__ import annotations

import os
import sys

from tapegpt.cli import running
from tapegpt.cli.console import StatusLine
from tapegpt.cli.data import corpus_of, data_arguments, data_paths
from tapegpt.cli.models import class_argument, find_class, read_settings, shape_arguments
from tapegpt.cli.options import ArgumentParser, Namespace, given, option, setting_arguments
from tapegpt.ranges import OneOf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SPARE = 0.02  # seconds of a budget for what comes after the training: samples, and the end of the process
SAVING = 30e-9  # for each parameter, where the model, what Adam remembers and ranks of strings are written to a file
COMMON = (
    "--dataset --validation --model --n-layer --n-embd --engine --steps --seed --preset "
    "--budget --output --metrics --samples --temperature --run-dir"
)


def arguments(parser: ArgumentParser) -> None:
    from tapegpt.settings import Settings
    from tapegpt.training.presets import MADE_FOR, PRESETS

    fast = [name for name, each in Settings.fields.items() if each.needs_fast]
    data = parser.add_argument_group("data")
    data_arguments(data)
    setting_arguments(data, Settings, "validation")
    shape = parser.add_argument_group("model")
    class_argument(shape)
    shape_arguments(shape)
    others = [name for name in Settings.fields if name not in (*fast, "validation")]
    setting_arguments(parser.add_argument_group("training"), Settings, *others)
    group = parser.add_argument_group("training, engine fast")
    times = ", ".join(MADE_FOR.values())
    option(group, "--preset", OneOf(PRESETS), f"{', '.join(PRESETS)}: the best settings found for about {times}")
    setting_arguments(group, Settings, *fast)
    running.output_arguments(parser.add_argument_group("output"), new=True)
    about = "options from a TOML file, a run's directory or a model file; the command line takes precedence"
    option(parser, "--config", "FILE", about)


def run(options: Namespace) -> int:
    from tapegpt.settings import Settings
    from tapegpt.training.clock import ONE_EVALUATION
    from tapegpt.training.presets import resolve
    from tapegpt.training.trainer import Trainer

    kind = find_class(options)
    named: Any = given(options, Settings.fields) | read_settings(options, kind)
    config, settings = resolve(named, options.preset, model=kind)  # refuses before it reads
    running.check_directory(options)
    line = StatusLine(sys.stderr, options.quiet)
    line.show("reading")
    corpus = corpus_of(options, options.tokens, settings.budget)
    config, settings = resolve(named, options.preset, corpus, kind)
    running.prepare_outputs(options, data_paths(options))
    started = None
    if settings.budget is not None:
        started = _process_start() - SPARE
        if options.output is not None:  # and strings to rank
            written = sum(rows * columns for rows, columns in config.shapes(corpus.vocab_size).values())
            started -= SAVING * written + ONE_EVALUATION * settings.budget
    line.show("compiling")
    trainer = Trainer(corpus, config, settings, started=started)
    line.clear()
    return running.run(trainer, options)


def _process_start() -> float:
    """When this process began, as a time of `time.perf_counter`; where the system does not say, now."""
    import time

    now = time.perf_counter()
    try:
        with open("/proc/self/stat", "rb") as file:
            ticks = int(file.read().rpartition(b")")[2].split()[19])
        return now - (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, AttributeError, ValueError, IndexError):
        return now
