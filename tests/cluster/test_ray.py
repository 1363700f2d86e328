"""On a cluster of Ray everything is as it is on one machine, also where workers are lost.

The cluster is a real one of two cores, started here and ended here.
"""

from __future__ import annotations

import gzip
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import tapegpt
from benchmarks.cluster import Driver, efficiency, simulated
from tapegpt import Config, Corpus, TapeGPTError, Trainer, __version__
from tapegpt.cli import main
from tapegpt.cluster import Cluster, Executor, bulk, generate, parts, population, score
from tapegpt.data.sources import Source
from tapegpt.experiments.population import Candidate, Field, Outcome, populate
from tapegpt.experiments.ranking import Sweep
from tapegpt.experiments.sweep import sweep
from tapegpt.models.trained import GPT
from tapegpt.models.writing import contents
from tapegpt.settings import Settings
from tests.properties import many

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")

NAMES = Corpus.dataset("names")
SHAPE = Config(n_layer=1, n_embd=8, n_head=2, block_size=8)
FEW = Corpus(NAMES.documents[:300], NAMES.vocabulary)


@pytest.fixture(scope="module", autouse=True)
def ray() -> None:
    pytest.importorskip("ray")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    former = set(descendants())  # of other tests, such as the server of forks
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")  # which writes no token to the home directory
        with Cluster("local", num_cpus=2) as connected:
            yield connected
        deadline = time.monotonic() + 20
        while descendants().keys() - former and time.monotonic() < deadline:
            time.sleep(0.1)
        assert {pid: name for pid, name in descendants().items() if pid not in former} == {}


@pytest.fixture(scope="module")
def field() -> Field:
    return Field(FEW)


@pytest.fixture(scope="module")
def model() -> GPT:
    trainer = Trainer(NAMES, SHAPE, Settings(steps=50))
    trainer.model.documents = NAMES.documents
    for _ in trainer.chunks():
        pass
    trainer.model.rank()
    return trainer.model


def descendants() -> dict[int, str]:
    """Command lines of the processes that this one has started, and those that they have, but for the dead."""
    parents, names = {}, {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            name = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # gone
            continue
        if state != "Z":
            parents[int(entry.name)], names[int(entry.name)] = int(parent), name
    found: dict[int, str] = {}
    ahead = [os.getpid()]
    while ahead:
        above = ahead.pop()
        children = [process for process, parent in parents.items() if parent == above]
        found |= {process: names[process] for process in children}
        ahead += children
    return {process: name for process, name in found.items() if "ray" in name}


def kill_busy(task: str) -> int:
    """Kill a worker that does a task of this name; its process."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for process, name in descendants().items():
            if name.startswith("ray::") and task in name:
                os.kill(process, signal.SIGKILL)
                return process
        time.sleep(0.01)
    raise AssertionError(f"no worker does {task}")


def candidates(*steps: int) -> list[Candidate]:
    return [Candidate(number, SHAPE, Settings(steps=n, seed=number)) for number, n in enumerate(steps)]


def untimed(outcomes: Iterator[Outcome] | list[Outcome]) -> list[Outcome]:
    return [outcome.replace(seconds=0.0) for outcome in outcomes]


# --- trainings --------------------------------------------------------------------------------------------------


@given(steps=st.lists(st.integers(1, 40), max_size=12), keep=st.integers(0, 4), width=st.integers(1, 3))
@hypothesis_settings(max_examples=many(10, few=3))
def test_outcomes_and_models_are_those_of_one_machine(
    cluster: Cluster, field: Field, steps: list[int], keep: int, width: int
) -> None:
    here = populate(field, candidates(*steps), 1, keep)
    there = Executor(cluster, width)(field, candidates(*steps), keep=keep)
    assert untimed(there) == untimed(here)
    assert [(untimed([outcome]), contents(model)) for outcome, model in there.kept] == [
        (untimed([outcome]), contents(model)) for outcome, model in here.kept
    ]


def test_a_killed_worker_changes_nothing(cluster: Cluster, field: Field) -> None:
    todo = candidates(*[3000] * 40)
    there = Executor(cluster, 1)(field, todo, keep=2)
    outcomes = [next(there)]
    kill_busy("_train")
    outcomes += there
    here = populate(field, todo, 2, 2)
    assert untimed(outcomes) == untimed(here)
    assert [contents(model) for _, model in there.kept] == [contents(model) for _, model in here.kept]


def test_what_is_closed_stops_by_itself(cluster: Cluster, field: Field) -> None:
    there = Executor(cluster, 1)(field, candidates(*[2000] * 20_000))
    next(there)
    there.close()
    deadline = time.monotonic() + 30
    while any("_train" in name for name in descendants().values()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [name for name in descendants().values() if "_train" in name]


def test_a_sweep_is_the_same(cluster: Cluster) -> None:
    def swept(**how: Any) -> Sweep:
        space = {"learning_rate": (0.001, 0.1), "n_embd": (8, 9)}
        return sweep(FEW, random=space, trials=9, seeds=2, steps=300, n_head=1, **how)

    there, here = swept(executor=Executor(cluster), threads=cluster.cores()), swept(threads=1)
    assert untimed([row.outcome for row in there.rows]) == untimed([row.outcome for row in here.rows])
    assert there.best.parameters == here.best.parameters


@given(st.integers(1, 10_000), st.integers(1, 2000), st.integers(1, 8), st.floats(0, 1e3) | st.just(float("inf")))
def test_chunks_are_no_longer_than_they_should_be(left: int, workers: int, width: int, seconds: float) -> None:
    size = population.chunk_size(left, workers, width, seconds)
    assert 1 <= size <= left
    assert size == left or size % width == 0  # no thread has nothing to do
    most = max(population.SECONDS, population.DRIVER * workers)
    assert size <= width or (size / width * seconds <= most and size <= left / workers)


@given(st.integers(1, 10**9), st.integers(1, 10**6))
def test_tasks_have_parts_but_not_too_many(count: int, cores: int) -> None:
    tasks = bulk.tasks(count, cores)
    assert max(min(count, cores), count / bulk.IN_A_TASK) <= tasks <= count


def test_a_simulated_cluster_is_as_good_as_its_driver() -> None:
    idle = Driver(task=0.0, outcome=0.0, latency=0.0)
    assert efficiency(idle, 2, 1.0, even=True) == 1.0
    busy = Driver(task=0.0, outcome=0.01, latency=0.0)
    assert simulated(busy, 4, 0.001, 1000, None, even=True) >= 1000 * busy.outcome
    assert efficiency(busy, 2, 1.0) < efficiency(idle, 2, 1.0) < 1.0


def test_a_training_that_cannot_be_says_why_from_there(cluster: Cluster, field: Field) -> None:
    impossible = Candidate(0, SHAPE.replace(n_gram=2), Settings(steps=1))
    with pytest.raises(TapeGPTError) as here:
        list(populate(field, [impossible]))
    with pytest.raises(TapeGPTError) as there:
        list(Executor(cluster)(field, [impossible]))
    assert str(there.value) == str(here.value)


def test_a_worker_of_another_version_refuses() -> None:
    line = f"ray: a worker has tapegpt {__version__}, the driver 0: install the same"
    with pytest.raises(TapeGPTError) as raised:
        population._train([], [], 1, 0, "0")
    assert str(raised.value) == line
    assert bulk._do({"id": [3]}, [], "0") == {"number": [3], "strings": [0], "fault": [line]}


@pytest.mark.slow
def test_a_model_travels_whole(model: GPT) -> None:
    there = pickle.loads(pickle.dumps(model))
    assert contents(there) == contents(model)
    assert there.generate(5, seed=1) == model.generate(5, seed=1)


# --- in bulk ----------------------------------------------------------------------------------------------------


def written(directory: Path) -> list[dict[str, Any]]:
    """The rows of all parts, in order."""
    import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it has no type hints

    rows: list[dict[str, Any]] = []
    for path in sorted(directory.iterdir()):
        if path.suffix == ".parquet":
            rows += pq.read_table(path).to_pylist()
        elif path.suffix == ".jsonl":
            rows += map(json.loads, path.read_text(encoding="utf-8").splitlines())
        else:
            assert path.suffix == ".txt"
            rows += [{"text": line.split("\t")[-1]} for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    return rows


@pytest.mark.parametrize("kind", parts.FORMATS)
def test_a_part_is_what_its_seed_generates(
    cluster: Cluster, model: GPT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(bulk, "BLOCK", 40)
    done = sorted(
        generate(cluster, model, 100, tmp_path, format=kind, seed=7, prefix="a"), key=lambda part: part.number
    )
    assert done == [bulk.Part(0, 3, 40), bulk.Part(1, 3, 40), bulk.Part(2, 3, 20)]
    expected = [
        text for part in done for text in model.generate(part.strings, seed=(7 << 64) + part.number, prefix="a")
    ]
    assert [row["text"] for row in written(tmp_path)] == expected


def test_a_part_whose_worker_is_killed_is_made_again(
    cluster: Cluster, model: GPT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "BLOCK", 80_000)
    parts_done = generate(cluster, model, 400_000, tmp_path, seed=7)
    done = [next(parts_done)]
    kill_busy("_do")
    done += parts_done
    assert sorted(part.number for part in done) == list(range(5))
    assert [path.name for path in sorted(tmp_path.iterdir())] == [f"part-0000{n}-of-00005.txt" for n in range(5)]
    expected = "".join(f"{text}\n" for text in model.generate(80_000, seed=(7 << 64) + 4))
    assert (tmp_path / "part-00004-of-00005.txt").read_text(encoding="utf-8") == expected


@pytest.mark.parametrize("kind", parts.FORMATS)
def test_scores_are_those_of_one_machine(
    cluster: Cluster, model: GPT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.setattr(parts, "PIECE", 500)
    names = NAMES.documents[:400]
    path = tmp_path / f"names.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"who": [*names, None], "n": range(401)}), path, row_group_size=90)
    else:
        lines = [json.dumps({"who": name}) for name in names] if kind == "jsonl" else names
        path.write_text("\n".join(lines), encoding="utf-8")
    source = Source(paths=(str(path),), column=None if kind == "text" else "who")
    out = tmp_path / "out"
    assert sum(part.strings for part in score(cluster, model, source, out)) == len(names)
    scores = model.score(names)
    expected = zip(scores.nats, scores.percentiles, names, strict=True)
    assert [(row["nats"], row["percentile"], row["text"]) for row in written(out)] == list(expected)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_scores_are_given_labels(tmp_path: Path, kind: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names, labels = ["anna", "bob", "eva", "otto"], ["f", "m", None, "f"]
    corpus = Corpus.of(names, labels={"sex": ["f", "m", "f", "m"]})
    labelled = tapegpt.train(corpus, steps=20, n_embd=4, n_head=1, block_size=8)
    path = tmp_path / f"names.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"who": names, "is": labels}), path)
    else:
        rows = [{"who": name, "is": label} for name, label in zip(names, labels, strict=True)]
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    for number, (read, label, expected) in enumerate([(("is",), None, labels), ((), "m", ["m"] * 4)]):
        source = Source(paths=(str(path),), column="who", labels=read)
        (piece,) = parts.pieces(source)
        out = parts.new_directory(str(tmp_path / f"out{number}"))
        assert bulk._Scoring(out, "jsonl", 1, [piece], source, None, None, label).do(labelled, 0) == 4
        assert [row["nats"] for row in written(Path(out))] == list(labelled.score(names, expected).nats)


def test_only_what_is_surprising_enough_is_written(cluster: Cluster, model: GPT, tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("\n".join(NAMES.documents[:400]), encoding="utf-8")
    scores = model.score(NAMES.documents[:400])
    least = sorted(scores.nats)[200]
    expected = [score.text for score in scores if score.nats > least and (score.percentile or 0) >= 90]
    assert 0 < len(expected) < 199
    out = tmp_path / "out"
    list(score(cluster, model, Source(paths=(str(path),)), out, format="text", threshold=least, min_percentile=90))
    assert [row["text"] for row in written(out)] == expected


LINES = st.lists(st.text("aé\ufeff\u2028\x0b ", max_size=4) | st.sampled_from(["", "x" * 9]), max_size=12)


@given(
    lines=LINES,
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    bom=st.booleans(),
    piece=st.integers(1, 12),
    last=st.booleans(),
)
def test_pieces_hold_the_lines_of_a_file(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], end: str, bom: bool, piece: int, last: bool
) -> None:
    path = tmp_path_factory.mktemp("pieces") / "lines.txt"
    text = "\ufeff" * bom + end.join(lines) + end * last
    for data in (text.encode(), gzip.compress(text.encode())):
        path.write_bytes(data)
        source = Source(paths=(str(path),))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(parts, "PIECE", piece)
            found = [string for each in parts.pieces(source) for string in parts.strings(each, source)]
        assert found == source.select(source.values(str(path), text.encode()))


@pytest.mark.parametrize("reading", [{"encoding": "utf-16"}, {"delimiter": "\n\n"}])
def test_what_cannot_be_cut_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reading: dict[str, Any]
) -> None:
    monkeypatch.setattr(parts, "PIECE", 3)
    path = tmp_path / "names.txt"
    path.write_text("anna\n\nbob\ncleo\n", encoding=reading.get("encoding", "utf-8"))
    source = Source(paths=(str(path),), **reading)
    assert len(parts.pieces(source)) == 1
    assert [text for each in parts.pieces(source) for text in parts.strings(each, source)] == source.documents()


def test_files_are_found_by_uri(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", ".hidden"):
        (tmp_path / name).write_text(f"{name}\n", encoding="utf-8")
    source = Source(paths=(f"file://{tmp_path}", str(tmp_path / "b.txt")))
    assert [text for each in parts.pieces(source) for text in parts.strings(each, source)] == [
        "a.txt",
        "b.txt",
        "b.txt",
    ]


# --- what cannot be ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (lambda: Cluster(""), "ray: an address is local, auto or HOST:PORT, not ''"),
        (lambda: Cluster("auto", 2), "ray: num_cpus are the cores of a local cluster, a whole number from 1 on, not 2"),
        (
            lambda: Cluster("local", 0),
            "ray: num_cpus are the cores of a local cluster, a whole number from 1 on, not 0",
        ),
        (
            lambda: parts.pieces(Source(paths=("-",))),
            "ray: standard input is not on other machines: give the path of a file",
        ),
        (
            lambda: parts.pieces(Source(paths=("x",), unique=True)),
            "ray: unique compares all strings, and a worker sees some: leave it out",
        ),
        (
            lambda: parts.pieces(Source(paths=("/x.csv",))),
            "/x.csv: is read as csv, ray reads text, jsonl, parquet: convert it, or leave ray out",
        ),
        (
            lambda: parts._as_text({"text": ["a\nb"]}),
            "'a\\nb' has a line break in it: choose output_format jsonl or parquet",
        ),
    ],
)
def test_bad_input_is_one_line(fault: Any, line: str) -> None:
    with pytest.raises(TapeGPTError) as raised:
        fault()
    assert str(raised.value) == line


@pytest.mark.slow
@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:1", "ray://127.0.0.1:1"])
def test_an_address_without_a_cluster_is_one_line(address: str) -> None:
    program = f"from tapegpt.cluster import Cluster; Cluster({address!r}).__enter__()"  # here one is connected
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert f"ray {address}: no cluster answers there: " in done.stderr.splitlines()[-1]
    assert done.stderr.endswith(": start one with ray start --head, or say local\n")


def test_bad_wishes_are_refused_before_anything_is_done(
    cluster: Cluster, model: GPT, field: Field, tmp_path: Path
) -> None:
    (tmp_path / "there").write_text("x", encoding="utf-8")
    missing = str(tmp_path / "missing.txt")
    for fault, line in (
        (lambda: generate(cluster, model, -1, tmp_path), "n must be a whole number from 0 on, not -1"),
        (lambda: generate(cluster, model, 1, tmp_path), f"{tmp_path}: has files in it: choose a new directory"),
        (
            lambda: generate(cluster, model, 1, tmp_path, format="csv"),
            "format must be one of text, jsonl, parquet, not 'csv'",
        ),
        (lambda: generate(cluster, model, 1, tmp_path, distinct=True), "ray: distinct compares all strings"),
        (lambda: generate(cluster, model, 1, tmp_path, prefix="7"), "prefix"),
        (lambda: score(cluster, model, Source(paths=(missing,)), tmp_path), f"{missing}: cannot be read: "),
        (lambda: Executor(cluster)(field, [], 0), "threads must be a whole number from 1 on, not 0"),
    ):
        with pytest.raises(TapeGPTError) as raised:
            fault()
        assert str(raised.value).startswith(line)


def test_what_a_worker_cannot_read_is_one_line(cluster: Cluster, model: GPT, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('"anna"\n{\n', encoding="utf-8")
    with pytest.raises(TapeGPTError, match=r"bad\.jsonl: line 2: is not JSON: "):
        list(score(cluster, model, Source(paths=(str(path),)), tmp_path / "out"))


# --- commands ---------------------------------------------------------------------------------------------------


@pytest.fixture
def file(model: GPT, tmp_path: Path) -> str:
    from tapegpt import save

    path = tmp_path / "model.safetensors"
    save(model, path)
    return str(path)


@pytest.mark.usefixtures("cluster")
def test_commands_take_an_address(file: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    names, scores = tmp_path / "names", tmp_path / "scores"
    assert main(["generate", file, "--ray", "local", "-n", "30", "--seed", "3", "--output-dir", str(names)]) == 0
    assert (
        main(["score", file, str(names), "--ray", "local", "--output-dir", str(scores), "--min-percentile", "0"]) == 0
    )
    out, err = capfd.readouterr()
    assert [line.partition(",")[0] for line in out.splitlines()] == [
        f"30 strings in 1 file of {names}",
        f"{len(written(scores))} strings in 1 file of {scores}",
    ]
    assert err == ""
    assert {row["text"] for row in written(scores)} == {row["text"] for row in written(names)} - {""}


@pytest.mark.usefixtures("cluster")
def test_the_command_sweep_takes_an_address(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "names.txt"
    path.write_text("\n".join(FEW.documents), encoding="utf-8")
    command = ["sweep", str(path), "--grid", "learning_rate=0.01,0.02", "--steps", "50", "--seeds", "1", "--json"]
    tables = []
    for how in (["--ray", "local"], ["--threads", "1"]):
        assert main([*command, *how]) == 0
        table = json.loads(capfd.readouterr().out)
        for row in table["rows"]:
            del row["seconds"]
        tables.append(table)
    assert tables[0] == tables[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "line"),
    [
        (
            ["generate", "-n", "1", "--output-dir", "x"],
            "--output-dir is about what --ray writes: give --ray ADDRESS too",
        ),
        (
            ["generate", "--output-format", "jsonl"],
            "--output-format is about what --ray writes: give --ray ADDRESS too",
        ),
        (["generate", "--ray", "local"], "--ray writes files: give --output-dir DIR too"),
        (
            ["generate", "--ray", "local", "--output-dir", "x", "--json"],
            "--json does not go with --ray: leave one of them out",
        ),
        (
            ["score", "--ray", "local", "--output-dir", "x", "--top", "3"],
            "--top does not go with --ray: leave one of them out",
        ),
        (["score", "--ray", "local", "--output-dir", "x"], "--ray scores files: give the path of one, or several"),
    ],
)
def test_a_bad_command_is_one_line(
    file: str, command: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command[0], file, *command[1:]]) == 2
    assert capsys.readouterr().err == f"tapegpt: error: {line}\n"
