"""Threads: whatever fails or is interrupted, all end, and what is left is right; what is read is never torn."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from _thread import _count, start_new_thread
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Event, Thread
from types import FrameType
from typing import Any, Self

import pytest

import tapegpt
from tapegpt import Config, Corpus, DivergedError, Random, Trainer
from tapegpt.analysis import influence
from tapegpt.analysis.influence import Rater
from tapegpt.autograd import Tape
from tapegpt.data.holdout import hold_out
from tapegpt.engines.base import Adam, Engine, Parameters
from tapegpt.engines.exact import ExactEngine
from tapegpt.machine import threads as module
from tapegpt.machine.threads import run_parts
from tapegpt.models.trained import make_engine
from tapegpt.training.trainer import watch
from tests import guard
from tests.engines.test_fast import DOCUMENTS, SHAPE, VOCAB, fast, flat, parameters

CORPUS = Corpus.of([a + b + c for a in "abcde" for b in "iou" for c in ("", "na", "l", "llo", "rren")])


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = _count()
    yield
    wait_until(lambda: _count() <= before)


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.001)


# Parts


def test_a_thread_that_begins_too_late_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the others have given up, nobody waits for it any more."""
    late: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
    ran = []

    def part(number: int, _: array[int]) -> None:
        ran.append(number)
        if number == 0:
            raise ValueError("of the first part")

    monkeypatch.setattr(module, "start_new_thread", lambda *started: late.append(started))
    with pytest.raises(ValueError, match="of the first part"):
        run_parts(part, 3)
    for function, arguments in late:
        function(*arguments)
    assert (len(late), ran) == (2, [0])


def test_all_parts_run_and_the_first_on_this_thread() -> None:
    from threading import get_ident

    for count in (1, 2, 5):
        seen: dict[int, int] = {}

        def part(number: int, _: array[int], seen: dict[int, int] = seen) -> None:
            seen[number] = get_ident()

        run_parts(part, count)
        assert sorted(seen) == list(range(count))
        assert seen[0] == get_ident()
        assert len(set(seen.values())) == count or count > 2  # an identity may be used again


@pytest.mark.parametrize("bad", range(4))
def test_a_part_that_raises_ends_all(bad: int) -> None:
    begun, over = [], []

    def part(number: int, stop: array[int]) -> None:
        begun.append(number)
        if number == bad:
            wait_until(lambda: len(begun) == 4)
            raise KeyError(bad)
        wait_until(lambda: stop[0] == 1)
        time.sleep(0.01)
        over.append(number)

    with pytest.raises(KeyError, match=str(bad)):
        run_parts(part, 4)
    assert sorted(over) == [number for number in range(4) if number != bad]


def test_interrupted_again_while_the_parts_end(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, over, waits = [], [], []
    wait_for = module._wait_for

    def interrupted(locks: Any) -> None:
        waits.append(locks)
        if len(waits) < 4:
            raise KeyboardInterrupt
        wait_for(locks)

    def part(number: int, stop: array[int]) -> None:
        begun.append(number)
        wait_until(lambda: len(begun) == 3 and (number == 0 or stop[0] == 1))
        time.sleep(0.01)
        over.append(number)

    monkeypatch.setattr(module, "_wait_for", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_parts(part, 3)
    assert (sorted(over), len(waits)) == ([0, 1, 2], 4)


def test_parts_that_take_long_look_whether_to_end() -> None:
    done: list[int] = []

    def chunk(thread: int, first: int, last: int) -> None:
        if thread == 2:
            raise KeyError(first)
        time.sleep(0.001)
        done.append(last - first)

    with pytest.raises(KeyError):
        influence._in_chunks(chunk, 3000 * influence.CHUNK, 3)
    assert len(done) < 1000


def failing_start(place: int, error: BaseException, *, after: bool) -> Callable[..., int]:
    """A start of threads that fails at the so-manyth, before or after the thread has been started."""
    started = [0]

    def start(*arguments: Any) -> int:
        started[0] += 1
        if started[0] != place:
            return start_new_thread(*arguments)
        time.sleep(0.01)  # those before are in machine code, and wait
        if after:
            start_new_thread(*arguments)
        raise error

    return start


ERRORS = [RuntimeError("can't start new thread"), KeyboardInterrupt()]


@pytest.mark.slow
@pytest.mark.parametrize("error", ERRORS, ids=["failing", "interrupted"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("place", [1, 2, 3])
def test_a_start_that_fails(monkeypatch: pytest.MonkeyPatch, place: int, after: bool, error: BaseException) -> None:
    """In training, evaluation and attribution: nothing has happened, and the next call has the right bits."""
    engine, untouched = fast(8, 4), fast(8, 4)
    before, moments = flat(engine), engine.moments()
    rater = Rater(Config(), VOCAB, parameters(Config(), VOCAB))
    windows = array("I", range(len(DOCUMENTS)))
    monkeypatch.setattr("tapegpt.analysis.influence.threads_that_pay", lambda *_: 4)
    monkeypatch.setattr("tapegpt.analysis.influence.CHUNK", 1)
    ratings = rater.rate(DOCUMENTS, DOCUMENTS, windows)
    calls: list[Callable[[], object]] = [
        lambda: engine.train(DOCUMENTS, Adam(), 0, 5),
        lambda: engine.evaluate(DOCUMENTS),
        lambda: rater.rate(DOCUMENTS, DOCUMENTS, windows),
    ]
    for call in calls:
        monkeypatch.setattr(module, "start_new_thread", failing_start(place, error, after=after))
        with pytest.raises(type(error)):
            call()
        monkeypatch.undo() if call is calls[-1] else monkeypatch.setattr(module, "start_new_thread", start_new_thread)
        assert (flat(engine), engine.moments(), engine.steps) == (before, moments, 0)
    assert engine.train(DOCUMENTS, Adam(), 0, 5) == untouched.train(DOCUMENTS, Adam(), 0, 5)
    assert flat(engine) == flat(untouched)
    assert engine.evaluate(DOCUMENTS) == untouched.evaluate(DOCUMENTS)
    assert rater.rate(DOCUMENTS, DOCUMENTS, windows)[0] == ratings[0]


def test_a_part_that_cannot_enter_machine_code() -> None:
    engine, untouched = fast(8, 3), fast(8, 3)
    run = engine._program.run

    def failing(name: str, *arguments: Any) -> None:
        if arguments[-1]["thread"] == 1:
            raise MemoryError
        run(name, *arguments)

    engine._program.run = failing  # type: ignore[method-assign]
    with pytest.raises(MemoryError):
        engine.train(DOCUMENTS, Adam(), 0, 5)
    del engine._program.run
    assert engine.steps == 0
    assert engine.train(DOCUMENTS, Adam(), 0, 5) == untouched.train(DOCUMENTS, Adam(), 0, 5)
    assert flat(engine) == flat(untouched)


# Subnormal numbers


def has_subnormals() -> bool:
    """Whether this thread computes with them."""
    smallest, one = float("5e-324"), float("1")
    return smallest * one > 0.0 and sys.float_info.min / (one + one) > 0.0


@pytest.mark.parametrize("threads", [1, 2])
def test_machine_code_that_flushes_subnormal_numbers_leaves_those_of_python(threads: int) -> None:
    """On every thread, and where it stops early."""
    engine, seen = fast(6, threads), []
    run = engine._program.run

    def watched(name: str, *arguments: Any) -> None:
        run(name, *arguments)
        seen.append(has_subnormals())

    engine._program.run = watched  # type: ignore[method-assign]
    engine.train(DOCUMENTS, Adam(), 0, 3)
    engine.evaluate(DOCUMENTS)
    engine.generate(Random(1), 3, 1.0)
    with pytest.raises(DivergedError):
        engine.train(DOCUMENTS, Adam(learning_rate=1e9), 3, 40)
    assert seen == [True] * (5 + 3 * (threads - 1) + 1)


# Interruptions

PACKAGE = os.path.dirname(tapegpt.__file__)


class Interrupted:
    """Raises KeyboardInterrupt at the so-manyth point where CPython may deliver one: a call's begin or end."""

    def __init__(self, point: int) -> None:
        self.left = point

    def __enter__(self) -> Self:
        sys.setprofile(self._see)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _see(self, frame: FrameType, event: str, _: object) -> None:
        if event in ("call", "return", "c_return") and frame.f_code.co_filename.startswith(PACKAGE):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt


def interruptions(train: Callable[[], object], share: float) -> Iterator[bool]:
    """At each point, or a random share of them; whether it was interrupted: the last time it was not."""
    rng, point = random.Random(1), 0
    while True:
        point += 1 if share == 1 else rng.randint(1, round(2 / share))
        try:
            with Interrupted(point) as interrupted:
                train()
        except KeyboardInterrupt:
            assert has_subnormals()
            yield True
            continue
        yield False
        assert interrupted.left > 0
        return


def check_engines(share: float) -> int:
    """A chunk of a training that is interrupted has been taken or not; the training ends in the same bits."""
    made: list[Callable[[], Engine]] = [lambda: fast(6, 2), lambda: ExactEngine(SHAPE, VOCAB)]
    if share == 1:
        made.append(lambda: make_engine("reference", Config(1, 4, 2, 4), VOCAB))
    cases = 0
    for make in made:
        engine = make()
        start = parameters(engine.config, VOCAB)  # type: ignore[arg-type]
        bits = []
        for steps in (0, 2, 4):
            engine.load_parameters(start)
            engine.train(DOCUMENTS, Adam(), 0, steps)
            bits.append((engine.parameters(), engine.moments()))

        def load(engine: Engine = engine, start: Any = start) -> None:
            engine.load_parameters(start)
            engine.steps = 0

        load()

        def train(engine: Engine = engine) -> None:
            engine.train(DOCUMENTS, Adam(), 0, 2)

        for interrupted in interruptions(train, share):
            steps = engine.steps
            assert steps in (0, 2) if interrupted else steps == 2
            assert (engine.parameters(), engine.moments()) == bits[steps // 2]
            engine.train(DOCUMENTS, Adam(), steps, 4 - steps)
            assert (engine.parameters(), engine.moments()) == bits[2]
            load()
            cases += 1
        others = parameters(engine.config, VOCAB, 5)  # type: ignore[arg-type]
        allowed = [engine.parameters()]
        engine.load_parameters(others)
        allowed.append(engine.parameters())
        snapshot = engine.snapshot()
        for call in (lambda: engine.load_parameters(others), lambda: engine.restore(snapshot)):
            load()
            for interrupted in interruptions(call, share):
                revision = engine.revision
                assert engine.parameters() in (allowed if interrupted else allowed[1:])
                load()
                assert engine.revision != revision
                cases += 1
    return cases


def outcome_of(trainer: Trainer) -> object:
    """What a training comes to, kept and unkept."""
    kept: list[object] = []

    def write(model: tapegpt.GPT) -> None:
        assert model.state
        state = model.state
        kept.append((model.parameters, model.steps, state.moments, state.evaluations, state.last))

    trainer.keep(write)
    return trainer.model.parameters, trainer.step, trainer.best, kept


def check_trainers(share: float) -> int:
    """A training that is interrupted anywhere, kept and continued, ends in the same bits."""
    cases = 0
    for options in ({"engine": "exact"}, {"engine": "fast", "threads": 2, "batch_size": 8}):
        settings = {"steps": 6, "validation": 0.2, "learning_rate": 0.3, "seed": 1, **options}

        def new(settings: dict[str, Any] = settings) -> Trainer:
            return Trainer(CORPUS, Config(1, 8, 2, 8), **settings)

        trainer = new()
        list(trainer.chunks())
        expected = outcome_of(trainer)
        assert trainer.best
        assert trainer.best.step < 6 or trainer.settings.engine == "fast"
        trainer = new()

        def train() -> None:
            list(trainer.chunks())
            trainer.keep(lambda _: None)

        for _ in interruptions(train, share):
            trainer.keep(lambda model: None)
            list(trainer.chunks())
            assert outcome_of(trainer) == expected
            trainer = new()
            cases += 1
    return cases


@pytest.mark.slow
def test_an_interrupted_call_of_an_engine_has_been_done_or_not() -> None:
    assert check_engines(0.1) > 20


@pytest.mark.slow
def test_an_interrupted_training_goes_on_to_the_same_bits() -> None:
    assert check_trainers(0.01) > 5


def check_alarms(count: int) -> int:
    """Signals at random moments, in machine code too: however often, the training ends in the same bits."""
    rng, cases = random.Random(2), 0

    def interrupt(_: int, frame: FrameType | None) -> None:
        while frame:
            if frame.f_code.co_filename == guard.__file__:  # whose code is not made for it: once this has returned
                signal.setitimer(signal.ITIMER_REAL, 1e-4)
                return
            frame = frame.f_back
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGALRM, interrupt)
    try:
        for options in ({"engine": "exact"}, {"engine": "fast", "threads": 3, "batch_size": 12}):
            settings: dict[str, Any] = {"steps": 12 * count, "validation": 0.2, "seed": 1, **options}
            trainers = [Trainer(CORPUS, Config(1, 8, 2, 8), **settings) for _ in range(2)]
            list(trainers[0].chunks())
            for _ in range(count):
                with suppress(KeyboardInterrupt):
                    signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 0.002))
                    list(trainers[1].chunks())
                    signal.setitimer(signal.ITIMER_REAL, 0)
                cases += not trainers[1].is_over
            list(trainers[1].chunks())
            assert outcome_of(trainers[1]) == outcome_of(trainers[0])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    return cases


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no timer that interrupts")
def test_signals_at_random_moments() -> None:
    assert check_alarms(10) > 5


def test_a_callback_that_raises_closes_all_and_counts_the_steps() -> None:
    closed: list[int] = []

    class Callback:
        def __init__(self, number: int) -> None:
            self.number = number

        def __call__(self, trainer: Trainer, _: list[float]) -> None:
            if self.number == 1:
                steps.append(trainer.step)
                raise KeyError("callback")

        def close(self) -> None:
            closed.append(self.number)
            raise OSError(self.number)

    steps: list[int] = []
    trainers = [Trainer(CORPUS, Config(1, 8, 2, 8), steps=20) for _ in range(2)]
    with pytest.raises(OSError, match="2"):
        watch(trainers[0], trainers[0].chunks(), [Callback(0), Callback(1), Callback(2)])
    assert closed == [0, 1, 2]
    assert steps == [trainers[0].step]
    for trainer in trainers:
        list(trainer.chunks())
    assert trainers[0].model.parameters == trainers[1].model.parameters


def test_a_training_that_was_ended_goes_on_with_its_last_weights() -> None:
    """The best ones are what the model has in between."""
    settings: dict[str, Any] = {"steps": 6, "validation": 0.2, "learning_rate": 0.5, "seed": 1}
    trainers = [Trainer(CORPUS, Config(1, 8, 2, 8), **settings) for _ in range(2)]
    for trainer, counts in zip(trainers, ([5], [2, 1, 2]), strict=True):
        for count in counts:
            trainer.evaluate()
            trainer.run(count)
            if trainer is trainers[1]:
                trainer.finish()
                assert trainer.run(0) == []
                trainer.keep(lambda _: None)
                assert trainer.best
                assert trainer.best.step < trainer.step
                held_out = trainer.held_out
                assert held_out
                total, tokens = trainer.model.engine.evaluate(held_out.windows(8))
                assert total / tokens == trainer.best.loss
        trainer.run(1)
    assert trainers[0].model.parameters == trainers[1].model.parameters


# Several threads at once


def together(*works: Callable[[], object]) -> list[BaseException]:
    """Each on a thread of its own, to its end; what they raised."""
    errors: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  # the test fails by it
            errors.append(error)

    threads = [Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["exact", "fast"])
def test_what_is_read_while_it_trains_is_of_a_whole_number_of_steps(engine: str) -> None:
    config = Config(1, 32, 2, 8)

    def new() -> Trainer:
        batch: dict[str, Any] = {"batch_size": 4, "threads": 2} if engine == "fast" else {}
        return Trainer(CORPUS, config, engine=engine, steps=240, **batch)

    states, trainer = set(), new()
    for _ in range(81):
        made, moments = trainer.model.engine.parameters(), trainer.model.engine.moments()
        states.add(gist(made))
        states.add(gist(moments.mean))
        states.add(gist(moments.square))
        trainer.run(3)
    trainer, ended = new(), Event()
    model, core, seen = trainer.model, trainer.model.engine, set[bytes]()

    def train() -> None:
        for _ in range(80):
            trainer.run(3)
        ended.set()

    def until_it_ends(read: Callable[[], None]) -> Callable[[], None]:
        def work() -> None:
            while not ended.is_set():
                read()

        return work

    def look() -> None:
        moments = core.moments()
        seen.update((gist(core.parameters()), gist(moments.mean), gist(moments.square)))
        seen.add(gist(core.parameters_in(core.snapshot())))

    def ask() -> None:
        assert len(model.generate(3, seed=1)) == 3
        assert len(model.generate(2)) == 2
        assert model.score(["anna"])[0].nats > 0
        assert model.explain("bina").loss > 0
        assert len(model.random_state[1]) == 625

    assert together(train, until_it_ends(look), until_it_ends(look), until_it_ends(ask)) == []
    assert seen <= states
    assert len(seen) > 3
    assert gist(core.parameters()) in states
    again = new()
    again.run(240)
    assert model.parameters == again.model.parameters
    assert model.score(["anna"]).nats == again.model.score(["anna"]).nats
    assert model.explain("bina").loss == again.model.explain("bina").loss


@pytest.mark.parametrize("make", [lambda: fast(2), lambda: ExactEngine(SHAPE, VOCAB)], ids=["fast", "exact"])
def test_calls_of_an_engine_take_turns(make: Callable[[], Engine]) -> None:
    engine = make()
    snapshot, given, moments = engine.snapshot(), engine.parameters(), engine.moments()
    calls: list[Callable[[], object]] = [
        engine.parameters,
        lambda: engine.load_parameters(given),
        engine.snapshot,
        lambda: engine.restore(snapshot),
        engine.moments,
        lambda: engine.load_moments(moments),
        lambda: engine.train(DOCUMENTS, Adam(), 0, 1),
        lambda: engine.evaluate(DOCUMENTS),
        lambda: engine.generate(Random(1), 1, 1.0),
    ]
    for call in calls:
        revision, over = engine.revision, Event()
        with engine._lock:
            thread = Thread(target=lambda call=call, over=over: (call(), over.set()))
            thread.start()
            assert not over.wait(0.02)
        thread.join()
        assert over.is_set()
        changes = call in (calls[1], calls[3], calls[5], calls[6])
        assert (engine.revision != revision) == changes


def gist(numbers: Parameters) -> bytes:
    return b"".join(values.tobytes() for values in numbers.values())


def test_threads_that_share_a_models_generator_waste_nothing() -> None:
    """Each string that one thread would have got comes once, to whichever asks; exact strings are one sequence."""
    model = tapegpt.train(CORPUS, steps=30, n_embd=8, n_head=2, block_size=8)
    state = model.random_state
    expected = sorted(model.generate(600))
    model.rng.setstate(state)
    found: list[str] = []
    assert together(*[lambda: found.extend(model.generate(1)[0] for _ in range(150))] * 4) == []
    assert sorted(found) == expected


def test_a_corpus_is_shared_and_generators_and_tapes_are_each_threads_own() -> None:
    def work() -> object:
        rng = Random(3)
        order = rng.permutation(len(CORPUS))
        tape = Tape(4)
        x = tape.parameter("x", 1, 40)
        loss = (x * x + 3.0).exp().sum()
        tape.write(x, rng.gauss_array(40, 0.0, 0.1))
        tape.forward(loss)
        tape.backward(loss)
        held_out = hold_out(CORPUS, 0.2, 1)
        texts = [each.documents for each in held_out]
        return texts, CORPUS.tokens(order).ids, CORPUS.windows(3).starts, tape.gradient(x), rng.getstate()

    found: list[object] = []
    assert together(*[lambda: found.extend(work() for _ in range(5))] * 4) == []
    assert len(found) == 20
    assert all(each == found[0] for each in found)


# The end of the process

ENDINGS = {
    "a daemon thread trains when the program ends": """
import threading, time
trainer = tapegpt.Trainer(corpus, config, engine="fast", threads=3, batch_size=48, steps=10**9)
threading.Thread(target=lambda: list(trainer.chunks()), daemon=True).start()
while trainer.step < 100:
    time.sleep(0.001)
""",
    "a worker cannot start": """
from tapegpt.machine import threads
start, count = threads.start_new_thread, [0]
def failing(*arguments):
    count[0] += 1
    if count[0] == 2:
        raise RuntimeError("can't start new thread")
    return start(*arguments)
threads.start_new_thread = failing
try:
    tapegpt.train(corpus, engine="fast", threads=4, batch_size=16, steps=10)
except RuntimeError:
    print("raised")
""",
    "Ctrl-C": """
import os, signal, threading, time
trainer = tapegpt.Trainer(corpus, config, engine="fast", threads=3, batch_size=48, steps=10**9)
def press():
    while trainer.step < 100:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=press).start()
try:
    list(trainer.chunks())
except KeyboardInterrupt:
    assert float("5e-324") * 1.0
    print("raised")
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("ending", ENDINGS)
def test_the_process_ends(ending: str) -> None:
    head = "import tapegpt\ncorpus = tapegpt.Corpus.dataset('names')\nconfig = tapegpt.Config()\n"
    program = head + ENDINGS[ending]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == ("raised\n" if "raised" in program else "")


if __name__ == "__main__":
    print(
        f"{check_engines(1)} interruptions of engines, {check_trainers(0.3)} of trainings, {check_alarms(100)} alarms"
    )
