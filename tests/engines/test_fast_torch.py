"""The fast engine's loss, gradients and steps are PyTorch's, where PyTorch is installed: an oracle of another house."""

from __future__ import annotations

import random
from typing import Any

import pytest

from benchmarks import peer_torch, torch_models
from tapegpt import Config, Corpus
from tapegpt.data.tokens import Tokens
from tapegpt.engines.base import Adam
from tests.engines.batches import documents, parameters

torch: Any = pytest.importorskip("torch")
torch.set_num_threads(1)  # other tests may want the other cores

SHAPES = [  # and vocabularies
    (Config(), 27),
    (Config(n_layer=2, n_embd=24, n_head=3), 50),
    (Config(n_embd=5, n_head=1, block_size=7), 2),
    (Config(n_embd=66, n_head=2, block_size=9), 17),  # a head wider than a vector
    (Config(n_embd=20, n_head=4, block_size=70), 300),  # attention in tiles
    (Config(n_layer=2, n_embd=32, n_head=1, block_size=33), 16),
]


@pytest.mark.parametrize(("config", "vocab_size"), SHAPES, ids=str)
def test_loss_and_gradients_are_pytorch_s(config: Config, vocab_size: int) -> None:
    rng = random.Random(f"{config} {vocab_size}")
    lengths = [1, config.block_size, *[rng.randint(1, config.block_size) for _ in range(6)]]
    tokens = documents(vocab_size, rng, lengths)
    peer_torch.check_gradients(torch, config, vocab_size, parameters(config, vocab_size, rng), tokens)


def test_training_is_pytorch_s() -> None:
    peer_torch.check_all(torch, Corpus.dataset("names"), Config(n_layer=2, n_embd=24, n_head=3))


def test_the_comparison_sees_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    config, rng = Config(), random.Random(1)
    monkeypatch.setattr(torch_models, "EPSILON", 1e-3)
    with pytest.raises(AssertionError, match=r"are .* apart"):
        peer_torch.check_gradients(torch, config, 27, parameters(config, 27, rng), documents(27, rng, [3, 16, 9]))


@pytest.mark.parametrize("change", [{"beta1": 0.84}, {"beta2": 0.98}, {"epsilon": 1e-6}], ids=str)
def test_the_comparison_sees_another_optimiser(change: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(torch: Any, model: Any, tokens: Tokens, adam: Adam, batch_size: int) -> peer_torch.TorchTrainer:
        return trainer(torch, model, tokens, adam.replace(**change), batch_size)

    trainer = peer_torch.TorchTrainer
    monkeypatch.setattr(peer_torch, "TorchTrainer", changed)
    with pytest.raises(AssertionError, match="losses of training are"):
        peer_torch.check_training(torch, Corpus.dataset("names"), Config())


def test_batches_are_padded_behind_their_documents() -> None:
    tokens = Corpus.of(["ada", "b", "d"]).tokens()
    ids, targets = peer_torch.padded_batch(tokens, [1, 0], block_size=3)
    assert ids == [[3, 1, 0], [3, 0, 2]]
    assert targets == [[1, 3, torch_models.IGNORED], [0, 2, 0]]


def test_pytorch_is_timed_beside_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_torch, "SHAPES", (Config(n_embd=8),))
    monkeypatch.setattr("benchmarks.fast.SAMPLE_SECONDS", 1e-6)
    (row,) = peer_torch.against_torch(Corpus.dataset("names"), rounds=1).splitlines()[4:]
    assert row.startswith("| 8 | 1 | ")
