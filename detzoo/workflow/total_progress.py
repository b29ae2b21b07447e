"""A progress line for all runs of bench: done, running, time left."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from detzoo import progress
from detzoo.engine import status
from detzoo.progress import SECONDS_BETWEEN_LINES, WIPED, use_shared_line
from detzoo.workflow.settings import Settings

SCORING = 0.15  # of a run's work is scoring: the test and the val split
EVERY = 1.0  # seconds between two looks at status.json, which is written every five


def run_progress(now: dict | None, images: int, minutes: float | None = None) -> float:
    """The share of a run that is done, by its status.json. Its budget is images or minutes."""
    if not now:
        return 0.0
    if now.get("stage") != "train":
        over = now.get("stage") == "speed" or now.get("state") in ("done", "failed")
        return 1.0 if over else 1 - SCORING
    if now.get("state") == "failed":
        return 1.0
    seen = (now.get("images_seen") or 0) / max(1, images)
    if minutes:
        seen = (now.get("train_seconds") or 0.0) / (60 * minutes)
    return (1 - SCORING) * min(1.0, seen)


def seconds_left(parts: Sequence[float], at_start: Sequence[float], elapsed: float) -> float | None:
    """The time left, for runs of equal work; None until 1% of this call's own work is done."""
    own = sum(parts) - sum(at_start)
    left = len(parts) - sum(parts)
    return progress.seconds_left(own, left, elapsed) if own > 0.01 * len(parts) else None


def format_line(
    labels: Sequence[str], parts: Sequence[float], left: float | None, timing: float
) -> str:
    """The line. left: seconds of training and scoring; timing: seconds of the steps after them."""
    at_work = [f"{n} {p:.0%}" for n, p in zip(labels, parts, strict=True) if 0 < p < 1]
    finished = sum(part >= 1 for part in parts)
    text = f"{finished} of {len(parts)} runs done"
    text += f", at work: {', '.join(at_work)}" if at_work else ""
    if left is None:
        return text
    return f"{text}; {tqdm.format_interval(left + timing)} left for everything"


class TotalProgress:
    """A context that shows the line: redrawn on a terminal, every 30 s in a log. This process draws
    no bars meanwhile."""

    def __init__(
        self,
        runs: Sequence[Settings],
        paths: Sequence[Path],
        timing: float,
        stream: TextIO | None = None,
    ) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.labels = [run["label"] for run in runs]
        recipes = [run["recipe"] for run in runs]
        self.budgets = [(recipe["images_seen"], recipe.get("minutes")) for recipe in recipes]
        self.paths, self.timing = paths, timing
        self.start, self.at_start = time.monotonic(), self.parts()
        self.end = threading.Event()
        self.thread = threading.Thread(target=self._show, daemon=True)

    def parts(self) -> list[float]:
        both = zip(self.paths, self.budgets, strict=True)
        return [run_progress(status.read(path), *budget) for path, budget in both]

    def text(self) -> str:
        parts = self.parts()
        left = seconds_left(parts, self.at_start, time.monotonic() - self.start)
        return format_line(self.labels, parts, left, self.timing)

    def __enter__(self) -> TotalProgress:
        self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.end.set()
        self.thread.join()
        use_shared_line("")
        if self.stream.isatty():
            self.stream.write(WIPED)
            self.stream.flush()

    def _show(self) -> None:
        terminal = self.stream.isatty()
        every = EVERY if terminal else SECONDS_BETWEEN_LINES
        while not self.end.wait(every):
            text = self.text()
            if terminal:
                self.stream.write(f"{WIPED}{text[: _columns() - 1]}")
            else:
                self.stream.write(f"bench: {text}\n")
            self.stream.flush()


def _columns() -> int:
    import shutil

    return shutil.get_terminal_size().columns
