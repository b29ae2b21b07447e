"""Contact sheets: many small pictures with their boxes, as JPEGs and a page that shows them.

The content is given as cells whose pictures are opened one at a time, since a data set does not fit
into memory.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from detzoo.files import atomic, write_text
from detzoo.progress import track
from detzoo.report.figures.fonts import pillow_font
from detzoo.report.images.drawing import Box, draw
from detzoo.report.load.values import clean, shorten

ACROSS, DOWN = 6, 4  # cells of a sheet
SIDE, GAP, LETTERS = 220, 14, 12  # pixels: of a picture, between cells, of the captions
LINES = 3  # of a caption, the name among them
MOST_NAMED = 4  # boxes of an image that all have their name written
PAPER, INK, WARN = "#ffffff", "#1b1f24", "#9a4a00"
MOST_GROWN = 4.0  # times that a small picture is enlarged


@dataclass(frozen=True)
class Cell:
    """One picture. open: gives it as RGB, or raises OSError or ValueError with the reason; boxes:
    in its pixels, those of interest first; window: the part (xyxy) to show, None for all."""

    open: Callable[[], Image.Image]
    boxes: Sequence[Box]
    caption: str
    note: str = ""
    window: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Section:
    """slug: begins the names of its files; text: what it shows, and what to check."""

    slug: str
    title: str
    text: str
    cells: Sequence[Cell] = ()


def write(out: Path, title: str, facts: Sequence[str], sections: Sequence[Section]) -> Path:
    """Write out/index.html and its sheets, `<slug>-<number>.jpg`; gives the page's path.

    Each file is written whole or not at all, the page last, and it shows no file from elsewhere.
    """
    parts = [f"<h1>{_escaped(title)}</h1>", *(f"<p>{_escaped(fact)}</p>" for fact in facts)]
    if len(sections) > 3:
        links = (f'<a href="#{s.slug}">{_escaped(shorten(s.title, 60))}</a>' for s in sections)
        parts.append(f"<nav>{' '.join(links)}</nav>")
    for section in track(sections, "contact sheets", "sheets"):
        parts.append(f'<h2 id="{section.slug}">{_escaped(section.title)}</h2>')
        parts.append(f"<p>{_escaped(section.text)}</p>")
        for number, image in enumerate(sheets(section.cells), 1):
            name = f"{section.slug}-{number}.jpg"
            with atomic(out / name) as temporary:
                image.save(temporary, "JPEG", quality=85)
            alt = _escaped(f"{section.title}, sheet {number}")
            size = f'width="{image.width}" height="{image.height}"'
            parts.append(
                f'<a href="{name}"><img src="{name}" alt="{alt}" {size} loading="lazy"></a>'
            )
    page = out / "index.html"
    write_text(page, _PAGE.format(title=_escaped(title), body="\n".join(parts)))
    return page


def sheets(cells: Sequence[Cell]) -> Iterator[Image.Image]:
    """Sheets of ACROSS x DOWN cells; rows are as high as their pictures."""
    for start in range(0, len(cells), ACROSS * DOWN):
        some = cells[start : start + ACROSS * DOWN]
        rows = [_row(some[i : i + ACROSS]) for i in range(0, len(some), ACROSS)]
        width = max(row.width for row in rows)
        sheet = Image.new("RGB", (width, GAP + sum(row.height for row in rows)), PAPER)
        top = GAP
        for row in rows:
            sheet.paste(row, (0, top))
            top += row.height
        yield sheet


def named_once(boxes: Sequence[Box]) -> list[Box]:
    """With many boxes only the first of each class has its name: names would hide the objects."""
    if len(boxes) <= MOST_NAMED:
        return list(boxes)
    first = {box.text: n for n, box in reversed([*enumerate(boxes)])}
    return [replace(box, text=box.text * (first[box.text] == n)) for n, box in enumerate(boxes)]


def _row(cells: Sequence[Cell]) -> Image.Image:
    pictures = [_picture(cell) for cell in cells]
    captions = [_caption(cell) for cell in cells]
    high, lines = max(p.height for p in pictures), max(map(len, captions))
    size = (GAP + len(cells) * (SIDE + GAP), high + lines * (LETTERS + 4) + 2 * GAP)
    row = Image.new("RGB", size, PAPER)
    canvas = ImageDraw.Draw(row)
    for place, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left = GAP + place * (SIDE + GAP)
        row.paste(picture, (left, high - picture.height))
        for number, (text, colour) in enumerate(caption, 1):
            at = (left, high + number * (LETTERS + 4))
            canvas.text(at, text, font=pillow_font(text, LETTERS), fill=colour, anchor="ls")
    return row


def _picture(cell: Cell) -> Image.Image:
    """The cell's window with its boxes, fitted into SIDE x SIDE; without a picture, a grey field
    with the reason."""
    try:
        image = cell.open()
    except (OSError, ValueError) as error:
        field = Image.new("RGB", (SIDE, SIDE // 2), "#d0d7de")
        text = _wrapped(f"cannot be shown: {error}", SIDE - 16, 5)
        for line, words in enumerate(text):
            place = (8, 16 + line * (LETTERS + 4))
            ImageDraw.Draw(field).text(
                place, words, font=pillow_font(words, LETTERS), fill=INK, anchor="ls"
            )
        return field
    boxes = list(cell.boxes)
    if cell.window is not None:
        left, top, right, bottom = (round(side) for side in cell.window)
        right, bottom = max(right, left + 1), max(bottom, top + 1)
        image = image.crop((left, top, right, bottom))
        boxes = [_moved(box, left, top) for box in boxes if _meets(box, cell.window)]
    scale = min(SIDE / image.width, SIDE / image.height, MOST_GROWN)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    factor = size[0] / image.width, size[1] / image.height
    image = image.resize(size, Image.Resampling.LANCZOS)
    named = [
        Box(b.xyxy, _fitted(b.text, size[0] - 8) if b.text else "", b.crowd, b.colour)
        for b in boxes
    ]
    drawn = draw(image, named, factor=factor, size=LETTERS)
    return ImageOps.expand(drawn, 1, "#d0d7de") if min(size) < SIDE // 3 else drawn


def _moved(box: Box, left: float, top: float) -> Box:
    x1, y1, x2, y2 = box.xyxy
    return Box((x1 - left, y1 - top, x2 - left, y2 - top), box.text, box.crowd, box.colour)


def _meets(box: Box, window: Sequence[float]) -> bool:
    x1, y1, x2, y2 = box.xyxy
    return x1 < window[2] and window[0] < x2 and y1 < window[3] and window[1] < y2


def _caption(cell: Cell) -> list[tuple[str, str]]:
    """Lines and their colours: the name, and the note."""
    lines = [(_fitted(cell.caption, SIDE), INK)]
    return lines + [(text, WARN) for text in _wrapped(cell.note, SIDE, LINES - 1)]


def _width(text: str) -> float:
    return pillow_font(text, LETTERS).getlength(text)


def _fitted(text: str, width: float) -> str:
    """The text shortened in the middle to fit one line of that width in pixels."""
    text = shorten(text, 200)
    count = len(text)
    while count > 1 and _width(text) > width:
        count = min(count - 1, int(count * width / _width(text)))
        text = shorten(text, max(2, count))
    return text


def _wrapped(text: str, width: float, most: int) -> list[str]:
    """The text in up to `most` lines of that width in pixels, cut at the end if too long."""
    lines: list[str] = []
    words = clean(text, 400).split()
    while words and len(lines) < most:
        count = len(words)
        while count > 1 and _width(" ".join(words[:count])) > width:
            count -= 1
        last = len(lines) == most - 1
        line = " ".join(words) if last else " ".join(words[:count])
        words = [] if last else words[count:]
        while last and len(line) > 1 and _width(line) > width:
            line = line[:-2].rstrip(" …") + "…"
        lines.append(_fitted(line, width))
    return lines


def _escaped(text: str) -> str:
    return html.escape(clean(text, 2000))


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src 'self' file:; \
style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ color-scheme: light; }}
body {{ margin: 0 auto; max-width: 1420px;
  padding: 22px 28px 60px; background: #fff; color: #1b1f24;
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", "Noto Sans CJK SC", sans-serif; }}
h1 {{ font-size: 1.6rem; line-height: 1.2; margin: 0 0 .4rem; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.2rem; margin: 1.9rem 0 .4rem; padding-top: .8rem; border-top: 1px solid #d0d7de;
  overflow-wrap: anywhere; }}
p {{ margin: .3rem 0 .6rem; max-width: 90ch; color: #57606a; overflow-wrap: anywhere; }}
nav {{ display: flex; flex-wrap: wrap; gap: .15rem 1rem; font-size: .86rem; margin: .8rem 0; }}
a {{ color: #0b62b5; overflow-wrap: anywhere; }}
img {{ display: block; max-width: 100%; height: auto; margin: .2rem 0; }}
</style>
{body}
</html>
"""
