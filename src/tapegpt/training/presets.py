"""How settings are chosen: presets for a training and for GPT's shape, and budgets. Not here: the training.

The figures behind the presets come from `python -m benchmarks quality`; docs/fast.md says what was tried.
"""

from __future__ import annotations

from tapegpt.autograd.model import Model
from tapegpt.data.sources import READING
from tapegpt.errors import TapeGPTError, argument, check_names, is_number
from tapegpt.models.gpt import Config
from tapegpt.ranges import OneOf
from tapegpt.settings import Settings, seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal, TypedDict

    from tapegpt.data.corpus import Corpus
    from tapegpt.models.loading import Choice

    class Options(TypedDict, total=False):
        """Whatever `tapegpt.train` takes: fields of `Config` (of another model, its own) and `Settings`."""

        n_layer: int
        n_embd: int
        n_head: int
        block_size: int
        n_gram: int
        gram_rows: int
        kn_share: float
        kn_rows: int
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
        long: Literal["cut", "window", "overlap"]


TAKEN = {"model", "preset", "callbacks", "data", *READING}  # other names of options than those of settings
_GRAMS = {"n_gram": 4, "weight_decay": None}
MADE_FOR = {"quick": "1 s", "good": "10 s", "best": "1 minute"}  # about so long on one core
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        **_GRAMS,
        "kn_share": 0.3,
        "n_embd": 32,
        "n_head": 8,
        "batch_size": 16,
        "learning_rate": 0.005,
        "steps": 6000,
    },
    "good": {
        **_GRAMS,
        "kn_share": 0.2,
        "n_embd": 48,
        "n_head": 6,
        "batch_size": 24,
        "learning_rate": 0.005,
        "steps": 25_000,
    },
    "best": {
        **_GRAMS,
        "kn_share": 0.2,
        "n_embd": 96,
        "n_head": 12,
        "batch_size": 48,
        "learning_rate": 0.004,
        "steps": 25_000,
    },
}
LONG = 12  # tokens of a string, above which an n-gram model is no help for long; docs/fast.md has the figures
MOST_ROWS = 19  # bits: 8 MB
# Positions that a training should get through for each weight of the transformer blocks; docs/fast.md says why.
ENOUGH = {"quick": 0, "good": 40, "best": 30}


def resolve(
    options: Options, preset: str | None = None, corpus: Corpus | None = None, model: Choice = Config
) -> tuple[Model, Settings]:
    """Model and settings: what is given, else what the preset says, else the defaults, or an instance's own settings.

    A preset or a budget means the engine fast; a budget without a preset chooses one for the corpus. A preset's shape
    is for `Config`; other models have their own. Raises `TapeGPTError` for an unknown preset, and for values out of
    range; `TypeError` for a setting that neither the model nor a training has.
    """
    given: dict[str, Any] = dict(options)
    if isinstance(model, str):
        from tapegpt.models.loading import class_of

        model = class_of(model)
    if isinstance(given.get("budget"), str):
        given["budget"] = seconds(given["budget"])
    budget = given.get("budget")
    if budget is not None and "steps" in given:
        raise TapeGPTError(f"{argument('steps')} and {argument('budget')} exclude each other: give one")
    if budget is not None and preset is None and is_number(budget):
        preset = _preset_for(given, budget, corpus, model) if corpus else next(iter(PRESETS))
    if preset is not None:
        OneOf(PRESETS).check("preset", preset)
        chosen = PRESETS[preset] | (_ngram_model(corpus) if corpus else {})
        if model is not Config:
            chosen = {name: value for name, value in chosen.items() if name in Settings.fields}
        given = {"engine": "fast", **chosen, **given}
    if given.get("engine") == "fast":
        own = {name: each.fast for name, each in Settings.fields.items() if each.needs_fast}
        given = {**own, **given}
    start = Config() if model is Config else _instance(model)
    shape = {name: given.pop(name) for name in start.fields if name in given}
    check_names(f"training a {type(start).__name__}", given, Settings.fields, start.fields)
    return start.replace(**shape), Settings(**given)


def _ngram_model(corpus: Corpus) -> dict[str, Any]:
    """The n-gram model of a preset: none beside long strings, else room for about all n-grams of the strings."""
    tokens = corpus.predictions
    if tokens > LONG * len(corpus):
        return {"kn_share": 0.0}
    return {"kn_rows": 1 << min(int(11 * tokens**0.8).bit_length(), MOST_ROWS)}


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
    from tapegpt.training.clock import layers, seconds_a_position, threads_that_pay

    length, chosen = corpus.predictions / len(corpus), ""
    for preset, enough in ENOUGH.items():
        options: Any = {**given, "budget": None}
        config, settings = resolve(options, preset, model=model)
        threads = settings.threads or threads_that_pay(config, corpus.vocab_size, settings.batch_size)
        positions = budget / seconds_a_position(config, corpus.vocab_size, length, threads)
        if not chosen or positions >= enough * layers(config, corpus.vocab_size):  # of characters most are rare
            chosen = preset
    return chosen
