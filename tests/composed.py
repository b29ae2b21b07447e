"""The detectors as conf/detector/ composes them, for suites that run over all of them."""

from __future__ import annotations

import copy
from functools import cache

from hydra import compose, initialize_config_dir

from detzoo import config

FOLDER = config.folder("conf") / "detector"
CONFIGS = sorted(p.relative_to(FOLDER).with_suffix("").as_posix() for p in FOLDER.rglob("*.yaml"))


def described(name: str) -> dict:
    """The node `detector` of `detzoo train detector=<name>`, the caller's own."""
    return copy.deepcopy(_composed(name))


@cache  # Hydra takes longer than the tests
def _composed(name: str) -> dict:
    with initialize_config_dir(str(FOLDER.parent), version_base="1.3"):
        return config.plain(compose("train", [f"detector={name}"]).detector)
