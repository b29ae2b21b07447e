"""Values of files from untrusted sources: anything unexpected counts as absent."""

from __future__ import annotations

import math
from typing import Any

from detzoo.text import escaped

NAN = float("nan")


def dig(value: Any, *keys: str | int) -> Any:
    """value[key][key]..., or None as soon as something on the way is not there."""
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and isinstance(key, int) and key < len(value):
            value = value[key]
        else:
            return None
    return value


def number(value: Any, *keys: str | int) -> float:
    """The finite number found by `dig`, else NaN (a bool or a string is no number)."""
    found = dig(value, *keys)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return NAN
    try:
        return float(found) if math.isfinite(found) else NAN
    except OverflowError:  # an integer beyond the range of floats
        return NAN


def interval(value: Any, *keys: str | int) -> tuple[float, float]:
    """The (low, high) found by `dig`, or (NaN, NaN) unless it is two finite numbers in order."""
    low, high = number(value, *keys, 0), number(value, *keys, 1)
    return (low, high) if low <= high else (NAN, NAN)


def clean(text: Any, limit: int = 4000) -> str:
    """Text with its control characters escaped (a terminal would obey them), cut to `limit`."""
    shown = escaped(text, lines=True)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def shorten(name: str, width: int) -> str:
    """The name on one line, its middle cut out where it is too long."""
    name = " ".join(clean(name).split())
    if len(name) <= width:
        return name
    tail = (width - 1) // 3
    return f"{name[: width - 1 - tail]}…{name[-tail:]}"
