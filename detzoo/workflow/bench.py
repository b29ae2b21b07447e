"""Check, train, evaluate, speed and report in a row."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detzoo.config import build
from detzoo.data import with_proposals
from detzoo.data.proposals import installed
from detzoo.files import check_writable
from detzoo.metrics.proposals import recall
from detzoo.report import gather, write
from detzoo.speed.clock import spaced
from detzoo.workflow import parallel
from detzoo.workflow.report import Report
from detzoo.workflow.settings import (
    Settings,
    check_source,
    directory,
    print_warnings,
    settings_of,
    source,
    write_check,
)
from detzoo.workflow.start import check_all
from detzoo.workflow.timing import time_runs
from detzoo.workflow.total_progress import TotalProgress
from detzoo.workflow.tuning import tune_all
from detzoo.workflow.twins import MOST, with_twins
from detzoo.workflow.verb import takes_settings

COVERAGE_IMAGES = 16  # for comparing the proposals


@dataclass(frozen=True, repr=False)
class Bench(Report):
    """A report and how it came about: the run directories, and the seconds that everything took."""

    paths: Sequence[Path] = ()
    seconds: float = 0.0

    def text(self) -> str:
        minutes, seconds = divmod(round(self.seconds), 60)
        done = len(self.paths) - len(self.failed)
        return (
            f"\n{self.book.text()}\n\n{self.page}\n"
            f"{done} of {len(self.paths)} runs done in {minutes} min {seconds:02d} s"
        )


@takes_settings
def bench(settings: Mapping[str, Any], *, command: str = "detzoo.bench, from Python") -> Bench:
    """Train, score and time several detectors on equal terms, and write the report.

    If settings["tune"]["trials"] is not 0, each detector's settings are searched first: see
    `detzoo.tune`. settings: of `detzoo bench`, with its trainings: `detzoo.settings("bench", ...)`.
    command: named on the page. Finished work is skipped, interrupted work resumed, and a failed run
    does not stop the others. Raises ValueError, before anything starts, for settings and data that
    cannot be used, and ImportError where the search lacks Optuna.
    """
    if "trainings" not in settings:
        raise ValueError('bench takes what detzoo.settings("bench", ...) gives: a run per detector')
    start = time.monotonic()
    out = Path(settings["reports"]) / settings["name"]
    check_writable(out / "index.html")
    check_writable(Path(settings["root"]) / settings["name"] / "run" / "config.yaml")
    check_all(settings["detectors"], settings["start"]["source"])
    runs = [settings_of(training) for training in with_best_proposals(settings)]
    checked, _, note = with_twins(check_source(source(runs[0])), source(runs[0]), MOST)
    root = source(runs[0]).read("test").root
    print_warnings(checked)
    if note:
        print(note)
    untuned: dict[Path, str] = {}
    if settings["tune"]["trials"]:
        jobs, threads = settings["jobs"], settings["runtime"]["threads"]
        runs, _, untuned = tune_all(runs, settings["tune"], settings["root"], jobs, threads)
    paths = [directory(run, settings["root"]) for run in runs]
    for path in paths:
        write_check(checked, path)
    failed = untuned | (_train_and_time(settings, runs, paths) if runs else {})
    paths += untuned  # searches without a winner, which the page names
    book = gather(
        paths,
        data_root=str(root.resolve()),
        across_starts=settings["report"]["across_starts"],
    )
    page = write(
        book,
        out,
        title=str(settings["name"]),
        command=command,
        images=settings["report"]["images"],
    )
    return Bench(book=book, page=page, failed=failed, paths=paths, seconds=time.monotonic() - start)


def _train_and_time(
    settings: Mapping[str, Any], runs: Sequence[Settings], paths: Sequence[Path]
) -> dict[Path, str]:
    """Gives path -> error of the runs that failed."""
    evaluate, timing = settings["evaluate"], settings["speed"]
    at_once = parallel.count_jobs(settings["jobs"], runs, settings["runtime"]["threads"])
    with TotalProgress(runs, paths, timing["seconds"]):
        failed = parallel.run_all(runs, paths, evaluate, at_once)
    scored = [path for path in paths if path not in failed]
    if scored:
        failed |= time_runs(scored, **timing, evaluate=evaluate, again=False)
    return failed


def with_best_proposals(settings: Mapping[str, Any]) -> list[Settings]:
    """The trainings, those of R-CNN and Fast R-CNN with the best installed proposals.

    The best are those of settings["proposal_choices"] (name -> node) that cover most objects of a
    few validation images; it is empty if the user chose some. Shapes keep the grid, which was made
    for them: it covers few objects in photographs (aquarium: 0.09 at an IoU of 0.7), so results on
    it mean little.
    """
    trainings, choices = settings["trainings"], settings["proposal_choices"]
    if not choices or settings["data"]["_target_"] == "detzoo.data.Shapes":
        return trainings
    if not (available := installed()):
        print(
            "R-CNN and Fast R-CNN get the grid's proposals, for OpenCV is not installed: "
            "pip install 'detzoo[proposals]'",
            file=sys.stderr,
        )
        return trainings
    covered = {name: coverage({**settings, "proposals": choices[name]}) for name in available}
    best = max(covered, key=covered.__getitem__)
    recalls = ", ".join(f"{name} {part:.2f}" for name, part in covered.items())
    print(
        f"regions for R-CNN and Fast R-CNN by {best}; recall on {COVERAGE_IMAGES} validation "
        f"images: {recalls}"
    )
    return [
        {**training, "detector": {**training["detector"], "proposer": choices[best]}}
        if "proposer" in training["detector"]
        else training
        for training in trainings
    ]


def coverage(settings: Mapping[str, Any]) -> float:
    """Recall of settings["proposals"], the mean over IoUs of 0.5 and 0.7, on a few val images."""
    dataset = source(settings).read("val")
    dataset = replace(dataset, samples=tuple(spaced(dataset.samples, COVERAGE_IMAGES)))
    samples = with_proposals(dataset, build(settings["proposals"], "proposals")).samples
    truths = [sample.boxes[~sample.crowd] for sample in samples]
    proposals = [sample.proposals for sample in samples]
    part = recall(proposals, truths, [settings["max_proposals"]]).mean()
    return 0.0 if math.isnan(part) else float(part)
