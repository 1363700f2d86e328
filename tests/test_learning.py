"""What trainings reach, of languages whose entropy is known: they are long, so that LLVM's passes pay."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tapegpt import Config, Corpus, Trainer
from tests.languages import Brackets, Language, RomanNumerals


@pytest.mark.slow
@pytest.mark.parametrize(
    ("language", "config", "steps", "distance"),
    [(RomanNumerals(), Config(1, 32, 4, 16), 4000, 0.008), (Brackets(5), Config(1, 16, 4, 11), 3000, 0.002)],
    ids=["numerals", "brackets"],
)
def test_what_can_be_learned_is_learned(language: Language, config: Config, steps: int, distance: float) -> None:
    """The held-out loss comes this near to the entropy, in nats per token; below it is but chance."""
    corpus = Corpus.of(language.sample(20_000, seed=1))
    trainer = Trainer(corpus, config, engine="fast", batch_size=16, steps=steps, long="window", threads=1)
    trainer.run(steps)
    held = corpus.replace(documents=language.sample(5_000, seed=2))
    total, count = trainer.model.engine.evaluate(held.windows(config.block_size))
    assert -0.005 < total / count - language.entropy < distance
    makes: Callable[[str], bool] = set(corpus.documents).__contains__
    assert sum(map(makes, trainer.model.generate(200, temperature=0.7))) > 190
