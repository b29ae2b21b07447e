"""What a training goes through on its way from settings to weights."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import detzoo
from detzoo import config
from detzoo.workflow import settings as workflow_settings

TINY = ("data.size=64", "data.min_size=8", "data.train=4", "data.val=2", "data.test=2")
TINY += ("resize.size=64", "backbone=resnet10t", "recipe.images_seen=4", "recipe.val_points=1")


def test_a_training_builds_each_part_of_its_settings_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The detector twice: first without memory, before any data are read, so that impossible
    settings are refused; then for the data's number of classes."""
    built: Counter[str] = Counter()
    construct = config._construct

    def counted(node: Any, where: str) -> Any:
        if isinstance(node, dict) and "." not in where:
            built[where] += 1
        return construct(node, where)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "_construct", counted)
    workflow_settings._part.cache_clear()
    settings = detzoo.settings("train", *TINY)
    detzoo.train(settings)
    assert built == {"detector": 2, "recipe": 1, "resize": 1, "augment": 1, "data": 1}
    built.clear()
    detzoo.train({**settings, "seed": 1})
    assert built == {"detector": 2}, "what is equal for two trainings is built for both"
