"""A bar with the time left on a terminal; elsewhere a short line now and then."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30.0

_owner = ""  # what this process works on, where one line elsewhere is for it and others
WIPED = "\r\x1b[K"


def part_of_others(owner: str) -> None:
    """Show no bars: one line elsewhere is for all (`cli.overall`). Notes get `owner` in front."""
    global _owner
    _owner = owner and f"{owner}: "


def alone() -> bool:
    """Whether nobody else's line is on this terminal, so that a bar may be drawn."""
    return not _owner


def note(text: str) -> None:
    """A line on stderr, above whatever bar or line is there."""
    wiped = WIPED if sys.stderr.isatty() else ""
    with tqdm.external_write_mode(sys.stderr):
        print(f"{wiped}{_owner}{text}", file=sys.stderr, flush=True)


def seconds_left(done: float, left: float, elapsed: float) -> float | None:
    """What `left` units of work will take, where `done` took `elapsed`; None before any is done."""
    return elapsed * left / done if done > 0 else None


class Progress:
    """Counts `total` units of work on stderr; use as a context manager.

    On a terminal it is tqdm's bar. In a log file a bar is a mess, so there it prints one line every
    30 seconds and one at the end, and nothing for work that is over sooner than that.
    """

    def __init__(self, total: int, name: str, unit: str, *, done: int = 0, show: bool = True):
        self.total, self.name, self.unit = total, name, unit
        self.first, self.count, self.note = done, done, ""
        show = show and alone()
        self.show = show
        self.started = self.printed = time.monotonic()
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
        """`count` more are done; `note` is shown beside them."""
        self.count += count
        self.note = note
        if self.bar is not None:
            self.bar.set_postfix_str(note, refresh=False)
            self.bar.update(count)
        elif self.show and time.monotonic() - self.printed >= SECONDS_BETWEEN_LINES:
            self._line()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.close()
        elif self.printed > self.started:
            self._line()

    def _line(self) -> None:
        self.printed = time.monotonic()
        elapsed = self.printed - self.started
        rate = (self.count - self.first) / max(elapsed, 1e-9)
        left = seconds_left(self.count - self.first, self.total - self.count, elapsed) or 0.0
        print(
            f"{self.name}: {self.count}/{self.total} {self.unit}, {rate:.1f}/s, "
            f"{tqdm.format_interval(left)} left{', ' if self.note else ''}{self.note}",
            file=sys.stderr,
            flush=True,
        )
