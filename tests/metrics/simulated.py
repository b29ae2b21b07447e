"""Match tables of made-up detectors, whose AP on endless data is known by simulation."""

from __future__ import annotations

import numpy as np

from detzoo.metrics.bootstrap import Matches
from detzoo.metrics.coco import IOU_THRESHOLDS


def scenes(
    draw: np.random.Generator,
    images: int,
    classes: int = 2,
    group: np.ndarray | None = None,
    within: float = 0.2,
) -> dict[str, np.ndarray]:
    """What is there to be found: boxes of images that are easy or hard for any detector.

    group: (I,) int64, whose images are about as easy as one another, `within` their deviation.
    """
    count = draw.poisson(4, images)
    image = np.repeat(np.arange(images), count)
    if group is None:
        ease = draw.normal(0, 0.7, images)
    else:
        ease = draw.normal(0, 0.7, group.max() + 1)[group] + draw.normal(0, within, images)
    label = draw.choice(classes, len(image), p=np.arange(classes, 0, -1) / sum(range(classes + 1)))
    return {"image": image, "label": label, "ease": ease, "own": draw.normal(0, 0.7, len(image))}


def detect(
    draw: np.random.Generator, scene: dict[str, np.ndarray], skill: float, classes: int = 2
) -> Matches:
    """The match table of a detector of this skill: a box is found if it is easy enough."""
    images = len(scene["ease"])
    quality = skill + scene["ease"][scene["image"]] + scene["own"]
    quality = quality + draw.normal(0, 0.7, len(quality))
    found = quality > -0.5
    iou = 0.5 + 0.5 / (1 + np.exp(-quality[found] + draw.normal(0.3, 0.8, found.sum())))
    sure = 1 / (1 + np.exp(-quality[found] + draw.normal(0, 1, found.sum())))
    false = draw.poisson(3, images)
    image = np.concatenate([scene["image"][found], np.repeat(np.arange(images), false)])
    label = np.concatenate([scene["label"][found], draw.integers(0, classes, false.sum())])
    score = np.concatenate([sure, 1 / (1 + np.exp(-draw.normal(-1, 1, false.sum())))])
    iou = np.concatenate([iou, np.zeros(false.sum())])
    order = np.lexsort((image, -score, label))
    hit = iou[order] >= IOU_THRESHOLDS[:, None]
    positives = np.zeros((classes, images), np.int64)
    np.add.at(positives, (scene["label"], scene["image"]), 1)
    return Matches(label[order], image[order], score[order], hit, ~hit, positives)


def copied(table: Matches, copies: int) -> Matches:
    """Every image that many times, all of its copies in one group."""
    which = np.repeat(np.arange(len(table.label)), copies)
    image = table.image[which] * copies + np.tile(np.arange(copies), len(table.label))
    score, label = table.score[which], table.label[which]
    order = np.lexsort((image, -score, label))
    return Matches(
        label[order],
        image[order],
        score[order],
        table.hit[:, which][:, order],
        table.miss[:, which][:, order],
        np.repeat(table.positives, copies, axis=1),
        np.repeat(np.arange(table.images), copies),
    )
