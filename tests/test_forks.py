"""Other processes: what a child computes is right however it was started, and it never touches its parent.

`python -m tests.test_forks 50` starts so many children in each way, for each engine, beside trainings in their parent.
"""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import re
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

import tapegpt
from tapegpt import GPT, Config, Corpus, Ensemble, TapeGPTError, Trainer, dumps, errors, loads
from tapegpt.errors import DivergedError
from tapegpt.experiments.population import Candidate, Field, populate
from tapegpt.machine.language import Builder, F64s, Int, kernel
from tapegpt.machine.memory import Memory, address_of
from tapegpt.machine.program import Program
from tapegpt.processes import renew_at_fork
from tapegpt.settings import Settings

WAYS = [way for way in ("fork", "spawn", "forkserver") if way in multiprocessing.get_all_start_methods()]
FORKS = pytest.mark.skipif("fork" not in WAYS, reason="there is no fork here")
ENGINES: dict[str, dict[str, int]] = {"exact": {"steps": 40}, "fast": {"steps": 40, "batch_size": 8, "threads": 2}}
NAMES = ["anna", "bert", "clara", "dora", "emil", "frida", "gustav", "hanna"] * 5
PATIENCE = 120.0  # seconds in which a child surely is over


SHAPE = {"n_embd": 8, "n_head": 2, "block_size": 8}


def trained(engine: str, **options: Any) -> GPT:
    given: Any = {"engine": engine, **SHAPE, **ENGINES[engine], **options}
    return tapegpt.train(NAMES, **given)


def work(model: GPT) -> list[object]:
    """All that a child can do with a model, the same for the same parameters."""
    results: list[object] = [model.generate(300, seed=1), model.generate(5, seed=2, pattern="a.*")]
    results += [list(model.score(NAMES).nats), model.explain("anna").loss, model.next_probabilities("an")]
    trainer = Trainer.finetune(model, Corpus.of(NAMES), model.state.settings)  # type: ignore[union-attr]
    results += [trainer.run(10), trainer.model.generate(20, seed=3)]
    zeros = {name: array("d", bytes(8 * len(numbers))) for name, numbers in model.parameters.items()}
    model.engine.load_parameters(zeros)
    return [*results, set(map(float, model.parameters["wte"]))]


def answer(send: Any, task: Callable[..., object], arguments: tuple[object, ...]) -> None:
    try:
        send.send(task(*arguments))
    except BaseException as error:  # noqa: BLE001  # the test is to see it
        send.send(error)


def child(way: str, task: Callable[..., object], *arguments: object) -> Any:
    """What a task gives in another process."""
    context = multiprocessing.get_context(way)
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=answer, args=(send, task, arguments))  # type: ignore[attr-defined]  # each has it
    process.start()
    try:
        assert receive.poll(PATIENCE), f"the child of {way} hangs"
        return receive.recv()
    finally:
        process.kill()
        process.join()


@contextmanager
def training(engine: str) -> Iterator[GPT]:
    """A model that another thread trains meanwhile."""
    given: Any = {"engine": engine, **ENGINES[engine], "steps": 1_000_000_000, "learning_rate": 1e-5}
    trainer = Trainer(Corpus.of(NAMES), Config(**SHAPE), **given)
    begun, over = Event(), Event()

    def train() -> None:
        while not over.is_set():
            trainer.run(2000)
            begun.set()

    thread = Thread(target=train)
    thread.start()
    try:
        assert begun.wait(PATIENCE)
        yield trainer.model
    finally:
        over.set()
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_child_computes_the_same_and_leaves_its_parent_alone(way: str, engine: str) -> None:
    model = trained(engine)
    before = model.engine.snapshot()
    with training(engine):
        there = child(way, work, model)
    assert model.engine.snapshot() == before
    assert there == work(model)


@pytest.mark.slow
@FORKS
@pytest.mark.parametrize("engine", ENGINES)
def test_what_trained_while_the_process_forked_is_refused_in_the_child(engine: str) -> None:
    """Until it gets parameters."""
    parameters = trained(engine).parameters

    def use(model: GPT) -> list[str]:
        said = []
        for call in (lambda: model.generate(1), lambda: model.parameters, lambda: model.score(["anna"])):
            try:
                call()
                said.append("")
            except TapeGPTError as error:
                said.append(str(error))
        model.engine.load_parameters(parameters)
        return [*said, *model.generate(20, seed=1), *model.generate(3, seed=1, pattern="a.*")]

    expected = use(trained(engine))[3:]
    with training(engine) as model:
        seen = [child("fork", use, model) for _ in range(4)]
    line = "this process was forked while another thread trained the model: load its parameters, or its file"
    assert {each for said in seen for each in said[:3]} <= {"", line}
    assert line in seen[0]
    assert all(said[3:] == expected for said in seen)


@FORKS
def test_locks_of_other_threads_are_open_in_a_child() -> None:
    """Whatever has a lock: programs, models, engines, probes, portraits, workers; here one as all have it."""
    from _thread import allocate_lock

    lock = renew_at_fork(allocate_lock())
    with lock:
        assert child("fork", lock.acquire, False) is True
    assert lock.acquire(blocking=False)


def test_every_lock_is_renewed_and_every_map_private() -> None:
    """Where a lock lives longer than a call, or memory is mapped, a forked child is thought of."""
    for path in Path(tapegpt.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.name != "threads.py":  # its locks are those of a call
            assert len(re.findall(r"Lock\(\)|_lock\(\)", text)) == text.count("renew_at_fork(allocate_lock())"), path
        assert "mmap.mmap(" not in text or path.name == "memory.py", path


@kernel
def cumulate(k: Builder, x: F64s, n: Int, *, factor: float) -> None:
    total = k.zeros()
    for i in k.range(n):
        total += x[i] * factor
        x[i] = total


def compiled(factor: float) -> list[float]:
    x = array("d", [1.0, 2.0, 3.0])
    Program({"cumulate": (cumulate, {"factor": factor})}).run("cumulate", address_of(x), 3)
    return x.tolist()


@FORKS
def test_a_child_compiles_while_its_parent_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPEGPT_CACHE_DIR", "")
    over = Event()

    def compile_on() -> None:
        factor = 100.0
        while not over.is_set():
            compiled(factor := factor + 1.0)

    thread = Thread(target=compile_on)
    thread.start()
    try:
        for factor in (1.0, 2.0, 3.0, 4.0):
            assert child("fork", compiled, factor) == [factor, 3 * factor, 6 * factor]
    finally:
        over.set()
        thread.join()


@pytest.mark.slow
@FORKS
def test_a_child_does_not_wait_for_its_parent_s_threads() -> None:
    config, settings = Config(n_embd=4, n_head=1, block_size=4), Settings(steps=20)
    candidates = [Candidate(number, config, settings) for number in range(6)]
    outcomes = populate(Field(Corpus.of(NAMES), 0.2), candidates, 2)
    next(outcomes)
    error = child("fork", next, outcomes)
    assert str(error) == "forked while trainings ran, which continue in the parent process: start new ones"
    assert len(list(outcomes)) == 5
    again = child("fork", lambda: len(list(populate(Field(Corpus.of(NAMES), 0.2), candidates, 2))))
    assert again == 6


@FORKS
def test_the_studio_s_workers_begin_again_in_a_child() -> None:
    import asyncio

    from tapegpt.pools import one_piece
    from tapegpt.studio.work import Deadline, Workers

    workers, gate = Workers("test", 1, 0), Event()

    async def one() -> int:
        return await workers.submit(one_piece(lambda: 7), Deadline(PATIENCE))

    async def busy() -> Any:
        waiting = workers.submit(one_piece(gate.wait), Deadline(PATIENCE))
        there = child("fork", lambda: asyncio.new_event_loop().run_until_complete(one()))
        gate.set()
        await waiting
        return there

    assert asyncio.run(busy()) == 7
    workers.close()


@pytest.mark.slow
def test_generators_go_on_alike_in_parent_and_child() -> None:
    model = trained("exact")
    for way in WAYS:
        there = child(way, GPT.generate, model, 5)
        assert there == pickle.loads(pickle.dumps(model)).generate(5)


# --- pickles ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_pickles_as_a_file_keeps_it(engine: str) -> None:
    model = trained(engine)
    model.score(["anna"])  # so that it has ranks
    there = pickle.loads(pickle.dumps(model))
    assert there.generate(5) == model.generate(5)  # also the state of its generator
    assert vars(there.state) == vars(model.state)
    assert (there.steps, there.data, list(there.ranks)) == (model.steps, model.data, list(model.ranks))
    assert [type(there.engine), there.parameters] == [type(model.engine), model.parameters]
    assert there.documents is None
    corpus = Corpus.of(NAMES)
    going_on = [Trainer.resume(each, corpus, more=5) for each in (model, there)]
    assert going_on[0].run(5) == going_on[1].run(5)


def test_ensembles_and_scores_pickle() -> None:
    model = trained("fast")
    for speaker in (model, Ensemble([model, trained("exact", seed=7)])):
        there = pickle.loads(pickle.dumps(speaker))
        assert there.generate(5) == speaker.generate(5)
        scores = speaker.score(NAMES)
        assert list(pickle.loads(pickle.dumps(scores))) == list(scores)


@pytest.mark.slow
def test_pools_score_generate_and_name() -> None:
    model = trained("exact")
    parts = [NAMES[:4], NAMES[4:8]]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        scored = pool.map(model.score, parts)
        with pytest.raises(TapeGPTError, match="strings must be several strings"):
            pool.map(model.score, ["no list"])
    assert [list(each.nats) for each in scored] == [list(model.score(part).nats) for part in parts]
    name = partial(model.names_for, secret="0" * 16, novel=False)
    with ProcessPoolExecutor(2, multiprocessing.get_context("forkserver")) as executor:
        assert list(executor.map(name, parts)) == list(map(name, parts))


@pytest.mark.slow
@pytest.mark.parametrize("engine", [*ENGINES, "several"])
def test_a_model_is_a_value(engine: str) -> None:
    """Its copies, pickles and files have its fingerprint, which whatever changes what it says changes."""
    several = engine == "several"
    model = Ensemble([trained("fast"), trained("exact")]) if several else trained(engine)
    expected, names = model.fingerprint, model.models[0].documents if several else model.documents
    model.generate(3)
    twins = [copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model)), loads(dumps(model))]
    assert {twin.fingerprint for twin in twins} == {expected}
    assert len({model, *twins, model}) == 5
    assert {tuple(twin.generate(9)) for twin in twins} == {tuple(model.generate(9))}  # each has a generator of its own
    for twin in twins[:2]:
        assert (twin.models[0] if several else twin).documents == names
    changed = twins[1].models[1] if several else twins[1]
    changed.engine.load_parameters({**changed.parameters, "wte": array("d", bytes(8 * len(changed.parameters["wte"])))})
    assert twins[1].fingerprint != expected == model.fingerprint
    others = [trained("exact", **other) for other in ({}, {"seed": 1}, {"block_size": 7}, {"model": "modern"})]
    assert len({each.fingerprint for each in [*others, trained("fast")]}) == 5


@pytest.mark.slow
def test_what_stays_in_its_process_says_so() -> None:
    tape = tapegpt.autograd.Tape()
    x = tape.parameter("x", 1, 2)
    tape.forward((x * x).sum())
    for thing in (tape, trained("exact").engine, Trainer(Corpus.of(NAMES), Config()), Memory(8)):
        with pytest.raises(TapeGPTError, match="stays in its process: pickle a model"):
            pickle.dumps(thing)


def test_errors_pickle() -> None:
    there = pickle.loads(pickle.dumps(DivergedError(3, [1.0])))
    assert (there.step, there.losses, str(there)) == (3, [1.0], str(DivergedError(3, [1.0])))
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TapeGPTError)]
    for kind in kinds:
        if kind is not DivergedError:
            assert str(pickle.loads(pickle.dumps(kind("what to do")))) == "what to do"


def main(count: int) -> None:
    """So many children in each way, for each engine, beside a training."""
    for engine in ENGINES:
        model = trained(engine)
        before, expected = model.engine.snapshot(), work(pickle.loads(pickle.dumps(model)))
        with training(engine):
            for way in WAYS:
                start = time.monotonic()
                right = sum(child(way, work, model) == expected for _ in range(count))
                assert model.engine.snapshot() == before
                print(f"{engine}, {way}: {right} of {count} right, {time.monotonic() - start:.0f} s", flush=True)
                assert right == count


if __name__ == "__main__":
    main(int(sys.argv[1]))


def test_an_ensemble_pickles_with_its_ranks() -> None:
    ensemble = Ensemble([trained("fast"), trained("exact", seed=7)])
    expected = ensemble.score(NAMES).percentiles
    assert pickle.loads(pickle.dumps(ensemble)).score(NAMES).percentiles == expected
