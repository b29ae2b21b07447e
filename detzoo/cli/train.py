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
    from detzoo.cli import runs, sweep
    from detzoo.cli.devices import own_gpu
    from detzoo.cli.stages import train_run
    from detzoo.engine import distributed

    check_writable(Path(config.root) / config.name / "run" / "config.yaml")
    with distributed.joined(config.runtime.device):
        with distributed.first_alone():  # it may have to draw the data set
            settings = runs.settings_of(config)
            checked = runs.checked(runs.source(settings))
        path = runs.directory(settings, config.root)
        if distributed.is_first():
            runs.tell(checked)
            runs.keep(checked, path)
        total = settings["recipe"]["images_seen"]
        sweep.note(config, path=str(path.resolve()), total=total, before=runs.trained(path))
        with own_gpu(settings["runtime"]["device"]) if config.get("journal") else nullcontext():
            train_run(settings, path)
        if distributed.is_first():
            print(path)
