from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
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
        tensors = {f.name for f in fields(whole)} - {"class_names", "image"}
        assert len(tensors) == 3
        for name in tensors:
            assert torch.equal(getattr(part, name), getattr(whole, name)[index])


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


def three() -> Detections:
    return Detections(
        boxes=torch.tensor([[1.0, 2, 11, 22], [0, 0, 5, 5], [3, 3, 4, 4.5]]),
        scores=torch.tensor([0.9, 0.5, 0.25]),
        labels=torch.tensor([1, 0, 1]),
        class_names=("cat", "dog\x1b"),
    )


def test_detections_have_names_and_a_short_repr() -> None:
    assert three().names == ["dog\x1b", "cat", "dog\x1b"]
    assert repr(three()) == "Detections(3: dog\\x1b 0.90, cat 0.50, dog\\x1b 0.25)"
    assert repr(replace(three(), class_names=None)[:1]) == "Detections(1: 1 0.90)"
    assert repr(three()[:0]) == "Detections(0)"
    many = three()[torch.tensor([0] * 9)]
    assert repr(many).endswith("0.90, ...)") and many.class_names == three().class_names


def test_detections_as_coco_results() -> None:
    first, *_, last = three().to_coco(7)
    assert first == {
        "image_id": 7,
        "category_id": 1,
        "bbox": [1, 2, 10, 20],
        "score": pytest.approx(0.9),
    }
    assert last["bbox"] == [3, 3, 1, 1.5]
    assert [row["category_id"] for row in three().to_coco(7, [10, 20])] == [20, 10, 20]


def test_detections_are_drawn_on_their_image() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    with pytest.raises(ValueError, match="know no image"):
        three().draw()
    drawn = replace(three(), image=image).draw()
    assert drawn.size == (40, 40) and np.asarray(drawn).any() and not image.any()
    assert np.array_equal(np.asarray(drawn), np.asarray(three().draw(image)))
    assert replace(three(), image=image)._repr_png_().startswith(b"\x89PNG")
    assert three()._repr_png_() is None
