"""Runs that are looked at from outside while they are trained."""

from __future__ import annotations

import os
import sys
import time
from io import StringIO
from pathlib import Path

import pytest

from detzoo.engine import status
from detzoo.engine.log import write_rows
from detzoo.files import write_json, write_text
from detzoo.processes import myself
from detzoo.workflow import watch as watching
from detzoo.workflow.watch import bars, look, look_at, watch


def fabricate(folder: Path, name: str, state: str, stage: str = "train", **more: object) -> Path:
    """A run of 100 images, 40 seen, with two points and three rows of its log."""
    path = folder / name
    write_text(path / "config.yaml", "label: ssd\nrecipe:\n  images_seen: 100\n")
    times = {"started": "2026-01-01T00:00:00+00:00", "images_seen": 40, "train_seconds": 20.0}
    status.update(path, state=state, stage=stage, **{**times, **myself(), **more})
    points = [{"images_seen": n, "seconds": n / 2, "AP": n / 100, "AP50": None} for n in (20, 40)]
    write_rows(path / "curve.csv", points)
    rows = [{"step": n, "images_seen": 10 * n, "loss": 4.0 / n} for n in (1, 2, 4)]
    write_rows(path / "log.csv", rows)
    return path


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """One of each kind: running, failed, done, and not started."""
    folder = tmp_path / "mine"
    now = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() + 60))
    fabricate(folder, "a-1", "running", started=now)
    fabricate(folder, "b-2", "failed", error="RuntimeError: no \x1b[2J memory\nmore")
    fabricate(folder, "c-3", "done", "speed")
    write_json(folder / "d-4" / "data.json", {})
    (folder / "e").mkdir()
    write_text(folder / "f-5" / "status.json", "{")
    return folder


def test_a_look_has_every_run_with_its_curves(runs: Path) -> None:
    found = look(runs)
    frame = found.frame.set_index("run")
    assert list(frame["state"]) == ["running", "failed", "done", "waiting", "unknown"]
    assert frame.loc["a-1", "seconds_left"] == 30 and frame.loc["a-1", "images"] == 40
    assert frame.loc["a-1", ["AP", "best_AP", "loss"]].tolist() == [0.4, 0.4, 1.0]
    head, *lines, last = found.text().split("\n")
    assert head.split() == ["run", "at", "images", "left", "AP", "on", "val", "loss"]
    assert lines[0].split() == [
        "a-1",
        "train",
        "40",
        "of",
        "100",
        "0:30",
        "0.400",
        "▅█",
        "1.00",
        "█▃▁",
    ]
    assert "\x1b" not in lines[1] and "no \\x1b[2J memory" in lines[1]
    assert lines[3].split() == ["d-4", "waiting"]
    assert last.startswith("5 runs: 1 done, 2 failed, 1 running, 1 waiting")
    assert set(found.failed) == {runs / "b-2", runs / "f-5"} and found.exit_code == 1


def test_a_budget_of_minutes_and_a_search(tmp_path: Path) -> None:
    path = fabricate(tmp_path, "a-1", "running")
    write_text(path / "config.yaml", "recipe:\n  images_seen: 100\n  minutes: 1\n")
    found = look_at(path)
    assert (found.spent, found.budget) == (20.0, 60.0)
    search = tmp_path / "mine-tune" / "ssd-1"
    status.update(search, state="running", stage="tune", images_seen=50, train_seconds=5.0)
    trials = [{"AP": [0.1, 0.3]}, {"AP": [0.2]}, {"AP": []}]
    write_json(search / "tune.json", {"total": 200, "trials": trials})
    found = look_at(search)
    assert (list(found.aps), found.budget) == ([0.3, 0.2], 200.0)
    with pytest.raises(ValueError, match=r"no run has begun in .*mine; .*detzoo watch .*mine-tune"):
        (tmp_path / "mine").mkdir()
        look(tmp_path / "mine")


def test_a_curve_is_as_many_letters_as_points_at_most_twelve() -> None:
    assert bars([0.0, 0.5, 1.0], 0.0, 1.0, "abc") == "abc"
    assert bars(range(24), 0.0, 23.0, "ab") == "a" * 6 + "b" * 6
    assert bars([2.0, 2.0], 2.0, 2.0, "abc") == "aa" and bars([], 0.0, 0.0, "ab") == ""


def test_nothing_is_over_between_two_stages_and_two_runs(tmp_path: Path) -> None:
    path = fabricate(tmp_path, "a-1", "done")
    now = (path / "status.json").stat().st_mtime
    assert not look(tmp_path).over(now + 1) and look(tmp_path).over(now + 6)
    write_json(tmp_path / "b-2" / "data.json", {})
    os.utime(tmp_path / "b-2" / "data.json", (now, now))
    assert not look(tmp_path).over(now + 6) and look(tmp_path).over(now + 61)


class Terminal(StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Both streams are terminals; gives stderr. Not a fixture: pytest takes the streams back."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "24")
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, Terminal())
    return sys.stderr  # type: ignore[return-value]


def test_on_a_terminal_it_is_drawn_anew_until_all_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = on_terminal(monkeypatch)
    now = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() + 60))
    path = fabricate(tmp_path, "a-1", "running", started=now)
    naps = iter(["images", "end", "long ago"])

    def sleep(_: float) -> None:
        what = next(naps)
        if what == "long ago":
            os.utime(path / "status.json", (1, 1))
        else:
            status.update(path, images_seen=80, state="running" if what == "images" else "done")

    monkeypatch.setattr(watching.time, "sleep", sleep)
    found = watch(tmp_path)
    shown = terminal.getvalue()
    assert "40 of 100" in shown and "80 of 100" in shown and shown.count("\x1b[3F") == 3
    assert shown.endswith("\x1b[3F\x1b[J") and found.looks[0].state == "done"


def test_ctrl_c_ends_the_looking_and_a_pipe_is_one_look(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = on_terminal(monkeypatch)

    def sleep(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(watching.time, "sleep", sleep)
    assert len(watch(runs).looks) == 5
    assert terminal.getvalue().endswith("\x1b[J")
    terminal.truncate(0)
    monkeypatch.setattr(terminal, "isatty", lambda: False)
    assert len(watch(runs).looks) == 5 and not terminal.getvalue().strip("\0")
