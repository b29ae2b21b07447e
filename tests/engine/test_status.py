from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import detzoo
from detzoo import processes
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


@pytest.mark.parametrize("pid", [1, os.getppid()])
def test_a_run_of_another_machine_counts_as_running_while_its_file_is_touched(tmp_path, pid):
    foreign = {"host": "node7", "boot": "another-boot/4026531836"}
    running = {"state": "running", "stage": "train", "started": status._now()}
    status.update(tmp_path, pid=pid, **running, **foreign)
    found = status.read(tmp_path)
    assert found["state"] == "running"
    assert status.describe_process(found).startswith(f"process {pid} on node7; if that has ended")
    silent = time.time() - processes.SILENT - 1
    os.utime(tmp_path / "status.json", (silent, silent))
    found = status.read(tmp_path)
    assert found["state"] == "interrupted" and f"process {pid} on node7 ended" in found["error"]


def test_a_status_of_an_older_version_from_a_container_is_not_running_for_ever(tmp_path):
    old = {"state": "running", "stage": "train", "started": status._now(), "pid": 1}
    (tmp_path / "status.json").write_text(json.dumps(old))
    assert status.read(tmp_path)["state"] == "interrupted"
    (tmp_path / "status.json").write_text(json.dumps({**old, "pid": os.getpid()}))
    assert status.read(tmp_path)["state"] == "running"


def test_a_stage_touches_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "BEAT", 0.02)
    path = tmp_path / "status.json"
    with status.stage(tmp_path, "train"):
        found = status.read(tmp_path)
        assert found["boot"] == processes.boot() and found["host"]
        os.utime(path, (0, 0))
        end = time.monotonic() + 10
        while path.stat().st_mtime == 0 and time.monotonic() < end:
            time.sleep(0.02)
        assert path.stat().st_mtime > 0


@pytest.mark.parametrize("content", ["[]", "3", "{", "[" * 100_000, "", '"running"'])
def test_a_damaged_status_is_one_error_that_says_what_to_do(tmp_path, content):
    (tmp_path / "status.json").write_text(content)
    with pytest.raises(ValueError, match=r"status\.json: .*remove it, and the command"):
        status.read(tmp_path)
    with pytest.raises(ValueError, match=r"status\.json: .*remove it, and the command"):
        status.update(tmp_path, pid=3)


@pytest.mark.parametrize("pid", [None, "1", [], -1, 1.5, 10**30, True])
@pytest.mark.parametrize("started", [None, "yesterday", 3])
def test_nonsense_in_a_status_is_no_process(tmp_path, pid, started):
    status.update(tmp_path, state="running", pid=pid, started=started)
    assert status.read(tmp_path)["state"] == "interrupted"


def test_unknown_fields_are_refused_and_torch_is_not_needed(tmp_path):
    with pytest.raises(ValueError, match="no field colour"):
        status.update(tmp_path, colour="red")
    code = "import sys, detzoo.engine.status; assert 'torch' not in sys.modules"
    python(code)


@pytest.mark.parametrize("value", [None, "many", [], {}, True])
def test_invalid_counts_are_none(tmp_path, value):
    (tmp_path / "status.json").write_text(
        json.dumps({"state": "done", "images_seen": value, "train_seconds": value})
    )
    found = status.read(tmp_path)
    assert found["images_seen"] is None and found["train_seconds"] is None


def test_a_status_that_is_a_link_out_of_its_run_is_not_read(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "secret").write_text("x")
    (tmp_path / "run" / "status.json").symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match="leads out of its folder"):
        status.read(tmp_path / "run")
