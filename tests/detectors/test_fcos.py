from __future__ import annotations

import math

import pytest
import torch
from torchvision.ops import generalized_box_iou_loss

from detzoo.detectors.fcos import FCOS, Outputs, centerness, iou_loss, to_sides
from detzoo.nn import Backbone
from detzoo.ops.assign import BACKGROUND, IGNORE
from detzoo.types import Target, pad_targets

from .targets import target

K = 3


def make(**settings: object) -> FCOS:
    small = {"channels": 8, "convs": 1, "levels": (3, 5)}
    return FCOS(backbone=Backbone("test_resnet"), num_classes=K, **(small | settings)).eval()


@pytest.fixture(scope="module")
def detector() -> FCOS:
    return make()


def grid(*levels: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Points in the middle of the cells of maps (rows, columns, stride), and their strides."""
    points, strides = [], []
    for rows, columns, stride in levels:
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        points.append((torch.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride)
        strides.append(torch.full((rows * columns,), float(stride)))
    return torch.cat(points), torch.cat(strides)


def perfect(detector: FCOS, targets: list[Target], size: tuple[int, int]) -> Outputs:
    """What a network that knows the truth would put out."""
    shapes = [(size[0] // s, size[1] // s, s) for s in detector.neck.strides]
    points, strides = grid(*shapes)
    truth = pad_targets(targets)
    matched = detector.assign(points, strides, truth)
    logits = torch.full((*matched.shape, K), -12.0)
    distances = torch.ones(*matched.shape, 4)
    central = torch.full(matched.shape, -12.0)
    for i, one in enumerate(targets):
        at = (matched[i] >= 0).nonzero().squeeze(1)
        logits[i, at, one.labels[matched[i, at]]] = 12.0
        sides = to_sides(points[at], one.boxes[matched[i, at]]) / strides[at, None]
        distances[i, at] = sides
        central[i, at] = centerness(sides).logit(1e-6)
    counts = tuple(rows * columns for rows, columns, _ in shapes)
    return Outputs(logits, distances, central, points, strides, counts)


TRUTH = [
    target((3, 5, 40, 30, 0), (10, 8, 30, 28, 2), (0, 40, 24, 64, 0), (60, 1, 96, 20, 1)),
    target(),
    target((84, 50, 96, 64, 1)),
]


def test_the_network_s_points_are_the_middles_of_its_cells(detector):
    from detzoo.types import Frame, Images

    images = Images(torch.zeros(1, 3, 64, 96), [Frame(0, (64, 96), (64, 96))])
    outputs = detector.network(images)
    points, strides = grid((8, 12, 8), (4, 6, 16), (2, 3, 32))
    assert torch.equal(outputs.points, points)
    assert torch.equal(outputs.strides, strides)
    assert outputs.counts == (96, 24, 6)


def test_ideal_outputs_give_the_objects_back(detector):
    found = detector.decode(perfect(detector, TRUTH, (64, 96)), [(64, 96)] * 3)
    for got, want in zip(found, TRUTH, strict=True):
        rows = sorted((k, *box) for k, box in zip(*pair(want), strict=True))
        got_rows = sorted((k, *box) for k, box in zip(*pair(got), strict=True))
        assert len(rows) == len(got_rows)
        for row, other in zip(rows, got_rows, strict=True):
            assert other == pytest.approx(row, abs=1e-3)


def pair(x) -> tuple[list[int], list[list[float]]]:
    return x.labels.tolist(), x.boxes.tolist()


def test_ideal_outputs_leave_the_entropy_of_centre_ness_alone(detector):
    outputs = perfect(detector, TRUTH, (64, 96))
    losses = detector.losses(outputs, TRUTH)
    assert losses["class"].item() < 1e-3
    assert losses["box"].item() < 1e-5
    c = outputs.centerness.sigmoid()[(outputs.logits > 0).any(2)]
    entropy = -(c * c.log() + (1 - c) * (1 - c).log()).nan_to_num()  # 0 log 0 is 0
    assert losses["centerness"].item() == pytest.approx(entropy.mean().item(), abs=1e-4)


def test_centre_ness_by_hand():
    sides = torch.tensor([[4.0, 4, 4, 4], [1, 2, 4, 8], [0, 4, 8, 4]])
    assert centerness(sides).tolist() == pytest.approx([1.0, 0.25, 0.0])


def test_an_object_belongs_to_the_level_of_its_size(detector):
    """Farthest sides of 60, 68 and 132 pixels at stride 8 (up to 64), 16 (up to 128), 32."""
    points = torch.full((3, 2), 200.0)
    strides = torch.tensor([8.0, 16, 32])
    for half, level in ((60, 0), (68, 1), (132, 2), (1000, 2), (2, 0)):
        box = (200 - half, 200 - half, 200 + half, 200 + half, 1)
        matched = detector.assign(points, strides, pad_targets([target(box)]))[0].tolist()
        assert matched == [0 if i == level else BACKGROUND for i in range(3)], half


def test_a_point_in_two_objects_is_the_smaller_one_s(detector):
    points, strides = torch.tensor([[16.0, 16]]), torch.tensor([8.0])
    both = target((0, 0, 32, 32, 0), (8, 8, 24, 24, 1), (4, 4, 28, 28, 2))
    assert detector.assign(points, strides, pad_targets([both])).tolist() == [[1]]


def test_positives_lie_near_the_centre():
    """A box of 48 px about (24, 24), cells of 8: radius 1.5 takes cells whose middle is 12 away."""
    points, strides = grid((6, 6, 8))
    truth = pad_targets([target((0, 0, 48, 48, 0))])
    near = make().assign(points, strides, truth)[0].view(6, 6) >= 0
    assert near.sum() == 4 and near[2:4, 2:4].all()
    assert (make(center_radius=2.0).assign(points, strides, truth) >= 0).sum() == 16
    assert (make(center_radius=None).assign(points, strides, truth) >= 0).sum() == 36


def test_a_point_on_an_edge_lies_outside():
    detector = make(center_radius=None)
    points, strides = torch.tensor([[8.0, 4.0], [7.9, 4.0]]), torch.tensor([8.0, 8.0])
    assert detector.assign(points, strides, pad_targets([target((0, 0, 8, 8, 0))])).tolist() == [
        [BACKGROUND, 0]
    ]


def test_what_a_crowd_covers_costs_nothing(detector):
    outputs = perfect(detector, [target()], (64, 64))
    outputs.logits.fill_(5.0)
    everywhere = target((-99, -99, 199, 199, 0), crowd=True)
    assert detector.losses(outputs, [target()])["class"] > 100
    assert detector.losses(outputs, [everywhere])["class"] == 0
    points = torch.tensor([[4.0, 4.0]])
    truth = pad_targets([everywhere, target()])
    assert detector.assign(points, torch.tensor([8.0]), truth).tolist() == [[IGNORE], [BACKGROUND]]


def test_the_box_loss_is_torchvision_s_giou_and_minus_log_iou():
    torch.manual_seed(0)
    a, b = torch.rand(2, 50, 4).mul(5).add(0.1)
    boxes = [torch.cat([-x[:, :2], x[:, 2:]], 1) for x in (a, b)]
    torch.testing.assert_close(iou_loss(a, b, True), generalized_box_iou_loss(*boxes))
    # IoU of 2 x 2 in 4 x 4 is 4 / 16; (4 + 1) / (16 + 1) as the published code smooths it
    loss = iou_loss(torch.ones(1, 4), torch.full((1, 4), 2.0), False)
    assert loss.item() == pytest.approx(-math.log(5 / 17))


def test_the_score_is_class_probability_times_centre_ness():
    outputs = perfect(make(), [target((16, 16, 48, 48, 1))], (64, 64))
    at = (outputs.logits[0] > 0).any(1).nonzero()[0, 0]
    outputs.logits[0] = -12.0
    outputs.logits[0, at, 1], outputs.centerness[0, at] = 0.0, math.log(0.36 / 0.64)
    product = make().decode(outputs, [(64, 64)])[0].scores[0].item()
    mean = make(score="geometric_mean").decode(outputs, [(64, 64)])[0].scores[0].item()
    assert product == pytest.approx(0.5 * 0.36)
    assert mean == pytest.approx(math.sqrt(0.5 * 0.36))


def test_unknown_words_are_refused():
    for name in ("distances", "box_loss", "centerness_on", "score"):
        with pytest.raises(ValueError, match=f"detector.{name} is 'best'"):
            make(**{name: "best"})
