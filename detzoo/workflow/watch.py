"""Progress and curves of runs during training, read from their files."""

from __future__ import annotations

import csv
import math
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from detzoo.engine import status
from detzoo.report.load.files import read, read_curve
from detzoo.report.load.runs import FILES
from detzoo.report.load.values import clean, dig, number, shorten
from detzoo.workflow.live_table import Row, Screen, clock, most_important, summary
from detzoo.workflow.select import expand_path
from detzoo.workflow.verb import Result, takes_settings

BEGUN = (*FILES, "data.json")  # what `bench` writes into a run before its training begins
SEARCH = "tune.json"
BARS = "▁▂▃▄▅▆▇█"
ASCII_BARS = "_.-=+*#@"
CELLS = 12  # of a curve
NAME = 34  # characters of a run's name
ENDED = ("done", "failed", "interrupted", "unknown")
SETTLED, PATIENT = 5.0, 60.0  # seconds without an update: of all runs, where one waits


@dataclass(frozen=True)
class Look:
    """A run as its files have it now.

    state: waiting, running, done, failed, interrupted or unknown; stage: the current or last one.
    seen: images; spent, budget: of the training, in images or in seconds where the budget is
    minutes; budget 0 if unknown. aps, losses: of the curve and of the log, in order; of a search,
    the AP that each trial came to. changed: when status.json was, seconds since 1970.
    """

    path: Path
    state: str
    stage: str = ""
    seen: int = 0
    spent: float = 0.0
    budget: float = 0.0
    seconds: float = 0.0
    aps: Sequence[float] = ()
    losses: Sequence[float] = ()
    error: str = ""
    changed: float = 0.0

    @property
    def row(self) -> Row:
        """Its row in the total with others."""
        state = "failed" if self.state in ("interrupted", "unknown") else self.state
        return Row(self.path.name, state, "", int(self.spent), round(self.budget), self.seconds)

    @property
    def left(self) -> float | None:
        """Seconds of training; None where that cannot be known, or it is not training."""
        training = self.state == "running" and self.stage in ("train", "tune") and self.budget
        return self.row.left if training else None


@dataclass(frozen=True, repr=False)
class Watched(Result):
    """The state of runs at the last poll. bars: the characters of a curve, from low to high."""

    looks: Sequence[Look]
    bars: str = BARS
    failed: Mapping[Path, str] = field(default_factory=dict)

    @property
    def frame(self) -> pd.DataFrame:
        """A row for each run: state, stage, images, seconds left, last and best AP on val, loss."""
        return pd.DataFrame(
            [
                {
                    "run": look.path.name,
                    "state": look.state,
                    "stage": look.stage,
                    "images": look.seen,
                    "seconds_left": look.left,
                    "AP": look.aps[-1] if look.aps else math.nan,
                    "best_AP": max(look.aps, default=math.nan),
                    "loss": look.losses[-1] if look.losses else math.nan,
                }
                for look in self.looks
            ]
        )

    def text(self) -> str:
        return "\n".join(self.lines())

    def lines(self, most: int | None = None) -> list[str]:
        """The table; most: the number of lines; if there are more, the most important ones."""
        states = [look.row.state for look in self.looks]
        shown = range(len(states))
        if most is not None:
            shown = most_important(states, most - 2)
        highest = max((ap for look in self.looks for ap in look.aps), default=0.0)
        width = min(NAME, max(len("run"), *(len(look.path.name) for look in self.looks)))
        head = f"{'run':{width}}  {'at':<11}  {'images':>16}  {'left':>7}  "
        head += f"{'AP on val':<{CELLS + 6}}  loss"
        lines = [self._line(self.looks[number], width, highest) for number in shown]
        at_once = max(1, states.count("running"))
        return [head, *lines, summary([look.row for look in self.looks], at_once)]

    def _line(self, look: Look, width: int, highest: float) -> str:
        at = look.stage if look.state == "running" else look.state
        begins = f"{shorten(look.path.name, width):{width}}  {clean(at, 11):<11}  "
        images = f"{look.seen:,}" if look.seen else ""
        if look.seen and look.budget and look.spent == look.seen:
            images += f" of {look.budget:,.0f}"
        left = "" if look.left is None else clock(look.left)
        ap = f"{look.aps[-1]:.3f} {bars(look.aps, 0.0, highest, self.bars)}" if look.aps else ""
        text = f"{begins}{images:>16}  {left:>7}  {ap:<{CELLS + 6}}  "
        if look.losses:
            low, high = min(look.losses), max(look.losses)
            text += f"{look.losses[-1]:.2f} {bars(look.losses, low, high, self.bars)}  "
        return f"{text}{look.error}".rstrip()

    def over(self, now: float) -> bool:
        """Whether nothing runs, and nothing has changed for so long that nothing will.

        Between two stages, and between two runs of a bench, there are moments without either.
        """
        if any(look.state == "running" for look in self.looks):
            return False
        waits = any(look.state == "waiting" for look in self.looks)
        return now - max(look.changed for look in self.looks) > (PATIENT if waits else SETTLED)


def bars(values: Sequence[float], low: float, high: float, letters: str) -> str:
    """The values as a line of at most CELLS characters, each the mean of equally many values."""
    edges = [len(values) * i // CELLS for i in range(CELLS + 1)]
    if len(values) <= CELLS:
        edges = list(range(len(values) + 1))
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    scale = (len(letters) - 1) / (high - low) if high > low else 0.0
    return "".join(letters[round(min(max(m - low, 0.0), high - low) * scale)] for m in means)


def look_at(path: Path) -> Look:
    """Read one run directory, or the folder of a search. Damaged values count as unknown, without
    an error."""
    try:
        now = status.read(path)
    except (OSError, ValueError) as error:
        return Look(path, "unknown", error=shorten(str(error), 200))
    if now is None:
        return Look(path, "waiting", changed=_changed(path))
    config, _ = read(path, "config.yaml")
    found, _ = read(path, SEARCH) if config is None else (None, None)
    seen, seconds = _known(now, "images_seen"), _known(now, "train_seconds")
    spent, budget = seen, _known(config, "recipe", "images_seen") or _known(found, "total")
    if minutes := _known(config, "recipe", "minutes"):
        spent, budget = seconds, 60 * minutes
    return Look(
        path=path,
        state=now["state"],
        stage=clean(now["stage"] or "", 20),
        seen=int(seen),
        spent=spent,
        budget=budget,
        seconds=seconds,
        aps=_aps(path, found),
        losses=_losses(path),
        error=shorten(str(now["error"] or ""), 200),
        changed=_changed(path),
    )


def _known(value: Any, *keys: str) -> float:
    """The number found there, 0 where there is none."""
    found = number(value, *keys)
    return 0.0 if math.isnan(found) else found


def _aps(path: Path, search: Any) -> list[float]:
    if isinstance(search, dict):
        trials = search.get("trials")
        reached = [dig(trial, "AP") for trial in trials] if isinstance(trials, list) else []
        found = [number(aps[-1]) for aps in reached if isinstance(aps, list) and aps]
        return [ap for ap in found if not math.isnan(ap)]
    points, _ = read_curve(path)
    return [point["AP"] for point in points]


def _losses(path: Path) -> list[float]:
    with suppress(OSError, ValueError, KeyError, csv.Error):
        with open(path / "log.csv", newline="", encoding="utf-8") as file:
            found = [float(row["loss"]) for row in csv.DictReader(file)]
        return [loss for loss in found if math.isfinite(loss)]
    return []


def _changed(path: Path) -> float:
    """When the run gave its last sign of life."""
    times = [0.0]
    for name in (status.FILE, "data.json"):
        with suppress(OSError):
            times.append((path / name).stat().st_mtime)
    return max(times)


def look(runs: str | Path | Sequence[str | Path], letters: str = BARS) -> Watched:
    """The current state of every run that a path, a pattern, a folder or a list of them names.

    Runs of a bench that have not started are waiting. Raises ValueError where there is none.
    """
    wanted = [str(runs)] if isinstance(runs, str | Path) else [str(run) for run in runs]
    paths = [path for text in wanted for folder in expand_path(text) for path in _inside(folder)]
    if not paths:
        searches = [f"{text.rstrip('/')}-tune" for text in wanted]
        there = [text for text in searches if Path(text).is_dir()]
        hint = f"; the searches before them: detzoo watch {' '.join(there)}" if there else ""
        raise ValueError(f"no run has begun in {', '.join(wanted)}{hint}")
    looks = [look_at(path) for path in dict.fromkeys(paths)]
    errors = {look.path: look.error or look.state for look in looks if look.row.state == "failed"}
    return Watched(looks, letters, errors)


def _inside(folder: Path) -> list[Path]:
    """The folder, or the runs that are in it."""
    if _begun(folder) or not folder.is_dir():
        return [folder] if _begun(folder) else []
    return sorted(path for path in folder.iterdir() if path.is_dir() and _begun(path))


def _begun(path: Path) -> bool:
    return any((path / name).is_file() for name in BEGUN)


@takes_settings
def watch(
    runs: str | Path | Sequence[str | Path], *, once: bool = False, seconds: float = 2.0
) -> Watched:
    """Show the progress of runs until all have ended, with AP on val and loss as curves.

    runs: a folder of runs, run directories, patterns, or the folder of searches, runs/NAME-tune. On
    a terminal the table is redrawn every `seconds`; Ctrl-C ends only that. In a pipe, in a notebook
    and with `once` it is printed once. Raises ValueError where no run has started.
    """
    letters = BARS if _can_write(BARS) else ASCII_BARS
    watched = look(runs, letters)
    if once or not (sys.stdout.isatty() and sys.stderr.isatty()):
        return watched
    screen = Screen(sys.stderr)
    with suppress(KeyboardInterrupt):
        while not watched.over(time.time()):
            screen.draw(watched.lines(screen.height))
            time.sleep(seconds)
            watched = look(runs, letters)
    screen.draw([])
    return watched


def _can_write(text: str) -> bool:
    """Whether the terminal's encoding has these letters."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
