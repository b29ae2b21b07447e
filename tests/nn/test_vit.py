from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from detzoo.detectors import CenterNet, FasterRCNN, RetinaNet
from detzoo.nn import Backbone, ViT
from detzoo.types import Frame, Images, Target

NAME = "test_vit"  # timm's own, for tests: 0.4 M parameters


@pytest.fixture(scope="module")
def backbone() -> ViT:
    torch.manual_seed(0)
    return ViT(NAME).eval()


@pytest.mark.parametrize("size", [(64, 96), (160, 32)])
def test_maps_are_as_declared(backbone: ViT, size: tuple[int, int]) -> None:
    maps = backbone(torch.rand(2, 3, *size))
    assert backbone.strides == (4, 8, 16, 32)
    for x, channels, stride in zip(maps, backbone.channels, backbone.strides, strict=True):
        assert x.shape == (2, channels, size[0] // stride, size[1] // stride)


def test_the_map_of_stride_16_is_timms_last(backbone: ViT) -> None:
    """At the size that it was made for, where no position is interpolated."""
    x = torch.rand(1, 3, *backbone.model.patch_embed.img_size)
    with torch.no_grad():
        tokens = backbone.model.forward_features(x)[:, backbone.model.num_prefix_tokens :]
        found = backbone(x)
    assert torch.equal(found[2].flatten(2).mT, tokens)
    torch.testing.assert_close(found[3], nn.functional.max_pool2d(found[2], 2))


def test_positions_are_interpolated(backbone: ViT) -> None:
    """The same pixels everywhere: only positions can make two cells differ, at any size."""
    with torch.no_grad():
        x = backbone(torch.full((1, 3, 96, 64), 0.3))[2]
    assert x.std((2, 3)).min() > 1e-4


def test_max_stride_and_every_parameter_learns() -> None:
    short = ViT(NAME, max_stride=16)
    assert short.strides == (4, 8, 16) and len(short.channels) == 3
    sum((x**2).mean() for x in short(torch.rand(1, 3, 64, 64))).backward()
    assert all(p.grad is not None and p.grad.any() for p in short.parameters())


def test_weights_are_loaded_strictly_but_for_the_classifier(tmp_path) -> None:
    whole = timm.create_model(NAME, num_classes=7)
    torch.save(whole.state_dict(), tmp_path / "whole.pth")
    loaded = ViT(NAME, weights=tmp_path / "whole.pth", options={"num_heads": 1})
    assert torch.equal(loaded.model.pos_embed, whole.pos_embed)
    torch.save({"pos_embed": whole.pos_embed}, tmp_path / "bad.pth")
    with pytest.raises(ValueError, match=r"bad\.pth.*lacks"):
        ViT(NAME, weights=tmp_path / "bad.pth")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"name": "vit_minuscule"}, "timm does not know"),
        ({"name": "resnet18"}, "no vision transformer of 16-pixel patches"),
        ({"name": "vit_tiny_patch16_224", "options": {"patch_size": 8}}, "of 16-pixel patches"),
        ({"options": {"pretrained_cfg": "x"}}, "use backbone.pretrained"),
    ],
)
def test_errors(settings: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ViT(**{"name": NAME} | settings)


def test_the_other_backbone_refuses_a_transformer() -> None:
    with pytest.raises(ValueError, match=r"all of stride 16.*detzoo\.nn\.ViT"):
        Backbone(NAME)


@pytest.mark.parametrize("kind", [FasterRCNN, RetinaNet, CenterNet])
def test_detectors_train_on_it(kind: type) -> None:
    torch.manual_seed(0)
    small = {CenterNet: {"upsample_channels": 16}, FasterRCNN: {"head_width": 32}}.get(kind, {})
    detector = kind(backbone=ViT(NAME), num_classes=2, **small).train()
    pixels = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    images = Images(pixels, [Frame(i, (64, 96), (64, 96)) for i in range(2)])
    box = Target(torch.tensor([[4.0, 8, 60, 50]]), torch.tensor([1]), torch.tensor([False]))
    sum(detector(images, [box, box]).values()).backward()
    moved = [p.grad is not None for p in detector.backbone.model.parameters()]
    assert all(moved)


def test_it_compiles_to_one_graph(backbone: ViT) -> None:
    program = torch.export.export(backbone, (torch.rand(1, 3, 64, 96),))
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        for ours, theirs in zip(program.module()(x), backbone(x), strict=True):
            torch.testing.assert_close(ours, theirs)
