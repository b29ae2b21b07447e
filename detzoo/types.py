"""The types that detzoo's parts exchange: images, targets, detections.

Boxes are xyxy in continuous coordinates: pixel i covers [i, i + 1), so a width is x2 - x1 and a
horizontal flip is W - x. Labels are 0..K-1; there is no background label among them.

Shape letters: B images, H and W padded height and width, M boxes, N candidates, D detections,
P proposals.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from detzoo.text import escaped

T = TypeVar("T")

SHOWN = 5  # detections in a repr


def _each(record: T, change: Callable[[Tensor], Tensor]) -> T:
    """A copy of a dataclass with `change` applied to every tensor."""
    values = ((one.name, getattr(record, one.name)) for one in fields(record))
    return replace(record, **{k: change(v) for k, v in values if isinstance(v, Tensor)})


class _Boxes:
    """Base of dataclasses of tensors whose rows are boxes."""

    boxes: Tensor

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self: T, index: Any) -> T:
        """The record of some of the boxes; index: (N,) indices, a mask or a slice."""
        return _each(self, lambda x: x[index])

    def to(self: T, device: torch.device | str, non_blocking: bool = False) -> T:
        return _each(self, lambda x: x.to(device, non_blocking=non_blocking))


@dataclass(frozen=True)
class Frame:
    """Where an image came from and how it was resized, so that boxes can be taken back.

    id: the image's id in its data set. original, resized: (height, width) in pixels, of the image
    on disk and of the image that the network sees, before padding, which is at the right and at the
    bottom and so moves no box.
    """

    id: int
    original: tuple[int, int]
    resized: tuple[int, int]


@dataclass(frozen=True)
class Images:
    """A batch as the network takes it.

    pixels: (B, 3, H, W) uint8 RGB, or float32 in [0, 1]; padded at the right and at the bottom.
    proposals: per image (P, 4) float32 xyxy in the pixels of `pixels`; R-CNN and Fast R-CNN alone
    read them.
    """

    pixels: Tensor
    frames: list[Frame]
    proposals: list[Tensor] | None = None

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) of every image before padding."""
        return [frame.resized for frame in self.frames]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Images:
        return self._moved(lambda x: x.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Images:
        """A copy in pinned memory, from which a GPU copies asynchronously."""
        return self._moved(lambda x: x.pin_memory())

    def _moved(self, move: Callable[[Tensor], Tensor]) -> Images:
        proposals = self.proposals
        if proposals is not None:
            proposals = [move(p) for p in proposals]
        return replace(self, pixels=move(self.pixels), proposals=proposals)


@dataclass(frozen=True)
class Target(_Boxes):
    """The truth about one image, in the pixels that the network sees.

    boxes: (M, 4) float32 xyxy, M may be 0. labels: (M,) int64 in [0, K). crowd: (M,) bool; a crowd
    or difficult box is never a positive and what it covers is never a negative.
    """

    boxes: Tensor
    labels: Tensor
    crowd: Tensor

    @property
    def objects(self) -> tuple[Tensor, Tensor]:
        """Boxes and labels of what may be a positive: everything that is no crowd."""
        single = self[~self.crowd]
        return single.boxes, single.labels


@dataclass(frozen=True, eq=False)
class PaddedTargets(Sequence[Target]):
    """The truth about a batch in tensors of one shape; as a sequence, the images' Targets.

    M is the most boxes of an image, at least 1, N the boxes of the whole batch. boxes: (B, M, 4)
    float32 xyxy, zeros where an image has fewer. labels: (B, M) int64. valid: (B, M) bool, a box
    and not padding. crowd: (B, M) bool, as in Target. places: (N,) int64, the indices of the valid
    ones in B * M.
    """

    boxes: Tensor
    labels: Tensor
    valid: Tensor
    crowd: Tensor
    places: Tensor

    @property
    def single(self) -> Tensor:
        """(B, M) bool: what may be a positive, which is a box and no crowd."""
        return self.valid & ~self.crowd

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Any) -> Any:
        """The Target of one image, a list of them for a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        valid = self.valid[index]
        return Target(
            boxes=self.boxes[index][valid],
            labels=self.labels[index][valid],
            crowd=self.crowd[index][valid],
        )

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PaddedTargets:
        return _each(self, lambda x: x.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> PaddedTargets:
        """A copy in pinned memory, from which a GPU copies asynchronously."""
        return _each(self, lambda x: x.pin_memory())

    def repeat(self, times: int) -> PaddedTargets:
        """The batch repeated that many times."""
        batch, most = self.valid.shape
        rounds = torch.arange(times, device=self.places.device)[:, None] * (batch * most)
        whole = _each(self, lambda x: x.repeat(times, *[1] * (x.dim() - 1)))
        return replace(whole, places=(rounds + self.places).flatten())


def to_cpu(found: Sequence[Detections]) -> list[Detections]:
    """The detections of a batch in the CPU's memory, by one copy, which waits for the GPU."""
    if not found or not found[0].boxes.is_cuda:
        return [detections.to("cpu") for detections in found]
    columns = (
        torch.cat([d.boxes for d in found]),
        torch.cat([d.scores for d in found])[:, None],
        torch.cat([d.labels for d in found])[:, None],  # float64 holds every index exactly
    )
    rows = torch.cat([column.double() for column in columns], 1).cpu()
    parts = rows.split([len(d) for d in found])
    return [
        replace(old, boxes=new[:, :4].float(), scores=new[:, 4].float(), labels=new[:, 5].long())
        for old, new in zip(found, parts, strict=True)
    ]


def pad_targets(targets: Iterable[Target]) -> PaddedTargets:
    """Pad targets of different lengths into one batch; a PaddedTargets is returned as it is."""
    if isinstance(targets, PaddedTargets):
        return targets
    targets = list(targets)
    counts = [len(target) for target in targets]
    most = max([1, *counts])
    places = chain.from_iterable(range(i * most, i * most + n) for i, n in enumerate(counts))
    device = targets[0].boxes.device

    def padded(parts: list[Tensor]) -> Tensor:
        blank = parts[0].new_zeros(most, *parts[0].shape[1:])  # so that there is a row of M
        return pad_sequence([blank, *parts], batch_first=True)[1:]

    return PaddedTargets(
        boxes=padded([target.boxes.float() for target in targets]),
        labels=padded([target.labels for target in targets]),
        valid=padded([torch.ones_like(target.crowd) for target in targets]),
        crowd=padded([target.crowd for target in targets]),
        places=torch.tensor(list(places), dtype=torch.int64).to(device),
    )


@dataclass(frozen=True)
class Candidates:
    """All that a detector proposes for a batch, N for every image, before any is selected.

    boxes: (B, N, 4) float32 xyxy, not clipped. scores: (B, N) float32 in [0, 1]; -1 where an image
    has fewer than N. labels: (B, N) int64 in [0, K). Boxes and scores are differentiable.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


@dataclass(frozen=True, repr=False)
class Detections(_Boxes):
    """The objects detected in one image.

    boxes: (D, 4) float32 xyxy, inside the unpadded image. scores: (D,) float32 in [0, 1],
    descending. labels: (D,) int64 in [0, K). class_names: K names, None where the detector has
    none. image: what `predict` was given, a path, a PIL image or an array; None else.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    class_names: tuple[str, ...] | None = field(default=None, kw_only=True)
    image: Any = field(default=None, kw_only=True)

    @property
    def names(self) -> list[str]:
        """The class of each detection; its label as text where classes have no names."""
        labels = self.labels.tolist()
        return [self.class_names[i] if self.class_names else str(i) for i in labels]

    def __repr__(self) -> str:
        scores = self.scores.tolist()[:SHOWN]
        found = [f"{escaped(n)} {s:.2f}" for n, s in zip(self.names, scores, strict=False)]
        more = ["..."] if len(self) > SHOWN else []
        return f"Detections({len(self)}{': ' if found else ''}{', '.join([*found, *more])})"

    def draw(self, image: Any = None) -> Any:
        """A PIL image with the boxes, names and scores on it.

        image: a path, a PIL image or an (H, W, 3) uint8 RGB array, by default the one that
        `predict` was given. Raises ValueError where there is none.
        """
        import detzoo  # the public face draws; what flows between all parts knows no pictures

        if (image := self.image if image is None else image) is None:
            raise ValueError("these detections know no image: draw(image)")
        return detzoo.draw(image, self)

    def to_coco(
        self, image_id: int | str, category_ids: Sequence[int] | None = None
    ) -> list[dict[str, Any]]:
        """COCO results: "image_id", "category_id", "bbox" (x, y, width, height) and "score".

        category_ids: of the labels 0..K-1, by default a label is its own; those beyond, which a
        model as published may know, are left out. Nothing is rounded.
        """
        boxes = self.boxes.double()  # exact, so that x + w gives x2 back
        sides = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
        rows = zip(self.labels.tolist(), sides.tolist(), self.scores.tolist(), strict=True)
        return [
            {
                "image_id": image_id,
                "category_id": category_ids[label] if category_ids else label,
                "bbox": box,
                "score": score,
            }
            for label, box, score in rows
            if not category_ids or label < len(category_ids)
        ]

    def _repr_png_(self) -> bytes | None:
        """The drawn image for a notebook; None, which makes it show the text, without one."""
        if self.image is None:
            return None
        buffer = io.BytesIO()
        self.draw().save(buffer, "PNG")
        return buffer.getvalue()
