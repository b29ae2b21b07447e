"""The installed fonts that have all characters of a name; a number in its place without one.

DejaVu, which comes with matplotlib, has no Chinese, Japanese, Korean or Indian letters: they would
be empty boxes, and two classes would look the same. So a name is drawn in the first installed font
that has all of it. A name without a font is drawn as #1, #2, ... (its index among the classes), and
`legend` explains these in text, which a terminal or a browser shows in its own fonts.
"""

from __future__ import annotations

import contextlib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import ImageFont

DEJAVU = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
BOXES = ("last resort", "lastresort", "emoji", "unifont")  # fonts of boxes, bitmaps and pixels


@dataclass(frozen=True)
class Face:
    """An installed font: its file, and its family as matplotlib calls it."""

    file: Path
    family: str


@cache
def faces() -> tuple[Face, ...]:
    """The installed fonts, upright ones of normal weight without serifs first.

    matplotlib keeps a list of them between its runs, which lacks those that were installed since.
    """
    manager = font_manager.fontManager
    known = {font.fname for font in manager.ttflist}
    for file in font_manager.findSystemFonts():
        if file not in known:
            with contextlib.suppress(OSError, RuntimeError, ValueError):
                manager.addfont(file)
    found = [
        (font.style != "normal", abs(_weight(font) - 400), "sans" not in font.name.lower(), font)
        for font in manager.ttflist
        if not any(word in font.name.lower() for word in BOXES)
    ]
    found.sort(key=lambda row: (*row[:3], row[3].name, row[3].fname))
    return tuple(Face(Path(font.fname), font.name) for *_, font in found)


def _weight(font: font_manager.FontEntry) -> int:
    weights = font_manager.weight_dict
    return font.weight if isinstance(font.weight, int) else weights.get(font.weight, 400)


@cache
def _characters(file: Path) -> frozenset[int]:
    """The code points that a font has; none of a file that is damaged or of bitmaps."""
    try:
        return frozenset(FT2Font(str(file)).get_charmap())
    except (OSError, RuntimeError, ValueError):
        return frozenset()


def face(text: str) -> Face | None:
    """The first font that has all of the text."""
    return _face(frozenset(map(ord, filter(_is_seen, text))))


@lru_cache(maxsize=4096)
def _face(needed: frozenset[int]) -> Face | None:
    if needed <= _characters(DEJAVU):
        return Face(DEJAVU, "DejaVu Sans")
    return next((one for one in faces() if needed <= _characters(one.file)), None)


def _is_seen(character: str) -> bool:
    """Whether it is drawn at all: no space, joiner or mark of direction."""
    return not character.isspace() and unicodedata.category(character) not in ("Cc", "Cf")


@lru_cache(maxsize=32)
def _sized(file: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(file), size)


def pillow_font(text: str, size: int) -> ImageFont.FreeTypeFont:
    """A font of `size` pixels for ImageDraw that has the text, DejaVu if none has."""
    found = face(text)
    return _sized(found.file if found else DEJAVU, size)


def families(texts: Iterable[str]) -> list[str]:
    """For matplotlib's font.family, which takes each character from the first that has it."""
    found = (face(text) for text in texts)
    return list(dict.fromkeys(["DejaVu Sans", *(one.family for one in found if one)]))


def drawable_names(names: Sequence[str]) -> dict[str, str]:
    """name -> its drawn form: itself, or #1, #2, ... by its index if no font has it."""
    return {name: name if face(name) else f"#{i}" for i, name in enumerate(names, 1)}


def replace_name(text: str, names: Sequence[str]) -> str:
    """The text with its initial name in drawn form."""
    for name, drawn in drawable_names(names).items():
        if drawn != name and text.startswith(name):
            return drawn + text.removeprefix(name)
    return text


def legend(names: Sequence[str]) -> str:
    """A sentence that explains the numbers of `drawable_names`; empty without any."""
    numbered = [f"{drawn} {name}" for name, drawn in drawable_names(names).items() if drawn != name]
    if not numbered:
        return ""
    return f"No installed font has these names, which are drawn as numbers: {', '.join(numbered)}."
