"""What `train` and `resume` have in common: a training that is shown, watched and kept. Not here: how it begins."""

from __future__ import annotations

import math
import os
import sys

from tapegpt.cli.console import fail, moves, notice
from tapegpt.cli.interruption import Interruption
from tapegpt.cli.options import option, whole
from tapegpt.errors import DivergedError, TapeGPTError
from tapegpt.text import amount, line_writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from tapegpt.models.trained import GPT
    from tapegpt.training.trainer import Callback, Trainer

CONFIG, METRICS, SAMPLES, MODEL = "config.json", "metrics.jsonl", "samples.txt", "model.safetensors"  # of a directory


def output_arguments(group: argparse._ActionsContainer, default: str) -> None:
    """Declare what a training leaves behind; the model goes to a default place if it is not said."""
    group.add_argument("-o", "--output", metavar="MODEL", help=f"write the model to this safetensors file{default}")
    group.add_argument("--save-every", type=whole, metavar="N", help="write it after each N steps too, to resume from")
    group.add_argument("--weights-only", action="store_true", help="write it without what resuming needs")
    group.add_argument("--metrics", metavar="FILE", help="write each loss, held out too, to this file as JSON lines")
    option(group, "--samples", 20, "strings to invent after training")
    option(group, "--temperature", 0.5, "of the samples: low is careful, high is daring")


def check_outputs(options: argparse.Namespace, data: Iterable[str]) -> None:
    """Find out before training what could not be written after it, or would destroy what it is made from."""
    from tapegpt.inference.constraints import check_temperature

    check_temperature(options.temperature)
    if options.samples < 0:
        raise TapeGPTError(f"--samples must be a whole number from 0 on, not {options.samples}")
    if options.save_every is not None and options.save_every < 1:
        raise TapeGPTError(f"--save-every must be a whole number from 1 on, not {options.save_every}")
    for name in ("save_every", "weights_only"):
        if getattr(options, name) and options.output is None:
            raise TapeGPTError(f"--{name.replace('_', '-')} is about the model's file: give -o MODEL too")
    for name, path in (("--output", options.output), ("--metrics", options.metrics)):
        if any(_same(path, other) for other in data):
            raise TapeGPTError(f"{name} {path} is DATA too: choose another name")
    if _same(options.metrics, options.output):
        raise TapeGPTError(f"--metrics {options.metrics} is --output too: choose another name")
    if options.output is not None:
        from tapegpt.files import writable

        writable(options.output)


def _same(path: str | None, other: str | None) -> bool:
    """Whether two paths mean one file, there or not, through links of both kinds too."""
    if not path or not other:
        return False
    try:
        return os.path.realpath(path) == os.path.realpath(other) or os.path.samefile(path, other)
    except (OSError, ValueError):  # not there, or no path at all: whoever opens it says so
        return False


def run(trainer: Trainer, options: argparse.Namespace, directory: str | None = None) -> int:
    """Train, show how far it is, print some strings; the exit code. In a directory, note there what it was."""
    print(f"num docs: {len(trainer.corpus)}")
    if trainer.held_out:
        print(f"held out: {len(trainer.held_out)}, no two alike")
    print(f"vocab size: {trainer.model.vocab_size}")
    print(f"num params: {trainer.model.num_parameters}", flush=True)
    engine = trainer.model.engine
    notice(engine.notice)
    if trainer.settings.budget and engine.compile_seconds:
        notice(f"compiled for {engine.compile_seconds:.1f} s for this shape, outside the budget")
    if parts := ", ".join(_sampled(trainer)):
        notice(f"sampled to save time: {parts}")
    # Before the training, whose budget they are part of; interpreted they would take minutes.
    baselines = trainer.baselines() if trainer.held_out and not engine.notice else {}
    if directory is not None:
        _note(trainer, os.path.join(directory, CONFIG))
    keeper, interruption = _Keeper(trainer, options), Interruption()
    watchers = _watchers(trainer, options, keeper)
    try:
        with interruption:
            finished = _train(trainer, watchers, options.save_every, interruption)
            if finished:
                _report(trainer, baselines)
                if trainer.settings.budget:
                    _note_passes(trainer)
                finished = _speak(trainer, options, directory, interruption)
    finally:  # whatever ends the run, what is trained so far is kept, unless that was in the middle of a step
        if options.output is not None and trainer.step and not interruption.forced:
            with Interruption():  # one more Ctrl-C does not lose it
                keeper.save(trainer, ranked=True)
    if finished:
        return 0
    kept = "" if options.output is None else f", saved to {options.output}"
    of = "" if trainer.settings.budget else f" of {trainer.settings.steps}"
    return fail(f"interrupted after step {trainer.step}{of}{kept}", 130)


def _note_passes(trainer: Trainer) -> None:
    """Say where a budget is too short or too long for the training strings."""
    if trainer.passes < 1:
        steps = amount(trainer.step, "step")
        seen = f"{steps} saw {trainer.passes:.1%} of the training strings"
        notice(f"{seen}: a longer budget sees more of them")
    elif trainer.is_complete:
        passes = f"{trainer.passes:.0f} passes through {len(trainer.training):,} training strings are enough"
        notice(f"{passes}, more would memorise them: the rest of the budget is not used")


def _sampled(trainer: Trainer) -> Iterator[str]:
    """What a budget takes only a part of."""
    source = trainer.corpus.source
    if source and source.sample:
        yield f"{source.sample / 1e6:.1f} of {source.size / 1e6:.1f} MB are read"
    for what, some, of in (
        ("n-gram models count", trainer.counted, trainer.training),
        ("held-out losses are of", trainer.judged, trainer.held_out),
    ):
        if some and of and len(some) < len(of):
            yield f"{what} {len(some):,} of {len(of):,} strings"


def _train(trainer: Trainer, watchers: list[Callback], save_every: int | None, interruption: Interruption) -> bool:
    """Train, showing the step; whether it came to the end. Ctrl-C stops it between two chunks."""
    from tapegpt.training.trainer import watched

    in_place = moves(sys.stdout)
    line, of = "", "" if trainer.settings.budget else f" / {trainer.settings.steps:4d}"
    stops = range(save_every, trainer.settings.steps, save_every) if save_every else ()
    finished = False

    def chunks() -> Iterator[list[float]]:
        nonlocal line, finished
        try:
            for losses in trainer.chunks(stops):
                held_out = f" | held-out {trainer.evaluations[-1].loss:.4f}" if trainer.evaluations else ""
                line = f"step {trainer.step:4d}{of} | loss {losses[-1]:.4f}{held_out}"
                if in_place:
                    print(f"\r{line}\x1b[K", end="", flush=True)
                yield losses
                if interruption.asked and not trainer.is_over:
                    return
        except DivergedError as error:
            yield error.losses
            raise
        finished = True

    try:
        watched(trainer, chunks(), watchers)
    finally:
        if line:
            print("" if in_place else line, flush=True)
    return finished


def _watchers(trainer: Trainer, options: argparse.Namespace, keeper: _Keeper) -> list[Callback]:
    """Whatever sees the losses; the file of metrics is ahead of the model's, so that resuming finds all it needs."""
    watchers: list[Callback] = []
    if options.metrics is not None:
        from tapegpt.cli.metrics import Metrics

        watchers.append(Metrics(options.metrics, trainer, durable=options.save_every is not None))
    return [*watchers, keeper]


class _Keeper:
    """Writes the model to its file, every so many steps and when it is told."""

    def __init__(self, trainer: Trainer, options: argparse.Namespace) -> None:
        self._path, self._weights_only, self._every = options.output, options.weights_only, options.save_every
        self._step = trainer.step  # of the last try

    def __call__(self, trainer: Trainer, losses: list[float]) -> None:
        """Write it if it is time; a failure is noted, and the training goes on."""
        if self._every is None or trainer.is_over:  # then the end is near, with samples and ranks
            return
        if trainer.step // self._every > self._step // self._every:
            self._step = trainer.step
            try:
                self.save(trainer)
            except TapeGPTError as error:
                if moves(sys.stdout):
                    print()  # the step line stays as it is
                notice(f"{error}; the training goes on, the next try is in {self._every} steps")

    def save(self, trainer: Trainer, ranked: bool = False) -> None:
        """Write it, with how surprising the training strings are if asked."""

        def write(model: GPT) -> None:
            try:
                if ranked and not model.engine.notice:  # interpreted it would take minutes
                    trainer.rank()
            finally:
                model.save(self._path, weights_only=self._weights_only)

        trainer.keep(write)


def _report(trainer: Trainer, baselines: dict[str, float]) -> None:
    """The held-out loss, and what gives it a meaning."""
    best = trainer.best
    if best is None:
        return
    when = "" if best.step == trainer.step else f", after step {best.step}, whose weights are kept"
    print(f"held-out loss: {best.loss:.4f} nats per token, perplexity {math.exp(min(best.loss, 700)):.2f}{when}")
    if baselines:
        print(f"to compare: {', '.join(f'{name} {loss:.4f}' for name, loss in baselines.items())}")


def _speak(trainer: Trainer, options: argparse.Namespace, directory: str | None, interruption: Interruption) -> bool:
    """Print the samples, in a directory write them there too, a line each; whether it came to the end."""
    samples, on_a_line = [], line_writer(trainer.model.vocabulary)
    for place, text in enumerate(trainer.model.stream(n=options.samples, temperature=options.temperature), 1):
        print(f"sample {place:2d}: {on_a_line(text)}")
        if directory is not None:
            samples.append(f"{on_a_line(text)}\n")
        if interruption.asked:
            return False
    if directory is not None:
        _write(os.path.join(directory, SAMPLES), "".join(samples))
    return True


# --- directories of runs ----------------------------------------------------------------------------------------


def new_directory(path: str) -> None:
    """Make a directory for a run; raises `TapeGPTError` where that cannot be, or another run is there."""
    if os.path.lexists(os.path.join(path, MODEL)):
        raise TapeGPTError(
            f"--run-dir {path}: holds a run already, its {MODEL}: go on by tapegpt resume {path}, or choose another"
        )
    try:
        os.makedirs(path, exist_ok=True)
    except (OSError, ValueError) as error:
        raise _failure(path, error) from None


def settle(options: argparse.Namespace, directory: str) -> None:
    """Let a run be written to a directory."""
    options.output, options.metrics = os.path.join(directory, MODEL), os.path.join(directory, METRICS)


def _note(trainer: Trainer, path: str) -> None:
    import json

    from tapegpt.version import __version__

    fields = {
        "tapegpt": __version__,
        "config": trainer.model.config.as_dict(),
        "settings": trainer.settings.as_dict(),
        "data": trainer.data.as_dict(),
    }
    _write(path, json.dumps(fields, indent=2) + "\n")


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8", errors="surrogatepass") as file:
            file.write(text)
    except OSError as error:
        raise _failure(path, error) from None


def _failure(path: str, error: OSError | ValueError) -> TapeGPTError:
    reason = error.strerror if isinstance(error, OSError) else error
    return TapeGPTError(f"{path}: cannot be written: {reason}: choose another place")
