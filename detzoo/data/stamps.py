"""The shapes of synthetic pictures: their outlines, drawn as masks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("circle", "square", "triangle", "star", "cross", "ring")
SUPERSAMPLING = 4

Array = np.ndarray


@dataclass(frozen=True)
class Stamp:
    """A drawn outline: alpha (h, w) float32 in [0, 1] at rows and columns of the image."""

    alpha: Array
    rows: slice
    columns: slice
    inside: float  # the part of its area that is inside the image
    box: tuple[float, float, float, float]


def outline(label: int) -> tuple[Array, Array | None]:
    """Vertices (N, 2) of a class's outline, filling [-1, 1] both ways, and of its hole if any."""
    turn = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    circle = np.stack([np.cos(turn), np.sin(turn)], 1)
    name = CLASSES[label]
    if name == "circle":
        return circle, None
    if name == "ring":
        return circle, circle * 0.55
    if name == "square":
        return np.array([[-1, -1], [1, -1], [1, 1], [-1, 1.0]]), None
    if name == "triangle":
        return np.array([[0, -1], [1, 1], [-1, 1.0]]), None
    if name == "cross":
        arm = 0.3
        corner = np.array([[arm, -1], [arm, -arm], [1, -arm]])
        quarter = np.array([[0, 1], [-1, 0]])  # (x, y) -> (-y, x): a quarter turn
        corners = [corner]
        for _ in range(3):
            corners.append(corners[-1] @ quarter)
        return np.concatenate(corners), None
    spikes = np.linspace(0, 2 * math.pi, 10, endpoint=False) - math.pi / 2
    radius = np.where(np.arange(10) % 2, 0.42, 1.0)
    star = np.stack([np.cos(spikes), np.sin(spikes)], 1) * radius[:, None]
    least, most = star.min(0), star.max(0)
    return (star - least) / (most - least) * 2 - 1, None


def stamp(
    label: int,
    centre: tuple[float, float],
    sides: tuple[float, float],
    angle: float,
    size: tuple[int, int],
) -> Stamp | None:
    """Draw an outline of sides (width, height), turned by `angle` radians; None if it is outside.

    size: (height, width) of the image. The box is that of the turned outline, inside the image.
    """
    outer, hole = outline(label)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    frame = np.array(sides) / 2

    def at(points: Array) -> Array:
        return (points * frame) @ turn + np.array(centre)

    vertices = at(outer)
    (x1, y1), (x2, y2) = vertices.min(0).tolist(), vertices.max(0).tolist()
    left, top, right, bottom = math.floor(x1), math.floor(y1), math.ceil(x2), math.ceil(y2)
    height, width = size
    a, b, c, d = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    if a >= c or b >= d:
        return None
    s = SUPERSAMPLING
    mask = Image.new("L", ((right - left) * s, (bottom - top) * s))
    draw = ImageDraw.Draw(mask)
    for points, value in ((outer, 255), (hole, 0)):
        if points is not None:  # PIL counts from pixel centres
            corners = (at(points) - (left, top)) * s - 0.5
            draw.polygon([tuple(p) for p in corners.tolist()], fill=value)
    alpha = np.asarray(mask.reduce(s), np.float32) / 255
    whole = float(alpha.sum())
    alpha = alpha[b - top : d - top, a - left : c - left]
    return Stamp(
        alpha,
        slice(b, d),
        slice(a, c),
        float(alpha.sum()) / max(whole, 1e-6),
        (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))),
    )


def touch(a: tuple[float, ...], b: tuple[float, ...], gap: float = 0.0) -> bool:
    """Whether two xyxy boxes overlap, or are nearer than `gap` pixels in both directions."""
    return a[0] < b[2] + gap and b[0] < a[2] + gap and a[1] < b[3] + gap and b[1] < a[3] + gap
