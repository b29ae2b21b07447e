"""The second look, by hand: what a sampled region is to become, and no region that is not there."""

from __future__ import annotations

import torch

from detzoo.ops.rois import region_candidates, sample_regions
from detzoo.ops.select import select
from detzoo.types import Target


def test_a_sampled_region_is_to_become_its_object():
    objects = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]])
    target = Target(objects, torch.tensor([1, 0]), torch.tensor([False, False]))
    proposals = torch.tensor([[0.0, 0, 10, 9], [21, 20, 30, 30], [50, 50, 60, 60]])
    rois, labels, boxes = sample_regions(
        [proposals], [target], num_classes=2, positive=0.5, size=8, positive_fraction=0.5
    )
    columns = rois[0].tolist(), labels.tolist(), boxes.tolist()
    found = {tuple(roi): (label, box) for roi, label, box in zip(*columns, strict=True)}
    assert found[0.0, 0, 10, 9] == (1, [0, 0, 10, 10])
    assert found[21.0, 20, 30, 30] == (0, [20, 20, 30, 30])
    assert found[50.0, 50, 60, 60][0] == 2, "background is K"
    assert found[0.0, 0, 10, 10] == (1, [0, 0, 10, 10]), "the true boxes join the proposals"


def test_images_with_fewer_regions_gain_none_by_the_padding():
    rois = [torch.tensor([[0.0, 0, 8, 8]]), torch.tensor([[0.0, 0, 8, 8], [8, 8, 16, 16]])]
    scores = torch.tensor([[2.0, 0], [2, 0], [0, 0]])  # (3, K + 1): 0.881, 0.881, 0.5
    options = {"score_threshold": 0.0, "nms_threshold": 0.5, "max_detections": 9}
    for top_k, expected in ((9, [[0, 0, 8, 8], [8, 8, 16, 16]]), (1, [[0, 0, 8, 8]])):
        one, two = select(
            region_candidates(scores, torch.zeros(3, 1, 4), rois, top_k=top_k), **options
        )
        assert one.boxes.tolist() == [[0, 0, 8, 8]]  # what pads it takes no place either
        assert two.boxes.tolist() == expected
    assert [round(s, 3) for s in two.scores.tolist()] == [0.881]
