"""Several runs at once: each ends or fails by itself."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest

from detzoo.cli import main
from detzoo.engine import status
from detzoo.workflow import parallel

TINY = [
    *("data.size=64", "data.min_size=8", "data.train=24", "data.val=6", "data.test=10"),
    *("resize.size=64", "recipe.images_seen=16", "recipe.batch_size=8", "recipe.val_points=1"),
    *("runtime.device=cpu", "evaluate.resamples=5", "speed.seconds=1", "+speed.lock=false"),
]
CPU, GPU = ({"runtime": {"device": device}} for device in ("cpu", "cuda"))


def test_how_many_at_once(monkeypatch):
    monkeypatch.setattr(parallel, "cores", lambda: 3)
    assert parallel.count_jobs("auto", [CPU] * 9) == 3
    assert parallel.count_jobs("auto", [CPU] * 2) == 2
    assert parallel.count_jobs("auto", [CPU] * 9, threads=2) == 1
    assert parallel.count_jobs("auto", [CPU, GPU]) == 1
    assert parallel.count_jobs(5, [CPU] * 9) == 5
    monkeypatch.setattr(parallel, "cores", lambda: 64)
    assert parallel.count_jobs("auto", [CPU] * 9) == parallel.MOST
    for wrong in (0, True, "two"):
        with pytest.raises(ValueError, match="jobs is"):
            parallel.count_jobs(wrong, [CPU])


@pytest.mark.slow
def test_two_at_once_of_which_one_fails(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(["bench", *TINY, "detectors=[retinanet]"]) == 0
    (run,) = Path("runs/default").iterdir()
    unfinished = {**status.read(run), "stage": "train", "state": "failed"}
    (run / "status.json").write_text(json.dumps(unfinished))
    (run / "checkpoint.pt").write_bytes(b"damaged")
    capfd.readouterr()
    assert main(["bench", *TINY, "jobs=2", "detectors=[centernet,retinanet]"]) == 1
    said = capfd.readouterr()
    assert "1 of 2 runs done" in said.out and "failed, going on with the others" in said.err
    done, failed = sorted(Path("runs/default").iterdir())
    assert failed == run and status.read(failed)["state"] == "failed"
    assert json.loads((done / "environment.json").read_text())["threads"] == 1
    assert (done / "metrics.json").is_file() and (done / "speed.json").is_file()


@pytest.mark.slow
def test_a_run_that_is_killed_fails_alone_and_goes_on_later(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    command = ["bench", *TINY, "jobs=2", "detectors=[centernet,retinanet]"]

    def kill() -> None:
        while True:
            for path in Path("runs/default").glob("retinanet-*"):
                now = status.read(path)
                if now and now["state"] == "running":
                    os.kill(now["pid"], signal.SIGKILL)
                    return
            time.sleep(0.02)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    assert main(command) == 1
    killer.join(10)
    assert "1 of 2 runs done" in capfd.readouterr().out
    assert main(command) == 0
    assert "2 of 2 runs done" in capfd.readouterr().out
    assert not [p for p in psutil.Process().children() if "spawn_main" in " ".join(p.cmdline())]
