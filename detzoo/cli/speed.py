"""detzoo speed: time runs, or models that were never trained, against one another."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from detzoo.cli.app import app, show
from detzoo.cli.positional import list_setting, split_paths
from detzoo.config import plain


def config_name(arguments: Sequence[str]) -> str:
    """conf/untrained.yaml has the settings of a training too, which make the models."""
    given = {text.lstrip("+") for text in arguments}
    return "untrained" if "weights=none" in given else "speed"


def explain_missing(key: str) -> str | None:
    """Why a training's setting is not available here; None for another setting."""
    from detzoo.cli.refusals import explain_untrained

    return explain_untrained(key, "untrained", "speed times", "weights=none")


def settings_from(arguments: Sequence[str]) -> list[str]:
    """`detzoo speed RUNS...` is runs=[RUNS,...]; and runtime=NAME, which Hydra would take for the
    group of a training's settings, is exported=NAME if there is no training."""
    paths, given = split_paths(arguments)
    if config_name(given) == "speed":
        given = [re.sub(r"^\+*runtime=", "exported=", text) for text in given]
    return list_setting("runs", paths, given)


@app("speed", positional=settings_from, config_name=config_name, explain_missing=explain_missing)
def main(config: DictConfig) -> int:
    from detzoo.cli.compose import add_trainings
    from detzoo.workflow.speed import check_study, speed, untrained_runs
    from detzoo.workflow.timing import UNTRAINED
    from detzoo.workflow.verb import call

    settings = plain(config)
    check_study(settings["study"])
    if settings["weights"] not in (None, UNTRAINED):
        raise ValueError(f"weights is {settings['weights']!r}; it must be {UNTRAINED} or left out")
    if settings["weights"] is None:
        return show(call(speed, settings))
    trainings = add_trainings("untrained", config, HydraConfig.get().overrides.task)["trainings"]
    paths = untrained_runs(trainings, settings["root"])
    return show(call(speed, settings, runs=paths, data_root=None))
