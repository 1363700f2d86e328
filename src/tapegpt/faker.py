"""Strings of models for Faker, which draws them with its own random numbers.

    import tapegpt.faker
    fake = faker.Faker()
    fake.add_provider(tapegpt.faker.Provider)
    fake.tapegpt("surnames"), fake.unique.tapegpt("model.safetensors", min_length=3)

Seeds, `unique` and locales are Faker's; `Faker(includes=["tapegpt.faker"])` and `faker -i tapegpt.faker` have it too.
Not here: many strings at once (`GPT.generate`), the same name for the same key (`GPT.names_for`).
"""

from __future__ import annotations

import os
from functools import cache

from tapegpt.data.corpus import Corpus
from tapegpt.data.sources import DATASETS
from tapegpt.errors import TapeGPTError, missing, quote
from tapegpt.inference.constraints import split_options
from tapegpt.models.checkpoint import load
from tapegpt.models.trained import GPT
from tapegpt.training.train import train

try:
    from faker.providers import BaseProvider
except ImportError:
    raise missing("Faker", "faker") from None

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, Unpack

    from tapegpt.files import Path
    from tapegpt.inference.constraints import GenerateOptions

STEPS = 2000  # of an embedded data set's model


class Provider(BaseProvider):
    """`fake.tapegpt(model)`."""

    def tapegpt(self, model: GPT | Path = "names", **options: Unpack[GenerateOptions]) -> str:
        """A string of a model, of its file, which is read once, or of one trained on embedded data such as "names".

        Takes the options of `generate`, and raises `TapeGPTError` for those that no string meets.
        """
        known = _model(os.fspath(model)) if isinstance(model, str | os.PathLike) else model
        if not isinstance(known, GPT):
            raise TapeGPTError(
                f"model must be a GPT, the path of its file or one of {', '.join(DATASETS)}, not {quote(model)}"
            )
        [text] = known.draw(1, *split_options(options), seed=self.random_int(0, (1 << 64) - 1), note=_refuse)
        return text


@cache
def _model(source: str) -> GPT:
    return train(Corpus.dataset(source), steps=STEPS) if source in DATASETS else load(source)


def _refuse(line: str) -> NoReturn:
    raise TapeGPTError(line)
