from __future__ import annotations

import math

import pytest
import torch

from detzoo.detectors.yolov3 import Outputs, YOLOv3, make_grid
from detzoo.nn import Backbone
from detzoo.types import Frame, Images, Target

from .targets import listed, target

K = 3
SIZE = (64, 96)
PRIORS = [[8, 8], [8, 16], [16, 8], [24, 24], [32, 48], [60, 40]]


def make(**settings: object) -> YOLOv3:
    small = {"channels": 8, "convs": 1, "anchors": PRIORS}
    return YOLOv3(backbone=Backbone("test_resnet"), num_classes=K, **(small | settings)).eval()


@pytest.fixture(scope="module")
def detector() -> YOLOv3:
    return make()


def blank(detector: YOLOv3, batch: int) -> Outputs:
    maps = tuple((SIZE[0] // s, SIZE[1] // s, s) for s in detector.strides)
    grid = make_grid(maps, detector.priors)
    count = len(grid.prior)
    return Outputs(
        torch.zeros(batch, count, 4),
        torch.full((batch, count), -12.0),
        torch.full((batch, count, K), -12.0),
        grid,
    )


TRUTH = [
    target((3, 5, 40, 30, 0), (10, 40, 30, 60, 1), (0, 0, 96, 64, 2), (86, 54, 96, 64, 0)),
    target(),
    target((40, 20, 52, 30, 1)),
]


def cells() -> list[tuple[int, int, int, float, float]]:
    """(row, column, stride, prior width, prior height) of all priors, in the outputs' order."""
    out = []
    for level, stride in enumerate((8, 16, 32)):
        for row in range(SIZE[0] // stride):
            for column in range(SIZE[1] // stride):
                for width, height in PRIORS[2 * level : 2 * level + 2]:
                    out.append((row, column, stride, width, height))
    return out


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    inside = max(width, 0) * max(height, 0)
    areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return inside / (sum(areas) - inside)


def reference(truth: Target) -> tuple[dict[int, int], set[int]]:
    """Positives and ignored by loops: section 2.1 and "Predictions Across Scales", 2.3."""
    priors = cells()
    positives, ignored = {}, set()
    for i, (x1, y1, x2, y2) in enumerate(truth.boxes.tolist()):
        size = (0, 0, x2 - x1, y2 - y1)
        fits = [overlap((0, 0, w, h), size) for w, h in PRIORS]
        best = PRIORS[fits.index(max(fits))]
        for n, (row, column, stride, width, height) in enumerate(priors):
            c_x, c_y = column * stride, row * stride
            here = c_x <= (x1 + x2) / 2 < c_x + stride and c_y <= (y1 + y2) / 2 < c_y + stride
            if [width, height] == best and here:
                positives[n] = i
            x, y = c_x + stride / 2, c_y + stride / 2
            prior = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            if overlap(prior, (x1, y1, x2, y2)) > 0.5:
                ignored.add(n)
    return positives, ignored - positives.keys()


def test_priors_lie_where_the_cells_are(detector):
    grid = blank(detector, 1).grid
    rows = torch.cat([grid.corner, grid.stride, grid.prior], 1).tolist()
    assert rows == [[c * s, r * s, s, w, h] for r, c, s, w, h in cells()]


def test_assignment_is_the_brute_force_reference_s(detector):
    owner, boxes, negative = detector.assign(blank(detector, 1).grid, TRUTH)
    seen = 0
    for i, truth in enumerate(TRUTH):
        positives, ignored = reference(truth)
        assert {n: o for n, o in enumerate(owner[i].tolist()) if o >= 0} == positives
        for n, o in positives.items():
            assert boxes[i, n].tolist() == truth.boxes[o].tolist()
        spared = {n for n, free in enumerate(negative[i].tolist()) if not free}
        assert spared - positives.keys() == ignored
        seen += len(ignored)
    assert seen > 0


def test_decoding_is_the_paper_s_equations(detector):
    torch.manual_seed(0)
    outputs = blank(detector, 1)
    outputs.deltas.normal_()
    boxes = detector.boxes(outputs, torch.arange(len(cells()))[None])[0]
    for (row, column, stride, p_w, p_h), t, box in zip(
        cells(), outputs.deltas[0].tolist(), boxes.tolist(), strict=True
    ):
        t_x, t_y, t_w, t_h = t
        b_x = (1 / (1 + math.exp(-t_x)) + column) * stride
        b_y = (1 / (1 + math.exp(-t_y)) + row) * stride
        b_w, b_h = p_w * math.exp(t_w), p_h * math.exp(t_h)
        expected = [b_x - b_w / 2, b_y - b_h / 2, b_x + b_w / 2, b_y + b_h / 2]
        assert box == pytest.approx(expected, rel=1e-4, abs=1e-3)


def perfect(detector: YOLOv3, targets: list[Target]) -> Outputs:
    outputs = blank(detector, len(targets))
    owner, boxes, _ = detector.assign(outputs.grid, targets)
    for i, truth in enumerate(targets):
        for n in (owner[i] >= 0).nonzero().flatten().tolist():
            x1, y1, x2, y2 = boxes[i, n].tolist()
            row, column, stride, p_w, p_h = cells()[n]
            place = torch.tensor([(x1 + x2) / 2 / stride - column, (y1 + y2) / 2 / stride - row])
            outputs.deltas[i, n, :2] = torch.logit(place, 1e-6)
            outputs.deltas[i, n, 2:] = torch.tensor([(x2 - x1) / p_w, (y2 - y1) / p_h]).log()
            outputs.objectness[i, n] = 12
            outputs.logits[i, n, truth.labels[owner[i, n]]] = 12
    return outputs


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


def test_a_loss_by_hand(detector):
    """All outputs 0: every probability is 1/2, every prior in the middle of its cell."""
    outputs = blank(detector, 1)
    for x in outputs[:3]:
        x.zero_()
    # 10 x 10 about (46, 25): prior 8 x 8 on stride 8, cell (3, 5), place (0.75, 0.125) in it
    truth = [target((41, 20, 51, 30, 1))]
    losses = detector.losses(outputs, truth)
    box = (0.25**2 + 0.375**2 + 2 * math.log(10 / 8) ** 2) / 2
    assert losses["box"].item() == pytest.approx(box, rel=1e-5)
    assert losses["class"].item() == pytest.approx(K * math.log(2), rel=1e-5)
    _, ignored = reference(truth[0])
    counted = len(cells()) - len(ignored)
    assert losses["objectness"].item() == pytest.approx(counted * math.log(2), rel=1e-5)


def test_what_a_crowd_covers_costs_nothing(detector):
    outputs = blank(detector, 1)
    outputs.objectness.fill_(5.0)
    everywhere = [target((-99, -99, 199, 199, 0), crowd=True)]
    assert detector.losses(outputs, [target()])["objectness"] > 100
    assert sum(detector.losses(outputs, everywhere).values()) == 0


def test_a_map_that_does_not_answer_feeds_those_that_do():
    detector = make(finest_level=2)
    assert detector.strides == (4, 8, 16)
    backbone = detector.backbone(torch.rand(1, 3, *SIZE))
    assert [x.shape[-1] for x in backbone] == [24, 12, 6, 3]
    with torch.no_grad():
        before = detector.head(detector.neck(backbone)[:3])[1]
        backbone[3] += torch.rand_like(backbone[3])
        after = detector.head(detector.neck(backbone)[:3])[1]
    assert before.shape == (1, 2 * (16 * 24 + 8 * 12 + 4 * 6))
    assert (before != after).any()
    outputs = detector.network(Images(torch.rand(1, 3, *SIZE), [Frame(0, SIZE, SIZE)]))
    assert outputs.objectness.shape == before.shape


def test_objectness_starts_at_the_prior():
    detector = make(prior=0.02)
    images = Images(torch.zeros(1, 3, *SIZE), [Frame(0, SIZE, SIZE)])
    for layer in detector.head.layers:
        torch.nn.init.zeros_(layer[1].weight)
    outputs = detector.network(images)
    assert outputs.objectness.sigmoid().unique().tolist() == pytest.approx([0.02])
    assert outputs.logits.shape == (1, len(cells()), K)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"anchors": PRIORS[:5]}, "as many for each of the 3 maps"),
        ({"anchors": [[1, 2, 3]] * 3}, "pairs above 0"),
        ({"finest_level": 1}, "no map has stride 2"),
        ({"channels": [8, 8]}, "one for each of .8, 16, 32"),
        ({"maps": 4}, "maps is 4, but there are maps of strides .8, 16, 32"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        make(**settings)
