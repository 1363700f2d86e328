"""How a model is trained, as one record. Not here: the training, and what chooses settings (`presets.py`)."""

from __future__ import annotations

from tapegpt.errors import TapeGPTError, argument, quote
from tapegpt.ranges import Number, OneOf, Whole
from tapegpt.record import Record, field

ENGINES = ("exact", "fast", "reference")
MAX_STEPS = 1_000_000_000
MAX_BATCH_SIZE, MAX_THREADS = 65_536, 256
SEED = Whole()
SHARE, STRENGTH = Number(0, 1, "[)"), Number(0, 1_000_000)
UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """A duration such as 500ms, 1s, 2m or 1h in seconds; raises `TapeGPTError` for anything else."""
    for unit in sorted(UNITS, key=len, reverse=True):
        number = text.removesuffix(unit)
        if number != text:
            try:
                return float(number) * UNITS[unit]
            except ValueError:
                break
    raise TapeGPTError(f"a budget must be a number and a unit, such as 500ms, 1s, 2m or 1h, not {quote(text)}")


class Duration(Number):
    """Numbers of seconds."""

    kind, metavar = "number of seconds", "TIME"
    parse = staticmethod(seconds)

    def write(self, value: float) -> str:
        """See `Range.write`."""
        return f"{value!r}s"

    def of(self, name: str, value: float | str | None) -> float | None:
        """A number, or what a text stands for; None stays None. Raises as `check` does."""
        if value is not None and not isinstance(value, str):
            self.check(name, value)
            return value
        return None if value is None else self.read(name, value)


SECONDS = Duration(0, 1_000_000_000, "(]")  # of a budget


class Settings(Record):
    """How to train; the defaults are microgpt.py's. Raises `TapeGPTError` for a value out of range.

    The command line's options, the studio's requests and its page are made from this table. The other engines than
    `fast` do what microgpt.py does, and refuse another value than the default for a setting that has one for `fast`.
    """

    engine: str = field(
        "exact: microgpt.py's numbers; fast: single precision, in batches; reference: plain Python",
        OneOf(ENGINES),
        default="exact",
    )
    steps: int = field("training steps, a batch of strings each", Whole(1, MAX_STEPS), default=1000)
    budget: float | None = field(
        "time to train instead of a number of steps, such as 90s or 2m, compiling not included",
        SECONDS,
        default=None,
        fast=None,
        usual="none",
    )
    learning_rate: float = field(
        "learning rate at the first step, falling to 0 after the last", Number(0, 1000, "(]"), default=0.01
    )
    seed: int = field("seed of all random numbers", SEED, default=42)
    init_std: float = field(
        "standard deviation of the initial parameters; wide models need less", STRENGTH, default=0.08
    )
    batch_size: int = field("strings per step", Whole(1, MAX_BATCH_SIZE), default=1, fast=16)
    beta1: float = field("decay of Adam's mean", SHARE, default=0.85, fast=0.85)
    beta2: float = field("decay of Adam's mean of squares", SHARE, default=0.99, fast=0.99)
    weight_decay: float | None = field(
        "decay of all parameters, times the learning rate; presets set it by the passes through the data",
        STRENGTH,
        default=0.0,
        fast=0.0,
    )
    gram_decay: float | None = field(
        "decay of the n-gram embeddings, times the learning rate",
        STRENGTH,
        default=None,
        fast=None,
        usual="by the passes through the data",
    )
    warmup: float = field("share of the training in which the learning rate rises", SHARE, default=0.0, fast=0.0)
    clip: float = field(
        "largest norm of the gradient, without n-gram embeddings", STRENGTH, default=0.0, fast=0.0, usual="any"
    )
    validation: float = field("share of the distinct strings to hold out", SHARE, default=0.0)
    patience: int | None = field(
        "stop after N evaluations without a better held-out loss", Whole(1), default=None, usual="none"
    )
    threads: int | None = field(
        "number of worker threads", Whole(1, MAX_THREADS), default=None, fast=None, usual="automatic"
    )
    long: str = field(
        "strings longer than the block: cut; window, divide into windows; overlap, windows overlap by half",
        OneOf(("cut", "window", "overlap")),
        default="cut",
        fast="window",
    )

    def check(self) -> None:
        """Raise `TapeGPTError` where fields do not fit together."""
        if self.patience is not None and not self.validation:
            wanted = argument("validation", 0.1)
            raise TapeGPTError(f"{argument('patience')} needs documents that are held out: give {wanted} too")
        for name, each in self.fields.items():
            if self.engine != "fast" and each.needs_fast and getattr(self, name) != getattr(Settings, name):
                not_fast = f"not {self.engine}, which does what microgpt.py does"
                raise TapeGPTError(f"{argument(name)} needs the engine fast, {not_fast}")
