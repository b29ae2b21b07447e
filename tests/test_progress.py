"""Progress where there is no terminal: a line every 30 seconds."""

from __future__ import annotations

import pytest

from detzoo import progress
from detzoo.progress import Progress, track


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_slow_work_is_counted_with_the_time_of_each(clock: Clock, capsys) -> None:
    for _ in track(range(4), "explain", "objects"):
        clock.now += 45
    assert capsys.readouterr().err.splitlines() == [
        "explain: 1/4 objects, 45 s each, 02:15 left",
        "explain: 2/4 objects, 45 s each, 01:30 left",
        "explain: 3/4 objects, 45 s each, 00:45 left",
        "explain: 4/4 objects, 45 s each, 00:00 left",
    ]


def test_work_of_a_few_seconds_has_a_decimal(clock: Clock, capsys) -> None:
    for _ in track(range(24), "speed", "passes"):
        clock.now += 1.25
    assert capsys.readouterr().err == "speed: 24/24 passes, 1.2 s each, 00:00 left\n"


def test_fast_work_prints_its_rate_every_30_seconds(clock: Clock, capsys) -> None:
    with Progress(1000, "paste", "images") as bar:
        for _ in range(9):
            clock.now += 10
            bar.advance(100, "half" if bar.count == 500 else "")
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == [
        "paste: 300/1000 images, 10.0/s, 01:10 left",
        "paste: 600/1000 images, 10.0/s, 00:40 left, half",
    ]
    assert len(lines) == 3
    with Progress(10, "paste", "images") as bar:
        clock.now += 31
        bar.advance(4)
        bar.advance(1)
    assert capsys.readouterr().err.splitlines()[-1].startswith("paste: 5/10"), "it was interrupted"


@pytest.mark.parametrize("show", [True, False])
def test_nothing_is_printed_of_short_or_hidden_work(clock: Clock, capsys, show: bool) -> None:
    for _ in track(iter("abc"), "predict", "images", total=3, show=show):
        clock.now += 0 if show else 100
    assert capsys.readouterr().err == ""
