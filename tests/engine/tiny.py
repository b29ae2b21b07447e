"""A detector of a few hundred weights with all that a resumed run could lose, and its data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from detzoo.detector import Detector
from detzoo.engine.recipe import Recipe
from detzoo.engine.train import train
from detzoo.types import Detections, Frame, Images, Target


class Outputs(NamedTuple):
    scores: Tensor  # (B, K)


class Tiny(Detector):
    """Says which class is in the image; its box is the whole image. Batch norm, dropout, numpy."""

    def __init__(self, *, num_classes: int = 3, dropout: float = 0.3) -> None:
        super().__init__(num_classes=num_classes, stride=4)
        self.conv = nn.Conv2d(3, 8, 3, stride=4)
        self.norm = nn.BatchNorm2d(8)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(8, num_classes)

    def network(self, images: Images, targets: Sequence[Target] | None = None) -> Outputs:
        x = self.norm(self.conv(self.normalise(images))).relu().mean((2, 3))
        return Outputs(self.linear(self.dropout(x)))

    def losses(self, outputs: Outputs, targets: Sequence[Target]) -> dict[str, Tensor]:
        labels = torch.stack([target.labels[0] for target in targets])
        noise = 1 + 0.1 * np.random.rand()  # a sampler that uses numpy's global generator
        loss = nn.functional.cross_entropy(outputs.scores.float(), labels)
        return {"cls": loss * noise, "size": 1e-3 * outputs.scores.float().square().mean()}

    def decode(self, outputs: Outputs, sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        found = []
        for scores, (height, width) in zip(outputs.scores.float().softmax(1), sizes, strict=True):
            order = scores.argsort(descending=True)
            boxes = scores.new_tensor([[0, 0, width, height]]).repeat(len(order), 1)
            found.append(Detections(boxes, scores[order], order))
        return found


class FakeBatches:
    """Batch i is a pure function of i: noise that is brighter in the channel of its class."""

    def __init__(self, steps: int = 40, batch_size: int = 4, bad_step: int | None = None) -> None:
        self.steps, self.batch_size, self.bad_step = steps, batch_size, bad_step

    def __len__(self) -> int:
        return self.steps

    def iterate(self, start_step: int = 0) -> Iterator[tuple[Images, list[Target]]]:
        torch.rand(1)  # as a DataLoader does when it starts its workers
        return (
            batch(step, self.batch_size, bad=step + 1 == self.bad_step)
            for step in range(start_step, self.steps)
        )


def batch(step: int, size: int = 4, bad: bool = False) -> tuple[Images, list[Target]]:
    draw = torch.Generator().manual_seed(step)
    pixels = torch.randint(0, 100, (size, 3, 16, 16), generator=draw, dtype=torch.uint8)
    labels = torch.randint(0, 3, (size,), generator=draw)
    for image, label in zip(pixels, labels, strict=True):
        image[label] += 100
    if bad:
        pixels = torch.full(pixels.shape, torch.nan)
    frames = [Frame(step * size + i, (32, 32), (16, 16)) for i in range(size)]
    targets = [
        Target(torch.tensor([[0.0, 0, 16, 16]]), label[None], torch.tensor([False]))
        for label in labels
    ]
    return Images(pixels, frames), targets


def recipe(steps: int = 40, **changes: float | str | None) -> Recipe:
    values = {
        "images_seen": steps * 4,
        "batch_size": 4,
        "lr": 0.02,
        "warmup": 0.125,
        "clip_norm": 1.0,
        "ema_decay": 0.99,
        "val_points": 4,
    }
    return Recipe(**{**values, **changes})


def tiny(**changes: float) -> Tiny:
    torch.manual_seed(5)
    return Tiny(**changes)


def score(detector: Detector) -> dict[str, float]:
    """A validation that uses up random numbers, as none should."""
    torch.rand(3)
    images, targets = batch(999, 16)
    right = [
        found.labels[0] == target.labels[0]
        for found, target in zip(detector(images), targets, strict=True)
    ]
    accuracy = float(torch.stack(right).float().mean())
    return {"AP": accuracy, "AP50": accuracy}


def train_and_tell(run_dir: str, steps: int, tell: Connection) -> None:
    """Train, with a checkpoint after every step, and report each step so that a killer can aim."""
    torch.set_num_threads(1)
    train(
        tiny(),
        FakeBatches(steps),
        recipe(steps),
        run_dir,
        seed=3,
        validate=score,
        checkpoint_seconds=0.0,
        progress=False,
        on_progress=lambda progress: tell.send(progress["step"]),
    )
