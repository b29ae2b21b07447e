"""detzoo speed: time runs, or models that were never trained, against one another."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from detzoo.cli.app import app
from detzoo.config import plain
from detzoo.text import escaped

KEYS = (
    *("seconds", "rounds", "max_batch", "batches", "reference", "size", "lock"),
    *("device", "precision", "channels_last", "compile", "threads", "evaluate"),
)


def config_name(arguments: Sequence[str]) -> str:
    """conf/untrained.yaml has the settings of a training too, which make the models."""
    given = {text.lstrip("+") for text in arguments}
    return "untrained" if "weights=none" in given else "speed"


def otherwise(key: str) -> str | None:
    """Why a setting of a training is none here."""
    from detzoo.cli.schema import schema_of

    if schema_of("untrained").find(key) or schema_of("untrained").groups.get(key):
        return f"speed times runs as they were trained and has no {key} without weights=none"
    return None


@app("speed", positional="runs", config_name=config_name, otherwise=otherwise)
def main(config: DictConfig) -> int:
    from detzoo.report import speed_table
    from detzoo.workflow import studies
    from detzoo.workflow.select import select
    from detzoo.workflow.timing import BARE, time_runs

    wanted = plain(config)
    if wanted["study"] not in (None, *studies.STUDIES):
        known = ", ".join(studies.STUDIES)
        raise ValueError(f"study is {wanted['study']!r}; it must be one of {known}")
    if wanted["weights"] not in (None, BARE):
        raise ValueError(f"weights is {wanted['weights']!r}; it must be {BARE} or left out")
    options = {key: wanted[key] for key in KEYS}
    if wanted["weights"] == BARE:
        paths = bare(config)
    else:
        paths = select(wanted["runs"])
        options["data_root"] = wanted["data"]["root"]
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
    from detzoo.files import write_text
    from detzoo.run_config import keep_proposer
    from detzoo.workflow.settings import directory, settings_of
    from detzoo.workflow.timing import BARE

    wanted = plain(config)
    several = wanted["detectors"]
    paths = []
    for job in [config] if several is None else jobs("untrained", several, [wanted["seed"]]):
        settings = settings_of(job) | {"name": "bare", "weights": BARE}
        backbone = settings["detector"]["backbone"]
        begun = {"pretrained": False, "weights": None}  # nothing is downloaded for nothing
        backbone |= {key: value for key, value in begun.items() if key in backbone}
        path = directory(settings, wanted["root"])
        write_text(path / "config.yaml", yaml.safe_dump(settings, sort_keys=False))
        keep_proposer(settings, path)
        paths.append(path)
    return paths
