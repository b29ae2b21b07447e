from __future__ import annotations

import math

import pytest
import torch

from detzoo.detectors.ssd import SSD, VARIANCES, Outputs, default_scales
from detzoo.nn import VGG16, Backbone
from detzoo.nn.norms import L2Norm
from detzoo.ops import boxes as box_ops
from detzoo.ops.anchors import default_boxes
from detzoo.ops.assign import BACKGROUND, IGNORE
from detzoo.types import Frame, Images, Target

from .targets import listed, target

K = 3
SIZE = (64, 96)
SHAPES = ((8, 12), (4, 6), (2, 3), (1, 2))


def make(**settings: object) -> SSD:
    small = {"maps": 4, "extra_channels": 16, "unpadded": 0}
    return SSD(backbone=Backbone("test_resnet"), num_classes=K, **(small | settings)).eval()


@pytest.fixture(scope="module")
def detector() -> SSD:
    return make()


def blank(detector: SSD, batch: int) -> Outputs:
    anchors = default_boxes(SHAPES, SIZE, detector.scales, detector.ratios)
    logits = torch.zeros(batch, len(anchors), K + 1)
    logits[..., K] = 14.0
    return Outputs(logits, torch.zeros(batch, len(anchors), 4), anchors)


TRUTH = [
    target((3, 5, 40, 30, 0), (10, 8, 30, 28, 2), (0, 40, 20, 64, 0), (60, 1, 96, 20, 1)),
    target(),
    target((93, 61, 96, 64, 1)),  # smaller than every default box: found by its best
]


def perfect(detector: SSD, targets: list[Target]) -> Outputs:
    outputs = blank(detector, len(targets))
    labels, boxes = detector.assign(outputs.anchors, targets)
    image, index = (labels >= 0).nonzero(as_tuple=True)
    outputs.logits[image, index, K] = 0
    outputs.logits[image, index, labels[image, index]] = 14.0
    outputs.deltas[image, index] = box_ops.encode(
        outputs.anchors[index], boxes[image, index], VARIANCES
    )
    return outputs


def test_the_paper_s_form_has_8732_default_boxes():
    with torch.device("meta"):
        detector = SSD(backbone=VGG16(), num_classes=20)
    images = Images(torch.empty(1, 3, 300, 300, device="meta"), [Frame(0, (300, 300), (300, 300))])
    outputs = detector.network(images)
    assert outputs.logits.shape == (1, 8732, 21) and outputs.deltas.shape == (1, 8732, 4)
    scales = default_scales(6, 0.1, 0.2, 0.9)
    assert scales == pytest.approx([0.1, 0.2, 0.375, 0.55, 0.725, 0.9, 1.075])


def test_the_first_map_has_cells_of_length_20():
    x = torch.randn(2, 8, 3, 4)
    assert L2Norm(8, 20.0)(x).norm(dim=1).flatten().tolist() == pytest.approx([20.0] * 24, rel=1e-5)


def test_ideal_outputs_give_the_objects_back_and_cost_next_to_nothing(detector):
    outputs = perfect(detector, TRUTH)
    found = detector.decode(outputs, [SIZE] * 3)
    for got, want in zip(found, TRUTH, strict=True):
        rows = sorted(listed(want))
        got_rows = sorted(listed(got, got.scores > 0.5))
        assert len(got_rows) == len(rows)
        for row, other in zip(got_rows, rows, strict=True):
            assert row == pytest.approx(other, abs=1e-2)
    assert sum(detector.losses(outputs, TRUTH).values()).item() < 1e-2


def test_matching_by_hand(detector):
    """IoU with the first object: 1, 0.8, 0.4, 0; the second touches only the last, by a corner."""
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 4], [50, 50, 60, 60]])
    labels, boxes = detector.assign(anchors, [target((0, 0, 10, 10, 2), (59, 59, 69, 69, 1))])
    assert labels.tolist() == [[2, 2, BACKGROUND, 1]]
    assert boxes[0, 3].tolist() == [59, 59, 69, 69]


def test_of_two_objects_with_one_best_box_the_closer_has_it_and_the_other_its_next(detector):
    """Bipartite first (section 2.2), for any order of the objects."""
    anchors = torch.tensor([[0.0, 0, 10, 10], [40, 40, 50, 50], [0, 20, 30, 30]])
    close, tall = (0, 0, 10, 10, 2), (0, 0, 10, 30, 1)
    for objects in ([close, tall], [tall, close]):
        labels, _ = detector.assign(anchors, [target(*objects)])
        assert labels.tolist() == [[2, BACKGROUND, 1]]
        alone, _ = detector.assign(anchors[:2], [target(*objects)])  # the other one has no box left
        assert alone.tolist() == [[2, BACKGROUND]]


def test_matching_is_a_loop_s(detector):
    generator = torch.Generator().manual_seed(1)
    anchors = blank(detector, 1).anchors
    corners = torch.rand(6, 2, generator=generator) * 50
    boxes = torch.cat([corners, corners + 8 + torch.rand(6, 2, generator=generator) * 40], 1)
    truth = Target(boxes, torch.arange(6) % K, torch.zeros(6, dtype=torch.bool))
    iou = box_ops.iou(boxes, anchors)
    expected = [BACKGROUND] * len(anchors)
    for n in range(len(anchors)):
        best = max(range(6), key=lambda m: iou[m, n].item())
        if iou[best, n] > 0.5:
            expected[n] = best
    for m in range(6):
        expected[iou[m].argmax().item()] = m
    labels, matched = detector.assign(anchors, [target(), truth])
    assert (labels[0] == BACKGROUND).all()
    for n, m in enumerate(expected):
        assert labels[1, n] == (m if m < 0 else truth.labels[m])
        if m >= 0:
            assert torch.equal(matched[1, n], boxes[m])


def test_a_loss_by_hand(detector):
    """One positive, three of many negatives, all at probability 1/4; its deltas are off by 1."""
    outputs = blank(detector, 1)
    outputs.logits.zero_()
    truth = [target((40, 24, 44, 28, 1))]
    labels, boxes = detector.assign(outputs.anchors, truth)
    positive = labels[0] >= 0
    assert positive.sum() == 1
    outputs.deltas[0, positive] = 1 + box_ops.encode(
        outputs.anchors[positive], boxes[0, positive], VARIANCES
    )
    losses = detector.losses(outputs, truth)
    assert losses["class"].item() == pytest.approx(4 * math.log(K + 1), rel=1e-5)
    assert losses["box"].item() == pytest.approx(4 * 0.5, rel=1e-5)


def test_what_a_crowd_covers_costs_nothing(detector):
    outputs = blank(detector, 1)
    outputs.logits[..., 0] = 20.0  # alarms everywhere
    one, everywhere = target((40, 24, 44, 28, 1)), target((-99, -99, 199, 199, 0), crowd=True)
    both = Target(
        *(
            torch.cat(x)
            for x in zip(
                (one.boxes, one.labels, one.crowd),
                (everywhere.boxes, everywhere.labels, everywhere.crowd),
                strict=True,
            )
        )
    )
    labels, _ = detector.assign(outputs.anchors, [both])
    assert (labels >= 0).sum() == 1 and (labels == IGNORE).sum() > len(outputs.anchors) / 2
    assert detector.losses(outputs, [one])["class"] > detector.losses(outputs, [both])["class"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"maps": 2}, "smaller max_stride"),
        ({"finest_level": 1}, "no map has stride 2"),
        ({"extra_channels": []}, "one number for all of them, or one for each"),
        ({"ratios": [[2]]}, "detector.ratios has 1 entries"),
        ({"scales": [0.1] * 4}, "4 maps: 5"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        make(**settings)


def test_an_image_too_small_for_the_last_maps_is_refused():
    images = Images(torch.zeros(1, 3, *SIZE), [Frame(0, SIZE, SIZE)])
    with pytest.raises(ValueError, match=r"detector\.unpadded=0"):
        make(unpadded=1).network(images)
