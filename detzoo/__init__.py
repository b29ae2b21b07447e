"""Object detectors that read like their papers, scored and timed by one protocol."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "create_detector": "detzoo.api",
    "list_detectors": "detzoo.api",
    "load": "detzoo.api",
    "Detector": "detzoo.detector",
    "Detections": "detzoo.types",
    "Frame": "detzoo.types",
    "Images": "detzoo.types",
    "Target": "detzoo.types",
}
_PACKAGES = {"explain"}  # that can be called
__all__ = ["__version__", *_HOMES, *_PACKAGES]


def __getattr__(name: str) -> Any:
    # Looked up when asked for (PEP 562), so that `import detzoo.report` imports no torch.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _PACKAGES:
        return import_module(f"detzoo.{name}")
    raise AttributeError(f"module 'detzoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
