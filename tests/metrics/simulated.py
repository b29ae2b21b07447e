"""Match tables of made-up detectors, whose AP on endless data is known by simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from detzoo.metrics.bootstrap import Matches, over_classes, precision_and_recall
from detzoo.metrics.coco import IOU_THRESHOLDS
from detzoo.metrics.samples import Samples


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


def sizes(draw: np.random.Generator, groups: int, equal: bool) -> np.ndarray:
    """(G,) images of each group: 8, or log-normal with a median of 4."""
    if equal:
        return np.full(groups, 8)
    return np.maximum(1, np.round(np.exp(draw.normal(np.log(4), 1, groups)))).astype(int)


def ap_at_three(table: Matches, sets: np.ndarray) -> np.ndarray:
    """(1 + S,) AP at three thresholds, to be quick."""
    few = replace(table, hit=table.hit[::4], miss=table.miss[::4])
    return over_classes(precision_and_recall(few, sets)[0]).mean(axis=1)


def ap_of_all(equal: bool, groups: int = 2500, times: int = 6) -> float:
    """The AP of the detector on enough groups to be practically exact."""
    found = []
    for seed in range(times):
        draw = np.random.default_rng(seed)
        group = np.repeat(np.arange(groups), sizes(draw, groups, equal))
        table = detect(draw, scenes(draw, len(group), group=group), 0.3)
        found.append(ap_at_three(table, np.ones((1, len(group)), int))[0])
    return float(np.mean(found))


def covered(groups: int, trials: int, *, equal: bool, known: float) -> dict[str, float]:
    """The share of `trials` sets of that many groups whose 95% interval contains `known`: by groups
    as detzoo has it, by groups without its widening, and by images."""
    held: dict[str, list[bool]] = {"Student": [], "percentile": [], "images": []}
    for seed in range(trials):
        draw = np.random.default_rng(1000 * groups + seed)
        group = np.repeat(np.arange(groups), sizes(draw, groups, equal))
        table = detect(draw, scenes(draw, len(group), group=group), 0.3)
        together, alone = replace(table, group=group), table
        by_group = ap_at_three(together, together.sets(300, seed + 500_000))
        by_image = ap_at_three(alone, alone.sets(300, seed))
        for name, samples in (
            ("Student", Samples.from_values(by_group, together.units)),
            ("percentile", Samples.from_values(by_group)),
            ("images", Samples.from_values(by_image, alone.units)),
        ):
            low, high = samples.interval()
            held[name].append(low <= known <= high)
    return {name: float(np.mean(of)) for name, of in held.items()}
