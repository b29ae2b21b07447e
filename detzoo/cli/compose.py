"""Composes the settings of a verb from its overrides, as the command line does."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.basecontainer import BaseContainer
from omegaconf.errors import OmegaConfBaseException

from detzoo.cli import VERBS
from detzoo.cli.app import register_experiments
from detzoo.cli.start import add_published_settings
from detzoo.config import folder, plain
from detzoo.workflow.verb import Settings

GRID = "detzoo.data.Grid"
SEVERAL = ("bench", "tune", "untrained")  # configurations of several trainings


def settings(verb: str, *overrides: str) -> Settings:
    """The settings of `detzoo VERB OVERRIDES...`, plain values by name.

    overrides: as on the command line, "detector=ssd", "recipe.images_seen=20000", or a path where
    the verb takes one. They are checked alike: raises ValueError, with what exists, for an unknown
    verb, setting or value. The state of Hydra is left unchanged.
    """
    if verb not in VERBS:
        raise ValueError(f"there is no verb {verb!r}; choose one of {', '.join(VERBS)}")
    for text in overrides:
        if not isinstance(text, str) or text.startswith("-"):
            raise ValueError(f"{text!r} is no setting; give KEY=VALUE, as text")
    app = import_module(f"detzoo.cli.{verb}").main
    try:
        with _isolated_hydra():
            register_experiments()
            config_name, given = app.config_of(overrides), app.check_arguments(overrides)
            with initialize_config_dir(str(folder("conf")), version_base="1.3"):
                config = compose(config_name, given)
                several = config_name in SEVERAL
                values = add_trainings(config_name, config, given) if several else plain(config)
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(f"{verb}: {error}") from None
    return Settings(verb, values)


@contextmanager
def _isolated_hydra() -> Iterator[None]:
    """A context with a fresh copy of Hydra's state; afterwards the process has its own state back:
    another app's stored configurations, resolvers and version."""
    before = Singleton._instances, BaseContainer._resolvers
    Singleton._instances = {
        kind: one if kind is Plugins else copy.deepcopy(one) for kind, one in before[0].items()
    }
    BaseContainer._resolvers = dict(before[1])
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        Singleton._instances, BaseContainer._resolvers = before


def add_trainings(config_name: str, config: DictConfig, overrides: Sequence[str]) -> dict[str, Any]:
    """The settings of a verb, with "trainings": the settings of each detector and seed.

    config_name, overrides: what `config` was composed of; each training is composed again. Also
    "proposal_choices", for bench and tune: name -> node of all proposals to choose from; empty if
    the user chose, or no detector takes any. Raises ValueError where there is nothing to train.
    """
    values = plain(config)
    given = [text.lstrip("+").split("=")[0] for text in overrides]
    detectors = values["detectors"]
    seeds = values["seeds"] if "seeds" in values else [values["seed"]]
    if detectors is None:
        return {**values, "trainings": [values], "proposal_choices": {}}
    for group in ("detector", "seed"):
        if group in given and f"{group}s" in values:
            raise ValueError(f"{config_name} takes several: give {group}s=[...], not {group}=")
    if not detectors or not seeds:
        raise ValueError(f"nothing to do: detectors={detectors} seeds={seeds}")
    source = values["start"]["source"]
    fitting = {name: add_published_settings(name, source, overrides) for name in detectors}
    values["trainings"] = [
        plain(compose(config_name, [*fitting[detector], f"detector={detector}", f"seed={seed}"]))
        for seed in seeds
        for detector in detectors
    ]
    chosen = "proposals" in given or values["proposals"]["_target_"] != GRID
    needed = any("proposer" in training["detector"] for training in values["trainings"])
    values["proposal_choices"] = {}
    if config_name in ("bench", "tune") and needed and not chosen:
        values["proposal_choices"] = _choices(config_name, overrides)
    return values


def _choices(config_name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """name -> node of proposals, without the grid and those that name a run."""
    names = sorted(path.stem for path in (folder("conf") / "proposals").glob("*.yaml"))
    nodes = {
        name: compose(config_name, [*overrides, f"proposals={name}"]).proposals
        for name in names
        if name not in ("grid", "rpn")
    }
    return {name: plain(node) for name, node in nodes.items()}
