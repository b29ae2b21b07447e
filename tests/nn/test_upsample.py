from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detzoo.nn import FPN, Backbone, Hourglass
from detzoo.nn.blocks import Deformable
from detzoo.nn.stride4 import Deconvolutions, DeepAggregation, Unchanged, to_stride_4
from detzoo.nn.upsample import UPSAMPLES, Upsample

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
    assert [layer.factor for layer in neck.last.enlarge] == [2, 4]


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


def test_maps_at_stride_4_are_unchanged() -> None:
    neck = to_stride_4("topdown", (8, 8), (4, 4), 64)
    assert isinstance(neck, Unchanged) and neck.channels == 8
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


def test_errors_name_the_value() -> None:
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


def cells(kind: str, factor: int = 2) -> Tensor:
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    with torch.no_grad():
        return Upsample(kind, 1, factor)(x)[0, 0]


def test_the_kinds_as_the_lecture_draws_them() -> None:
    """1 2 / 3 4, doubled."""
    nearest = [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    assert cells("nearest").tolist() == nearest
    assert cells("pixel_shuffle").tolist() == nearest  # as it starts
    nails = [[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]]
    assert cells("bed_of_nails").tolist() == nails
    assert cells("bilinear")[0].tolist() == [1, 1.25, 1.75, 2]
    assert cells("bicubic").min() < 1 and cells("bicubic").max() > 4  # it overshoots
    # the inside; at the edge the transposed convolution sees zeros
    assert torch.equal(cells("transposed_bilinear")[1:3, 1:3], cells("bilinear")[1:3, 1:3])


def test_max_unpooling_puts_a_value_where_the_pool_took_the_maximum() -> None:
    """The lecture's own numbers."""
    finer = torch.tensor([[1, 2, 6, 3], [3, 5, 2, 1], [1, 2, 2, 1], [7, 3, 4, 8]]).float()
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    wanted = [[0, 0, 2, 0], [0, 1, 0, 0], [0, 0, 0, 0], [3, 0, 0, 4]]
    up = Upsample("max_unpool", 1)
    assert up(x, finer[None, None])[0, 0].tolist() == wanted
    several = torch.stack([finer, torch.zeros(4, 4), -finer])[None]  # other channels: their maxima
    assert up(x, several)[0, 0].tolist() == wanted
    with pytest.raises(ValueError, match="max_unpool needs a finer map"):
        up(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("kind", UPSAMPLES)
def test_every_kind_reaches_the_finer_map_s_size_and_has_gradients(kind, factor, dtype) -> None:
    """Sides that do not halve evenly too, in the number format of autocast."""
    torch.manual_seed(0)
    up = Upsample(kind, 6, factor)
    x = torch.randn(2, 6, 3, 4, requires_grad=True)
    finer = torch.randn(2, 6, 3 * factor - 1, 4 * factor)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        y = up(x.to(dtype), finer.to(dtype))
    assert y.shape == finer.shape and torch.isfinite(y).all()
    y.float().square().sum().backward()
    assert x.grad.any() and all(p.grad.any() for p in up.parameters())
    learned = kind in ("transposed", "transposed_bilinear", "pixel_shuffle")
    assert bool(list(up.parameters())) == learned


def test_a_transposed_start_at_random_keeps_the_variance_inside() -> None:
    torch.manual_seed(0)
    y = Upsample("transposed", 400)(torch.randn(1, 400, 12, 12)).detach()[..., 2:-2, 2:-2]
    assert y.var().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("neck", ["deconv", "dla", "topdown"])
@pytest.mark.parametrize("kind", UPSAMPLES)
def test_every_neck_takes_every_kind(kind: str, neck: str) -> None:
    torch.manual_seed(0)
    module = to_stride_4(neck, CHANNELS, STRIDES, None if neck == "dla" else 12, "plain", kind)
    module([x.requires_grad_() for x in maps()])[0].square().sum().backward()
    assert all(p.grad is not None for p in module.parameters())


def test_necks_have_their_paper_s_kind() -> None:
    assert {m.kind for m in FPN(CHANNELS, STRIDES).enlarge} == {"nearest"}
    assert {m.kind for m in to_stride_4("topdown", CHANNELS, STRIDES).enlarge} == {"nearest"}
    assert to_stride_4("dla", CHANNELS, STRIDES).last.enlarge[0].kind == "transposed_bilinear"
    glass = Hourglass(channels=(16, 24, 32), residuals=1, middle=1, stem=8)
    assert glass.glasses[0].enlarge.kind == "nearest"
    other = Hourglass(channels=(16, 24), residuals=1, middle=1, stem=8, upsample_by="max_unpool")
    assert other(torch.zeros(1, 3, 20, 36))[0].shape == (1, 16, 5, 9)
    with pytest.raises(ValueError, match="upsample_by is 'cubic'; choose one of nearest, bilinear"):
        FPN(CHANNELS, STRIDES, upsample_by="cubic")
    with pytest.raises(ValueError, match=r"max_unpool needs the maps of strides \[16, 8, 4\]"):
        Deconvolutions([32], [32], channels=8, upsample_by="max_unpool")
