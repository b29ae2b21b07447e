"""captum's classes, where it is installed."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def captum(name: str) -> Any:
    """A class of captum.attr. ValueError where captum is not installed."""
    try:
        return getattr(import_module("captum.attr"), name)
    except ImportError as error:
        raise ValueError(
            f"this method is captum's {name}, and captum is not installed: "
            "pip install 'detzoo[explain]', or choose methods=[odam,grad_cam,guided,d_rise]"
        ) from error
