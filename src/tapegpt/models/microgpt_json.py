"""Models that microgpt.py has trained, as JSON that its users have written. Not here: our own files."""

from __future__ import annotations

import json

from tapegpt.data.rng import Random
from tapegpt.data.vocabulary import Vocabulary
from tapegpt.errors import TapeGPTError, argument, either
from tapegpt.files import Path, path_text
from tapegpt.models.gpt import Config
from tapegpt.models.trained import GPT, make_engine
from tapegpt.settings import Settings
from tapegpt.tensors import file_bytes, is_json, matrix, numbers_of


def is_state_dict(path: Path) -> bool:
    """Whether a file is JSON that names no tapegpt: what a user of microgpt.py may have written."""
    data = file_bytes(path)
    return is_json(data) and b'"tapegpt"' not in data


def from_state_dict(path: Path, n_head: int, vocabulary: str | None = None) -> GPT:
    """The model of a `state_dict` that microgpt.py has trained, as JSON: matrices by name, alone or under that name.

    n_embd, block_size and n_layer follow from the matrices. The vocabulary is the sorted characters that are given, or
    those beside the matrices, under "uchars" or "vocabulary". Raises `TapeGPTError` for anything that does not fit.
    """
    name = path_text(path)
    try:
        fields = json.loads(file_bytes(path))
        if not isinstance(fields, dict):
            raise TapeGPTError("it is no object with matrices by name")
        state = fields.get("state_dict", fields)
        if not isinstance(state, dict) or not {"wte", "wpe", "lm_head"} <= state.keys():
            raise TapeGPTError("it has no wte, wpe and lm_head")
        beside = fields.get("uchars", fields.get("vocabulary"))
        if vocabulary is None and beside is not None:
            vocabulary = "".join(beside)
        matrices = {key: matrix(rows, "d") for key, rows in state.items() if isinstance(rows, list) and key != "uchars"}
        if not {"wte", "wpe"} <= matrices.keys():
            raise TapeGPTError("its wte and wpe must be matrices")
        return _of_matrices(matrices, n_head, vocabulary)
    except (ValueError, TypeError, RecursionError, TapeGPTError) as error:
        raise TapeGPTError(f"{name}: not a state_dict of microgpt.py: {error}") from None


def _of_matrices(matrices: dict[str, tuple[tuple[int, int], bytes]], n_head: int, vocabulary: str | None) -> GPT:
    (vocab_size, n_embd), block_size = matrices["wte"][0], matrices["wpe"][0][0]
    n_layer = len({key.partition(".")[0] for key in matrices if key.startswith("layer")})
    config = Config(n_layer=n_layer, n_embd=n_embd, n_head=n_head, block_size=block_size)
    if vocabulary is None:
        hint = " abcdefghijklmnopqrstuvwxyz, if these are names" if vocab_size == 27 else ""
        given = f"{argument('vocabulary')}{hint}, or {either('data', '--training-data')}"
        raise TapeGPTError(f"it does not say its {vocab_size - 1} characters: give {given}")
    characters = Vocabulary.of(vocabulary)
    shapes = config.shapes(characters.size)
    if characters.size != vocab_size:
        raise TapeGPTError(f"it has {vocab_size - 1} characters, the vocabulary {len(characters)}: give the one it has")
    for key, shape in shapes.items():
        found = matrices[key][0] if key in matrices else None
        if found != shape:
            raise TapeGPTError(f"{key} must have the shape {shape}, not {found}")
    if extra := sorted(matrices.keys() - shapes):
        raise TapeGPTError(f"it has {extra[0]} too, which microgpt.py has not")
    engine = make_engine("exact", config, vocab_size)
    engine.load_parameters({key: numbers_of(matrices[key][1], "F64") for key in shapes})
    return GPT(config, characters, Random(Settings.seed), engine)
