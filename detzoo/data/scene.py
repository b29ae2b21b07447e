"""One synthetic picture: shapes on a textured ground, with their boxes.

What tells the classes apart is outline alone: colour, texture, size, aspect and rotation are drawn
from the same distributions for all of them. Everything comes from one generator, so a scene is a
pure function of its parameters and of that generator's seed.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from detzoo.data.marks import lay_mark

CLASSES = ("circle", "square", "triangle", "star", "cross", "ring")
SUPERSAMPLING = 4
MAX_ASPECT = 3.0
MAX_HIDDEN = 0.5  # of an object, by those drawn over it and by the image's border together
ATTEMPTS = 12  # at placing one object before it is left out

Array = np.ndarray
Rng = np.random.Generator


@dataclass(frozen=True)
class Scene:
    """pixels: (H, W, 3) uint8. boxes: xyxy of the objects' full extent inside the image."""

    pixels: Array
    boxes: list[tuple[float, float, float, float]]
    labels: list[int]
    crowd: list[bool]


@dataclass(frozen=True)
class Stamp:
    """A drawn outline: alpha (h, w) float32 in [0, 1] at rows and columns of the image."""

    alpha: Array
    rows: slice
    columns: slice
    inside: float  # the part of its area that lies inside the image
    box: tuple[float, float, float, float]


def paint(
    rng: Rng,
    *,
    size: int,
    objects: tuple[int, int],
    min_size: float,
    difficulty: float,
    crowd_rate: float,
    empty_rate: float,
    classes: Sequence[int] = tuple(range(len(CLASSES))),
    marked: int | None = None,
) -> Scene:
    """A square scene of `size` pixels with objects[0] to objects[1] objects, all numbers alike.

    min_size: the smallest longer side before rotation; the largest is half of `size`. difficulty:
    0 (upright and not stretched, plain ground, full contrast, no distractors, blur or noise) to 1;
    from 0.5 on forms are turned by any angle and stretched up to 1:3. crowd_rate, empty_rate: the
    parts of all scenes with a crowd region and without objects (the latter where objects[0] is 0).
    classes: those that are drawn, by their place in CLASSES; marked: the one of them beside whose
    objects a mark is laid (`detzoo.data.marks`), over an image that is otherwise the same.
    """
    low, high = objects
    canvas = _ground(rng, size, difficulty)
    for _ in range(rng.poisson(4 * difficulty)):
        _distract(rng, canvas)
    count = int(rng.integers(max(low, 1), high + 1))
    if low == 0 and rng.random() < empty_rate:
        count = 0
    boxes, labels, crowd = [], [], []
    covered: list[list] = []  # per object: stamp, its alpha still to be seen, half of its area
    if count and rng.random() < crowd_rate:
        box, label = _crowd(rng, canvas, min_size, difficulty, classes)
        boxes.append(box)
        labels.append(label)
        crowd.append(True)
        count = min(count, 3)
    # The larger ones first, so that the smaller ones are not buried.
    sides = np.exp(rng.uniform(math.log(min_size), math.log(size / 2), count))
    for side in sorted(sides, reverse=True):
        label = classes[int(rng.integers(len(classes)))]
        stamp = _place(
            rng, label, side, min_size, difficulty, canvas, covered, boxes if any(crowd) else []
        )
        if stamp is not None:
            _fill(rng, canvas, stamp, difficulty)
            boxes.append(stamp.box)
            labels.append(label)
            crowd.append(False)
    for box, label, many in zip(boxes, labels, crowd, strict=True):
        if label == marked and not many:
            lay_mark(canvas, box)
    return Scene(_finish(rng, canvas, difficulty), boxes, labels, crowd)


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


def _place(
    rng: Rng,
    label: int,
    side: float,
    min_size: float,
    difficulty: float,
    canvas: Array,
    covered: list[list],
    kept_free: list[tuple[float, float, float, float]],
) -> Stamp | None:
    """A stamp that hides no more than half of any object; None if no attempt found one."""
    height, width = canvas.shape[:2]
    freedom = min(1.0, 2 * difficulty)  # of the form: any turn and any aspect from 0.5 on
    aspect = math.exp(rng.uniform(0, freedom * math.log(MAX_ASPECT)))
    short = max(side / aspect, min(side, 0.8 * min_size))  # thinner ones could not be told apart
    sides = (side, short) if rng.random() < 0.5 else (short, side)
    for _ in range(ATTEMPTS):
        centre = (rng.uniform(0, width), rng.uniform(0, height))
        new = stamp(label, centre, sides, freedom * rng.uniform(-math.pi, math.pi), (height, width))
        if new is None or new.inside < 1 - MAX_HIDDEN / 2:
            continue
        if any(_touch(new.box, box) for box in kept_free[:1]):
            continue
        left = [seen[new.rows, new.columns] * (1 - new.alpha) for _, seen, _ in covered]
        if all(
            seen.sum() - seen[new.rows, new.columns].sum() + rest.sum() >= least
            for (_, seen, least), rest in zip(covered, left, strict=True)
        ):
            for (_, seen, _), rest in zip(covered, left, strict=True):
                seen[new.rows, new.columns] = rest
            seen = np.zeros((height, width), np.float32)
            seen[new.rows, new.columns] = new.alpha
            covered.append([new, seen, seen.sum() / new.inside * (1 - MAX_HIDDEN)])
            return new
    return None


def _touch(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _crowd(
    rng: Rng, canvas: Array, min_size: float, difficulty: float, classes: Sequence[int]
) -> tuple[tuple[float, float, float, float], int]:
    """Many small objects of one class, heaped so that nobody would box them one by one."""
    height, width = canvas.shape[:2]
    label = classes[int(rng.integers(len(classes)))]
    extent = np.array([width, height]) * rng.uniform(0.25, 0.4, 2)
    corner = rng.uniform(0, 1, 2) * (np.array([width, height]) - extent)
    drawn = []
    for _ in range(int(rng.integers(14, 24))):
        side = min_size * rng.uniform(0.8, 1.3)
        place = corner + rng.uniform(0, 1, 2) * extent
        new = stamp(label, tuple(place), (side, side), rng.uniform(0, 6.3), (height, width))
        if new is not None:
            _fill(rng, canvas, new, difficulty)
            drawn.append(new.box)
    array = np.array(drawn)
    return (*array[:, :2].min(0).tolist(), *array[:, 2:].max(0).tolist()), label


def _colour(rng: Rng, saturation: tuple[float, float], value: tuple[float, float]) -> Array:
    """RGB in 0..255, float32."""
    hsv = rng.random(), rng.uniform(*saturation), rng.uniform(*value)
    return np.array(colorsys.hsv_to_rgb(*hsv), np.float32) * 255


PATTERNS = ("flat", "gradient", "stripes", "checks", "clouds", "dots")


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


def _ground(rng: Rng, size: int, difficulty: float) -> Array:
    """(size, size, 3) float32: muted colours, two patterns; no dots, which would be circles."""
    first = _colour(rng, (0.05, 0.5), (0.2, 0.95))
    canvas = np.broadcast_to(first, (size, size, 3)).copy()
    for _ in range(2):
        strength = difficulty * rng.uniform(0.3, 1.0)
        mix = strength * _pattern(rng, size, size, (size / 16, size / 3), PATTERNS[:-1])
        canvas += mix * (_colour(rng, (0.05, 0.5), (0.2, 0.95)) - canvas)
    return canvas


def _fill(rng: Rng, canvas: Array, new: Stamp, difficulty: float) -> None:
    """Colour a stamp so that it stands out from what is under it, and lay it on the canvas."""
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


def _distract(rng: Rng, canvas: Array) -> None:
    """A stroke, an open arc or a lump: something drawn that is none of the classes."""
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


def _finish(rng: Rng, canvas: Array, difficulty: float) -> Array:
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
