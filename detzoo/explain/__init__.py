"""Explanations of a detection: maps, and how faithful they are.

`detzoo.explain(model, image, detection, method="odam")` is `explain.methods.explain`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from detzoo.explain.methods import BASELINES, METHODS, draw, explain
from detzoo.explain.target import Asked, check_asked
from detzoo.explain.view import View, look

__all__ = ["BASELINES", "METHODS", "Asked", "View", "check_asked", "draw", "explain", "look"]


class _Callable(ModuleType):
    """The package under the name that people call: a submodule hides a function of its name."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return explain(*arguments, **options)


sys.modules[__name__].__class__ = _Callable
