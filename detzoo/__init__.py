"""Object detectors that read like their papers, scored and timed by one protocol.

    model = detzoo.create_detector("retinanet", num_classes=3)     or detzoo.load("runs/mine")
    settings = detzoo.settings("bench", "photos/", "detectors=[ssd,retinanet]")
    print(detzoo.bench(settings))

The verbs of the command line are functions here; their results print as tables, have a `frame`, and
show themselves in notebooks.
"""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from detzoo.moved import MovedFinder

__version__ = "0.1.0"

# The verbs, each the function of its name in detzoo/workflow/NAME.py
_VERBS = ("bench", "check", "compare", "draw", "evaluate", "oracle", "pool", "predict", "propose")
_VERBS += ("report", "speed", "train", "tune", "watch")
_HOMES = {
    **{name: f"detzoo.workflow.{name}" for name in _VERBS},
    "create_detector": "detzoo.api",
    "list_detectors": "detzoo.api",
    "load": "detzoo.api",
    "settings": "detzoo.api",
    "Detector": "detzoo.detector",
    "Detections": "detzoo.types",
    "Frame": "detzoo.types",
    "Images": "detzoo.types",
    "Target": "detzoo.types",
}
_PACKAGES = ("explain", "report", "speed")  # that can be called
__all__ = ["__version__", *dict.fromkeys((*_HOMES, *_PACKAGES))]


def __getattr__(name: str) -> Any:
    # Imported on first access (PEP 562), so that `import detzoo.report` imports no torch.
    if name in _PACKAGES:
        return import_module(f"detzoo.{name}")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'detzoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _VerbPackage(ModuleType):
    """A package with the name of a verb, detzoo.report or detzoo.speed: called, it is the verb."""

    def _verb(self) -> Any:
        name = self.__name__.rpartition(".")[2]
        return getattr(import_module(_HOMES[name]), name)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._verb()(*arguments, **options)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._verb())


class _Public(ModuleType):
    """This package. The import system sets submodules as attributes, which hide functions."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _PACKAGES and name in _HOMES and isinstance(value, ModuleType):
            value.__class__ = _VerbPackage
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Public
sys.meta_path.append(MovedFinder())
