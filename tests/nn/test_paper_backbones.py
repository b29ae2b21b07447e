"""The networks of papers that timm does not have, by the shapes that the papers draw."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import vgg16

from detzoo.nn import VGG16, BoxHead, Darknet24, VGG16Conv5, vgg


def test_yolo_s_network_has_24_convolutions_and_7_cells_of_448_pixels():
    with torch.device("meta"):
        backbone = Darknet24()
        (x,) = backbone(torch.empty(1, 3, 448, 448))
    assert sum(isinstance(m, nn.Conv2d) for m in backbone.modules()) == 24
    assert x.shape == (1, 1024, 7, 7)
    assert backbone.channels == (1024,) and backbone.strides == (64,)


def test_vgg16_has_38_and_19_cells_of_300_pixels():
    with torch.device("meta"):
        maps = VGG16()(torch.empty(1, 3, 300, 300))
    assert [tuple(x.shape[1:]) for x in maps] == [(512, 38, 38), (1024, 19, 19)]


def test_vgg16_of_the_r_cnns_is_torchvision_s_by_name():
    """conv5_3 of 600 px has 37 cells (1506.01497); fc6 takes 7 x 7 of 224 px behind pool5."""
    with torch.device("meta"):
        theirs = vgg16(weights=None).state_dict()
        ours, with_pool = VGG16Conv5(frozen_stages=1), VGG16Conv5(pool5=True)
        assert [x.shape[1:] for x in ours(torch.empty(1, 3, 600, 600))] == [(512, 37, 37)]
        assert [x.shape[1:] for x in with_pool(torch.empty(1, 3, 224, 224))] == [(512, 7, 7)]
        head = BoxHead(512, 7, 4096, 20)
    assert (ours.strides, with_pool.strides) == ((16,), (32,))
    for key, value in ours.state_dict().items():
        assert theirs[key].shape == value.shape
    handed = vgg._fully_connected(theirs)
    assert {k: v.shape for k, v in handed.items()} == {
        k: v.shape for k, v in head.state_dict().items() if k.startswith("fc")
    }
    still = [name for name, p in ours.named_parameters() if not p.requires_grad]
    assert still == [f"features.{i}.{p}" for i in (0, 2, 5, 7) for p in ("weight", "bias")]


def test_vgg16_of_the_r_cnns_reads_a_file_of_torchvision_s(tmp_path, monkeypatch):
    monkeypatch.setattr(vgg, "_BEFORE", [4, "M", 8])
    monkeypatch.setattr(vgg, "_AFTER", ["M", 8])
    state = {k: torch.rand_like(v) for k, v in VGG16Conv5().state_dict().items()}
    for layer in (0, 3, 6):
        state[f"classifier.{layer}.weight"] = torch.rand(5, 5)
        state[f"classifier.{layer}.bias"] = torch.rand(5)
    torch.save(state, tmp_path / "vgg16.pth")
    ours = VGG16Conv5(weights=tmp_path / "vgg16.pth")
    assert torch.equal(ours.features[0].weight, state["features.0.weight"])
    assert torch.equal(ours.fully_connected["fc7.bias"], state["classifier.3.bias"])
    assert set(ours.state_dict()) == {k for k in state if k.startswith("features")}
    assert ours.pretrained and not VGG16Conv5().pretrained


def test_the_convolutions_of_vgg16_are_vgg16_s():
    with torch.device("meta"):
        ours, theirs = VGG16(), vgg16(weights=None).features
    shapes = [m.weight.shape for m in ours.modules() if isinstance(m, nn.Conv2d)]
    assert shapes[:13] == [m.weight.shape for m in theirs if isinstance(m, nn.Conv2d)]


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save({"layers.0.0.weight": torch.zeros(1)}, tmp_path / "bad.pth")
    with pytest.raises(ValueError, match=r"bad\.pth is not a file of VGG16's weights"):
        VGG16(weights=tmp_path / "bad.pth")
