from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detzoo.ops.boxes import iou
from detzoo.ops.select import boxes_above, select, top_candidates
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


def test_boxes_above_are_as_many_as_the_fullest_image_has():
    scores = torch.tensor([[[0.1, 0.9], [0.2, 0.1], [0.6, 0.0]], [[0.1, 0.2], [0.0, 0.7], [0, 0]]])
    assert boxes_above(scores, 0.5).tolist() == [[0, 2], [1, 0]]
    assert boxes_above(scores, 0.95).shape == (2, 0)
