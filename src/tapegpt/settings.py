"""How a model is trained, as one record. Not here: the training, and what chooses settings (`presets.py`)."""

from __future__ import annotations

from tapegpt.errors import TapeGPTError, shown
from tapegpt.ranges import Number, Whole
from tapegpt.record import Record

ENGINES = ("exact", "fast", "reference")
LONG = ("cut", "window")
MAX_STEPS = 1_000_000_000
MAX_BATCH_SIZE, MAX_THREADS = 65_536, 256
SECONDS = Number(0, 1_000_000_000, "(]", "number of seconds")  # of a budget
SEED = Whole()
RANGES = {
    "steps": Whole(1, MAX_STEPS),
    "budget": SECONDS,
    "learning_rate": Number(0, 1000, "(]"),
    "seed": SEED,
    "init_std": Number(0, 1_000_000),
    "batch_size": Whole(1, MAX_BATCH_SIZE),
    **dict.fromkeys(("beta1", "beta2", "warmup", "validation"), Number(0, 1, "[)")),
    **dict.fromkeys(("weight_decay", "gram_decay"), Number(0, 1_000_000)),
    "clip": Number(0, 1_000_000),
    "patience": Whole(1),
    "threads": Whole(1, MAX_THREADS),
}
UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
FAST_ONLY = (
    "batch_size",
    "budget",
    "beta1",
    "beta2",
    "weight_decay",
    "gram_decay",
    "warmup",
    "clip",
    "threads",
    "long",
)


class Settings(Record):
    """How to train; the defaults are microgpt.py's. Raises `TapeGPTError` for a value out of range.

    The other engines than `fast` do what microgpt.py does, and refuse anything else for the fields of `FAST_ONLY`.
    """

    engine: str = "exact"
    steps: int = 1000
    budget: float | None = None  # seconds instead of steps
    learning_rate: float = 0.01  # at its peak
    seed: int = 42
    init_std: float = 0.08  # of the normal distribution of the first parameters
    batch_size: int = 1  # documents a step
    beta1: float = 0.85
    beta2: float = 0.99
    weight_decay: float | None = 0.0  # None: the more, the more often the documents are gone through
    gram_decay: float | None = None  # the same for the n-gram embeddings
    warmup: float = 0.0  # share of the run in which the learning rate rises
    clip: float = 0.0  # largest norm of the gradient, that of the n-gram embeddings not counted; 0 for any
    validation: float = 0.0  # share of the distinct documents that is held out
    patience: int | None = None  # evaluations without a better held-out loss that end the run
    threads: int | None = None  # None: as many as pay
    long: str = "cut"  # what becomes of documents longer than the block: "cut", or "window" after window

    ranges = RANGES

    def check(self) -> None:
        """Raise `TapeGPTError` where a field is out of range, or they do not fit together."""
        for name, known in (("engine", ENGINES), ("long", LONG)):
            if getattr(self, name) not in known:
                raise TapeGPTError(f"{name} must be one of {', '.join(known)}, not {shown(getattr(self, name))}")
        super().check()
        self._check_together()

    def _check_together(self) -> None:
        if self.patience is not None and not self.validation:
            raise TapeGPTError("patience needs documents that are held out: give validation too, for instance 0.1")
        if self.engine == "fast":
            return
        for name in FAST_ONLY:
            if getattr(self, name) != getattr(Settings, name):
                raise TapeGPTError(f"{name} needs the engine fast, not {self.engine}, which does what microgpt.py does")


def seconds(text: str) -> float:
    """A duration such as 500ms, 1s, 2m or 1h in seconds; raises `TapeGPTError` for anything else."""
    for unit in sorted(UNITS, key=len, reverse=True):
        number = text.removesuffix(unit)
        if number != text:
            try:
                return float(number) * UNITS[unit]
            except ValueError:
                break
    raise TapeGPTError(f"a budget must be a number and a unit, such as 500ms, 1s, 2m or 1h, not {shown(text)}")
