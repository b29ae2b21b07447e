"""The effort behind a row: the trials on its settings, and the budget of its training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from detzoo.report.load.files import read
from detzoo.report.load.runs import Run
from detzoo.report.load.values import dig, number


class Effort(NamedTuple):
    """The search behind a row. images: that its best trials saw; total: all trials together."""

    trials: float
    images: float
    total: float

    def __str__(self) -> str:
        return f"{self.trials:,.0f} trials of {self.images:,.0f} images"


def effort_of(run: Run) -> Effort | None:
    """The search that the run's settings are from; None where they were not searched for."""
    found = dig(run.metrics, "fingerprint", "effort") or run.config.get("effort")
    values = Effort(*(number(found, key) for key in Effort._fields))
    return None if any(map(math.isnan, values)) else values


def defaults_of(run: Run) -> dict[str, Any]:
    """Setting -> the value that it had before the search: {"recipe.lr": 0.0025}."""
    found = dig(run.metrics, "fingerprint", "effort", "defaults")
    return found if isinstance(found, dict) else {}


def minutes_of(recipe: Any) -> float | None:
    """The budget of a recipe in minutes; None where it is images."""
    minutes = number(recipe, "minutes")
    return None if math.isnan(minutes) else minutes


def budget_of(recipe: Any) -> str | None:
    """ "images", or "10 minutes"; None if unrecorded."""
    if not isinstance(recipe, dict):
        return None
    minutes = minutes_of(recipe)
    return "images" if minutes is None else f"{minutes:g} minutes"


def trial_scores(run: Run) -> list[float]:
    """AP on val of every trial of the run's search, at the number of images seen where all were
    compared."""
    found, _ = read(run.path, "tune.json") if not run.external else (None, None)
    trials = dig(found, "trials")
    scores = [number(trial, "AP", 0) for trial in trials] if isinstance(trials, list) else []
    return [score for score in scores if 0 <= score <= 1]


def effort_notes(runs: Sequence[Run]) -> dict[Run, list[str]]:
    """Notes on each row's effort and budget, where they differ from the other rows'."""
    efforts = {run: effort_of(run) for run in runs if not run.external}
    notes: dict[Run, list[str]] = {run: [] for run in runs}
    if len(set(efforts.values())) > 1:
        for run, effort in efforts.items():
            own = f"tuned by {effort}" if effort else "not tuned"
            notes[run].append(f"{own}: the rows of this table had unequal effort")
    for run in efforts:
        if minutes := minutes_of(dig(run.config, "recipe")):
            notes[run].append(
                f"trained for {minutes:g} minutes, in which it saw {run.images_seen:,.0f} images: "
                "another machine gives another row"
            )
    return notes
