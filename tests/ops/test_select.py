from __future__ import annotations

import math
from unittest import mock

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detzoo.ops import select as ops_select
from detzoo.ops.boxes import iou
from detzoo.ops.select import (
    FEW,
    best_by_nms,
    boxes_above,
    grouped_nms,
    largest,
    select,
    soft_nms,
    top_candidates,
)
from detzoo.types import Candidates


def test_top_candidates_by_hand():
    scores = torch.tensor([[[0.1, 0.9], [0.8, 0.2], [0.3, 0.0]]])  # (1, 3, 2)
    best, index, label = top_candidates(scores, 3)
    assert best.tolist() == [[torch.tensor(x).item() for x in (0.9, 0.8, 0.3)]]
    assert index.tolist() == [[0, 1, 2]] and label.tolist() == [[1, 0, 0]]
    assert top_candidates(scores, 99)[0].shape == (1, 6)
    assert top_candidates(scores[:, :0], 5)[0].shape == (1, 0)


BOXES = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 9], [30, 30, 40, 40]]])
SCORES = torch.tensor([[0.5, 0.9, 0.8, 0.3]])
LABELS = torch.tensor([[0, 0, 1, 0]])


def chosen(**changes):
    options = {"score_threshold": 0.1, "nms_threshold": 0.5, "max_detections": 10} | changes
    (found,) = select(Candidates(BOXES, SCORES, LABELS), **options)
    rows = found.scores.tolist(), found.labels.tolist()
    return [(round(s, 2), label) for s, label in zip(*rows, strict=True)]


def test_select_by_hand():
    # 0.5 falls to 0.9 (IoU 0.9, same label); 0.8 has the same box as 0.9 but another label
    assert chosen() == [(0.9, 0), (0.8, 1), (0.3, 0)]
    assert chosen(nms_threshold=None) == [(0.9, 0), (0.8, 1), (0.5, 0), (0.3, 0)]
    assert chosen(nms_threshold=0.95) == [(0.9, 0), (0.8, 1), (0.5, 0), (0.3, 0)]
    assert chosen(max_detections=2) == [(0.9, 0), (0.8, 1)]
    assert chosen(score_threshold=0.85) == [(0.9, 0)]
    assert chosen(score_threshold=0.5, nms_threshold=None) == [(0.9, 0), (0.8, 1)]
    assert chosen(score_threshold=1.0) == []


def test_boxes_without_area_are_no_detections():
    boxes = BOXES.clone()
    boxes[0, 1, 2] = 0
    candidates = Candidates(boxes, SCORES, LABELS)
    (found,) = select(candidates, score_threshold=0.0, nms_threshold=0.5, max_detections=9)
    assert len(found) == 3


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(0, 30))
def test_select_is_greedy_nms_image_by_image(seed, batch, count):
    torch.manual_seed(seed)
    corner = torch.rand(batch, count, 2) * 1000  # far apart, so that shifts of groups would show
    boxes = torch.cat([corner, corner + torch.rand(batch, count, 2) * 500 + 1], 2)
    scores, labels = torch.rand(batch, count), torch.randint(0, 3, (batch, count))
    candidates = Candidates(boxes, scores, labels)
    found = select(candidates, score_threshold=0.2, nms_threshold=0.4, max_detections=8)
    for b in range(batch):
        kept: list[int] = []
        for i in scores[b].argsort(descending=True).tolist():
            rivals = [j for j in kept if labels[b, j] == labels[b, i]]
            if scores[b, i] > 0.2 and not any(
                iou(boxes[b, i : i + 1], boxes[b, j : j + 1]) > 0.4 for j in rivals
            ):
                kept.append(i)
        kept = kept[:8]
        assert torch.equal(found[b].boxes, boxes[b, kept])
        assert torch.equal(found[b].scores, scores[b, kept])
        assert torch.equal(found[b].labels, labels[b, kept])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 60), st.integers(1, 20), st.integers(1, 8))
def test_the_best_by_nms_are_the_first_of_nms(seed, number, count, few):
    torch.manual_seed(seed)
    corner = torch.rand(number, 2) * 30  # close, so that the best few seldom are enough
    boxes = torch.cat([corner, corner + torch.rand(number, 2) * 40 + 10], 1)
    scores, groups = torch.randint(0, 20, (number,)) / 20, torch.randint(0, 3, (number,))
    expected = grouped_nms(boxes, scores, groups, 0.4)[:count]
    with mock.patch.object(ops_select, "FEW", few):
        assert torch.equal(best_by_nms(boxes, scores, groups, 0.4, count), expected)


def test_groups_stay_apart_exactly():
    # IoU 0.4995 in the 80,000th group: float32 shifts of 8e7 px would round the boxes away.
    boxes = torch.tensor([[0.0, 0, 1000, 1000], [0, 0, 1000, 499.5]])
    group = torch.full((2,), 80_000)
    assert grouped_nms(boxes, torch.tensor([0.9, 0.8]), group, 0.499).tolist() == [0]
    assert grouped_nms(boxes, torch.tensor([0.9, 0.8]), group, 0.5).tolist() == [0, 1]


def soft_nms_of_one(boxes, scores, labels, sigma, count):
    """Bodla's algorithm, box by box."""
    scores, out, overlap = scores.tolist(), [-1.0] * len(scores), iou(boxes, boxes)
    for _ in range(min(count, len(scores))):
        best = max(range(len(scores)), key=lambda i: scores[i])
        if scores[best] < 0:
            break
        out[best] = scores[best]
        for i in range(len(scores)):
            if labels[i] == labels[best]:
                scores[i] *= math.exp(-(overlap[i, best].item() ** 2) / sigma)
        scores[best] = -1.0
    return out


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 8))
def test_soft_nms_is_the_loop_in_every_image_of_a_batch(seed, number, count):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(3, number, 2, generator=generator) * 10
    boxes = torch.cat([corner, corner + 1 + torch.rand(3, number, 2, generator=generator) * 9], 2)
    scores = torch.rand(3, number, generator=generator)
    scores[1, number // 2 :] = -1  # candidates that do not exist
    labels = torch.randint(0, 2, (3, number), generator=generator)
    found = soft_nms(Candidates(boxes, scores, labels), sigma=0.5, count=count)
    for i in range(3):
        expected = soft_nms_of_one(boxes[i], scores[i], labels[i], 0.5, count)
        torch.testing.assert_close(found[i], torch.tensor(expected), atol=1e-5, rtol=1e-4)


def test_soft_nms_by_hand():
    """IoU 0.9 with the best of its label: exp(-0.81 / 0.5) of 0.5 is left; the others stay."""
    candidates = Candidates(BOXES, SCORES, LABELS)
    found = soft_nms(candidates, sigma=0.5, count=4)
    expected = [0.5 * math.exp(-0.81 / 0.5), 0.9, 0.8, 0.3]
    torch.testing.assert_close(found[0], torch.tensor(expected))
    assert (soft_nms(candidates, sigma=0.5, count=2)[0] >= 0).tolist() == [
        *(False, True, True, False)
    ]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 700), st.integers(1, 9))
def test_the_largest_are_those_of_topk(seed, length, count):
    torch.manual_seed(seed)
    values = torch.randperm(2 * length)[: 2 * length].view(2, length).float()  # no two are equal
    count = min(count, length)
    for found, expected in zip(largest(values, count), values.topk(count), strict=True):
        assert torch.equal(found, expected)


def test_boxes_above_are_as_many_as_the_fullest_image_has():
    scores = torch.tensor([[[0.1, 0.9], [0.2, 0.1], [0.6, 0.0]], [[0.1, 0.2], [0.0, 0.7], [0, 0]]])
    assert boxes_above(scores, 0.5).tolist() == [[0, 2], [1, 0]]
    assert boxes_above(scores, 0.95).shape == (2, 0)


def test_many_boxes_are_suppressed_as_few_are():
    torch.manual_seed(0)
    corner = torch.rand(2 * FEW, 2) * 60
    boxes = torch.cat([corner, corner + torch.rand(2 * FEW, 2) * 40 + 1], 1)
    scores, groups = torch.rand(2 * FEW), torch.randint(0, 40, (2 * FEW,))
    groups[-1] = 41  # alone in its group
    kept = grouped_nms(boxes, scores, groups, 0.4)
    expected = torch.cat(
        [
            members[grouped_nms(boxes[members], scores[members], groups[members], 0.4)]
            for members in ((groups == g).nonzero().squeeze(1) for g in groups.unique())
        ]
    )
    assert torch.equal(kept, expected[scores[expected].argsort(descending=True)])
    assert (scores[kept].diff() <= 0).all() and len(kept) < len(boxes)
