"""Settings, durations and presets: what is taken, what is refused in one line, what stands for what is not given."""

from __future__ import annotations

import inspect
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tapegpt
from tapegpt import Config, Corpus, TapeGPTError
from tapegpt.data.vocabulary import Vocabulary
from tapegpt.errors import quote
from tapegpt.machine.target import AVX512
from tapegpt.models import NAMES as MODELS
from tapegpt.models import named
from tapegpt.ranges import OneOf
from tapegpt.record import NOTHING, Record
from tapegpt.settings import MAX_BATCH_SIZE, MAX_STEPS, MAX_THREADS, UNITS, Settings, seconds
from tapegpt.training import presets
from tapegpt.training.presets import PRESETS, resolve


def refused(**fields: Any) -> str:
    """The one line that refuses these settings; `train` says the same."""
    with pytest.raises(TapeGPTError) as caught:
        Settings(**fields)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 200
    return message


def whole(lowest: int, highest: int) -> st.SearchStrategy[int]:
    return st.integers(lowest, highest)


def number(lowest: float, highest: float) -> st.SearchStrategy[float]:
    return st.floats(lowest, highest)


above_0, below_1 = st.floats(5e-324, 1000), st.floats(0, 1, exclude_max=True)
RANGES: dict[str, st.SearchStrategy[Any]] = {
    "steps": whole(1, MAX_STEPS),
    "batch_size": whole(1, MAX_BATCH_SIZE),
    "threads": st.none() | whole(1, MAX_THREADS),
    "seed": st.integers(),
    "learning_rate": above_0 | whole(1, 1000),
    "budget": st.none() | above_0 | whole(1, 10**9),
    "beta1": below_1 | st.just(0),
    "beta2": below_1,
    "warmup": below_1,
    "weight_decay": st.none() | number(0, 1e6) | whole(0, 10**6),
    "gram_decay": st.none() | number(0, 1e6),
    "init_std": number(0, 1e6),
    "clip": number(0, 1e6),
    "long": st.sampled_from(["cut", "window", "overlap"]),
}


@given(st.fixed_dictionaries({}, optional=RANGES))
def test_whatever_is_in_range_is_taken(fields: dict[str, Any]) -> None:
    settings = Settings(engine="fast", **fields)
    assert settings.as_dict() == {**Settings(engine="fast").as_dict(), **fields}


@given(st.floats(5e-324, 1, exclude_max=True), whole(1, 10**30))
def test_what_is_held_out_may_have_patience(validation: float, patience: int) -> None:
    settings = Settings(validation=validation, patience=patience)
    assert (settings.engine, settings.validation, settings.patience) == ("exact", validation, patience)


OPEN = ("threads", "patience", "budget", "weight_decay", "gram_decay")  # None leaves it to the engine
NO_NUMBERS = [True, "1", None, [1], 1j]
WRONG: dict[str, list[Any]] = {
    "steps": [0, -1, 1.5, 1.0, MAX_STEPS + 1, *NO_NUMBERS],
    "batch_size": [0, -1, 16.0, MAX_BATCH_SIZE + 1, 10**5000, *NO_NUMBERS],
    "threads": [0, -1, 1.0, MAX_THREADS + 1, True, "2"],
    "patience": [0, -1, 1.0, True, "2"],
    "seed": [0.5, 1.0, math.nan, *NO_NUMBERS],
    "learning_rate": [0, -0.1, 1000.1, math.nan, math.inf, 10**400, *NO_NUMBERS],
    "budget": [0, -1.0, math.nan, math.inf, 1e10, 10**400, True, "x", [1]],
    "beta1": [1, 1.0, -0.1, math.nan, math.inf, *NO_NUMBERS],
    "beta2": [1, 1.0, -0.1, math.nan, math.inf, *NO_NUMBERS],
    "warmup": [1, 1.0, -0.1, math.nan, *NO_NUMBERS],
    "validation": [1, 1.5, -0.1, math.nan, *NO_NUMBERS],
    "weight_decay": [-1, 1e7, math.nan, math.inf, True, "1", [1]],
    "gram_decay": [-1, 1e7, math.nan, math.inf, True, "1", [1]],
    "init_std": [-1, 1e7, math.nan, math.inf, *NO_NUMBERS],
    "clip": [-1, 1e7, math.nan, math.inf, *NO_NUMBERS],
    "long": ["", "windows", None, 1],
    "engine": ["", "faster", None, 1, ["fast"]],
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_out_of_range_is_refused_by_name_and_value(name: str) -> None:
    for value in WRONG[name]:
        message = refused(**{"engine": "fast", "validation": 0.5, name: value})
        assert message.startswith(f"{name} must be ")
        assert f"not {quote(value)[:40]}" in message
        with pytest.raises(TapeGPTError, match="must be"):
            tapegpt.train(["a"], **{"engine": "fast", name: value})


@given(
    st.sampled_from(sorted(WRONG)),
    st.none() | st.booleans() | st.text(max_size=99) | st.binary() | st.complex_numbers(),
)
def test_what_is_no_setting_at_all_gets_one_line(name: str, value: Any) -> None:
    if value is None and name in OPEN:
        none: Any = {name: None}
        assert getattr(Settings(engine="fast", validation=0.5, **none), name) is None
    elif value not in ("cut", "window", "overlap", "exact", "fast", "reference"):
        assert refused(**{"engine": "fast", "validation": 0.5, name: value}).startswith(f"{name} must be ")


def test_patience_needs_documents_to_judge_by() -> None:
    assert refused(patience=3) == ("patience needs documents that are held out: give validation=0.1 too")


OTHER: dict[str, Any] = {
    "batch_size": 2,
    "budget": 1.0,
    "beta1": 0.9,
    "beta2": 0.999,
    "weight_decay": 0.1,
    "gram_decay": 0.1,
    "warmup": 0.1,
    "clip": 1.0,
    "threads": 2,
    "long": "window",
}


@pytest.mark.parametrize("engine", ["exact", "reference"])
def test_what_microgpt_does_not_do_needs_the_fast_engine(engine: str) -> None:
    assert OTHER.keys() == {name for name, each in Settings.fields.items() if each.needs_fast}
    for name, value in OTHER.items():
        assert refused(engine=engine, **{name: value}) == (
            f"{name} needs the engine fast, not {engine}, which does what microgpt.py does"
        )
        assert getattr(Settings(engine="fast", **{name: value}), name) == value
        assert Settings(engine=engine, **{name: getattr(Settings, name)}) == Settings(engine=engine)
    Settings(engine=engine, steps=5, learning_rate=0.5, seed=1, validation=0.2, patience=2)


def test_a_record_is_checked_again_when_it_is_changed() -> None:
    settings = Settings(engine="fast", batch_size=4)
    assert settings.replace(steps=7) == Settings(engine="fast", batch_size=4, steps=7)
    with pytest.raises(TapeGPTError, match="steps must be"):
        settings.replace(steps=0)
    with pytest.raises(TapeGPTError, match="batch_size needs the engine fast"):
        settings.replace(engine="exact")


# Durations


@given(st.integers(0, 10**6) | st.floats(0, 1e6), st.sampled_from(sorted(UNITS)))
def test_a_duration_is_a_number_and_a_unit(amount: float, unit: str) -> None:
    assert seconds(f"{amount}{unit}") == float(amount) * UNITS[unit]


def test_durations() -> None:
    given_ = ("500ms", "1s", "2m", "1.5h", "1e-1s", ".5m")
    assert list(map(seconds, given_)) == [0.5, 1.0, 120.0, 5400.0, 0.1, 30.0]


@pytest.mark.parametrize(
    "text", ["", "1", "s", "ms", "m", "1 day", "1d", "1S", "ss", "1ss", "1,5s", "one s", "1s2", "\n", "½s"]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(
        TapeGPTError, match="a budget must be a number and a unit, such as 500ms, 1s, 2m or 1h, not"
    ) as caught:
        seconds(text)
    assert "\n" not in str(caught.value)
    with pytest.raises(TapeGPTError, match="a budget must be"):
        tapegpt.train(["a"], budget=text)


@given(st.text("0123456789.e-+ _msh", max_size=9))
def test_any_text_is_a_duration_or_gets_one_line(text: str) -> None:
    try:
        amount = seconds(text)
    except TapeGPTError as error:
        message = str(error)
    else:
        message = ""
        assert text[-1] in "smh"
        assert amount == float(text.rstrip("msh")) * UNITS[text[len(text.rstrip("msh")) :]]
    assert "\n" not in message


@pytest.mark.parametrize("text", ["0s", "-1s", "nans", "infs", "1e9h"])
def test_a_duration_that_is_no_budget(text: str) -> None:
    with pytest.raises(TapeGPTError, match="budget must be a number of seconds above 0, at most"):
        resolve({"budget": text})


# Presets and defaults


def test_without_options_all_is_microgpts() -> None:
    assert resolve({}) == (Config(), Settings())
    settings = Settings()
    assert (settings.engine, settings.steps, settings.learning_rate, settings.seed) == ("exact", 1000, 0.01, 42)
    assert (settings.beta1, settings.beta2, settings.batch_size, settings.long) == (0.85, 0.99, 1, "cut")
    assert (settings.weight_decay, settings.warmup, settings.clip, settings.validation) == (0, 0, 0, 0)


def test_the_fast_engine_has_defaults_of_its_own() -> None:
    assert resolve({"engine": "fast"}) == (Config(), Settings(engine="fast", batch_size=16, long="window"))
    config, settings = resolve({"engine": "fast", "batch_size": 3, "long": "cut", "n_embd": 8})
    assert (config, settings) == (Config(n_embd=8), Settings(engine="fast", batch_size=3))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_gives_what_is_not_given(preset: str) -> None:
    config, settings = resolve({}, preset)
    said = PRESETS[preset]
    assert settings.engine == "fast"
    assert {**config.as_dict(), **settings.as_dict()}.items() >= said.items()
    other, changed = resolve({"n_embd": 8, "n_head": 2, "steps": 3, "learning_rate": 0.5, "seed": 9}, preset)
    assert other == config.replace(n_embd=8, n_head=2)
    assert changed == settings.replace(steps=3, learning_rate=0.5, seed=9)


def test_presets_cost_more_and_more() -> None:
    def work(preset: str) -> int:
        config, settings = resolve({}, preset)
        return config.num_parameters(27) * settings.steps * settings.batch_size

    assert list(PRESETS) == ["quick", "good", "best"]
    assert work("quick") < work("good") < work("best")


NAMES = Corpus(["anna", "ottokar"] * 50, Vocabulary.of("ankort"))
MOLECULES = Corpus(["C1CC(C(=O)NOC1CCCCC1)C1CCNCC1"] * 50, Vocabulary.of("()=1CNO"))


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> None:
    """One core with AVX-512, whatever this machine has."""
    monkeypatch.setattr("tapegpt.training.clock.host_target", lambda: AVX512)
    monkeypatch.setattr("tapegpt.training.clock.threads_that_pay", lambda config, vocab_size, batch_size: 1)


@pytest.mark.usefixtures("core")
@pytest.mark.parametrize(
    ("corpus", "block_size", "budgets"),
    [(NAMES, 16, (0.1, 3, 4, 35, 37, 1e6)), (MOLECULES, 64, (0.1, 3, 4, 38, 41, 1e6))],
)
def test_a_budget_chooses_the_preset_that_the_data_leave_time_for(
    corpus: Corpus, block_size: int, budgets: tuple[float, ...]
) -> None:
    for budget, preset in zip(budgets, ("quick", "quick", "good", "good", "best", "best"), strict=True):
        chosen = resolve({"budget": budget, "block_size": block_size}, None, corpus)
        assert chosen == resolve({"budget": budget, "block_size": block_size}, preset, corpus)


@pytest.mark.usefixtures("core")
def test_what_is_given_counts_when_a_budget_chooses() -> None:
    def width(budget: float, preset: str | None = None, **options: Any) -> int:
        given: Any = {"budget": budget, **options}
        n_embd: int = resolve(given, preset, NAMES)[0].as_dict()["n_embd"]
        return n_embd

    assert [width(34), width(34, threads=2), width(100, "quick"), width(1e5, n_layer=8)] == [48, 96, 32, 96]
    assert width(4, n_layer=2) == width(4, block_size=64) - 16 == 32
    assert resolve({"budget": "2h"})[0] == resolve({}, "quick")[0]  # without data there is nothing to choose by


@pytest.mark.parametrize("preset", ["", "Quick", "fast", "quick ", 3, [1], {}])
def test_a_preset_that_is_none(preset: Any) -> None:
    with pytest.raises(TapeGPTError, match="preset must be one of quick, good, best, not") as caught:
        tapegpt.train(["a"], preset=preset)
    assert "\n" not in str(caught.value)


def test_combinations_that_are_refused() -> None:
    for options, preset, message in [
        ({"engine": "exact"}, "quick", "needs the engine fast, not exact"),
        ({"engine": "reference", "budget": 1.0}, None, "needs the engine fast, not reference"),
        ({"engine": "exact", "threads": 2}, None, "threads needs the engine fast"),
        ({"budget": 1.0, "steps": 5}, None, "steps and budget exclude each other"),
        ({"patience": 2}, "quick", "patience needs documents"),
    ]:
        given_: Any = options
        with pytest.raises(TapeGPTError, match=message):
            resolve(given_, preset)


def test_every_option_is_a_field_and_every_field_an_option() -> None:
    """What type checkers see of `tapegpt.train` is what it takes."""
    source = inspect.getsource(presets)
    listed = source.partition("class Options")[2].partition('"""\n')[2].partition("\n\n")[0].split("\n")
    options = dict(line.strip().split(": ") for line in listed if line.strip())
    fields = {**Config.fields, **Settings.fields}
    expected = {name: each.kind for name, each in fields.items()}
    for name, each in fields.items():
        if isinstance(each.within, OneOf):
            expected[name] = f"Literal[{', '.join(map(json.dumps, each.within.values))}]"
    assert options == {**expected, "budget": "float | str | None"}  # a duration such as 1m too


@pytest.mark.parametrize("record", [Config, Settings, *map(named, MODELS)])
def test_the_table_says_what_each_setting_is(record: type[Record]) -> None:
    for name, each in record.fields.items():
        default = getattr(record, name)
        assert each.about, name
        assert default == each.default
        assert default is None or default in record.ranges[name]
        assert each.usual or default is not None
        assert each.fast in (NOTHING, None) or each.fast in record.ranges[name]


def test_a_preset_has_an_n_gram_model_of_short_strings_with_room_for_them() -> None:
    def model(corpus: Corpus, **options: Any) -> tuple[float, int]:
        given: Any = {"block_size": 64, **options}
        shape = resolve(given, "quick", corpus)[0].as_dict()
        return shape["kn_share"], shape["kn_rows"]

    assert model(MOLECULES)[0] == 0.0
    assert model(MOLECULES, kn_share=0.5)[0] == 0.5
    assert model(NAMES) == (0.3, 1 << 11)  # of 1,300 tokens
    assert model(NAMES.replace(documents=NAMES.documents * 10_000)) == (0.3, 1 << 19)
    assert model(NAMES, kn_rows=99) == (0.3, 99)
