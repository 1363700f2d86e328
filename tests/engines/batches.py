"""Random parameters and documents, to compare with PyTorch."""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence

from tapegpt.autograd.model import Model
from tapegpt.data.tokens import Tokens
from tapegpt.engines.base import Parameters


def parameters(config: Model, vocab_size: int, rng: random.Random) -> Parameters:
    """Normal ones."""
    return {
        name: array("d", array("f", [rng.gauss(0, 0.3) for _ in range(rows * columns)]))  # numbers that f32 has too
        for name, (rows, columns) in config.shapes(vocab_size).items()
    }


def documents(vocab_size: int, rng: random.Random, predictions: Sequence[int]) -> Tokens:
    """Random documents of so many predictions each."""
    bos = vocab_size - 1
    ids, starts = array("I", [bos]), array("q", [0])
    for count in predictions:
        ids.extend([rng.randrange(bos) for _ in range(count - 1)] + [bos])
        starts.append(len(ids) - 1)
    return Tokens(ids, starts)
