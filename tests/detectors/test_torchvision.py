from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from detzoo.detectors.torchvision import MODELS, TorchvisionDetector
from detzoo.nn.backbones import Backbone
from detzoo.types import Detections, Frame, Images, Target

from .targets import target_of as target

K = 3
HEIGHT, WIDTH = 64, 96


def make(kind: str, **settings: object) -> TorchvisionDetector:
    torch.manual_seed(0)
    if kind == "faster_rcnn":
        settings = {"head_width": 32} | settings
    return TorchvisionDetector(
        backbone=Backbone("test_resnet"), num_classes=K, kind=kind, **{"channels": 64} | settings
    ).eval()


def batch(count: int = 2) -> Images:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (count, 3, HEIGHT, WIDTH), generator=generator).byte()
    return Images(pixels, [Frame(i, (HEIGHT, WIDTH), (HEIGHT, WIDTH)) for i in range(count)])


TARGETS = [target([(4, 8, 36, 40, 0), (30, 20, 62, 60, 2)]), target([(10, 10, 50, 30, 1)])]


class Features(nn.Module):
    """In the place of a torchvision model's transform and backbone: what they would have given."""

    def __init__(self, images: Images, maps: list[Tensor]) -> None:
        super().__init__()
        self.images, self.maps = images, maps

    def forward(self, images: object, targets: list | None = None) -> object:
        if isinstance(images, Tensor):
            return {str(i): x for i, x in enumerate(self.maps)}
        return ImageList(self.images.pixels, self.images.sizes), targets

    def postprocess(self, result: list, *sizes: object) -> list:
        return result


def theirs(detector: TorchvisionDetector, images: Images) -> nn.Module:
    """torchvision's whole model, its own forward included, on our pixels and our features."""
    model = detector.rules[0]
    with torch.no_grad():
        maps = detector.neck(detector.backbone(detector.normalise(images)))
    model.transform = model.backbone = Features(images, maps)
    return model


@pytest.mark.parametrize("kind", MODELS)
def test_detections_are_those_of_torchvisions_own_forward(kind: str) -> None:
    detector, images = make(kind, score_threshold=0.0), batch()
    for module in detector.head.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, std=0.1)
    with torch.no_grad():
        ours, expected = detector(images), theirs(detector, images).eval()(list(images.pixels))
    first = 1 if kind in ("faster_rcnn", "ssd") else 0
    assert all(len(found) > 1 for found in ours)
    for found, want in zip(ours, expected, strict=True):
        solid = (want["boxes"][:, 2:] > want["boxes"][:, :2]).all(1)
        assert torch.equal(found.labels, want["labels"][solid] - first)
        torch.testing.assert_close(found.boxes, want["boxes"][solid])
        torch.testing.assert_close(found.scores, want["scores"][solid])


@pytest.mark.parametrize("kind", MODELS)
def test_losses_are_those_of_torchvisions_own_forward(kind: str) -> None:
    # Few proposals and anchors: all of them are sampled, so that no random draw is in the losses.
    options = {"rpn_batch_size_per_image": 10**5, "box_batch_size_per_image": 10**5}
    detector = make(kind, options=options if kind == "faster_rcnn" else None)
    images = batch()
    first = 1 if kind in ("faster_rcnn", "ssd") else 0
    truth = [{"boxes": t.boxes, "labels": t.labels + first} for t in TARGETS]
    with torch.no_grad():
        ours = detector.losses(detector.network(images, TARGETS), TARGETS)
        expected = theirs(detector, images).train()(list(images.pixels), truth)
    assert sorted(x.item() for x in ours.values()) == pytest.approx(
        sorted(x.item() for x in expected.values()), rel=1e-5
    )


@pytest.mark.parametrize("kind", MODELS)
def test_a_crowd_box_is_left_out(kind: str) -> None:
    detector, images = make(kind), batch(1)
    objects = [(4, 8, 36, 40, 0), (30, 20, 62, 60, 2)]
    losses = []
    for truth in (target(objects, crowd=[False, True]), target(objects[:1])):
        torch.manual_seed(0)
        with torch.no_grad():
            found = detector.losses(detector.network(images, [truth]), [truth])
        losses.append([x.item() for x in found.values()])
    assert losses[0] == losses[1]


def assert_found(found: list[Detections], targets: list[Target]) -> None:
    for detections, truth in zip(found, targets, strict=True):
        sure = detections.scores > 0.5
        boxes, labels = detections.boxes[sure], detections.labels[sure]
        best, which = box_iou(truth.boxes, boxes).max(1)
        assert len(boxes) == len(truth.boxes)
        assert (best > 0.999).all()
        assert torch.equal(labels[which], truth.labels)


@pytest.mark.parametrize("kind", ["retinanet", "ssd", "fcos"])
def test_the_ideal_output_round_trip_of_the_dense_ones(kind: str) -> None:
    """Promise 7: the anchor nearest to each object says it, all others say nothing."""
    detector, images = make(kind), batch()
    outputs = detector.network(images)
    coder = detector.rules[0].box_coder
    head = {name: torch.zeros_like(x) for name, x in outputs.head.items()}
    head["cls_logits"] -= 20
    if kind == "ssd":
        head["cls_logits"][..., 0] = 0
    for i, truth in enumerate(TARGETS):
        free = torch.ones(len(outputs.anchors), dtype=torch.bool)
        for box, label in zip(truth.boxes, truth.labels, strict=True):
            centre = outputs.anchors.view(-1, 2, 2).mean(1)
            inside = ((centre > box[:2]) & (centre < box[2:])).all(1)
            n = (box_iou(box[None], outputs.anchors)[0] * inside * free).argmax()
            free[n] = False
            anchor = outputs.anchors[n : n + 1]
            encode = coder.encode if kind == "fcos" else coder.encode_single
            first, second = (anchor, box[None]) if kind == "fcos" else (box[None], anchor)
            head["bbox_regression"][i, n] = encode(first, second)[0]
            head["cls_logits"][i, n, label + (kind == "ssd")] = 20
            if kind == "fcos":
                head["bbox_ctrness"][i, n] = 20
    assert_found(detector.decode(outputs._replace(head=head), images.sizes), TARGETS)


def test_the_ideal_output_round_trip_of_faster_rcnn() -> None:
    """Promise 7: the regions are a little off, and the head moves each onto its object."""
    detector, images = make("faster_rcnn"), batch()
    outputs = detector.network(images)
    rois = [t.boxes + torch.tensor([2.0, 1.0, -3.0, 2.0]) for t in TARGETS]
    labels = torch.cat([t.labels for t in TARGETS]) + 1
    wanted = detector.rules[0].roi_heads.box_coder.encode([t.boxes for t in TARGETS], rois)
    scores = torch.full((3, K + 1), -20.0)
    scores[range(3), labels] = 20
    deltas = torch.zeros(3, K + 1, 4)
    deltas[range(3), labels] = torch.cat(wanted)
    outputs = outputs._replace(rois=rois, scores=scores, deltas=deltas.flatten(1))
    assert_found(detector.decode(outputs, images.sizes), TARGETS)


def test_regions_are_pooled_at_the_maps_true_strides() -> None:
    """The pooler reads strides off the images' sizes; an image half as high as the batch must not
    halve them."""
    detector = make("faster_rcnn")
    low = [Frame(0, (24, WIDTH), (24, WIDTH))]
    detector.network(Images(batch(1).pixels, low))
    assert detector.rules[0].roi_heads.box_roi_pool.scales == [1 / 4, 1 / 8, 1 / 16, 1 / 32]


def test_anchors_are_float32_under_autocast() -> None:
    detector = make("retinanet")
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        outputs = detector.network(batch())
    assert outputs.anchors.dtype == torch.float32
    assert outputs.head["cls_logits"].dtype == torch.float32


def test_anchor_sizes_are_ours_to_choose() -> None:
    anchors = make("retinanet", smallest_anchor=16).network(batch()).anchors
    first = anchors[:9]  # the first cell, stride 8: squares of 16, 20 and 25 are in the middle
    sides = (first[:, 2:] - first[:, :2])[3:6]
    assert sides.tolist() == [[16, 16], [20, 20], [24, 24]]  # rounded to whole corners
    sizes = [[10], [20], [40], [80], [160]]
    anchors = make("faster_rcnn", anchor_sizes=sizes).network(batch()).anchors
    assert (anchors[1, 2:] - anchors[1, :2]).tolist() == [10, 10]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "yolo"}, "kind is 'yolo'; choose one of faster_rcnn"),
        ({"kind": "fcos", "smallest_anchor": 8}, "fcos takes no smallest_anchor"),
        ({"kind": "fcos", "channels": 48}, "channels is 48"),
        ({"kind": "ssd", "head_width": 8}, "ssd has no head_width"),
        ({"kind": "retinanet", "options": {"topk": 8}}, "retinanet has no argument topk"),
        ({"kind": "retinanet", "levels": (3, 9)}, "levels is \\(3, 9\\)"),
        ({"kind": "retinanet", "levels": (1, 5)}, "strides are \\(4, 8, 16, 32\\)"),
        ({"kind": "retinanet", "anchor_sizes": [[8]]}, "anchor_sizes has 1 levels, not 5"),
    ],
)
def test_errors_name_the_value(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**settings)
