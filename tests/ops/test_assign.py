from __future__ import annotations

from unittest import mock

import torch
from hypothesis import given
from hypothesis import strategies as st

from detzoo.ops import assign
from detzoo.ops.assign import (
    BACKGROUND,
    IGNORE,
    bipartite,
    flat_boxes,
    inside_crowd,
    match,
    sample,
    slot_owners,
)
from detzoo.types import Target, pad_targets


def target(boxes, crowd=None) -> Target:
    boxes = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    crowd = torch.tensor(crowd or [False] * len(boxes), dtype=torch.bool)
    return Target(boxes, torch.zeros(len(boxes), dtype=torch.int64), crowd)


REFERENCES = torch.tensor(
    [[0.0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 4.5], [0, 0, 10, 2], [50, 50, 60, 60]]
)  # IoU with the first: 1, 0.8, 0.45, 0.2, 0


def of_one(references, truth, **options) -> torch.Tensor:
    """`match` for a batch of one image."""
    return match(references, pad_targets([truth]), **options)[0]


def drawn(matched, *arguments) -> tuple[torch.Tensor, torch.Tensor]:
    """`sample` for a batch of one: the positives and the negatives."""
    index, chosen = sample(matched[None], *arguments)
    index = index[chosen]
    return index[matched[index] >= 0], index[matched[index] < 0]


def test_thresholds():
    matched = of_one(REFERENCES, target([[0, 0, 10, 10]]), positive=0.5, negative=0.4)
    assert matched.tolist() == [0, 0, IGNORE, BACKGROUND, BACKGROUND]


def test_an_iou_of_exactly_a_threshold_is_above_it():
    halves = torch.tensor([[0.0, 0, 10, 5], [0, 0, 10, 4]])  # IoU 0.5 and 0.4
    matched = of_one(halves, target([[0, 0, 10, 10]]), positive=0.5, negative=0.4)
    assert matched.tolist() == [0, IGNORE]


def test_every_object_that_touches_a_reference_can_be_forced():
    truth = target([[0, 0, 10, 10], [57, 57, 67, 67]])  # the second: IoU 9/191 with the last
    assert of_one(REFERENCES, truth, positive=0.5, negative=0.4)[-1] == BACKGROUND
    assert of_one(REFERENCES, truth, positive=0.5, negative=0.4, force=True)[-1] == 1
    far = target([[200, 200, 210, 210]])
    assert (of_one(REFERENCES, far, positive=0.5, negative=0.4, force=True) == BACKGROUND).all()


def test_a_forced_reference_takes_its_own_best_object():
    # Object 1's best reference is reference 0, whose own best object is object 0.
    truth = target([[0, 0, 10, 10], [0, 0, 10, 30]])
    matched = of_one(REFERENCES[:1], truth, positive=0.5, negative=0.4, force=True)
    assert matched.tolist() == [0]


def test_crowds_are_neither_positive_nor_negative():
    truth = target([[0, 0, 10, 10], [45, 45, 70, 70]], [False, True])
    matched = of_one(REFERENCES, truth, positive=0.5, negative=0.4)
    assert matched.tolist() == [0, 0, IGNORE, BACKGROUND, IGNORE]
    # What is a positive stays one inside a crowd, and indices count all boxes, crowds too.
    truth = target([[0, 0, 100, 100], [0, 0, 10, 10]], [True, False])
    matched = of_one(REFERENCES, truth, positive=0.5, negative=0.4)
    assert matched.tolist() == [1, 1, IGNORE, IGNORE, IGNORE]


def test_no_objects_and_no_references():
    assert of_one(REFERENCES, target([]), positive=0.5, negative=0.4).tolist() == [BACKGROUND] * 5
    assert len(of_one(REFERENCES[:0], target([[0, 0, 1, 1]]), positive=0.5, negative=0.4)) == 0


@given(st.lists(st.sampled_from([BACKGROUND, IGNORE, 0, 3]), max_size=40), st.integers(0, 20))
def test_samples_hold_to_their_kinds_and_numbers(matched, size):
    matched = torch.tensor(matched, dtype=torch.int64)
    positives, negatives = drawn(matched, size, 0.25)
    assert (matched[positives] >= 0).all() and (matched[negatives] == BACKGROUND).all()
    assert len(positives) == min(int((matched >= 0).sum()), size // 4)
    assert len(negatives) == min(int((matched == BACKGROUND).sum()), size - len(positives))
    for kind in (positives, negatives):
        assert len(kind.unique()) == len(kind)


def test_negatives_fill_up_what_positives_leave():
    matched = torch.tensor([0, 1, *[BACKGROUND] * 8])
    assert [len(kind) for kind in drawn(matched, 4, 0.5)] == [2, 2]
    assert [len(kind) for kind in drawn(matched[1:], 4, 0.5)] == [1, 3]


def test_samples_are_random_and_seeded():
    matched = torch.full((100,), BACKGROUND)
    torch.manual_seed(0)
    one, other = (drawn(matched, 10, 0.5)[1] for _ in range(2))
    torch.manual_seed(0)
    assert one.tolist() == drawn(matched, 10, 0.5)[1].tolist() != other.tolist()


def test_what_is_too_far_to_be_background_is_ignored():
    near = {"positive": 0.5, "negative": 0.5, "background": 0.1}
    matched = of_one(REFERENCES, target([[0, 0, 10, 10]]), **near)
    assert matched.tolist() == [0, 0, BACKGROUND, BACKGROUND, IGNORE]
    assert (of_one(REFERENCES, target([]), **near) == IGNORE).all()


def test_a_batch_is_matched_as_its_images_are():
    """With any padding and batch size."""
    generator = torch.Generator().manual_seed(0)
    truths, images = [], []
    for count in (0, 1, 7):
        corner = torch.rand(count + 20, 2, generator=generator) * 60
        size = torch.rand(count + 20, 2, generator=generator) * 40 + 1
        boxes = torch.cat([corner, corner + size], 1)
        truths.append(target(boxes[:count].tolist(), [i % 3 == 1 for i in range(count)]))
        images.append(boxes[count:])
    options = {"positive": 0.5, "negative": 0.3, "background": 0.1, "force": True}
    expected = [of_one(r, t, **options) for r, t in zip(images, truths, strict=True)]
    for pairs in (2**25, 1, 300):
        with mock.patch.object(assign, "PAIRS", pairs):
            found = match(torch.stack(images), pad_targets(truths), **options)
        assert torch.equal(found, torch.stack(expected))
    assert len(torch.stack(expected).unique()) > 4


def test_a_batch_is_sampled_image_by_image():
    matched = torch.tensor([[BACKGROUND] * 6, [0, 1, 2, 0, IGNORE, IGNORE], [IGNORE] * 6])
    index, chosen = sample(matched, 4, 0.5)
    assert index.shape == chosen.shape == (3, 4)
    assert chosen.sum(1).tolist() == [4, 2, 0]
    assert (matched[1, index[1, :2]] >= 0).all()


def test_the_boxes_of_a_batch_in_one_row():
    truth = pad_targets(
        [target([]), target([[0, 0, 1, 1], [2, 2, 3, 3]], [False, True]), target([])]
    )
    boxes, labels, crowd, image = flat_boxes(truth)
    assert boxes.tolist() == [[0, 0, 1, 1], [2, 2, 3, 3]] and image.tolist() == [1, 1]
    assert crowd.tolist() == [False, True] and labels.tolist() == [0, 0]


def test_the_last_claim_holds_a_slot():
    slots = torch.tensor([[2, 0, 2], [1, 1, 0]])
    claims = torch.tensor([[True, True, True], [True, False, False]])
    assert slot_owners(slots, claims, 4).tolist() == [[1, -1, 2, -1], [-1, 0, -1, -1]]


def test_what_lies_half_in_a_crowd_box_is_crowded():
    boxes = [[0, 0, 10, 5], [50, 50, 60, 60]]
    truth = pad_targets([target(boxes, [True, False]), target([])])
    assert inside_crowd(REFERENCES, truth).tolist() == [
        [True, True, True, True, False],
        [False] * 5,
    ]


def test_of_two_objects_with_one_best_reference_the_closer_one_has_it():
    """What `force` does and does not do: the other object has no reference."""
    references = torch.tensor([[0.0, 0, 10, 10], [40, 40, 50, 50]])
    near, far = [0.0, 0, 10, 8], [0.0, 0, 10, 2]
    boxes = torch.tensor([near, far])
    truth = Target(boxes, torch.tensor([0, 1]), torch.zeros(2, dtype=torch.bool))
    matched = of_one(references, truth, positive=0.9, negative=0.3, force=True)
    assert matched.tolist() == [0, BACKGROUND]


def greedy(iou: list[list[float]]) -> list[int]:
    """MultiBox's matching as described: the best pair of all, repeatedly."""
    pairs = [(v, -m, -n) for m, row in enumerate(iou) for n, v in enumerate(row) if v > 0]
    owner = [BACKGROUND] * len(iou[0])
    done = set()
    for _, m, n in sorted(pairs, reverse=True):
        if -m not in done and owner[-n] == BACKGROUND:
            owner[-n] = -m
            done.add(-m)
    return owner


def test_bipartite_by_hand():
    """Both objects like reference 0 best; the closer one has it, the other has its second."""
    iou = torch.tensor([[[0.6, 0.5, 0.0], [0.9, 0.2, 0.0], [0.0, 0.0, 0.0]]])
    assert bipartite(iou).tolist() == [[1, 0, BACKGROUND]]


@given(st.integers(1, 6), st.integers(1, 7), st.integers(0, 10_000))
def test_bipartite_is_greedy_over_all_pairs(objects, references, seed):
    """Of any number of objects, more than there are references too; no two pairs alike."""
    generator = torch.Generator().manual_seed(seed)
    iou = torch.rand(2, objects, references, generator=generator)
    iou = iou * (torch.rand(iou.shape, generator=generator) > 0.3)
    assert bipartite(iou).tolist() == [greedy(image) for image in iou.tolist()]
