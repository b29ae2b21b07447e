"""Equal searches for several detectors, and the trainings of their winners."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detzoo.engine import status
from detzoo.files import write_json
from detzoo.workflow import parallel
from detzoo.workflow.live_table import Row, Table
from detzoo.workflow.search import (
    FILE,
    Plan,
    Point,
    Train,
    finished,
    folder_of,
    is_trial,
    search,
    train_trial,
    tuned,
)
from detzoo.workflow.settings import Settings, directory, print_failure, read_or_empty
from detzoo.workflow.space import Space, space_of
from detzoo.workflow.trials import optuna
from detzoo.workflow.tuning_cost import estimates, print_costs, print_plan, shown

STAGE = "tune"


@dataclass(frozen=True)
class Task:
    """The search of one detector. settings: those of its trainings, of the first seed."""

    settings: Settings
    folder: Path
    plan: Plan
    space: Space

    @property
    def total(self) -> int:
        """The images that all its trials see."""
        return self.plan.total(self.settings["recipe"]["batch_size"])

    @property
    def done(self) -> bool:
        return finished(self.folder) is not None


def task_of(settings: Settings, wanted: Mapping[str, Any], root: str | Path) -> Task:
    """The search that `wanted` (trials, images, rungs, space) is for this detector.

    Raises ValueError for what cannot be searched, ImportError without Optuna.
    """
    optuna()
    images = wanted["images"]
    if images is None:
        if settings["recipe"].get("minutes"):
            raise ValueError(
                "tune.images=N must say how many images a trial sees, for the winner's budget "
                "is minutes"
            )
        images = settings["recipe"]["images_seen"]
    plan = Plan(wanted["trials"], images, wanted["rungs"])
    plan.check(settings["recipe"]["batch_size"])
    space = space_of(settings, wanted["space"])
    return Task(settings, folder_of(settings, plan, space, root), plan, space)


def tune_all(
    runs: Sequence[Settings],
    wanted: Mapping[str, Any],
    root: str | Path,
    jobs: int | str,
    threads: int | None,
) -> tuple[list[Settings], dict[Path, dict[str, Any]], dict[Path, str]]:
    """Search the settings of every detector of `runs`; gives the runs with those of the winners,
    folder -> tune.json of the searches that are over, and folder -> error of those without a
    winner, whose runs are left out.

    runs: of all seeds; the search uses a detector's first one. Finished parts are not repeated.
    Prints the cost before it starts.
    """
    tasks: dict[str, Task] = {}
    for run in runs:
        if _key(run) not in tasks:
            tasks[_key(run)] = task_of(run, wanted, root)
    failed = search_all(list(tasks.values()), runs, wanted, root, jobs, threads)
    ended = {task.folder: f for task in tasks.values() if (f := finished(task.folder))}
    winners = []
    for run in runs:
        found = ended.get(tasks[_key(run)].folder)
        if found and found["winner"] is not None:
            winner = tuned(run, found)
            write_json(directory(winner, root) / FILE, found)
            winners.append(winner)
    return winners, ended, failed


def _key(run: Settings) -> str:
    """Equal for the seeds of a detector."""
    return json.dumps({**run, "seed": 0}, sort_keys=True)


def search_all(
    tasks: Sequence[Task],
    runs: Sequence[Settings],
    wanted: Mapping[str, Any],
    root: str | Path,
    jobs: int | str,
    threads: int | None,
) -> dict[Path, str]:
    """Run the searches that are not over yet, side by side; gives folder -> error."""
    at_once = parallel.count_jobs(jobs, [task.settings for task in tasks], threads)
    open_tasks = [task for task in tasks if not task.done]
    if not open_tasks:
        print(f"{len(tasks)} searches are done already")
        return {t.folder: f["error"] for t in tasks if (f := finished(t.folder)) and f["error"]}
    print_plan(tasks[0])
    parallel.compute_shared_proposals(
        [task.settings for task in open_tasks]
    )  # whose bar estimates would hide
    after = print_costs(tasks, runs, estimates(open_tasks, at_once), at_once)
    live = sys.stderr.isatty()
    options = {"tune": dict(wanted), "root": str(root)}
    with Table(lambda: [row(t) for t in tasks], at_once, sys.stderr, live, "searches", after):
        return parallel.run_all(
            [task.settings for task in tasks],
            [task.folder for task in tasks],
            options,
            at_once,
            search_run,
            announce=False,
        )


def search_run(settings: Settings, folder: Path, options: Mapping[str, Any]) -> str | None:
    """One search, as `parallel.run_all` wants it: gives its error in one line."""
    if (found := finished(folder)) is not None:
        return found["error"]
    try:
        task = task_of(settings, options["tune"], options["root"])
        now = status.read(folder) or {}
        if now.get("state") == "running":
            raise ValueError(
                f"{folder} is being searched already, by {status.describe_process(now)}"
            )
        with status.stage(folder, STAGE):
            found = search(settings, folder, task.plan, task.space, timed(task))
            if found["error"]:
                raise ValueError(f"{found['error']}. Remove {folder} to search again")
    except Exception as error:  # no error may stop the others
        return print_failure(folder, error)
    return None


def timed(task: Task) -> Train:
    """`train_trial`, adding its images and seconds to the search's own status.json."""

    def train(settings: Settings, path: Path, until: int) -> Sequence[Point]:
        start, before = time.monotonic(), _seen(path)
        try:
            return train_trial(settings, path, until)
        finally:
            now = read_or_empty(task.folder / status.FILE)
            status.update(
                task.folder,
                images_seen=(now.get("images_seen") or 0) + _seen(path) - before,
                train_seconds=(now.get("train_seconds") or 0.0) + time.monotonic() - start,
            )

    return train


def _seen(path: Path) -> int:
    return read_or_empty(path / status.FILE).get("images_seen") or 0


def row(task: Task) -> Row:
    """The current state of a search."""
    label = task.settings["label"]
    now = read_or_empty(task.folder / status.FILE)
    over = finished(task.folder)
    found = over or read_or_empty(task.folder / FILE)
    state = over["state"] if over else now.get("state")
    if state not in ("running", "done", "failed"):
        return Row(label, "waiting", total=task.total)
    trials = found["trials"] if isinstance(found.get("trials"), list) else ()
    best = max((ap for trial in trials if is_trial(trial) for ap in trial["AP"]), default=None)
    told = "" if best is None else f"best AP {best:.3f} on val"
    seen, seconds = now.get("images_seen") or 0, now.get("train_seconds") or 0.0
    if state == "failed":
        return Row(label, state, str(now.get("error") or found.get("error")))
    if over:
        winner = found["trials"][found["winner"]]
        values = ", ".join(f"{name}={shown(value)}" for name, value in winner["values"].items())
        return Row(label, state, f"{told}: {values}", task.total, task.total, seconds)
    if isinstance(found.get("running"), int):
        told = f"trial {found['running'] + 1} of {task.plan.trials}" + f", {told}" * bool(told)
    return Row(label, state, told, min(seen, task.total), task.total, seconds)
