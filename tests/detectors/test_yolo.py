from __future__ import annotations

import pytest
import torch

from detzoo.detectors.yolo import YOLO, Outputs
from detzoo.nn import Backbone
from detzoo.types import Frame, Images, Target

from .targets import listed, target

K = 2
SIZE = (64, 96)


def make(**settings: object) -> YOLO:
    small = {"neck": "topdown", "head": "conv", "grid": None, "channels": 8, "convs": 1}
    return YOLO(backbone=Backbone("test_resnet"), num_classes=K, **(small | settings)).eval()


@pytest.fixture(scope="module")
def detector() -> YOLO:
    return make()


def blank(batch: int, grid: tuple[int, int], size: tuple[int, int]) -> Outputs:
    shape = (batch, *grid)
    return Outputs(torch.zeros(*shape, 2, 4), torch.zeros(*shape, 2), torch.zeros(*shape, K), size)


def perfect(detector: YOLO, targets: list[Target]) -> Outputs:
    """The second predictor of every cell with an object has it; the first says nothing."""
    outputs = blank(len(targets), (8, 12), SIZE)
    truth = detector.assign(outputs, targets)
    outputs.boxes[:, :, :, 1] = truth.boxes
    outputs.confidence[..., 1] = truth.object.float()
    outputs.classes.scatter_(-1, truth.labels[..., None], 1.0)
    return outputs


TRUTH = [
    target((3, 5, 40, 30, 0), (10, 40, 30, 60, 1), (0, 0, 96, 64, 1), (88, 56, 96, 64, 0)),
    target(),
]


def test_ideal_outputs_give_the_objects_back(detector):
    found = detector.decode(perfect(detector, TRUTH), [SIZE] * 2)
    for got, want in zip(found, TRUTH, strict=True):
        rows = sorted(listed(want))
        got_rows = sorted(listed(got))
        assert len(got_rows) == len(rows)
        for row, other in zip(got_rows, rows, strict=True):
            assert row == pytest.approx(other, abs=1e-3)


def test_ideal_outputs_cost_nothing(detector):
    losses = detector.losses(perfect(detector, TRUTH), TRUTH)
    assert sum(losses.values()).item() < 1e-9


def test_a_loss_by_hand(detector):
    """A 2 x 2 grid on 100 x 100 pixels, two boxes a cell, one object of class 0.

    The object is 25 x 36 about (25, 75): cell row 1, column 0, at (0.5, 0.5) in it; the square
    roots of its shares of the image are 0.5 and 0.6.
    """
    truth = [target((12.5, 57, 37.5, 93, 0))]
    outputs = blank(1, (2, 2), (100, 100))
    # Box 0 is 25 x 25 at the right place: IoU 25 / 36. Box 1 is 4 x 4 there: IoU 16 / 900.
    outputs.boxes[0, 1, 0] = torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.2, 0.2]])
    outputs.confidence[0, 1, 0] = torch.tensor([0.5, 0.4])
    outputs.confidence[0, 0, 0] = torch.tensor([0.2, 0.0])
    outputs.classes[0, 1, 0] = torch.tensor([0.9, 0.2])
    outputs.classes[0, 0, 1] = torch.tensor([0.7, 0.7])  # no object there: costs nothing
    losses = detector.losses(outputs, truth)
    # Only box 0 is responsible, and only its height is wrong, by 0.1.
    assert losses["box"].item() == pytest.approx(5 * 0.1**2, abs=1e-6)
    hit = (0.5 - 25 / 36) ** 2
    miss = 0.4**2 + 0.2**2  # box 1 of the object's cell, box 0 of an empty one
    assert losses["confidence"].item() == pytest.approx(hit + 0.5 * miss, abs=1e-6)
    assert losses["class"].item() == pytest.approx(0.1**2 + 0.2**2, abs=1e-6)


def test_a_cell_holds_one_object(detector):
    """The paper's limit: of two centres in one cell only the last is learnt, or ever found."""
    both = [target((10, 10, 30, 30, 0), (15, 5, 27, 37, 1))]  # centres (20, 20) and (21, 21)
    outputs = perfect(detector, both)
    assert detector.assign(outputs, both).object.sum() == 1
    (found,) = detector.decode(outputs, [SIZE])
    assert found.labels.tolist() == [1]
    assert found.boxes[0].tolist() == pytest.approx([15, 5, 27, 37], abs=1e-3)


def test_a_crowd_is_no_positive_and_no_negative(detector):
    outputs = blank(1, (8, 12), SIZE)
    outputs.confidence.fill_(1.0)
    outputs.classes.fill_(0.5)
    losses = detector.losses(outputs, [target((0, 0, 48, 64, 0), crowd=True)])
    assert losses["box"] == losses["class"] == 0
    assert losses["confidence"].item() == pytest.approx(0.5 * 2 * 8 * 6)  # the right half


def test_the_score_is_the_class_times_the_confidence(detector):
    outputs = blank(1, (8, 12), SIZE)
    outputs.boxes[0, 2, 3, 0] = torch.tensor([0.5, 0.5, 0.5, 0.5])
    outputs.confidence[0, 2, 3] = torch.tensor([0.8, -3.0])
    outputs.classes[0, 2, 3] = torch.tensor([0.25, 1.5])  # bounded to 1
    (found,) = detector.decode(outputs, [SIZE])
    assert found.scores.tolist() == pytest.approx([0.8, 0.2])
    assert found.labels.tolist() == [1, 0]
    # centre (3.5, 2.5) cells of 8 px, a quarter of 96 x 64
    assert found.boxes[0].tolist() == pytest.approx([28 - 12, 20 - 8, 28 + 12, 20 + 8])


@pytest.mark.parametrize(
    ("settings", "grid"),
    [
        ({"cell": 16}, (4, 6)),
        ({"neck": "one_map"}, (2, 3)),
        ({"grid": 4}, (4, 4)),
        ({"neck": "one_map", "head": "fc", "grid": 3, "head_width": 16}, (3, 3)),
    ],
)
def test_the_grid_is_what_was_asked_for(settings, grid):
    images = Images(torch.zeros(2, 3, *SIZE), [Frame(i, SIZE, SIZE) for i in range(2)])
    outputs = make(**settings).network(images)
    assert outputs.boxes.shape == (2, *grid, 2, 4)
    assert outputs.confidence.shape == (2, *grid, 2) and outputs.classes.shape == (2, *grid, K)


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_answers_begin_the_same_and_move_by_their_scale(scale):
    torch.manual_seed(0)
    yolo = make(answer_scale=scale)
    last = yolo.head[-1]
    images = Images(torch.zeros(1, 3, *SIZE), [Frame(0, SIZE, SIZE)])
    with torch.no_grad():
        last.weight.zero_()
        start = yolo.network(images)
        last.bias += 1
        moved = yolo.network(images)
    assert start.boxes.unique().tolist() == pytest.approx([0.5])
    assert start.confidence.unique().tolist() == [0]
    assert start.classes.unique().tolist() == pytest.approx([1 / K])
    assert (moved.classes - start.classes).unique().mean().item() == pytest.approx(scale)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"neck": "fpn"}, "one_map, topdown"),
        ({"head": "mlp"}, "fc, conv"),
        ({"head": "fc"}, "has so many cells"),
        ({"cell": 5}, "no map has stride 5"),
        ({"predictors": 0}, "at least one"),
        ({"answer_scale": 0.0}, "above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        make(**settings)
