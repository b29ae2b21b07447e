"""Colours and patterns of synthetic pictures: the ground, the shapes on it, light and noise."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from detzoo.data.stamps import Array, Stamp

PATTERNS = ("flat", "gradient", "stripes", "checks", "clouds", "dots")

Rng = np.random.Generator


def _colour(rng: Rng, saturation: tuple[float, float], value: tuple[float, float]) -> Array:
    """RGB in 0..255, float32."""
    hsv = rng.random(), rng.uniform(*saturation), rng.uniform(*value)
    return np.array(colorsys.hsv_to_rgb(*hsv), np.float32) * 255


def _pattern(
    rng: Rng, height: int, width: int, period: tuple[float, float], kinds: Sequence[str] = PATTERNS
) -> Array:
    """(height, width, 1) float32 in [0, 1]; the period is in pixels."""
    kind = kinds[rng.integers(len(kinds))]
    angle, wave = rng.uniform(0, 2 * math.pi), rng.uniform(*period)
    turn = 2 * math.pi / wave
    y = np.arange(height, dtype=np.float32)[:, None]
    x = np.arange(width, dtype=np.float32)
    u = x * math.cos(angle) + y * math.sin(angle)  # along and across the pattern
    v = y * math.cos(angle) - x * math.sin(angle)
    if kind == "flat":
        values = np.zeros_like(u)
    elif kind == "gradient":
        values = (u - u.min()) / max(float(np.ptp(u)), 1e-6)
    elif kind == "stripes":
        values = 0.5 + 0.5 * np.sin(u * turn)
    elif kind == "checks":
        values = np.sin(u * turn) * np.sin(v * turn) > 0
    elif kind == "dots":
        values = np.cos(u * turn) + np.cos(v * turn) > 0.9
    else:
        cells = max(2, round(height / wave)), max(2, round(width / wave))
        coarse = Image.fromarray((rng.random(cells) * 255).astype(np.uint8))
        values = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) / 255
    return values.astype(np.float32)[..., None]


def paint_ground(rng: Rng, size: int, difficulty: float) -> Array:
    """(size, size, 3) float32: muted colours, two patterns; no dots, which would be circles."""
    first = _colour(rng, (0.05, 0.5), (0.2, 0.95))
    canvas = np.broadcast_to(first, (size, size, 3)).copy()
    for _ in range(2):
        strength = difficulty * rng.uniform(0.3, 1.0)
        mix = strength * _pattern(rng, size, size, (size / 16, size / 3), PATTERNS[:-1])
        canvas += mix * (_colour(rng, (0.05, 0.5), (0.2, 0.95)) - canvas)
    return canvas


def fill_stamp(rng: Rng, canvas: Array, new: Stamp, difficulty: float) -> None:
    """Colour a stamp to contrast with what is under it, and paint it on the canvas."""
    under = canvas[new.rows, new.columns]
    weight = new.alpha[..., None]
    around = (under * weight).sum((0, 1)) / max(float(weight.sum()), 1e-6)
    wanted = 150 - 90 * difficulty
    options = []
    for _ in range(6):
        main = _colour(rng, (0.2, 1.0), (0.15, 1.0))
        options.append((float(np.linalg.norm(main - around)), main))
        if options[-1][0] >= wanted:
            break
    else:
        main = max(options, key=lambda option: option[0])[1]
    # The second colour goes on in the same direction from the ground, or half way to any other.
    second = np.clip(main + 0.6 * (main - around) + rng.uniform(-60, 60, 3), 0, 255)
    mix = rng.uniform(0.2, 1.0) * _pattern(rng, *new.alpha.shape, (4, 12))
    under += weight * (main + mix * (second.astype(np.float32) - main) - under)


def draw_distractor(rng: Rng, canvas: Array) -> None:
    """A stroke, an open arc or a lump: a distractor of no class."""
    height, width = canvas.shape[:2]
    s = 2
    mask = Image.new("L", (width * s, height * s))
    draw = ImageDraw.Draw(mask)
    kind = rng.integers(3)
    x, y = rng.uniform(0, width * s), rng.uniform(0, height * s)
    radius = width * s * math.exp(rng.uniform(math.log(0.05), math.log(0.25)))
    thick = max(2, round(width * s * rng.uniform(0.008, 0.025)))
    if kind == 0:
        steps = rng.uniform(-radius, radius, (int(rng.integers(1, 4)), 2)).cumsum(0)
        points = [(x, y), *((x + a, y + b) for a, b in steps.tolist())]
        draw.line(points, fill=255, width=thick, joint="curve")
    elif kind == 1:
        start = rng.uniform(0, 360)
        box = (x - radius, y - radius, x + radius, y + radius)
        draw.arc(box, start, start + rng.uniform(60, 200), fill=255, width=thick)
    else:
        turn = np.linspace(0, 2 * math.pi, 40, endpoint=False)
        reach = 1 + sum(
            rng.uniform(0.15, 0.35) * np.cos(k * turn + rng.uniform(0, 6.3)) for k in (2, 3)
        )
        lump = np.stack([x + radius * reach * np.cos(turn), y + radius * reach * np.sin(turn)], 1)
        draw.polygon([tuple(p) for p in lump.tolist()], fill=255)
    mask = mask.reduce(s)
    box = mask.getbbox()
    if box is not None:
        alpha = np.asarray(mask.crop(box), np.float32)[..., None] / 255 * rng.uniform(0.5, 1.0)
        under = canvas[box[1] : box[3], box[0] : box[2]]
        under += alpha * (_colour(rng, (0.05, 0.8), (0.15, 1.0)) - under)


def finish(rng: Rng, canvas: Array, difficulty: float) -> Array:
    """Light that falls off to one side, some blur, some noise; uint8."""
    size = canvas.shape[0]
    if rng.random() < 0.5 * difficulty:
        image = Image.fromarray(canvas.clip(0, 255).astype(np.uint8))
        blur = ImageFilter.GaussianBlur(size / 128 * rng.uniform(0.3, 0.9))
        canvas = np.asarray(image.filter(blur), np.float32)
    if rng.random() < difficulty:
        sigma = 16 * difficulty * rng.random()
        canvas = canvas + sigma * rng.standard_normal(canvas.shape, dtype=np.float32)
    return canvas.clip(0, 255).round().astype(np.uint8)
