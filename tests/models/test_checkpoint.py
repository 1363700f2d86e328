"""Model files: whole or refused, never half written, readable by others."""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
from array import array
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

import tapegpt
from tapegpt import Config, Corpus, TapeGPTError, Trainer
from tapegpt.data.sources import Source
from tapegpt.models import writing
from tapegpt.models.provenance import DataRecord
from tapegpt.models.trained import GPT
from tapegpt.tensors import Contents, little_endian, write_contents
from tests.properties import many


def trained(strings: list[str]) -> GPT:
    trainer = Trainer(Corpus.of(strings), Config(1, 8, 2, 6), steps=3)
    trainer.run(3)
    return trainer.model


@cache
def of_names() -> GPT:
    return trained(["anna", "otto", "bob"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a training in which all that there is to keep is there."""
    path = tmp_path_factory.mktemp("model") / "m"
    trainer = Trainer(Corpus.of(["anna", "otto", "bob"]), Config(1, 8, 2, 6), steps=9, validation=0.3)
    trainer.evaluate()
    trainer.run(3)
    trainer.keep(lambda model: tapegpt.save(model, path))
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "m.safetensors"


def test_data_that_can_be_read_once_are_not_looked_for_again(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("anna\notto\n")
    os.mkfifo(tmp_path / "pipe")
    corpus = Corpus.read(tmp_path / "names.txt")
    file, *others = (
        DataRecord.of(corpus.replace(source=source))
        for source in (corpus.source, Source(paths=("-",), unique=True), Source(paths=(str(tmp_path / "pipe"),)), None)
    )
    assert file.read() == corpus
    assert [each.source and (each.source["paths"], each.source["unique"]) for each in others] == [
        (["-"], True),  # how it was read is known
        (["-"], False),
        None,
    ]
    for each in others:
        with pytest.raises(TapeGPTError, match="the training data came from a program or standard input"):
            each.read()


@pytest.mark.slow
@pytest.mark.parametrize("strings", [["anna"], ["a"], ["żółw", "🐢", "\ud800x", 'q"\\\0q'], ["x\ny"]])
def test_what_is_saved_is_loaded(strings: list[str], path: Path) -> None:
    model = trained(strings)
    model.rng.gauss()  # a second value is pending
    tapegpt.save(model, path)
    again = tapegpt.load(path)
    assert again.parameters == model.parameters
    assert (again.config, again.vocabulary, again.steps) == (model.config, model.vocabulary, model.steps)
    assert again.rng.getstate() == model.rng.getstate()
    assert again.generate(5) == model.generate(5)
    assert os.listdir(path.parent) == [path.name]


def test_another_reader_reads_the_same(path: Path) -> None:
    tapegpt.save(of_names(), path)
    tensors = load_file(path)
    shapes = of_names().config.shapes(of_names().vocab_size)
    assert {name: tensor.shape for name, tensor in tensors.items()} == shapes
    assert all(tensor.dtype == "float64" for tensor in tensors.values())
    assert {name: tensor.ravel().tolist() for name, tensor in tensors.items()} == {
        name: values.tolist() for name, values in of_names().parameters.items()
    }
    data = path.read_bytes()
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    assert json.loads(metadata["config"]) == {"n_layer": 1, "n_embd": 8, "n_head": 2, "block_size": 6}
    assert json.loads(metadata["vocabulary"]) == "abnot"
    assert metadata["format"] == "2"
    assert metadata["tapegpt"] == tapegpt.__version__


def test_numbers_in_a_file_begin_at_multiples_of_their_size(path: Path) -> None:
    held = writing.contents(of_names())
    for length in range(8):
        write_contents(held.replace(metadata={**held.metadata, "tapegpt": "0" * length}), path)
        assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0


def refused(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(TapeGPTError) as caught:
        tapegpt.load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@settings(max_examples=many(300))
@given(st.data())
def test_every_flip_and_cut_is_found(
    whole: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged"
    place = data.draw(st.integers(0, len(whole) - 1))
    bit = data.draw(st.integers(0, 7))
    flipped = bytes([*whole[:place], whole[place] ^ 1 << bit, *whole[place + 1 :]])
    if decoded(flipped) != decoded(whole):  # a flip between two ways of writing the same is none
        refused(path, flipped)
    refused(path, whole[:place])


def decoded(data: bytes) -> Any:
    """What a file says, or the file itself where it says nothing."""
    size = int.from_bytes(data[:8], "little")
    try:
        return json.loads(data[8 : 8 + size]), data[8 + size :]
    except ValueError:
        return data


@given(st.binary(max_size=300))
def test_foreign_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "foreign"
    refused(path, data)
    refused(path, len(data).to_bytes(8, "little") + data)


Header = dict[str, Any]


def taken_apart(data: bytes) -> tuple[Header, bytes]:
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def put_together(header: Header, body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def signed(header: Header, body: bytes) -> bytes:
    """The file with a checksum that holds, as someone makes it who means harm."""
    metadata = {name: text for name, text in header["__metadata__"].items() if name != "checksum"}
    tensors = {
        name: (tuple(entry["shape"]), body[slice(*entry["data_offsets"])])
        for name, entry in header.items()
        if name != "__metadata__"
    }
    metadata["checksum"] = Contents(metadata, tensors, "F64").checksum
    return put_together({**header, "__metadata__": metadata}, body)


def altered(whole: bytes, **changes: str) -> bytes:
    """The file with some metadata changed and signed."""
    header, body = taken_apart(whole)
    header["__metadata__"] |= changes
    return signed(header, body)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "4"}, "its format is '4', this tapegpt reads up to 3"),
        ({"format": "0"}, "its format is '0', this tapegpt reads up to 3"),
        ({"config": "{}"}, "tensors are not those"),
        ({"config": '{"n_embd": 8, "n_head": 3}'}, "multiple of n_head"),
        ({"config": '{"n_embd": 1e99}'}, "n_embd must be a whole number"),
        ({"config": '{"width": 8}'}, "unexpected argument 'width'"),
        ({"config": "[" * 100_000}, "metadata does not hold"),
        ({"vocabulary": '"ba"'}, "not a sorted set"),
        ({"vocabulary": "[1]"}, "not a sorted set"),
        ({"vocabulary": '"abcdefghij"'}, "tensors are not those"),
        ({"random_state": "[3, [], null]"}, "metadata does not hold"),
        ({"random_state": json.dumps([3, [0] * 624 + [9999], None])}, "metadata does not hold"),
        ({"random_state": json.dumps([3, ["x"] * 625, None])}, "metadata does not hold"),
        ({"steps": "many"}, "metadata does not hold"),
        ({"steps": "-1"}, "steps must be a whole number from 0 to"),
        ({"steps": str(2**46 + 1)}, "steps must be a whole number from 0 to"),
        ({"steps": str(2**63 - 1)}, "steps must be a whole number from 0 to"),
        ({"steps": "9" * 5000}, "metadata does not hold"),
        ({"config": '{"n_layer": 256, "n_embd": 8192, "block_size": 8192}'}, "tensors are not those"),
        ({"config": '{"n_embd": ' + "9" * 5000 + "}"}, "metadata does not hold"),
        ({"random_state": json.dumps([3, [2**32] * 624 + [0], None])}, "metadata does not hold"),
        ({"random_state": json.dumps([3, [0.5] * 624 + [0], None])}, "metadata does not hold"),
        ({"random_state": json.dumps([3, [0] * 625, "x"])}, "metadata does not hold"),
        ({"vocabulary": '"ab' + "\\ud800" * 2 + '"'}, "not a sorted set"),
        ({"vocabulary": '""'}, "not a sorted set"),
        ({"settings": "{}", "powers": "[1.0, 1.0]"}, "Adam has 2 powers for the engine exact in F64"),
        ({"settings": '{"engine": "fast"}', "powers": "[1.0, 1.0]"}, "Adam has 2 powers for the engine fast in F64"),
        ({"settings": '{"steps": 0}'}, "steps must be a whole number"),
        ({"settings": '{"pace": 1}'}, "unexpected argument 'pace'"),
        ({"evaluations": "[[1.5, 2.0]]"}, "step must be a whole number"),
        ({"evaluations": f"[[{2**63 - 1}, 2.0]]"}, "step must be a whole number"),
        ({"evaluations": "[[1, -0.5]]"}, "a held-out loss must be a number from 0 on"),
        ({"evaluations": "[[1, NaN]]"}, "metadata does not hold"),
        ({"evaluations": "[[1]]"}, "metadata does not hold"),
        ({"spent": "Infinity"}, "spent must be a number from 0 to 1,000,000,000"),
        ({"spent": "-1e308"}, "spent must be a number from 0 to 1,000,000,000"),
        ({"data": "{}"}, "metadata does not hold"),
        ({"powers": "[]", "settings": '{"engine": "fast"}'}, "Adam has 0 powers for the engine fast in F64"),
        ({"powers": "[1.5, 0.5]"}, "a power of Adam must be a number from 0 to 1"),
        ({"ranks": "[null]"}, "the ranks are no rising numbers"),
        ({"ranks": "[NaN]"}, "the ranks are no rising numbers"),
        ({"ranks": "[2.0, 1.0]"}, "the ranks are no rising numbers"),
    ],
)
def test_metadata_that_does_not_hold_is_refused(
    changes: dict[str, str], message: str, whole: bytes, path: Path
) -> None:
    path.write_bytes(altered(whole))
    tapegpt.load(path)
    assert message in refused(path, altered(whole, **changes))


@pytest.mark.parametrize("name", ["config", "vocabulary", "random_state", "steps"])
def test_metadata_that_is_missing_is_refused(name: str, whole: bytes, path: Path) -> None:
    header, body = taken_apart(whole)
    del header["__metadata__"][name]
    assert "metadata does not hold" in refused(path, signed(header, body))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
)


FIELDS = [
    "config",
    "vocabulary",
    "random_state",
    "steps",
    "settings",
    "evaluations",
    "powers",
    "spent",
    "data",
    "ranks",
]


@given(st.sampled_from(FIELDS), JSON)
def test_no_metadata_is_an_accident(
    whole: bytes, tmp_path_factory: pytest.TempPathFactory, name: str, value: object
) -> None:
    path = tmp_path_factory.getbasetemp() / "meant"
    path.write_bytes(altered(whole, **{name: json.dumps(value)}))
    is_steps = name == "steps" and isinstance(value, int) and not isinstance(value, bool) and value >= 0
    try:
        steps, said = tapegpt.load(path).steps, ""
    except TapeGPTError as error:
        steps, said = None, str(error)
    if name == "steps":
        assert steps == (value if is_steps else None)
    assert steps is None or name not in ("config", "vocabulary", "random_state")
    assert steps is not None or said.startswith(f"{path}: not a model of tapegpt: its ")


@given(st.sampled_from(["wte", "lm_head", "layer0.mlp_fc1", "__metadata__", "new"]), JSON)
def test_no_entry_of_the_header_is_an_accident(
    whole: bytes, tmp_path_factory: pytest.TempPathFactory, name: str, value: object
) -> None:
    header, body = taken_apart(whole)
    header[name] = value
    refused(tmp_path_factory.getbasetemp() / "header", put_together(header, body))


def test_a_header_that_lies_is_refused(whole: bytes, path: Path) -> None:
    header, body = taken_apart(whole)
    entry = header["wte"]
    rows, columns = entry["shape"]
    start, stop = entry["data_offsets"]
    for change in (
        {"shape": [columns, rows]},
        {"shape": [rows * columns]},
        {"shape": [1, rows, columns]},
        {"shape": [2**63, 2**63]},
        {"shape": [2**40, 2**40], "data_offsets": [0, 2**60]},
        {"dtype": "I64"},
        {"dtype": "F32", "shape": [rows, 2 * columns]},
        {"dtype": "F4096"},
        {"data_offsets": [start + 8, stop + 8]},
        {"data_offsets": [stop, start]},
        {"data_offsets": [-8, stop - start - 8]},
    ):
        lying = {**header, "wte": {**entry, **change}}
        refused(path, put_together(lying, body))
        refused(path, signed(lying, body))
    missing = {name: entry for name, entry in header.items() if name != "lm_head"}
    refused(path, signed(missing, body))
    refused(path, signed({**header, "more": {**entry, "shape": [0, 0], "data_offsets": [0, 0]}}, body))
    for size in (0, 1, len(whole), 10**8, 2**63, 2**64 - 1):
        refused(path, size.to_bytes(8, "little") + whole[8:])
    for text in (
        b"[" * 10**6,
        b'{"a":' * 10**6,
        b"null",
        b"[]",
        b'{"__metadata__": 1}',
        b'{"__metadata__": {}}',
        b"\xff",
    ):
        refused(path, len(text).to_bytes(8, "little") + text)


def test_equal_shapes_may_not_be_swapped_unnoticed(whole: bytes, path: Path) -> None:
    header, body = taken_apart(whole)
    header["wte"], header["lm_head"] = header["lm_head"], header["wte"]
    assert "checksum does not hold" in refused(path, put_together(header, body))


@pytest.mark.slow
def test_a_model_beyond_memory_is_refused(path: Path) -> None:
    """Small parameters, whose training would need 130 GiB of intermediate values."""
    import numpy as np
    from safetensors.numpy import save

    config = Config(n_layer=256, n_embd=1, n_head=1, block_size=8192)
    metadata = {
        "format": "1",
        "tapegpt": "0",
        "config": json.dumps(config.as_dict()),
        "vocabulary": '"a"',
        "random_state": json.dumps(tapegpt.Random(0).getstate()),
        "steps": "0",
    }
    tensors = {name: np.zeros(shape) for name, shape in config.shapes(2).items()}
    header, body = taken_apart(save(tensors, metadata))
    assert "GiB of memory" in refused(path, signed(header, body))


def test_a_negative_mean_of_squares_is_refused(whole: bytes, path: Path) -> None:
    header, body = taken_apart(whole)
    start = header["adam.square.wte"]["data_offsets"][0]
    for number, text in ((-0.0, ""), (5e-324, ""), (-5e-324, "negative mean of squares"), (math.nan, "not finite")):
        made = signed(header, body[:start] + array("d", [number]).tobytes() + body[start + 8 :])
        if text:
            assert text in refused(path, made)
        else:
            path.write_bytes(made)
            tapegpt.load(path)


def test_a_held_out_loss_may_be_none_or_endless(whole: bytes, path: Path) -> None:
    path.write_bytes(altered(whole, evaluations="[[1, 0.0], [2, Infinity]]"))
    training = tapegpt.load(path).state
    assert training is not None
    assert [each.loss for each in training.evaluations] == [0.0, math.inf]


def test_parameters_that_are_not_finite_are_refused(path: Path) -> None:
    model = trained(["anna"])
    parameters = model.parameters
    parameters["wte"][3] = math.nan
    model.engine.load_parameters(parameters)
    tapegpt.save(model, path)
    with pytest.raises(TapeGPTError, match="not finite"):
        tapegpt.load(path)


def test_files_of_others_are_refused(path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"wte": np.zeros((3, 2))}, path)
    assert "names no tapegpt" in refused(path, path.read_bytes())
    save_file({"wte": np.zeros((3, 2), "float16")}, path, {"tapegpt": "1", "format": "1"})
    assert "not matrices, all of F64" in refused(path, path.read_bytes())


@pytest.mark.parametrize(
    ("function", "call", "kept"),
    [
        ("open", 1, True),  # of the trial
        ("unlink", 1, True),
        ("open", 2, True),  # of the file
        ("fsync", 1, True),
        ("replace", 1, True),
        ("open", 3, False),  # of the directory, once the file is there
        ("fsync", 2, False),
    ],
)
def test_a_failing_write_keeps_the_old_file(
    function: str, call: int, kept: bool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(b"old")
    model = of_names()  # whose code may be read from a file
    real, calls = getattr(os, function), 0

    def failing(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(os, function, failing)
    if kept:
        with pytest.raises(TapeGPTError, match="cannot be written: No space left on device"):
            tapegpt.save(model, path)
        assert path.read_bytes() == b"old"
    else:
        tapegpt.save(model, path)
        assert tapegpt.load(path).parameters == model.parameters
    assert calls >= call
    if function != "unlink":  # which is how it would go away
        assert os.listdir(path.parent) == [path.name]


def test_what_a_crash_left_is_in_nobodys_way(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(_: str) -> None:
        raise SystemExit  # as far as a test can: what is on the disk stays

    monkeypatch.setattr(os, "unlink", crash)
    with pytest.raises(SystemExit):
        tapegpt.save(of_names(), path)
    monkeypatch.undo()
    assert len(os.listdir(path.parent)) == 1
    tapegpt.save(of_names(), path)
    assert tapegpt.load(path).parameters == of_names().parameters


def test_threads_may_save_to_one_place(path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: tapegpt.save(of_names(), path), range(12)))
    assert tapegpt.load(path).parameters == of_names().parameters
    assert os.listdir(path.parent) == [path.name]


def test_a_name_may_be_as_long_as_any(tmp_path: Path) -> None:
    for name in ("x" * 255, "\N{SNAIL}" * 63):
        tapegpt.save(of_names(), tmp_path / name)
        assert tapegpt.load(tmp_path / name).parameters == of_names().parameters


def test_an_interrupted_write_keeps_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(b"old")

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        tapegpt.save(of_names(), path)
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.slow
def test_a_full_disk_keeps_the_old_file(path: Path) -> None:
    path.write_bytes(b"old")
    code = "import sys, tapegpt; tapegpt.save(tapegpt.train(['anna'], steps=1), sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)),  # no thread here
        env={**os.environ, "TAPEGPT_CACHE_DIR": ""},
    )
    assert "tapegpt.errors.TapeGPTError" in done.stderr
    assert "cannot be written: File too large" in done.stderr
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == [path.name]


def test_a_link_is_followed(path: Path, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    path.symlink_to(tmp_path / "below" / "target")
    tapegpt.save(of_names(), path)
    assert path.is_symlink()
    assert tapegpt.load(tmp_path / "below" / "target").parameters == of_names().parameters


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing/m", "there is no directory"),
        (".", "is a directory"),
        ("new/", "is a directory"),
        ("x" * 300, "cannot be written"),
        ("a\0b", "cannot be written"),
        ("fifo", "is not a regular file"),
    ],
)
def test_places_that_cannot_be_written(name: str, message: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(TapeGPTError, match=message) as caught:
        tapegpt.save(of_names(), f"{tmp_path}/{name}")
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["fifo"]
    with pytest.raises(TapeGPTError, match="the name of a file to write is empty: give one"):
        tapegpt.save(of_names(), "")


@pytest.mark.parametrize(
    ("name", "message"), [("missing", "no such file"), (".", "cannot be read"), ("a\0b", "cannot")]
)
def test_places_that_cannot_be_read(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(TapeGPTError, match=message):
        tapegpt.load(f"{tmp_path}/{name}")


def test_what_never_ends_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(TapeGPTError, match="is not a regular file"):
            tapegpt.load(place)


def test_a_private_file_stays_private(path: Path) -> None:
    model = trained(["ab", "ba"])
    tapegpt.save(model, path)
    path.chmod(0o600)
    tapegpt.save(model, path)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("gauss_next", [math.inf, math.nan, "1.5"])
def test_a_random_state_that_is_no_number_is_refused(gauss_next: Any, whole: bytes, path: Path) -> None:
    version, words, _ = trained(["ab", "ba"]).rng.getstate()
    state = json.dumps([version, words, gauss_next])
    assert "metadata does not hold" in refused(path, altered(whole, random_state=state))


def test_the_umask_holds(path: Path) -> None:
    former = os.umask(0o027)
    try:
        tapegpt.save(of_names(), path)
    finally:
        os.umask(former)
    assert path.stat().st_mode & 0o777 == 0o640


def test_bytes_on_disk_are_little_endian() -> None:
    assert little_endian(array("d", [1.0])) == bytes(6) + b"\xf0\x3f"


def test_bytes_are_those_of_a_file(whole: bytes, tmp_path: Path) -> None:
    model = tapegpt.loads(whole)
    for weights_only in (False, True):
        tapegpt.save(model, tmp_path / "n", weights_only=weights_only)
        assert tapegpt.dumps(model, weights_only=weights_only) == (tmp_path / "n").read_bytes()


@pytest.mark.parametrize("name", ["m.json", "M.JSON"])
def test_json_is_known_by_its_name(name: str, tmp_path: Path) -> None:
    tapegpt.save(of_names(), tmp_path / name)
    assert json.loads((tmp_path / name).read_bytes())["engine"] == "exact"


@given(st.data())
def test_another_digit_in_json_is_found(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "digits.json"
    tapegpt.save(of_names(), path)
    whole = path.read_bytes()
    place = data.draw(st.sampled_from([place for place, byte in enumerate(whole) if chr(byte).isdigit()]))
    changed = whole[:place] + data.draw(st.sampled_from("123456789")).encode() + whole[place + 1 :]
    if repr(json.loads(changed)) != repr(json.loads(whole)):
        refused(path, changed)


def test_numbers_in_json_are_changed_where_the_checksum_is_taken_out(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    tapegpt.save(of_names(), path)
    fields = json.loads(path.read_bytes())
    fields["state_dict"]["wte"][0][0] = 0.5
    refused(path, json.dumps(fields).encode())
    del fields["checksum"]
    path.write_text(json.dumps(fields))
    assert tapegpt.load(path).parameters["wte"][0] == 0.5
