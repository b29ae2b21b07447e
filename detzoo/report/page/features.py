"""The page's part on what detectors have learned: features, neighbours, channels, classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup
from PIL import Image

from detzoo.report.figures.palette import COLOURS
from detzoo.report.images.drawing import Box, as_uri, draw, overlay_heatmap
from detzoo.report.load.values import clean
from detzoo.report.page.render import environment, file_text

THUMB, PATCH, QUALITY = 56, 96, 70  # pixels of longer sides; of the JPEGs
SIDE = 200  # of a scatter plot, in its own units


@dataclass(frozen=True)
class Neighbour:
    """A training object. picture: cut out around it."""

    picture: Image.Image
    label: int


@dataclass(frozen=True)
class Patch:
    """Where a channel responds strongly. image: the whole image; box: xyxy in its pixels, the
    receptive field of the cell; heat: (height, width) in [0, 1], the channel's map over the
    image."""

    image: Image.Image
    box: tuple[float, float, float, float]
    heat: np.ndarray
    value: float


@dataclass(frozen=True)
class Channel:
    title: str
    patches: Sequence[Patch]


@dataclass(frozen=True)
class Learned:
    """The features of one detector. numbers: title -> text. plots: title -> (N, 2), the same
    objects for all detectors. neighbours: class -> the nearest training objects of its example.
    classes: class -> (pixels that make its score rise, or None, and the caption)."""

    numbers: Mapping[str, str]
    plots: Mapping[str, np.ndarray]
    neighbours: Mapping[int, Sequence[Neighbour]] = field(default_factory=dict)
    channels: Sequence[Channel] = ()
    classes: Mapping[int, tuple[Image.Image | None, str]] = field(default_factory=dict)


def render_features(
    *,
    classes: Sequence[str],
    labels: np.ndarray,
    examples: Mapping[int, Image.Image],
    learned: Mapping[str, Learned],
    regularisers: str,
) -> Markup:
    """classes: names by label. labels: (N,) of the plotted objects. examples: class -> the test
    object whose neighbours are shown. learned: by detector."""
    used = sorted(set(labels.tolist()) | set(examples))
    colours = {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(used)}
    text = (
        environment()
        .from_string(file_text("features.html.j2"))
        .render(
            numbers=list(dict.fromkeys(n for of in learned.values() for n in of.numbers)),
            detectors={name: _detector(of, labels, colours) for name, of in learned.items()},
            plots=list(dict.fromkeys(t for of in learned.values() for t in of.plots)),
            side=SIDE,
            key=[(clean(classes[label], 40), colour) for label, colour in colours.items()],
            rows=[
                {"label": label, "name": clean(classes[label], 40), "uri": _thumb(picture, THUMB)}
                for label, picture in examples.items()
            ],
            regularisers=regularisers,
        )
    )
    return Markup(text)


def _detector(of: Learned, labels: np.ndarray, colours: Mapping[int, str]) -> dict[str, object]:
    return {
        "numbers": of.numbers,
        "plots": {title: scatter(xy, labels, colours) for title, xy in of.plots.items()},
        "neighbours": {
            label: [(_thumb(n.picture, THUMB), colours.get(n.label, "#7f7f7f")) for n in found]
            for label, found in of.neighbours.items()
        },
        "channels": [
            {"title": clean(c.title, 120), "patches": [_patch(p) for p in c.patches]}
            for c in of.channels
        ],
        "classes": {
            label: (None if picture is None else _thumb(picture, PATCH), clean(caption, 80))
            for label, (picture, caption) in of.classes.items()
        },
    }


def scatter(xy: np.ndarray, labels: np.ndarray, colours: Mapping[int, str]) -> list[dict[str, str]]:
    """One path for each class, a dot an object: for an SVG of SIDE x SIDE units."""
    low, high = xy.min(0), xy.max(0)
    span = np.maximum(high - low, 1e-9)
    places = (5 + (xy - low) / span * (SIDE - 10)).round().astype(int)
    return [
        {
            "colour": colour,
            "path": "".join(f"M{x} {SIDE - y}h0" for x, y in places[labels == label].tolist()),
        }
        for label, colour in colours.items()
    ]


def _patch(patch: Patch) -> dict[str, str]:
    cut = patch.image.crop(tuple(round(v) for v in patch.box))
    small = patch.image.copy()
    small.thumbnail((PATCH, PATCH))
    factor = (small.width / patch.image.width, small.height / patch.image.height)
    heat = Image.fromarray(patch.heat.astype(np.float32)).resize(small.size)
    shown = draw(
        overlay_heatmap(small, np.asarray(heat)), [Box(patch.box, "")], factor=factor, size=5
    )
    return {
        "patch": _thumb(cut, PATCH),
        "map": as_uri(shown, QUALITY),
        "value": f"{patch.value:.2f}",
    }


def _thumb(image: Image.Image, side: int) -> str:
    factor = side / max(image.size)
    size = tuple(max(1, round(v * factor)) for v in image.size)
    return as_uri(image.resize(size), QUALITY)
