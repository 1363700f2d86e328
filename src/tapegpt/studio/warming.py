"""Code for the shapes that are one move of a slider away, made while nobody waits: a move to one of them then trains at
once. Not here: what each request compiles itself.
"""

from __future__ import annotations

import asyncio

from tapegpt.data.rng import Random
from tapegpt.errors import TapeGPTError
from tapegpt.inference.explanation import explain
from tapegpt.models.gpt import Config
from tapegpt.models.trained import GPT, make_engine
from tapegpt.pools import one_piece
from tapegpt.processes import can_start_threads
from tapegpt.studio.controls import OFFERED
from tapegpt.studio.limits import RefusedError
from tapegpt.studio.work import Deadline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from tapegpt.autograd.model import Model
    from tapegpt.data.vocabulary import Vocabulary
    from tapegpt.studio.studio import Studio

SHAPES = ("n_embd", "n_layer", "n_head", "block_size")  # sliders that lead to other code
QUIET = 2.0  # seconds without a training, before any code is made
SECONDS = 20.0  # for the neighbours of a shape
MOST = 200  # shapes while the studio runs


class Warming:
    """Makes code in the background of a studio."""

    def __init__(self, studio: Studio) -> None:
        self._studio, self._known, self._begun = studio, set[object](), 0

    def begin(self, config: Model, vocabulary: Vocabulary, engine: str) -> None:
        """Make the code of a shape's neighbours, once nobody has trained for a while, until somebody does.

        Without threads, as in a browser, there is none: whoever asks would wait.
        """
        if not can_start_threads():
            return
        studio = self._studio
        self._begun += 1
        mine = self._begun

        def task() -> None:
            deadline = Deadline(SECONDS)
            deadline.begin()
            for near in neighbours(config):
                key = (near, len(vocabulary), engine)
                if key in self._known or len(self._known) >= MOST:
                    continue
                is_quiet = studio.training.is_idle and studio.drawing.is_idle
                if deadline.is_over or not is_quiet or mine != self._begun:
                    return
                try:
                    studio.limits.check_shape(near, len(vocabulary) + 1)
                    warm(near, vocabulary, engine)
                except (TapeGPTError, RefusedError):  # a move there will say why
                    pass
                self._known.add(key)

        def start() -> None:
            try:
                if mine == self._begun:
                    studio.counting.submit(one_piece(task), Deadline(SECONDS))
            except RefusedError:
                return

        asyncio.get_running_loop().call_later(QUIET, start)


def neighbours(config: Model) -> Iterator[Config]:
    """The GPTs that one move of a slider leads to."""
    if type(config) is not Config:
        return
    for name in SHAPES:
        now = getattr(config, name)
        values = [value for value in OFFERED[name].values if name != "n_head" or config.n_embd % value == 0]
        below, above = [value for value in values if value < now], [value for value in values if value > now]
        for value in (*above[:1], *below[-1:]):
            fitting = [heads for heads in OFFERED["n_head"].values if name != "n_embd" or value % heads == 0]
            heads = min(fitting, key=lambda heads: abs(heads - config.n_head))  # as the page chooses them
            yield config.replace(**{"n_head": heads, name: value})


def warm(config: Config, vocabulary: Vocabulary, engine: str) -> None:
    """Make all code that a run of this shape needs, which is kept."""
    model = GPT(config, vocabulary, Random(0), make_engine(engine, config, len(vocabulary) + 1))
    explain(model, "")
    _ = model.inference
