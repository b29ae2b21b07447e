"""Provenance: the fingerprint fields that scoring and timing share."""

from __future__ import annotations

from typing import Any

from detzoo.data import Dataset
from detzoo.workflow.settings import Settings


def provenance(settings: Settings, dataset: Dataset) -> dict[str, Any]:
    """The fingerprint fields of the images and the training behind a number."""
    minutes = settings["recipe"].get("minutes")
    return {
        "dataset_hash": dataset.hash,
        "split": dataset.split,
        "recipe": settings["recipe"],
        # with a budget in minutes the number is in status.json
        "images_seen": None if minutes else settings["recipe"]["images_seen"],
        "seed": settings["seed"],
        **{key: settings[key] for key in ("effort", "start") if key in settings},
    }
