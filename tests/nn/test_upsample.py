from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detzoo.nn import Backbone
from detzoo.nn.blocks import Deformable
from detzoo.nn.upsample import AsTheyAre, Deconvolutions, DeepAggregation, to_stride_4

CHANNELS, STRIDES = (8, 16, 24, 32), (4, 8, 16, 32)


def maps() -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, c, 64 // s, 96 // s) for c, s in zip(CHANNELS, STRIDES, strict=True)]


@pytest.mark.parametrize(
    ("kind", "convolutions"),
    [
        *(("deconv", c) for c in ("plain", "deformable", "none")),
        *(("dla", c) for c in ("plain", "deformable")),
        ("topdown", "plain"),
    ],
)
def test_every_neck_ends_at_stride_4(kind: str, convolutions: str) -> None:
    channels = None if kind == "dla" else 12
    neck = to_stride_4(kind, CHANNELS, STRIDES, channels, convolutions)
    (x,) = neck(maps())
    assert x.shape == (2, neck.channels, 16, 24)
    assert neck.channels == (8 if kind == "dla" else 12)
    x.sum().backward()
    assert all(p.grad is not None for p in neck.parameters())


def test_dla_merges_as_figure_6d_draws_it() -> None:
    """With "merge" for node(up(project(coarse)) + fine), written out for four maps.

    A column per step: 16|32 -> a; 8|16|32 -> b, c; 4|8|16|32 -> d, e, f; then f|c|a at stride 4.
    """
    neck = DeepAggregation(CHANNELS, STRIDES).eval()

    def merge(step: nn.Module, i: int, coarse: Tensor, fine: Tensor) -> Tensor:
        return step.node[i](step.enlarge[i](step.project[i](coarse)) + fine)

    x4, x8, x16, x32 = maps()
    first, second, third = neck.steps
    a = merge(first, 0, x32, x16)
    b = merge(second, 0, x16, x8)
    c = merge(second, 1, a, b)
    d = merge(third, 0, x8, x4)
    e = merge(third, 1, b, d)
    f = merge(third, 2, c, e)
    end = merge(neck.last, 1, a, merge(neck.last, 0, c, f))
    torch.testing.assert_close(neck(maps())[0], end)
    assert [layer.stride[0] for layer in neck.last.enlarge] == [2, 4]


def test_a_deformable_convolution_starts_as_half_a_plain_one() -> None:
    layer, x = Deformable(3, 5), torch.randn(2, 3, 6, 7)
    plain = F.conv2d(x, layer.weight, padding=1)
    torch.testing.assert_close(layer(x), plain / 2 + layer.bias[:, None, None])


def test_taps_move_down_and_right() -> None:
    """Channels 2i and 2i + 1 of `where` are tap i's rows and columns, as in DCNv2's own code."""
    layer = Deformable(1, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    layer.weight.data[0, 0, 1, 1] = 2.0  # tap 4, the middle; its weight starts at half
    layer.where.bias.data[8] = 1.0  # its row
    layer.where.bias.data[9] = 2.0  # its column
    x = torch.arange(30.0).view(1, 1, 5, 6)
    assert layer(x)[0, 0, 1, 1] == x[0, 0, 2, 3]


def test_what_is_at_stride_4_already_stays_as_it_is() -> None:
    neck = to_stride_4("topdown", (8, 8), (4, 4), 64)
    assert isinstance(neck, AsTheyAre) and neck.channels == 8
    x = torch.zeros(1, 8, 4, 4)
    assert all(a is b for a, b in zip(neck([x, x]), [x, x], strict=True))


@pytest.mark.parametrize(("factor", "ends"), [(2, [1.0, 3, 5, 7]), (4, [3.5, 4.5, 5.5, 6.5])])
def test_enlarging_begins_as_bilinear_interpolation(factor: int, ends: list[float]) -> None:
    """A ramp 0 4 8: inside, steps of 4 / factor."""
    layers = DeepAggregation((2, 2, 2, 2), STRIDES).last.enlarge
    up = layers[0 if factor == 2 else 1]
    ramp = torch.tensor([0.0, 4.0, 8.0]).expand(1, 2, 3, 3)
    start = 1 if factor == 2 else 5
    assert up(ramp)[0, 0, factor + 1, start : start + 4].tolist() == ends


def test_dla34_has_the_maps_for_it() -> None:
    with torch.device("meta"):
        backbone = Backbone("dla34")
    assert backbone.strides == (4, 8, 16, 32) and backbone.channels == (64, 128, 256, 512)


def test_errors_say_what_came() -> None:
    with pytest.raises(ValueError, match="upsample_convolutions is 'dcn'; choose one of plain"):
        to_stride_4("deconv", CHANNELS, STRIDES, 8, "dcn")
    with pytest.raises(ValueError, match="topdown has plain convolutions, not deformable"):
        to_stride_4("topdown", CHANNELS, STRIDES, 8, "deformable")
    with pytest.raises(ValueError, match=r"strides are \[4, 16\]"):
        to_stride_4("dla", (8, 16), (4, 16))
    with pytest.raises(ValueError, match="plain or deformable"):
        to_stride_4("dla", CHANNELS, STRIDES, None, "none")
    with pytest.raises(ValueError, match="3 deconvolutions"):
        Deconvolutions([8, 16], [4, 32], channels=(64, 64))
