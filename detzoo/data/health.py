"""`detzoo check`: every problem of a data set, where it is, and what training does about it. The
readers note problems of the annotations. This adds those that only the images show (do they decode,
have they the stated size, are they turned) and those that only all splits together show (copies,
classes without boxes).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from detzoo.data import check_table
from detzoo.data.check_table import CELL
from detzoo.data.dataset import SPLITS, Dataset, Problem, Sample, content_hash
from detzoo.data.image import load_image
from detzoo.data.orientation import measure_orientation
from detzoo.data.source import DataError, Source
from detzoo.imagefile import UNREADABLE, header, needs_turning
from detzoo.progress import track

MOST_NAMES = 20  # of classes in one line
SMALL, MEDIUM = 32**2, 96**2  # COCO's borders between small, medium and large, in square pixels


@dataclass(frozen=True)
class CheckResult:
    """The result of a check. statistics: per split, plain numbers. near_duplicates: pairs of images
    of two splits, {"distance": bits, "images": two of split, file_name, height and width}, where
    they were looked for."""

    name: str
    root: str
    classes: tuple[str, ...]
    statistics: dict[str, dict[str, Any]]
    problems: list[Problem]
    near_duplicates: Sequence[dict[str, Any]] = ()

    @property
    def errors(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.severity == "error"]

    @property
    def warnings(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.severity == "warning"]

    def json(self) -> dict[str, Any]:
        """Everything, as strict JSON takes it."""
        return {
            "name": self.name,
            "root": self.root,
            "classes": list(self.classes),
            "errors": len(self.errors),
            "warnings": len(self.warnings),
            "splits": self.statistics,
            "near_duplicates": list(self.near_duplicates),
            "problems": [asdict(problem) for problem in self.problems],
        }

    def table(self) -> str:
        """Text for a terminal: the numbers, then the problems by kind with the first examples."""
        return check_table.table(self.name, self.root, self.classes, self.statistics, self.problems)


def check(
    source: Source, splits: Sequence[str] = SPLITS, *, decode: bool = True, progress: bool = True
) -> CheckResult:
    """Check every annotation and image of these splits. No content of a data set makes it raise.

    decode: decode every image in full, which is what finds a truncated one; without it only headers
    are read. Kinds named in `source.allow` are warnings here, not errors.
    """
    problems: list[Problem] = []
    datasets: dict[str, Dataset] = {}
    for split in splits:
        try:
            datasets[split] = source.read(split)
        except DataError as error:
            problem = Problem(
                "error", "unreadable split", str(source.root), str(error), "cannot run"
            )
            if problem not in problems:
                problems.append(problem)
    for split, dataset in datasets.items():
        of_images = list(_images(dataset, decode, progress))
        turned_ones = any(problem.kind == "EXIF rotation" for problem in of_images)
        measured = _turned(dataset, source) if decode and turned_ones else ()
        found = [*dataset.problems, *measured, *of_images, *_classes(dataset)]
        problems += (replace(problem, split=split) for problem in found)
    problems += [*_copies(datasets), *_shared_groups(datasets)]
    if len(datasets) == len(splits):
        problems += _unused(source)
    problems = [replace(p, severity="warning") if p.kind in source.allow else p for p in problems]
    statistics = {split: _statistics(dataset) for split, dataset in datasets.items()}
    classes = next(iter(datasets.values())).classes if datasets else ()
    return CheckResult(source.name, str(source.root), classes, statistics, problems)


def _images(dataset: Dataset, decode: bool, progress: bool) -> Iterator[Problem]:
    def look(sample: Sample) -> list[Problem]:
        return list(_image(dataset, sample, decode))

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        found = pool.map(look, dataset.samples)
        name = f"checking {dataset.name} {dataset.split}"
        for some in track(found, name, "images", total=len(dataset), show=progress):
            yield from some


def _image(dataset: Dataset, sample: Sample, decode: bool) -> Iterator[Problem]:
    where = f"{sample.path.relative_to(dataset.root).as_posix()} (id {sample.id})"
    try:
        found = header(sample.path)
        if decode and sorted(found.size) == sorted(sample.size):
            load_image(sample.image)
    except UNREADABLE as error:
        yield Problem("error", "unreadable image", where, str(error), "stops at it")
        return
    turns = needs_turning(found, sample.size, sample.exif)
    shown = found.upright if turns else found.size
    stated, is_ = (f"{w} x {h}" for h, w in (sample.size, found.size))
    if shown != sample.size:
        what = f"the annotation says {stated} (width x height), the image is {is_}"
        if shown != found.size:
            what += f", and {shown[1]} x {shown[0]} when turned as its EXIF tag says"
        yield Problem("error", "size mismatch", where, what, "stops at it")
    elif found.orientation != 1:
        yield Problem(
            "warning",
            "EXIF rotation",
            where,
            f"orientation {found.orientation}; stored as {is_}, annotated as {stated} "
            "(width x height)",
            "turned upright, with its boxes" if turns else "pixels and boxes as stored",
        )


def _turned(dataset: Dataset, source: Source) -> Iterator[Problem]:
    fractions = source.form is not None and source.form.unit is not None
    fit = measure_orientation(dataset.samples, in_fractions=fractions)
    if fit.verdict is None:
        return
    what = (
        f"boxes differ more from what is around them in {fit.as_read} of {fit.images} turned images"
    )
    action = (
        "so they are right" if fit.verdict else f"data.exif={fit.exif} reads them the other way"
    )
    yield Problem(
        "warning",
        "EXIF rotation",
        f"{dataset.name} {dataset.split}",
        f"{what} as they are read, than the other way up",
        action if fit.verdict else f"probably wrong boxes; {action}",
    )


def _unused(source: Source) -> Iterator[Problem]:
    for pattern in source.skip.unused:
        what = f"data.skip names {pattern!r}, which is no image of these splits"
        yield Problem("warning", "unused skip", str(source.root), what, "nothing left out by it")


def _classes(dataset: Dataset) -> Iterator[Problem]:
    counts = _per_class(dataset)
    where = f"{dataset.name} {dataset.split}"
    if not sum(counts.values()):
        what = "not one box that can be used"
        yield Problem("error", "no boxes", where, what, "nothing to learn from or to score against")
        return
    empty = [name for name, count in counts.items() if not count]
    if empty:
        names = ", ".join(empty[:MOST_NAMES])
        more = f" and {len(empty) - MOST_NAMES} more" if len(empty) > MOST_NAMES else ""
        what = f"{names}{more}: no boxes"
        action = "cannot be learnt" if dataset.split == "train" else "n/a, not a part of any mean"
        yield Problem("warning", "empty class", where, what, action)


def _copies(datasets: dict[str, Dataset]) -> Iterator[Problem]:
    places: dict[str, dict[str, Sample]] = {}
    for split, dataset in datasets.items():
        first = places[split] = {}
        for sample in dataset.samples:
            try:
                key = content_hash(sample.path)
            except OSError:
                continue  # reported as unreadable already
            if key in first:
                what = f"the same bytes as {_name(dataset, first[key])}"
                where = _name(dataset, sample)
                yield Problem("warning", "duplicate image", where, what, "both are used")
            first.setdefault(key, sample)
    for one, other in combinations(datasets, 2):
        for key in places[one].keys() & places[other].keys():
            yield Problem(
                "error" if "test" in (one, other) else "warning",
                f"{one}/{other} overlap",
                f"{other}: {_name(datasets[other], places[other][key])}",
                f"the same bytes as {one}'s {_name(datasets[one], places[one][key])}",
                "both are used, so the score flatters",
            )


def _shared_groups(datasets: dict[str, Dataset]) -> Iterator[Problem]:
    """Groups whose images are in two splits, which only published splits can have."""
    members: dict[str, dict[str, list[Sample]]] = {split: {} for split in datasets}
    for split, dataset in datasets.items():
        for sample in dataset.samples if dataset.grouped else ():
            members[split].setdefault(str(sample.group), []).append(sample)
    for one, other in combinations(datasets, 2):
        shared = sorted(members[one].keys() & members[other].keys())
        if not shared:
            continue
        images = sum(len(members[other][group]) for group in shared)
        first = members[one][shared[0]][0], members[other][shared[0]][0]
        yield Problem(
            "warning",
            f"{one}/{other} groups",
            f"{datasets[other].name} {other}",
            f"{images} of {len(datasets[other])} images are of {len(shared)} groups that {one} has "
            f"images of, such as {shared[0]}: {_name(datasets[one], first[0])} and "
            f"{_name(datasets[other], first[1])}",
            "both are used, so the score flatters",
        )


def _name(dataset: Dataset, sample: Sample) -> str:
    return sample.path.relative_to(dataset.root).as_posix()


def _per_class(dataset: Dataset) -> dict[str, int]:
    """Class -> boxes that are no crowd."""
    labels: Counter[int] = Counter()
    for sample in dataset.samples:
        labels.update(sample.labels[~sample.crowd].tolist())
    return {name: labels[label] for label, name in enumerate(dataset.classes)}


def _statistics(dataset: Dataset) -> dict[str, Any]:
    samples = dataset.samples
    boxes = np.concatenate([sample.boxes.numpy() for sample in samples])
    areas = np.concatenate([sample.areas.numpy() for sample in samples])
    sides = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    per_image = [len(sample.boxes) for sample in samples]
    by_area = sorted((sample.size for sample in samples), key=lambda size: size[0] * size[1])
    return {
        "images": len(samples),
        "without_boxes": per_image.count(0),
        "boxes": len(boxes),
        "crowd": sum(int(sample.crowd.sum()) for sample in samples),
        "small": int((areas < SMALL).sum()),
        "medium": int(((areas >= SMALL) & (areas < MEDIUM)).sum()),
        "large": int((areas >= MEDIUM).sum()),
        "most_boxes_in_an_image": max(per_image),
        "per_class": _per_class(dataset),
        "centre_collisions": sum(_collisions(sample) for sample in samples),
        "box_sides": {
            f"p{q}": float(np.percentile(sides, q)) if len(sides) else None for q in (5, 50, 95)
        },
        "image_sizes": [list(by_area[0]), list(by_area[-1])],  # least and most pixels, (h, w)
        "hash": dataset.hash,
    } | ({"groups": len({sample.group for sample in samples})} if dataset.grouped else {})


def _collisions(sample: Sample) -> int:
    """Boxes too many for the cells of CELL pixels, in the image as stored, that hold their centres.

    The paper counts 614 in COCO's training set (1904.07850, section 5.1). Of any class: two classes
    have a peak each in that cell, but one size.
    """
    boxes = sample.boxes[~sample.crowd]
    cells = ((boxes[:, :2] + boxes[:, 2:]) / 2 / CELL).floor()
    return len(cells) - len(cells.unique(dim=0))
