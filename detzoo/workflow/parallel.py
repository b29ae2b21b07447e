"""Runs that are trained side by side, each in a process of its own."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from detzoo.config import build
from detzoo.engine import status
from detzoo.engine.progress import note, part_of_others
from detzoo.speed.lock import begun_by, command_line
from detzoo.speed.machine import cores
from detzoo.workflow.settings import Settings, print_failure, source

# Of a run, its directory and options: gives the error in one line, None where it went well
Work = Callable[[Settings, Path, dict[str, Any]], "str | None"]
MOST = 4  # at once: every one keeps its own images in memory


def how_many(wanted: int | str, runs: Sequence[Settings], threads: int | None = None) -> int:
    """Of `jobs`: `auto` is one for each core of a CPU, and one on a GPU or where `threads` is set.

    A second thread speeds up small batches by a third; a second process does twice the work.
    """
    if wanted != "auto":
        if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 1:
            raise ValueError(f"jobs is {wanted!r}; it is auto or a number of runs from 1 on")
        return min(wanted, len(runs))
    alone = threads or any(run["runtime"]["device"] != "cpu" for run in runs)
    return 1 if alone else min(cores(), len(runs), MOST)


def train_and_score(settings: Settings, path: Path, evaluate: dict[str, Any]) -> str | None:
    """Train and score one run, here; whatever fails is told and given back in one line."""
    from detzoo.workflow.stages import evaluate_run, train_run

    try:
        train_run(settings, path)
        evaluate_run(path, **evaluate)
    except Exception as error:  # whatever it is, it must not stop the others
        return print_failure(path, error)
    return None


def run_all(
    runs: Sequence[Settings],
    paths: Sequence[Path],
    options: dict[str, Any],
    jobs: int,
    work: Work = train_and_score,
    announce: bool = True,
) -> dict[Path, str]:
    """`work` on every run, `jobs` at a time; gives path -> error of those that failed."""
    if jobs > 1:
        return side_by_side(runs, paths, options, jobs, work, announce)
    failed = {}
    for number, (run, path) in enumerate(zip(runs, paths, strict=True)):
        if announce:
            note(announcement(number, runs, path))
        part_of_others(named(run))
        if error := work(run, path, options):
            failed[path] = error
        part_of_others("")
    return failed


def side_by_side(
    runs: Sequence[Settings],
    paths: Sequence[Path],
    options: dict[str, Any],
    jobs: int,
    work: Work = train_and_score,
    announce: bool = True,
) -> dict[Path, str]:
    """`work` (train and score) on all runs, `jobs` at a time, on equal shares of the cores.

    work: a function of a module, called in a process of its own with a run, its path, and `options`
    with the number of its threads. Gives path -> error of those that failed. A run whose process is
    killed fails alone. When this process ends, for whatever reason, so do the others; what they
    were at goes on at the next call.
    """
    propose_first(runs)
    context = get_context("spawn")
    living: set[BaseProcess] = set()

    def run_one(number: int) -> str | None:
        settings, path = runs[number], paths[number]
        threads = max(1, cores() // jobs)
        arguments = (work, settings, path, {**options, "threads": threads}, command_line())
        process = context.Process(target=_work, args=arguments)
        if announce:
            note(announcement(number, runs, path))
        process.start()
        living.add(process)
        process.join()
        living.discard(process)
        if process.exitcode == 0:
            return None
        error = (status.read(path) or {}).get("error")
        return (error or f"its process ended with exit code {process.exitcode}").split("\n")[0]

    with ThreadPoolExecutor(jobs) as pool:
        try:
            errors = list(pool.map(run_one, range(len(runs))))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(living):
                process.terminate()
            raise
    return {path: error for path, error in zip(paths, errors, strict=True) if error}


def announcement(number: int, runs: Sequence[Settings], path: Path) -> str:
    run = runs[number]
    return f"[{number + 1}/{len(runs)}] {named(run)}: {path}"


def named(run: Settings) -> str:
    """A run for people, in front of what it prints."""
    return f"{run['label']}, seed {run['seed']}"


def _work(
    work: Work, settings: Settings, path: Path, options: dict[str, Any], command: str
) -> None:
    """The life of one process."""
    import torch

    begun_by(command)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    part_of_others(named(settings))
    torch.set_num_threads(options["threads"])
    sys.exit(work(settings, path, options) is not None)


def _end_with(parent: int) -> None:
    """A run that goes on without its bench would be in the way of the next one."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def propose_first(runs: Sequence[Settings]) -> None:
    """Compute what several runs would otherwise compute at once; a failure is theirs to tell."""
    from detzoo.data import with_proposals
    from detzoo.data.dataset import SPLITS

    nodes = {
        json.dumps([run["detector"]["proposer"], run["data"]], sort_keys=True): run
        for run in runs
        if run["detector"].get("proposer")
    }
    for run in nodes.values():
        with suppress(Exception):
            proposer = build(run["detector"]["proposer"], "proposals")
            for split in SPLITS if proposer.looks else ():
                with_proposals(source(run).read(split), proposer)
