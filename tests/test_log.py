"""Events of the library go to the logger "tapegpt" of a program that logs, and cost one that does not no import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tapegpt


def test_what_a_training_does_is_logged(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    with caplog.at_level("INFO", "tapegpt"):
        model = tapegpt.train(["anna", "otto", "bob", "eve"], steps=20, n_embd=4, n_head=2, validation=0.25)
        model.save(tmp_path / "model")
    messages = [record.getMessage() for record in caplog.records if record.name == "tapegpt"]
    assert any(message.startswith("step 20: held-out loss ") for message in messages)
    assert messages[-2:] == ["trained to step 20", f"saved {tmp_path / 'model'}"]
    assert {record.filename for record in caplog.records} >= {"trainer.py", "writing.py"}


def test_who_does_not_log_does_not_pay() -> None:
    program = "import sys, tapegpt; tapegpt.train(['anna'], steps=1); assert 'logging' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
