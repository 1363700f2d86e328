"""The shape of a model: what is refused and how, and how many parameters of which shapes follow from it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapegpt import Config, TapeGPTError
from tapegpt.autograd.model import MAX_PARAMETERS
from tapegpt.models import named

LARGEST = {"n_layer": 256, "n_embd": 8192, "n_head": 8192, "block_size": 8192}
SMALLEST = {"n_layer": 1, "n_embd": 1, "n_head": 1, "block_size": 1}


@st.composite
def configs(draw: st.DrawFn) -> Config:
    n_head = draw(st.integers(1, 12))
    return Config(draw(st.integers(1, 6)), n_head * draw(st.integers(1, 8)), n_head, draw(st.integers(1, 64)))


def refusal(**fields: Any) -> str:
    with pytest.raises(TapeGPTError) as caught:
        Config(**{**SMALLEST, **fields})
    return str(caught.value)


def test_the_defaults_are_microgpts() -> None:
    assert Config() == Config(n_layer=1, n_embd=16, n_head=4, block_size=16) == Config(1, 16, 4, 16)
    assert Config().head_dim == 4
    assert Config().num_parameters(27) == 4192  # of the published run


@pytest.mark.parametrize("name", LARGEST)
def test_the_borders_of_a_field(name: str) -> None:
    fields = {**SMALLEST, "n_embd": LARGEST["n_embd"], name: LARGEST[name]}  # 8192 is a multiple of every n_head here
    assert getattr(Config(**fields), name) == LARGEST[name]
    assert getattr(Config(**{**fields, "n_head": 1, name: 1}), name) == 1
    for wrong in (0, -1, LARGEST[name] + 1, 10**30):
        assert refusal(**{name: wrong}) == f"{name} must be a whole number from 1 to {LARGEST[name]:,}, not {wrong}"


@pytest.mark.parametrize(
    ("model", "most"),
    [
        ("bigram", {}),
        ("mlp", {"context": 256, "n_embd": 8192, "n_hidden": 65_536}),
        ("wavenet", {"n_layer": 13, "n_embd": 8192}),
        ("gru", {"n_embd": 8192, "n_hidden": 8192}),
        ("gpt", {"n_layer": 256, "n_embd": 8192, "n_head": 8192, "n_gram": 16, "gram_rows": 1 << 24}),
        ("modern", {"n_layer": 256, "n_embd": 8192, "n_head": 8192}),
    ],
)
def test_the_borders_of_every_model(model: str, most: dict[str, int]) -> None:
    ranges = {name: each for name, each in named(model).ranges.items() if not name.startswith("kn_")}
    assert ranges.keys() == {"block_size", *most}
    for name, largest in {"block_size": 8192, **most}.items():
        assert [number in ranges[name] for number in (0, 1, largest, largest + 1)] == [False, True, True, False], name


@pytest.mark.parametrize("name", LARGEST)
@pytest.mark.parametrize("wrong", [1.0, 4.5, "4", None, True, False, float("nan"), float("inf"), [4], 4 + 0j], ids=repr)
def test_what_is_no_whole_number(name: str, wrong: object) -> None:
    assert refusal(**{name: wrong}) == f"{name} must be a whole number from 1 to {LARGEST[name]:,}, not {wrong!r}"


@given(st.integers(1, 300), st.integers(1, 300))
def test_heads_must_divide_the_width(n_embd: int, n_head: int) -> None:
    """The refusal offers numbers of heads, each of which is then accepted."""
    if n_embd % n_head == 0:
        assert Config(n_embd=n_embd, n_head=n_head).head_dim * n_head == n_embd
        return
    message = refusal(n_embd=n_embd, n_head=n_head)
    rule, offered = message.split(": choose n_head from ")
    assert rule == f"n_embd must be a multiple of n_head, but {n_embd} is no multiple of {n_head}"
    divisors = [d for d in range(1, n_embd + 1) if n_embd % d == 0]
    assert [int(number) for number in offered.split(", ")] == divisors[:12]
    for number in divisors[:12]:
        Config(n_embd=n_embd, n_head=number)


def test_the_first_wrong_field_is_named() -> None:
    assert refusal(n_embd=10, n_head=4, block_size=0).startswith("block_size must be")  # before what fits together
    assert refusal(n_layer=0, n_embd=0).startswith("n_layer must be")


@given(configs(), st.integers(2, 100))
def test_shapes(config: Config, vocab_size: int) -> None:
    """Names, order and shapes as microgpt.py's `state_dict` has them: out before in, embeddings a row a token."""
    d = config.n_embd
    expected = [("wte", (vocab_size, d)), ("wpe", (config.block_size, d)), ("lm_head", (vocab_size, d))]
    for i in range(config.n_layer):
        expected += [(f"layer{i}.attn_{name}", (d, d)) for name in ("wq", "wk", "wv", "wo")]
        expected += [(f"layer{i}.mlp_fc1", (4 * d, d)), (f"layer{i}.mlp_fc2", (d, 4 * d))]
    assert list(config.shapes(vocab_size).items()) == expected
    layer = 4 * d * d + 2 * 4 * d * d
    assert config.num_parameters(vocab_size) == (2 * vocab_size + config.block_size) * d + config.n_layer * layer


def test_the_limit_of_parameters() -> None:
    config = Config(1, 1, 1, 2)  # 2 vocab_size + 2 + 12 parameters
    assert config.num_parameters((MAX_PARAMETERS - 14) // 2) == MAX_PARAMETERS
    with pytest.raises(TapeGPTError) as caught:
        config.num_parameters((MAX_PARAMETERS - 14) // 2 + 1)
    assert str(caught.value) == (
        "n_layer 1, n_embd 1, n_head 1, block_size 2 and 49,999,994 tokens make 100,000,002 parameters; the limit is "
        "100,000,000: choose a smaller model"
    )


def test_configs_are_values() -> None:
    config = Config(2, 8, 2, 4)
    assert config == Config(n_layer=2, n_embd=8, n_head=2, block_size=4)
    assert hash(config) == hash(Config(2, 8, 2, 4))
    assert config != Config(2, 8, 4, 4)
    assert repr(config).startswith("GPT(n_layer=2, n_embd=8, n_head=2, block_size=4, n_gram=1, ")
    plain = {"n_gram": 1, "gram_rows": 16384, "kn_share": 0.0, "kn_rows": 262_144}
    assert config.as_dict() == {"n_layer": 2, "n_embd": 8, "n_head": 2, "block_size": 4, **plain}
    assert Config(**config.as_dict()) == config


def test_configs_cannot_be_changed_into_wrong_ones() -> None:
    config = Config()
    with pytest.raises(AttributeError, match="immutable"):
        config.__setattr__("n_embd", 17)
    with pytest.raises(AttributeError, match="immutable"):
        del config.n_embd
    assert config == Config()
    assert config.replace(n_layer=3) == Config(n_layer=3)
    with pytest.raises(TapeGPTError, match="n_embd must be a multiple of n_head"):
        config.replace(n_embd=17)


@pytest.mark.parametrize(
    ("values", "named"),
    [((1, 16, 4, 16, 1, 16384, 0.0, 262_144, 1), {}), ((), {"layers": 1}), ((1,), {"n_layer": 1})],
    ids=["too-many", "unknown", "twice"],
)
def test_fields_that_are_not_there(values: tuple[Any, ...], named: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="GPT"):
        Config(*values, **named)
