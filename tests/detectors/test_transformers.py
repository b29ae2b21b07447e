from __future__ import annotations

import ast
import copy
import inspect
import sys

import pytest
import torch
from torch import nn

pytest.importorskip("transformers", reason="needs the extra: pip install 'detzoo[transformers]'")

from timm.utils import ModelEmaV3

from detzoo.detectors.transformers import KINDS, PRIOR, Outputs, TransformersDetector
from detzoo.nn.backbones import Backbone
from detzoo.types import Frame, Images

from .targets import target_of as target

K = 3
HEIGHT, WIDTH = 64, 96


def make(kind: str, **settings: object) -> TransformersDetector:
    torch.manual_seed(0)
    if KINDS[kind].hybrid:
        settings = {"denoising": 12} | settings
    small = {"channels": 32, "hidden": 32, "encoder_layers": 1, "decoder_layers": 2, "queries": 20}
    return TransformersDetector(
        backbone=settings.pop("backbone", None) or Backbone("test_resnet"),
        num_classes=K,
        kind=kind,
        **small | settings,
    )


def batch(*widths: int) -> Images:
    generator = torch.Generator().manual_seed(1)
    shape = (len(widths), 3, HEIGHT, WIDTH)
    pixels = torch.randint(0, 256, shape, generator=generator).byte()
    return Images(pixels, [Frame(i, (HEIGHT, w), (HEIGHT, w)) for i, w in enumerate(widths)])


TARGETS = [target([(4, 8, 36, 40, 0), (30, 20, 62, 60, 2)]), target([(10, 10, 50, 30, 1)])]


@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_the_librarys_own(kind: str) -> None:
    """Its model called as it is meant to be, labels and all, gives the same total."""
    detector, images = make(kind).train(), batch(WIDTH, 48)
    for module in detector.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    detector.model.config.dropout = 0.0
    torch.manual_seed(3)
    ours = sum(detector(images, TARGETS).values())
    theirs = detector.model
    theirs.loss_function = detector.their_losses
    scale, labels = [(WIDTH, HEIGHT), (WIDTH if KINDS[kind].hybrid else 48, HEIGHT)], []
    for truth, (w, h) in zip(TARGETS, scale, strict=True):
        x1, y1, x2, y2 = (truth.boxes / torch.tensor([w, h, w, h])).unbind(1)
        boxes = torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], 1)
        labels.append({"class_labels": truth.labels, "boxes": boxes})
    mask = torch.ones(2, HEIGHT, WIDTH, dtype=torch.long)
    mask[1, :, 48:] = 0  # a whole cell of stride 32
    given = {} if KINDS[kind].hybrid else {"pixel_mask": mask}
    torch.manual_seed(3)
    found = theirs(detector.normalise(images), labels=labels, **given)
    assert ours.item() == pytest.approx(found.loss.item(), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_detections_are_what_the_librarys_forward_gives(kind: str) -> None:
    detector, images = make(kind).eval(), batch(WIDTH, WIDTH)
    with torch.no_grad():
        out = detector.model(detector.normalise(images))
        found = detector.network(images)
    assert torch.equal(found.logits, out.logits) and torch.equal(found.boxes, out.pred_boxes)
    assert found.asked is None
    with pytest.raises(ValueError, match="no targets"):
        detector.losses(found, TARGETS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_ideal_output_round_trip(kind: str) -> None:
    """Promise 7: one query says each object, all others say nothing."""
    detector, images = make(kind).eval(), batch(WIDTH, 80)
    scale = torch.tensor([[[WIDTH, HEIGHT] * 2], [[80.0, HEIGHT] * 2]])
    if KINDS[kind].hybrid:
        scale[1] = scale[0]
    logits = torch.full((2, 20, K + (kind == "detr")), -20.0)
    if kind == "detr":
        logits[..., K] = 0
    boxes = torch.full((2, 20, 4), 0.5)
    for i, truth in enumerate(TARGETS):
        for n, (box, label) in enumerate(zip(truth.boxes, truth.labels, strict=True)):
            logits[i, n + 3, label] = 20
            x1, y1, x2, y2 = (box / scale[i, 0]).tolist()
            boxes[i, n + 3] = torch.tensor([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1])
    with torch.no_grad():
        assert torch.equal(detector.network(images).scale, scale)
    for found, truth in zip(
        detector.decode(Outputs(logits, boxes, scale, None), images.sizes), TARGETS, strict=True
    ):
        sure = found[found.scores > 0.5]
        order = sure.boxes[:, 0].argsort()
        torch.testing.assert_close(sure.boxes[order], truth.boxes)
        assert torch.equal(sure.labels[order], truth.labels)


@pytest.mark.parametrize("kind", ["deimv2", "detr"])
def test_a_crowd_box_is_left_out(kind: str) -> None:
    detector, images = make(kind).eval(), batch(WIDTH)
    objects = [(4, 8, 36, 40, 0), (30, 20, 62, 60, 2)]
    losses = []
    for truth in (target(objects, crowd=[False, True]), target(objects[:1])):
        with torch.no_grad():
            found = detector.losses(detector.network(images, [truth]), [truth])
        losses.append([x.item() for x in found.values()])
    assert losses[0] == losses[1]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "detr"])
def test_a_class_begins_at_the_prior(kind: str) -> None:
    detector = make(kind).eval()
    with torch.no_grad():
        probability = detector.network(batch(WIDTH)).logits.sigmoid()
    assert PRIOR / 3 < probability.mean() < PRIOR * 3


@pytest.mark.parametrize("kind", ["rt_detr_v2", "deimv2"])
def test_denoising_ends_where_objects_are_many(kind: str) -> None:
    detector = make(kind).train()
    rows = [(x, y, x + 8, y + 8, (x + y) % K) for x in range(0, 80, 4) for y in range(0, 35)]
    for count, denoised in ((12, True), (13, False), (700, False)):
        truth = [target(rows[:count])]
        outputs = detector.network(batch(WIDTH), truth)
        assert (outputs.asked[1]["denoising_meta_values"] is not None) == denoised
        assert outputs.logits.shape == (1, 20, K)
        losses = detector.losses(outputs, truth)
        assert all(torch.isfinite(x) for x in losses.values())
        detector.zero_grad()
        sum(losses.values()).backward()
        assert detector.model.model.denoising_class_embed.weight.grad is not None, "DDP waits"
    assert detector.model.config.num_denoising == 12


@pytest.mark.parametrize("kind", KINDS)
def test_norms_are_not_frozen_and_are_seen_where_they_are(kind: str) -> None:
    detector = make(kind)
    frozen = [n for n, m in detector.named_modules() if "Frozen" in type(m).__name__]
    assert not frozen
    norms = [m for m in detector.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(norm.weight.requires_grad for norm in norms)
    neck = [m for m in detector.model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all((norm.weight == 1).all() for norm in neck)
    detector.check_trainable()


def test_a_frozen_norm_of_theirs_without_statistics_is_refused() -> None:
    from transformers.models.rt_detr_v2.modeling_rt_detr_v2 import RTDetrV2FrozenBatchNorm2d

    detector = make("detr")
    detector.extra = RTDetrV2FrozenBatchNorm2d(4)
    with pytest.raises(ValueError, match="extra is a frozen batch norm without statistics"):
        detector.check_trainable()


@pytest.mark.parametrize("kind", ["rt_detr_v2", "dab_detr", "deformable_detr"])
def test_a_tied_parameter_is_one(kind: str) -> None:
    """Saved once, averaged once, and still tied in a copy and after loading."""
    detector = make(kind)
    state = detector.state_dict()
    parameters = dict(detector.named_parameters())
    assert {name for name in state if name in parameters} == parameters.keys()
    pointers = [x.data_ptr() for name, x in state.items() if name in parameters]
    assert len(pointers) == len(set(pointers))
    ema = ModelEmaV3(detector, decay=0.5)
    with torch.no_grad():
        for parameter in detector.parameters():
            parameter += 1
    ema.update(detector)
    for name, parameter in ema.module.named_parameters():
        torch.testing.assert_close(parameter, parameters[name] - 0.5, msg=name)
    twin = make(kind)
    twin.load_state_dict(detector.state_dict())
    for model in (twin, copy.deepcopy(detector)):
        for alias, first in model.tied.items():
            assert model.get_parameter(alias) is model.get_parameter(first)


@pytest.mark.parametrize("kind", ["rt_detr_v2", "detr"])
def test_the_backbone_is_ours_once(kind: str) -> None:
    """A copy computes with its own backbone."""
    detector = make(kind).eval()
    twin = copy.deepcopy(detector)
    with torch.no_grad():
        for parameter in twin.backbone.parameters():
            parameter.zero_()
        assert not torch.equal(detector(batch(WIDTH))[0].boxes, twin(batch(WIDTH))[0].boxes)
    assert not any(name.startswith("model.") and "backbone.0" in name for name in twin.state_dict())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "yolo"}, "kind is 'yolo'; choose one of rt_detr_v2"),
        ({"kind": "detr", "denoising": 5}, "detr has no denoising"),
        ({"kind": "detr", "channels": 48}, "channels is 48"),
        ({"kind": "detr", "options": {"dropuot": 0.1}}, "options.dropuot: transformers' Detr"),
        ({"kind": "detr", "options": {"backbone_config": {}}}, "options.backbone_config"),
        ({"kind": "detr", "options": {"d_model": 64}}, "options.d_model"),
        ({"kind": "detr", "options": {"dropout": "much"}}, "transformers' DetrConfig.*dropout"),
        ({"kind": "detr", "queries": 2.5}, "transformers' DetrConfig.*num_queries"),
        ({"kind": "deformable_detr", "options": {"two_stage": True}}, "options.two_stage"),
        (
            {"kind": "d_fine", "backbone": Backbone("test_resnet", max_stride=16)},
            "strides 4, 8, 16 there is no 32",
        ),
    ],
)
def test_errors_name_the_value(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        if settings["kind"] in KINDS:
            make(**settings)
        else:
            TransformersDetector(backbone=Backbone("test_resnet"), num_classes=K, **settings)


def test_without_the_extra_one_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import detzoo.nn.transformers

    monkeypatch.delattr(detzoo.nn, "transformers")
    monkeypatch.setitem(sys.modules, "detzoo.nn.transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'detzoo\[transformers\]'"):
        make("detr")


def test_the_library_is_imported_where_it_is_used() -> None:
    top = ast.parse(inspect.getsource(sys.modules[TransformersDetector.__module__])).body
    imported = [
        getattr(node, "module", None) or node.names[0].name
        for node in top
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert "torch" in imported
    assert not {"transformers", "detzoo.nn.transformers"} & set(imported)
