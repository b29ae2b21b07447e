"""The search for one detector's settings: trials, successive halving, a winner on val.

All trials are compared at equal images seen, under one schedule: a trial is a training of
`Plan.images` images that is paused at a rung. Those whose AP on val is in the better half there go
on from their checkpoint, the others stop. So the cost of a search is known before it starts, and a
stopped trial was judged while its learning rate was as high as that of the others. Nothing here
reads the test split.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detzoo.engine import checkpoint
from detzoo.files import write_json
from detzoo.report.load.files import read_curve
from detzoo.workflow.settings import Settings, directory, one_line, read_or_empty
from detzoo.workflow.space import Space, Value, described, value_of, with_values
from detzoo.workflow.trials import Outcome, Records, records, starts_of

FILE = "tune.json"
LOG = "log.txt"  # of what the trials print
# Errors that fail only one trial: a loss that is not finite, lack of memory. Errors of
# a disk or a file stop the search; the same command resumes it.
TRIAL_ERRORS = (RuntimeError, ArithmeticError, MemoryError)

Point = Mapping[str, float]  # of a curve, as report.load.files.read_curve gives it
Train = Callable[[Settings, Path, int], Sequence[Point]]


@dataclass(frozen=True)
class Plan:
    """The budget: `trials` trainings, the best of which see `images` images.

    rungs: how often they are compared; after each but the last, half are stopped and the images
    seen double. 1: all trials see all images.
    """

    trials: int
    images: int
    rungs: int = 3

    def __post_init__(self) -> None:
        for name in ("trials", "images", "rungs"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"tune.{name} is {value!r}; it must be a number from 1 on")

    @property
    def points(self) -> int:
        """The number of points of a trial's curve; rungs are at the 1st, 2nd, 4th, ... of them."""
        return 2 ** (self.rungs - 1)

    @property
    def counts(self) -> list[int]:
        """How many trials are trained to each rung."""
        return [max(1, self.trials // 2**rung) for rung in range(self.rungs)]

    def images_at(self, rung: int, batch_size: int) -> int:
        """The images that a trial of this batch size has seen at a rung."""
        steps = math.ceil(self.images / batch_size)
        return batch_size * math.ceil(steps * 2**rung / self.points)

    def total(self, batch_size: int = 1) -> int:
        """The images that all trials of a detector see together."""
        at = [0, *(self.images_at(rung, batch_size) for rung in range(self.rungs))]
        return sum(n * (at[r + 1] - at[r]) for r, n in enumerate(self.counts))

    def check(self, batch_size: int) -> None:
        """Raise ValueError where the rungs are closer than a batch."""
        if self.images < self.points * batch_size:
            raise ValueError(
                f"tune.images={self.images} are too few for tune.rungs={self.rungs}: the first "
                f"rung is at a {self.points}th of them, less than a batch of {batch_size}"
            )


def folder_of(settings: Settings, plan: Plan, space: Space, root: str | Path) -> Path:
    """The folder of a search: ROOT/NAME-tune/LABEL-HASH, the hash over all that affects it. The
    budget of the winner's training does not: winners of two budgets may share one search."""
    decisive = {**trial_settings(settings, plan, {}), "name": f"{settings['name']}-tune"}
    return directory({**decisive, "tune": {**vars(plan), "space": described(space)}}, root)


def trial_settings(settings: Settings, plan: Plan, values: Mapping[str, Value]) -> Settings:
    """The settings of a trial. Its budget is in images, even if the winner's is not."""
    trial = with_values(settings, values)
    for key in ("minutes", "patience"):
        trial["recipe"].pop(key, None)
    trial["recipe"] |= {"images_seen": plan.images, "val_points": plan.points}
    return trial


def tuned(settings: Settings, found: Mapping[str, Any]) -> Settings:
    """The settings of the winner's training, which record the cost of the search.

    Raises ValueError for a search without a winner.
    """
    if found.get("winner") is None:
        raise ValueError(f"the search for {settings['label']} has no winner: {found.get('error')}")
    values = found["trials"][found["winner"]]["values"]
    effort = {**found["plan"], "total": found["total"], "space": found["space"]}
    defaults = {name: value_of(settings, name) for name in values}
    return {**with_values(settings, values), "effort": {**effort, "defaults": defaults}}


def train_trial(settings: Settings, path: Path, until: int) -> Sequence[Point]:
    """Train into `path` until that many images are seen; returns the curve."""
    from detzoo.workflow.stages import train_run

    train_run(settings, path, until)
    points, problem = read_curve(path)
    if problem:
        raise ValueError(f"{path}: {problem}")
    return points


@dataclass
class Search:
    """A search while it runs. curves: number -> the points of a trial so far."""

    settings: Settings
    folder: Path
    plan: Plan
    space: Space
    history: Records
    train: Train
    curves: dict[int, Sequence[Point]] = field(default_factory=dict)
    at: int | None = None

    def run(self) -> dict[str, Any]:
        """Run all trials and rungs that are not recorded yet; returns the content of tune.json."""
        while len(self.history) < self.plan.trials:
            values = self.history.propose(starts_of(self.plan.trials))
            self.history.add(values, self.outcome(len(self.history), values, 0))
        alive = list(range(self.plan.trials))
        for rung in range(1, self.plan.rungs):
            alive = self.best(alive, rung - 1, self.plan.counts[rung])
            for number in alive:
                if self.history.outcome(number, rung) is None:
                    values = self.history.values(number)
                    self.history.promote(number, rung, self.outcome(number, values, rung))
        winner = self.best(alive, self.plan.rungs - 1, 1)
        self.at = None
        return self.write(winner[0] if winner else None, ended=True)

    def best(self, numbers: Sequence[int], rung: int, count: int) -> list[int]:
        """The `count` best at a rung that did not fail; of equal ones the earlier."""
        outcomes = {number: self.history.outcome(number, rung) for number in numbers}
        whole = {n: outcome.ap for n, outcome in outcomes.items() if outcome and not outcome.error}
        return sorted(sorted(whole, key=lambda n: (-whole[n], n))[:count])

    def outcome(self, number: int, values: Mapping[str, Value], rung: int) -> Outcome:
        """Train a trial to a rung and look at it there."""
        self.at = number
        self.write()
        trial = trial_settings(self.settings, self.plan, values)
        until = self.plan.images_at(rung, trial["recipe"]["batch_size"])
        path = self.path(number, values)
        path.mkdir(parents=True, exist_ok=True)
        try:
            with open(self.folder / LOG, "a", buffering=1) as log:
                with redirect_stdout(log), redirect_stderr(log):
                    curve = self.train(trial, path, until)
        except TRIAL_ERRORS as error:
            return Outcome(0.0, one_line(error))
        self.curves[number] = curve
        score = {point["images_seen"]: point["AP"] for point in curve}.get(until)
        if score is None:
            raise ValueError(
                f"{path}: there is no AP on val after {until:,} images, by which trials are "
                "compared; has the val split any boxes?"
            )
        return Outcome(score)

    def path(self, number: int, values: Mapping[str, Value]) -> Path:
        name = directory(trial_settings(self.settings, self.plan, values), self.folder).name
        return self.folder / f"{number:03d}-{name}"

    def write(self, winner: int | None = None, ended: bool = False) -> dict[str, Any]:
        """tune.json: every trial, its curve and its state."""
        found = {
            "label": self.settings["label"],
            "state": ("failed" if winner is None else "done") if ended else "running",
            "winner": winner,
            "error": None,
            "plan": vars(self.plan),
            "total": self.plan.total(self.settings["recipe"]["batch_size"]),
            "space": described(self.space),
            "running": self.at,
            "trials": [self.trial(number) for number in range(len(self.history))],
        }
        if ended and winner is None:
            found["error"] = f"all trials failed, the first: {found['trials'][0]['error']}"
        write_json(self.folder / FILE, found)
        return found

    def trial(self, number: int) -> dict[str, Any]:
        """One trial as tune.json has it. AP: at each rung that it came to."""
        values = self.history.values(number)
        outcomes = [self.history.outcome(number, rung) for rung in range(self.plan.rungs)]
        there = [outcome for outcome in outcomes if outcome]
        path = self.path(number, values)
        error = there[-1].error
        state = "failed" if error else "whole" if len(there) == self.plan.rungs else "stopped"
        if number not in self.curves:
            self.curves[number] = read_curve(path)[0]
        return {
            "number": number,
            "values": values,
            "folder": path.name,
            "state": state,
            "error": error,
            "AP": [outcome.ap for outcome in there],
            "curve": [_plain(point) for point in self.curves[number]],
        }


def _plain(point: Point) -> dict[str, float | None]:
    """A point of a curve for JSON."""
    scores = {key: None if math.isnan(point[key]) else point[key] for key in ("AP", "AP50")}
    return {"images_seen": int(point["images_seen"]), **scores}


def search(
    settings: Settings,
    folder: Path,
    plan: Plan,
    space: Space,
    train: Train = train_trial,
) -> dict[str, Any]:
    """Search in `folder`, or resume the interrupted search there; returns its tune.json.

    train: trains a trial's settings into a folder until a number of images is seen, or resumes
    there, and returns its curve. A finished search is not repeated; its trials' checkpoints are
    removed. Raises ImportError without Optuna, ValueError and OSError for errors that no trial
    caused.
    """
    before = finished(folder)
    if before is not None:
        return before
    plan.check(settings["recipe"]["batch_size"])
    folder.mkdir(parents=True, exist_ok=True)
    with records(folder, space, settings["seed"]) as history:
        found = Search(settings, folder, plan, space, history, train).run()
    for path in folder.glob(f"*/{checkpoint.FILE}"):
        path.unlink()
    return found


def finished(folder: Path) -> dict[str, Any] | None:
    """The tune.json of a finished search; None where it is not finished, or the file is damaged: it
    is then rebuilt from the records."""
    found = read_or_empty(folder / FILE)
    return found if found.get("state") in ("done", "failed") and _is_whole(found) else None


def _is_whole(found: Mapping[str, Any]) -> bool:
    """Whether a tune.json has all that its readers need, of the kinds that `Search.write` gives."""
    trials, winner = found.get("trials"), found.get("winner")
    return (
        isinstance(trials, list)
        and len(trials) > 0
        and all(map(is_trial, trials))
        and (winner is None or (type(winner) is int and 0 <= winner < len(trials)))
        and (winner is None) == (found["state"] == "failed") == isinstance(found.get("error"), str)
        and all(isinstance(found.get(key), dict) for key in ("plan", "space"))
        and isinstance(found.get("total"), int)
        and isinstance(found.get("label"), str)
    )


def is_trial(trial: Any) -> bool:
    """Whether it is a trial as `Search.trial` writes it."""
    return (
        isinstance(trial, dict)
        and isinstance(trial.get("values"), dict)
        and isinstance(scores := trial.get("AP"), list)
        and len(scores) > 0
        and all(isinstance(ap, int | float) for ap in scores)
        and isinstance(trial.get("error"), str | None)
    )
