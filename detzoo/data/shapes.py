"""The embedded data set: six shapes on textured grounds, drawn once and read as COCO ever after."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from detzoo.data.coco import Coco
from detzoo.data.dataset import SPLITS, Dataset, Sample
from detzoo.data.marks import mark_beside
from detzoo.data.paste import Pasted, paste
from detzoo.data.scene import Scene, paint
from detzoo.data.stamps import CLASSES
from detzoo.files import remove_leftovers, temporary_prefix, write_json
from detzoo.progress import Progress

VERSION = 5  # raise it when the drawing changes, so that no old folder passes for a new one
QUALITY = 92


class Shapes(Coco):
    """Synthetic scenes in root/shapes-<hash of the parameters>, written at the first read.

    size: side of the square images in pixels. train, val, test: images per split. min_objects,
    max_objects: per image, all numbers alike. min_size: the smallest object's longer side in
    pixels; the largest is half of `size`. difficulty: 0 to 1, see `scene.paint`. crowd_rate,
    empty_rate: parts of the images with a crowd region and without objects. Image i of a split does
    not depend on the number of images. test_objects: fewest and most objects of an image of the
    test split, where they differ from the other splits'. classes: the shapes that are drawn, in the
    order of their labels; by default all six. marked: the class whose objects have a small mark
    beside them in every split, a shortcut to catch detectors with; marked_as: the class whose form
    they are drawn in, so that nothing but the mark tells the two apart. fraction: of the training
    images (see Source).
    """

    def __init__(
        self,
        root: str | Path = "data",
        name: str = "shapes",
        *,
        size: int = 96,
        train: int = 800,
        val: int = 100,
        test: int = 200,
        min_objects: int = 0,
        max_objects: int = 12,
        min_size: float = 10,
        difficulty: float = 0.03,
        crowd_rate: float = 0.03,
        empty_rate: float = 0.05,
        seed: int = 0,
        test_objects: tuple[int, int] | None = None,
        classes: Sequence[str] | None = None,
        marked: str | None = None,
        marked_as: str | None = None,
        fraction: float = 1.0,
    ) -> None:
        drawn = _drawn(classes)
        _check_marks(drawn, marked, marked_as)
        _check_counts(min_objects, max_objects, test_objects)
        if not 1 <= min_size < size / 2:
            raise ValueError(
                f"min_size is {min_size}; it must lie between 1 and half of size {size}"
            )
        rates = {"difficulty": difficulty, "crowd_rate": crowd_rate, "empty_rate": empty_rate}
        for key, value in rates.items():
            if not 0 <= value <= 1:
                raise ValueError(f"{key} is {value}; it must lie between 0 and 1")
        if min(train, val, test) < 1:
            raise ValueError(f"train {train}, val {val}, test {test}: each split needs an image")
        self.counts = {"train": train, "val": val, "test": test}
        self.seed = seed
        self.parameters: dict[str, Any] = {
            "size": size,
            "objects": (min_objects, max_objects),
            "min_size": float(min_size),
            "difficulty": float(difficulty),
            "crowd_rate": float(crowd_rate),
            "empty_rate": float(empty_rate),
        }
        self.parameters |= {} if drawn == CLASSES else {"classes": [*map(CLASSES.index, drawn)]}
        self.parameters |= {} if marked is None else {"marked": CLASSES.index(marked)}
        self.parameters |= {} if marked_as is None else {"marked_as": CLASSES.index(marked_as)}
        self.marked = marked
        content: list[Any] = [VERSION, QUALITY, self.counts, seed, self.parameters]
        self.test_objects = None if test_objects is None else tuple(test_objects)
        # without it, the folder has its name from before this setting
        content += [{"test_objects": self.test_objects}] if self.test_objects else []
        key = json.dumps(content, sort_keys=True)
        folder = f"shapes-{hashlib.blake2b(key.encode(), digest_size=4).hexdigest()}"
        root = Path(root).expanduser() / folder
        super().__init__(root, name, classes=drawn, fraction=fraction)

    def read(self, split: str) -> Dataset:
        self.write()
        return super().read(split)

    def mark(self, sample: Sample, index: int) -> Tensor | None:
        """Of an object of the class `marked`."""
        if self.marked is None or self.classes[int(sample.labels[index])] != self.marked:
            return None
        return torch.tensor(mark_beside(tuple(sample.boxes[index].tolist()), sample.size))

    def paste(self, sample: Sample, pixels: np.ndarray, seed: int) -> Pasted | None:
        """An object of a form and a size that are drawn here, on free ground."""
        unseen = {self.marked} if "marked_as" in self.parameters else set()
        found = paste(
            pixels,
            [tuple(box) for box in sample.boxes.tolist()],
            np.random.default_rng([self.seed, seed, sample.id]),
            labels=[CLASSES.index(name) for name in self.classes if name not in unseen],
            min_size=self.parameters["min_size"],
            difficulty=self.parameters["difficulty"],
        )
        label = None if found is None else self.classes.index(CLASSES[found.label])
        return None if found is None else replace(found, label=label)

    def _whole(self, split: str) -> Dataset:
        """Its crowds are there on purpose, and nothing to warn of."""
        dataset = super()._whole(split)
        return replace(dataset, problems=tuple(p for p in dataset.problems if p.kind != "crowd"))

    def write(self) -> Path:
        """The folder, drawn if it is not there; it is whole or absent."""
        if self.root.is_dir():
            return self.root
        self.root.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.root.parent)
        prefix = temporary_prefix(self.root.name)
        work = Path(tempfile.mkdtemp(prefix=prefix, suffix=".tmp", dir=self.root.parent))
        try:
            total = sum(self.counts.values())
            with Progress(total, f"drawing {self.root}", "images") as progress:
                for split in SPLITS:
                    self._write_split(work, split, progress)
            work.chmod(0o755)
            try:
                os.rename(work, self.root)
            except OSError:
                if not self.root.is_dir():  # else another process was first, with the same content
                    raise
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return self.root

    def scene(self, split: str, index: int) -> Scene:
        """Image `index` of a split."""
        rng = np.random.default_rng([self.seed, SPLITS.index(split), index])
        own = {"objects": self.test_objects} if split == "test" and self.test_objects else {}
        return paint(rng, **self.parameters | own)

    def _write_split(self, folder: Path, split: str, progress: Progress) -> None:
        images, annotations = [], []
        (folder / "images" / split).mkdir(parents=True)
        for index in range(self.counts[split]):
            scene = self.scene(split, index)
            height, width = scene.pixels.shape[:2]
            name = f"{index:06d}.jpg"
            Image.fromarray(scene.pixels).save(
                folder / "images" / split / name, quality=QUALITY, subsampling=0
            )
            images.append({"id": index, "file_name": name, "width": width, "height": height})
            for (x1, y1, x2, y2), label, crowd in zip(
                scene.boxes, scene.labels, scene.crowd, strict=True
            ):
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": index,
                        "category_id": label + 1,
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "area": (x2 - x1) * (y2 - y1),
                        "iscrowd": int(crowd),
                    }
                )
            progress.advance(1)
        categories = [{"id": label + 1, "name": name} for label, name in enumerate(CLASSES)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        write_json(folder / f"{split}.json", content, indent=None)


def _check_marks(drawn: Sequence[str], marked: str | None, marked_as: str | None) -> None:
    if marked is not None and marked not in drawn:
        raise ValueError(f"marked is {marked!r}; of the classes there are {', '.join(drawn)}")
    if marked_as is not None and (marked is None or marked_as not in set(drawn) - {marked}):
        raise ValueError(
            f"marked_as is {marked_as!r} and marked {marked!r}; it is another class than the "
            f"marked one, of {', '.join(drawn)}"
        )


def _check_counts(least: int, most: int, test: tuple[int, int] | None) -> None:
    """Raise ValueError for numbers of objects that cannot be."""
    if not 0 <= least <= most or most < 1:
        raise ValueError(f"min_objects {least}, max_objects {most}: need 0 <= min <= max > 0")
    if test is not None:
        numbers = all(type(count) is int for count in test)
        if len(test) != 2 or not numbers or not 0 <= test[0] <= test[1]:
            raise ValueError(f"test_objects is {test}: need [min, max], 0 <= min <= max")


def _drawn(classes: Sequence[str] | None) -> tuple[str, ...]:
    """The shapes that are drawn. Raises ValueError for one that there is not."""
    drawn = CLASSES if classes is None else tuple(classes)
    if not drawn or not set(drawn) <= set(CLASSES):
        raise ValueError(f"classes is {list(drawn)}; there are {', '.join(CLASSES)}")
    return drawn
