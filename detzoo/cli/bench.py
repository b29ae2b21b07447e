"""detzoo bench: check, train, evaluate, speed and report in a row."""

from __future__ import annotations

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from detzoo.cli.app import app, command, show
from detzoo.cli.positional import trials


@app("bench", positional=trials)
def main(config: DictConfig) -> int:
    from detzoo.cli.compose import add_trainings
    from detzoo.workflow.bench import bench

    settings = add_trainings("bench", config, HydraConfig.get().overrides.task)
    return show(bench(settings, command=command()))
