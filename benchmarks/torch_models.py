"""Every model of the package in PyTorch, with the same names of parameters, as an independent oracle.

PyTorch's own functions are used where it has them: GRU, attention, normalisation, cross entropy. Not here: training and
timing (`peer_torch.py`).

Letters: B documents, T positions, D n_embd, V vocabulary. No position sees padding, which comes after its document.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tapegpt.autograd.model import Model
from tapegpt.autograd.operations.rmsnorm import EPSILON
from tapegpt.autograd.operations.rotary import BASE
from tapegpt.engines.base import Parameters

IGNORED = -100  # the target of padding


class TorchModel:
    """A model from parameters by name; `real` is its type of numbers, by default f32. q, k and v are one product."""

    def __init__(self, torch: Any, config: Model, vocab_size: int, parameters: Parameters, real: Any = None) -> None:
        self._torch, self.config = torch, config
        self.weights = {
            name: torch.tensor(parameters[name], dtype=real or torch.float32).reshape(shape)
            for name, shape in config.shapes(vocab_size).items()
        }
        self._joined = [name[:-1] for name in self.weights if name.endswith("attn_wq")]
        for name in self._joined:
            self.weights[f"{name}qkv"] = torch.cat([self.weights.pop(f"{name}{part}") for part in "qkv"])
        for weight in self.weights.values():
            weight.requires_grad_()

    def loss(self, ids: Any, targets: Any) -> Any:
        """Mean over all positions of -log(probability of the target); ids and targets (B, T), padded behind."""
        logits = LOGITS[type(self.config).__name__](self._torch, self.config, self.weights, ids)
        loss = self._torch.nn.functional.cross_entropy
        return loss(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)

    def by_name(self, of: Callable[[Any], Any]) -> dict[str, list[list[float]]]:
        """What there is of each weight, such as its gradient, by the names of `Model.shapes`."""
        found = {name: of(weight) for name, weight in self.weights.items()}
        for name in self._joined:
            parts = found.pop(f"{name}qkv").chunk(3)
            found.update({f"{name}{part}": each for part, each in zip("qkv", parts, strict=True)})
        return {name: each.tolist() for name, each in found.items()}


def bigram(torch: Any, config: Any, w: dict[str, Any], ids: Any) -> Any:
    """`models/bigram.py`: (B, T, V), as all of these."""
    return torch.nn.functional.embedding(ids, w["table"])


def mlp(torch: Any, config: Any, w: dict[str, Any], ids: Any) -> Any:
    """`models/mlp.py`."""
    f = torch.nn.functional
    x = f.embedding(ids, w["wte"])
    context = torch.cat([_shifted(torch, x, n) for n in range(config.context)], 2)
    return f.linear(f.linear(context, w["hidden"]).tanh(), w["lm_head"])


def wavenet(torch: Any, config: Any, w: dict[str, Any], ids: Any) -> Any:
    """`models/wavenet.py`."""
    f = torch.nn.functional
    x = f.embedding(ids, w["wte"])
    for layer in range(config.n_layer):
        pair = torch.cat([_shifted(torch, x, 2**layer), x], 2)
        filtered, gate = (f.linear(pair, w[f"layer{layer}.{name}"]) for name in ("filter", "gate"))
        x = x + f.linear(filtered.tanh() * gate.sigmoid(), w[f"layer{layer}.out"])
    return f.linear(x, w["lm_head"])


def gru(torch: Any, config: Any, w: dict[str, Any], ids: Any) -> Any:
    """`models/gru.py`."""
    f = torch.nn.functional
    x = f.embedding(ids, w["wte"])
    settings = {"has_biases": False, "num_layers": 1, "dropout": 0.0, "bidirectional": False, "batch_first": True}
    start = x.new_zeros(1, len(ids), config.n_hidden)
    h, _ = torch.gru(x, start, [w["gru_w"], w["gru_u"]], train=True, **settings)
    return f.linear(h, w["lm_head"])


def gpt(torch: Any, config: Any, w: dict[str, Any], ids: Any) -> Any:
    """`models/gpt.py`."""
    f = torch.nn.functional
    x = _normed(torch, f.embedding(ids, w["wte"]) + w["wpe"][: ids.shape[1]])
    for layer in range(config.n_layer):
        q, k, v = f.linear(_normed(torch, x), w[f"layer{layer}.attn_wqkv"]).chunk(3, 2)
        x = x + f.linear(attention(torch, q, k, v, config.n_head), w[f"layer{layer}.attn_wo"])
        hidden = f.relu(f.linear(_normed(torch, x), w[f"layer{layer}.mlp_fc1"]))
        x = x + f.linear(hidden, w[f"layer{layer}.mlp_fc2"])
    return f.linear(x, w["lm_head"])


def modern(torch: Any, config: Any, w: dict[str, Any], ids: Any) -> Any:
    """`models/modern.py`, with complex numbers for rotary positions."""
    f = torch.nn.functional
    x = f.embedding(ids, w["wte"])
    head_dim = config.n_embd // config.n_head
    rates = BASE ** (-torch.arange(0, head_dim, 2, dtype=x.dtype) / head_dim)
    angles = torch.outer(torch.arange(ids.shape[1], dtype=x.dtype), rates)
    turns = torch.polar(torch.ones_like(angles), angles).repeat(1, config.n_head)  # (T, D / 2)
    for layer in range(config.n_layer):
        name = f"layer{layer}"
        q, k, v = f.linear(_normed(torch, x, w[f"{name}.attn_gain"]), w[f"{name}.attn_wqkv"]).chunk(3, 2)
        q, k = (_turned(torch, each, turns) for each in (q, k))
        x = x + f.linear(attention(torch, q, k, v, config.n_head), w[f"{name}.attn_wo"])
        normed = _normed(torch, x, w[f"{name}.mlp_gain"])
        gate, up = (f.linear(normed, w[f"{name}.mlp_{part}"]) for part in ("gate", "up"))
        x = x + f.linear(f.silu(gate) * up, w[f"{name}.mlp_down"])
    return f.linear(_normed(torch, x, w["gain"]), w["wte"])


LOGITS = {"Bigram": bigram, "MLP": mlp, "WaveNet": wavenet, "GRU": gru, "GPT": gpt, "ModernGPT": modern}


def _normed(torch: Any, x: Any, gain: Any = None) -> Any:
    return torch.nn.functional.rms_norm(x, (x.shape[-1],), None if gain is None else gain[0], EPSILON)


def attention(torch: Any, q: Any, k: Any, v: Any, n_head: int) -> Any:
    """Causal self-attention with so many heads: (B, T, D), as q, k and v."""
    q, k, v = (x.unflatten(2, (n_head, -1)).transpose(1, 2) for x in (q, k, v))  # (B, H, T, head_dim)
    heads = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    return heads.transpose(1, 2).flatten(2)


def _shifted(torch: Any, x: Any, n: int) -> Any:
    return torch.nn.functional.pad(x, (0, 0, n, 0))[:, : x.shape[1]]


def _turned(torch: Any, x: Any, turns: Any) -> Any:
    pairs = torch.view_as_complex(x.contiguous().unflatten(2, (-1, 2)))
    return torch.view_as_real(pairs * turns).flatten(2)
