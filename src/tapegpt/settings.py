"""How a model is trained, as one record; and the presets, which choose it and the shape. Not here: the training.

The figures behind the presets come from `python -m benchmarks quality`; docs/fast.md says what was tried.
"""

from __future__ import annotations

from tapegpt.config import Config
from tapegpt.errors import TapeGPTError, is_number, is_whole, shown
from tapegpt.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal, TypedDict

    class Options(TypedDict, total=False):
        """Whatever `tapegpt.train` takes: fields of `Config` and `Settings`."""

        n_layer: int
        n_embd: int
        n_head: int
        block_size: int
        n_gram: int
        gram_rows: int
        engine: Literal["exact", "fast", "reference"]
        steps: int
        budget: float | str | None
        learning_rate: float
        seed: int
        init_std: float
        batch_size: int
        beta1: float
        beta2: float
        weight_decay: float | None
        gram_decay: float | None
        warmup: float
        clip: float
        validation: float
        patience: int | None
        threads: int | None
        long: Literal["cut", "window"]


ENGINES = ("exact", "fast", "reference")
LONG = ("cut", "window")
MAX_STEPS = 1_000_000_000
MAX_BATCH_SIZE, MAX_THREADS = 65_536, 256
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
    gram_decay: float | None = None  # the same for the embeddings of runs
    warmup: float = 0.0  # share of the run in which the learning rate rises
    clip: float = 0.0  # largest norm of the gradient, that of the embeddings of runs not counted; 0 for any
    validation: float = 0.0  # share of the distinct documents that is held out
    patience: int | None = None  # evaluations without a better held-out loss that end the run
    threads: int | None = None  # None: as many as pay
    long: str = "cut"  # what becomes of documents longer than the block: "cut", or "window" after window

    def check(self) -> None:
        """Raise `TapeGPTError` where a field is out of range."""
        if self.engine not in ENGINES:
            raise TapeGPTError(f"engine must be one of {', '.join(ENGINES)}, not {shown(self.engine)}")
        if self.long not in LONG:
            raise TapeGPTError(f"long must be one of {', '.join(LONG)}, not {shown(self.long)}")
        for name, largest in (("steps", MAX_STEPS), ("batch_size", MAX_BATCH_SIZE), ("threads", MAX_THREADS)):
            value = getattr(self, name)
            is_open = value is None and name == "threads"
            if not is_open and (not is_whole(value) or not 1 <= value <= largest):
                raise TapeGPTError(f"{name} must be a whole number from 1 to {largest:,}, not {shown(value)}")
        if self.patience is not None and (not is_whole(self.patience) or self.patience < 1):
            raise TapeGPTError(f"patience must be a whole number from 1 on, not {shown(self.patience)}")
        check_seed(self.seed)
        if not is_number(self.learning_rate) or not 0 < self.learning_rate <= 1000:
            raise TapeGPTError(f"learning_rate must be a number above 0, at most 1000, not {shown(self.learning_rate)}")
        if self.budget is not None and (not is_number(self.budget) or not 0 < self.budget <= 1e9):
            raise TapeGPTError(f"budget must be a number of seconds above 0, not {shown(self.budget)}")
        for name in ("beta1", "beta2", "warmup", "validation"):
            value = getattr(self, name)
            if not is_number(value) or not 0 <= value < 1:
                raise TapeGPTError(f"{name} must be a number from 0 up to but not 1, not {shown(value)}")
        for name in ("init_std", "weight_decay", "gram_decay", "clip"):
            value = getattr(self, name)
            is_open = value is None and name in ("weight_decay", "gram_decay")
            if not is_open and (not is_number(value) or not 0 <= value <= 1e6):
                raise TapeGPTError(f"{name} must be a number from 0 to 1,000,000, not {shown(value)}")
        self._check_together()

    def _check_together(self) -> None:
        if self.patience is not None and not self.validation:
            raise TapeGPTError("patience needs documents that are held out: give validation too, for instance 0.1")
        if self.engine == "fast":
            return
        for name in FAST_ONLY:
            if getattr(self, name) != getattr(Settings, name):
                raise TapeGPTError(f"{name} needs the engine fast, not {self.engine}, which does what microgpt.py does")


def check_seed(seed: int) -> None:
    """Raise `TapeGPTError` unless the seed is a whole number."""
    if not is_whole(seed):
        raise TapeGPTError(f"seed must be a whole number, not {shown(seed)}")


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


_RUNS = {"n_gram": 4, "weight_decay": None}
PRESETS: dict[str, dict[str, Any]] = {  # made for about 1 s, 10 s and 1 minute of one core
    "quick": {
        **_RUNS,
        "n_embd": 32,
        "n_head": 8,
        "batch_size": 16,
        "learning_rate": 0.005,
        "steps": 6000,
    },
    "good": {
        **_RUNS,
        "n_embd": 48,
        "n_head": 6,
        "batch_size": 24,
        "learning_rate": 0.005,
        "steps": 25_000,
    },
    "best": {
        **_RUNS,
        "n_embd": 96,
        "n_head": 12,
        "batch_size": 48,
        "learning_rate": 0.004,
        "steps": 25_000,
        "weight_decay": 0.5,
        "gram_decay": 9.0,
    },
}
BATCH_SIZE = 16  # of the fast engine


def resolved(options: Options, preset: str | None = None) -> tuple[Config, Settings]:
    """Shape and settings: what is given, else what the preset says, else the defaults.

    A preset or a budget means the engine fast; a budget without a preset chooses one. Raises `TapeGPTError` for an
    unknown preset and for values out of range.
    """
    given: dict[str, Any] = dict(options)
    if isinstance(given.get("budget"), str):
        given["budget"] = seconds(given["budget"])
    budget = given.get("budget")
    if budget is not None and "steps" in given:
        raise TapeGPTError("steps and a budget exclude each other: give one")
    if budget is not None and preset is None and is_number(budget):
        preset = "quick" if budget < 3 else "good" if budget < 30 else "best"
    if preset is not None:
        if preset not in list(PRESETS):
            raise TapeGPTError(f"preset must be one of {', '.join(PRESETS)}, not {shown(preset)}")
        given = {"engine": "fast", **PRESETS[preset], **given}
    if given.get("engine") == "fast":
        given = {"batch_size": BATCH_SIZE, "long": "window", **given}
    shape = {name: given.pop(name) for name in Config().as_dict() if name in given}
    return Config(**shape), Settings(**given)
