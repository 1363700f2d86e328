"""A training that is shown, watched and kept: `train`, `resume` and `finetune`. Not here: how each begins."""

from __future__ import annotations

import math
import os
import sys
import time

from tapegpt.cli.console import STDOUT, Interruption, Pace, StatusLine, fail, moves, notice, print_json
from tapegpt.cli.data import check_file, same_file
from tapegpt.cli.models import MODEL
from tapegpt.cli.options import flag, option
from tapegpt.errors import DivergedError, TapeGPTError
from tapegpt.inference.constraints import TEMPERATURE, Drawing
from tapegpt.ranges import Whole
from tapegpt.record import plain
from tapegpt.text import amount, line_writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator
    from typing import Any

    from tapegpt.models.trained import GPT
    from tapegpt.training.trainer import Callback, Trainer

METRICS, SAMPLES = "metrics.jsonl", "samples.txt"  # of a run's directory, beside `MODEL`


# --- what is written --------------------------------------------------------------------------------------------


def output_arguments(group: argparse._ActionsContainer, *, new: bool) -> None:
    """Declare what a training leaves behind; one that is not new writes to its own file."""
    about = f"model file to write, in safetensors{'' if new else ' [MODEL]'}"
    group.add_argument("-o", "--output", metavar="FILE", help=about)
    option(group, "--save-every", Whole(1), "steps after each of which it is written too")
    group.add_argument("--weights-only", action="store_true", help="model file without what resuming needs")
    about = "file for all losses as JSON lines, - for standard output"
    group.add_argument("--metrics", metavar="FILE", help=about)
    option(group, "--samples", Whole(0), "number of strings to generate after training", default=20)
    about = "temperature of these strings, higher for more surprising ones"
    option(group, "--temperature", TEMPERATURE, about, default=Drawing.temperature)
    group.add_argument("--quiet", action="store_true", help="print only these strings, one a line")
    group.add_argument("--json", action="store_true", help="print JSON: losses, seconds, strings")
    if new:
        about = "new directory for the run: its model, metrics, samples and settings"
        group.add_argument("--run-dir", metavar="DIR", help=about)


def check_directory(options: argparse.Namespace) -> None:
    """Refuse a directory of a run beside files of one's own, and one that holds a run."""
    directory = options.run_dir
    if directory is None:
        return
    if options.output is not None or options.metrics is not None:
        raise TapeGPTError(f"--run-dir {directory} has a model and metrics of its own: leave -o and --metrics out")
    if os.path.lexists(os.path.join(directory, MODEL)):
        raise TapeGPTError(
            f"--run-dir {directory}: holds a run already, its {MODEL}: "
            f"continue it with tapegpt resume {directory}, or choose another"
        )


def prepare_outputs(options: argparse.Namespace, data: Iterable[str]) -> None:
    """Find out before training what could not be written after it, or would destroy what it is made from."""
    if options.run_dir is not None:
        from tapegpt.files import unwritable

        try:
            os.makedirs(options.run_dir, exist_ok=True)
        except (OSError, ValueError) as error:
            raise unwritable(options.run_dir, error) from None
        options.output, options.metrics = (os.path.join(options.run_dir, name) for name in (MODEL, METRICS))
    for name in ("save_every", "weights_only"):
        if getattr(options, name) and options.output is None:
            raise TapeGPTError(f"{flag(name)} is about the model's file: give -o FILE too")
    if options.output is not None:
        check_file("--output", options.output, data)
    if options.metrics not in (None, STDOUT):
        if any(same_file(options.metrics, path) for path in data):
            raise TapeGPTError(f"--metrics {options.metrics} is DATA too: choose another name")
        if same_file(options.metrics, options.output):
            raise TapeGPTError(f"--metrics {options.metrics} is --output too: choose another name")


# --- the training -----------------------------------------------------------------------------------------------


def run(trainer: Trainer, options: argparse.Namespace) -> int:
    """Train, show how far it is, print some strings; the exit code. In a run's directory, note there what it was."""
    for name in ("json", "quiet"):
        if getattr(options, name) and (options.metrics == STDOUT or (options.quiet and options.json)):
            other = "--metrics -" if options.metrics == STDOUT else "--quiet"
            raise TapeGPTError(f"{flag(name)} and {other} exclude each other: give one of them")
    keeper, started = _Keeper(trainer, options), time.perf_counter()
    watchers, outcome = _watchers(trainer, options, keeper), _Outcome()
    if options.quiet or options.json or options.metrics == STDOUT:
        from contextlib import redirect_stdout
        from io import StringIO

        with redirect_stdout(sys.stderr if options.metrics == STDOUT else StringIO()):
            code = _run(trainer, options, watchers, keeper, outcome)
    else:
        code = _run(trainer, options, watchers, keeper, outcome)
    if options.json:
        print_json({**outcome.fields(trainer), "seconds": round(time.perf_counter() - started, 3)})
    elif options.quiet:
        on_a_line = line_writer(trainer.model.vocabulary.characters)
        print("".join([f"{on_a_line(text)}\n" for text in outcome.samples]), end="")
    return code


class _Outcome:
    """What a run has come to."""

    def __init__(self) -> None:
        self.samples: list[str] = []
        self.baselines: dict[str, float] = {}

    def fields(self, trainer: Trainer) -> dict[str, Any]:
        """As JSON has it."""
        best, model = trainer.best, trainer.model
        return {
            "documents": len(trainer.corpus),
            "held_out": len(trainer.held_out) if trainer.held_out else 0,
            "vocab_size": model.vocab_size,
            "parameters": model.num_parameters,
            "steps": trainer.step,
            "loss": plain(model.losses[-1]) if model.losses else None,
            "held_out_loss": plain(best.loss) if best else None,
            "best_step": best.step if best else None,
            "baselines": self.baselines,
            "samples": self.samples,
        }


def _run(
    trainer: Trainer, options: argparse.Namespace, watchers: list[Callback], keeper: _Keeper, outcome: _Outcome
) -> int:
    if trainer.step:
        print(f"resumed after step: {trainer.step}")
    print(f"num docs: {len(trainer.corpus)}")
    if trainer.held_out:
        print(f"held out: {len(trainer.held_out)}, no two alike")
    print(f"vocab size: {trainer.model.vocab_size}")
    print(f"num params: {trainer.model.num_parameters}", flush=True)
    engine = trainer.model.engine
    notice(engine.notice)
    if trainer.settings.budget and engine.compile_seconds:
        notice(f"compiled for {engine.compile_seconds:.1f} s for this shape, outside the budget")
    if parts := ", ".join(_list_samples(trainer)):
        notice(f"sampled to save time: {parts}")
    # Before the training, whose budget they are part of; interpreted they would take minutes.
    if trainer.held_out and not engine.notice:
        outcome.baselines = trainer.baselines()
    if options.run_dir is not None:
        _note(trainer, options.run_dir)
    interruption = Interruption()
    try:
        with interruption:
            finished = _train(trainer, watchers, options.save_every, interruption)
            if finished:
                _report(trainer, outcome.baselines)
                if trainer.settings.budget:
                    _note_passes(trainer)
                finished = _generate(trainer, options, interruption, outcome.samples)
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
        seen = f"{amount(trainer.step, 'step')} saw {trainer.passes:.1%} of the training strings"
        notice(f"{seen}: a longer budget sees more of them")
    elif trainer.is_complete:
        passes = f"{trainer.passes:.0f} passes through {len(trainer.training):,} training strings are enough"
        notice(f"{passes}, more would memorise them: the rest of the budget is not used")


def _list_samples(trainer: Trainer) -> Iterator[str]:
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
    from tapegpt.training.trainer import watch

    status, line = StatusLine(), ""
    pace = Pace("step", None if trainer.settings.budget else trainer.settings.steps - trainer.step)
    first = trainer.step
    of = "" if trainer.settings.budget else f" / {trainer.settings.steps:4d}"
    stops = range(save_every, trainer.settings.steps, save_every) if save_every else ()
    finished = False

    def chunks() -> Iterator[list[float]]:
        nonlocal line, finished
        try:
            for losses in trainer.chunks(stops):
                held_out = f" | held-out {trainer.evaluations[-1].loss:.4f}" if trainer.evaluations else ""
                line = f"step {trainer.step:4d}{of} | loss {losses[-1]:.4f}{held_out}"
                status.show(f"{line} | {pace.text(trainer.step - first)}")
                yield losses
                if interruption.asked and not trainer.is_over:
                    return
        except DivergedError as error:
            yield error.losses
            raise
        finished = True

    try:
        watch(trainer, chunks(), watchers)
    finally:
        status.clear()
        if line:
            print(line, flush=True)
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
        """Write it if it is time; a failure is noted, and the training continues."""
        if self._every is None or trainer.is_over:  # then the end is near, with samples and ranks
            return
        if trainer.step // self._every > self._step // self._every:
            self._step = trainer.step
            try:
                self.save(trainer)
            except TapeGPTError as error:
                if moves(sys.stdout):
                    print()  # the step line stays as it is
                notice(f"{error.for_command}; the training continues, the next attempt is in {self._every} steps")

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


def _generate(trainer: Trainer, options: argparse.Namespace, interruption: Interruption, samples: list[str]) -> bool:
    """Print the samples, in a run's directory write them there too, a line each; whether it came to the end."""
    on_a_line = line_writer(trainer.model.vocabulary.characters)
    for number, text in enumerate(trainer.model.stream(n=options.samples, temperature=options.temperature), 1):
        samples.append(text)
        print(f"sample {number:2d}: {on_a_line(text)}")
        if interruption.asked:
            return False
    if options.run_dir is not None:
        _write(os.path.join(options.run_dir, SAMPLES), "".join([f"{on_a_line(text)}\n" for text in samples]))
    return True


def _note(trainer: Trainer, directory: str) -> None:
    from tapegpt.cli.config import CONFIG, as_toml, options_of

    model = trainer.model
    options = options_of(model.config, model.vocabulary.rule, trainer.settings, trainer.data)
    _write(os.path.join(directory, CONFIG), as_toml(options))


def _write(path: str, text: str) -> None:
    from tapegpt.files import write_file

    write_file(path, text.encode("utf-8", "surrogatepass"))
