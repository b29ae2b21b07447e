from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from detzoo.nn import FPN, Backbone, OneMap

NAME = "test_resnet"  # timm's own, for tests: a ResNet of 0.5 M parameters


@pytest.mark.parametrize("name", [NAME, "mobilenetv2_050", "regnetx_002"])
def test_maps_are_as_declared(name):
    backbone = Backbone(name)
    maps = backbone(torch.rand(1, 3, 64, 96))
    assert backbone.strides == (4, 8, 16, 32)
    for x, channels, stride in zip(maps, backbone.channels, backbone.strides, strict=True):
        assert x.shape == (1, channels, 64 // stride, 96 // stride)


def test_layers_beyond_max_stride_are_left_out():
    whole, short = Backbone(NAME), Backbone(NAME, max_stride=16)
    assert short.strides == (4, 8, 16)
    assert sum(p.numel() for p in short.parameters()) < sum(p.numel() for p in whole.parameters())


def test_weights_are_loaded_strictly_but_for_the_classifier(tmp_path):
    model = timm.create_model(NAME)
    torch.save(model.state_dict(), tmp_path / "whole.pth")
    backbone = Backbone(NAME, weights=tmp_path / "whole.pth")
    assert torch.equal(backbone.model.conv1[0].weight, model.conv1[0].weight)

    def refused(change) -> str:
        state = dict(model.state_dict())
        change(state)
        torch.save(state, tmp_path / "bad.pth")
        with pytest.raises(ValueError) as error:
            Backbone(NAME, weights=tmp_path / "bad.pth")
        assert "bad.pth" in str(error.value)
        return str(error.value)

    assert "lacks 1 keys such as conv1.0.weight" in refused(lambda s: s.pop("conv1.0.weight"))
    assert "unknown keys such as odd" in refused(lambda s: s.update(odd=torch.zeros(1)))
    wrong = {"conv1.0.weight": torch.zeros(1)}
    assert "other shapes at 1 keys" in refused(lambda s: s.update(wrong))
    with pytest.raises(ValueError, match="no file"):
        Backbone(NAME, weights=tmp_path / "absent.pth")


def test_a_file_that_would_run_code_is_not_loaded(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"conv1": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match=r"evil\.pth"):
        Backbone(NAME, weights=tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_norms():
    kinds = {norm: Backbone(NAME, norm=norm) for norm in ("bn", "frozen_bn", "gn")}
    for norm, backbone in kinds.items():
        x = torch.rand(2, 3, 64, 64)
        batch_norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
        assert bool(batch_norms) == (norm == "bn")
        if norm != "bn":  # then an image's features do not depend on its neighbours
            backbone.train()
            torch.testing.assert_close(backbone(x)[-1][:1], backbone(x[:1])[-1], atol=1e-4, rtol=0)
    Backbone("mobilenetv2_050", norm="gn")(torch.rand(1, 3, 64, 64))  # norm and activation in one


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"norm": "layer"}, "bn, frozen_bn, gn"),
        ({"name": "resnet1"}, "timm does not know"),
        ({"norm": "gn", "pretrained": True}, "trained with batch norm"),
        ({"name": "hf-hub:someone/model"}, "timm does not know"),
        ({"name": "local-dir:/tmp"}, "timm does not know"),
        *(
            ({"options": {key: "x"}}, f"options.{key}: use backbone.pretrained")
            for key in (
                *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path"),
                *("cache_dir", "features_only", "pretrained_filter_fn", "model_cfg"),
            )
        ),
        ({"options": {"act_layer": "../evil.pth"}}, "takes a word of timm's"),
        ({"options": {"a": {"pretrained_cfg": {"file": "x"}}}}, r"options\.a\.pretrained_cfg"),
        ({"options": {"a": ["https://example.org"]}}, "takes a word of timm's"),
    ],
)
def test_errors(options, said):
    with pytest.raises(ValueError, match=said):
        Backbone(**{"name": NAME} | options)


@pytest.mark.parametrize("extra", ["pool", "conv_c5", "conv_p5"])
def test_pyramid(extra):
    channels, strides = (8, 16, 24, 32), (4, 8, 16, 32)
    neck = FPN(channels, strides, channels=5, min_level=3, max_level=7, extra=extra)
    maps = [torch.rand(1, c, 128 // s, 160 // s) for c, s in zip(channels, strides, strict=True)]
    pyramid = neck(maps)
    assert neck.strides == (8, 16, 32, 64, 128)
    assert [tuple(x.shape[1:]) for x in pyramid] == [
        (5, 16, 20),
        (5, 8, 10),
        (5, 4, 5),
        (5, 2, 3),
        (5, 1, 2),
    ]
    # P3 hears of C5 from above; C4 is deaf to C3.
    maps[3] = maps[3] + 1
    assert not torch.equal(neck(maps)[0], pyramid[0])
    maps[3], maps[1] = maps[3] - 1, maps[1] + 1
    torch.testing.assert_close(neck(maps)[1], pyramid[1])


def test_pyramid_errors():
    with pytest.raises(ValueError, match="starts at stride 4"):
        FPN((8, 16), (8, 16), min_level=2, max_level=4)
    with pytest.raises(ValueError, match="extra is 'c6'"):
        FPN((8, 16), (8, 16), min_level=3, max_level=4, extra="c6")


def test_one_map_is_the_last():
    neck = OneMap((8, 16), (8, 16))
    maps = [torch.rand(1, 8, 4, 4), torch.rand(1, 16, 2, 2)]
    assert (neck.channels, neck.strides) == (16, (16,))
    assert neck(maps)[0] is maps[1] and len(neck(maps)) == 1
