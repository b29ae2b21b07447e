"""What the second stage's gradient weighs at the RPN, beside the RPN's own (box_gradient.yaml).

A trained Faster R-CNN, one batch of its training images, nothing is updated: the norm of each
loss's gradient on the weights of the RPN's deltas, once the regions' boxes pass it on.

    python experiments/box_gradient.py runs/box_gradient/faster_rcnn-*
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import nn

import detzoo
from detzoo.data import load_image
from detzoo.data.resize import collate_images, resize_boxes
from detzoo.detectors import FasterRCNN
from detzoo.engine.folding import unfold
from detzoo.run_config import SCORED
from detzoo.types import Target
from detzoo.workflow.settings import read_moved, source

IMAGES = 8


def gradient_norms(run: Path) -> dict[str, float]:
    """loss -> the norm of its gradient on the weights of the RPN's deltas."""
    detector = detzoo.load(run)
    assert isinstance(detector, FasterRCNN), f"{run} is no Faster R-CNN"
    unfold(detector)
    detector.train().box_gradient = True
    for module in detector.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()  # by the statistics of the training, as the losses below are of its end
    samples = source(read_moved(run, SCORED, None)).read("train").samples
    samples = [sample for sample in samples if len(sample.boxes)][:IMAGES]
    resized = [detector.resize(detector.picture_of(load_image(s.image)), 0) for s in samples]
    batch = collate_images(resized, detector.stride, None)
    targets = [
        Target(resize_boxes(s.boxes, frame), s.labels, s.crowd)
        for s, frame in zip(samples, batch.frames, strict=True)
    ]
    losses = detector.losses(detector.network(batch, targets), targets)
    weights = list(detector.rpn.deltas.parameters())
    norms = {}
    for name, loss in losses.items():
        found = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
        norms[name] = float(sum(g.square().sum() for g in found if g is not None)) ** 0.5
    return norms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path)
    for run in parser.parse_args().runs:
        norms = gradient_norms(run)
        print(run, ", ".join(f"{name} {norm:.3f}" for name, norm in norms.items()))


if __name__ == "__main__":
    main()
