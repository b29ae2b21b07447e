"""A fault-tolerant Hydra multirun: a job that fails or is killed does not stop the others.

A sweep has a journal, a folder with a file for each job. Jobs write their progress there, whether
they run in this process, in others on this machine, or on a cluster that shares the disk. The
journal is removed at the end; permanent results are in the run directories.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper as HydraSweeper
from omegaconf import DictConfig, OmegaConf

from detzoo.cli.start import add_published_settings
from detzoo.config import folder
from detzoo.files import write_json
from detzoo.speed.machine import cores
from detzoo.workflow.live_table import Row, Table
from detzoo.workflow.parallel import MOST
from detzoo.workflow.settings import one_line, read_or_empty

EXTRAS = {
    "hydra_joblib_launcher": "joblib",
    "hydra_submitit_launcher": "submitit",
}
TAIL = 20  # lines of what a failed job printed


# ------------------------------------------------------------------------------ inside a job


def record(config: DictConfig, **fields: Any) -> None:
    """Write fields of this job into the sweep's journal; does nothing outside a sweep."""
    if config.get("journal"):
        _record(Path(config.journal), HydraConfig.get().job.num, **fields)


def _record(journal: Path, number: int, **fields: Any) -> None:
    path = journal / f"{number}.json"
    write_json(path, {**read_or_empty(path), **fields})


def run_job(
    config: DictConfig, task: Callable[[DictConfig], int | None], print_error: Callable
) -> None:
    """Run one job of a sweep and write its outcome into the journal.

    print_error: called with the error of a job that fails.
    """
    record(config, code=None)
    with _output(config):
        try:
            record(config, code=task(config) or 0)
        except Exception as error:  # whatever it is, it must not stop the others
            print_error(error)
            record(config, code=1, error=one_line(error))


@contextmanager
def _output(config: DictConfig) -> Iterator[None]:
    """Redirect a job's output to a file of the journal where a table is on the terminal."""
    journal = Path(config.journal)
    if not (journal / "table").exists():
        yield
        return
    with open(journal / f"{HydraConfig.get().job.num}.log", "a", buffering=1) as file:
        with redirect_stdout(file), redirect_stderr(file):
            yield


# ------------------------------------------------------------------------------ reading the journal


def read_row(journal: Path, number: int, name: str) -> Row:
    entry = read_or_empty(journal / f"{number}.json")
    if not entry:
        return Row(name, "waiting")
    if entry["code"]:
        return Row(name, "failed", entry.get("error") or f"exit code {entry['code']}")
    status = read_or_empty(Path(entry["path"]) / "status.json") if "path" in entry else {}
    seen, seconds = status.get("images_seen") or 0, status.get("train_seconds") or 0.0
    if entry["code"] == 0:
        before = "was done before" if entry.get("before") else ""
        return Row(name, "done", before, seen, seen, 0.0 if before else seconds)
    return Row(name, "running", "", seen, entry.get("total", 0), seconds)


# ------------------------------------------------------------------------------ the sweep


class Sweeper(HydraSweeper):
    """Runs all combinations, as Hydra's own sweeper does. Exits with 1 if any job failed.

    max_batch_size: the number of jobs at once, unless the launcher sets it. params: overrides.
    """

    def __init__(self, max_batch_size: int | None, params: dict[str, str] | None = None) -> None:
        self.max_batch_size, self.params = max_batch_size, params or {}

    def setup(self, *, config: DictConfig, **context: Any) -> None:
        self.config, self.hydra_context = config, context["hydra_context"]
        launcher = config.hydra.launcher
        self.kind = launcher._target_.rsplit(".", 1)[1]
        package = launcher._target_.split(".")[1]
        if package in EXTRAS and not is_installed(package):
            chosen = config.hydra.runtime.choices["hydra/launcher"]
            print(
                f"detzoo: hydra/launcher={chosen} needs {package.replace('_', '-')}: "
                f"pip install 'detzoo[{EXTRAS[package]}]'",
                file=sys.stderr,
            )
            raise SystemExit(1)
        self.at_once = count_jobs(self.kind, launcher, self.max_batch_size, config)
        if self.kind == "JoblibLauncher":
            launcher.n_jobs = self.at_once
        self.launcher = Plugins.instance().instantiate_launcher(config=config, **context)

    def sweep(self, arguments: list[str]) -> None:
        root = Path(self.config.hydra.sweep.dir)
        root.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, root / "multirun.yaml")
        # imported here: Hydra reloads its plugins when it searches for them
        from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides(
            [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        )
        swept = {o.get_key_element() for o in overrides if o.is_sweep_override()}
        jobs = [job for batch in BasicSweeper.split_arguments(overrides, None) for job in batch]
        jobs = [self._add_start_settings(job) for job in jobs]
        self.at_once = min(self.at_once, len(jobs))
        names = [
            " ".join(text.lstrip("+") for text in job if text.split("=")[0] in swept)
            or f"run {number}"
            for number, job in enumerate(jobs)
        ]
        journal = Path(mkdtemp(prefix=".sweep-", dir=root)).resolve()
        try:
            live = sys.stderr.isatty()
            if live:
                (journal / "table").touch()
            extra = [f"+journal={json.dumps(str(journal))}", *self._threads()]
            jobs = [[*job, *extra] for job in jobs]
            self.validate_batch_is_legal(jobs)

            def rows() -> list[Row]:
                return [read_row(journal, n, name) for n, name in enumerate(names)]

            with Table(rows, self.at_once, sys.stderr, live):
                self._launch(jobs, journal)
            failed = [n for n, row in enumerate(rows()) if row.state == "failed"]
            for number in failed if live else ():
                log = journal / f"{number}.log"
                if log.exists():
                    tail = "\n".join(log.read_text().splitlines()[-TAIL:])
                    print(f"\n{names[number]}:\n{tail}", file=sys.stderr)
        finally:
            shutil.rmtree(journal, ignore_errors=True)
        if failed:
            raise SystemExit(1)

    def _add_start_settings(self, job: list[str]) -> list[str]:
        """The job, preceded by the settings that its starting weights require."""
        given = dict(text.lstrip("+").split("=", 1) for text in job if "=" in text)
        detector = given.get("detector", self.config.hydra.runtime.choices.get("detector"))
        source = given.get("start.source", OmegaConf.select(self.config, "start.source"))
        return add_published_settings(str(detector), source, job) if source else job

    def _threads(self) -> list[str]:
        """The override that gives each of several runs on a machine an equal share of its cores."""
        if "runtime" not in self.config or self.config.runtime.threads is not None:
            return []
        if self.kind == "SlurmLauncher":
            own = self.config.hydra.launcher.get("cpus_per_task")
            return [f"runtime.threads={own}"] if own else []
        return [f"runtime.threads={max(1, cores() // self.at_once)}"] if self.at_once > 1 else []

    def _launch(self, jobs: list[list[str]], journal: Path) -> None:
        def alone(number: int) -> None:
            try:
                self.launcher.launch([jobs[number]], initial_job_idx=number)
                error = "its process ended without an error message"
            except Exception as caught:
                error = one_line(caught)
            if not _has_ended(journal, number):
                _record(journal, number, code=1, error=error)

        everyone = range(len(jobs))
        if self.kind in ("LocalLauncher", "SlurmLauncher"):
            # submitit starts all at once and stops at the first that is killed
            with ThreadPoolExecutor(self.at_once) as pool:
                list(pool.map(alone, everyone))
            return
        try:
            self.launcher.launch(jobs, initial_job_idx=0)
        except Exception as error:
            print(f"{one_line(error)}\ncontinuing with one run at a time", file=sys.stderr)
        for number in everyone:
            if not _has_ended(journal, number):
                alone(number)


def _has_ended(journal: Path, number: int) -> bool:
    return read_or_empty(journal / f"{number}.json").get("code") is not None


def is_installed(package: str) -> bool:
    """Whether the launcher is installed; without any launcher there is no hydra_plugins."""
    try:
        return find_spec(f"hydra_plugins.{package}") is not None
    except ModuleNotFoundError:
        return False


def count_jobs(kind: str, launcher: DictConfig, most: int | None, config: DictConfig) -> int:
    """The number of jobs at once: as set, else one per GPU, or one per core up to MOST."""
    if kind == "BasicLauncher":
        return 1
    if kind == "SlurmLauncher":
        return most or launcher.get("array_parallelism", 256)
    asked = launcher.get("n_jobs") or most
    if asked:
        return asked if asked > 0 else max(1, cores() + 1 + asked)  # joblib's: -1 is all
    import torch

    device = str(config.runtime.device) if "runtime" in config else "cpu"
    gpus = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    return gpus or min(cores(), MOST)


def register() -> None:
    """Register our sweeper and our launchers' configs with Hydra.

    Hydra finds a sweeper only by such a name; conf/train.yaml names it. The configs that the
    launchers' packages register would become the schema of those in conf/hydra/launcher.
    """
    Plugins.instance().class_name_to_class["hydra_plugins.detzoo.Sweeper"] = Sweeper
    known = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
    for path in (folder("conf") / "hydra" / "launcher").glob("*.yaml"):
        known.pop(path.name, None)
