"""Reading a model from a file. Not here: what is in it (`writing.py`), resuming its training (`trainer.py`)."""

from __future__ import annotations

import json
import math
from array import array

from tapegpt.data.labels import LabelCounts
from tapegpt.data.rng import Random
from tapegpt.data.vocabulary import CHARACTERS, Vocabulary
from tapegpt.engines.base import STEPS, Moments, Parameters
from tapegpt.errors import TapeGPTError, argument, quote
from tapegpt.files import Path, path_text
from tapegpt.log import log
from tapegpt.models.provenance import DataRecord, Evaluation, TrainingState
from tapegpt.models.trained import GPT, MODELS, check_memory, make_engine
from tapegpt.models.writing import FORMAT, LAST, MEAN, SEVERAL, SQUARE
from tapegpt.ranges import Number, are_finite, are_positive
from tapegpt.settings import Settings
from tapegpt.tensors import Contents, ForeignError, as_type, file_bytes, numbers_of, read_contents, unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tapegpt.autograd.model import Model
    from tapegpt.models.ensemble import Ensemble
    from tapegpt.models.loading import Choice
    from tapegpt.models.trained import Shape

    Shapes = dict[str, tuple[int, int]]


def load(path: Path, model: Choice | None = None) -> GPT:
    """Read a model written by `save`. Raises `TapeGPTError` for any other or damaged file.

    `model` is the class of the model where that is one of your own, or "mymodel.py:MyGPT": its parameters must be those
    of the file. All of a file is checked before code for any of its models is made.
    """
    loaded = loads(file_bytes(path), model, name=path_text(path))
    log("loaded %s", path)
    return loaded


def loads(
    data: bytes, model: Choice | None = None, *, name: str = "data", admit: Callable[[list[Shape]], object] = id
) -> GPT:
    """The model in a file's bytes, as `load` reads it; errors call them by the name.

    Once they are checked, and before code is made, `admit` gets the engine, the shape and the number of tokens of each
    of the models, and may raise.
    """
    if not isinstance(data, bytes | bytearray):
        raise TapeGPTError(f"data must be the bytes of a model file, not {quote(data)}: load takes a path")
    try:
        return _model(unpack(data), model, admit)
    except _ClassError as error:
        raise TapeGPTError(f"{name}: {error}") from None
    except ForeignError as error:
        raise TapeGPTError(f"{name}: not a model of tapegpt: {error}: give a file written by tapegpt") from None


def is_own(path: Path) -> bool:
    """Whether the model of a file is of a class of one's own, which is to be given to `load`."""
    try:
        return ":" in read_contents(path).metadata.get("model", "")
    except ForeignError:  # which `load` says
        return False


class _ClassError(Exception):
    """Why a model of ours cannot be made: its class is not given, or not what it was."""


# What comes of values that are of another kind than they should be.
_DAMAGE = (TapeGPTError, LookupError, TypeError, ValueError, AttributeError, RecursionError, OverflowError)


# --- model and contents -----------------------------------------------------------------------------------------


def _parts(contents: Contents) -> list[Contents]:
    """The models of an ensemble, each with the numbers that its engine has."""
    parts = {
        str(number): Contents(metadata, {}, "F32" if metadata["engine"] == "fast" else "F64")
        for number, metadata in enumerate(json.loads(contents.metadata["models"]))
    }
    for name, (shape, data) in contents.tensors.items():
        number, _, own_name = name.partition(".")
        if number not in parts:
            raise ForeignError("its tensors are not those of its models")
        part = parts[number]
        part.tensors[own_name] = shape, as_type(data, contents.type, part.type)
    return list(parts.values())


def _model(contents: Contents, given: Choice | None = None, admit: Callable[[list[Shape]], object] = id) -> GPT:
    """The model, or the ensemble of models, once all of it has been checked."""
    several, own = contents.metadata.get("format") == str(SEVERAL), None
    if given is not None:
        from tapegpt.models.loading import class_of

        own = class_of(given)
    try:
        held = _parts(contents) if several else [contents]
        kinds = _kinds([part.metadata.get("model", "gpt") for part in held], own)
        parts = [_check(part, kind) for part, kind in zip(held, kinds, strict=True)]
        shapes = [shape for shape, _, _ in parts]
        if several:
            MODELS.check("the number of models", len(parts))
            if len({vocabulary for _, vocabulary, _ in parts}) > 1:
                raise ForeignError("its models are not of the same tokens")
            check_memory(shapes)
    except _DAMAGE as error:
        raise ForeignError(f"its metadata does not hold ({error})") from None
    admit(shapes)
    try:
        models = [make() for _, _, make in parts]
        return _ensemble(models, contents.metadata) if several else models[0]
    except _DAMAGE as error:
        raise ForeignError(f"its metadata does not hold ({error})") from None


def _ensemble(models: list[GPT], metadata: dict[str, str]) -> Ensemble:
    from tapegpt.models.ensemble import Ensemble

    rng, ranks = _rng(json.loads(metadata["random_state"])), _rising(json.loads(metadata["ranks"]))
    ensemble = Ensemble(models)
    ensemble.rng, ensemble.ranks = rng, ranks
    return ensemble


def _kinds(names: list[str], own: type[Model] | None) -> list[type[Model]]:
    """The classes of models by what their files call them: those of the package, else the one that is given."""
    from tapegpt.models import named

    another = None if own is None or _is_packaged(own) else own
    kinds = [another if ":" in name else named(name) for name in names]
    for name, kind in zip(names, kinds, strict=True):
        if kind is None:
            place, _, attribute = name.rpartition(":")
            raise _ClassError(
                f"its model is {attribute} of {place}, a class of one's own, and a file holds no code: give it as "
                f"{argument('model')}, the class or {name!r}"
            )
    if own is not None and own not in kinds:
        raise _ClassError(f"its model is {quote(names[0])}, not {own.__name__}: leave that out")
    return [kind for kind in kinds if kind]


def _is_packaged(kind: type[Model]) -> bool:
    return kind.__module__.startswith("tapegpt.models.")


def _check(contents: Contents, kind: type[Model]) -> tuple[Shape, Vocabulary, Callable[[], GPT]]:
    """What a model's code is made for, its tokens, and what makes the model: the checksum finds damage, not malice."""
    metadata = contents.metadata
    version = metadata.get("format", "")
    if version not in [str(number) for number in range(1, FORMAT + 1)]:
        raise ForeignError(f"its format is {version!r:.20}, this tapegpt reads up to {SEVERAL}")
    vocabulary = _vocabulary(metadata)
    rng = _rng(json.loads(metadata["random_state"]))
    steps = int(metadata["steps"])
    STEPS.check("steps", steps)
    ranks = _rising(json.loads(metadata.get("ranks", "[]")))
    data = DataRecord(**json.loads(metadata["data"])) if "data" in metadata else None
    config, shapes = _made(kind, json.loads(metadata["config"]), vocabulary.size, contents)
    trained = {each.name for each in config.parameters(vocabulary.size) if not each.fixed}
    sets = [""] if "settings" not in metadata else ["", MEAN, SQUARE]
    if any(LAST + name in contents.tensors for name in trained):
        sets.append(LAST)
    names = {part: [name for name in shapes if part == "" or name in trained] for part in sets}
    if {name: shape for name, (shape, _) in contents.tensors.items()} != {
        part + name: shapes[name] for part in sets for name in names[part]
    }:
        raise ForeignError("its tensors are not those of its configuration")
    config.num_parameters(vocabulary.size)
    numbers = {part: _parameters(contents, part, names[part]) for part in sets}
    state = _state(metadata, numbers, contents.type) if len(sets) > 1 else None
    counts = _counts(metadata, vocabulary)
    shape = "fast" if contents.type == "F32" else "exact", config, vocabulary.size

    def make() -> GPT:
        engine = make_engine(*shape)
        engine.load_parameters(numbers[""])
        model = GPT(config, vocabulary, rng, engine, steps)
        model.data, model.ranks, model.state, model.counts = data, ranks, state, counts
        return model

    return shape, vocabulary, make


def _vocabulary(metadata: dict[str, str]) -> Vocabulary:
    tokens = json.loads(metadata["vocabulary"])
    rule = json.loads(metadata["tokens"]) if "tokens" in metadata else CHARACTERS
    if not tokens or not isinstance(tokens, str if rule == CHARACTERS else list):
        raise ForeignError("its vocabulary is not a sorted set of tokens")
    return Vocabulary(tuple(tokens), rule, json.loads(metadata.get("labels", "[]")))


def _counts(metadata: dict[str, str], vocabulary: Vocabulary) -> LabelCounts | None:
    if not vocabulary.labels:
        return None
    counts = LabelCounts(**json.loads(metadata["label_counts"]))
    for labels, _ in counts.counts:
        vocabulary.head(labels)  # which knows them
    return counts


def _made(kind: type[Model], fields: dict[str, Any], vocab_size: int, contents: Contents) -> tuple[Model, Shapes]:
    """The model with its settings, and the shapes of its parameters; a user's class may not be what it was."""
    unlike = f"{kind.__name__} is not the class that it was trained with"
    try:
        model = kind(**fields)
        shapes = model.shapes(vocab_size)
    except (TapeGPTError, TypeError) as error:
        if _is_packaged(kind):
            raise
        raise _ClassError(f"{unlike}: {error}") from None
    held = {name: shape for name, (shape, _) in contents.tensors.items() if not name.startswith((LAST, MEAN, SQUARE))}
    for name in () if _is_packaged(kind) else {**shapes, **held}:
        if held.get(name) != shapes.get(name):
            there, here = (_describe_shape(each.get(name)) for each in (held, shapes))
            raise _ClassError(f"{unlike}: {name} is {there} in the file, {here} in the class: give the class as it was")
    return model, shapes


def _describe_shape(shape: tuple[int, int] | None) -> str:
    return "not there" if shape is None else f"({shape[0]}, {shape[1]})"


def _rng(state: Any) -> Random:
    version, words, gauss_next = state
    rng = Random(0)
    rng.setstate((version, tuple(array("I", words)), None if gauss_next is None else float(gauss_next)))
    if gauss_next is not None and not math.isfinite(gauss_next):
        raise ValueError(f"gauss_next is {gauss_next}")
    return rng


def _state(metadata: dict[str, str], numbers: dict[str, Parameters], kind: str) -> TrainingState:
    settings = Settings(**json.loads(metadata["settings"]))
    evaluations = [Evaluation(step, loss) for step, loss in json.loads(metadata["evaluations"])]
    powers = json.loads(metadata["powers"])
    for power in powers:
        Number(0, 1).check("a power of Adam", power)
    if (settings.engine, len(powers)) not in ((("fast", 2),) if kind == "F32" else (("exact", 0), ("reference", 0))):
        raise ValueError(f"Adam has {len(powers)} powers for the engine {settings.engine} in {kind}")
    if not all(map(are_positive, numbers[SQUARE].values())):
        raise ValueError("Adam has a negative mean of squares")
    moments = Moments(numbers[MEAN], numbers[SQUARE], tuple(powers))
    return TrainingState(settings, moments, tuple(evaluations), numbers.get(LAST), json.loads(metadata["spent"]))


def _rising(numbers: Any) -> list[float]:
    if not isinstance(numbers, list) or not all(number in Number() for number in numbers) or numbers != sorted(numbers):
        raise ValueError("the ranks are no rising numbers")
    return numbers


def _parameters(contents: Contents, part: str, names: list[str]) -> Parameters:
    parameters = {name: numbers_of(contents.tensors[part + name][1], contents.type) for name in names}
    if not all(map(are_finite, parameters.values())):
        raise ForeignError("it has parameters that are not finite")
    return parameters
