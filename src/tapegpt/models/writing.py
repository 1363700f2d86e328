"""A model as a file: safetensors with everything else in the metadata, or the same as plain JSON.

Tensors have the shape (out, in) and are F64, of the fast engine F32: a file keeps every bit, and says which engine
resumes it. Under their own names they are the parameters that the model generates with; a training that can be resumed
adds Adam's moments (`adam.mean.`, `adam.square.`) and, where they are others, the parameters to resume with (`last.`).

An `Ensemble` is its models, whose numbers stand before the names of their tensors, and the metadata of each.

The metadata name the model, where it is not `Config`: one of the package, or a user's file and class in it, since a
file holds no code. Not here: reading (`checkpoint.py`), the file's bytes (`tensors.py`).
"""

from __future__ import annotations

import json
from array import array

from tapegpt.data.vocabulary import CHARACTERS, Vocabulary
from tapegpt.inference.language_model import MODEL
from tapegpt.log import log
from tapegpt.models.gpt import Config
from tapegpt.ranges import Instance
from tapegpt.tensors import TYPES, Contents, as_type, little_endian, pack, write_contents
from tapegpt.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tapegpt.files import Path
    from tapegpt.models.trained import GPT

FORMAT = 2  # of the metadata: 1 had no training to resume; a reader refuses newer ones
SEVERAL = 3  # that of an ensemble
LAST, MEAN, SQUARE = "last.", "adam.mean.", "adam.square."  # before the names of the tensors of a training


def save(model: GPT, path: Path, *, weights_only: bool = False) -> None:
    """Write a model, as JSON if the name ends so; without the training that it could resume on request.

    On any failure what stood at the path stays, and `TapeGPTError` says why.
    """
    write_contents(contents(model, weights_only=weights_only), path)
    log("saved %s", path)


def dumps(model: GPT, *, weights_only: bool = False) -> bytes:
    """A model as the bytes of its file."""
    return pack(contents(model, weights_only=weights_only))


def contents(model: GPT, *, weights_only: bool = False) -> Contents:
    """What a model's file holds."""
    MODEL.check("model", model)
    Instance(bool).check("weights_only", weights_only)
    if model.models:
        return _several(model, weights_only)
    kind = "F32" if model.engine.name == "fast" else "F64"
    shapes = model.config.shapes(model.vocab_size)
    metadata = {
        "format": str(FORMAT),
        "tapegpt": __version__,
        "config": json.dumps(model.config.in_use()),
        **_vocabulary(model.vocabulary),
        "random_state": json.dumps(model.random_state),
        "steps": str(model.steps),
        "engine": model.engine.name,
    }
    if type(model.config) is not Config:
        from tapegpt.models.loading import reference

        metadata["model"] = reference(type(model.config))
    sets = {"": model.parameters}
    if len(model.ranks):
        metadata["ranks"] = json.dumps(list(model.ranks))
    if model.counts:
        metadata["label_counts"] = json.dumps(model.counts.as_json())
    if model.data and not weights_only:
        metadata["data"] = json.dumps(model.data.as_dict())
    if model.state and not weights_only:
        state = model.state
        metadata["settings"] = json.dumps(state.settings.as_dict())
        metadata["evaluations"] = json.dumps([[each.step, each.loss] for each in state.evaluations])
        metadata["powers"] = json.dumps(state.moments.powers)
        metadata["spent"] = json.dumps(state.spent)
        sets |= {MEAN: state.moments.mean, SQUARE: state.moments.square}
        if state.last is not None:
            sets[LAST] = state.last
    code = TYPES[kind]
    tensors = {
        prefix + name: (shapes[name], little_endian(array(code, numbers)))
        for prefix, parameters in sets.items()
        for name, numbers in parameters.items()
    }
    return Contents(metadata, tensors, kind)


def fingerprint(model: GPT) -> str:
    """SHA-256 of a model's kind, settings, tokens, engine and parameters, or of those of the models in it."""
    if model.models:
        return Contents({"models": " ".join(map(fingerprint, model.models))}, {}, "F64").checksum
    whole = contents(model, weights_only=True)
    names = ("config", "engine", *_vocabulary(model.vocabulary), *(["label_counts"] if model.counts else []))
    metadata = {name: whole.metadata[name] for name in names}
    return whole.replace(metadata={**metadata, "model": type(model.config).__name__}).checksum


def _vocabulary(vocabulary: Vocabulary) -> dict[str, str]:
    """Characters are one text, other tokens a list and the rule by which text is split into them; and labels."""
    labels = {"labels": json.dumps(vocabulary.labels)} if vocabulary.labels else {}
    if vocabulary.rule == CHARACTERS:
        return {"vocabulary": json.dumps("".join(vocabulary)), **labels}
    return {"vocabulary": json.dumps(vocabulary.tokens), "tokens": json.dumps(vocabulary.rule), **labels}


def _several(model: GPT, weights_only: bool) -> Contents:
    """An ensemble; in F64 if one of its models is."""
    parts = [contents(each, weights_only=weights_only) for each in model.models]
    metadata = {
        "format": str(SEVERAL),
        "tapegpt": __version__,
        "random_state": json.dumps(model.random_state),
        "ranks": json.dumps(list(model.ranks)),
        "models": json.dumps([part.metadata for part in parts]),
    }
    kind = "F32" if all(part.type == "F32" for part in parts) else "F64"
    tensors = {
        f"{number}.{name}": (shape, as_type(data, part.type, kind))
        for number, part in enumerate(parts)
        for name, (shape, data) in part.tensors.items()
    }
    return Contents(metadata, tensors, kind)
