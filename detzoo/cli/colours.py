"""Colours for a table on a terminal; none in a pipe, nor with NO_COLOR."""

from __future__ import annotations

import os
import re
import sys
from typing import TextIO

BOLD, RED, YELLOW, GREEN, PLAIN = "\x1b[1m", "\x1b[31m", "\x1b[33m", "\x1b[32m", "\x1b[0m"
STARTS = {"left out:": RED, "failed:": RED, "note:": YELLOW, "the tables differ": YELLOW}


def use_colours(stream: TextIO | None = None) -> bool:
    """Whether to print colours (https://no-color.org: not where NO_COLOR has a value)."""
    stream = sys.stdout if stream is None else stream
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return stream.isatty() and not plain


def paint(text: str, stream: TextIO | None = None) -> str:
    """Colour a report's text: headings bold, the first rank green, problems red or yellow."""
    if not use_colours(stream):
        return text
    return "\n".join(map(_line, text.split("\n")))


def _line(text: str) -> str:
    colour = next((c for start, c in STARTS.items() if text.startswith(start)), "")
    if re.match(r"(rank +)?detector  ?", text):
        colour = BOLD
    elif re.match(r"1(-\d+)? ", text):
        colour = GREEN
    return f"{colour}{text}{PLAIN}" if colour else text
