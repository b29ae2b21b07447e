"""True objects of a split: all of them, or a sample that is even over the classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from detzoo.data import Dataset, load_image

AROUND = 1.3  # sides of a picture over the longer side of its object


@dataclass(frozen=True)
class Objects:
    """True objects of one split, crowds left out. of: (N,) the sample's index; index: (N,) the
    box's index in it; labels: (N,)."""

    dataset: Dataset
    of: np.ndarray
    index: np.ndarray
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def units(self) -> np.ndarray:
        """(N,) the group of each one's image, or the image."""
        samples = [self.dataset.samples[i] for i in self.of]
        return np.array([str(s.id if s.group is None else s.group) for s in samples])

    def picture(self, number: int) -> Image.Image:
        """Cut out of its image with a little around it."""
        sample = self.dataset.samples[self.of[number]]
        x1, y1, x2, y2 = sample.boxes[self.index[number]].tolist()
        half = AROUND * max(x2 - x1, y2 - y1) / 2
        x, y = (x1 + x2) / 2, (y1 + y2) / 2
        whole = Image.fromarray(load_image(sample.image))
        return whole.crop(tuple(round(v) for v in (x - half, y - half, x + half, y + half)))


def objects_of(dataset: Dataset, most: int | None = None, seed: int = 0) -> Objects:
    """All of them, or `most`, drawn by seed, equally many of each class as far as there are."""
    places = [
        (i, int(k))
        for i, sample in enumerate(dataset.samples)
        for k in (~sample.crowd).nonzero()[:, 0]
    ]
    labels = torch.tensor([int(dataset.samples[i].labels[k]) for i, k in places], dtype=torch.int64)
    chosen = np.arange(len(places))
    if most is not None:
        drawn = np.random.default_rng(seed).permutation(len(places))
        turn = np.zeros(len(places), np.int64)  # how many of its class were drawn before
        seen: dict[int, int] = {}
        for place in drawn:
            turn[place] = seen.get(int(labels[place]), 0)
            seen[int(labels[place])] = turn[place] + 1
        chosen = np.sort(drawn[np.argsort(turn[drawn], kind="stable")][:most])
    of, index = np.array(places, np.int64).reshape(-1, 2)[chosen].T
    return Objects(dataset, of, index, labels[chosen])
