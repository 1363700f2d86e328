"""The command line: `tapegpt train`, `tapegpt generate`, and `tapegpt` alone, which does what microgpt.py does.

Everything that can go wrong ends with one line on stderr: exit code 2 for bad input, 130 for Ctrl-C; a reader that has
left ends it without a word, 141. Not here: anything a Python user would want too.
"""

from __future__ import annotations

import math
import os
import signal
import sys

from tapegpt.errors import DivergedError, TapeGPTError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, NoReturn, Self, TextIO

    from tapegpt.corpus import Corpus
    from tapegpt.trainer import Trainer

DEFAULT_DATA = "input.txt"
SPARE = 0.02  # seconds of a budget for what comes after the training: samples, and the end of the process


def run() -> NoReturn:
    """The command as a process: it ends at once, since giving the memory back piece by piece takes 5 ms."""
    os._exit(main(sys.argv[1:]))


def main(arguments: list[str]) -> int:
    """Run a command; the exit code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started this
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # as long as the process
        elif hasattr(getattr(sys, name), "reconfigure"):
            getattr(sys, name).reconfigure(errors="backslashreplace")  # what cannot be shown shows its number
    try:
        try:
            options = _parser().parse_args(_with_command(arguments))
            code: int = options.command(options)
        except SystemExit:  # after --help and --version, whose text may still meet a full disk
            code = 0
        sys.stdout.flush()
        return code
    except TapeGPTError as error:
        return _fail(str(error), 2)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:  # the reader has seen enough; not all may have been done
        _silence(sys.stdout)
        return 141  # what a shell gives a program that SIGPIPE ends
    except MemoryError:
        return _fail("not enough memory: choose a smaller model or less data", 2)
    except OSError as error:
        _silence(sys.stdout)
        return _fail(f"output cannot be written: {error.strerror}", 2)


def _fail(message: str, code: int) -> int:
    try:
        sys.stdout.flush()
    except OSError:
        _silence(sys.stdout)
    try:
        print(f"tapegpt: error: {message}", file=sys.stderr, flush=True)
    except OSError:
        _silence(sys.stderr)
    return code


def _silence(stream: TextIO) -> None:
    """Let what a broken stream still holds go nowhere, so that the interpreter's last flush is quiet."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


# --- options ----------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    import argparse

    from tapegpt.corpus import DATASETS
    from tapegpt.settings import ENGINES, LONG, PRESETS
    from tapegpt.version import __version__

    class Parser(argparse.ArgumentParser):
        def __init__(self, **settings: Any) -> None:
            # A width of its own: asking for the terminal's imports modules for 2.5 ms, also where no help is shown.
            super().__init__(formatter_class=_formatter, allow_abbrev=False, **settings)

        def error(self, message: str) -> NoReturn:
            raise TapeGPTError(f"{message}: see {self.prog} --help")

    parser = Parser(
        prog="tapegpt",
        description="A character-level GPT that learns from a file of short strings and invents new ones. "
        "Without a command: train, on ./input.txt if there is one, else on embedded first names.",
    )
    parser.add_argument("--version", action="version", version=f"tapegpt {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    about = "train a model and let it speak"
    train = commands.add_parser("train", help=about, description=f"{about.capitalize()}.")
    train.set_defaults(command=_train)
    data = train.add_argument_group("data")
    data.add_argument("data", nargs="?", metavar="DATA", help="text file, one string a line [./input.txt, or names]")
    data.add_argument("--dataset", choices=DATASETS, metavar="NAME", help=f"embedded data: {' or '.join(DATASETS)}")
    data.add_argument("--encoding", default="utf-8", metavar="NAME", help="encoding of DATA [utf-8]")
    about = "what separates strings: text such as '\\n---\\n', or line, blank or none [line]"
    data.add_argument("--delimiter", default="line", metavar="TEXT", help=about)
    data.add_argument("--validation", type=_number, metavar="X", help="share of the distinct strings to hold out [0]")
    shape = train.add_argument_group("model")
    _setting(shape, "--n-layer", _whole, "transformer blocks [1]")
    _setting(shape, "--n-embd", _whole, "width, a multiple of --n-head [16]")
    _setting(shape, "--n-head", _whole, "attention heads [4]")
    _setting(shape, "--block-size", _whole, "longest string seen whole; longer ones are cut [16]")
    _setting(shape, "--n-gram", _whole, "engine fast: runs of up to so many characters have embeddings too [1]")
    _setting(shape, "--gram-rows", _whole, "engine fast: embeddings of runs, shared by what hashes alike [16384]")
    training = train.add_argument_group("training")
    training.add_argument("--engine", choices=ENGINES, metavar="NAME", help=f"{' or '.join(ENGINES)} [exact]")
    _setting(training, "--steps", _whole, "training steps, a batch of strings each [1000]")
    _setting(training, "--learning-rate", _number, "at the first step, falling to 0 after the last [0.01]")
    _setting(training, "--seed", _whole, "of all random numbers [42]")
    _setting(training, "--init-std", _number, "deviation of the first parameters; wide models want less [0.08]")
    _setting(training, "--patience", _whole, "evaluations without a better held-out loss that end the training [none]")
    fast = train.add_argument_group("training, engine fast")
    about = f"{', '.join(PRESETS)}: shape and training that measured best for about 1 s, 10 s, 2 minutes"
    fast.add_argument("--preset", choices=PRESETS, metavar="NAME", help=about)
    fast.add_argument("--budget", metavar="TIME", help="train so long instead of --steps: 1s, 2m; all included")
    _setting(fast, "--batch-size", _whole, "strings a step [16]")
    _setting(fast, "--beta1", _number, "of Adam's mean [0.85]")
    _setting(fast, "--beta2", _number, "of Adam's mean of squares [0.99]")
    _setting(fast, "--weight-decay", _number, "of all parameters, times the learning rate [0; in presets by passes]")
    _setting(fast, "--gram-decay", _number, "of the embeddings of runs, times the learning rate [by passes]")
    _setting(fast, "--warmup", _number, "share of the training in which the learning rate rises [0]")
    _setting(fast, "--clip", _number, "largest norm of the gradient [any]")
    _setting(fast, "--threads", _whole, "threads of a step [as many as pay]")
    about = "strings longer than the block: cut, or trained on window after window [window]"
    fast.add_argument("--long", choices=LONG, metavar="HOW", help=about)
    output = train.add_argument_group("output")
    output.add_argument("-o", "--output", metavar="MODEL", help="write the model to this safetensors file")
    output.add_argument("--metrics", metavar="FILE", help="write each loss, held out too, to this file as JSON lines")
    _option(output, "--samples", 20, "strings to invent after training")
    _option(output, "--temperature", 0.5, "of the samples: low is careful, high is daring")

    about = "let a trained model speak, a string a line"
    generate = commands.add_parser("generate", help=about, description=f"{about.capitalize()}.")
    generate.set_defaults(command=_generate)
    generate.add_argument("model", metavar="MODEL", help="file written by tapegpt train -o")
    _option(generate, "-n", 20, "strings to invent")
    _option(generate, "--temperature", 0.5, "low is careful, high is daring")
    generate.add_argument("--seed", type=_whole, metavar="N", help="of the random numbers [go on where MODEL is]")
    return parser


def _with_command(arguments: list[str]) -> list[str]:
    """The arguments with their command: training, where there is none."""
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help", "--version")):
        return ["train", *arguments]
    return arguments


def _formatter(prog: str) -> argparse.HelpFormatter:
    import argparse

    return argparse.HelpFormatter(prog, width=96)


def _option(group: argparse._ActionsContainer, name: str, default: float, about: str) -> None:
    kind, metavar = (_whole, "N") if isinstance(default, int) else (_number, "X")
    group.add_argument(name, type=kind, default=default, metavar=metavar, help=f"{about} [{default}]")


def _setting(group: argparse._ActionsContainer, name: str, kind: Callable[[str], float], about: str) -> None:
    """An option without a value of its own: what is not given is left to a preset or a default."""
    group.add_argument(name, type=kind, metavar="N" if kind is _whole else "X", help=about)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise _unfit(f"must be a whole number, not {shown(text)}") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _unfit(f"must be a number, not {shown(text)}") from None


def _unfit(message: str) -> Exception:
    import argparse

    return argparse.ArgumentTypeError(message)


# --- commands ---------------------------------------------------------------------------------------------------


def _train(options: argparse.Namespace) -> int:
    from tapegpt.config import Config
    from tapegpt.model import check_temperature
    from tapegpt.settings import Settings, resolved
    from tapegpt.trainer import Trainer

    names = (*Config().as_dict(), *Settings().as_dict())
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    config, settings = resolved(given, options.preset)  # type: ignore[arg-type]  # argparse has checked the types
    check_temperature(options.temperature)
    if options.samples < 0:
        raise TapeGPTError(f"--samples must be a whole number from 0 on, not {options.samples}")
    corpus = _corpus(options)
    _check_outputs(options)
    trainer = Trainer(corpus, config, settings, started=_process_start() - SPARE)
    print(f"num docs: {len(corpus)}")
    if trainer.held_out:
        print(f"held out: {len(trainer.held_out)}, no two alike")
    print(f"vocab size: {corpus.vocab_size}")
    print(f"num params: {trainer.model.num_parameters}", flush=True)
    _notice(trainer.model.engine.notice)
    if settings.budget and trainer.model.engine.compile_seconds:
        _notice(f"compiled for {trainer.model.engine.compile_seconds:.1f} s, once for this shape, outside the budget")
    # Before the training, whose budget they are part of; interpreted they would take minutes.
    baselines = trainer.baselines() if trainer.held_out and not trainer.model.engine.notice else {}
    try:
        finished = _run(trainer, options.metrics)
        if finished:
            _report(trainer, baselines)
            samples = trainer.model.stream(options.samples, temperature=options.temperature)
            for number, text in enumerate(samples, 1):
                print(f"sample {number:2d}: {text}")
    finally:  # whatever ends the run, what is trained so far is kept
        if options.output is not None and trainer.step:
            from tapegpt.checkpoint import save

            save(trainer.model, options.output)
    if finished:
        return 0
    kept = "" if options.output is None else f", saved to {options.output}"
    of = "" if settings.budget else f" of {settings.steps}"
    return _fail(f"interrupted after step {trainer.step}{of}{kept}", 130)


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


def _corpus(options: argparse.Namespace) -> Corpus:
    from tapegpt.corpus import Corpus, parse_delimiter

    delimiter = parse_delimiter(options.delimiter)
    if options.dataset and options.data is not None:
        raise TapeGPTError(f"DATA {options.data} and --dataset {options.dataset} exclude each other: give one")
    if options.dataset:
        return Corpus.dataset(options.dataset)
    path = _data(options)
    return Corpus.dataset("names") if path is None else Corpus.read(path, options.encoding, delimiter)


def _data(options: argparse.Namespace) -> str | None:
    """The file to learn from, None for an embedded data set."""
    if options.data is None and not options.dataset and os.path.exists(DEFAULT_DATA):
        return DEFAULT_DATA
    path: str | None = options.data
    return path


def _check_outputs(options: argparse.Namespace) -> None:
    """Find out before training what could not be written after it, or would destroy what it is made from."""
    places = {"DATA": _data(options), "--output": options.output, "--metrics": options.metrics}
    for name, other in (("--output", "DATA"), ("--metrics", "DATA"), ("--metrics", "--output")):
        if _same(places[name], places[other]):
            raise TapeGPTError(f"{name} {places[name]} is {other} too: choose another name")
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
    with _Metrics(metrics) as file, _Interruption() as interruption:
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


class _Metrics:
    """Losses, and those held out, as JSON lines whose numbers round-trip, or nothing where there is no path."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._evaluations = 0  # written
        self._file: TextIO | None = None
        if path is not None:
            try:
                self._file = open(path, "w", encoding="utf-8")  # noqa: SIM115  # closed by __exit__
            except (OSError, ValueError) as error:
                raise self._failure(error) from None

    def _failure(self, error: OSError | ValueError) -> TapeGPTError:
        reason = error.strerror if isinstance(error, OSError) else error
        return TapeGPTError(f"--metrics {self._path}: cannot be written: {reason}: choose another place")

    def write(self, trainer: Trainer, losses: list[float]) -> None:
        """The losses of the steps up to now, and the evaluations since the last call."""
        if self._file:
            try:
                for number, loss in enumerate(losses, trainer.step - len(losses) + 1):
                    self._file.write(f'{{"step": {number}, "loss": {loss!r}}}\n')
                for evaluation in trainer.evaluations[self._evaluations :]:
                    self._file.write(f'{{"step": {evaluation.step}, "held_out": {evaluation.loss!r}}}\n')
                self._evaluations = len(trainer.evaluations)
                self._file.flush()
            except OSError as error:
                raise self._failure(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            try:
                self._file.close()
            except OSError:  # what it says has been said by write
                self._file = None


class _Interruption:
    """While it is entered, the first Ctrl-C (or SIGTERM) only sets `asked`; a second one interrupts at once."""

    def __init__(self) -> None:
        self.asked = False
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._former[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


def _generate(options: argparse.Namespace) -> int:
    from tapegpt.checkpoint import load

    model = load(options.model)
    _notice(model.engine.notice)
    for text in model.stream(options.n, temperature=options.temperature, seed=options.seed):
        print(text)
    return 0


def _notice(notice: str) -> None:
    if notice:
        print(f"tapegpt: note: {notice}", file=sys.stderr, flush=True)
