"""detzoo train: one detector into one run directory."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from omegaconf import DictConfig

from detzoo.cli.app import app
from detzoo.cli.positional import data_root
from detzoo.files import check_writable


@app("train", positional=data_root)
def main(config: DictConfig) -> None:
    from detzoo.cli import sweep
    from detzoo.engine import distributed
    from detzoo.workflow.devices import own_gpu
    from detzoo.workflow.settings import (
        check_source,
        directory,
        keep,
        settings_of,
        source,
        tell,
        trained,
    )
    from detzoo.workflow.stages import train_run

    check_writable(Path(config.root) / config.name / "run" / "config.yaml")
    with distributed.joined(config.runtime.device):
        with distributed.first_alone():  # it may have to draw the data set
            settings = settings_of(config)
            checked = check_source(source(settings))
        path = directory(settings, config.root)
        if distributed.is_first():
            tell(checked)
            keep(checked, path)
        total = settings["recipe"]["images_seen"]
        sweep.note(config, path=str(path.resolve()), total=total, before=trained(path))
        with own_gpu(settings["runtime"]["device"]) if config.get("journal") else nullcontext():
            train_run(settings, path)
        if distributed.is_first():
            print(path)
