"""detzoo train: one detector into one run directory."""

from __future__ import annotations

from omegaconf import DictConfig

from detzoo.cli.app import app


@app("train")
def main(config: DictConfig) -> None:
    from detzoo.cli import runs
    from detzoo.cli.stages import train_run

    settings = runs.settings_of(config)
    runs.tell(runs.checked(runs.source(settings)))
    path = runs.directory(settings, config.root)
    train_run(settings, path)
    print(path)
