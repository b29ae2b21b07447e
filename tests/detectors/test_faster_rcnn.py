from __future__ import annotations

import pytest
import torch

from detzoo.detectors.faster_rcnn import FasterRCNN, Outputs
from detzoo.nn import Backbone
from detzoo.nn.rpn import RPNOutputs
from detzoo.ops import boxes as box_ops
from detzoo.ops.boxes import iou
from detzoo.ops.rois import WEIGHTS
from detzoo.types import Frame, Images, Target

K = 3
SIZE = (64, 96)


def make(**settings: object) -> FasterRCNN:
    small = {"channels": 8, "head_width": 16, "levels": (2, 5), "smallest_anchor": 16.0}
    max_stride = 16 if settings.get("neck") == "one_map" else 32
    backbone = Backbone("test_resnet", max_stride=max_stride)
    return FasterRCNN(backbone=backbone, num_classes=K, **(small | settings)).eval()


@pytest.fixture(scope="module")
def detector() -> FasterRCNN:
    torch.manual_seed(0)
    return make()


def target(*objects: tuple[float, ...], crowd: bool = False) -> Target:
    rows = torch.tensor(objects, dtype=torch.float32).reshape(-1, 5)
    return Target(rows[:, :4], rows[:, 4].long(), torch.full((len(rows),), crowd))


def images(batch: int = 2) -> Images:
    torch.manual_seed(3)
    pixels = torch.randint(0, 256, (batch, 3, *SIZE), dtype=torch.uint8)
    return Images(pixels, [Frame(i, SIZE, SIZE) for i in range(batch)])


TRUTH = [
    target((3, 5, 40, 30, 0), (10, 8, 30, 28, 2), (0, 40, 20, 64, 0), (60, 1, 96, 20, 1)),
    target(),
]


def anchors_of(detector: FasterRCNN) -> tuple[torch.Tensor, tuple[int, ...]]:
    maps = [torch.zeros(1, 1, SIZE[0] // s, SIZE[1] // s) for s in detector.neck.strides]
    counts = tuple(x[0].numel() * detector.rpn.anchors.a_cell for x in maps)
    return detector.rpn.anchors(maps, SIZE), counts


def test_ideal_outputs_give_the_objects_back(detector):
    """An ideal RPN proposes the objects, roughly; an ideal head names and places them."""
    anchors, counts = anchors_of(detector)
    objectness = torch.full((2, len(anchors)), -12.0)
    deltas = torch.zeros(2, len(anchors), 4)
    for i, truth in enumerate(TRUTH):
        for box in truth.boxes:
            best = iou(anchors, box[None]).squeeze(1).argmax()
            objectness[i, best] = 12.0
            deltas[i, best] = box_ops.encode(anchors[best], box) + 0.02
    rois = detector.rpn.propose(
        RPNOutputs(objectness, deltas, anchors, counts), [SIZE] * 2, training=False
    )
    scores, roi_deltas = [], []
    for proposals, truth in zip(rois, TRUTH, strict=True):
        score = torch.zeros(len(proposals), K + 1)
        score[:, K] = 12.0
        delta = torch.zeros(len(proposals), K, 4)
        if len(truth.boxes):
            for row, overlap in enumerate(iou(proposals, truth.boxes)):
                best = overlap.argmax()
                if overlap[best] > 0.7:
                    label = truth.labels[best]
                    score[row, label] = 24.0
                    wanted = box_ops.encode(proposals[row], truth.boxes[best], WEIGHTS)
                    delta[row, label] = wanted
        scores.append(score)
        roi_deltas.append(delta)
    outputs = Outputs(
        objectness,
        deltas,
        anchors,
        counts,
        rois,
        None,
        None,
        torch.cat(scores),
        torch.cat(roi_deltas),
    )
    found = detector.decode(outputs, [SIZE] * 2)
    assert len(found[1]) == 0
    got = sorted((label, *box) for label, box in zip(*rows(found[0]), strict=True))
    want = sorted((label, *box) for label, box in zip(*rows(TRUTH[0]), strict=True))
    assert len(got) == len(want)
    for one, other in zip(got, want, strict=True):
        assert one == pytest.approx(other, abs=1e-2)


def rows(x) -> tuple[list[int], list[list[float]]]:
    return x.labels.tolist(), x.boxes.tolist()


def test_proposals_are_the_best_of_each_level_clipped_and_thinned():
    detector = make(pre_nms=(3, 2), post_nms=(9, 3))
    anchors, counts = anchors_of(detector)
    generator = torch.Generator().manual_seed(0)
    objectness = torch.randn(1, len(anchors), generator=generator)
    deltas = torch.zeros(1, len(anchors), 4)
    (rois,) = detector.rpn.propose(
        RPNOutputs(objectness, deltas, anchors, counts), [SIZE], training=False
    )
    assert len(rois) == 3  # four levels offer two each; three are kept
    best, start = [], 0
    for count in counts:
        top = objectness[0, start : start + count].topk(2).indices + start
        best.append(top)
        start += count
    candidates = torch.cat(best)
    candidates = candidates[objectness[0, candidates].argsort(descending=True)]
    boxes = box_ops.clip(anchors[None], [SIZE])[0][candidates]
    assert all(any(torch.equal(roi, box) for box in boxes) for roi in rois)
    assert torch.equal(rois[0], boxes[0])
    (more,) = detector.rpn.propose(
        RPNOutputs(objectness, deltas, anchors, counts), [SIZE], training=True
    )
    assert 3 < len(more) <= 9


def test_training_keeps_more_proposals_than_test():
    detector = make(pre_nms=(50, 4), post_nms=(50, 4), roi_batch=1000, rpn_nms_threshold=1.0)
    with torch.no_grad():
        free, sampled = detector.network(images(1)), detector.network(images(1), TRUTH[1:])
    assert len(free.rois[0]) == 4 and len(sampled.rois[0]) == 50  # no object, so none is added


def test_a_proposal_without_an_area_takes_no_place():
    detector = make(pre_nms=(9, 2), post_nms=(9, 2))
    anchors, counts = anchors_of(detector)
    objectness, deltas = torch.full((1, len(anchors)), -5.0), torch.zeros(1, len(anchors), 4)
    outside, inside = counts[0] // 2, counts[0] // 2 + 3  # of the finest level, in the middle
    objectness[0, [outside, inside]] = torch.tensor([5.0, 4.0])
    deltas[0, outside, 0] = -100.0  # far to the left: the clipped box is a line
    (rois,) = detector.rpn.propose(
        RPNOutputs(objectness, deltas, anchors, counts), [SIZE], training=False
    )
    assert (rois[:, 2:] > rois[:, :2]).all() and len(rois) == 2
    torch.testing.assert_close(rois[0], box_ops.clip(anchors[None], [SIZE])[0][inside])


def test_regions_are_sampled_with_targets_and_not_by_mode(detector):
    batch = images()
    with torch.no_grad():
        free, sampled = detector.network(batch), detector.network(batch, TRUTH)
    assert not detector.training
    assert free.roi_labels is None and len(sampled.roi_labels) == len(sampled.scores)
    # the objects themselves are among the regions, so there are positives before the RPN learns
    for box in TRUTH[0].boxes:
        assert any(torch.equal(box, roi) for roi in sampled.rois[0])
    first = sampled.roi_labels[: len(sampled.rois[0])]
    assert (first < K).any() and (sampled.roi_labels[len(sampled.rois[0]) :] == K).all()


def test_a_sample_keeps_its_size_and_share():
    detector = make(roi_batch=8, roi_positive_fraction=0.25)
    proposals = TRUTH[0].boxes.repeat(5, 1) + torch.rand(20, 4)
    far = torch.tensor([[80.0, 50, 90, 60]]).repeat(20, 1)
    rois, labels, boxes = detector.assign([torch.cat([proposals, far])], TRUTH[:1])
    assert len(rois[0]) == len(labels) == len(boxes) == 8
    assert (labels < K).sum() == 2
    assert (iou(rois[0], boxes).diagonal()[labels < K] >= 0.5).all()


def test_crowds_are_not_background():
    detector = make()
    crowd = Target(
        torch.tensor([[0.0, 0, 50, 50]]), torch.zeros(1, dtype=torch.int64), torch.tensor([True])
    )
    inside, outside = [10.0, 10, 20, 20], [70.0, 10, 90, 40]
    rois, labels, _ = detector.assign([torch.tensor([inside, outside])], [crowd])
    assert rois[0].tolist() == [outside] and labels.tolist() == [K]


@pytest.mark.parametrize(
    "settings",
    [{}, {"region_features": "pool"}, {"neck": "one_map", "anchor_sizes": [[16.0, 32.0]]}],
    ids=["align", "pool", "one_map"],
)
def test_every_form_trains_and_detects(settings):
    torch.manual_seed(0)
    detector = make(**settings).train()
    losses = detector(images(), TRUTH)
    assert set(losses) == {"rpn_objectness", "rpn_box", "class", "box"}
    sum(losses.values()).backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    detector.eval()
    detector.score_threshold = 0.0
    with torch.no_grad():
        assert all(len(found) > 0 for found in detector(images()))


def test_without_a_single_proposal(detector):
    anchors, counts = anchors_of(detector)
    none = [torch.zeros(0, 4)] * 2
    empty = (torch.zeros(0, K + 1), torch.zeros(0, K, 4))
    zeros = torch.zeros(2, len(anchors)), torch.zeros(2, len(anchors), 4)
    outputs = Outputs(*zeros, anchors, counts, none, None, None, *empty)
    assert [len(d) for d in detector.decode(outputs, [SIZE] * 2)] == [0, 0]


def test_errors():
    with pytest.raises(ValueError, match="fpn, one_map"):
        make(neck="bifpn")
    with pytest.raises(ValueError, match="align, align_max, pool"):
        make(region_features="warp")
