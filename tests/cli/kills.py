"""Commands that are killed at random moments and gone on with: `python -m tests.cli.kills 200` kills so many times.

Each ends in the same bits as one that was left alone, whatever was under way: a training, one resumed, a sweep.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from itertools import cycle
from pathlib import Path
from typing import Any

import tapegpt
from tapegpt.experiments.journal import JOURNAL

NAMES = ["anna", "otto", "bob", "hannah", "eve", "ada", "natan", "aviva"]
# No samples: to interrupt them would be to interrupt the random numbers.
TRAIN = ["train", "names.txt", "--n-embd", "8", "--n-head", "2", "--block-size", "4"]
SAVED = ["--samples", "0", "--save-every", "160"]
SWEEP = ["sweep", "names.txt", "--validation", "0.3", "--trials", "8", "--seeds", "2"]
KINDS = {
    "exact": [*TRAIN, "--steps", "16000"],
    "fast": [
        *TRAIN,
        "--steps",
        "4000",
        "--engine",
        "fast",
        "--n-gram",
        "3",
        "--gram-rows",
        "64",
        "--validation",
        "0.3",
    ],
    "sweep": [*SWEEP, "--grid", "n_embd=4,8", "--random", "learning_rate=0.001..0.1", "--steps", "1500"],
}
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


class Victim:
    """A kind of command, run in directories beside the current one's `names.txt`."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        Path("names.txt").write_text("\n".join(NAMES) + "\n", encoding="utf-8")
        for place in ("whole", "again"):
            shutil.rmtree(place, ignore_errors=True)
            os.mkdir(place)
            started = time.perf_counter()
            with self._process(place) as process:
                assert process.wait() == 0
            self._seconds = time.perf_counter() - started  # the second time with its code at hand
        self._whole = self._result("whole")
        assert self._result("again") == self._whole

    def _process(self, place: str) -> subprocess.Popen[bytes]:
        """The command, begun or gone on with."""
        model = os.path.join(place, "m")
        if self._kind == "sweep":
            arguments = [*KINDS["sweep"], "--run-dir", place, "-o", model]
        else:
            begun = ["resume", model] if os.path.exists(model) else [*KINDS[self._kind], "-o", model]
            arguments = [*begun, *SAVED, "--metrics", model + ".jsonl"]
        command = [sys.executable, "-m", "tapegpt", *arguments]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def _result(self, place: str) -> Any:
        """The bits that it ends in: the model's, and what was noted of the way, without seconds."""
        model = Path(place, "m").read_bytes()
        if self._kind != "sweep":
            return model, Path(place, "m.jsonl").read_bytes()
        lines = [json.loads(line) for line in Path(place, JOURNAL).read_text(encoding="utf-8").splitlines()]
        return model, sorted((line["key"], line["loss"], line["losses"]) for line in lines if "key" in line)

    def killed(self, rng: random.Random) -> int:
        """Run it to its end in a new directory, killed on the way as often as it happens; how often that was."""
        kills, code = 0, -1
        with tempfile.TemporaryDirectory(dir=".") as place:
            while code != 0:
                with self._process(place) as process:
                    try:
                        code = process.wait(rng.uniform(0, self._seconds) * (1 + kills / 10))
                    except subprocess.TimeoutExpired:
                        process.send_signal(rng.choice(SIGNALS))
                        kills += 1
                    said = process.stderr.read() if process.stderr else b""
                if code == 2 and b"the training is over" in said:  # it was killed before it could say so
                    break
                assert code in (-1, 0), said.decode()
                if os.path.exists(os.path.join(place, "m")):
                    tapegpt.load(os.path.join(place, "m"))  # it is whole
            assert self._result(place) == self._whole
        return kills


if __name__ == "__main__":
    wanted = int(sys.argv[1])
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().getrandbits(32)
    rng, kills = random.Random(seed), dict.fromkeys(KINDS, 0)
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        victims = {kind: Victim(kind) for kind in KINDS}
        for kind in cycle(KINDS):
            kills[kind] += victims[kind].killed(rng)
            if sum(kills.values()) >= wanted:
                break
        os.chdir("/")
    print(f"seed {seed}: killed {kills}, every one of them ended in the same bits")
