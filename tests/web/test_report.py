"""The page about a model: what it says, that it is safe, whole, and complete in itself."""

from __future__ import annotations

import json
import platform
import shlex
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tapegpt
from tapegpt import GPT, Config, Corpus, TapeGPTError, cli
from tapegpt.analysis.evaluation import evaluate
from tapegpt.autograd.model import Model
from tapegpt.cli.data import source_of
from tapegpt.cli.parser import Parser
from tapegpt.cli.train import arguments
from tapegpt.data.ngrams import baselines_within
from tapegpt.data.sources import Source
from tapegpt.data.vocabulary import Vocabulary
from tapegpt.machine.host import cpu_name
from tapegpt.models.mlp import MLP
from tapegpt.models.provenance import DataRecord, TrainingState
from tapegpt.settings import ENGINES, Settings
from tapegpt.training.presets import PRESETS, resolve
from tapegpt.training.recording import replay
from tapegpt.web import report
from tapegpt.web.data import Portrait
from tests.web.browser import inaccessible

pytest_plugins = ["tests.web.browser"]

STRINGS = ["anna", "bob", "cara", "abba", "barbara", "ada", "rob", "carob", "bar", "cab", "bab", "boa"]
SHAPE: dict[str, Any] = {"n_embd": 8, "n_head": 2, "block_size": 8}
HOSTILE = ["</script>", "<!--<b>", "&amp;", "\u202e\u200b", "\ud800", "'\"`"]


def trained(data: Any = STRINGS, **options: Any) -> GPT:
    return tapegpt.train(data, **{"steps": 60, **SHAPE, **options})


@pytest.fixture(scope="module")
def model() -> GPT:
    return trained(validation=0.2)


@pytest.fixture(scope="module")
def text(model: GPT) -> str:
    return report.report(model, text="cab", samples=50)


class Reader(HTMLParser):
    """What a page says without its scripts, and the data in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.words: list[str] = []
        self.data: Any = None
        self.links: list[str] = []
        self.feed(page)
        self.text = " ".join(" ".join(self.words).split())
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "link"):
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.stack[-1:] == ["script"]:
            self.data = json.loads(data) if self.data is None else self.data
        elif self.stack[-1:] != ["style"]:
            self.words.append(data)


# --- what it says -----------------------------------------------------------------------------------------------


def test_the_page_says_what_the_evaluation_found(model: GPT, text: str) -> None:
    said = Reader(text).text
    found = evaluate(model, Corpus(STRINGS, model.vocabulary), samples=50)
    comparison = found.comparison
    assert comparison is not None
    assert f"A GPT of {model.num_parameters} parameters" in said
    assert f"learned from {found.training} strings in 60 steps" in said
    assert f"{comparison.strings} strings that it had never seen, it is {comparison.losses['model']:.2f}" in said
    assert f"letter pairs {comparison.losses['bigram']:.2f}" in said
    assert f"Of 50 generated strings, {found.memory.copies} are in its training data" in said
    for example in found.memory.examples:
        assert f"{example.text} {example.nearest} {example.distance}" in said
    for nats in model.score(["cab"]).nats:
        assert f"cab costs {nats:.2f} nats per token" in said


def test_moments_are_those_of_the_training(model: GPT, text: str) -> None:
    data, said = Reader(text).data, Reader(text).text
    portrait = Portrait(replay(model, range(model.steps + 1), Corpus(STRINGS, model.vocabulary)))
    steps = [moment["step"] for moment in data["moments"]]
    assert (steps[0], steps[-1]) == (0, 60)
    assert report.MOMENTS <= len(steps) < 60
    for moment in data["moments"]:
        assert moment == portrait.moment(moment["step"], "cab", report.TEMPERATURE)
    for moment in (data["moments"][0], data["moments"][-1]):
        assert " ".join(string["text"] for string in moment["strings"][:2]) in said
    assert data["run"]["held_out"]
    comparison = evaluate(model, Corpus(STRINGS, model.vocabulary), samples=50).comparison
    assert comparison
    assert {**data["baselines"], "model": comparison.losses["model"]} == comparison.losses


@pytest.mark.slow
def test_the_model_is_looked_at_with_its_best_weights() -> None:
    model = trained(steps=200, learning_rate=0.3, validation=0.4)  # so that it ends worse than it was
    data = Reader(report.report(model, text="cab", samples=20)).data
    best = min(data["run"]["held_out"], key=lambda evaluation: evaluation["loss"])
    chosen = data["moments"][data["chosen"]]
    assert chosen["step"] == best["step"] < 200
    assert chosen["explanation"]["loss"] == pytest.approx(model.score(["cab"]).nats[0], rel=1e-3)


def test_the_page_is_the_same_each_time(model: GPT, text: str) -> None:
    assert report.report(model, text="cab", samples=50) == text


def test_strings_are_told_by_their_surprise(model: GPT, text: str) -> None:
    nats = [score["nats"] for score in Reader(text).data["scores"]]
    assert nats[: report.EXTREMES] == sorted(nats[: report.EXTREMES])
    assert nats[report.EXTREMES :] == sorted(nats[report.EXTREMES :], reverse=True)
    every = model.score(STRINGS).nats
    assert nats[0] == pytest.approx(min(every), rel=1e-3)
    assert nats[report.EXTREMES] == pytest.approx(max(every), rel=1e-3)


def test_a_model_without_its_training_is_shown_as_it_is(model: GPT, tmp_path: Path) -> None:
    tapegpt.save(model, tmp_path / "weights.safetensors", weights_only=True)
    said = Reader(report.report(tapegpt.load(tmp_path / "weights.safetensors"), samples=20)).text
    assert "This is the model as it is; the training cannot be repeated" in said
    assert "What it generates" in said
    assert "memorised" not in said
    assert "tapegpt train" not in said
    assert "learning_rate" not in said  # nobody knows


@pytest.mark.parametrize("labels", [None, {"sex": ["f", "m"] * 6}])
def test_a_training_that_held_nothing_out_has_baselines_too(labels: Any) -> None:
    corpus = Corpus.of(STRINGS, labels=labels)
    data = Reader(report.report(trained(corpus, steps=5), samples=20)).data
    assert data["baselines"] == baselines_within(corpus)


def test_the_page_names_what_it_was_made_with(text: str, model: GPT) -> None:
    made = Reader(text).text.partition("How this page was made")[2]
    assert made.startswith(" tapegpt report model.safetensors --text=cab --samples=50 data: strings of a program: ")
    assert f"tapegpt {tapegpt.__version__}, Python {platform.python_version()}" in made
    assert made.endswith(f"CPU: {cpu_name()}")


@pytest.mark.slow
def test_a_training_by_the_clock_is_not_done_again() -> None:
    said = Reader(report.report(trained(engine="fast", steps=5), samples=20)).text
    assert "cannot be repeated" not in said
    with_clock = trained(engine="fast", steps=5)
    assert with_clock.state is not None
    with_clock.state = with_clock.state.replace(settings=Settings(engine="fast", budget=1.0))
    assert "it followed the clock" in Reader(report.report(with_clock, samples=20)).text


@pytest.mark.slow
def test_one_string_and_one_step_are_enough() -> None:
    page = Reader(report.report(trained(["a"], steps=1), samples=1))
    assert len(page.data["moments"]) == 2
    assert len(page.data["scores"]) == 1


def test_large_pictures_have_fewer_moments() -> None:
    config = Config(n_layer=4, n_embd=64, n_head=8, block_size=64)
    large = untrained(config)
    assert report.LEAST <= report._moments(large, "a" * 64) < report.MOMENTS
    assert report._moments(large, "a") == report.MOMENTS


@pytest.mark.parametrize(("options", "rule"), [({"text": "xyz"}, "'x"), ({"samples": 0}, "samples must be")])
def test_what_cannot_be_shown_is_told(options: Any, rule: str, model: GPT) -> None:
    with pytest.raises(TapeGPTError, match=rule):
        report.report(model, **options)


# --- safety -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the documents have control characters")
def test_no_string_of_the_data_is_markup() -> None:
    page = report.report(trained([*HOSTILE, *STRINGS], block_size=16), text=HOSTILE[0], samples=20)
    reader = Reader(page)
    assert page.count("</script>") == 2
    assert reader.data["moments"][-1]["explanation"]["text"] == HOSTILE[0]
    assert HOSTILE[0] in reader.text
    assert page.encode("utf-8", "xmlcharrefreplace")


def test_the_page_names_no_other_file(text: str) -> None:
    assert Reader(text).links == []
    assert "url(" not in text
    assert "import " not in text.partition('<script type="module">')[2]
    assert "default-src 'none'" in text


def test_a_page_is_read_in_a_browser_without_a_network(tmp_path: Path, text: str, page: Any) -> None:
    (tmp_path / "report.html").write_text(text, "utf-8", "xmlcharrefreplace")
    page.goto((tmp_path / "report.html").as_uri())
    assert page.locator("[data-view]:not([data-view=film]) > *").count() >= 6
    strings = page.locator(".tg-strings")
    page.keyboard.press("Tab")
    page.keyboard.press("End")
    last = strings.inner_text()
    scrubber = page.get_by_label("After step")
    scrubber.focus()
    page.keyboard.press("Home")
    assert page.locator("label").inner_text() == "After step 0"
    assert strings.inner_text() != last
    plot = page.locator(".tg-plot")
    plot.click(position={"x": plot.bounding_box()["width"] / 2, "y": 40})
    assert scrubber.get_attribute("aria-valuetext") == "step 30"
    scrubber.focus()
    page.keyboard.press("End")
    assert strings.inner_text() == last
    assert page.locator(".tg-surprising[aria-pressed=true] .tg-nats").get_attribute("data-nats") == most(page)
    page.get_by_role("button", name="b: ").last.click()
    assert "After ca" in page.locator(".tg-bars").inner_text()
    page.get_by_role("button", name="attention, layer0.attention").click()
    assert page.locator(".tg-operations .tg-readout").inner_text().startswith("attention: ")
    scrubber.focus()
    page.keyboard.press("Home")  # which keeps what is chosen
    assert page.locator(".tg-operations [aria-pressed=true]").count() == 1
    assert inaccessible(page) == []
    for width in (320, 1400):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def most(page: Any) -> str:
    """The largest of the surprises that are shown."""
    shown = page.locator("[data-view=reading] .tg-nats").evaluate_all("all => all.map(each => each.dataset.nats)")
    return str(max(shown, key=float))


# --- how to make it again ---------------------------------------------------------------------------------------

names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
numbers = st.floats(0.001, 0.5)


@st.composite
def fields(draw: Any) -> tuple[Model, Settings]:
    """A shape and settings as a training has them."""
    engine = draw(st.sampled_from(ENGINES))
    given: Any = {"engine": engine}
    if draw(st.booleans()):
        given.update(n_layer=draw(st.integers(1, 3)), n_embd=8, n_head=draw(st.sampled_from([1, 2, 4])))
    if draw(st.booleans()):
        given.update(steps=draw(st.integers(1, 10**6)), seed=draw(st.integers()), learning_rate=draw(numbers))
    if draw(st.booleans()):
        given.update(validation=draw(numbers), patience=draw(st.integers(1, 9)))
    preset = None
    if engine == "fast":
        preset = draw(st.sampled_from([None, *PRESETS]))
        if draw(st.booleans()):
            given.update(threads=draw(st.integers(1, 8)), clip=draw(numbers), batch_size=draw(st.integers(1, 99)))
        if draw(st.booleans()):
            given.update(budget=draw(st.floats(0.01, 1e4)))
            given.pop("steps", None)
    return resolve(given, preset)


sources = st.one_of(
    st.builds(
        Source,
        dataset=st.sampled_from(["names", "surnames"]),
        lowercase=st.booleans(),
        max_length=st.none() | st.integers(1, 99),
        unique=st.booleans(),
    ),
    st.builds(
        Source,
        paths=st.lists(names.filter(lambda name: "/" not in name), min_size=1, max_size=3),
        format=st.sampled_from([None, "csv", "text"]),
        column=st.none() | names,
        encoding=st.sampled_from(["utf-8", "latin-1"]),
        delimiter=st.sampled_from(["\n", "\n\n", "", "--", "\\n", ";\t", "a\r\\b", "blank", "none"]),
        header=st.booleans(),
        unique=st.booleans(),
    ),
)


@given(fields(), sources)
def test_the_command_means_the_same_training(chosen: tuple[Model, Settings], source: Source) -> None:
    shape, settings = chosen
    command, _ = report.repeat(pretended(shape, settings, source))
    words = shlex.split(command)
    assert words[:2] == ["tapegpt", "train"]
    parser = Parser()
    arguments(parser)
    options = parser.parse_args(words[2:])
    given = {name: getattr(options, name) for name in (*shape.as_dict(), *settings.as_dict())}
    said: Any = {name: value for name, value in given.items() if value is not None}
    again = resolve(said, options.preset)
    assert without_steps(again) == without_steps(chosen)
    assert source_of(options) == source


def test_the_command_and_program_of_another_model_name_it_and_its_settings() -> None:
    command, program = report.repeat(pretended(MLP(n_embd=8, n_hidden=9), Settings(), Source(paths=("names.txt",))))
    assert command == "tapegpt train names.txt --model=mlp --n-embd=8 --set=n_hidden=9 -o model.safetensors"
    assert program == "model = tapegpt.train(tapegpt.Corpus.read('names.txt'), model='mlp', n_embd=8, n_hidden=9)"


def without_steps(chosen: tuple[Model, Settings]) -> tuple[Model, Settings]:
    """Of a training by the clock the steps do not matter."""
    shape, settings = chosen
    return shape, settings.replace(steps=1) if settings.budget else settings


@given(fields(), sources)
def test_the_program_means_the_same_training(chosen: tuple[Model, Settings], source: Source) -> None:
    shape, settings = chosen
    _, program = report.repeat(pretended(shape, settings, source))
    seen: list[Any] = []

    class Recorder:
        class Corpus:
            documents = property(lambda self: self)
            dataset = staticmethod(lambda name: Recorder.made(Source(dataset=name)))
            read = staticmethod(lambda *paths, **how: Recorder.made(Source(paths=tuple(paths), **how)))
            of = staticmethod(lambda corpus, **how: Recorder.made(corpus.source.replace(**how)))

            def __init__(self) -> None:
                self.source: Any = None

        @staticmethod
        def made(source: Source) -> Any:
            corpus = Recorder.Corpus()
            corpus.source = source
            return corpus

        @staticmethod
        def train(corpus: Any, preset: str | None = None, **options: Any) -> None:
            seen.append((corpus.source, resolve(options, preset)))  # type: ignore[arg-type]  # any of them

    exec(program, {"tapegpt": Recorder})
    ((read, again),) = seen
    assert read == source
    assert without_steps(again) == without_steps(chosen)


def untrained(shape: Model) -> GPT:
    """A model of two characters that is not run."""
    engine: Any = SimpleNamespace(config=shape, vocab_size=3)
    return GPT(shape, Vocabulary.of("ab"), tapegpt.Random(1), engine)


def pretended(shape: Model, settings: Settings, source: Source) -> GPT:
    """A model that says it was trained so."""
    model = untrained(shape)
    model.state = TrainingState(settings, moments=None)  # type: ignore[arg-type]  # nor trained
    model.data = DataRecord(source.as_json(), 1, 1, "ab", "")
    return model


def test_the_program_makes_the_same_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "names.txt").write_text("\n".join(STRINGS))
    model = trained(str(tmp_path / "names.txt"), steps=9)
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {"tapegpt": tapegpt}
    exec(report.repeat(model)[1], scope)
    assert scope["model"].parameters == model.parameters


def test_a_delimiter_that_is_a_word_of_the_option_is_escaped() -> None:
    command, program = report.repeat(pretended(Config(), Settings(), Source(paths=("/data",), delimiter="line")))
    assert command == r"tapegpt train data --delimiter '\x6cine' -o model.safetensors"
    assert program == "model = tapegpt.train(tapegpt.Corpus.read('data', delimiter='line'))"


def test_strings_of_a_program_have_no_command(model: GPT) -> None:
    assert report.repeat(model) == (
        "",
        "model = tapegpt.train(strings, n_embd=8, n_head=2, block_size=8, steps=60, validation=0.2)",
    )


# --- the command ------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A directory with a model and its data."""
    (tmp_path / "names.txt").write_text("\n".join(STRINGS))
    tapegpt.save(trained(str(tmp_path / "names.txt")), tmp_path / "model.safetensors")
    return tmp_path


@pytest.mark.slow
def test_the_command_writes_the_page(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, output = str(files / "model.safetensors"), files / "page.html"
    assert cli.main(["report", model, "-o", str(output), "--text", "cab", "--samples", "20"]) == 0
    page = output.read_text(encoding="utf-8")
    assert page == report.report(tapegpt.load(model), text="cab", samples=20)
    assert "tapegpt train names.txt --n-embd=8" in Reader(page).text
    assert str(files) not in page
    assert f"data: names.txt: {len(STRINGS)} strings" in Reader(page).text
    assert capsys.readouterr().out == f"open {output} in a browser\n"


@pytest.mark.slow
def test_the_command_prints_the_page(files: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert cli.main(["report", str(files / "model.safetensors"), "-o", "-", "--samples", "20"]) == 0
    page = report.report(tapegpt.load(files / "model.safetensors"), samples=20)
    assert capsysbinary.readouterr().out == page.encode("utf-8", "xmlcharrefreplace")


@pytest.mark.slow
def test_data_that_moved_are_given(files: Path) -> None:
    (files / "names.txt").rename(files / "moved.txt")
    model, output = str(files / "model.safetensors"), files / "page.html"
    command = ["report", model, "-o", str(output), "--samples", "20"]
    assert cli.main(command) == 0
    assert "This is the model as it is" in Reader(output.read_text(encoding="utf-8")).text
    assert cli.main([*command, "--training-data", str(files / "moved.txt")]) == 0
    assert "This is the model as it is" not in Reader(output.read_text(encoding="utf-8")).text


@pytest.mark.slow
@pytest.mark.parametrize("bad", [["--text", "xyz"], ["--samples", "0"]])
def test_a_page_that_fails_leaves_the_old_one(bad: list[str], files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "page.html").write_text("old")
    assert cli.main(["report", str(files / "model.safetensors"), "-o", str(files / "page.html"), *bad]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert (files / "page.html").read_text() == "old"
    assert len(list(files.iterdir())) == 3


@pytest.mark.slow
def test_a_place_that_cannot_be_written_is_told_first(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", "none.safetensors", "-o", str(files / "none" / "page.html")]) == 2
    assert "there is no directory" in capsys.readouterr().err
