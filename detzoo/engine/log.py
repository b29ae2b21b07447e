"""log.csv and curve.csv: a training's state at about a thousand steps, and its scores."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from detzoo.engine.events import Events
from detzoo.engine.step import Step
from detzoo.files import atomic

LOG, CURVE = "log.csv", "curve.csv"
LOG_ROWS = 1000  # more than a figure can show


class Log:
    """The rows of both files, kept in memory; `write_log` and `write_curve` write all of them.

    writes: False in all processes of a training but the first, which alone writes. tensorboard:
    write event files too.
    """

    def __init__(self, run_dir: Path, steps: int, writes: bool, tensorboard: bool = False) -> None:
        self.run_dir, self.steps, self.writes = run_dir, steps, writes
        self.tensorboard = tensorboard and writes
        self.events: Events | None = None
        self.steps_rows: list[dict[str, Any]] = []
        self.curve_rows: list[dict[str, Any]] = []

    def resume(self, images_seen: int) -> None:
        """Take the rows up to `images_seen` and drop those written after it."""
        self.steps_rows = read_rows(self.run_dir / LOG, images_seen)
        self.curve_rows = read_rows(self.run_dir / CURVE, images_seen)
        self.write_log()
        self.write_curve()

    def add_step(self, step: Step, lr: float, losses: Mapping[str, float]) -> None:
        """A row at about LOG_ROWS steps, evenly spaced, the last one among them."""
        if step.number % math.ceil(self.steps / LOG_ROWS) and step.number != self.steps:
            return
        before = self.steps_rows[-1] if self.steps_rows else {"images_seen": 0, "seconds": 0}
        images = step.images_seen - int(before["images_seen"])
        seconds = step.seconds - float(before["seconds"])
        self.steps_rows.append(
            {
                "step": step.number,
                "images_seen": step.images_seen,
                "lr": lr,
                "loss": sum(losses.values()),
                **losses,
                "images_per_second": round(images / max(seconds, 1e-9), 3),
                "seconds": round(step.seconds, 4),
            }
        )
        if self.events:
            self.events.add_step(self.steps_rows[-1])

    def add_point(self, images_seen: int, seconds: float, scores: Mapping[str, Any]) -> None:
        """A point of the curve: AP and AP50 by images seen."""
        row = {"images_seen": images_seen, "seconds": round(seconds, 4)}
        self.curve_rows.append({**row, "AP": scores["AP"], "AP50": scores["AP50"]})
        if self.events:
            self.events.add_point(self.curve_rows[-1])
            self.events.flush()

    def write_log(self) -> None:
        if self.writes:
            write_rows(self.run_dir / LOG, self.steps_rows)
        if self.events:
            self.events.flush()

    def write_curve(self) -> None:
        if self.writes:
            write_rows(self.run_dir / CURVE, self.curve_rows)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Write the log also when training ends with an error, so that one can look into it; events
        are written meanwhile, and closed at the end."""
        if self.tensorboard:
            self.events = Events(self.run_dir, self.steps_rows, self.curve_rows)
        try:
            yield
        except BaseException:
            with suppress(OSError):  # a full disk: the first error is the one that explains
                self.write_log()
            raise
        finally:
            if self.events:
                self.events.close()


def write_events(run_dir: Path) -> None:
    """TensorBoard's event files of a finished training, written anew: a kill may have cut them."""
    steps, points = (read_rows(run_dir / name, sys.maxsize) for name in (LOG, CURVE))
    Events(run_dir, steps, points).close()


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A CSV file, whole or not at all; no file without rows. None is an empty field."""
    if not rows:
        path.unlink(missing_ok=True)
        return
    names = list(dict.fromkeys(name for row in rows for name in row))
    with atomic(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def read_rows(path: Path, images_seen: int) -> list[dict[str, Any]]:
    """The rows up to `images_seen`; none without such a file. Raises ValueError with its path."""
    if not path.exists():
        return []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return [row for row in csv.DictReader(file) if int(row["images_seen"]) <= images_seen]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise ValueError(
            f"{path}: not a readable log of a training ({type(error).__name__}: {error}); remove "
            "it, and training continues without these rows"
        ) from error
