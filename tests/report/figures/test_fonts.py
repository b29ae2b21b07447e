"""Names in letters that DejaVu lacks: by a font that has them, or as numbers with a legend."""

from __future__ import annotations

import fabricated_runs
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from PIL import Image

from detzoo.report.figures import fonts
from detzoo.report.figures.fonts import (
    drawable_names,
    face,
    families,
    legend,
    pillow_font,
    replace_name,
)
from detzoo.report.images.drawing import Box, draw


@pytest.fixture(autouse=True)
def fresh():
    yield from _without_memory()


def _without_memory():
    caches = (fonts._face, fonts.faces)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def dejavu(monkeypatch):
    """No other font is installed."""
    only = (fonts.Face(fonts.DEJAVU, "DejaVu Sans"),)
    monkeypatch.setattr(fonts, "faces", lambda: only)
    return only


@pytest.fixture
def cat_font(tmp_path, dejavu, monkeypatch):
    """A new font in which 猫 is a full square, with digits, points and spaces."""
    pen = TTGlyphPen(None)
    for point in ((0, 0), (0, 900), (900, 900), (900, 0)):
        (pen.lineTo if point != (0, 0) else pen.moveTo)(point)
    pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(c): "square" for c in "猫0123456789. "})
    square = pen.glyph()
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": square})
    builder.setupHorizontalMetrics({name: (1000, 0) for name in (".notdef", "square")})
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Cats Only", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    file = tmp_path / "cats.ttf"
    builder.save(file)
    before = list(font_manager.fontManager.ttflist)
    font_manager.fontManager.addfont(file)
    one = fonts.Face(file, "Cats Only")
    monkeypatch.setattr(fonts, "faces", lambda: (*dejavu, one))
    yield one
    font_manager.fontManager.ttflist[:] = before


def test_a_name_that_no_font_has_is_a_number(dejavu):
    names = ["cat", "猫", "قط", "кот", "犬"]
    assert drawable_names(names) == {"cat": "cat", "猫": "#2", "قط": "قط", "кот": "кот", "犬": "#5"}
    assert legend(names).endswith("drawn as numbers: #2 猫, #5 犬.")
    assert legend(["cat", "Käfer"]) == "" and families(names) == ["DejaVu Sans"]


def test_an_installed_font_that_has_it_writes_it(cat_font):
    assert face("猫 0.87") == cat_font and face("cat 0.87").family == "DejaVu Sans"
    assert drawable_names(["猫", "犬"]) == {"猫": "猫", "犬": "#2"}
    assert families(["cat", "猫"]) == ["DejaVu Sans", "Cats Only"]
    image = Image.new("RGB", (120, 60), "#000000")
    drawn = np.asarray(draw(image, [Box((10, 30, 110, 55), "猫", colour="#ffffff")], size=16))
    label = drawn[10:29, 10:32].mean(axis=2)
    assert (label < 60).sum() > 150  # a square of 14 pixels in black on white
    assert pillow_font("猫", 16).getname()[0] == "Cats Only"


def test_format_characters_need_no_font(dejavu):
    assert face("a\u200d\u200f b") is not None and face("") is not None


def test_a_damaged_font_is_no_font(tmp_path, dejavu, monkeypatch):
    (tmp_path / "bad.ttf").write_bytes(b"\x00\x01\x00\x00 no font")
    bad = fonts.Face(tmp_path / "bad.ttf", "Bad")
    monkeypatch.setattr(fonts, "faces", lambda: (*dejavu, bad))
    assert face("猫") is None


def test_fonts_that_matplotlib_has_not_heard_of_yet_are_found(cat_font, monkeypatch):
    """Installed after it made its list; and a file that is no font is left out."""
    monkeypatch.undo()
    manager = font_manager.fontManager
    manager.ttflist[:] = [f for f in manager.ttflist if f.name != "Cats Only"]
    (cat_font.file.parent / "bad.ttf").write_bytes(b"no font")
    files = [str(cat_font.file), str(cat_font.file.parent / "bad.ttf")]
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: files)
    fonts.faces.cache_clear()
    assert cat_font in fonts.faces()
    assert not any("last resort" in one.family.lower() for one in fonts.faces())


def test_the_report_says_what_its_numbers_are(tmp_path, dejavu, monkeypatch):
    from detzoo.report.book import gather
    from detzoo.report.figures import render
    from detzoo.report.figures.palette import styles
    from detzoo.report.images.failures import close_ups

    data = fabricated_runs.dataset(tmp_path / "data", classes=("猫", "dog", "none"))
    run = fabricated_runs.score(fabricated_runs.run(tmp_path / "runs", "A", data))
    (table,) = gather([run], resamples=5).tables
    called = {r: "A" for r in table.group.runs}
    looks = styles(["A"])
    found = close_ups(data, table.analysis.details, looks)
    assert any("#1 猫" in note for note in found.notes)
    assert (
        replace_name("猫 0.50", ["猫", "dog"]) == "#1 0.50"
        and replace_name("dog 1", ["猫", "dog"]) == "dog 1"
    )
    for name, nothing in (("_svg", ""), ("_png", b""), ("inline", "")):  # captions are looked at
        monkeypatch.setattr(render, name, lambda *_, nothing=nothing: nothing)
    drawn = render.draw(
        table.group.runs, table.frame, called, looks, detail_of=table.analysis.details
    )
    captions = {one.name: one.caption for one in drawn}
    assert "#1 猫" in captions["classes"] and "#1 猫" in captions["confusion"]
