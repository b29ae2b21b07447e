"""The sheets of `detzoo check out=DIR`: the data as read, and a batch as the network gets it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from detzoo.data import Batches, CheckResult, Dataset, Problem, Resize, Sample, Source, load_image
from detzoo.data.doubts import Doubt, doubts, examples, spaced
from detzoo.data.near_duplicates import Twins
from detzoo.imagefile import UNREADABLE
from detzoo.report.figures.fonts import drawable_names, legend
from detzoo.report.figures.palette import COLOURS
from detzoo.report.images.contact import Cell, Section, named_once, write
from detzoo.report.images.drawing import Box

if TYPE_CHECKING:
    from torch import Tensor

    from detzoo.data.augment import Policy

ODD, EACH, SOME, BATCH = 48, 12, 12, 12  # cells: doubtful, of a class, of a split, of a batch
MOST_CLASSES = 200  # with a sheet, those with the most boxes
AROUND, LEAST = 4.0, 96  # a close-up's sides: times the box's longer one, and pixels at least
OTHER = "#c8ccd0"  # the colour of boxes that a cell is not about
STRIDE = 32  # batches are padded to its multiples; most detectors' stride


def write_sheets(
    source: Source,
    result: CheckResult,
    splits: Sequence[str],
    out: Path,
    *,
    resize: Resize,
    augment: Policy | None,
    seed: int = 0,
    twins: Sequence[Twins] = (),
) -> Path:
    """Write the contact sheets of the check `result` of `source`; returns the page's path.

    ValueError for a folder inside the data set, where they would be read as its images next time.
    """
    inside = source.root.is_dir() and out.resolve().is_relative_to(source.root.resolve())
    if inside:
        raise ValueError(
            f"out={out} lies in the data set's own folder {source.root}, where the sheets would be "
            "taken for images of it; name another folder"
        )
    datasets = [source.read(split) for split in splits if split in result.statistics]
    odd = [doubts(dataset, result.problems) for dataset in datasets]
    sections = [_side_by_side(datasets, twins)]
    sections += [_doubtful(*pair) for pair in zip(datasets, odd, strict=True)]
    sections += [_overview(dataset) for dataset in datasets]
    sections += [_batch(d, resize, augment, seed) for d in datasets if d.split == "train"]
    for dataset, first in zip(datasets, odd, strict=True):
        sections += [*_classes(dataset, first), _without(dataset)]
    found = [_counted(result.errors, "error"), _counted(result.warnings, "warning")]
    facts = [
        f"{result.root}: {', '.join(found)}. Boxes are drawn as they were read; the suspicious "
        "come first.",
        *filter(None, [legend(result.classes)]),
    ]
    shown = [section for section in sections if section.cells or section.slug == "batch"]
    return write(out, f"Data of {result.name}", facts, shown)


def _counted(problems: Sequence[Problem], word: str) -> str:
    return f"{len(problems)} {word}{'' if len(problems) == 1 else 's'}"


def _overview(dataset: Dataset) -> Section:
    some = spaced(range(len(dataset.samples)), SOME)
    text = f"{len(some)} of {len(dataset):,} images, evenly spaced through the split."
    cells = [_cell(dataset, index) for index in some]
    return Section(f"{dataset.split}-images", f"{dataset.split}: images as read", text, cells)


def _doubtful(dataset: Dataset, odd: Sequence[Doubt]) -> Section:
    cells = [
        _cell(dataset, doubt.index, doubt.boxes, note="; ".join(doubt.reasons))
        for doubt in odd[:ODD]
    ]
    text = (
        f"{len(cells)} of {len(odd):,} images that detzoo check found something in, or whose boxes "
        "are tiny, very long, twice on one place or around the whole image."
    )
    return Section(f"{dataset.split}-doubtful", f"{dataset.split}: look here first", text, cells)


def _side_by_side(datasets: Sequence[Dataset], twins: Sequence[Twins]) -> Section:
    """Near-duplicates of two splits, each beside its twin."""
    of = {dataset.split: dataset for dataset in datasets}
    cells = [
        _cell(of[split], index, note=f"{split}: {pair.distance} bits apart")
        for pair in twins[: ODD // 2]
        for split, index in (pair.one, pair.other)
    ]
    text = (
        f"{len(cells) // 2} of {len(twins):,} pairs of images that look nearly the same, one "
        "beside the other: what was trained on should not be tested."
    )
    return Section("near-duplicates", "Nearly the same in two splits", text, cells)


def _classes(dataset: Dataset, odd: Sequence[Doubt]) -> list[Section]:
    """A section for each class that has boxes, in the order of the labels."""
    labels = np.concatenate([sample.labels.numpy() for sample in dataset.samples])
    counts = np.bincount(labels, minlength=len(dataset.classes))
    chosen = set(np.argsort(-counts, kind="stable")[:MOST_CLASSES].tolist())
    notes = {doubt.index: doubt for doubt in odd}
    sections = []
    for label, name in enumerate(dataset.classes):
        if label not in chosen or not counts[label]:
            continue
        cells = []
        for index, box in examples(dataset, label, EACH, odd):
            doubt = notes.get(index)
            note = "; ".join(doubt.reasons) if doubt and box in doubt.boxes else ""
            cells.append(_cell(dataset, index, {box}, close=True, note=note))
        text = f"{len(cells)} of {counts[label]:,} boxes of {name}, the suspicious ones first."
        slug = f"{dataset.split}-class-{label + 1:03d}"
        sections.append(Section(slug, f"{dataset.split}: {name}", text, cells))
    return sections


def _without(dataset: Dataset) -> Section:
    empty = [index for index, sample in enumerate(dataset.samples) if not len(sample.boxes)]
    some = spaced(empty, SOME)
    text = f"{len(some)} of {len(empty):,} images without a box: is there really nothing in them?"
    cells = [_cell(dataset, index) for index in some]
    return Section(f"{dataset.split}-empty", f"{dataset.split}: without boxes", text, cells)


def _batch(dataset: Dataset, resize: Resize, augment: Policy | None, seed: int) -> Section:
    """The first batch of a training, in the network's pixels."""
    title = "A batch as the network sees it"
    try:
        batches = Batches(
            dataset,
            batch_size=min(BATCH, len(dataset)),
            images_seen=1,
            resize=resize,
            augment=augment,
            stride=STRIDE,
            seed=seed,
            cache_mb=0,
        )
        images, targets = batches[0]
    except (*UNREADABLE, OSError, ValueError) as error:
        return Section("batch", title, f"None can be made, and no training could start: {error}")
    names = {sample.id: _name(dataset, sample) for sample in dataset.samples}
    cells = []
    for pixels, frame, target in zip(images.pixels, images.frames, targets, strict=True):
        array = pixels.permute(1, 2, 0).numpy()
        boxes = _boxes(target.boxes, target.labels, target.crowd, dataset.classes)
        cells.append(Cell(partial(Image.fromarray, array), named_once(boxes), names[frame.id]))
    height, width = images.pixels.shape[2:]
    text = (
        f"The first of training with seed {seed}: resized, augmented and padded to {width} x "
        f"{height} pixels; resize= and augment= choose how."
    )
    return Section("batch", title, text, cells)


def _cell(
    dataset: Dataset,
    index: int,
    about: set[int] | None = None,
    *,
    close: bool = False,
    note: str = "",
) -> Cell:
    """An image with its boxes: coloured by class, or, where the cell is `about` some boxes, only
    these. close: only the surroundings of the first of them."""
    sample = dataset.samples[index]
    boxes = _boxes(sample.boxes, sample.labels, sample.crowd, dataset.classes)
    if about:  # these come first, and so get their names
        pale = [Box(box.xyxy, "", True, OTHER) for n, box in enumerate(boxes) if n not in about]
        boxes = [box for n, box in enumerate(boxes) if n in about] + pale
    else:
        boxes = named_once(boxes)
    window = _around(sample, min(about)) if close and about else None
    return Cell(partial(_open, sample), boxes, _name(dataset, sample), note, window)


def _around(sample: Sample, box: int) -> tuple[float, float, float, float] | None:
    """A square around a box; None where it would be most of the image."""
    x1, y1, x2, y2 = sample.boxes[box].tolist()
    height, width = sample.size
    side = max(AROUND * max(x2 - x1, y2 - y1), LEAST)
    if side >= 0.9 * max(height, width):
        return None
    middle = (x1 + x2) / 2, (y1 + y2) / 2
    left = min(max(middle[0] - side / 2, 0), max(0, width - side))
    top = min(max(middle[1] - side / 2, 0), max(0, height - side))
    return left, top, min(left + side, width), min(top + side, height)


def _open(sample: Sample) -> Image.Image:
    try:
        return Image.fromarray(load_image(sample.image))
    except UNREADABLE as error:
        raise ValueError(str(error).replace(f"{sample.path}: ", "")) from None


def _name(dataset: Dataset, sample: Sample) -> str:
    return sample.path.relative_to(dataset.root).as_posix()


def _boxes(boxes: Tensor, labels: Tensor, crowd: Tensor, classes: Sequence[str]) -> list[Box]:
    """(M, 4) xyxy, (M,) and (M,) in the form for drawing, coloured by class."""
    drawn = drawable_names(classes)
    rows = zip(boxes.tolist(), labels.tolist(), crowd.tolist(), strict=True)
    return [
        Box(
            tuple(box),
            drawn[classes[label]] + (" (crowd)" if is_crowd else ""),
            is_crowd,
            COLOURS[label % len(COLOURS)],
        )
        for box, label, is_crowd in rows
    ]
