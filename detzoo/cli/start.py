"""`start=coco` on a command line, and the settings that the starting weights require."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

ASKED = re.compile(r"\+{0,2}start=(?!\{)")
GROUPS = ("backbone", "resize")  # choosing one takes all of it
DEFAULT = {"backbone": "resnet18"}  # with ImageNet weights of timm's


def expand_start(arguments: Sequence[str]) -> list[str]:
    """Replace `start=coco` by start.source=coco."""
    return [ASKED.sub("start.source=", text, count=1) for text in arguments]


def add_published_settings(
    detector: str, source: str | None, overrides: Sequence[str]
) -> list[str]:
    """The overrides, preceded by the settings that the weights of `source` require.

    Whatever the command sets itself takes precedence; a group that it chooses, or of which it sets
    anything, is left to it entirely. A run's own settings are not copied.
    """
    settings = _settings(detector, source)
    keys = [re.sub(r"^[+~]+", "", text).split("=")[0].split("@")[0] for text in overrides]
    roots = {key.split(".")[0] for key in keys}
    kept = {
        key: value
        for key, value in settings.items()
        if key not in keys and not (key.split(".")[0] in GROUPS and key.split(".")[0] in roots)
    }
    if not kept:
        return list(overrides)
    from detzoo.weights.published import as_overrides

    texts = as_overrides(kept)
    return [t if t.split("=")[0] in GROUPS else f"++{t}" for t in texts] + list(overrides)


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
