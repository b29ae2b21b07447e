"""detzoo speed: time runs, or models as they are born, against one another."""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import DictConfig

from detzoo.cli.app import app
from detzoo.config import plain
from detzoo.text import escaped

KEYS = (
    *("seconds", "rounds", "max_batch", "batches", "reference", "size"),
    *("device", "precision", "channels_last", "compile", "threads", "evaluate"),
)


@app("speed")
def main(config: DictConfig) -> int:
    from detzoo.cli import studies
    from detzoo.cli.select import select
    from detzoo.cli.timing import time_runs
    from detzoo.report import speed_table

    wanted = plain(config)
    if wanted["study"] not in (None, *studies.STUDIES):
        known = ", ".join(studies.STUDIES)
        raise ValueError(f"study is {wanted['study']!r}; it must be one of {known}")
    paths = bare(config) if wanted["weights"] is not None else select(wanted["runs"])
    options = {key: wanted[key] for key in KEYS}
    if "lock" in wanted:
        options["lock"] = wanted["lock"]
    if wanted["study"] == "precision":
        failed = studies.precision(paths, wanted["precisions"], **options)
    else:
        if wanted["study"] == "batch" and options["batches"] is None:
            options["batches"] = studies.doubling(options["max_batch"])
        failed = time_runs(paths, **options)
    timed = [path for path in paths if path not in failed]
    if timed and wanted["study"] != "precision":
        print(speed_table(timed))
    if timed and wanted["study"]:
        print(studies.told(wanted["study"], timed))
    for path, error in failed.items():
        print(escaped(f"detzoo speed: {path}: {error}", lines=True), file=sys.stderr)
    return 1 if failed else 0


def bare(config: DictConfig) -> list[Path]:
    """A directory ROOT/bare/LABEL-HASH with a config.yaml for each detector that is asked for."""
    import yaml

    from detzoo.cli.bench import jobs
    from detzoo.cli.runs import directory, settings_of
    from detzoo.cli.timing import BARE
    from detzoo.files import write_text
    from detzoo.run_config import keep_proposer

    wanted = plain(config)
    if wanted["weights"] != BARE:
        raise ValueError(f"weights is {wanted['weights']!r}; it must be {BARE} or left out")
    several = wanted["detectors"]
    paths = []
    for job in [config] if several is None else jobs("speed", several, [wanted["seed"]]):
        settings = settings_of(job) | {"name": "bare", "weights": BARE}
        backbone = settings["detector"]["backbone"]
        begun = {"pretrained": False, "weights": None}  # nothing is downloaded for nothing
        backbone |= {key: value for key, value in begun.items() if key in backbone}
        path = directory(settings, wanted["root"])
        write_text(path / "config.yaml", yaml.safe_dump(settings, sort_keys=False))
        keep_proposer(settings, path)
        paths.append(path)
    return paths
