"""Several runs at a time, each in its own process."""

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
from detzoo.progress import print_note, use_shared_line
from detzoo.speed.lock import command_line, set_command
from detzoo.speed.machine import cores
from detzoo.workflow.settings import Settings, print_failure, source

# Called with a run, its directory and options; gives the error in one line, None for success
Work = Callable[[Settings, Path, dict[str, Any]], "str | None"]
MOST = 4  # at once: each keeps its images in memory


def count_jobs(wanted: int | str, runs: Sequence[Settings], threads: int | None = None) -> int:
    """The number of runs at once: `auto` is one per CPU core, and 1 on a GPU or with `threads` set.

    A second thread speeds up small batches by a third; a second process does twice the work.
    """
    if wanted != "auto":
        if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 1:
            raise ValueError(f"jobs is {wanted!r}; it is auto or a number of runs from 1 on")
        return min(wanted, len(runs))
    alone = threads or any(run["runtime"]["device"] != "cpu" for run in runs)
    return 1 if alone else min(cores(), len(runs), MOST)


def train_and_score(settings: Settings, path: Path, evaluate: dict[str, Any]) -> str | None:
    """Train and score one run in this process; an error is printed and returned in one line."""
    from detzoo.workflow.stages import evaluate_run, train_run

    try:
        train_run(settings, path)
        evaluate_run(path, **evaluate)
    except Exception as error:  # no error may stop the others
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
    """Call `work` on every run, `jobs` at a time; gives path -> error of those that failed.

    One at a time runs in this process. Several run in a process each, on equal shares of the cores:
    `work` is then a function of a module, and gets `options` with the number of its threads. A run
    whose process is killed fails alone. When this process ends, for whatever reason, so do the
    others; they continue at the next call.
    """
    living: set[BaseProcess] = set()

    def run_one(number: int) -> str | None:
        settings, path = runs[number], paths[number]
        if announce:
            print_note(f"[{number + 1}/{len(runs)}] {name_run(settings)}: {path}")
        if jobs > 1:
            threads = max(1, cores() // jobs)
            return _run_in_process(work, settings, path, {**options, "threads": threads}, living)
        use_shared_line(name_run(settings))
        error = work(settings, path, options)
        use_shared_line("")
        return error

    if jobs > 1:
        compute_shared_proposals(runs)
        errors = _map_in_threads(run_one, len(runs), jobs, living)
    else:
        errors = [run_one(number) for number in range(len(runs))]
    return {path: error for path, error in zip(paths, errors, strict=True) if error}


def _map_in_threads(
    run_one: Callable[[int], str | None], count: int, jobs: int, living: set[BaseProcess]
) -> list[str | None]:
    """run_one(0), run_one(1), ..., `jobs` at a time; the living processes end where one raises."""
    with ThreadPoolExecutor(jobs) as pool:
        try:
            return list(pool.map(run_one, range(count)))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(living):
                process.terminate()
            raise


def _run_in_process(
    work: Work, settings: Settings, path: Path, options: dict[str, Any], living: set[BaseProcess]
) -> str | None:
    """Run `work` in its own process, which is in `living` while it runs; returns its error."""
    arguments = (work, settings, path, options, command_line())
    process = get_context("spawn").Process(target=_main, args=arguments)
    process.start()
    living.add(process)
    process.join()
    living.discard(process)
    if process.exitcode == 0:
        return None
    error = (status.read(path) or {}).get("error")
    return (error or f"its process ended with exit code {process.exitcode}").split("\n")[0]


def name_run(run: Settings) -> str:
    """The run's name in messages."""
    return f"{run['label']}, seed {run['seed']}"


def _main(
    work: Work, settings: Settings, path: Path, options: dict[str, Any], command: str
) -> None:
    """The main function of a run's process."""
    import torch
    from tqdm import tqdm

    set_command(command)
    threading.Thread(target=_exit_with_parent, args=(os.getppid(),), daemon=True).start()
    # tqdm's own is shared by processes, and one that is terminated leaves it behind with a warning
    tqdm.set_lock(threading.RLock())
    use_shared_line(name_run(settings))
    torch.set_num_threads(options["threads"])
    sys.exit(work(settings, path, options) is not None)


def _exit_with_parent(parent: int) -> None:
    """End this process when its parent has ended: the next bench would start the same run."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def compute_shared_proposals(runs: Sequence[Settings]) -> None:
    """Compute proposals that several runs would compute at once; each run reports its failures."""
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
            for split in SPLITS if proposer.uses_pixels else ():
                with_proposals(source(run).read(split), proposer)
