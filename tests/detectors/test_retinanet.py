from __future__ import annotations

import math

import pytest
import torch

from detzoo.detectors.retinanet import Outputs, RetinaNet
from detzoo.nn import Backbone
from detzoo.ops import boxes as box_ops
from detzoo.ops.assign import BACKGROUND, IGNORE
from detzoo.types import Target

from .targets import target

K = 3


def make(**settings: object) -> RetinaNet:
    small = {"channels": 8, "convs": 1, "levels": (3, 5), "smallest_anchor": 16.0}
    backbone = Backbone("test_resnet")
    return RetinaNet(backbone=backbone, num_classes=K, **(small | settings)).eval()


@pytest.fixture(scope="module")
def detector() -> RetinaNet:
    return make()


def blank(detector: RetinaNet, batch: int, size: tuple[int, int]) -> Outputs:
    """Outputs of a network that sees nothing anywhere."""
    maps = [torch.zeros(1, 1, size[0] // s, size[1] // s) for s in detector.neck.strides]
    anchors = detector.anchors(maps, size)
    counts = tuple(x[0].numel() * detector.anchors.a_cell for x in maps)
    logits = torch.full((batch, len(anchors), K), -12.0)
    return Outputs(logits, torch.zeros(batch, len(anchors), 4), anchors, counts)


def perfect(detector: RetinaNet, targets: list[Target], size: tuple[int, int]) -> Outputs:
    outputs = blank(detector, len(targets), size)
    matched = detector.assign(outputs.anchors, targets)
    for i, truth in enumerate(targets):
        positive = (matched[i] >= 0).nonzero().squeeze(1)
        found = matched[i, positive]
        outputs.logits[i, positive, truth.labels[found]] = 12.0
        boxes = truth.boxes[found]
        outputs.deltas[i, positive] = box_ops.encode(outputs.anchors[positive], boxes)
    return outputs


TRUTH = [
    target((3, 5, 40, 30, 0), (10, 8, 30, 28, 2), (0, 40, 20, 64, 0), (60, 1, 96, 20, 1)),
    target(),
    target((90, 60, 96, 64, 1)),  # smaller than every anchor: found by being forced
]


def test_ideal_outputs_give_the_objects_back(detector):
    found = detector.decode(perfect(detector, TRUTH, (64, 96)), [(64, 96)] * 3)
    for got, want in zip(found, TRUTH, strict=True):
        got_rows = sorted((label, *box) for label, box in zip(*pair(got), strict=True))
        rows = sorted((label, *box) for label, box in zip(*pair(want), strict=True))
        assert len(rows) == len(got_rows)
        for row, other in zip(rows, got_rows, strict=True):
            assert other == pytest.approx(row, abs=1e-3)


def pair(x) -> tuple[list[int], list[list[float]]]:
    return x.labels.tolist(), x.boxes.tolist()


def test_ideal_outputs_cost_next_to_nothing(detector):
    losses = detector.losses(perfect(detector, TRUTH, (64, 96)), TRUTH)
    assert sum(losses.values()).item() < 1e-3


def test_assignment_has_all_three_answers(detector):
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 4.5], [0, 0, 10, 2]])
    matched = detector.assign(anchors, [target((0, 0, 10, 10, 1)), target()])
    assert matched.tolist() == [[0, IGNORE, BACKGROUND], [BACKGROUND] * 3]


def test_a_loss_by_hand(detector):
    """One anchor of one image is positive; all logits 0, so p = 0.5; its delta is off by 1."""
    outputs = blank(detector, 1, (32, 32))
    outputs.logits.zero_()
    anchor = outputs.anchors[len(outputs.anchors) // 2]
    truth = Target(anchor[None], torch.tensor([2]), torch.tensor([False]))
    matched = detector.assign(outputs.anchors, [truth])
    positives, counted = (matched >= 0).sum().item(), (matched != IGNORE).sum().item()
    outputs.deltas[matched >= 0] = box_ops.encode(outputs.anchors[matched[0] >= 0], anchor) + 1
    losses = detector.losses(outputs, [truth])
    focal = 0.25 * math.log(2)  # (1 - p)^2 log p
    expected = focal * (0.25 * positives + 0.75 * (counted * K - positives)) / positives
    assert losses["class"].item() == pytest.approx(expected, rel=1e-5)
    assert losses["box"].item() == pytest.approx(4.0, rel=1e-5)


def test_what_a_crowd_covers_costs_nothing(detector):
    outputs = blank(detector, 1, (64, 64))
    outputs.logits.fill_(5.0)  # alarms everywhere
    everywhere = target((-99, -99, 199, 199, 0), crowd=True)
    assert detector.losses(outputs, [target()])["class"] > 100
    assert detector.losses(outputs, [everywhere])["class"] == 0


def test_the_prior_is_what_a_fresh_network_believes():
    detector = make(prior=0.02)
    bias = detector.head.logits.bias
    assert bias.sigmoid().tolist() == pytest.approx([0.02] * len(bias))


def test_cross_entropy_is_the_focal_loss_without_focus():
    ce, plain = make(loss="ce"), make(loss="focal", gamma=0.0, alpha=-1.0)
    outputs = blank(ce, 3, (64, 96))
    outputs.logits.normal_()
    assert ce.losses(outputs, TRUTH)["class"] == plain.losses(outputs, TRUTH)["class"]
    with pytest.raises(ValueError, match="focal, ce, balanced_ce, ohem"):
        make(loss="hinge")


def test_top_k_bounds_every_level(detector):
    outputs = blank(detector, 1, (64, 64))
    outputs.logits.fill_(3.0)
    few = make(top_k=2, nms_threshold=1.0)
    assert len(few.decode(outputs, [(64, 64)])[0]) == 2 * 3


def test_balanced_cross_entropy_is_weighed_by_alpha_alone():
    balanced, plain = make(loss="balanced_ce", alpha=0.75), make(gamma=0.0, alpha=0.75)
    outputs = blank(balanced, 3, (64, 96))
    outputs.logits.normal_()
    assert balanced.losses(outputs, TRUTH)["class"] == plain.losses(outputs, TRUTH)["class"]
    assert (
        balanced.losses(outputs, TRUTH)["class"] != make(loss="ce").losses(outputs, TRUTH)["class"]
    )


def test_ohem_counts_the_hardest_negatives_only():
    """Every probability is 1/2 but for one negative, which is a loud alarm."""
    detector = make(loss="ohem", ohem_ratio=2.0)
    outputs = blank(detector, 1, (32, 32))
    outputs.logits.zero_()
    anchor = outputs.anchors[len(outputs.anchors) // 2]
    truth = Target(anchor[None], torch.tensor([2]), torch.tensor([False]))
    matched = detector.assign(outputs.anchors, [truth])[0]
    positives = (matched >= 0).sum().item()
    outputs.logits[0, (matched == BACKGROUND).nonzero()[0], 0] = 9.0
    loud = math.log(1 + math.exp(9)) + (K - 1) * math.log(2)
    calm = (3 * positives - 1) * K * math.log(2)
    loss = detector.losses(outputs, [truth])["class"].item()
    assert loss == pytest.approx((loud + calm) / positives, rel=1e-5)
