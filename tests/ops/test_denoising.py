from __future__ import annotations

import pytest
import torch

from detzoo.ops.denoising import add_noise, group_mask

BOXES = torch.tensor([[[0.5, 0.5, 0.2, 0.4], [0.3, 0.6, 0.1, 0.1]]])  # centre and size
LABELS = torch.tensor([[0, 1]])


def test_noise_stays_within_its_bounds_and_every_group_has_its_own() -> None:
    torch.manual_seed(0)
    made = {"groups": 500, "num_classes": 2, "box_noise": 0.4, "label_noise": 0.2}
    boxes, labels = add_noise(BOXES, LABELS, **made)
    assert boxes.shape == (1, 1000, 4) and labels.shape == (1, 1000)
    boxes, labels = boxes.view(500, 2, 4), labels.view(500, 2)
    moved = (boxes[..., :2] - BOXES[..., :2]).abs() / BOXES[..., 2:]
    grown = boxes[..., 2:] / BOXES[..., 2:]
    assert 0.19 < moved.max() < 0.2 and moved.min() < 0.01
    assert 0.6 < grown.min() < 0.61 and 1.39 < grown.max() < 1.4
    assert boxes.unique(dim=0).shape[0] == 500
    # Of the labels drawn anew half come back as they were.
    assert (labels != LABELS).float().mean().item() == pytest.approx(0.1, abs=0.03)


def test_without_noise_there_are_copies_and_without_groups_nothing() -> None:
    made = {"num_classes": 2, "box_noise": 0.0, "label_noise": 0.0}
    boxes, labels = add_noise(BOXES, LABELS, groups=2, **made)
    assert torch.equal(boxes, BOXES.repeat(1, 2, 1)) and labels.tolist() == [[0, 1, 0, 1]]
    boxes, labels = add_noise(BOXES, LABELS, groups=0, **made)
    assert boxes.shape == (1, 0, 4) and labels.shape == (1, 0)


def test_attention_mask_literally() -> None:
    """Two queries, two groups of two places, with one object in the second image."""
    real = torch.tensor([[True, True], [True, False]])
    first, second = group_mask(real, groups=2, queries=2)[:, 0].int().tolist()
    assert first == [
        [1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 1],
        [1, 1, 0, 0, 1, 1],
    ]
    assert second == [
        [1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [1, 1, 0, 0, 1, 0],
    ]
    assert group_mask(real, groups=0, queries=3).all()
