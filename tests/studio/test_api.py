"""The studio's API: it does what the library does, says what its description says, and refuses what it cannot do."""

from __future__ import annotations

import gc
import json
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from weakref import ref

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tapegpt
from benchmarks.studio import under_load
from tapegpt import load, save
from tapegpt.analysis.anatomy import code
from tapegpt.analysis.attribution import attribute
from tapegpt.data.corpus import Corpus
from tapegpt.data.holdout import hold_out
from tapegpt.data.ngrams import baselines, baselines_within
from tapegpt.data.vocabulary import Vocabulary
from tapegpt.inference.constraints import Drawing
from tapegpt.settings import Settings
from tapegpt.studio import runs, training
from tapegpt.studio.limits import Limits
from tapegpt.studio.store import KeptCorpus, KeptRun, Shelf
from tapegpt.training.recording import record
from tapegpt.training.trainer import Trainer
from tapegpt.web.data import Portrait
from tests.properties import many
from tests.studio.server import NAMES, SMALL, Client, running

CONFIG = tapegpt.Config(n_embd=8, n_head=2, block_size=8)
EVENTS = {"Accept": "text/event-stream"}
ENDLESS = 40_000_000  # steps, minutes
quick = settings(
    max_examples=many(60), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with running(Limits(steps=ENDLESS, seconds=600.0, search_seconds=60.0)) as client:  # on any machine
        yield client


@pytest.fixture(scope="module")
def run(client: Client) -> Any:
    return client.run()


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether something comes true within some seconds."""
    end = time.monotonic() + 20
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)
    return holds()


def trained(steps: int = 60) -> Trainer:
    """The training of the run, by the library."""
    return Trainer(Corpus.of(NAMES), CONFIG, steps=steps)


def model() -> tapegpt.GPT:
    return tapegpt.train(NAMES, n_embd=8, n_head=2, block_size=8, steps=60)


def events(client: Client, body: Any) -> list[tuple[str, Any]]:
    """The events of a training, each of which is as it is described."""
    kinds = {"progress": "Progress", "done": "Run", "error": "Error"}
    found = []
    with client.stream("POST", "/api/runs", json=body, headers=EVENTS) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        for event in "".join(response.iter_text()).strip().split("\n\n"):
            name, data = event.split("\n")
            kind = name.removeprefix("event: ")
            found.append((kind, json.loads(data.removeprefix("data: "))))
            client.check(found[-1][1], {"$ref": f"#/components/schemas/{kinds[kind]}"})
    return found


# --- the description --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_description_is_openapi(client: Client) -> None:
    pytest.importorskip("openapi_spec_validator").validate(client.document)
    assert client.document["openapi"] == "3.1.0"


def test_examples_are_what_they_are_examples_of(client: Client) -> None:
    seen = 0
    for methods in client.document["paths"].values():
        for described in methods.values():
            for media in described.get("requestBody", {}).get("content", {}).values():
                if "example" in media:
                    client.check(media["example"], media["schema"])
                    seen += 1
    assert seen > 5


def test_what_an_address_takes_is_said_where_it_takes_something_else(client: Client) -> None:
    response = client.put("/api/runs")
    assert (response.status_code, response.headers["allow"]) == (405, "GET, POST")
    assert response.json()["error"]["type"] == "invalid_request"
    assert client.get("/api/none").json()["error"]["type"] == "not_found"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_documented_commands_do_what_they_say(client: Client, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "studio.md").read_text(encoding="utf-8")
    own = {"127.0.0.1:8347": f"127.0.0.1:{client.port}", "CORPUS": client.corpus(), "RUN": client.run()["id"]}
    own |= {"emma": "anna", "/100?": "/60?", '"m"': '"a"'}  # which these names have
    for name, value in own.items():
        page = page.replace(name, value)
    (tmp_path / "names.csv").write_text("id,name\n1,anna\n2,otto\n")
    commands = re.findall("^curl .*$", page, re.MULTILINE)
    assert len(commands) > 8
    for command in commands:
        done = subprocess.run([*shlex.split(command), "--fail"], capture_output=True, cwd=tmp_path, timeout=60)
        assert done.returncode == 0, (command, done.stdout, done.stderr)


# --- corpora ----------------------------------------------------------------------------------------------------


@quick
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_a_text_is_read_as_a_file_is(client: Client, text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("corpus") / "data.txt"
    path.write_bytes(text.encode())
    try:
        corpus = Corpus.read(path)
    except tapegpt.TapeGPTError:
        client.ask("POST", "/api/corpora", {"text": text}, 400)
        return
    made = client.ask("POST", "/api/corpora", {"text": text}, 201)
    assert (made["documents"], made["vocabulary"]) == (len(corpus), list(corpus.vocabulary))
    assert made["characters"] == sum(map(len, corpus.documents))
    assert made["sample"][0] == corpus.documents[0]
    assert client.ask("GET", f"/api/corpora/{made['id']}")["longest"] == max(map(len, corpus.documents))


def test_the_first_corpus_is_what_the_studio_was_opened_with(client: Client) -> None:
    first = client.ask("GET", "/api/corpora")[0]
    assert (first["name"], first["documents"], first["median"], first["dataset"]) == ("some names", 12, 5, None)


def test_a_data_set_is_read_once(client: Client) -> None:
    made = client.ask("POST", "/api/corpora", {"dataset": "names"}, 201)
    assert made["dataset"] == "names"
    assert client.ask("POST", "/api/corpora", {"dataset": "names"}, 201)["id"] == made["id"]


@pytest.mark.parametrize("body", [{}, {"text": "a", "dataset": "names"}, {"dataset": "/etc/passwd"}, {"text": " \n"}])
def test_what_is_no_corpus_is_refused(client: Client, body: Any) -> None:
    client.ask("POST", "/api/corpora", body, 400)


def test_n_grams_are_counted_in_the_background(client: Client) -> None:
    key, corpus = client.corpus(), Corpus.of(NAMES)
    assert eventually(lambda: client.ask("GET", f"/api/corpora/{key}")["baselines"] is not None)
    learned, judged = hold_out(corpus, 0.1, 42)
    assert client.ask("GET", f"/api/corpora/{key}")["baselines"] == baselines(learned, judged, corpus.vocab_size)


@pytest.mark.parametrize("names", [["anna", "otto", "anna"], ["anna", "anna"]])
def test_n_grams_are_judged_by_others_where_there_are_others(names: list[str]) -> None:
    corpus = Corpus.of(names)
    learned, judged = hold_out(corpus, 0.1, 42) if len(set(names)) > 1 else (corpus, corpus)
    assert baselines_within(corpus) == baselines(learned, judged, corpus.vocab_size)


def test_the_least_recently_used_is_dropped_but_not_the_first() -> None:
    corpora = Shelf[KeptCorpus]("corpus", 3, 1 << 20, first_stays=True)
    first, second, third, fourth, fifth = (KeptCorpus(Corpus.of([name]), name) for name in "abcde")
    for each in (first, second, third):
        corpora.add(each)
    assert corpora[first.id] is first
    assert corpora[second.id] is second
    corpora.add(fourth)
    assert list(corpora) == [first, second, fourth]
    corpora._most_bytes = 1
    corpora.add(fifth)
    assert list(corpora) == [first, fifth]
    runs, three = Shelf[KeptRun]("run", 2, 1 << 30), [KeptRun(Portrait(record(trained(1))), name) for name in "abc"]
    for run in three:
        runs.add(run)
    assert list(runs) == three[1:]
    assert runs[three[1].id] is three[1]
    runs.add(three[0])
    assert list(runs) == [three[1], three[0]]


@pytest.mark.slow
def test_of_runs_that_are_dropped_nothing_stays_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tapegpt.studio.studio.MAX_RUNS", 2)
    with running() as client:
        made = []
        for seed in range(8):
            run = client.run(seed=seed, n_embd=(8, 4)[seed % 2], steps=5, validation=0.25)
            address = f"/api/runs/{run['id']}"
            client.ask("POST", f"{address}/generate", {"n": 2, "novel": True})
            client.ask("POST", f"{address}/score", {"strings": ["anna"]})
            client.ask("GET", f"{address}/moments/3?text=anna")
            kept = client.studio.runs[run["id"]]
            made += [(ref(kept), ref(kept.model.engine), ref(kept.portrait))]
            del kept
        gc.collect()
        assert [[each() is not None for each in of] for of in made] == [[False] * 3] * 6 + [[True] * 3] * 2


def test_a_run_is_counted_with_all_its_moments() -> None:
    few, many = (KeptRun(Portrait(record(trained(), moments)), "a") for moments in ([0, 60], [0, 7, 30, 60]))
    assert many.bytes - few.bytes == 2 * 8 * model().num_parameters


# --- trainings --------------------------------------------------------------------------------------------------


def test_a_run_is_what_the_library_trains(client: Client, run: Any) -> None:
    shown = Portrait(record(trained())).run("anna", 0.5)
    assert {name: run[name] for name in shown} == json.loads(json.dumps(shown))
    again = client.ask("GET", f"/api/runs/{run['id']}?text=anna")
    assert {**again, "baselines": None} == {**run, "baselines": None}
    assert run["id"] in [each["id"] for each in client.ask("GET", "/api/runs")]


def test_moments_and_matrices_are_those_of_the_recording(client: Client, run: Any) -> None:
    portrait = Portrait(record(trained()))
    for step in (0, 7, 60):
        found = client.ask("GET", f"/api/runs/{run['id']}/moments/{step}?text=ada&temperature=1.5")
        assert found == json.loads(json.dumps(portrait.moment(step, "ada", 1.5)))
        matrix = client.ask("GET", f"/api/runs/{run['id']}/moments/{step}/matrices/layer0.attn_wq")
        assert matrix == portrait.matrix(step, "layer0.attn_wq")
    client.ask("GET", f"/api/runs/{run['id']}/moments/61", status=400)
    client.ask("GET", f"/api/runs/{run['id']}/moments/7/matrices/wxe", status=400)


@pytest.mark.slow
def test_a_training_tells_how_far_it_is(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 4_000
    for module in (runs, training):
        monkeypatch.setattr(module, "FIRST_SECONDS", 0.0)
        monkeypatch.setattr(module, "PROGRESS_SECONDS", 0.001)
    body = {"corpus": client.corpus(), "settings": {**SMALL, "steps": steps}, "text": "anna"}
    *told, (kind, done) = events(client, body)
    assert kind == "done"
    assert {name for name, _ in told} == {"progress"}
    reached = [data["step"] for _, data in told]
    assert reached == sorted(reached)
    assert any(0 < step < steps for step in reached)
    assert all(former != later for former, later in pairwise(told))
    assert (done["steps"], done["moments"][-1]) == (steps, steps)


def test_a_short_training_tells_only_its_end(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "FIRST_SECONDS", 60.0)  # however slow this machine is
    assert [name for name, _ in events(client, {"corpus": client.corpus(), "settings": SMALL})] == ["done"]


def test_a_training_that_fails_says_so_in_an_event(client: Client) -> None:
    body = {"corpus": client.corpus(), "settings": {**SMALL, "learning_rate": 900}}
    (kind, data) = events(client, body)[-1]
    assert (kind, data["error"]["type"]) == ("error", "invalid_request")
    assert "choose a smaller" in data["error"]["message"]


def hang_up_on_events(client: Client, body: Any) -> None:
    with client.stream("POST", "/api/runs", json=body, headers=EVENTS) as response:
        next(response.iter_text())


def hang_up_on_an_answer(client: Client, body: Any) -> None:
    with pytest.raises(httpx.ReadTimeout):
        client.post("/api/runs", json=body, timeout=0.2)


@pytest.mark.parametrize("hang_up", [hang_up_on_events, hang_up_on_an_answer])
def test_who_hangs_up_ends_the_training(client: Client, hang_up: Callable[[Client, Any], None]) -> None:
    client.run()
    runs = len(list(client.studio.runs))
    hang_up(client, {"corpus": client.corpus(), "settings": {**SMALL, "steps": ENDLESS}})
    assert eventually(lambda: client.studio.training.is_idle)
    assert len(list(client.studio.runs)) == runs


@pytest.mark.slow
def test_the_fast_engine_with_held_out_documents_and_runs_of_characters(client: Client) -> None:
    run = client.run(validation=0.3, engine="fast", n_gram=2, gram_rows=64)
    assert run["held_out"][-1]["step"] == 60
    assert run["settings"]["batch_size"] == 16


def test_a_run_is_forgotten(client: Client) -> None:
    key = client.run()["id"]
    client.ask("DELETE", f"/api/runs/{key}", status=204)
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/file"), ("GET", "/moments/0")):
        client.ask(method, f"/api/runs/{key}{path}", status=404)


numbers = st.one_of(st.integers(-2, 40), st.floats(allow_nan=False, allow_infinity=False), st.none(), st.text())
wanted_settings = st.dictionaries(
    st.sampled_from([*tapegpt.Config().as_dict(), *Settings().as_dict(), "depth"]), numbers, max_size=4
)


@pytest.mark.slow
@quick
@given(chosen=wanted_settings, text=st.text(alphabet="anotx", max_size=9), temperature=numbers, moments=numbers)
def test_whatever_settings_are_sent_they_are_used_or_refused(
    client: Client, chosen: Any, text: str, temperature: Any, moments: Any
) -> None:
    body = {"corpus": client.corpus(), "settings": chosen, "text": text, "temperature": temperature, "moments": moments}
    given_settings = {"steps": 3, "n_embd": 8, "n_head": 2, "block_size": 8, **chosen}
    response = client.post("/api/runs", json={**body, "settings": given_settings})
    found = client.checked("POST", "/api/runs", response)
    if response.status_code == 201:
        assert {name: found["settings"][name] for name in given_settings} == given_settings
    else:
        assert response.status_code in (400, 413)
        assert "\n" not in found["error"]["message"]


# --- what a model is asked --------------------------------------------------------------------------------------


def test_a_seed_gives_the_strings_of_the_library(client: Client, run: Any) -> None:
    path = f"/api/runs/{run['id']}/generate"
    for wishes in ({}, {"prefix": "a", "distinct": True}, {"novel": True, "temperature": 1.0}, {"top_k": 2}):
        for seed in (3, 0):
            found = client.ask("POST", path, {"n": 9, "seed": seed, **wishes})["strings"]
            assert [each["text"] for each in found] == model().generate(9, seed=seed, **wishes)
            assert all(each["known"] == (each["text"] in NAMES) for each in found)


def test_without_a_seed_strings_are_others_each_time(client: Client, run: Any) -> None:
    path = f"/api/runs/{run['id']}/generate"
    assert client.ask("POST", path, {"n": 30})["strings"] != client.ask("POST", path, {"n": 30})["strings"]


letters = st.text(alphabet="anotbé", max_size=4)
wishes = st.fixed_dictionaries(
    {"n": st.integers(-1, 12)},
    optional={
        "temperature": st.sampled_from([0, 0.5, 2, -1, 1e-9]),
        "seed": st.integers(-1, 2**53),
        "prefix": letters,
        "suffix": letters,
        "pattern": st.none() | st.text(alphabet="an.*+?[]()|{}2,\\b^$", max_size=8),
        "min_length": st.integers(-1, 9),
        "max_length": st.none() | st.integers(-1, 9),
        "top_k": st.integers(-1, 5),
        "top_p": st.sampled_from([0, 0.5, 1, 2]),
        "min_p": st.sampled_from([0, 0.5, 2]),
        "novel": st.booleans() | st.integers(0, 4),
        "distinct": st.booleans(),
        "exact": st.booleans(),
    },
)


@quick
@given(wish=wishes)
def test_whatever_is_wished_is_met_or_refused(client: Client, run: Any, wish: dict[str, Any]) -> None:
    path = f"/api/runs/{run['id']}/generate"
    response = client.post(path, json=wish)
    found = client.checked("POST", path, response)
    if response.status_code != 200:
        assert response.status_code == 400
        return
    texts = [each["text"] for each in found["strings"]]
    assert len(texts) == wish["n"] or found["notes"]
    for text in texts:
        assert text.startswith(wish.get("prefix", ""))
        assert text.endswith(wish.get("suffix", ""))
        assert wish.get("min_length", 0) <= len(text) <= (8 if wish.get("max_length") is None else wish["max_length"])
        assert not wish.get("novel") or text not in NAMES


def test_scores_are_those_of_the_library(client: Client, run: Any) -> None:
    strings = ["anna", "nab", "aé", ""]
    found = client.ask("POST", f"/api/runs/{run['id']}/score", {"strings": strings})["scores"]
    for each, score in zip(found, model().score(strings), strict=True):
        assert (each["text"], each["nats"], each["percentile"]) == (score.text, score.nats, score.percentile)
        assert each["surprises"] == list(score.surprises)
    assert [each["unknown"] for each in found] == [[], [], ["é"], []]
    assert client.ask("POST", f"/api/runs/{run['id']}/score", {"strings": []})["scores"] == []


def test_an_explanation_is_that_of_the_moment(client: Client, run: Any) -> None:
    path = f"/api/runs/{run['id']}"
    then = client.ask("POST", f"{path}/explain", {"text": "ada", "step": 7})
    assert then == client.ask("GET", f"{path}/moments/7?text=ada")["explanation"]
    now = client.ask("POST", f"{path}/explain", {"text": "ada"})
    assert now == client.ask("GET", f"{path}/moments/60?text=ada")["explanation"]
    client.ask("POST", f"{path}/explain", {"text": "é"}, 400)


@pytest.mark.slow
def test_the_data_behind_a_string_are_those_of_the_library(client: Client, run: Any) -> None:
    recording = record(trained())
    expected = attribute(recording.model, "anna", recording, 3)
    found = client.ask("POST", f"/api/runs/{run['id']}/why", {"text": "anna", "top": 3})
    for name, influences in (("taught", expected.taught), ("hindered", expected.hindered)):
        told = [(each["document"], each["influence"], each["steps"]) for each in found[name]]
        assert told == [(each.document, each.influence, list(each.steps)) for each in influences]
    assert found["taught"]


@pytest.mark.parametrize("stage", ["python", "tape", "llvm", "asm", "wasm"])
def test_code_is_that_of_the_models_shape(client: Client, run: Any, stage: str) -> None:
    found = client.ask("GET", f"/api/runs/{run['id']}/code?operation=attention&stage={stage}")
    expected = code(model(), "attention", stage)
    assert {**found, "about": ""} == {**expected, "about": ""}  # which has measured times in it
    assert "attention" in found["operations"]


def test_code_that_there_is_not_is_refused(client: Client, run: Any) -> None:
    for query in ("operation=magic", "stage=magic"):
        client.ask("GET", f"/api/runs/{run['id']}/code?{query}", status=400)


@quick
@given(body=st.binary(max_size=40) | st.from_type(type(None)).map(lambda _: b"{}"))
def test_bodies_that_are_nothing_are_refused(client: Client, run: Any, body: bytes) -> None:
    for path in ("/api/runs", "/api/corpora", f"/api/runs/{run['id']}/score", "/api/models", "/v1/completions"):
        client.ask("POST", path, body, 400)


# --- files ------------------------------------------------------------------------------------------------------


def test_a_model_comes_back_from_its_file(client: Client, run: Any, tmp_path: Path) -> None:
    content = client.ask("GET", f"/api/runs/{run['id']}/file")
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    kept = load(path)
    assert kept.parameters == model().parameters
    assert kept.state is not None
    loaded = client.ask("POST", "/api/models?text=anna", content, 201)
    assert (loaded["corpus"], loaded["moments"], loaded["steps"]) == (None, [60], 60)
    body = {"n": 5, "seed": 1}
    again = client.ask("POST", f"/api/runs/{loaded['id']}/generate", body)["strings"]
    assert [each["text"] for each in again] == kept.generate(5, seed=1)
    assert client.ask("GET", f"/api/runs/{loaded['id']}/file")


def test_a_model_as_json_does_as_well(client: Client, tmp_path: Path) -> None:
    save(model(), tmp_path / "model.json")
    loaded = client.ask("POST", "/api/models", (tmp_path / "model.json").read_bytes(), 201)
    assert loaded["vocabulary"] == sorted(set("".join(NAMES)))


def test_the_page_and_its_files_are_served(client: Client) -> None:
    assert client.get("/").headers["content-type"].startswith("text/html")
    assert client.get("/web/views.js").headers["content-type"].startswith("text/javascript")


@pytest.mark.slow
def test_the_load_test_runs_and_sums_up() -> None:
    rows = [line.split("|")[1:-1] for line in under_load(0.2, clients=8, moves=3).splitlines() if line.startswith("| ")]
    assert [row[0].split(",")[0].strip() for row in rows[2:]] == ["a slider's move: 1", "20 strings"]
    assert all(row[2].strip() == "0" for row in rows[2:])


# --- settings


def test_the_page_offers_settings_as_their_tables_have_them(client: Client) -> None:
    fields = {**tapegpt.Config.fields, **Settings.fields, **Drawing.fields, "tokens": Vocabulary.fields["rule"]}
    ranges = {**tapegpt.Config.ranges, **Settings.ranges}
    for offered in client.ask("GET", "/api/settings"):
        name, values = offered["name"], offered["values"]
        assert offered["kind"] == fields[name].kind
        assert offered["about"].endswith(".")
        assert offered["default"] == (0.1 if name == "validation" else fields[name].default)
        assert offered["default"] in values or not values
        assert all(value in ranges[name] for value in values if name in ranges)
    body = {"corpus": client.corpus(), "settings": {"depth": 1}}
    assert "unexpected argument 'depth'" in client.ask("POST", "/api/runs", body, 400)["error"]["message"]


def test_the_description_of_settings_is_their_table(client: Client) -> None:
    described = client.document["components"]["schemas"]["NewRun"]["properties"]["settings"]["properties"]
    assert list(described) == [*tapegpt.Config.fields, *Settings.fields]
    assert described["learning_rate"] | {"description": ""} == {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 1000,
        "default": 0.01,
        "description": "",
    }
    assert described["patience"]["anyOf"] == [{"type": "integer", "minimum": 1}, {"type": "null"}]
    assert described["engine"]["enum"] == ["exact", "fast"]


def test_python_serves_the_page_with_a_model_that_is_no_ensemble() -> None:
    model, log = tapegpt.train(NAMES, steps=1), list[str]()
    server = tapegpt.studio.serve(Corpus.of(NAMES), model, port=0, log=log.append)
    server.stop()
    server.run()
    assert server.address.startswith("http://127.0.0.1:")
    assert "/#run=" in server.address
    assert log == []
    with pytest.raises(tapegpt.TapeGPTError, match="the model is an ensemble of 1 models"):
        tapegpt.studio.serve(Corpus.of(NAMES), tapegpt.Ensemble([model]), port=0)


@pytest.mark.slow
def test_a_studio_of_words() -> None:
    lines = ["the cat sat", "the dog sat down", "a cat ran to the dog", "the cat ran", "a dog ran"]
    corpus = Corpus.of(lines, tokens="words")
    with running(corpus=corpus) as client:
        shown = client.ask("GET", "/api/corpora/" + client.corpus())
        assert (shown["vocabulary"], shown["longest"]) == (list(corpus.vocabulary), 6)
        run = client.run("the cat sat")
        path = f"/api/runs/{run['id']}"
        assert run["moment"]["explanation"]["targets"] == ["the", " cat", " sat", ""]
        assert {point["character"] for point in run["moment"]["embeddings"]} == set(corpus.vocabulary)
        (score,) = client.ask("POST", f"{path}/score", {"strings": ["the zebra sat"]})["scores"]
        assert (score["tokens"], score["unknown"]) == (["the", " zebra", " sat"], [" zebra"])
        drawn = client.ask("POST", f"{path}/generate", {"n": 3, "prefix": "the c", "seed": 1})["strings"]
        assert all(string["text"].startswith("the c") for string in drawn)
        asked = {"model": "latest", "prompt": "the", "max_tokens": 2, "logprobs": 2, "seed": 1}
        completion = client.ask("POST", "/v1/completions", asked)
        (choice,) = completion["choices"]
        assert choice["logprobs"]["tokens"] == corpus.vocabulary.split(choice["text"])
        assert completion["usage"]["completion_tokens"] == len(choice["logprobs"]["tokens"]) == 2
        client.ask("POST", "/api/models", client.ask("GET", f"{path}/file"), 201)
        slow = tapegpt.train(["baa"], tokens="(a+)+$|b", steps=1, n_embd=4, n_head=1, block_size=4)
        refused = client.ask("POST", "/api/models", tapegpt.dumps(slow), 400)
        assert "tokens by a regular expression" in refused["error"]["message"]
        unknown = client.ask("POST", f"{path}/explain", {"text": "the zebra"}, 400)
        assert "the model does not know ' zebra'" in unknown["error"]["message"]


def test_a_corpus_is_split_by_another_rule(client: Client) -> None:
    lines = {"text": "the cat\nthe dog"}
    made = client.ask("POST", "/api/corpora", {**lines, "tokens": "words"}, 201)
    assert (made["tokens"], made["vocabulary"], made["longest"]) == ("words", [" cat", " dog", "the"], 2)
    again = client.ask("POST", "/api/corpora", {"corpus": made["id"], "tokens": "the|."}, 201)
    assert (again["name"], again["tokens"], "the" in again["vocabulary"]) == ("pasted text", "the|.", True)
    names = client.ask("POST", "/api/corpora", {"dataset": "names", "tokens": "[aeiou]+|."}, 201)
    assert client.ask("POST", "/api/corpora", {"dataset": "names", "tokens": "[aeiou]+|."}, 201) == names
    for rule, problem in [("(", "is not a regular expression"), ("a" * 1001, "has 1,001 characters, 1,000 may be")]:
        refused = client.ask("POST", "/api/corpora", {**lines, "tokens": rule}, 400)
        assert f"{problem}" in refused["error"]["message"]
    client.ask("POST", "/api/corpora", {**lines, "corpus": made["id"]}, 400)


def test_an_expression_that_takes_for_ever_is_refused() -> None:
    with running(Limits(search_seconds=0.3)) as client:
        forever = {"text": f"{'a' * 40}b", "tokens": "(a+)+$|b"}
        refused = client.ask("POST", "/api/corpora", forever, 400)["error"]["message"]
        assert refused.startswith("tokens '(a+)+$|b' take more than 0.3 seconds to split the data")


@pytest.mark.slow
def test_a_studio_of_labelled_strings() -> None:
    girls, boys = ["anna", "eva", "hannah", "aviva"], ["otto", "bob", "tobias", "leon"]
    corpus = Corpus.of(girls + boys, labels={"sex": ["f"] * 4 + ["m"] * 4})
    with running(corpus=corpus) as client:
        shown = client.ask("GET", "/api/corpora/" + client.corpus())
        columns = [{"name": "sex", "values": ["f", "m"]}]
        assert (shown["labels"], shown["longest"]) == (columns, 7)
        run = client.run("eva")
        path, last = f"/api/runs/{run['id']}", run["moment"]
        assert run["labels"] == columns
        assert {label for string in last["strings"] for label in string["labels"]} == {"f", "m"}
        assert last["explanation"]["labels"] == last["explanation"]["targets"][:1]  # the most probable
        given = client.ask("GET", f"{path}/moments/0?text=eva&label=m")
        assert {label for string in given["strings"] for label in string["labels"]} == {"m"}
        assert given["explanation"]["targets"] == ["sex=m", "e", "v", "a", ""]
        drawn = client.ask("POST", f"{path}/generate", {"n": 5, "label": ["sex=f"]})["strings"]
        assert [string["labels"] for string in drawn] == [["f"]] * 5
        summed, told = (
            client.ask("POST", f"{path}/score", {"strings": ["eva"], "label": label})["scores"][0]
            for label in ([], ["f"])
        )
        assert (summed["percentile"], told["percentile"] is None) == (None, False)
        assert dict(summed["classes"]).keys() == {"f", "m"}
        assert sum(p for _, p in summed["classes"]) == pytest.approx(1, abs=1e-4)
        explained = client.ask("POST", f"{path}/explain", {"text": "eva", "label": ["f"]})
        assert explained["labels"] == ["sex=f"]
        assert client.ask("POST", f"{path}/why", {"text": "eva", "label": ["f"]})["taught"]
        completion = client.ask("POST", "/v1/completions", {"model": "latest", "prompt": "a", "logprobs": 1})
        assert len(completion["choices"][0]["logprobs"]["tokens"]) == completion["usage"]["completion_tokens"]
        held = client.run("eva", validation=0.3)["id"]
        assert {*client.ask("GET", f"/api/runs/{held}/held-out")["documents"]} < {*corpus.documents}
        assert "<title>" in client.get(f"{path}/page").text
        loaded = client.ask("POST", "/api/models?text=eva&label=f", client.ask("GET", f"{path}/file"), 201)
        assert loaded["moment"]["explanation"]["labels"] == ["sex=f"]
        for label, problem in [(["x"], "there is no label 'x'"), (["f", "m"], "has two values for a column")]:
            refused = client.ask("POST", f"{path}/generate", {"label": label}, 400)
            assert problem in refused["error"]["message"]
