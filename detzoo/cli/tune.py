"""detzoo tune: search the settings of several detectors on equal terms, and train the winners."""

from __future__ import annotations

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from detzoo.cli.app import app, show
from detzoo.cli.positional import trials


@app("tune", positional=trials)
def main(config: DictConfig) -> int:
    from detzoo.cli.compose import add_trainings
    from detzoo.workflow.tune import tune

    return show(tune(add_trainings("tune", config, HydraConfig.get().overrides.task)))
