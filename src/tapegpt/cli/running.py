"""A training that is shown, watched and kept: `train`, `resume` and `finetune`. Not here: how each begins."""

from __future__ import annotations

import math
import os
import sys
import time

from tapegpt.cli.console import STDOUT, Interruption, Pace, StatusLine, fail, moves, notice, print_json
from tapegpt.cli.data import check_file, same_file
from tapegpt.cli.models import MODEL
from tapegpt.cli.options import Group, Namespace, flag, option, switch
from tapegpt.errors import DivergedError, TapeGPTError
from tapegpt.inference.constraints import TEMPERATURE, Drawing
from tapegpt.ranges import Whole
from tapegpt.record import plain
from tapegpt.text import amount, line_writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, BinaryIO

    from tapegpt.models.trained import GPT
    from tapegpt.training.trainer import Callback, Trainer

METRICS, SAMPLES = "metrics.jsonl", "samples.txt"  # of a run's directory, beside `MODEL`


# --- what is written --------------------------------------------------------------------------------------------


def output_arguments(group: Group, *, new: bool) -> None:
    """Declare what a training leaves behind; one that is not new writes to its own file."""
    option(group, "-o, --output", "FILE", f"model file to write, in safetensors{'' if new else ' [MODEL]'}")
    option(group, "--save-every", Whole(1), "write it every N steps, too")
    switch(group, "--weights-only", "only the weights, without what resuming needs")
    option(group, "--metrics", "FILE", "file for all losses as JSON lines, - for standard output")
    option(group, "--samples", Whole(0), "number of strings to generate after training", default=20)
    about = "temperature of these strings; higher means more surprising"
    option(group, "--temperature", TEMPERATURE, about, default=Drawing.temperature)
    switch(group, "--quiet", "print only these strings, one per line")
    switch(group, "--json", "print JSON: losses, seconds, strings")
    if new:
        option(group, "--run-dir", "DIR", "new directory for the run: its model, metrics, samples and settings")


def check_directory(options: Namespace) -> None:
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


def prepare_outputs(options: Namespace, data: Iterable[str]) -> None:
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


def run(trainer: Trainer, options: Namespace) -> int:
    """Train, show how far it is, print some strings; the exit code. In a run's directory, note there what it was."""
    for name in ("json", "quiet"):
        if getattr(options, name) and (options.metrics == STDOUT or (options.quiet and options.json)):
            other = "--metrics -" if options.metrics == STDOUT else "--quiet"
            raise TapeGPTError(f"{flag(name)} and {other} exclude each other: give one of them")
    training, started = _Training(trainer, options), time.perf_counter()
    if options.quiet or options.json or options.metrics == STDOUT:
        from contextlib import redirect_stdout
        from io import StringIO

        with redirect_stdout(sys.stderr if options.metrics == STDOUT else StringIO()):
            code = training.run()
    else:
        code = training.run()
    if options.json:
        print_json({**training.outcome(), "seconds": round(time.perf_counter() - started, 3)})
    elif options.quiet:
        print(training.lines(), end="")
    return code


class _Training:
    """A training that is shown, watched and kept."""

    def __init__(self, trainer: Trainer, options: Namespace) -> None:
        self._trainer, self._options = trainer, options
        self._saved = trainer.step  # of the last try
        self._interruption = Interruption()
        self._baselines: dict[str, float] = {}
        self._samples: list[str] = []
        self._watchers: list[Callback] = [self._save_in_time]
        if options.metrics is not None:
            # Ahead of the model's file, so that resuming finds all it needs.
            self._watchers.insert(0, _Metrics(options.metrics, trainer, durable=options.save_every is not None))

    def outcome(self) -> dict[str, Any]:
        """What it has come to, as JSON has it."""
        trainer, best, model = self._trainer, self._trainer.best, self._trainer.model
        return {
            "documents": len(trainer.corpus),
            "held_out": len(trainer.held_out) if trainer.held_out else 0,
            "vocab_size": model.vocab_size,
            "parameters": model.num_parameters,
            "steps": trainer.step,
            "loss": plain(model.losses[-1]) if model.losses else None,
            "held_out_loss": plain(best.loss) if best else None,
            "best_step": best.step if best else None,
            "baselines": self._baselines,
            "samples": self._samples,
        }

    def lines(self) -> str:
        """The strings, a line each."""
        on_a_line = line_writer(self._trainer.model.vocabulary.characters)
        return "".join([f"{on_a_line(text)}\n" for text in self._samples])

    def run(self) -> int:
        """The exit code."""
        trainer, options = self._trainer, self._options
        self._introduce()
        # Before the training, whose budget they are part of; interpreted they would take minutes.
        if trainer.held_out and not trainer.model.engine.notice:
            self._baselines = trainer.baselines()
        if options.run_dir is not None:
            _note(trainer, options.run_dir)
        try:
            with self._interruption:
                finished = self._train()
                if finished:
                    self._report()
                    finished = self._generate()
        finally:  # whatever ends the run, what is trained so far is kept, unless that was in the middle of a step
            if options.output is not None and trainer.step and not self._interruption.forced:
                with Interruption():  # one more Ctrl-C does not lose it
                    self._save(ranked=True)
        if finished:
            return 0
        kept = "" if options.output is None else f", saved to {options.output}"
        of = "" if trainer.settings.budget else f" of {trainer.settings.steps}"
        return fail(f"interrupted after step {trainer.step}{of}{kept}", 130)

    def _introduce(self) -> None:
        trainer, engine = self._trainer, self._trainer.model.engine
        if trainer.step:
            print(f"resumed after step: {trainer.step}")
        print(f"num docs: {len(trainer.corpus)}")
        if trainer.held_out:
            print(f"held out: {len(trainer.held_out)}, no two alike")
        print(f"vocab size: {trainer.model.vocab_size}")
        print(f"num params: {trainer.model.num_parameters}", flush=True)
        notice(engine.notice)
        if trainer.settings.budget and engine.compile_seconds:
            notice(f"compiled for {engine.compile_seconds:.1f} s for this shape, outside the budget")
        if parts := ", ".join(_list_samples(trainer)):
            notice(f"sampled to save time: {parts}")

    def _train(self) -> bool:
        """Train, showing the step; whether it came to the end. Ctrl-C stops it between two chunks."""
        from tapegpt.training.trainer import watch

        trainer, steps = self._trainer, self._trainer.settings.steps
        every, first, status, line = self._options.save_every, trainer.step, StatusLine(), ""
        pace = Pace("step", None if trainer.settings.budget else steps - first)
        of = "" if trainer.settings.budget else f" / {steps:4d}"
        finished = False

        def chunks() -> Iterator[list[float]]:
            nonlocal line, finished
            try:
                for losses in trainer.chunks(range(every, steps, every) if every else ()):
                    held_out = f" | held-out {trainer.evaluations[-1].loss:.4f}" if trainer.evaluations else ""
                    line = f"step {trainer.step:4d}{of} | loss {losses[-1]:.4f}{held_out}"
                    status.show(f"{line} | {pace.text(trainer.step - first)}")
                    yield losses
                    if self._interruption.asked and not trainer.is_over:
                        return
            except DivergedError as error:
                yield error.losses
                raise
            finished = True

        try:
            watch(trainer, chunks(), self._watchers)
        finally:
            status.clear()
            if line:
                print(line, flush=True)
        return finished

    def _save_in_time(self, trainer: Trainer, losses: list[float]) -> None:
        """Write the model if it is time; a failure is noted, and the training continues."""
        every = self._options.save_every
        if every is None or trainer.is_over:  # then the end is near, with samples and ranks
            return
        if trainer.step // every > self._saved // every:
            self._saved = trainer.step
            try:
                self._save()
            except TapeGPTError as error:
                if moves(sys.stdout):
                    print()  # the step line stays as it is
                notice(f"{error.for_command}; the training continues, the next attempt is in {every} steps")

    def _save(self, ranked: bool = False) -> None:
        """Write the model, with how surprising the training strings are if asked."""

        def write(model: GPT) -> None:
            try:
                if ranked and not model.engine.notice:  # interpreted it would take minutes
                    self._trainer.rank()
            finally:
                model.save(self._options.output, weights_only=self._options.weights_only)

        self._trainer.keep(write)

    def _report(self) -> None:
        """The held-out loss, and what gives it a meaning; where a budget is too short or too long."""
        trainer, best = self._trainer, self._trainer.best
        if best is not None:
            when = "" if best.step == trainer.step else f", after step {best.step}, whose weights are kept"
            print(
                f"held-out loss: {best.loss:.4f} nats per token, perplexity {math.exp(min(best.loss, 700)):.2f}{when}"
            )
        if self._baselines:
            print(f"to compare: {', '.join(f'{name} {loss:.4f}' for name, loss in self._baselines.items())}")
        if trainer.settings.budget and trainer.passes < 1:
            seen = f"{amount(trainer.step, 'step')} saw {trainer.passes:.1%} of the training strings"
            notice(f"{seen}: a longer budget sees more of them")
        elif trainer.settings.budget and trainer.is_complete:
            passes = f"{trainer.passes:.0f} passes through {len(trainer.training):,} training strings are enough"
            notice(f"{passes}, more would memorise them: the rest of the budget is not used")

    def _generate(self) -> bool:
        """Print the samples, in a run's directory write them there too; whether it came to the end."""
        model, options = self._trainer.model, self._options
        on_a_line = line_writer(model.vocabulary.characters)
        for number, text in enumerate(model.stream(n=options.samples, temperature=options.temperature), 1):
            self._samples.append(text)
            print(f"sample {number:2d}: {on_a_line(text)}")
            if self._interruption.asked:
                return False
        if options.run_dir is not None:
            _write(os.path.join(options.run_dir, SAMPLES), self.lines())
        return True


class _Metrics:
    """Losses, and those held out, as JSON lines whose numbers round-trip.

    A resumed training appends to its file, after dropping what that says of steps after those taken: a run that was
    killed had not kept them.
    """

    def __init__(self, path: str, trainer: Trainer, *, durable: bool) -> None:
        self._path, self._durable = path, durable  # down to the disk each time, before a model's file says so
        self._evaluations = len(trainer.evaluations)  # written
        try:
            if path == STDOUT:
                self._file: BinaryIO = sys.stdout.buffer
                self._durable = False
                return
            if trainer.step and os.path.isfile(path):
                os.truncate(path, self._kept(trainer.step))
            self._file = open(path, "ab" if trainer.step else "wb")  # noqa: SIM115  # closed by close
        except (OSError, ValueError) as error:
            raise self._failure(error) from None

    def _failure(self, error: OSError | ValueError) -> TapeGPTError:
        from tapegpt.files import unwritable

        return unwritable(f"--metrics {self._path}", error)

    def _kept(self, step: int) -> int:
        """How many bytes are about steps up to this one; raises `TapeGPTError` for another kind of file."""
        import json

        size = 0
        with open(self._path, "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):  # a kill or a full disk has cut it
                    break
                try:
                    if json.loads(line)["step"] > step:
                        break
                except (ValueError, LookupError, TypeError, RecursionError):
                    foreign = f"--metrics {self._path}: line {number} is none of a training: choose another name"
                    raise TapeGPTError(foreign) from None
                size += len(line)
        return size

    def __call__(self, trainer: Trainer, losses: list[float]) -> None:
        """The losses of the steps up to now, and the evaluations since the last call."""
        lines = [
            f'{{"step": {number}, "loss": {loss!r}}}\n'
            for number, loss in enumerate(losses, trainer.step - len(losses) + 1)
        ]
        lines += [
            f'{{"step": {evaluation.step}, "held_out": {evaluation.loss!r}}}\n'
            for evaluation in trainer.evaluations[self._evaluations :]
        ]
        self._evaluations = len(trainer.evaluations)
        try:
            self._file.write("".join(lines).encode())
            self._file.flush()
            if self._durable:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise self._failure(error) from None

    def close(self) -> None:
        """Close the file."""
        try:
            if self._path != STDOUT:
                self._file.close()
        except OSError:  # what it says has been said before
            return


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


def _note(trainer: Trainer, directory: str) -> None:
    from tapegpt.cli.config import CONFIG, as_toml, options_of

    model = trainer.model
    options = options_of(model.config, model.vocabulary.rule, trainer.settings, trainer.data)
    _write(os.path.join(directory, CONFIG), as_toml(options))


def _write(path: str, text: str) -> None:
    from tapegpt.files import write_file

    write_file(path, text.encode("utf-8", "surrogatepass"))
