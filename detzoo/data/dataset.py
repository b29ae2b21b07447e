"""The result of every reader: samples in original pixels, and problems of the annotations."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from detzoo.imagefile import Exif, ImageFile

SPLITS = ("train", "val", "test")


class DataError(ValueError):
    """There is nothing to read: says what was searched for, where, and how to name it."""


@dataclass(frozen=True)
class Problem:
    """Something wrong with a data set. Errors stop a run before it starts, warnings do not.

    where: the file, with a line or an id. action: what training does about it. split: the split
    that has it, if any.
    """

    severity: Literal["error", "warning"]
    kind: str
    where: str
    what: str
    action: str
    split: str = ""


@dataclass(frozen=True, eq=False)
class Sample:
    """One image and its truth, in the pixels of the image as it is shown (`detzoo.imagefile`).

    size: (height, width). boxes: (M, 4) float32 xyxy, inside the image, each with an area. labels:
    (M,) int64 in [0, K). crowd: (M,) bool, crowd or difficult. areas: (M,) float32, of the object
    where the annotation gives it, else of the box; it decides between COCO's small, medium and
    large. proposals: (P, 4) float32 xyxy, for detectors that are given their regions; else None.
    exif: how the file's EXIF orientation is taken. group: what it was taken with (see
    `detzoo.data.groups`).
    """

    id: int
    path: Path
    size: tuple[int, int]
    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    areas: Tensor
    proposals: Tensor | None = None
    exif: Exif = "auto"
    group: str | None = None

    @property
    def image(self) -> ImageFile:
        """The file, for all that decode images."""
        return ImageFile(self.path, self.size, self.exif)


@dataclass(frozen=True, eq=False)
class Dataset:
    """One split of a data set. Label i is classes[i]; in COCO files its id is category_ids[i]."""

    name: str
    split: str
    root: Path
    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    problems: tuple[Problem, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    @cached_property
    def has_proposals(self) -> bool:
        """Whether every image comes with its proposals."""
        return all(sample.proposals is not None for sample in self.samples)

    @cached_property
    def grouped(self) -> bool:
        """Whether its images come in groups."""
        return any(sample.group is not None for sample in self.samples)

    @cached_property
    def hash(self) -> str:
        """16 hex digits over the images' bytes, the annotations, any groups and the classes; not
        over paths."""
        digest = hashlib.blake2b(digest_size=8)
        digest.update(repr((self.classes, self.category_ids)).encode())
        for sample in self.samples:
            digest.update(f"{sample.id} {sample.size} {content_hash(sample.path)}".encode())
            for values in (sample.boxes, sample.labels, sample.crowd, sample.areas):
                digest.update(np.ascontiguousarray(values.numpy()).tobytes())
            if sample.group is not None:
                digest.update(f"group {sample.group}".encode(errors="surrogateescape"))
        return digest.hexdigest()

    def coco(self) -> dict[str, Any]:
        """COCO ground truth; file names are relative to `root`, annotation ids count from 1.

        An image whose EXIF tag is not taken by the usual rule carries `exif`, one that belongs to
        others its `group`.
        """
        images, annotations = [], []
        for sample in self.samples:
            height, width = sample.size
            name = sample.path.relative_to(self.root).as_posix()
            images.append({"id": sample.id, "file_name": name, "width": width, "height": height})
            if sample.exif != "auto":
                images[-1]["exif"] = sample.exif
            if sample.group is not None:
                images[-1]["group"] = sample.group
            for box, label, crowd, area in zip(
                sample.boxes.tolist(),
                sample.labels.tolist(),
                sample.crowd.tolist(),
                sample.areas.tolist(),
                strict=True,
            ):
                x1, y1, x2, y2 = box
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": sample.id,
                        "category_id": self.category_ids[label],
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "area": area,
                        "iscrowd": int(crowd),
                    }
                )
        categories = [
            {"id": id, "name": name}
            for id, name in zip(self.category_ids, self.classes, strict=True)
        ]
        return {"images": images, "annotations": annotations, "categories": categories}


def sample_of(
    id: int,
    path: Path,
    size: tuple[int, int],
    boxes: list[tuple[float, float, float, float]],
    labels: list[int],
    crowd: list[bool],
    areas: list[float],
    exif: Exif = "auto",
    group: str | None = None,
) -> Sample:
    """A Sample from plain lists; an image without boxes gets a (0, 4) tensor."""
    return Sample(
        id,
        path,
        size,
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(crowd, dtype=torch.bool),
        torch.tensor(areas, dtype=torch.float32),
        exif=exif,
        group=group,
    )


def content_hash(path: Path) -> str:
    """16 hex digits over a file's bytes; read once per process unless size or time change."""
    status = path.stat()
    return _content_hash(path, status.st_size, status.st_mtime_ns)


@cache
def _content_hash(path: Path, size: int, modified: int) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
