from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import detzoo
from detzoo.engine import status

ROOT = Path(detzoo.__file__).parents[1]


def python(code: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_a_stage_is_running_then_done(tmp_path):
    assert status.read(tmp_path) is None
    with status.stage(tmp_path, "train"):
        found = status.read(tmp_path)
        assert (found["state"], found["stage"], found["pid"]) == ("running", "train", os.getpid())
        assert found["finished"] is None
        status.update(tmp_path, images_seen=7)
    found = status.read(tmp_path)
    assert (found["state"], found["images_seen"], found["error"]) == ("done", 7, None)
    assert found["started"] <= found["finished"]
    with status.stage(tmp_path, "evaluate"):
        pass
    assert status.read(tmp_path)["images_seen"] == 7  # kept by the next stage
    assert list(json.loads((tmp_path / "status.json").read_text())) == list(status.FIELDS)


@pytest.mark.parametrize(
    ("error", "state", "text"),
    [
        (ValueError("no such box"), "failed", "ValueError: no such box"),
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt"),
    ],
)
def test_an_error_is_recorded_and_goes_on(tmp_path, error, state, text):
    with pytest.raises(type(error)), status.stage(tmp_path, "train"):
        raise error
    found = status.read(tmp_path)
    assert (found["state"], found["error"]) == (state, text)
    assert found["finished"]
    with status.stage(tmp_path, "train"):
        assert status.read(tmp_path)["error"] is None


def test_a_process_that_is_gone_was_interrupted(tmp_path):
    code = f"from detzoo.engine.status import update, _now; import os; update({str(tmp_path)!r}, "
    code += "state='running', stage='train', started=_now(), pid=os.getpid())"
    python(code)
    found = status.read(tmp_path)
    assert found["state"] == "interrupted" and "stage train" in found["error"]
    # the same number, given to another process later on
    status.update(tmp_path, pid=os.getpid(), started="2001-01-01T00:00:00+00:00")
    assert status.read(tmp_path)["state"] == "interrupted"


def test_unknown_fields_are_refused_and_torch_is_not_needed(tmp_path):
    with pytest.raises(ValueError, match="no field colour"):
        status.update(tmp_path, colour="red")
    code = "import sys, detzoo.engine.status; assert 'torch' not in sys.modules"
    python(code)
