"""The fast engine: its training step, compared with the peak of the core, and its generation.

A fraction of peak counts 6 x multiply-adds of the linear layers per position, two operations each in the forward and
the two backward products: the work of the model, not that of the kernels. Not here: single kernels (`kernels.py`).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.timing import Contender, Summary, comparison, figure, seconds, table, take_turns
from tapegpt import Config, Corpus, Random
from tapegpt.autograd.model import Model
from tapegpt.data.tokens import Strings
from tapegpt.engines.base import Snapshot
from tapegpt.engines.compiled import Generation
from tapegpt.engines.decoding import Decoding
from tapegpt.engines.fast.generation import generation_kernel
from tapegpt.machine.language import F32, Builder, F32s, Int, kernel
from tapegpt.machine.memory import Memory, address_of
from tapegpt.machine.program import Program
from tapegpt.models.trained import GPT
from tapegpt.settings import MAX_STEPS, Settings
from tapegpt.training.trainer import Trainer

if TYPE_CHECKING:
    from tapegpt.machine.program import Entries

SAMPLE_SECONDS = 0.15  # of training, at least half of it, between two measurements of the peak
PEAK_ROUNDS, CHAINS = 100_000, 12  # half a millisecond, seldom interrupted; more chains than any core has in flight
CLOSE = 1e-4  # nats
DEEP = Config(n_layer=4, n_embd=128, block_size=64)
SHAPES = ((Config(), 1), (Config(), 16), (Config(n_embd=32), 16), (Config(n_embd=64), 16), (DEEP, 16))  # and documents
THREADED = (Config(n_embd=64), 64)
LONG = (
    (Config(n_embd=64, block_size=256), 4),
    (Config(n_layer=6, n_embd=256, n_head=8, block_size=256), 4),
    (Config(n_layer=6, n_embd=384, n_head=6, block_size=256), 4),
)
TEXT = 200_000  # characters of the long text
SPEAKERS = (Config(), Config(n_embd=32), Config(n_embd=64))
STRINGS, TEMPERATURE, SEED = 4096, 0.5, 1
BLOCKS, HOT = 4, 100.0  # of strings that are longer, and a temperature at which few end before


# --- the peak ---------------------------------------------------------------------------------------------------


@kernel
def multiply_adds(k: Builder, numbers: F32s, rounds: Int) -> None:
    """Chains of x = x a + b in registers; `numbers` holds a and b, then what each chain comes to."""
    width = k.width(F32)
    a, b = numbers.vector(0, width), numbers.vector(width, width)
    chains = [k.variable(k.constant(start, F32, width)) for start in range(CHAINS)]  # LLVM merges chains that are equal
    for _ in k.range(rounds):
        for x in chains:
            x.set(k.mul_add(x, a, b))
    for place, x in enumerate(chains, 2):
        numbers.store(place * width, x)


class Peak:
    """The most f32 multiply-adds that this core does now: `measure()`, in GFLOP/s; `samples` keeps them all."""

    def __init__(self) -> None:
        self._program = Program({"multiply_adds": (multiply_adds, {})})
        if not self._program.compiled:
            raise SystemExit(f"nothing to measure: {self._program.notice or 'the kernels are interpreted'}")
        self._width = self._program.target.vector_bytes // 4
        self._memory = Memory(4 * (2 + CHAINS) * self._width)
        self._numbers = self._memory.floats(0, (2 + CHAINS) * self._width, 4)
        for lane in range(self._width):
            self._numbers[lane], self._numbers[self._width + lane] = 0.5, 1.0
        self.samples: list[float] = []

    def measure(self) -> float:
        """GFLOP/s, over about half a millisecond."""
        taken = seconds(lambda: self._program.run("multiply_adds", self._memory.at(0), PEAK_ROUNDS))
        results = self._numbers[2 * self._width :].tolist()
        assert results == [2.0] * len(results), "x / 2 + 1 comes to 2"
        self.samples.append(2 * CHAINS * self._width * PEAK_ROUNDS / taken / 1e9)
        return self.samples[-1]

    def __str__(self) -> str:
        summary = Summary("peak", self.samples)
        return f"Peak of one core beside the samples: {figure(summary.median)} GFLOP/s ({summary.spread})\n"


# --- training ---------------------------------------------------------------------------------------------------


class Job:
    """One training that goes on from sample to sample; each sample leaves its fraction of the peak."""

    def __init__(self, corpus: Corpus, config: Config, batch_size: int, peak: Peak, threads: int = 1) -> None:
        settings = Settings(
            "fast", MAX_STEPS, batch_size=batch_size, threads=threads, learning_rate=0.001, long="window"
        )
        trainer = Trainer(corpus, config, settings)
        self.run = trainer.run
        self.config, self.batch_size = config, batch_size
        self.positions = batch_size * positions_a_document(corpus, config)  # of a step
        self.fractions: list[float] = []
        self._work = 6 * linear_multiply_adds(config, corpus.vocab_size) * self.positions
        self._peak = peak
        self._count = steps_a_sample(trainer.run)

    def sample(self) -> float:
        """Seconds a step."""
        before = self._peak.measure()
        taken = seconds(lambda: self.run(self._count)) / self._count
        self.fractions.append(self._work / taken / 1e9 / max(before, self._peak.measure()))
        return taken

    @property
    def fraction(self) -> str:
        """Of the peak, the median."""
        return f"{100 * median(self.fractions):.1f} %"


def positions_a_document(corpus: Corpus, config: Config) -> float:
    """Predictions of a document, or of a window of a long one, on average."""
    windows = corpus.windows(config.block_size)
    return windows.starts[-1] / len(windows)


def linear_multiply_adds(config: Config, vocab_size: int) -> int:
    """Of one position, forward."""
    return 12 * config.n_layer * config.n_embd**2 + vocab_size * config.n_embd


def steps_a_sample(run: Callable[[int], object]) -> int:
    """How many steps take about `SAMPLE_SECONDS`; warms up."""
    run(1)
    count = 1
    while seconds(lambda: run(count)) < SAMPLE_SECONDS / 2:
        count *= 2
    return count


def check_against_exact(corpus: Corpus, config: Config, count: int) -> None:
    """The first `count` losses are those of the exact engine, within `CLOSE`."""
    fast, exact = (Trainer(corpus, config, steps=1000, engine=engine).run(count) for engine in ("fast", "exact"))
    _check_close(f"{config}: losses of fast and exact", fast, exact)


def check_threads(corpus: Corpus, config: Config, batch_size: int) -> None:
    """Two threads come to the losses of one, within `CLOSE`."""
    one, two = (
        Trainer(corpus, config, steps=1000, engine="fast", batch_size=batch_size, threads=threads).run(20)
        for threads in (1, 2)
    )
    _check_close(f"{config}: losses of one thread and two", one, two)


def _check_close(what: str, losses: Sequence[float], others: Sequence[float]) -> None:
    apart = [abs(a - b) for a, b in zip(losses, others, strict=True)]
    assert all(gap <= CLOSE for gap in apart), f"{what} are {max(apart)} apart"


def training_step(corpus: Corpus, rounds: int) -> str:
    """The step by shape, by threads, and on long texts."""
    check_against_exact(corpus, Config(), 100)
    peak = Peak()
    tables = [by_shape(corpus, peak, rounds), by_threads(corpus, peak, rounds), long_texts(corpus, peak, rounds)]
    return "\n".join([*tables, str(peak)])


def by_shape(corpus: Corpus, peak: Peak, rounds: int) -> str:
    """Microseconds a document for each of `SHAPES`, which take turns."""
    jobs = [Job(corpus, config, batch_size, peak) for config, batch_size in SHAPES]
    rows = []
    for job, summary in zip(jobs, _in_turns(jobs, rounds, lambda job: 1e6 / job.batch_size), strict=True):
        config = job.config
        shape = [str(n) for n in (config.n_embd, config.n_layer, config.block_size, job.batch_size)]
        rows.append([*shape, figure(summary.median), summary.spread, job.fraction])
    heads = ["n_embd", "n_layer", "block_size", "batch", "us per document", "lowest..highest, us", "of peak"]
    return table("The training step, fast engine, one thread", heads, rows)


def by_threads(corpus: Corpus, peak: Peak, rounds: int) -> str:
    """One thread and two, which take turns."""
    config, batch_size = THREADED
    check_threads(corpus, config, batch_size)
    jobs = [Job(corpus, config, batch_size, peak, threads) for threads in (1, 2)]
    names = ("1 thread", "2 threads")
    summaries = _in_turns(jobs, rounds, lambda job: 1e6 / job.batch_size, names)
    title = f"Microseconds a document, n_embd {config.n_embd}, {batch_size} documents a step"
    return comparison(title, "us", summaries, summaries[0])


def long_texts(corpus: Corpus, peak: Peak, rounds: int) -> str:
    """One long text in windows, for each of `LONG`, which take turns."""
    text = Corpus.of([" ".join(corpus.documents)[:TEXT]])
    check_against_exact(text, LONG[0][0], 2)
    jobs = [Job(text, config, batch_size, peak) for config, batch_size in LONG]
    rows = []
    for job, summary in zip(jobs, _in_turns(jobs, rounds, lambda _: 1e3), strict=True):
        config = job.config
        shape = [str(n) for n in (config.n_embd, config.n_layer, config.block_size, job.batch_size)]
        a_position = figure(1e3 * summary.median / job.positions)
        rows.append([*shape, figure(summary.median), summary.spread, a_position, job.fraction])
    heads = ["n_embd", "n_layer", "block_size", "batch", "ms a step", "lowest..highest, ms", "us a position", "of peak"]
    return table("Long texts, fast engine, one thread", heads, rows)


def _in_turns(
    jobs: Sequence[Job], rounds: int, scale: Callable[[Job], float], names: Sequence[str] = ()
) -> list[Summary]:
    """Seconds a step of each job, times `scale`."""

    def contender(job: Job, name: str) -> Contender:
        return Contender(name, lambda: scale(job) * job.sample())

    return take_turns(list(map(contender, jobs, names or [""] * len(jobs))), rounds)


# --- generation -------------------------------------------------------------------------------------------------


class Voice:
    """Generation with batches of any size; the engine's own number is fixed."""

    def __init__(self, config: Model, vocab_size: int, snapshot: Snapshot, slots: int) -> None:
        assert isinstance(snapshot, bytes)
        decoding = Decoding(config, vocab_size, lines=slots)
        entries: Entries = {"prepare": (decoding.prepare, {}), "generate": (generation_kernel(decoding), {})}
        self._program = Program(entries)
        self._shared, self._work = Memory(4 * decoding.shared), Memory(4 * decoding.work)
        self._shared.at(0).view[: len(snapshot)] = snapshot
        self._program.run("prepare", self._shared.at(0), self._work.at(0))
        self._block, self._slots = config.block_size, slots

    def generate(self, rng: Random, count: int, temperature: float) -> Strings:
        """As `FastEngine.generate`."""
        strings, rows = Strings.empty(count, self._block), array("q", bytes(16 * self._slots))
        streams = rng.streams(count)
        generation = {"rows": address_of(rows), "streams": address_of(streams), **Generation.arguments(strings)}
        self._program.run("generate", self._shared.at(0), self._work.at(0), generation, temperature)
        return strings


def generation(corpus: Corpus, rounds: int) -> str:
    """Tokens a second of each of `SPEAKERS`: one string at a time, batched, as text, and beyond the block, in turns."""
    rows = []
    for config in SPEAKERS:
        trainer = Trainer(corpus, config, engine="fast", batch_size=16, threads=1, steps=2000)
        trainer.run(trainer.settings.steps)  # so that strings are as long as a trained model's
        ways = _ways(trainer.model)
        tokens = check_strings(trainer.model, ways)
        contenders = [Contender(name, _per_token(way, tokens)) for name, way in ways.items()]
        contenders += [_reaching(trainer.model, blocks * config.block_size) for blocks in (1, BLOCKS)]
        for summary in take_turns(contenders, rounds):
            rates = [1 / sample for sample in summary.samples]  # tokens per us
            spread = f"{figure(min(rates))}..{figure(max(rates))}"
            rows.append([f"n_embd {config.n_embd}, {summary.name}", figure(median(rates)), spread])
    return table("Generation, fast engine, one thread", ["", "million tokens/s", "lowest..highest"], rows)


def _ways(model: GPT) -> dict[str, Callable[[], Strings | list[str]]]:
    """The same strings, in three ways."""
    snapshot = model.engine.snapshot()
    alone = Voice(model.config, model.vocab_size, snapshot, slots=1)
    return {
        "one string at a time": lambda: alone.generate(Random(SEED), STRINGS, TEMPERATURE),
        "batched": lambda: model.engine.generate(Random(SEED), STRINGS, TEMPERATURE),
        "batched, as text": lambda: model.generate(STRINGS, temperature=TEMPERATURE, seed=SEED),
    }


def _reaching(model: GPT, longest: int) -> Contender:
    """Of strings that are hardly ended but where they are longest."""

    def way() -> Strings:
        return model.engine.generate(Random(SEED), STRINGS, HOT, longest)

    tokens = sum(min(length + 1, longest) for length in way().lengths)
    return Contender(f"batched, up to {longest} tokens at temperature {HOT:g}", _per_token(way, tokens))


def check_strings(model: GPT, ways: dict[str, Callable[[], Strings | list[str]]]) -> int:
    """All ways give the same strings; the number of their tokens, with the ends that were drawn."""
    generated = {name: way() for name, way in ways.items()}
    strings = {
        name: model.vocabulary.texts(result) if isinstance(result, Strings) else result
        for name, result in generated.items()
    }
    first, *others = strings.values()
    assert all(other == first for other in others), f"{model.config}: {', '.join(strings)} differ"
    return sum(min(len(string) + 1, model.config.block_size) for string in first)


def _per_token(way: Callable[[], object], tokens: int) -> Callable[[], float]:
    """A sampler: microseconds a token."""
    return lambda: 1e6 * seconds(way) / tokens
