"""Batches: seeded, resumable, the same with and without worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from detzoo.data.augment import Policy, View
from detzoo.data.dataset import Dataset, Sample
from detzoo.data.image import Picture, load_image, load_picture
from detzoo.data.resize import Resize, collate_images, resize_boxes, resize_proposals
from detzoo.data.workers import in_order
from detzoo.types import Frame, Images, PaddedTargets, Target, pad_targets

SPECK = 0.01  # pixels of the network; a narrower box has no logarithm to be regressed to


class Loaded(NamedTuple):
    """A decoded, resized sample; the array may hold padding beyond `frame.resized`."""

    image: np.ndarray
    frame: Frame
    target: Target
    proposals: Tensor | None


class Item(NamedTuple):
    """An item of a batch; the array may have padding beyond `frame.resized`."""

    image: np.ndarray
    frame: Frame
    target: Target
    proposals: Tensor | None


class Cache:
    """Samples as the network's pixels, in memory up to a bound; others are loaded again.

    Nothing is evicted: under a shuffled order any choice of what stays is as good as another.
    """

    def __init__(self, dataset: Dataset, resize: Resize, megabytes: float) -> None:
        self.dataset, self.resize = dataset, resize
        self.bytes_left = megabytes * 2**20
        self._kept: dict[int, Loaded] = {}

    def __getitem__(self, index: int) -> Loaded:
        if index in self._kept:
            return self._kept[index]
        sample = self.dataset.samples[index]
        image, frame = self.resize(load_resizable(sample, self.resize), sample.id)
        proposals = None if sample.proposals is None else resize_boxes(sample.proposals, frame)
        loaded = Loaded(image, frame, _target(sample, frame), proposals)
        if image.nbytes <= self.bytes_left:
            self.bytes_left -= image.nbytes
            self._kept[index] = loaded
        return loaded


def _target(sample: Sample, frame: Frame) -> Target:
    """The truth in resized pixels, without boxes that vanish there."""
    boxes = resize_boxes(sample.boxes, frame)
    keep = (boxes[:, 2:] - boxes[:, :2] >= SPECK).all(1)
    return Target(boxes=boxes, labels=sample.labels, crowd=sample.crowd)[keep]


def load_sample(sample: Sample) -> np.ndarray:
    """(H, W, 3) uint8 in the pixels that the sample's boxes are in; ValueError if they differ."""
    image = load_image(sample.image)
    _agree(sample, image.shape[:2])
    return image


def load_resizable(sample: Sample, resize: Resize) -> Picture:
    """`load_sample` for one who resizes it next; see `detzoo.data.image`."""
    picture = load_picture(sample.image, resize)
    _agree(sample, picture.size)
    return picture


def _agree(sample: Sample, size: tuple[int, ...]) -> None:
    if size != sample.size:
        raise ValueError(
            f"{sample.path}: the image is {size[0]} x {size[1]} (height x width), its annotation "
            f"says {sample.size[0]} x {sample.size[1]}; run `detzoo check`"
        )


class Batches:
    """The training batches of one run, enough to see `images_seen` images.

    Batch i is a function of (seed, i): its images come from one endless sequence of permutations of
    the data set, cut into pieces of batch_size, and each image's augmentation from (seed, epoch,
    index). So a run can start at any step, and workers change nothing. resize and stride: the
    network's. augment: a Policy or None. cache_mb: bound of the cache in memory, for all workers
    together; 0 for none. pin: for a GPU. rank, processes: every `processes`-th image of each batch
    from the `rank`-th on, padded as the whole batch would be; together the processes have all of
    it.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        batch_size: int,
        images_seen: int,
        resize: Resize,
        augment: Policy | None,
        stride: int,
        seed: int,
        workers: int = 0,
        pin: bool = False,
        cache_mb: float = 2048,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        if batch_size < 1 or images_seen < 1:
            raise ValueError(
                f"batch_size {batch_size}, images_seen {images_seen}: both must be >= 1"
            )
        if batch_size % processes:
            raise ValueError(
                f"recipe.batch_size {batch_size} is that of all {processes} processes together and "
                f"must be a multiple of {processes}, so that each has an equal part"
            )
        if not len(dataset):
            raise ValueError(f"{dataset.name}: the {dataset.split} split has no images to train on")
        self.dataset, self.batch_size, self.stride = dataset, batch_size, stride
        self.augment, self.seed, self.workers, self.pin = augment, seed, workers, pin
        self.rank, self.processes = rank, processes
        self.steps = -(-images_seen // batch_size)
        self.cache = Cache(dataset, resize, cache_mb / max(1, workers))
        self._order = lru_cache(maxsize=2)(self._permutation)

    def __len__(self) -> int:
        """The number of steps."""
        return self.steps

    def iterate(self, start_step: int = 0) -> Iterator[tuple[Images, PaddedTargets]]:
        """Batches from start_step on."""
        return in_order(self, range(start_step, self.steps), self.workers, self.pin)

    def __getitem__(self, step: int) -> tuple[Images, PaddedTargets]:
        """Batch number `step`."""
        whole = range(step * self.batch_size, (step + 1) * self.batch_size)
        items = [self._item(position) for position in whole[self.rank :: self.processes]]
        sizes = [(1, 1)]
        if self.processes > 1:
            samples = [self.dataset.samples[self._place(position)[1]] for position in whole]
            sizes = [self.cache.resize.size(*sample.size) for sample in samples]
        images = collate_images(
            [(item.image, item.frame) for item in items],
            self.stride,
            [item.proposals for item in items] if self.dataset.has_proposals else None,
            (max(height for height, _ in sizes), max(width for _, width in sizes)),
        )
        return images, pad_targets(item.target for item in items)

    def _place(self, position: int) -> tuple[int, int]:
        """Epoch and index into the data set of that position in the endless sequence."""
        epoch, place = divmod(position, len(self.dataset))
        return epoch, int(self._order(epoch)[place])

    def _item(self, position: int) -> Item:
        epoch, index = self._place(position)
        image, frame, target, proposals = self.cache[index]
        if self.augment is None:
            return _own(image, frame, target, proposals)
        height, width = frame.resized
        pixels = torch.from_numpy(image[:height, :width]).permute(2, 0, 1)
        rng = np.random.default_rng([self.seed, 1, epoch, index])
        view = View(pixels, target.boxes, target.labels, target.crowd)
        if proposals is not None:
            view = view._replace(proposals=proposals)
        view = self.augment(view, rng)
        if tuple(view.image.shape) != (3, height, width):
            raise ValueError(
                f"the augmentation made {tuple(view.image.shape)} of (3, {height}, {width}); "
                "a step must keep the size"
            )
        result = view.image.permute(1, 2, 0).numpy()
        if result.shape != image.shape:
            canvas = np.zeros_like(image)
            canvas[:height, :width] = result
            result = canvas
        target = Target(boxes=view.boxes, labels=view.labels, crowd=view.crowd)
        return _own(result, frame, target, None if proposals is None else view.proposals)

    def _permutation(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.dataset))


class EvaluationBatches:
    """Images in the order of the data set, not augmented; iterate as often as needed.

    pin: for a GPU. rank, processes: every `processes`-th batch from the `rank`-th on.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        batch_size: int,
        resize: Resize,
        stride: int,
        workers: int = 0,
        pin: bool = False,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        self.dataset, self.batch_size, self.stride = dataset, batch_size, stride
        self.resize, self.workers, self.pin = resize, workers, pin
        batches = -(-len(dataset) // batch_size)
        self.numbers = range(rank, batches, processes)

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Images]:
        return in_order(self, self.numbers, self.workers, self.pin)

    def __getitem__(self, number: int) -> Images:
        """Batch `number`; the last one may be smaller."""
        first = number * self.batch_size
        samples = self.dataset.samples[first : first + self.batch_size]
        resized = [self.resize(load_resizable(s, self.resize), s.id) for s in samples]
        proposals = [s.proposals for s in samples] if self.dataset.has_proposals else None
        return collate_images(resized, self.stride, resize_proposals(proposals, resized))


def _own(image: np.ndarray, frame: Frame, target: Target, proposals: Tensor | None) -> Item:
    """An Item whose tensors are its own; its target's are once it is padded.

    A worker moves what it sends into shared memory, from another thread: what belongs to the cache
    or to a sample would be moved while the next batch reads it.
    """
    return Item(image, frame, target, None if proposals is None else proposals.clone())


evaluation_batches = EvaluationBatches  # its earlier name
