"""`tapegpt train`: train a model, keep it, let it speak."""

from __future__ import annotations

import math
import os
import sys

from tapegpt.cli.console import fail, notice
from tapegpt.cli.data import corpus_of, data_arguments, data_paths
from tapegpt.cli.interruption import Interruption
from tapegpt.cli.metrics import Metrics
from tapegpt.cli.options import number, option, setting, whole
from tapegpt.errors import DivergedError, TapeGPTError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from tapegpt.trainer import Trainer

SPARE = 0.02  # seconds of a budget for what comes after the training: samples, and the end of the process


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    from tapegpt.settings import ENGINES, LONG, PRESETS

    data = parser.add_argument_group("data")
    data_arguments(data)
    data.add_argument("--validation", type=number, metavar="X", help="share of the distinct strings to hold out [0]")
    shape = parser.add_argument_group("model")
    setting(shape, "--n-layer", whole, "transformer blocks [1]")
    setting(shape, "--n-embd", whole, "width, a multiple of --n-head [16]")
    setting(shape, "--n-head", whole, "attention heads [4]")
    setting(shape, "--block-size", whole, "longest string seen whole; longer ones are cut [16]")
    setting(shape, "--n-gram", whole, "engine fast: runs of up to so many characters have embeddings too [1]")
    setting(shape, "--gram-rows", whole, "engine fast: embeddings of runs, shared by what hashes alike [16384]")
    training = parser.add_argument_group("training")
    training.add_argument("--engine", choices=ENGINES, metavar="NAME", help=f"{' or '.join(ENGINES)} [exact]")
    setting(training, "--steps", whole, "training steps, a batch of strings each [1000]")
    setting(training, "--learning-rate", number, "at the first step, falling to 0 after the last [0.01]")
    setting(training, "--seed", whole, "of all random numbers [42]")
    setting(training, "--init-std", number, "deviation of the first parameters; wide models want less [0.08]")
    setting(training, "--patience", whole, "evaluations without a better held-out loss that end the training [none]")
    fast = parser.add_argument_group("training, engine fast")
    about = f"{', '.join(PRESETS)}: shape and training that measured best for about 1 s, 10 s, 2 minutes"
    fast.add_argument("--preset", choices=PRESETS, metavar="NAME", help=about)
    fast.add_argument("--budget", metavar="TIME", help="train so long instead of --steps: 1s, 2m; all included")
    setting(fast, "--batch-size", whole, "strings a step [16]")
    setting(fast, "--beta1", number, "of Adam's mean [0.85]")
    setting(fast, "--beta2", number, "of Adam's mean of squares [0.99]")
    setting(fast, "--weight-decay", number, "of all parameters, times the learning rate [0; in presets by passes]")
    setting(fast, "--gram-decay", number, "of the embeddings of runs, times the learning rate [by passes]")
    setting(fast, "--warmup", number, "share of the training in which the learning rate rises [0]")
    setting(fast, "--clip", number, "largest norm of the gradient [any]")
    setting(fast, "--threads", whole, "threads of a step [as many as pay]")
    about = "strings longer than the block: cut, or trained on window after window [window]"
    fast.add_argument("--long", choices=LONG, metavar="HOW", help=about)
    output = parser.add_argument_group("output")
    output.add_argument("-o", "--output", metavar="MODEL", help="write the model to this safetensors file")
    output.add_argument("--metrics", metavar="FILE", help="write each loss, held out too, to this file as JSON lines")
    option(output, "--samples", 20, "strings to invent after training")
    option(output, "--temperature", 0.5, "of the samples: low is careful, high is daring")


def run(options: argparse.Namespace) -> int:
    """Train, show how far it is, and print some strings."""
    from tapegpt.config import Config
    from tapegpt.constraints import check_temperature
    from tapegpt.settings import Settings, resolved
    from tapegpt.trainer import Trainer

    names = (*Config().as_dict(), *Settings().as_dict())
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    config, settings = resolved(given, options.preset)  # type: ignore[arg-type]  # argparse has checked the types
    check_temperature(options.temperature)
    if options.samples < 0:
        raise TapeGPTError(f"--samples must be a whole number from 0 on, not {options.samples}")
    corpus = corpus_of(options)
    _check_outputs(options)
    trainer = Trainer(corpus, config, settings, started=_process_start() - SPARE)
    print(f"num docs: {len(corpus)}")
    if trainer.held_out:
        print(f"held out: {len(trainer.held_out)}, no two alike")
    print(f"vocab size: {corpus.vocab_size}")
    print(f"num params: {trainer.model.num_parameters}", flush=True)
    notice(trainer.model.engine.notice)
    if settings.budget and trainer.model.engine.compile_seconds:
        notice(f"compiled for {trainer.model.engine.compile_seconds:.1f} s, once for this shape, outside the budget")
    # Before the training, whose budget they are part of; interpreted they would take minutes.
    baselines = trainer.baselines() if trainer.held_out and not trainer.model.engine.notice else {}
    try:
        finished = _run(trainer, options.metrics)
        if finished:
            _report(trainer, baselines)
            samples = trainer.model.stream(n=options.samples, temperature=options.temperature)
            for place, text in enumerate(samples, 1):
                print(f"sample {place:2d}: {text}")
    finally:  # whatever ends the run, what is trained so far is kept
        if options.output is not None and trainer.step:
            from tapegpt.checkpoint import save

            save(trainer.model, options.output)
    if finished:
        return 0
    kept = "" if options.output is None else f", saved to {options.output}"
    of = "" if settings.budget else f" of {settings.steps}"
    return fail(f"interrupted after step {trainer.step}{of}{kept}", 130)


def _process_start() -> float:
    """When this process began, as a time of `time.perf_counter`; where the system does not say, now."""
    import time

    now = time.perf_counter()
    try:
        with open("/proc/self/stat", encoding="ascii") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        return now - (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, AttributeError, ValueError, IndexError):
        return now


def _report(trainer: Trainer, baselines: dict[str, float]) -> None:
    """The held-out loss, and what gives it a meaning."""
    best = trainer.best
    if best is None:
        return
    when = "" if best.step == trainer.step else f", after step {best.step}, whose weights are kept"
    print(f"held-out loss: {best.loss:.4f} nats a token, perplexity {math.exp(min(best.loss, 700)):.2f}{when}")
    if baselines:
        print(f"to compare: {', '.join(f'{name} {loss:.4f}' for name, loss in baselines.items())}")


def _check_outputs(options: argparse.Namespace) -> None:
    """Find out before training what could not be written after it, or would destroy what it is made from."""
    data = data_paths(options)
    for name, path in (("--output", options.output), ("--metrics", options.metrics)):
        if any(_same(path, other) for other in data):
            raise TapeGPTError(f"{name} {path} is DATA too: choose another name")
    if _same(options.metrics, options.output):
        raise TapeGPTError(f"--metrics {options.metrics} is --output too: choose another name")
    if options.output is not None:
        from tapegpt.checkpoint import writable

        writable(options.output)


def _same(path: str | None, other: str | None) -> bool:
    """Whether two paths mean one file, there or not, through links of both kinds too."""
    if not path or not other:
        return False
    try:
        return os.path.realpath(path) == os.path.realpath(other) or os.path.samefile(path, other)
    except (OSError, ValueError):  # not there, or no path at all: whoever opens it says so
        return False


def _run(trainer: Trainer, metrics: str | None) -> bool:
    """Train, showing the step; whether it came to the end. Ctrl-C stops it between two chunks."""
    in_place = sys.stdout.isatty()
    settings, line = trainer.settings, ""
    of = "" if settings.budget else f" / {settings.steps:4d}"
    with Metrics(metrics) as file, Interruption() as interruption:
        try:
            for losses in trainer.chunks():
                file.write(trainer, losses)
                held_out = f" | held-out {trainer.evaluations[-1].loss:.4f}" if trainer.evaluations else ""
                line = f"step {trainer.step:4d}{of} | loss {losses[-1]:.4f}{held_out}"
                if in_place:
                    print(f"\r{line}\x1b[K", end="", flush=True)
                if interruption.asked:
                    return False
            file.write(trainer, [])  # the last evaluation
        except DivergedError as error:
            file.write(trainer, error.losses)
            raise
        finally:
            if line:
                print("" if in_place else line, flush=True)
    return True
