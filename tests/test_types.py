from __future__ import annotations

from dataclasses import dataclass, fields, replace

import pytest
import torch

from detzoo.types import Detections, PaddedTargets, Target, pad_targets


def target(count: int, crowd: bool = False) -> Target:
    boxes = torch.arange(4.0 * count).view(count, 4)
    return Target(boxes, torch.arange(count), torch.full((count,), crowd))


@pytest.mark.parametrize(
    "index", [slice(1), torch.tensor([True, False, True]), torch.tensor([2, 0])]
)
def test_boxes_are_chosen_by_any_index(index):
    truth = target(3)
    found = Detections(truth.boxes, torch.tensor([0.9, 0.8, 0.7]), truth.labels)
    for whole in (truth, found):
        part = whole[index]
        assert type(part) is type(whole)
        for field in fields(whole):
            assert torch.equal(getattr(part, field.name), getattr(whole, field.name)[index])


def test_a_new_field_is_chosen_moved_and_kept():
    @dataclass(frozen=True)
    class Masked(Detections):
        masks: torch.Tensor | None = None
        note: str = ""

    found = Masked(torch.zeros(2, 4), torch.ones(2), torch.zeros(2).long(), torch.eye(2), "kept")
    assert torch.equal(found[1:].masks, torch.eye(2)[1:]) and found[1:].note == "kept"
    assert found.to("cpu").masks is not None
    assert replace(found, masks=None)[:1].masks is None


def test_padded_targets_are_their_images_targets():
    truths = [target(0), target(3), target(1, crowd=True)]
    padded = pad_targets(truths)
    assert padded.boxes.shape == (3, 3, 4) and padded.boxes.dtype == torch.float32
    assert padded.valid.tolist() == [[False] * 3, [True] * 3, [True, False, False]]
    assert padded.single.tolist() == [[False] * 3, [True] * 3, [False] * 3]
    assert padded.places.tolist() == [3, 4, 5, 6]
    assert (padded.boxes[~padded.valid] == 0).all()
    assert pad_targets(padded) is padded and len(padded) == 3
    for one, other in zip(padded, truths, strict=True):
        for field in fields(one):
            assert torch.equal(getattr(one, field.name), getattr(other, field.name))


def test_a_batch_of_empty_images_has_one_place_each():
    padded = pad_targets([target(0), target(0)])
    assert padded.boxes.shape == (2, 1, 4) and padded.labels.dtype == torch.int64
    assert not padded.valid.any() and padded.places.shape == (0,)


def test_a_batch_twice_over():
    truths = [target(2), target(0), target(1)]
    twice, expected = pad_targets(truths).repeat(2), pad_targets(truths * 2)
    for field in fields(PaddedTargets):
        assert torch.equal(getattr(twice, field.name), getattr(expected, field.name))
