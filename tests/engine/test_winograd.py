"""Winograd's convolution beside torch's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from detzoo.engine import folded, folding, winograd

# What rounding may cost, as a share of the output's standard deviation.
ROUNDING = {torch.float64: 1e-14, torch.float32: 1e-6, torch.bfloat16: 2e-2}


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("size", [(1, 1), (4, 4), (5, 3), (8, 9), (17, 30)])
@pytest.mark.parametrize("bias", [True, False])
def test_the_sum_is_that_of_conv2d(dtype, size, bias):
    x, weight = random(2, 16, *size).to(dtype), random(24, 16, 3, 3, seed=1).to(dtype)
    bias = random(24, seed=2).to(dtype) if bias else None
    out = winograd.winograd(x, winograd.winograd_filters(weight), bias)
    exact = F.conv2d(
        x.double(), weight.double(), None if bias is None else bias.double(), padding=1
    )
    assert out.dtype == dtype
    assert out.shape == exact.shape
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert float((out - exact).std() / exact.std()) < ROUNDING[dtype]


def test_ones_are_counted():
    """Of an image of ones, each output is the number of its nine neighbours that exist."""
    filters = winograd.winograd_filters(torch.ones(1, 1, 3, 3, dtype=torch.float64))
    out = winograd.winograd(torch.ones(1, 1, 3, 5, dtype=torch.float64), filters, None)
    expected = [[4, 6, 6, 6, 4], [6, 9, 9, 9, 6], [4, 6, 6, 6, 4]]
    torch.testing.assert_close(out[0, 0], torch.tensor(expected, dtype=torch.float64))


def test_chunks_do_not_change_the_result(monkeypatch):
    x, filters = random(2, 3, 21, 10), winograd.winograd_filters(random(5, 3, 3, 3, seed=1))
    whole = winograd.winograd(x, filters, None)
    monkeypatch.setattr(winograd, "CHUNK", 1)
    torch.testing.assert_close(winograd.winograd(x, filters, None), whole, rtol=0, atol=1e-12)


def pays(x: torch.Tensor, out_channels: int = 256) -> bool:
    return winograd.winograd_pays(x, out_channels)


def test_where_it_pays(monkeypatch):
    """Only on a CPU, with many channels and tiles, and where products are not much faster."""
    monkeypatch.setattr(winograd, "cpu_flags", frozenset)
    monkeypatch.setattr(winograd, "mkl_is_narrow", lambda: False)
    large = torch.zeros(1, 256, 40, 40)
    assert pays(large)
    assert pays(large.bfloat16())
    assert not pays(large[:, :64])
    assert not pays(large, out_channels=64)
    assert not pays(large[:, :, :4, :4])
    assert not pays(large.to("meta"))
    # Whether an image is large does not depend on its neighbours.
    assert not pays(large[:, :, :4, :4].expand(64, -1, -1, -1))
    monkeypatch.setattr(winograd, "cpu_flags", lambda: frozenset({"amx_bf16"}))
    assert pays(large)
    assert not pays(large.bfloat16())
    monkeypatch.setattr(winograd, "cpu_flags", frozenset)
    monkeypatch.setattr(winograd, "mkl_is_narrow", lambda: True)
    assert not pays(large)
    assert pays(large.bfloat16())


@pytest.fixture
def calls(monkeypatch) -> list[int]:
    """Channels of each convolution that went Winograd's way; all that can do."""
    seen: list[int] = []

    def counted(x, filters, bias):
        seen.append(x.shape[1])
        return winograd.winograd(x, filters, bias)

    monkeypatch.setattr(folded, "winograd", counted)
    monkeypatch.setattr(folded, "winograd_pays", lambda x, out_channels: True)
    return seen


@pytest.mark.parametrize(
    "other",
    [
        {"stride": 2},
        {"padding": 0},
        {"dilation": 2, "padding": 2},
        {"groups": 2},
        {"kernel_size": 5, "padding": 2},
        {"kernel_size": 1, "padding": 0},
        {"padding_mode": "reflect"},
        {"padding": "same"},
        {},
    ],
)
def test_only_plain_layers_go_that_way(other, calls):
    layer = nn.Conv2d(4, 4, **{"kernel_size": 3, "padding": 1, **other})
    network = nn.Sequential(layer).eval()
    x = random(1, 4, 9, 9).float()
    with torch.no_grad():
        plain = network(x)
        folding.fold(network)
        torch.testing.assert_close(network(x), plain)
    assert len(calls) == (not other)


def test_weights_that_change_are_transformed_anew(calls):
    network = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1)).eval()
    folding.fold(network)
    x = random(1, 4, 9, 9).float()
    with torch.no_grad():
        before = network(x)
        network[0].weight.mul_(2)
        network[0].bias.mul_(2)
        torch.testing.assert_close(network(x), 2 * before)
    assert len(calls) == 2
    assert sorted(t.dim() for t in folded.folded_weights(network)) == [1, 3]


def test_it_can_be_left_off(calls):
    network = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1)).eval()
    x = random(1, 4, 9, 9).float()
    with torch.no_grad():
        folding.fold(network)
        with folded.torch_operators(network):
            network(x)
        assert not calls
        network(x)
    assert len(calls) == 1


def test_autocast_says_in_which_type(calls):
    """What comes in as float32 under autocast is computed in bf16, as torch's own is."""
    network = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1)).eval()
    folding.fold(network)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert network(random(1, 4, 9, 9).float()).dtype == torch.bfloat16
    assert len(calls) == 1
