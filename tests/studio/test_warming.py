"""Shapes one move away: which they are, and that their code is made while nobody waits."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapegpt import Config, Corpus
from tapegpt.models.gru import GRU
from tapegpt.studio import warming
from tapegpt.studio.controls import OFFERED
from tapegpt.studio.limits import Limits
from tapegpt.studio.store import KeptCorpus
from tapegpt.studio.studio import Studio
from tapegpt.studio.warming import SHAPES, neighbours

OFFERS = {name: st.sampled_from(OFFERED[name].values) for name in SHAPES if name != "n_head"}


@given(st.fixed_dictionaries(OFFERS), st.data())
def test_neighbours_are_one_move_away_and_can_be_trained(shape: dict[str, int], data: st.DataObject) -> None:
    fitting = [heads for heads in OFFERED["n_head"].values if shape["n_embd"] % heads == 0]
    config = Config(**shape, n_head=data.draw(st.sampled_from(fitting)))
    for near in neighbours(config):
        changed = {name for name in SHAPES if getattr(near, name) != getattr(config, name)}
        assert len(changed - {"n_head"}) == 1 or changed == {"n_head"}
        assert changed <= {"n_embd", "n_head"} or len(changed) == 1
        for name in changed:
            assert getattr(near, name) in OFFERED[name].values
        assert near.n_embd % near.n_head == 0


def test_models_of_other_classes_have_no_neighbours() -> None:
    assert list(neighbours(GRU())) == []


@pytest.mark.parametrize("busy", [False, True])
def test_code_is_made_once_and_only_while_nobody_waits(monkeypatch: pytest.MonkeyPatch, busy: bool) -> None:
    made: list[Config] = []
    monkeypatch.setattr(warming, "SECONDS", 20.0)
    monkeypatch.setattr(warming, "QUIET", 0.0)
    monkeypatch.setattr(warming, "warm", lambda config, vocabulary, engine: made.append(config))
    vocabulary = Corpus.of(["anna", "bob"]).vocabulary
    studio = Studio(KeptCorpus(Corpus.of(["anna", "bob"]), "names"), Limits(), print)
    monkeypatch.setattr(type(studio.training), "is_idle", property(lambda self: not busy))

    async def begin_twice() -> None:
        for _ in range(2):
            studio.warming.begin(Config(), vocabulary, "exact")
            await asyncio.sleep(0.01)
            while studio.counting._taken:
                await asyncio.sleep(0.001)
        studio.warming.begin(GRU(), vocabulary, "exact")  # the newest counts
        studio.warming.begin(Config(n_embd=32), vocabulary, "exact")
        studio.warming.begin(Config(), vocabulary, "exact")
        await asyncio.sleep(0.01)

    asyncio.run(begin_twice())
    assert made == ([] if busy else list(neighbours(Config())))
    studio.close()
