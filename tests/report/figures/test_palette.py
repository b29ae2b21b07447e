"""One look per kind of detector, everywhere; visible on white and on dark paper."""

import re
from importlib.resources import files

import pytest
from matplotlib import colormaps
from matplotlib.colors import to_hex, to_rgb

from detzoo.report.figures.overview import text_on
from detzoo.report.figures.palette import COLOURS, KINDS, kind, styles


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("faster_rcnn", "fasterrcnn"),
        ("Faster R-CNN (lr=0.1)", "fasterrcnn"),
        ("torchvision/faster_rcnn", "fasterrcnn"),
        ("fast_rcnn", "fastrcnn"),
        ("rcnn", "rcnn"),
        ("YOLO", "yolo"),
        ("yolov3", "yolov3"),
        ("my own", None),
    ],
)
def test_the_kind_of_a_name(name, of):
    assert kind(name) == of


def test_a_kind_looks_the_same_whatever_else_is_there():
    alone, among = styles(["ssd"]), styles(["my own", "yolo", "rcnn", "ssd", "centernet"])
    assert alone["ssd"] == among["ssd"] and among["my own"].colour not in (
        among[name].colour for name in ("yolo", "rcnn", "ssd", "centernet")
    )
    two = styles(["ssd", "torchvision/ssd"])
    assert two["ssd"].colour == two["torchvision/ssd"].colour
    assert two["ssd"].marker != two["torchvision/ssd"].marker


def test_kinds_differ_in_colour_and_marker():
    looks = styles(KINDS).values()
    assert len({s.colour for s in looks}) == len({s.marker for s in looks}) == len(KINDS)


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("paper", ["#ffffff", "#14181d"])
def test_marks_stand_out_from_light_and_dark_paper(paper):
    for colour in COLOURS:
        assert contrast(colour, paper) >= 3, colour


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_text_can_be_read_on_light_dark_and_printed_paper():
    css = files("detzoo.report.page").joinpath("page.css").read_text()
    schemes = re.findall(r":root \{([^}]*)\}", css)
    assert len(schemes) == 3
    for scheme in schemes:
        colour = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", scheme))
        for text in ("ink", "soft", "mark", "warn"):
            for paper in ("paper", "raised"):
                assert contrast(colour[text], colour[paper]) >= 4.5, (text, paper)


def test_numbers_in_coloured_cells_and_dots_can_be_read():
    shades = [colormaps["cividis"](x / 50) for x in range(51)] + [to_rgb(c) for c in COLOURS]
    for rgb in shades:
        assert contrast(to_hex(text_on(rgb)), to_hex(rgb)) >= 4.5
