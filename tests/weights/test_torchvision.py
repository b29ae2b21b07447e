"""The same weights and pixels through torchvision's detectors and ours: the same answers."""

from __future__ import annotations

import functools
import tempfile
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torchvision.models import detection

from detzoo.detectors import FastRCNN
from detzoo.nn import Backbone
from detzoo.types import Detections, Frame, Images, Target
from detzoo.weights import create_from_torchvision, load_torchvision

SIZES = [(96, 128), (64, 96), (90, 61)]
SSD_SIZES = [(272, 288), (272, 272)]  # less, and SSD300's last maps have no cell
DENSE = ["retinanet", "fcos"]  # those without a background among their labels
KINDS = ["faster_rcnn", "retinanet", "fcos", "ssd"]
K = 7


@functools.cache
def theirs(kind: str) -> nn.Module:
    """torchvision's detector, random weights scaled until it finds many objects."""
    torch.manual_seed(0)
    if kind == "ssd":
        return their_ssd()
    make = getattr(detection, f"{kind.replace('_', '')}_resnet50_fpn")
    model = make(weights=None, weights_backbone=None, num_classes=K, box_detections_per_img=2000)
    model.detections_per_img = 2000
    model.transform.resize = lambda image, target: (image, target)
    x = torch.rand(2, 3, 96, 128)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # the statistics of this one batch, not of a fresh network
        model.train().backbone(x)
        model.eval()
        if kind == "faster_rcnn":
            spread = [(model.rpn.head.conv[0][0], 1), (model.rpn.head.cls_logits, 2)]
            spread += [(model.rpn.head.bbox_pred, 0.3)]
            box = model.roi_heads.box_predictor
            spread += [(box.cls_score, 2), (box.bbox_pred, 1)]
        else:
            head = model.head
            towers = head.classification_head.conv, head.regression_head.conv
            if kind == "retinanet":
                spread = [(layer[0], 1) for tower in towers for layer in tower]
            else:
                spread = [(layer, 1) for tower in towers for layer in tower[::3]]
                head.regression_head.bbox_reg.bias.fill_(2)
                head.regression_head.bbox_ctrness.bias.fill_(2)
                model.score_thresh, model.nms_thresh = 0.05, 0.6
            cls, box = head.classification_head.cls_logits, head.regression_head.bbox_reg
            spread += [(cls, 1.5), (box, 0.3)]
            cls.bias.fill_(-3)
        for layer, std in spread:
            scale_to(layer, std, model, x)
    return model


@torch.no_grad()
def their_ssd() -> nn.Module:
    """ssd300_vgg16 likewise; its heads read one map each, so their inputs are computed once."""
    model = detection.ssd300_vgg16(
        weights=None, weights_backbone=None, num_classes=K, detections_per_img=2000
    ).eval()
    model.transform.resize = lambda image, target: (image, target)
    # above 0.4 both find fewer than the cap, under which a box without an area takes a place
    model.score_thresh, model.topk_candidates = 0.4, 10**6
    model.backbone.scale_weight.uniform_(5, 20)
    x = torch.stack([(torch.rand(3, 272, 272) - 0.45) * 255])
    maps = list(model.backbone(x).values())
    for head, std in ((model.head.classification_head, 1.5), (model.head.regression_head, 0.5)):
        for layer, features in zip(head.module_list, maps, strict=True):
            layer.weight *= std / layer(features).std()
    return model


def scale_to(layer: nn.Module, std: float, model: nn.Module, x: torch.Tensor) -> None:
    """Scale a layer's weights until its outputs have the given standard deviation on `x`."""
    seen = []
    hook = layer.register_forward_hook(lambda module, inputs, output: seen.append(output.flatten()))
    model(list(x))
    hook.remove()
    layer.weight *= std / torch.cat(seen).std()


def from_state(kind, state, arguments):
    with tempfile.NamedTemporaryFile(suffix=".pth") as file:
        torch.save(state, file)
        file.flush()
        return create_from_torchvision(kind, file.name, **arguments)


@pytest.fixture(scope="module", params=KINDS)
def pair(request):
    kind = request.param
    model = theirs(kind)
    arguments = {} if kind in DENSE else {"top_k": 10**6}
    if kind == "fcos":
        arguments["score_threshold"] = 0.05
    if kind == "ssd":
        arguments["score_threshold"] = 0.4
    ours = from_state(kind, model.state_dict(), arguments)
    ours.max_detections = 2000
    if kind not in DENSE:
        # theirs has a head for the background's box; the labels of ours start one lower
        assert ours.num_classes == K - 1
    return SimpleNamespace(kind=kind, theirs=model, ours=ours)


def batch(sizes, stride: int = 32) -> tuple[list[torch.Tensor], Images]:
    torch.manual_seed(1)
    images = [torch.randint(0, 256, (3, h, w), dtype=torch.uint8) for h, w in sizes]
    height = -(-max(h for h, _ in sizes) // stride) * stride
    width = -(-max(w for _, w in sizes) // stride) * stride
    pixels = torch.zeros(len(sizes), 3, height, width, dtype=torch.uint8)
    for i, image in enumerate(images):
        pixels[i, :, : image.shape[1], : image.shape[2]] = image
    frames = [Frame(i, size, size) for i, size in enumerate(sizes)]
    return [image / 255 for image in images], Images(pixels, frames)


def sizes_of(kind: str) -> list[tuple[int, int]]:
    return SSD_SIZES if kind == "ssd" else SIZES


def has_sides(boxes: torch.Tensor) -> torch.Tensor:
    return (boxes[:, 2:] - boxes[:, :2] >= 0.01).all(1)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


@torch.no_grad()
def test_raw_outputs_agree(pair):
    floats, images = batch(sizes_of(pair.kind), pair.ours.stride)
    normalised, _ = pair.theirs.transform(floats)
    assert relative(pair.ours.normalise(images), normalised.tensors) < 1e-6
    outputs = pair.ours.network(images)
    maps = list(pair.theirs.backbone(normalised.tensors).values())
    if pair.kind == "ssd":
        raw = pair.theirs.head(maps)
        anchors = pair.theirs.anchor_generator(normalised, maps)[0]
        assert relative(outputs.logits, raw["cls_logits"].roll(-1, 2)) < 1e-4
        assert relative(outputs.deltas, raw["bbox_regression"]) < 1e-4
        assert (outputs.anchors - anchors).abs().max() < 1e-4
        return
    if pair.kind == "fcos":
        raw = pair.theirs.head(maps)
        anchors = pair.theirs.anchor_generator(normalised, maps)[0]
        assert relative(outputs.logits, raw["cls_logits"]) < 1e-4
        assert relative(outputs.distances, raw["bbox_regression"]) < 1e-4
        assert relative(outputs.centerness, raw["bbox_ctrness"][..., 0]) < 1e-4
        assert (outputs.points - (anchors[:, :2] + anchors[:, 2:]) / 2).abs().max() < 1e-4
        assert (outputs.strides - (anchors[:, 2] - anchors[:, 0])).abs().max() < 1e-4
        return
    if pair.kind == "retinanet":
        raw = pair.theirs.head(maps)
        anchors = pair.theirs.anchor_generator(normalised, maps)[0]
        assert relative(outputs.logits, raw["cls_logits"]) < 1e-4
        assert relative(outputs.deltas, raw["bbox_regression"]) < 1e-4
        assert (outputs.anchors - anchors).abs().max() < 1e-4
        return
    objectness, deltas = pair.theirs.rpn.head(maps)
    flat = torch.cat([x.permute(0, 2, 3, 1).flatten(1) for x in objectness], 1)
    assert relative(outputs.objectness, flat) < 1e-4
    flat = [x.unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2).reshape(len(x), -1, 4) for x in deltas]
    assert relative(outputs.rpn_deltas, torch.cat(flat, 1)) < 1e-4
    anchors = pair.theirs.rpn.anchor_generator(normalised, maps)[0]
    assert (outputs.anchors - anchors).abs().max() < 1e-4
    features = pair.theirs.backbone(normalised.tensors)
    proposals, _ = pair.theirs.rpn(normalised, features)
    assert [len(p) for p in proposals] == [len(r) for r in outputs.rois]
    for p, r in zip(proposals, outputs.rois, strict=True):  # two that tie may come in either order
        distance = (p[:, None] - r[None]).abs().amax(2)
        assert distance.amin(0).max() < 0.01 and distance.amin(1).max() < 0.01
    heads = pair.theirs.roi_heads
    pooled = heads.box_roi_pool(features, outputs.rois, normalised.image_sizes)
    scores, deltas = heads.box_predictor(heads.box_head(pooled))
    assert relative(outputs.scores, scores.roll(-1, 1)) < 1e-4
    assert relative(outputs.deltas, deltas.unflatten(1, (-1, 4))[:, 1:]) < 1e-4


@torch.no_grad()
@pytest.mark.parametrize("first", [0, -1], ids=["batch", "alone"])
def test_detections_agree(pair, first):
    floats, images = batch(sizes_of(pair.kind)[first:], pair.ours.stride)
    assert_agree(pair.theirs(floats), pair.ours(images), int(pair.kind not in DENSE))


def assert_agree(theirs, ours, background):
    """background: 1 where their label 0 is the background."""
    for want, got in zip(theirs, ours, strict=True):
        # Boxes that clipping left as a line are reported by neither or by one of the two.
        whole, solid = (has_sides(boxes) for boxes in (want["boxes"], got.boxes))
        got = Detections(got.boxes[solid], got.scores[solid], got.labels[solid])
        boxes, scores = want["boxes"][whole], want["scores"][whole]
        labels = want["labels"][whole] - background
        assert len(boxes) == len(got) > 50
        assert (scores > 0.5).sum() > 10  # confident ones among them
        assert (got.scores - scores).abs().max() < 1e-4
        # Scores that tie may come in either order: compare as sets, by label and box.
        distance = (got.boxes[:, None] - boxes[None]).abs().amax(2)
        distance += 1e6 * (got.labels[:, None] != labels[None])
        distance += 1e6 * ((got.scores[:, None] - scores[None]).abs() > 1e-4)
        assert distance.amin(0).max() < 0.01
        assert distance.amin(1).max() < 0.01


@torch.no_grad()
def test_fast_rcnn_on_their_proposals_gives_their_detections():
    model = theirs("faster_rcnn")
    state = from_state("faster_rcnn", model.state_dict(), {}).state_dict()
    ours = FastRCNN(
        backbone=Backbone("resnet50", norm="frozen_bn"),
        num_classes=K - 1,
        neck="fpn",
        head_width=1024,
        aligned=False,
        nms_threshold=0.5,
        top_k=10**6,
        max_detections=2000,
    ).eval()
    ours.load_state_dict({k: v for k, v in state.items() if not k.startswith("rpn.")})
    floats, images = batch(SIZES)
    normalised, _ = model.transform(floats)
    features = model.backbone(normalised.tensors)
    proposals, _ = model.rpn(normalised, features)
    found = ours(Images(images.pixels, images.frames, proposals))
    wanted, _ = model.roi_heads(features, proposals, normalised.image_sizes)
    assert_agree(wanted, found, background=1)


@pytest.mark.parametrize("kind", KINDS)
def test_losses_agree(kind, monkeypatch):
    """With every anchor and region sampled, so that chance plays no part."""
    model = theirs(kind)
    everything = {}
    if kind == "faster_rcnn":
        everything = {"roi_batch": 10**6, "rpn_batch": 10**6, "roi_positive_fraction": 1.0}
        for sampler in (model.rpn.fg_bg_sampler, model.roi_heads.fg_bg_sampler):
            monkeypatch.setattr(sampler, "batch_size_per_image", 10**6)
            monkeypatch.setattr(sampler, "positive_fraction", 1.0)
    ours = from_state(kind, model.state_dict(), everything)
    floats, images = batch(sizes_of(kind)[:1], ours.stride)
    boxes = torch.tensor([[10.0, 20, 60, 90], [70, 30, 100, 50], [5, 60, 90, 94]])
    label = torch.tensor([0, 2, 5])
    target = Target(boxes, label, torch.zeros(3, dtype=torch.bool))
    background = int(kind not in DENSE)
    for module in model.modules():
        module.training = not isinstance(module, nn.BatchNorm2d)
    want = model(floats, [{"boxes": boxes, "labels": label + background}])
    model.eval()
    got = ours.losses(ours.network(images, [target]), [target])
    names = {
        "loss_objectness": "rpn_objectness",
        "loss_rpn_box_reg": "rpn_box",
        "loss_classifier": "class",
        "loss_box_reg": "box",
        "classification": "class",
        "bbox_regression": "box",
        "bbox_ctrness": "centerness",
    }
    for name, value in want.items():
        assert got[names[name]].item() == pytest.approx(value.item(), rel=2e-4), name


def test_the_published_layout_is_read():
    """The files of torchvision's hub have the names from before Conv2dNormActivation."""
    model = theirs("retinanet")
    state = model.state_dict()
    old = {}
    for key, value in state.items():
        if ".conv." in key:
            head, index, what = key.rsplit(".conv.", 1)[0], *key.rsplit(".", 3)[1::2]
            key = f"{head}.conv.{2 * int(index)}.{what}"
        elif "_blocks" in key and "extra" not in key:
            key = key.replace(".0.weight", ".weight").replace(".0.bias", ".bias")
        old[key] = value
    assert old.keys() != state.keys()
    one, two = (from_state("retinanet", s, {}).state_dict() for s in (old, state))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_weights_that_do_not_fit_are_refused():
    state = dict(theirs("retinanet").state_dict())
    detector = from_state("retinanet", state, {})
    state["head.classification_head.cls_logits.bias"] = torch.zeros(3)
    with pytest.raises(ValueError, match=r"head\.logits\.bias"):
        load_torchvision(detector, state)
    with pytest.raises(ValueError, match="no counterpart"):
        load_torchvision(detector, {"backbone.body.x": torch.zeros(1), "strange": torch.zeros(1)})
    with pytest.raises(ValueError, match="leave it out"):
        from_state("retinanet", theirs("retinanet").state_dict(), {"num_classes": 3})
