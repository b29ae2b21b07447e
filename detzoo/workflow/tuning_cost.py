"""The cost of equal searches, estimated before they start."""

from __future__ import annotations

import csv
import math
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from detzoo.engine import status
from detzoo.speed.machine import cores
from detzoo.workflow.live_table import clock
from detzoo.workflow.settings import Settings, one_line, read_or_empty
from detzoo.workflow.space import LR, rates
from detzoo.workflow.stages import train_run

if TYPE_CHECKING:
    from detzoo.workflow.tuning import Task

PROBED = 4  # steps for estimating the time of one; the first is left out


def print_plan(task: Task) -> None:
    """The searched settings, by the first detector's task: they are the same for all."""
    plan, batch = task.plan, task.settings["recipe"]["batch_size"]
    rungs = [
        f"{count} to {plan.images_at(rung, batch):,}" for rung, count in enumerate(plan.counts)
    ]
    print(
        f"tuning: {plan.trials} trials for every detector, trained {', '.join(rungs)} images "
        f"({task.total:,} in all); the better half on val continues"
    )
    own = rates(task.settings)
    for name, dimension in task.space.items():
        default = name == LR and dimension == own
        print(f"  {name}: {'a decade to either side of its own rate' if default else dimension}")


@dataclass(frozen=True)
class Estimate:
    """Seconds of training an image; NaN where a few steps failed, and then the problem."""

    seconds: float
    problem: str = ""


def estimates(tasks: Sequence[Task], at_once: int) -> dict[str, Estimate]:
    """label -> of the search so far, else of a few steps that are made for it.

    at_once: how many searches share the cores.
    """
    found = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, cores() // at_once) if at_once > 1 else threads)
    for task in tasks:
        now = read_or_empty(task.folder / status.FILE)
        if now.get("images_seen") and now.get("train_seconds"):
            estimate = Estimate(now["train_seconds"] / now["images_seen"])
        else:
            estimate = probe(task.settings)
        found[task.settings["label"]] = estimate
    torch.set_num_threads(threads)
    return found


def probe(settings: Settings) -> Estimate:
    """From a few steps into a folder that is thrown away, as they are at the beginning of the
    training: without validation, and at a rate that is still small, so that they stay finite."""
    recipe = {k: v for k, v in settings["recipe"].items() if k not in ("minutes", "patience")}
    batch, budget = recipe["batch_size"], recipe["images_seen"]
    images = PROBED * batch
    recipe |= {"images_seen": images, "val_points": 0}
    recipe["lr"] *= min(1.0, images / budget)
    with tempfile.TemporaryDirectory() as folder:
        try:
            with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                train_run({**settings, "recipe": recipe}, Path(folder))
            with open(Path(folder) / "log.csv", newline="", encoding="utf-8") as file:
                points = [float(line["seconds"]) for line in csv.DictReader(file)]
        except Exception as error:  # the search will raise it too, in full
            return Estimate(math.nan, one_line(error))
    return Estimate((points[-1] - points[0]) / (batch * (len(points) - 1)))


def print_costs(
    tasks: Sequence[Task], runs: Sequence[Settings], found: Mapping[str, Estimate], at_once: int
) -> float | None:
    """Print the cost of each detector and of all; gives the seconds of the winners' trainings, None
    where one is not known."""
    tuning = winners = 0.0
    unknown = []
    for task in tasks:
        label = task.settings["label"]
        if task.done:
            print(f"  {label}: done already")
            continue
        seen = read_or_empty(task.folder / status.FILE).get("images_seen") or 0
        own = [run for run in runs if run["label"] == label]
        if problem := found[label].problem:
            print(f"  {label}: its cost is not known, for its first steps failed: {problem}")
            unknown.append(label)
            continue
        each = found[label].seconds
        left = each * max(0, task.total - seen)
        then = sum(_budget(run, each) for run in own)
        print(f"  {label}: {clock(left)} of tuning, then {clock(then)} ({len(own)} seeds)")
        tuning, winners = tuning + left, winners + then
    whole = (tuning + winners) / at_once
    without = f", without {', '.join(unknown)}" if unknown else ""
    print(
        f"together about {clock(whole)} with {at_once} at once{without}, of which tuning "
        f"{clock(tuning / at_once)}: by the time of a step now, validation not counted"
    )
    return None if unknown else winners / at_once


def _budget(run: Settings, seconds: float) -> float:
    """The seconds of a winner's training."""
    minutes = run["recipe"].get("minutes")
    return 60 * minutes if minutes else seconds * run["recipe"]["images_seen"]


def shown(value: object) -> str:
    """A value for people."""
    return f"{value:g}" if isinstance(value, float) else str(value)
