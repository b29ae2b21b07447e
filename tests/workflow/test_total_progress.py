"""One line for all of bench, with the time left for everything."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest

from detzoo.files import write_json
from detzoo.workflow import total_progress
from detzoo.workflow.total_progress import TotalProgress, format_line, run_progress, seconds_left


@pytest.mark.parametrize(
    ("now", "part"),
    [
        (None, 0.0),
        ({"stage": "train", "state": "running", "images_seen": 500}, 0.425),
        ({"stage": "train", "state": "running", "images_seen": None}, 0.0),
        ({"stage": "train", "state": "failed", "images_seen": 500}, 1.0),
        ({"stage": "evaluate", "state": "running"}, 0.85),
        ({"stage": "evaluate", "state": "done"}, 1.0),
        ({"stage": "speed", "state": "running"}, 1.0),
    ],
)
def test_the_part_of_a_run_that_is_done(now, part):
    assert run_progress(now, 1000) == pytest.approx(part)


def test_the_time_left_is_of_this_call_s_own_work():
    """One run was done before; half of another took 30 s; one is to come."""
    assert seconds_left([1, 0.5, 0], [1, 0, 0], 30) == 90
    assert seconds_left([1, 0, 0], [1, 0, 0], 30) is None


def test_the_line():
    parts = [1, 0.45, 0.12, 0]
    assert format_line(["ssd", "yolo", "rcnn", "a"], parts, 90, 30) == (
        "1 of 4 runs done, at work: yolo 45%, rcnn 12%; 02:00 left for everything"
    )
    assert format_line(["a"], [0], None, 30) == "0 of 1 runs done"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()], ids=["terminal", "log"])
def test_it_is_shown_and_wiped(tmp_path: Path, monkeypatch, stream):
    monkeypatch.setattr(total_progress, "EVERY", 0.01)
    monkeypatch.setattr(total_progress, "SECONDS_BETWEEN_LINES", 0.01)
    write_json(tmp_path / "status.json", {"stage": "evaluate", "state": "done"})
    run = {"label": "a", "recipe": {"images_seen": 10}}
    with TotalProgress([run], [tmp_path], 30, stream):
        deadline = time.monotonic() + 20
        while "runs done" not in stream.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
    text = stream.getvalue()
    assert "1 of 1 runs done" in text
    assert text.endswith("\r\x1b[K") if stream.isatty() else "\x1b" not in text
