"""detzoo bench: check, train, evaluate, speed and report in a row."""

from __future__ import annotations

import sys
import time
import traceback
from pathlib import Path

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from detzoo.cli.app import app, command
from detzoo.config import plain


@app("bench")
def main(config: DictConfig) -> int:
    from detzoo.cli import runs
    from detzoo.cli.stages import evaluate_run, train_run
    from detzoo.cli.timing import time_runs
    from detzoo.report import build, text_table

    start = time.monotonic()
    wanted = plain(config)
    settings = [runs.settings_of(job) for job in jobs(wanted["detectors"], wanted["seeds"])]
    runs.tell(runs.checked(runs.source(settings[0])))
    paths = [runs.directory(job, wanted["root"]) for job in settings]

    failed: dict[Path, str] = {}
    for number, (job, path) in enumerate(zip(settings, paths, strict=True), 1):
        print(f"[{number}/{len(paths)}] {job['label']}, seed {job['seed']}: {path}", flush=True)
        try:
            train_run(job, path)
            evaluate_run(path, **wanted["evaluate"])
        except Exception as error:  # whatever it is, it must not stop the others
            failed[path] = say(path, error)
    scored = [path for path in paths if path not in failed]
    if scored:
        failed |= time_runs(scored, **wanted["speed"], again=False)

    out = Path(wanted["reports"]) / str(wanted["name"])
    page = build(paths, out, title=str(wanted["name"]), command=command())
    print(f"\n{text_table(paths)}\n")
    for path, error in failed.items():
        print(f"failed: {path}: {error}", file=sys.stderr)
    print(f"{page}\n{len(paths) - len(failed)} of {len(paths)} runs done in {clock(start)}")
    return 1 if failed else 0


def jobs(detectors: list[str], seeds: list[int]) -> list[DictConfig]:
    """The configuration of every run, composed anew with the overrides that bench was given."""
    overrides = list(HydraConfig.get().overrides.task)
    for group in ("detector", "seed"):
        if any(text.lstrip("+").split("=")[0] == group for text in overrides):
            raise ValueError(f"bench trains several: give {group}s=[...], not {group}=")
    if not detectors or not seeds:
        raise ValueError(f"nothing to train: detectors={detectors} seeds={seeds}")
    return [
        compose("bench", [*overrides, f"detector={detector}", f"seed={seed}"])
        for seed in seeds
        for detector in detectors
    ]


def say(path: Path, error: Exception) -> str:
    """Tell of a failure now, with its traceback unless it explains itself; gives it in one line."""
    if not isinstance(error, ValueError | OSError):
        traceback.print_exception(error)
    text = f"{type(error).__name__}: {error}"
    print(f"failed, going on with the others: {path}: {text}", file=sys.stderr)
    return text.split("\n")[0]


def clock(start: float) -> str:
    minutes, seconds = divmod(round(time.monotonic() - start), 60)
    return f"{minutes} min {seconds:02d} s"
