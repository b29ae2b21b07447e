"""The detectors to explain, and what each of them finds in an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import detzoo
from detzoo.detector import Detector
from detzoo.engine.folding import unfold
from detzoo.engine.precision import autocast, choose_channels_last, choose_precision, prepare
from detzoo.explain.target import SAME
from detzoo.imagefile import ImageFile
from detzoo.ops.boxes import iou
from detzoo.run_config import EXPORTED, read_run
from detzoo.types import Detections
from detzoo.workflow.thresholds import score_of


@dataclass(frozen=True)
class Contestant:
    """A detector to explain. score: threshold from which an object counts as found. label, seed: of
    its training; the name distinguishes several of one label."""

    name: str
    detector: Detector
    score: float
    label: str = ""
    seed: int = 0

    @cached_property
    def fast(self) -> Detector:
        """A copy that computes as `evaluate` does: folded, in the precision that the device is
        fastest in. For scores alone; what is explained are the layers of `detector`."""
        device = next(self.detector.parameters()).device
        copied = prepare(
            deepcopy(self.detector), device, choose_channels_last(device), inference=True
        )
        copied.network = _Autocast(copied.network, device, choose_precision(device))
        return copied


@dataclass(frozen=True)
class _Autocast:
    """A detector's `network`, whose pixels are float32, in a precision of its own."""

    network: Callable[..., Any]
    device: torch.device
    precision: str

    def __call__(self, *arguments: Any) -> Any:
        with autocast(self.device, self.precision):
            return self.network(*arguments)


@dataclass(frozen=True)
class Found:
    """An object of one image. by: detector -> (its detections, index of the one on the object)."""

    image: ImageFile
    label: int
    box: Tensor
    by: Mapping[str, tuple[Detections, int]]


def contestants(paths: Sequence[Path], device: torch.device) -> list[Contestant]:
    """The detectors of the runs, as `names_of` calls them; with unfolded layers, which are what is
    explained. A run's exported network is left out: it has no gradients, and is the same."""
    found: list[Contestant] = []
    classes = None
    read = {path: read_run(path, data=False) for path in paths}
    read = {path: settings for path, settings in read.items() if EXPORTED not in settings}
    if not read:
        raise ValueError(
            f"{paths[0]} is computed by another program, which gives no gradients: name the run "
            "that was exported"
        )
    names = names_of(list(read), [str(settings["label"]) for settings in read.values()])
    for (path, settings), name in zip(read.items(), names, strict=True):
        label = str(settings["label"])
        detector = detzoo.load(path, device)
        unfold(detector)
        classes = classes or detector.class_names
        if detector.class_names != classes:
            raise ValueError(
                f"{path} has other classes than {paths[0]}; one page is of one data set's detectors"
            )
        score, seed = score_of(path)[0], int(settings["seed"])
        found.append(Contestant(name, detector, score, label, seed))
    return found


def names_of(paths: Sequence[Path], labels: Sequence[str]) -> list[str]:
    """A name for each run: its label; for labels shared by runs of several folders FOLDER/LABEL,
    and the directory's name where these are shared too."""
    absolute = [path.resolve() for path in paths]
    forms = (
        list(labels),
        [f"{path.parent.name}/{label}" for path, label in zip(absolute, labels, strict=True)],
        [path.name for path in absolute],
    )
    return [
        next((form[i] for form in forms if form.count(form[i]) == 1), forms[-1][i])
        for i in range(len(paths))
    ]


def by_seed(asked: Sequence[Contestant]) -> dict[int, list[Contestant]]:
    """Training seed -> its detectors, under their labels; all in one where these differ by seed."""
    found: dict[int, list[Contestant]] = {}
    for one in asked:
        found.setdefault(one.seed, []).append(one)
    labels = [sorted(one.label for one in some) for some in found.values()]
    if len(found) == 1 or any(of != labels[0] or len(set(of)) < len(of) for of in labels):
        return {0: list(asked)}
    return {seed: [replace(one, name=one.label) for one in some] for seed, some in found.items()}


def pairs(found: Found, asked: int) -> int:
    """Pairs of detectors where only one finds the object."""
    return len(found.by) * (asked - len(found.by))


def most_disputed(found: Sequence[Sequence[Found]], asked: int) -> list[Found]:
    """The objects of several images: by how disputed they are, and one of each image in turn."""
    places = [
        (-pairs(one, asked), turn, image, one)
        for image, objects in enumerate(found)
        for turn, one in enumerate(sorted(objects, key=lambda one: -pairs(one, asked)))
    ]
    return [one for *_, one in sorted(places, key=lambda place: place[:3])]


def objects_of(asked: Sequence[Contestant], image: ImageFile) -> list[Found]:
    """The objects that any detector finds in an image at its own threshold, each once.

    Detections of one label whose IoU with the best scored of them is SAME or more are one object.
    """
    by = {c.name: c.detector.predict(image, score_threshold=c.score) for c in asked}
    left = [
        (float(found.scores[i]), name, i) for name, found in by.items() for i in range(len(found))
    ]
    objects: list[Found] = []
    for _, name, i in sorted(left, key=lambda row: -row[0]):
        box, label = by[name].boxes[i], int(by[name].labels[i])
        for one in objects:
            if one.label == label and float(iou(one.box[None], box[None])) >= SAME:
                one.by.setdefault(name, (by[name], i))  # the best scored comes first
                break
        else:
            objects.append(Found(image, label, box, {name: (by[name], i)}))
    return objects
