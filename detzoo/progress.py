"""Progress on stderr: a bar on a terminal, elsewhere a line every 30 seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 30.0

_owner = ""  # the name of this process's run, where another process shows a line for all runs
WIPED = "\r\x1b[K"


def use_shared_line(owner: str) -> None:
    """Show no bars, since `workflow.total_progress` shows a line for all runs.

    owner: this process's run, a prefix of its notes; "" ends it.
    """
    global _owner
    _owner = owner and f"{owner}: "


def may_draw_bar() -> bool:
    """Whether the terminal is free for a bar: no line for all runs is shown."""
    return not _owner


def print_note(text: str) -> None:
    """Print a line on stderr, above a bar or line that is being redrawn."""
    wiped = WIPED if sys.stderr.isatty() else ""
    with tqdm.external_write_mode(sys.stderr):
        print(f"{wiped}{_owner}{text}", file=sys.stderr, flush=True)


def track(
    items: Iterable[Item], name: str, unit: str, *, total: int | None = None, show: bool = True
) -> Iterator[Item]:
    """The items, with a `Progress` that counts them. total: how many, if they have no length."""
    with Progress(len(items) if total is None else total, name, unit, show=show) as shown:
        for item in items:
            yield item
            shown.advance(1)


def seconds_left(done: float, left: float, elapsed: float) -> float | None:
    """The time for `left` units of work, if `done` took `elapsed` seconds; None for done = 0."""
    return elapsed * left / done if done > 0 else None


class Progress:
    """Counts `total` units of work on stderr; use as a context manager.

    On a terminal it is tqdm's bar. A log file gets a line every 30 seconds and one at the end, and
    none for work that takes less than 30 seconds.
    """

    def __init__(self, total: int, name: str, unit: str, *, done: int = 0, show: bool = True):
        self.total, self.name, self.unit = total, name, unit
        self.first, self.count, self.note = done, done, ""
        show = show and may_draw_bar()
        self.show = show
        self.started = self.printed = time.monotonic()
        self.shown: int | None = None  # the count in the last line
        self.bar = None
        if show and sys.stderr.isatty():
            self.bar = tqdm(
                total=total,
                desc=self.name,
                unit=f" {unit}",
                initial=done,
                leave=False,
                smoothing=0.05,
            )

    def advance(self, count: int, note: str = "") -> None:
        """Add `count` units of finished work; `note` is shown beside the count."""
        self.count += count
        self.note = note
        if self.bar is not None:
            self.bar.set_postfix_str(note, refresh=False)
            self.bar.update(count)
        elif self.show and time.monotonic() - self.printed >= SECONDS_BETWEEN_LINES:
            self._line()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bar is not None:
            self.bar.close()
        elif self.shown not in (None, self.count):
            self._line()

    def _line(self) -> None:
        self.printed, self.shown = time.monotonic(), self.count
        elapsed = self.printed - self.started
        rate = (self.count - self.first) / max(elapsed, 1e-9)
        each = 1 / max(rate, 1e-9)
        pace = f"{rate:.1f}/s" if each <= 1 else f"{each:.{0 if each >= 10 else 1}f} s each"
        left = seconds_left(self.count - self.first, self.total - self.count, elapsed) or 0.0
        print(
            f"{self.name}: {self.count}/{self.total} {self.unit}, {pace}, "
            f"{tqdm.format_interval(left)} left{', ' if self.note else ''}{self.note}",
            file=sys.stderr,
            flush=True,
        )
