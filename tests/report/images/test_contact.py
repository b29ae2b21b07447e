"""Contact sheets: pictures with their boxes, names that fit, a page of nothing from outside."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from detzoo.report.images import contact
from detzoo.report.images.contact import Cell, Section, sheets, write
from detzoo.report.images.drawing import Box

EVIL = "été <img src=x onerror=alert(1)> \x1b[31m 写真"


def cell(width=60, height=40, boxes=(), **other) -> Cell:
    image = Image.new("RGB", (width, height), "#3060c0")
    return Cell(lambda: image, boxes, other.pop("caption", "a b.jpg"), **other)


def test_the_page_shows_all_sheets_and_no_name_is_code(tmp_path):
    out = tmp_path / "out é 1"
    many = [cell(caption=EVIL, note=EVIL)] * (contact.ACROSS * contact.DOWN + 1)
    page = write(out, EVIL, [EVIL], [Section("a-1", EVIL, EVIL, many), Section("none", "x", "y")])
    text = page.read_text("utf-8")
    assert page == out / "index.html" and "<img src=x" not in text and "\x1b" not in text
    names = re.findall(r'<img src="([^"]+)"', text)
    assert names == ["a-1-1.jpg", "a-1-2.jpg"] == sorted(p.name for p in out.glob("*.jpg"))
    assert "http:" not in text and "https:" not in text and "default-src 'none'" in text
    assert all(Image.open(out / name).size[0] > 200 for name in names)


def test_boxes_are_drawn_at_their_place_also_in_a_close_up():
    """A red box around the right half; the close-up shows the right half alone."""
    box = Box((30, 0, 60, 40), "", colour="#ff0000")
    for window, share in ((None, 0.5), ((30, 0, 60, 40), 1.0)):
        (sheet,) = sheets([cell(boxes=[box], window=window)])
        pixels = np.asarray(sheet, int)
        red = (pixels[..., 0] > 200) & (pixels[..., 1:].max(axis=2) < 90)
        blue = (pixels[..., 2] > 150) & (pixels[..., 0] < 90)
        shown = (red | blue).any(axis=0).sum()
        assert np.ptp(np.flatnonzero(red.any(axis=0))) == pytest.approx(share * shown, abs=4)


def test_a_box_outside_the_window_is_not_drawn():
    (sheet,) = sheets(
        [cell(boxes=[Box((0, 0, 9, 9), "cat", colour="#ff0000")], window=(30, 10, 60, 40))]
    )
    pixels = np.asarray(sheet, int)
    assert not ((pixels[..., 0] > 200) & (pixels[..., 1] < 90)).any()


def test_what_cannot_be_opened_says_why_and_stops_no_other():
    def broken():
        raise ValueError("cut after 12 bytes")

    (sheet,) = sheets([Cell(broken, (), "a.jpg"), cell()])
    assert sheet.width > 2 * contact.SIDE


@pytest.mark.parametrize("size", [(1, 1), (4000, 3), (3, 4000), (1, 600)])
@pytest.mark.parametrize("name", ["w" * 300, "写" * 200, "a b " * 80, ""])
def test_extreme_pictures_and_names_fit(size, name):
    box = Box((0, 0, *size), name)
    (sheet,) = sheets([cell(*size, boxes=[box], caption=name, note=name)] * 7)
    assert sheet.width == contact.GAP + 6 * (contact.SIDE + contact.GAP)
    assert contact._width(contact._fitted(name, 100)) <= 100
    lines = contact._wrapped(name, 100, 2)
    assert len(lines) <= 2 and all(contact._width(line) <= 100 for line in lines)
