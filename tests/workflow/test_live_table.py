"""The table of what runs side by side."""

from __future__ import annotations

from io import StringIO

from detzoo.workflow.live_table import Row, Table, clock, line, summary, time_left

ROWS = [
    Row("seed=0", "done", "", 100, 100, 50.0),
    Row("seed=1", "running", "", 40, 100, 20.0),
    Row("seed=2", "failed", "ValueError: no"),
    Row("seed=3", "waiting"),
]


def test_the_time_left_is_that_of_what_runs_and_waits() -> None:
    assert ROWS[1].left == 30
    assert time_left(ROWS, 1) == 80  # 30 of seed 1, and 50 of seed 3, as long as the others
    assert time_left(ROWS, 2) == 50  # seed 3 alone takes that
    assert time_left([Row("a", "running"), Row("b", "waiting")], 1) is None
    assert time_left([ROWS[0], ROWS[2]], 1) == 0
    assert summary(ROWS, 1) == "4 runs: 1 done, 1 failed, 1 running, 1 waiting, 1:20 left"
    assert line(ROWS[1], 8) == "seed=1    running 40 of 100 images, 0:30 left"
    assert line(ROWS[0], 6) == "seed=0  done    100 images in 0:50"
    assert clock(3725) == "1:02:05" and clock(None) == "?"


def test_on_a_terminal_the_table_is_redrawn_in_place(monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("LINES", "24")
    table = Table(lambda: ROWS, 1, stream := StringIO(), live=True)
    table.update()
    first = stream.getvalue()
    assert first.count("\n") == len(ROWS) + 1 and "\x1b[5F" not in first
    assert all(len(text) < 40 for text in first.split("\n"))
    table.update()
    assert stream.getvalue().removeprefix(first).startswith("\x1b[5F")
    monkeypatch.setenv("LINES", "4")  # the summary and what matters most
    table = Table(lambda: ROWS, 1, stream := StringIO(), live=True)
    table.update()
    text = stream.getvalue()
    assert "seed=1" in text and "seed=2" in text and "seed=0" not in text and "4 runs" in text


def test_a_note_stands_before_the_images_and_what_comes_after_is_counted() -> None:
    row = Row("ssd", "running", "trial 3 of 8", 40, 100, 20.0)
    assert line(row, 4) == "ssd   running trial 3 of 8, 40 of 100 images, 0:30 left"
    said = summary([row], 1, "searches", 90)
    assert said == "1 searches: 1 running, 0:30 left, 2:00 for everything"


def test_in_a_log_every_change_is_a_line() -> None:
    rows = [Row("ssd", "running", "trial 0", 0, 8)]
    table = Table(lambda: list(rows), 1, stream := StringIO(), live=False)
    for note in ("trial 0", "trial 0", "trial 1"):
        rows[0] = Row("ssd", "running", note, 4, 8, 1.0)
        table.update()
    assert stream.getvalue().count("\n") == 2 and "trial 1" in stream.getvalue()
