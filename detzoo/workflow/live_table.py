"""A progress table of parallel jobs: redrawn on a terminal, elsewhere a line for each change."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TextIO

from detzoo.progress import seconds_left


@dataclass(frozen=True)
class Row:
    """The state of one job; seen and total count images, seconds is the time for the seen ones."""

    name: str
    state: str  # waiting, running, done, failed
    note: str = ""
    seen: int = 0
    total: int = 0
    seconds: float = 0.0

    @property
    def left(self) -> float | None:
        """Seconds, None where that cannot be known yet."""
        if self.state in ("done", "failed"):
            return 0.0
        if not (self.seen and self.seconds):
            return None
        return seconds_left(self.seen, max(0, self.total - self.seen), self.seconds)


def time_left(rows: Sequence[Row], at_once: int) -> float | None:
    """Seconds until the last one is done; None until the time of one is known.

    A job that waits is expected to take as long as those that run or have run take on average.
    """
    known = [row.seconds / row.seen * row.total for row in rows if row.seen and row.seconds]
    if all(row.left == 0 for row in rows):
        return 0.0
    if not known:
        return None
    mean = sum(known) / len(known)
    left = [mean if row.left is None else row.left for row in rows]
    return max(sum(left) / at_once, *left)


def clock(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def summary(
    rows: Sequence[Row], at_once: int, unit: str = "runs", after: float | None = None
) -> str:
    """All rows in one line. after: seconds of the steps that follow them."""
    count = {state: sum(row.state == state for row in rows) for state in STATES}
    states = ", ".join(f"{n} {state}" for state, n in count.items() if n)
    left = time_left(rows, at_once)
    text = f"{len(rows)} {unit}: {states}" + (f", {clock(left)} left" if left != 0 else "")
    if after is not None and left is not None:
        text += f", {clock(left + after)} for everything"
    return text


STATES = ("done", "failed", "running", "waiting")


def line(row: Row, width: int) -> str:
    """`detector=ssd seed=0  running  1200 of 3000 images, 2:10 left`, the note before that."""
    note = row.note
    if row.state == "running" and row.total:
        note += ", " * bool(note) + f"{row.seen} of {row.total} images, {clock(row.left)} left"
    elif row.state == "done" and not note:
        note = f"{row.seen} images in {clock(row.seconds)}" if row.seen else ""
    return f"{row.name:{width}}  {row.state:8}{note}".rstrip()


def most_important(states: Sequence[str], most: int) -> list[int]:
    """Up to `most` of the rows by number, in their order: those that run before all others."""
    order = {state: place for place, state in enumerate(("running", "failed", "waiting", "done"))}
    by_rank = sorted(range(len(states)), key=lambda i: order.get(states[i], len(order)))
    return sorted(by_rank[: max(0, most)])


class Screen:
    """Lines on a terminal that are drawn again in place, each cut to its width."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.drawn = 0

    @property
    def height(self) -> int:
        """The most lines that can be shown: scrolled lines cannot be redrawn."""
        return shutil.get_terminal_size().lines - 1

    def draw(self, lines: Sequence[str]) -> None:
        """Draw these lines over those of before."""
        width = shutil.get_terminal_size().columns - 1
        up = f"\x1b[{self.drawn}F" if self.drawn else ""
        text = "".join(f"{text[:width]}\x1b[K\n" for text in lines)
        self.stream.write(f"{up}{text}\x1b[J")
        self.stream.flush()
        self.drawn = len(lines)


class Table:
    """Shows the rows while they are worked on: redrawn in place on a terminal, elsewhere a line for
    each change of a state or note. Use as a context manager. unit, after: as in `summary`.
    """

    def __init__(
        self,
        rows: Callable[[], list[Row]],
        at_once: int,
        stream: TextIO,
        live: bool,
        unit: str = "runs",
        after: float | None = None,
    ) -> None:
        self.rows, self.at_once, self.stream, self.live = rows, at_once, stream, live
        self.unit, self.after = unit, after
        self._states: list[tuple[str, str]] = []
        self._screen = Screen(stream)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Table:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join()
        self.update()
        if not self.live:
            print(self._summary(self.rows()), file=self.stream, flush=True)

    def _summary(self, rows: Sequence[Row]) -> str:
        return summary(rows, self.at_once, self.unit, self.after)

    def _watch(self) -> None:
        while not self._end.wait(1.0):
            self.update()

    def update(self) -> None:
        rows = self.rows()
        width = max(len(row.name) for row in rows)
        if self.live:
            shown = most_important([row.state for row in rows], self._screen.height - 1)
            lines = [line(rows[number], width) for number in shown]
            self._screen.draw([*lines, self._summary(rows)])
            return
        before = self._states or [("waiting", "")] * len(rows)
        self._states = [(row.state, row.note) for row in rows]
        for number, (row, was) in enumerate(zip(rows, before, strict=True)):
            if (row.state, row.note) != was:
                shown = f"[{number + 1}/{len(rows)}] {line(row, width)}"
                ended = row.state in ("done", "failed")
                shown += f" ({self._summary(rows)})" if ended else ""
                print(shown, file=self.stream, flush=True)
