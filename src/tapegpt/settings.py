"""How a model is trained, as one record; and the presets, which choose it and GPT's shape. Not here: the training.

The figures behind the presets come from `python -m benchmarks quality`; docs/fast.md says what was tried.
"""

from __future__ import annotations

from tapegpt.errors import TapeGPTError, is_number, shown
from tapegpt.models.base import Model
from tapegpt.models.gpt import Config
from tapegpt.ranges import Number, Whole
from tapegpt.record import Record
from tapegpt.sources import READING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal, TypedDict

    from tapegpt.corpus import Corpus
    from tapegpt.models.loading import Choice

    class Options(TypedDict, total=False):
        """Whatever `tapegpt.train` takes: fields of `Config` (of another model, its own) and `Settings`."""

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
TAKEN = {"model", "preset", "callbacks", "data", *READING}  # other names of options than those of settings
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


_RUNS = {"n_gram": 4, "weight_decay": None}
MADE_FOR = {"quick": "1 s", "good": "10 s", "best": "1 minute"}  # about so long on one core
PRESETS: dict[str, dict[str, Any]] = {
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
    },
}
# Positions that a training should get through for each weight of the transformer blocks; docs/fast.md says why.
ENOUGH = {"quick": 0, "good": 40, "best": 30}
BATCH_SIZE = 16  # of the fast engine


def resolved(
    options: Options, preset: str | None = None, corpus: Corpus | None = None, model: Choice = Config
) -> tuple[Model, Settings]:
    """Model and settings: what is given, else what the preset says, else the defaults, or an instance's own settings.

    A preset or a budget means the engine fast; a budget without a preset chooses one for the corpus. A preset's shape
    is for `Config`; other models have their own. Raises `TapeGPTError` for an unknown preset, for settings that neither
    the model nor a training has, and for values out of range.
    """
    given: dict[str, Any] = dict(options)
    if isinstance(model, str):
        from tapegpt.models.loading import class_of

        model = class_of(model)
    if isinstance(given.get("budget"), str):
        given["budget"] = seconds(given["budget"])
    budget = given.get("budget")
    if budget is not None and "steps" in given:
        raise TapeGPTError("steps and a budget exclude each other: give one")
    if budget is not None and preset is None and is_number(budget):
        preset = _preset_for(given, budget, corpus, model) if corpus else next(iter(PRESETS))
    if preset is not None:
        if preset not in list(PRESETS):
            raise TapeGPTError(f"preset must be one of {', '.join(PRESETS)}, not {shown(preset)}")
        chosen = PRESETS[preset]
        if model is not Config:
            chosen = {name: value for name, value in chosen.items() if name in Settings.fields}
        given = {"engine": "fast", **chosen, **given}
    if given.get("engine") == "fast":
        given = {"batch_size": BATCH_SIZE, "long": "window", **given}
    start = Config() if model is Config else _instance(model)
    shape = {name: given.pop(name) for name in start.fields if name in given}
    for name in given:
        if name not in Settings.fields:
            own = ", ".join(start.fields)
            raise TapeGPTError(f"{name} is no setting of {type(start).__name__}, which has {own}; nor of a training")
    return start.replaced(**shape), Settings(**given)


def _instance(model: Choice) -> Model:
    """A model with the settings to begin with; raises `TapeGPTError` where one has the name of another option."""
    from tapegpt.models.loading import class_of

    instance = model if isinstance(model, Model) else class_of(model)()
    for name in instance.fields:
        if name in Settings.fields or name in TAKEN:
            raise TapeGPTError(f"{type(instance).__name__}: a training has a {name} too: give the setting another name")
    return instance


def _preset_for(given: dict[str, Any], budget: float, corpus: Corpus, model: Choice) -> str:
    """The largest whose training gets through enough positions for its weights; the first where none does."""
    from tapegpt.clock import layers, seconds_a_position, threads_that_pay

    length, chosen = corpus.predictions / len(corpus), ""
    for preset, enough in ENOUGH.items():
        options: Any = {**given, "budget": None}
        config, settings = resolved(options, preset, model=model)
        threads = settings.threads or threads_that_pay(config, corpus.vocab_size, settings.batch_size)
        positions = budget / seconds_a_position(config, corpus.vocab_size, length, threads)
        if not chosen or positions >= enough * layers(config, corpus.vocab_size):  # of characters most are rare
            chosen = preset
    return chosen
