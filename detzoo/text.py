"""Text from outside, as it may be shown, and what settings may be.

A terminal obeys control characters, and a reader believes them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Any, TextIO

# Characters that move or hide the text around them, without format characters (Cf) that scripts
# need, such as the joiners of Persian and of emoji.
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_HIDDEN = frozenset("\ufeff\u2028\u2029\u00ad\u2060\u180e")
_REFUSED = frozenset({"Cc", "Cs", "Co", "Cn"})  # control, surrogate, private use, unassigned


def escaped(text: Any, *, lines: bool = False) -> str:
    r"""The text with every control, bidirectional and invisible character written as Python does.

    ESC becomes \x1b, a line break \n, a right-to-left override \u202e; letters of all scripts stay.
    A backslash stays as it is, for paths of Windows. lines: keep line breaks and tabs, for text of
    several lines that the program itself has laid out.
    """
    return "".join(
        c if (c.isascii() and c.isprintable()) or (lines and c in "\n\t") else _shown(c)
        for c in str(text)
    )


def _shown(c: str) -> str:
    if c in _BIDI or c in _HIDDEN or unicodedata.category(c) in _REFUSED:
        return c.encode("unicode_escape").decode("ascii")
    return c


class Escaping:
    """A text stream that writes everything `escaped`; otherwise as the stream itself."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(escaped(text, lines=True))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def shortened(text: Any, limit: int) -> str:
    """`escaped`, cut to `limit` characters."""
    shown = escaped(text)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def check_choice(setting: str, value: Any, known: Iterable[str]) -> None:
    """Raise ValueError unless the value of that setting is one of `known`."""
    if value not in (known := list(known)):
        raise ValueError(f"{setting} is {value!r}; choose one of {', '.join(known)}")


def interval_text(low: float, high: float, form: str = ".3f") -> str:
    """`[low, high]` in Python's number format; a zero has no minus sign."""
    return f"[{number_text(low, form)}, {number_text(high, form)}]"


def number_text(value: float, form: str) -> str:
    """In Python's number format; a zero has no minus sign."""
    text = format(value, form)
    return text if float(text) else format(0.0, form)
