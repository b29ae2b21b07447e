from __future__ import annotations

import pytest
import torch

from detzoo.detectors.faster_rcnn import FasterRCNN, Outputs
from detzoo.nn import Backbone
from detzoo.nn.rpn import RPNOutputs
from detzoo.ops import boxes as box_ops
from detzoo.ops.assign import IGNORE
from detzoo.ops.boxes import iou
from detzoo.ops.rois import WEIGHTS
from detzoo.types import Frame, Images, Target

from .targets import target

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
    with pytest.raises(ValueError, match="align, pool"):
        make(region_features="warp")


EDGES = torch.tensor(
    [[0.0, 0, 20, 20], [-1, 0, 19, 20], [30, 30, 50, 50], [80, 50, 100, 70], [62, 44, 82, 64]]
)


def test_anchors_that_cross_the_edge_are_nobody_s_and_not_background():
    """1506.01497, section 3.1.3. Of an image of 64 x 96 in a batch that is padded to more."""
    rpn = make(edge_anchors=False).rpn
    truth = [target((79, 50, 96, 64, 1)), target((29, 31, 49, 50, 0))]
    matched = rpn.assign(EDGES, truth, [(64, 96)] * 2)
    # the object at the right fits the crossing anchor best and is given the best one inside
    assert matched.tolist() == [[-1, IGNORE, -1, IGNORE, 0], [-1, IGNORE, 0, IGNORE, -1]]
    assert rpn.assign(EDGES, truth, [(80, 100)] * 2)[0].tolist() == [-1, IGNORE, -1, 0, -1]
    rpn.edge_anchors = True
    assert rpn.assign(EDGES, truth, [(64, 96)] * 2)[0].tolist() == [-1, -1, -1, 0, -1]


def test_an_image_in_which_all_anchors_cross_the_edge_trains_on_all():
    rpn = make(edge_anchors=False).rpn
    matched = rpn.assign(EDGES, [target((0, 0, 10, 10, 0))] * 2, [(10, 10), (64, 96)])
    assert (matched[0] != IGNORE).all() and (matched[1] == IGNORE).any()


def test_edge_anchors_are_by_neck():
    assert make().rpn.edge_anchors and not make(neck="one_map").rpn.edge_anchors
    assert make(neck="one_map", edge_anchors=True).rpn.edge_anchors
    torch.manual_seed(0)
    detector = make(neck="one_map", anchor_sizes=[[8.0, 16.0]])
    outputs = detector.network(images(), TRUTH)
    assert outputs.sizes == (SIZE, SIZE)
    first = RPNOutputs(*outputs[:4])
    torch.manual_seed(1)
    losses = detector.losses(outputs, TRUTH)
    torch.manual_seed(1)
    without = detector.rpn.losses(first, TRUTH, outputs.sizes)
    assert losses["rpn_objectness"] == without["rpn_objectness"]
    torch.manual_seed(1)
    assert losses["rpn_objectness"] != detector.rpn.losses(first, TRUTH)["rpn_objectness"]


@pytest.mark.parametrize("neck", ["fpn", "one_map"])
@pytest.mark.parametrize(
    ("features", "box_gradient", "passes"),
    [
        *(("align", True, True), ("align_max", True, True), ("align", False, False)),
        *(("pool", True, False), ("pool", False, False)),
    ],
)
def test_the_second_stage_s_gradient_reaches_the_boxes(neck, features, box_gradient, passes):
    """1703.06870's features have a gradient to the box, 1504.08083's have none."""
    torch.manual_seed(0)
    sizes = {"anchor_sizes": [[16.0, 32.0]]} if neck == "one_map" else {}
    detector = make(neck=neck, region_features=features, box_gradient=box_gradient, **sizes).train()
    torch.manual_seed(1)
    losses = detector.losses(detector.network(images(), TRUTH), TRUTH)
    (losses["class"] + losses["box"]).backward()
    reached = detector.rpn.deltas.weight.grad
    assert (reached is not None and bool(reached.any())) == passes
    assert detector.head.fc6.weight.grad.any()


def test_the_gradient_to_the_boxes_changes_no_number_forward():
    found = []
    for box_gradient in (False, True):
        torch.manual_seed(0)
        detector = make(box_gradient=box_gradient).train()
        torch.manual_seed(1)
        found.append(detector(images(), TRUTH))
        detector.eval()
        assert not detector(images())[0].boxes.requires_grad
    assert {k: v.item() for k, v in found[0].items()} == {k: v.item() for k, v in found[1].items()}


def test_each_stage_has_its_beta():
    assert (make().rpn.box_beta, make().box_beta) == (1 / 9, 1 / 9)
    paper = make(rpn_beta=0.2, box_beta=1.0)
    assert (paper.rpn.box_beta, paper.box_beta) == (0.2, 1.0)


@pytest.mark.parametrize(
    ("settings", "proposing", "read"),
    [
        ({"levels": (2, 6)}, (4, 8, 16, 32, 64), (4, 8, 16, 32)),
        ({"levels": (3, 5)}, (8, 16, 32), (8, 16, 32)),
        ({"neck": "one_map"}, (16,), (16,)),
    ],
)
def test_regions_are_read_from_no_map_beyond_the_backbone_s(settings, proposing, read):
    """P6 is the RPN's alone (1612.03144, section 4.1)."""
    detector = make(**settings)
    assert detector.rpn.anchors.strides == proposing and detector.regions.strides == read
