"""Frozen stages: neither their weights nor their statistics move, and no gradient reaches them."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from detzoo.detectors import CenterNet, RetinaNet
from detzoo.engine.folded import folded_layers
from detzoo.engine.folding import fold
from detzoo.engine.precision import prepare
from detzoo.nn import VGG16, Backbone, Darknet24, Hourglass, VGG16Conv5, ViT, darknet, vgg
from detzoo.nn.freezing import Freezable

NAME = "test_resnet"


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("mobilenetv2_050", [2, 1, 1, 1, 1, 1, 1, 1]),  # a stem of two, seven blocks
        ("resnet18", [4, 1, 1, 1, 1]),  # conv1, bn1, act1, maxpool; four layers
        ("darknet53", [1, 1, 1, 1, 1, 1]),
        ("convnext_atto", [2, 1, 1, 1, 1]),
    ],
)
def test_stages_are_the_networks_own(name: str, modules: list[int]) -> None:
    with torch.device("meta"):
        backbone = Backbone(name)
    assert [len(stage) for stage in backbone.stages] == modules


def test_vgg_s_stages_lie_between_its_max_pools() -> None:
    with torch.device("meta"):
        backbone = VGG16(frozen_stages=1)
    convolutions = [m for m in backbone.modules() if isinstance(m, nn.Conv2d)]
    assert [p.weight.requires_grad for p in convolutions] == [False] * 4 + [True] * 11


@pytest.mark.parametrize(
    ("make", "last", "count"),
    [
        (lambda last: Backbone(NAME, frozen_stages=last), 0, 5),
        (lambda last: Backbone(NAME, frozen_stages=last), 2, 5),
        (lambda last: ViT("test_vit", frozen_stages=last), 0, 7),
        (lambda last: ViT("test_vit", frozen_stages=last), 2, 7),
        (lambda last: Darknet24(frozen_stages=last), 1, 3),
        (lambda last: VGG16Conv5(frozen_stages=last), 1, 3),
        (lambda last: VGG16Conv5(frozen_stages=last, pool5=True), 0, 3),
        (lambda last: Hourglass(channels=(8, 8), stem=8, frozen_stages=last), 0, 3),
        (lambda last: Hourglass(channels=(8, 8), stem=8, frozen_stages=last), 1, 3),
    ],
)
def test_what_is_frozen_keeps_everything_and_has_no_backward(
    make: Callable[[int], Freezable], last: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(darknet, "_LAYERS", [(7, 4, 2), "M", (3, 8, 1), (1, 4, 1), "M", (3, 8, 1)])
    monkeypatch.setattr(vgg, "_BEFORE", [4, 4, "M", 8, "M"])
    monkeypatch.setattr(vgg, "_AFTER", [8, 8])
    torch.manual_seed(0)
    backbone = make(last)
    before = copy.deepcopy(backbone.state_dict())
    backbone.eval().train()  # as after a validation
    frozen = {id(p) for module in backbone.frozen_modules for p in module.parameters()}
    still = {id(p) for p in backbone.parameters() if not p.requires_grad}
    assert frozen and frozen <= still and len(backbone.stages) == count

    reached = []
    for i, stage in enumerate(backbone.stages):
        stage[-1].register_forward_hook(
            lambda module, args, out, i=i: reached.append((i, out.requires_grad))
        )
    optimizer = torch.optim.SGD([p for p in backbone.parameters() if p.requires_grad], 0.1)
    for _ in range(2):
        sum(x.mean() for x in backbone(torch.rand(2, 3, 64, 64))).backward()
        optimizer.step()
    assert dict(reached) == {i: i > last for i in range(count)}
    moved = {k for k, v in backbone.state_dict().items() if not torch.equal(v, before[k])}
    still |= {id(b) for module in backbone.frozen_modules for b in module.buffers()}
    of_frozen = {k for k, v in backbone.state_dict(keep_vars=True).items() if id(v) in still}
    assert of_frozen and not moved & of_frozen
    assert {k for k in before if k not in of_frozen} == moved


def test_a_stage_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"frozen_stages is 5; .* stages 0 \(its stem\) to 4"):
        Backbone(NAME, frozen_stages=5)
    with pytest.raises(ValueError, match="frozen_stages is -1"):
        Backbone(NAME, frozen_stages=-1)
    with pytest.raises(ValueError, match="has no stages that detzoo can tell"):
        Backbone("vgg11", frozen_stages=1)


def test_freezing_random_weights_is_refused() -> None:
    detector = RetinaNet(backbone=Backbone(NAME, frozen_stages=1), num_classes=2, channels=16)
    with pytest.raises(ValueError, match=r"backbone\.frozen_stages is 1, but .* are random"):
        detector.check_trainable()
    detector.backbone.pretrained = True  # as with weights=, or a start
    detector.check_trainable()


def test_copies_and_folding_know_what_is_frozen() -> None:
    torch.manual_seed(0)
    detector = CenterNet(
        backbone=Backbone(NAME, frozen_stages=2), num_classes=2, upsample_channels=16
    )
    average = copy.deepcopy(detector).eval()  # as an EMA is made
    average.train()
    assert not average.backbone.stages[2][0].training and average.backbone.stages[3][0].training
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        plain = detector.eval().backbone(x)
        fold(detector)
        folded = detector.backbone(x)
    for a, b in zip(plain, folded, strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_frozen_stages_are_folded_in_training_and_no_other_is() -> None:
    """Their norms stand still and want no gradient, so that nothing but time is saved."""
    torch.manual_seed(0)
    written = CenterNet(
        backbone=Backbone(NAME, frozen_stages=2), num_classes=2, upsample_channels=16
    )
    for module in written.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    folded = prepare(copy.deepcopy(written), "cpu", channels_last=False).train()
    written.train()
    x = torch.rand(2, 3, 64, 64)
    maps = [[m.detach() for m in d.backbone(x)] for d in (written, folded)]
    for a, b in zip(*maps, strict=True):
        assert torch.allclose(a, b, atol=1e-4)
    for detector in (written, folded):
        sum(m.square().mean() for m in detector.backbone(x)).backward()
    for a, b in zip(written.parameters(), folded.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None)
        assert a.grad is None or torch.allclose(a.grad, b.grad, rtol=1e-3, atol=1e-4)
    frozen = {m for part in folded.backbone.frozen_modules for m in part.modules()}
    layers = {layer.layer: layer.as_written(x) for layer in folded_layers(folded.backbone)}
    assert any(layer in frozen for layer in layers)
    assert all(as_written == (layer not in frozen) for layer, as_written in layers.items())
    assert all(layer.as_written(x.requires_grad_()) for layer in folded_layers(folded.backbone))
