"""Numbers, ids and flags as annotation files write them: as numbers, as text, or as words."""

from __future__ import annotations

import math
from typing import Any

TRUE = frozenset({"true", "yes", "y", "t", "on"})
FALSE = frozenset({"", "false", "no", "n", "f", "off", "none", "null", "nan", "unspecified"})


def parse_number(value: Any) -> float:
    """A float of a number or its text; NaN of anything else, which `Collector` then reports."""
    if isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def parse_id(value: Any) -> int | None:
    """The whole number that an id is: 1, 1.0, "1" and "1.0" are 1; None of anything else.

    A number over 64 bits is invalid, since ids are stored in tensors and other programs' tables.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        id = int(value)  # not through a float: ids of 17 digits are usual
    except ValueError:
        as_float = parse_number(value)
        id = int(as_float) if math.isfinite(as_float) else 0
        if id != as_float:
            return None
    except OverflowError:
        return None
    if isinstance(value, float) and id != value:
        return None
    return id if -(2**63) <= id < 2**63 else None


def parse_flag(value: Any) -> bool | None:
    """Whether a flag is set, given as a boolean, a number or a word; None for anything else.

    Nothing at all and "Unspecified", which some tools always write, are no.
    """
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, str):
        word = value.strip().casefold()
        if word in TRUE or word in FALSE:
            return word in TRUE
    flag = parse_number(value)
    return flag == 1 if flag in (0, 1) else None
