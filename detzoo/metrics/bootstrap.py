"""How sure an average precision is: the bootstrap over images, exact to the metric.

A resample draws as many images as there are, with replacement, and is scored as COCO scores a set
in which an image that was drawn m times stands m times. Matching detections to boxes happens within
an image, so it is done once; a resample only repeats and ranks the rows of the match table.

Letters: I images, T = 10 IoU thresholds, D detections and G boxes of one image and class, N
detections of one class in all images, S resamples.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask
from tqdm import tqdm

from detzoo.metrics.coco import IOU_THRESHOLDS, checked

METHOD = "percentile bootstrap over images, {n} resamples"
NAMES = ("AP", "AP50", "AP75")
RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class ClassMatches:
    """What became of the detections of one class, ordered by score, best first, ties by image.

    image: (N,) int64 index of the image. group: (N,) int64, equal where score and image are equal.
    hit, miss: (T, N) bool; what lies on a crowd is neither. positives: (I,) int64 boxes to find.
    """

    image: np.ndarray
    group: np.ndarray
    hit: np.ndarray
    miss: np.ndarray
    positives: np.ndarray


def interval(
    gt: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    *,
    n: int = 200,
    seed: int = 0,
    level: float = 0.95,
    max_dets: int = 100,
    progress: bool = False,
) -> dict[str, list[float] | None]:
    """{"AP": [low, high], "AP50": ..., "AP75": ...}; None where no resample has any box.

    `level` of the resamples lie within. The same seed draws the same images for any detector.
    """
    matches = match(gt, results, max_dets=max_dets)
    samples = resample(matches, n=n, seed=seed, progress=progress)
    return {name: _percentiles(samples[:, i], level) for i, name in enumerate(NAMES)}


def difference(
    gt: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    others: Sequence[Mapping[str, Any]],
    *,
    n: int = 200,
    seed: int = 0,
    level: float = 0.95,
    max_dets: int = 100,
) -> dict[str, list[float] | None]:
    """The paired test: the interval of `results` minus `others`, both on the same resamples.

    Where the interval holds 0 the two cannot be told apart on these images.
    """
    first, second = (
        resample(match(gt, found, max_dets=max_dets), n=n, seed=seed) for found in (results, others)
    )
    return {name: _percentiles(first[:, i] - second[:, i], level) for i, name in enumerate(NAMES)}


def match(
    gt: Mapping[str, Any], results: Sequence[Mapping[str, Any]], *, max_dets: int = 100
) -> list[ClassMatches]:
    """The match tables, one per class in the order of category ids; images in the order of ids."""
    truth, found = checked(gt, results)
    image_ids = sorted(image["id"] for image in truth["images"])
    boxes: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    detections: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for annotation in truth["annotations"]:
        boxes[annotation["category_id"], annotation["image_id"]].append(annotation)
    for result in found:
        detections[result["category_id"], result["image_id"]].append(result)

    tables = []
    for category in sorted(category["id"] for category in truth["categories"]):
        images, scores, hits, misses = [], [], [], []
        positives = np.zeros(len(image_ids), np.int64)
        for index, image_id in enumerate(image_ids):
            here = boxes.get((category, image_id), [])
            positives[index] = sum(not box["iscrowd"] for box in here)
            ranked = sorted(detections.get((category, image_id), []), key=lambda d: -d["score"])
            ranked = ranked[:max_dets]
            if ranked:
                hit, miss = _match_image(here, ranked)
                hits.append(hit)
                misses.append(miss)
                scores += [detection["score"] for detection in ranked]
                images += [index] * len(ranked)
        order = np.argsort(-np.array(scores, np.float64), kind="stable")
        image = np.array(images, np.int64)[order]
        score = np.array(scores, np.float64)[order]
        new = (np.diff(score, prepend=np.nan) != 0) | (np.diff(image, prepend=-1) != 0)
        tables.append(
            ClassMatches(
                image,
                np.cumsum(new),
                np.concatenate([np.zeros((10, 0), bool), *hits], axis=1)[:, order],
                np.concatenate([np.zeros((10, 0), bool), *misses], axis=1)[:, order],
                positives,
            )
        )
    return tables


def average_precision(matches: Sequence[ClassMatches], counts: np.ndarray) -> np.ndarray:
    """(3,) float64 AP, AP50, AP75 of the set in which image i stands counts[i] times.

    counts: (I,) int64. NaN where that set has no box to be found.
    """
    curves = [
        precision for table in matches if (precision := _precision(table, counts)) is not None
    ]  # (T,) each
    if not curves:
        return np.full(3, np.nan)
    per_threshold = np.mean(curves, axis=0)
    return np.array([per_threshold.mean(), per_threshold[0], per_threshold[5]])


def resample(
    matches: Sequence[ClassMatches], *, n: int = 200, seed: int = 0, progress: bool = False
) -> np.ndarray:
    """(S, 3) float64 AP, AP50, AP75 of `n` resamples; a bar on a terminal when `progress`."""
    if n < 1:
        raise ValueError(f"n is {n}; a bootstrap needs at least one resample")
    images = len(matches[0].positives)
    generator = np.random.default_rng(seed)
    draws = (
        np.bincount(generator.integers(images, size=images), minlength=images) for _ in range(n)
    )
    shown = tqdm(draws, "bootstrap", total=n, leave=False, disable=None if progress else True)
    return np.stack([average_precision(matches, counts) for counts in shown])


def _match_image(
    boxes: list[dict[str, Any]], detections: list[dict[str, Any]]
) -> tuple[np.ndarray, np.ndarray]:
    """(T, D) bool hits and misses of one image and class; detections best first.

    COCO's rule: in order of score, a detection takes the box with the largest IoU among those still
    free, the last one of equals; failing that it may lie on a crowd, which is never used up.
    """
    hit = np.zeros((10, len(detections)), bool)
    if not boxes:
        return hit, ~hit
    crowd = np.array([bool(box["iscrowd"]) for box in boxes])
    iou = mask.iou(
        [detection["bbox"] for detection in detections],
        [box["bbox"] for box in boxes],
        [box["iscrowd"] for box in boxes],
    )  # (D, G); for a crowd the share of the detection that lies on it
    thresholds = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)
    on_crowd = iou[:, crowd].max(axis=1, initial=0)[None] >= thresholds[:, None]  # (T, D)
    iou = iou[:, ~crowd]
    last = iou.shape[1] - 1
    taken = np.zeros((10, last + 1), bool)
    for d in np.flatnonzero(iou.max(axis=1, initial=0) >= thresholds[0]):
        free = np.where(~taken & (iou[d] >= thresholds[:, None]), iou[d], -1.0)  # (T, G)
        best = last - free[:, ::-1].argmax(axis=1)
        hit[:, d] = free[np.arange(10), best] >= 0
        taken[hit[:, d], best[hit[:, d]]] = True
    return hit, ~hit & ~on_crowd


def _precision(table: ClassMatches, counts: np.ndarray) -> np.ndarray | None:
    """(T,) interpolated precision of one class, mean over 101 recalls; None without a box."""
    positives = int(counts @ table.positives)
    if positives == 0:
        return None
    rows = _repeated(table, counts)
    hits = table.hit[:, rows].cumsum(axis=1)
    misses = table.miss[:, rows].cumsum(axis=1)
    precision = hits / (hits + misses + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    envelope = np.append(envelope, np.zeros((10, 1)), axis=1)  # recalls never reached count as 0
    recall = hits / positives
    at = [envelope[t, recall[t].searchsorted(RECALLS)] for t in range(10)]
    return np.mean(at, axis=1)


def _repeated(table: ClassMatches, counts: np.ndarray) -> np.ndarray:
    """Row numbers of the resampled set in the order in which COCO would rank it."""
    repeats = counts[table.image]
    rows = np.repeat(np.arange(len(repeats)), repeats)
    if len(table.group) and table.group[-1] < len(table.group):
        # Two detections of one image share a score: COCO ranks the copies of the image one after
        # the other (a b a b), not the detections (a a b b).
        copy = np.arange(len(rows)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        rows = rows[np.lexsort((copy, table.group[rows]))]
    return rows


def _percentiles(values: np.ndarray, level: float) -> list[float] | None:
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    return [float(q) for q in np.quantile(values, [(1 - level) / 2, (1 + level) / 2])]
