"""Configurations of verbs that train several detectors: one training for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra import compose
from omegaconf import DictConfig

from detzoo.config import folder, plain

GRID = "detzoo.data.Grid"


def with_trainings(
    config_name: str, config: DictConfig, overrides: Sequence[str]
) -> dict[str, Any]:
    """The settings of a verb, with "trainings": the settings of each detector and seed.

    config_name, overrides: what `config` was composed of, and the trainings are anew. Also
    "proposal_choices", of bench: name -> node of all proposals that need a choice; empty where one
    was made, or no detector takes any. Raises ValueError where there is nothing to train.
    """
    settings = plain(config)
    given = [text.lstrip("+").split("=")[0] for text in overrides]
    detectors = settings["detectors"]
    seeds = settings["seeds"] if "seeds" in settings else [settings["seed"]]
    for group in ("detector", "seed"):
        if group in given and f"{group}s" in settings:
            raise ValueError(f"{config_name} takes several: give {group}s=[...], not {group}=")
    if not detectors or not seeds:
        raise ValueError(f"nothing to do: detectors={detectors} seeds={seeds}")
    settings["trainings"] = [
        plain(compose(config_name, [*overrides, f"detector={detector}", f"seed={seed}"]))
        for seed in seeds
        for detector in detectors
    ]
    chosen = "proposals" in given or settings["proposals"]["_target_"] != GRID
    needed = any("proposer" in training["detector"] for training in settings["trainings"])
    settings["proposal_choices"] = {}
    if config_name == "bench" and needed and not chosen:
        settings["proposal_choices"] = _choices(config_name, overrides)
    return settings


def _choices(config_name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """name -> node of proposals, without the grid and those that name a run."""
    names = sorted(path.stem for path in (folder("conf") / "proposals").glob("*.yaml"))
    nodes = {
        name: compose(config_name, [*overrides, f"proposals={name}"]).proposals
        for name in names
        if name not in ("grid", "rpn")
    }
    return {name: plain(node) for name, node in nodes.items()}
