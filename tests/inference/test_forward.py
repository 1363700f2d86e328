"""A model that is only read, held to the scalars of microgpt.py: surprises, next tokens, strings within rules."""

from __future__ import annotations

import math
import random
from array import array
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tapegpt import Config, Model, Random
from tapegpt.data.tokens import Tokens
from tapegpt.data.windows import window_start
from tapegpt.engines import decoding
from tapegpt.engines.base import Parameters
from tapegpt.engines.exact import ExactEngine
from tapegpt.engines.fast.engine import FastEngine
from tapegpt.engines.reference import ReferenceEngine
from tapegpt.inference.automata import FORBIDDEN
from tapegpt.inference.constraints import Drawing
from tapegpt.inference.forward import Drawn, Inference, Rules
from tapegpt.inference.reading import LEAST
from tapegpt.machine.host import available, host_target
from tapegpt.machine.target import Target
from tapegpt.models import NAMES, named
from tests.properties import many

SHAPE, VOCAB = Config(1, 8, 2, 3), 4  # three characters: 40 strings
TARGETS = available(host_target())
FREE = Drawing(temperature=1.0)
SIGMAS = 5


def parameters(config: Model, vocab_size: int, seed: int = 0, deviation: float = 0.4) -> Parameters:
    rng = random.Random(seed)
    return {
        name: array("d", [rng.gauss(0, deviation) for _ in range(rows * columns)])
        for name, (rows, columns) in config.shapes(vocab_size).items()
    }


def inference(config: Model = SHAPE, vocab_size: int = VOCAB, target: Target | None = None) -> Inference:
    return Inference(config, vocab_size, parameters(config, vocab_size), target)


def tokens(strings: list[list[int]], bos: int) -> Tokens:
    ids, starts = array("I", [bos]), array("q", [0])
    for string in strings:
        ids.extend([*string, bos])
        starts.append(len(ids) - 1)
    return Tokens(ids, starts)


def random_strings(config: Model, vocab_size: int, count: int, seed: int = 0) -> list[list[int]]:
    """Of any length that a block holds with what ends it."""
    rng = random.Random(seed)
    lengths = [rng.randrange(config.block_size) for _ in range(count)]
    return [[rng.randrange(vocab_size - 1) for _ in range(length)] for length in lengths]


class Oracle:
    """The same model in scalars."""

    def __init__(self, config: Config, vocab_size: int) -> None:
        self._engine, self._bos = ReferenceEngine(config, vocab_size), vocab_size - 1
        self._engine.load_parameters(parameters(config, vocab_size))

    def logs(self, string: list[int]) -> list[list[float]]:
        """log p of each token, at each place of a string."""
        result = []
        for row in self._engine.logits([self._bos, *string, self._bos]):
            logits = [logit.data for logit in row]
            log_sum = max(logits) + math.log(math.fsum(math.exp(logit - max(logits)) for logit in logits))
            result.append([logit - log_sum for logit in logits])
        return result


# Surprises and next tokens

SHAPES = [(SHAPE, VOCAB), (Config(2, 15, 3, 5), 20), (Config(1, 6, 2, 1), 3), (Config(1, 14, 2, 34), 9)]


@pytest.mark.slow
@pytest.mark.parametrize(("config", "vocab_size"), SHAPES)
def test_surprises_and_next_tokens_are_the_scalars(config: Config, vocab_size: int) -> None:
    oracle, model = Oracle(config, vocab_size), inference(config, vocab_size)
    strings = random_strings(config, vocab_size, 4)
    data = tokens(strings, vocab_size - 1)
    prefixes = [string[:place] for string in strings for place in range(len(string) + 1)]
    expected = [logs for string in strings for logs in oracle.logs(string)]
    bound = 2e-6 * max(abs(log) for logs in expected for log in logs)
    found = model.next_logs(prefixes)
    for logs, correct in zip(found, expected, strict=True):
        assert logs.tolist() == pytest.approx(correct, abs=bound)
    surprises = [-logs[token] for logs, token in zip(expected, data.ids[1:], strict=True)]
    assert model.surprises(data).tolist() == pytest.approx(surprises, abs=bound)
    assert model.next_logs(prefixes * 40) == found * 40  # more than go through the model together


@pytest.mark.slow
@pytest.mark.parametrize(("config", "vocab_size"), SHAPES)
def test_totals_are_the_exact_engines_losses(config: Config, vocab_size: int) -> None:
    """Of more strings than go through the model together."""
    exact, model = ExactEngine(config, vocab_size), inference(config, vocab_size)
    exact.load_parameters(parameters(config, vocab_size))
    strings = random_strings(config, vocab_size, 400)
    data = tokens(strings, vocab_size - 1)
    losses = [exact.evaluate(tokens([string], vocab_size - 1))[0] for string in strings]
    totals = model.totals(data)
    assert totals.tolist() == pytest.approx(losses, rel=1e-5, abs=1e-5)
    surprises = model.surprises(data)
    assert [sum(surprises[start:end]) for start, end in pairwise(data.starts)] == totals.tolist()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "block_size", "vocab_size"),
    [*[(name, block_size, 4) for name in NAMES for block_size in (7, 34)], ("gpt", 7, 300)],
)
def test_documents_are_read_alike_in_any_company(name: str, block_size: int, vocab_size: int) -> None:
    """Sorted or not, with beginnings in common or none, and where a refill divides them."""
    config = named(name)(block_size=block_size)
    model = inference(config, vocab_size)
    strings = random_strings(config, vocab_size, LEAST // 2) * 2
    together = tokens(strings, vocab_size - 1)
    surprises, totals = model.surprises(together), model.totals(together)
    for number, string in enumerate(strings[:20]):
        alone = tokens([string], vocab_size - 1)
        start, end = together.starts[number : number + 2]
        assert model.surprises(alone) == surprises[start:end]
        assert model.totals(alone)[0] == totals[number] == totals[number + LEAST // 2]
    assert model.next_logs(strings) == [model.next_logs([string])[0] for string in strings]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_rows_that_are_looked_up_are_those_that_are_computed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = named(name)(block_size=7)
    together, by_table = tokens(random_strings(config, VOCAB, 20), VOCAB - 1), inference(config)
    monkeypatch.setattr(decoding, "MOST", 0)
    assert by_table.surprises(together) == inference(config).surprises(together)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("block_size", [1, 2, 7])
def test_beyond_the_block_a_token_follows_its_window(name: str, block_size: int) -> None:
    model = inference(named(name)(block_size=block_size))
    rng = random.Random(block_size)
    strings = [
        [rng.randrange(VOCAB - 1) for _ in range(rng.randrange(4 * block_size + 2))] for _ in range(LEAST // 4)
    ] * 4
    data = tokens(strings, VOCAB - 1)
    surprises, totals = model.surprises(data), model.totals(data)
    for number, (start, end) in enumerate(pairwise(data.starts[:20])):
        for place in range(start, end):
            ids = data.ids[start + window_start(place - start, block_size) : place + 2]
            assert surprises[place] == model.surprises(Tokens(ids, array("q", [0, len(ids) - 1])))[-1]
            assert surprises[place] == -model.next_logs([data.ids[start + 1 : place + 1].tolist()])[0][ids[-1]]
        assert totals[number] == pytest.approx(sum(surprises[start:end]), rel=1e-6)


def test_windows_are_scored_one_by_one() -> None:
    ids = array("I", [3, 0, 1, 2, 1, 1, 0, 2, 3])
    windows = Tokens(ids, array("q", [0, 3, 6, 8]))
    parts = [Tokens(ids[s : e + 1], array("q", [0, e - s])) for s, e in pairwise(windows.starts)]
    model = inference()
    assert model.totals(windows).tolist() == [model.totals(part)[0] for part in parts]
    assert model.surprises(windows).tolist() == [nats for part in parts for nats in model.surprises(part)]


def test_nothing_asked_is_nothing_found() -> None:
    model, nothing = inference(), tokens([], VOCAB - 1)
    assert (len(model.surprises(nothing)), len(model.totals(nothing)), model.next_logs([])) == (0, 0, [])
    assert len(model.draw(Random(1).streams(0), FREE, anything()).strings) == 0


def test_parameters_that_are_no_numbers_end_all_the_same() -> None:
    start = parameters(SHAPE, VOCAB)
    start["wte"][0] = math.nan
    drawn = Inference(SHAPE, VOCAB, start).draw(Random(1).streams(100), FREE, anything())
    assert all(token < VOCAB - 1 for string in drawn.strings for token in string)


RUNS = Config(1, 8, 2, 6, n_gram=3, gram_rows=64)


@pytest.mark.slow
def test_embeddings_of_runs_count() -> None:
    engine, model = FastEngine(RUNS, 9), inference(RUNS, 9)
    engine.load_parameters(parameters(RUNS, 9))
    strings = random_strings(RUNS, 9, 30)
    losses = [engine.evaluate(tokens([string], 8))[0] for string in strings]
    assert model.totals(tokens(strings, 8)).tolist() == pytest.approx(losses, rel=1e-5, abs=1e-5)
    [string] = model.draw(Random(1).streams(1), Drawing(temperature=0), anything(9, 6)).strings
    following = [max(enumerate(logs), key=lambda pair: pair[1])[0] for logs in model.next_logs(prefixes_of(string, 6))]
    assert following == [*string, 8][:6]


def prefixes_of(string: list[int], block_size: int) -> list[list[int]]:
    """Before each of its choices."""
    return [string[:place] for place in range(min(len(string) + 1, block_size))]


# Rules


def rules(
    classes: list[int], table: list[int], accepting: list[int], least: int = 0, most: int = SHAPE.block_size
) -> Rules:
    """Of an automaton that starts in state 1."""
    states, count = len(accepting), len(table) // len(accepting)
    viable = [[0] * states for _ in range(most + 1)]
    for length in range(most, -1, -1):
        for state in range(1, states):
            nexts = table[state * count : (state + 1) * count] if length < most else []
            ends = accepting[state] and length >= least
            viable[length][state] = int(bool(ends or any(viable[length + 1][following] for following in nexts)))
    ahead = array("f", [0.0 if byte else FORBIDDEN for row in viable for byte in row])
    return Rules(array("I", classes), count, array("I", table), 1, bytes(accepting), ahead, least, most)


def led(within: Rules) -> Rules:
    """The same with something ahead of every state that makes a difference."""
    ahead = [log or -0.37 * (place % 5) for place, log in enumerate(within.ahead)]
    return within.replace(ahead=array("f", ahead))


def anything(vocab_size: int = VOCAB, most: int = SHAPE.block_size) -> Rules:
    return rules([0] * (vocab_size - 1), [0, 1], [0, 1], most=most)


ENDING = rules([0, 1, 0], [0, 0, 1, 2, 1, 2], [0, 0, 1])  # in 1, the second character
WITHOUT = rules([0, 1, 2], [0, 0, 0, 0, 1, 1], [0, 1])  # 0
PAIRS = rules([0, 0, 1], [0, 0, 2, 3, 1, 0, 0, 1], [0, 1, 0, 0])  # of two of the first two, or of the last
KINDS = {
    "anything": anything(),
    "ending": ENDING,
    "without": WITHOUT,
    "pairs": PAIRS,
    "long": anything().replace(least=2),
    "short": anything(most=1),
    "two of three": rules([0, 1, 2], [0] * 3 + [1, 2, 2] + [2, 0, 1], [0, 1, 1], 1, 2),
    "led to an ending": led(ENDING),
    "led": led(anything()),
}


def allowed(within: Rules, string: list[int], block_size: int = SHAPE.block_size) -> dict[int, float]:
    """The tokens that may follow, as `Rules` says, and what is ahead of each."""
    state, states = within.start, len(within.accepting)
    for token in string:
        state = within.table[state * within.count + within.classes[token]]
    found = {}
    for token, kind in enumerate(within.classes):
        following = within.table[state * within.count + kind]
        if len(string) < within.most and within.ahead[(len(string) + 1) * states + following] > -1e30:
            found[token] = within.ahead[(len(string) + 1) * states + following]
    ends = within.accepting[state] and len(string) >= within.least
    return {**found, len(within.classes): 0.0} if ends else found


def narrowed(p: dict[int, float], drawing: Drawing, slack: float = 0.0) -> set[int]:
    """What top_k, top_p and min_p leave; with some slack, what they may leave after roundings."""
    falling = sorted(p, key=lambda token: -p[token])
    if drawing.top_k:
        falling = [token for token in falling if p[token] >= p[falling[: drawing.top_k][-1]] * (1 - slack)]
    mass, taken = math.fsum(p[token] for token in falling), 0.0
    kept: list[int] = []
    for token in falling:
        if kept and taken >= drawing.top_p * mass * (1 + slack) and p[token] < p[kept[-1]] * (1 - slack):
            break
        kept.append(token)
        taken += p[token]
    return {token for token in kept if p[token] >= drawing.min_p * p[falling[0]] * (1 - slack)}


def distribution(model: Inference, within: Rules, drawing: Drawing) -> dict[tuple[int, ...], tuple[float, float]]:
    """Of every string: its probability, and the log of what the rules left at all its places."""
    block, bos = model.config.block_size, model.vocab_size - 1
    found: dict[tuple[int, ...], tuple[float, float]] = {}

    def extend(string: list[int], probability: float, log_weight: float) -> None:
        if len(string) == block:
            found[tuple(string)] = (probability, log_weight)
            return
        logs = [log / drawing.temperature for log in model.next_logs([string])[0]]
        ahead = allowed(within, string)
        p = {token: math.exp(logs[token] + log - max(logs)) for token, log in ahead.items()}
        log_weight += math.log(math.fsum(p.values()) / math.fsum(math.exp(log - max(logs)) for log in logs))
        left = narrowed(p, drawing)
        mass = math.fsum(p[token] for token in left)
        for token in left:
            if token == bos:
                found[tuple(string)] = (probability * p[token] / mass, log_weight)
            else:
                extend([*string, token], probability * p[token] / mass, log_weight - ahead[token])

    extend([], 1.0, 0.0)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "drawing",
    [FREE, Drawing(0.5), Drawing(2.0, top_k=2), Drawing(1.0, top_p=0.7), Drawing(1.0, min_p=0.4)],
    ids=lambda drawing: " ".join(f"{name}={value}" for name, value in drawing.as_dict().items()),
)
@pytest.mark.parametrize("kind", KINDS)
def test_strings_are_drawn_by_their_probabilities_within_the_rules(kind: str, drawing: Drawing) -> None:
    model, count = inference(), 10_000
    expected = distribution(model, KINDS[kind], drawing)
    assert math.fsum(p for p, _ in expected.values()) == pytest.approx(1)
    drawn = model.draw(Random(7).streams(count), drawing, KINDS[kind])
    seen = Counter(map(tuple, drawn.strings))
    assert seen.keys() <= expected.keys()
    for string, (p, _) in expected.items():
        assert abs(seen[string] - count * p) <= SIGMAS * math.sqrt(count * p) + 1
    for string, log_weight in set(zip(map(tuple, drawn.strings), drawn.log_weights, strict=True)):
        assert log_weight == pytest.approx(expected[string][1], abs=1e-5)


@st.composite
def drawings(draw: st.DrawFn, vocab_size: int) -> Drawing:
    temperature = draw(st.sampled_from([0.0, 1e-3, 0.1, 0.5, 1.0, 3.0, 1e3]) | st.floats(0.05, 5))
    top_k = draw(st.integers(0, vocab_size + 2))
    return Drawing(temperature, top_k, draw(st.floats(0, 1, exclude_min=True)), draw(st.just(0.0) | st.floats(0, 1)))


MANY = Config(1, 8, 2, 1), 40  # one choice of forty


@pytest.mark.slow
@given(drawings(MANY[1]), st.sets(st.integers(0, 39), min_size=1))
@example(Drawing(100.0, top_k=2, top_p=0.4), set(range(40)))  # 0.4 of the two that are left
@settings(max_examples=many(150))
def test_choices_are_narrowed_as_plain_python_does(drawing: Drawing, tokens_allowed: set[int]) -> None:
    model, bos = inference(*MANY), MANY[1] - 1
    classes = [int(token in tokens_allowed) for token in range(bos)]
    within = rules(classes, [0, 0, 0, 2, 0, 0], [0, bos in tokens_allowed, 1], most=1)
    logs = model.next_logs([[]])[0]
    drawn = model.draw(Random(3).streams(400), drawing, within)
    seen = {string[0] if string else bos for string in drawn.strings}
    if drawing.temperature == 0:
        assert seen == {max(tokens_allowed, key=lambda token: logs[token])}
        return
    weights = [math.exp((log - max(logs)) / drawing.temperature) for log in logs]
    largest = max(logs[token] for token in tokens_allowed)
    p = {token: math.exp((logs[token] - largest) / drawing.temperature) for token in tokens_allowed}
    log_weight = math.log(math.fsum(p.values()) / math.fsum(weights)) + (largest - max(logs)) / drawing.temperature
    assert drawn.log_weights.tolist() == pytest.approx([log_weight] * 400, rel=1e-5, abs=1e-5)
    most, least = (narrowed(p, drawing, slack) for slack in (1e-3, -1e-3))
    assert seen <= most
    assert {token for token in least if p[token] > 0.1 * math.fsum(p[other] for other in most)} <= seen


def test_equals_stay_together_and_the_lowest_comes_when_it_is_cold() -> None:
    zeros = {name: array("d", bytes(8 * len(values))) for name, values in parameters(*MANY).items()}
    model = Inference(*MANY, zeros)
    for drawing in (Drawing(1.0, top_k=1), Drawing(1.0, top_p=0.01), Drawing(1.0, min_p=1.0)):
        strings = model.draw(Random(1).streams(1000), drawing, anything(MANY[1], most=1)).strings
        assert len({tuple(string) for string in strings}) == MANY[1]
    cold = model.draw(Random(1).streams(10), Drawing(temperature=0), anything(MANY[1], most=1)).strings
    assert list(cold) == [[0]] * 10


@pytest.mark.slow
def test_a_vocabulary_of_twenty_thousand() -> None:
    vocab_size = 20_000
    model = inference(SHAPE, vocab_size)
    [logs] = model.next_logs([[]])
    assert math.fsum(map(math.exp, logs)) == pytest.approx(1, abs=1e-5)
    few = rules([int(token % 1000 == 7) for token in range(vocab_size - 1)], [0, 0, 0, 1], [0, 1], 1, 2)
    drawn = model.draw(Random(1).streams(200), Drawing(1.0, top_k=9, top_p=0.95), few)
    likeliest = sorted(range(7, vocab_size, 1000), key=lambda token: -logs[token])[:9]
    assert {string[0] for string in drawn.strings} <= set(likeliest)
    assert len(set(map(tuple, drawn.strings))) > 10
    assert model.totals(tokens([[5, 17_000]], vocab_size - 1))[0] == pytest.approx(
        -sum(
            logs[token]
            for logs, token in zip(model.next_logs([[], [5], [5, 17_000]]), (5, 17_000, 19_999), strict=True)
        )
    )


# The same again


NARROW = Drawing(1.2, top_k=3, top_p=0.9, min_p=0.05)


def listed(drawn: Drawn) -> list[tuple[list[int], float]]:
    return list(zip(drawn.strings, drawn.log_weights, strict=True))


@given(st.lists(st.integers(0, 100), min_size=1, max_size=6), st.sampled_from([FREE, NARROW]))
@settings(max_examples=many(25))
def test_strings_do_not_depend_on_what_is_drawn_beside_them(counts: list[int], drawing: Drawing) -> None:
    model, rng, again = inference(), Random(3), Random(3)
    parts = [pair for count in counts for pair in listed(model.draw(rng.streams(count), drawing, ENDING))]
    assert listed(model.draw(again.streams(sum(counts)), drawing, ENDING)) == parts
    assert rng.getstate() == again.getstate()


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=lambda t: f"{t.name}-{t.cpu or 'host'}")
def test_every_vector_unit_finds_alike(target: Target) -> None:
    model, host = inference(target=target), inference()
    data = tokens(random_strings(SHAPE, VOCAB, 4), VOCAB - 1)
    for method in (Inference.surprises, Inference.totals):
        assert method(model, data).tolist() == pytest.approx(method(host, data).tolist(), abs=1e-5)
    for logs, expected in zip(model.next_logs([[], [1, 2]]), host.next_logs([[], [1, 2]]), strict=True):
        assert logs.tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    for drawing in (NARROW, Drawing(temperature=0)):
        drawn, expected_draw = (each.draw(Random(4).streams(6), drawing, ENDING) for each in (model, host))
        assert list(drawn.strings) == list(expected_draw.strings)
        assert drawn.log_weights.tolist() == pytest.approx(expected_draw.log_weights.tolist(), rel=2e-6, abs=1e-5)


@pytest.mark.slow
def test_threads_may_use_one_model_at_once() -> None:
    model = inference()

    def all_of(seed: int) -> tuple[object, ...]:
        data = tokens(random_strings(SHAPE, VOCAB, 2000, seed), VOCAB - 1)
        drawn = listed(model.draw(Random(seed).streams(2000), NARROW, PAIRS))
        return model.surprises(data), model.totals(data), model.next_logs([[seed % 3]] * 500), drawn

    alone = list(map(all_of, range(16)))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(all_of, range(16))) == alone
