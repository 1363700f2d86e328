"""A training recorded: its losses, and its parameters at some of its steps, so that it can be looked at as a film.

A training takes milliseconds, so the film of a model that was trained earlier is made by training it again. Not here:
what is shown of it.
"""

from __future__ import annotations

from bisect import bisect_right

from tapegpt.data.rng import Random
from tapegpt.errors import TapeGPTError, is_whole, quote
from tapegpt.models.trained import GPT, make_engine
from tapegpt.pools import whole
from tapegpt.record import Record
from tapegpt.settings import Settings
from tapegpt.training.trainer import Trainer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tapegpt.data.corpus import Corpus
    from tapegpt.engines.base import Engine, Parameters, Snapshot
    from tapegpt.models.provenance import Evaluation
    from tapegpt.pools import Pieces

MOMENTS = 40


class Moment(Record):
    """A model after so many steps."""

    step: int
    engine: Engine  # of the kind and shape of the one that the snapshot is of
    snapshot: Snapshot

    @property
    def parameters(self) -> Parameters:
        """A copy of the parameters."""
        return self.engine.parameters_in(self.snapshot)


class Recording(Record):
    """What a training went through, and the model that came out."""

    model: GPT
    step: int  # whose weights the model has: the last, or where documents are held out the best
    settings: Settings
    corpus: Corpus | None  # all documents, those that are held out too
    losses: list[float]  # of each step
    moments: list[Moment]  # by step; the first is before the first step, the last after the last
    evaluations: tuple[Evaluation, ...]

    def moment(self, step: int) -> Moment:
        """The last one at or before a step; raises `TapeGPTError` for a step that is not in the training."""
        if not is_whole(step) or not self.moments[0].step <= step <= self.moments[-1].step:
            ends = f"{self.moments[0].step} to {self.moments[-1].step}"
            raise TapeGPTError(f"step must be a whole number from {ends}, not {quote(step)}")
        return self.moments[bisect_right(self.moments, step, key=lambda moment: moment.step) - 1]

    def at(self, step: int) -> GPT:
        """A model of its own with the parameters of that moment."""
        moment, settings, model = self.moment(step), self.settings, self.model
        engine = make_engine(settings.engine, model.config, model.vocab_size, settings.batch_size)
        engine.load_parameters(model.parameters)  # with fixed ones, which no snapshot has
        engine.restore(moment.snapshot)
        made = GPT(model.config, model.vocabulary, Random(settings.seed), engine, moment.step)
        made.counts = model.counts
        return made


def spread(steps: int, count: int) -> list[int]:
    """About so many steps from 0 to `steps`: 1, 2, 4, ... while the model changes most, then equally far apart."""
    apart = steps / count
    powers = [1 << power for power in range(steps.bit_length()) if 1 << power < apart]
    even = [round(place * apart) for place in range(1, count + 1)]
    return sorted({0, *powers, *even})


def record(
    trainer: Trainer, moments: int | Iterable[int] = MOMENTS, watch: Callable[[list[float]], object] | None = None
) -> Recording:
    """Train to the end; the parameters are kept about so many times, or after just these steps, and at both ends.

    Of a training that follows the clock, whose steps nobody knows before, the ends alone are kept. `watch` is called
    with the losses since its last call, about every 50 ms or more often, and ends the training where it returns True.
    Raises `DivergedError` as training does.
    """
    return whole(record_in_pieces(trainer, moments, watch))


def record_in_pieces(
    trainer: Trainer, moments: int | Iterable[int] = MOMENTS, watch: Callable[[list[float]], object] | None = None
) -> Pieces[Recording]:
    """As `record`, for a thread that has other things to do as well: yields after each call of `watch`."""
    settings = trainer.settings
    if isinstance(moments, int):
        moments = spread(settings.steps, moments)
    wanted = {trainer.step, *moments}
    kept, losses = [_moment(trainer)], []
    for chunk in trainer.chunks(sorted(wanted)):
        losses += chunk
        if kept[-1].step not in wanted:
            kept.pop()
        kept.append(_moment(trainer))
        if watch is not None and watch(chunk) is True:
            trainer.finish()
            break
        yield
    step = trainer.best.step if trainer.best else trainer.step
    if step not in [moment.step for moment in kept]:
        kept.append(Moment(step, trainer.model.engine, trainer.model.engine.snapshot()))
        kept.sort(key=lambda moment: moment.step)
    return Recording(trainer.model, step, settings, trainer.corpus, losses, kept, tuple(trainer.evaluations))


def _moment(trainer: Trainer) -> Moment:
    engine = trainer.model.engine
    return Moment(trainer.step, engine, engine.snapshot())


def still(model: GPT, corpus: Corpus | None = None) -> Recording:
    """A model as it is, of whose training nothing is known: one moment."""
    settings = model.state.settings if model.state else Settings()
    evaluations = model.state.evaluations if model.state else ()
    moment = Moment(model.steps, model.engine, model.engine.snapshot())
    return Recording(model, model.steps, settings, corpus, [], [moment], evaluations)


def replay(model: GPT, moments: int | Iterable[int] = MOMENTS, corpus: Corpus | None = None) -> Recording:
    """The training that made a model, done again: as `record`, with the bits of the first time.

    The corpus is read again from where it came, unless it is given. Raises `TapeGPTError` where the training cannot be
    repeated: the file has weights only, the data are gone or have changed, the training followed the clock, or did not
    start from random weights.
    """
    state = model.state
    if state is None or model.data is None:
        raise TapeGPTError("the training cannot be repeated: the file holds weights only, not how they were trained")
    if state.settings.budget is not None:
        raise TapeGPTError("the training cannot be repeated: it followed the clock; give steps instead of a budget")
    if corpus is None:
        corpus = model.data.read()
    else:
        model.data.check_equals(corpus, "the data")
    trainer = Trainer(corpus.replace(vocabulary=model.vocabulary), model.config, state.settings)
    if isinstance(moments, int):
        moments = spread(model.steps, moments)
    recording = record(trainer, [*moments, model.steps], lambda _: trainer.step >= model.steps)
    found, last = recording.moments[-1].parameters, model.parameters if state.last is None else state.last
    if found != {name: last[name] for name in found}:
        raise TapeGPTError(
            "the training cannot be repeated: other weights come out. It was a finetuning, or was resumed with another "
            "number of steps, or ran on another kind of CPU or with other versions"
        )
    return recording
