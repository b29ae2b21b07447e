"""Where to look: images on which detectors disagree, worst misses, most confident false alarms.

All at IoU 0.50, over the detections at or above each detector's own threshold.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from PIL import Image

from detzoo.metrics.errors import FALSE_ALARMS, classify_errors
from detzoo.metrics.matching import assign, overlaps
from detzoo.report.analysis.detectors import Detail
from detzoo.report.figures.fonts import legend, replace_name
from detzoo.report.figures.palette import Style
from detzoo.report.images.drawing import TRUTH, Box, as_uri, draw
from detzoo.report.images.photographs import photograph, showable
from detzoo.report.images.side_by_side import Gallery, Strip, Tile
from detzoo.report.load.values import clean, shorten

EACH = 3  # misses, and false alarms, of a detector
AROUND = 2.4  # sides of a close-up over the longer side of its box
LIES_ON = 0.1  # IoU, TIDE's limit between background and a badly placed box
LEAST = 40  # pixels that it shows at least


def found_boxes(detail: Detail) -> np.ndarray:
    """(G,) bool: the boxes that the detector finds; a crowd is never found."""
    problem = detail.problem.above(detail.score)
    taken = assign(problem, overlaps(problem, 0.5), np.array([0.5]))[0]
    found = np.zeros(len(problem.boxes), bool)
    found[taken[taken >= 0]] = True
    return found & ~problem.crowd


def disagreement(details: Mapping[str, Detail]) -> np.ndarray:
    """(I,) int64: the number of detector pairs where only one finds a box, summed over the boxes of
    each image."""
    first = next(iter(details.values())).problem
    finders = np.sum([found_boxes(detail) for detail in details.values()], axis=0)
    pairs = np.where(first.crowd, 0, finders * (len(details) - finders))
    return np.bincount(first.box_image, pairs, len(first.image_ids)).astype(np.int64)


def find_disputed(
    details: Mapping[str, Detail], count: int, among: Collection[int] | None = None
) -> list[int]:
    """The ids of the images with the largest disagreement, none without any. among: these alone."""
    if len(details) < 2:
        return []
    ids = next(iter(details.values())).problem.image_ids
    of = np.where(_showable(ids, among), disagreement(details), 0)
    return [int(ids[i]) for i in np.argsort(-of, kind="stable")[:count] if of[i]]


def _showable(ids: np.ndarray, among: Collection[int] | None) -> np.ndarray:
    """(I,) bool: the images that may be shown."""
    return np.ones(len(ids), bool) if among is None else np.isin(ids, list(among))


def misses(
    details: Mapping[str, Detail],
    name: str,
    count: int = EACH,
    among: Collection[int] | None = None,
) -> list[tuple[int, int]]:
    """(box, how many other detectors find it) of the worst misses: those that most others find
    first, among these the largest. among: the ids of the images that may be shown, None for all."""
    finders = np.sum([found_boxes(detail) for detail in details.values()], axis=0)
    problem, found = details[name].problem, found_boxes(details[name])
    shown = _showable(problem.image_ids, among)[problem.box_image]
    lost = np.flatnonzero(~found & ~problem.crowd & shown)
    order = lost[np.lexsort((lost, -problem.area[lost], -finders[lost]))][:count]
    return [(int(box), int(finders[box])) for box in order]


def overlapping_detections(detail: Detail, box: int) -> list[int]:
    """The detections at or above the threshold that overlap the box, of any class, best first."""
    problem = detail.problem
    pairs = overlaps(problem, LIES_ON, across=True)
    near = pairs.detection[pairs.box == box]
    near = near[problem.score[near] >= detail.score]
    return near[np.argsort(-problem.score[near], kind="stable")].tolist()


def false_alarms(
    detail: Detail, count: int = EACH, among: Collection[int] | None = None
) -> list[tuple[int, str]]:
    """(detection, kind of error) of the best scored false alarms, one an image; among: as above."""
    problem, of = detail.problem, classify_errors(detail.problem)
    shown = _showable(problem.image_ids, among)[problem.image]
    wrong = np.flatnonzero((of.kind >= 0) & shown)
    wrong = wrong[np.argsort(-problem.score[wrong], kind="stable")]
    _, first = np.unique(problem.image[wrong], return_index=True)
    return [(int(d), FALSE_ALARMS[of.kind[d]]) for d in wrong[np.sort(first)[:count]]]


def close_ups(
    truth: Mapping[str, Any],
    details: Mapping[str, Detail],
    styles: Mapping[str, Style],
    *,
    side: int = 220,
    quality: int = 80,
) -> Gallery:
    """A strip for each detector: its false alarms, then its misses.

    Of the images that can be shown. side: of a tile in pixels.
    """
    among = showable(truth)
    records = {record.get("id"): record for record in truth["images"]}
    strips = []
    for name, detail in details.items():
        problem, colour = detail.problem, styles[name].colour
        tiles = []
        for detection, kind in false_alarms(detail, among=among):
            image = int(problem.image[detection])
            alarm = _detected(detail, detection, colour)
            caption = f"false alarm: {alarm.text}, {kind}"
            shown = [alarm, *_true(detail, image, plain=True)]
            record = records[int(problem.image_ids[image])]
            tiles.append(_tile(truth, record, alarm, shown, caption, colour, side, quality))
        for box, finders in misses(details, name, among=among):
            image = int(problem.box_image[box])
            lost = _box(detail, box)
            shown = [
                lost,
                *(_detected(detail, d, colour) for d in overlapping_detections(detail, box)),
            ]
            others = (
                f", found by {finders} of {len(details) - 1} others" if len(details) > 1 else ""
            )
            record = records[int(problem.image_ids[image])]
            caption = f"missed: {lost.text}{others}"
            tiles.append(_tile(truth, record, lost, shown, caption, colour, side, quality))
        if tiles:
            strips.append(Strip(name, tuple(tiles)))
    return Gallery(strips, [numbers] if (numbers := legend(_names(truth))) else [])


def _names(truth: Mapping[str, Any]) -> list[str]:
    """The classes as they are written on a tile, in the order of their ids."""
    categories = sorted(truth["categories"], key=lambda category: category["id"])
    return [shorten(str(category["name"]), 22) for category in categories]


def _detected(detail: Detail, detection: int, colour: str) -> Box:
    problem = detail.problem
    name = shorten(problem.class_names[problem.label[detection]], 22)
    text = f"{name} {problem.score[detection]:.2f}"
    return Box(_xyxy(problem.detections[detection]), text, colour=colour)


def _box(detail: Detail, box: int, plain: bool = False) -> Box:
    problem = detail.problem
    name = "" if plain else shorten(problem.class_names[problem.box_label[box]], 22)
    return Box(_xyxy(problem.boxes[box]), name, bool(problem.crowd[box]), TRUTH)


def _true(detail: Detail, image: int, plain: bool) -> list[Box]:
    where = np.flatnonzero(detail.problem.box_image == image)
    return [_box(detail, int(box), plain) for box in where]


def _xyxy(box: np.ndarray) -> tuple[float, float, float, float]:
    x, y, w, h = (float(v) for v in box)
    return x, y, x + w, y + h


def _tile(
    truth: Mapping[str, Any],
    record: Mapping[str, Any],
    about: Box,
    boxes: list[Box],
    caption: str,
    colour: str,
    side: int,
    quality: int,
) -> Tile:
    caption = f"{caption}; {clean(record.get('file_name', record.get('id')), 200)}"
    found = photograph(truth, record)
    if isinstance(found, str):
        return Tile(caption, colour, note=found)
    (width, height), image = found.size, found.image
    left, top, size = window(about.xyxy, found.size)
    right, bottom = min(left + size, width), min(top + size, height)
    scale = side / size
    grown = (max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale)))
    x, y = image.width / width, image.height / height  # a kept one is smaller
    box = (left * x, top * y, right * x, bottom * y)
    part = image.resize(grown, Image.Resampling.LANCZOS, box=box)
    names = _names(truth)
    inside = []
    for box in boxes:
        x1, y1, x2, y2 = box.xyxy
        if x1 < right and x2 > left and y1 < bottom and y2 > top:
            moved = (x1 - left, y1 - top, x2 - left, y2 - top)
            inside.append(Box(moved, replace_name(box.text, names), box.crowd, box.colour))
    drawn = draw(part, inside, factor=(scale, scale), size=14)
    return Tile(caption, colour, as_uri(drawn, quality))


def window(box: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[int, int, int]:
    """(left, top, side) of a square around the box, shifted into the image where possible."""
    x1, y1, x2, y2 = box
    side = max(LEAST, round(AROUND * max(x2 - x1, y2 - y1)))
    side = min(side, max(size))
    corner = ((x1 + x2 - side) / 2, (y1 + y2 - side) / 2)
    left, top = (
        round(min(max(0, c), max(0, length - side))) for c, length in zip(corner, size, strict=True)
    )
    return left, top, side
