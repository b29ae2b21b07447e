"""Colours for a table on a terminal; none in a pipe, nor where NO_COLOR asks for none."""

from __future__ import annotations

import os
import re
import sys
from typing import TextIO

BOLD, RED, YELLOW, GREEN, PLAIN = "\x1b[1m", "\x1b[31m", "\x1b[33m", "\x1b[32m", "\x1b[0m"
STARTS = {"left out:": RED, "failed:": RED, "note:": YELLOW, "the tables differ": YELLOW}


def wanted(stream: TextIO | None = None) -> bool:
    """https://no-color.org: any value of NO_COLOR but the empty one."""
    stream = sys.stdout if stream is None else stream
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return stream.isatty() and not plain


def painted(text: str, stream: TextIO | None = None) -> str:
    """A report's text: headings bold, the first green, what is wrong red or yellow."""
    if not wanted(stream):
        return text
    return "\n".join(map(_line, text.split("\n")))


def _line(text: str) -> str:
    colour = next((c for start, c in STARTS.items() if text.startswith(start)), "")
    if re.match(r"(rank +)?detector  ?", text):
        colour = BOLD
    elif re.match(r"1(-\d+)? ", text):
        colour = GREEN
    return f"{colour}{text}{PLAIN}" if colour else text
