"""Every model of the package is PyTorch's, where PyTorch is installed: loss, gradients and steps, in f64 and f32."""

from __future__ import annotations

import random
from typing import Any

import pytest

from benchmarks import peer_torch
from tapegpt import Corpus
from tapegpt.autograd.model import Model
from tests.engines.batches import documents, parameters
from tests.models.test_models import MODELS, OPERATIONS

torch: Any = pytest.importorskip("torch")
torch.set_num_threads(1)  # other tests may want the other cores

VOCAB, STEPS = 6, 10


@pytest.mark.parametrize("model", MODELS[len(OPERATIONS) :], ids=lambda model: type(model).__name__)
def test_loss_gradients_and_ten_steps_are_pytorch_s(model: Model) -> None:
    rng = random.Random(repr(model))
    numbers = parameters(model, VOCAB, rng)
    batch = documents(VOCAB, rng, [1, model.block_size, *[rng.randint(1, model.block_size) for _ in range(6)]])
    peer_torch.check_gradients(torch, model, VOCAB, numbers, batch)
    peer_torch.check_exact(torch, model, VOCAB, numbers, batch, STEPS)
    peer_torch.check_training(torch, Corpus.of(["ada", "bob", "deed", "ace", "bea"]), model, STEPS)
