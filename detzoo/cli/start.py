"""`start=coco` on a command line, and the settings that the starting weights require."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

ASKED = re.compile(r"\+{0,2}start=(?!\{)")
# Group -> the settings that choose another one, which takes all of it
CHOICES = {"backbone": ("backbone", "backbone.name"), "resize": ("resize", "resize.size")}
DEFAULT = {"backbone": "resnet18"}  # with ImageNet weights of timm's


def expand_start(arguments: Sequence[str]) -> list[str]:
    """Replace `start=coco` by start.source=coco."""
    return [ASKED.sub("start.source=", text, count=1) for text in arguments]


def add_published_settings(
    detector: str, source: str | None, overrides: Sequence[str]
) -> list[str]:
    """The overrides, preceded by the settings that the weights of `source` require.

    The command's own settings take precedence: a group that it chooses is not changed at all, one
    of which it sets a part (backbone.frozen_stages=2) otherwise is. A run's own settings are not
    copied.
    """
    settings = _settings(detector, source)
    keys = [re.sub(r"^[+~]+", "", text).split("=")[0].split("@")[0] for text in overrides]
    chosen = {group for group, choices in CHOICES.items() if set(choices) & set(keys)}
    kept = {
        key: value
        for key, value in settings.items()
        if key not in keys and key.split(".")[0] not in chosen
    }
    if not kept:
        return list(overrides)
    from detzoo.weights.published import as_overrides

    texts = as_overrides(kept)
    return [t if t.split("=")[0] in CHOICES else f"++{t}" for t in texts] + list(overrides)


def _settings(detector: str, source: str | None) -> dict:
    """The settings that the weights of a source require; {} where they are unknown."""
    if source is None or source == "scratch":
        return {}
    if source == "imagenet":
        return DEFAULT
    from detzoo.weights.published import published, settings_for

    if source == "coco":
        one = published(detector)
        return DEFAULT if one is None else one.settings
    path = Path(source).expanduser()
    return settings_for(path, detector) if path.is_file() else {}
