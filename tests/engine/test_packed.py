"""Convolutions by packed weights beside torch's own."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from detzoo.engine import folded, folding, packed
from detzoo.nn.blocks import OutputConv

LAYERS = {
    "3x3": nn.Conv2d(16, 24, 3, padding=1),
    "1x1": nn.Conv2d(16, 8, 1, bias=False),
    "7x7 of stride 2": nn.Conv2d(3, 16, 7, stride=2, padding=3),
    "dilated": nn.Conv2d(16, 16, 3, padding=2, dilation=2),
    "depthwise": nn.Conv2d(16, 16, 3, padding=1, groups=16),
    "oblong": nn.Conv2d(16, 16, (1, 3), padding=(0, 1), stride=(1, 2)),
    "transposed": nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1),
    "transposed, a column more": nn.ConvTranspose2d(16, 8, 3, stride=2, output_padding=1),
    "transposed, in groups": nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1, groups=2),
}


def maps(channels: int, *, batch: int = 2, side: int = 20) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, channels, side, side + 3, generator=generator)
    return x.bfloat16().contiguous(memory_format=torch.channels_last)


def require_packing() -> None:
    if not packed.packing_pays(maps(3)):
        pytest.skip("oneDNN has no convolution in bf16 on this processor")


@pytest.fixture
def calls(monkeypatch) -> list[int]:
    """Input channels of each convolution by a packed weight; none is Winograd's."""
    require_packing()
    seen: list[int] = []

    def counted(layer, x, weight, bias):
        seen.append(x.shape[1])
        return packed.packed_convolution(layer, x, weight, bias)

    monkeypatch.setattr(folded, "packed_convolution", counted)
    monkeypatch.setattr(folded, "winograd_pays", lambda x, out_channels: False)
    return seen


@pytest.mark.parametrize("name", LAYERS)
@torch.no_grad()
def test_the_sum_is_that_of_the_layer(name):
    require_packing()
    layer = copy.deepcopy(LAYERS[name]).bfloat16()
    x = maps(layer.in_channels)
    weight = packed.pack(layer, layer.weight, x.shape)
    other = maps(layer.in_channels, batch=1, side=33)  # not what it was packed for
    for given in (x, other):
        out = packed.packed_convolution(layer, given, weight, layer.bias)
        assert out.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(out, layer(given), rtol=0, atol=0)


def bf16() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


@torch.no_grad()
def test_ones_are_counted(calls):
    """Of an image of ones, each output is the number of its nine neighbours that exist."""
    layer = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    nn.init.ones_(layer.weight)
    network = nn.Sequential(layer).eval()
    folding.fold(network)
    with bf16():
        out = network(torch.ones(1, 1, 3, 5).to(memory_format=torch.channels_last))
    assert out[0, 0].tolist() == [[4, 6, 6, 6, 4], [6, 9, 9, 9, 6], [4, 6, 6, 6, 4]]
    assert calls == [1]


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Linear(9, 9),
    ],
)
@torch.no_grad()
def test_what_has_no_such_operator_is_computed_as_it_is(layer, calls):
    network = nn.Sequential(layer).eval()
    x = maps(4, side=6)
    with bf16():
        written = network(x)
        folding.fold(network)
        torch.testing.assert_close(network(x), written)
    assert not calls


def test_inputs_that_it_is_not_for(calls, monkeypatch):
    """Another layout, type or device, oneDNN off by the user or missing from the build."""
    x = maps(4)
    assert packed.packing_pays(x)
    assert not packed.packing_pays(x.contiguous())
    assert not packed.packing_pays(x.float())
    assert not packed.packing_pays(x[0])
    assert not packed.packing_pays(x.to("meta"))
    with torch.backends.mkldnn.flags(enabled=False):
        assert not packed.packing_pays(x)
    monkeypatch.setattr(packed, "_has_operators", lambda: False)
    assert not packed.packing_pays(x)


def network_of_two() -> nn.Sequential:
    layers = nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), OutputConv(8, 2, 3)
    network = nn.Sequential(*layers)
    network[1].running_mean.uniform_(-1, 1)
    return network.eval().to(memory_format=torch.channels_last)


@torch.no_grad()
def test_a_network_packs_once_and_anew_when_weights_change(calls, monkeypatch):
    packings = []
    monkeypatch.setattr(folded, "pack", lambda *a: packings.append(1) or packed.pack(*a))
    network, x = network_of_two(), maps(4)

    def out() -> Tensor:
        with bf16():  # which has a cache of weights, that does not see them change
            return network(x)

    written = out()
    folding.fold(network)
    before = out()
    torch.testing.assert_close(before, written, rtol=0.05, atol=0.05)  # rounded in between
    assert before.dtype == torch.float32  # the last layer's
    assert torch.equal(out(), before)
    assert len(packings) == 2 and calls == [4, 8] * 2
    network[3].weight.mul_(2)
    network[3].bias.mul_(2)
    assert torch.equal(out(), 2 * before)
    folding.unfold(network)
    assert torch.equal(out(), 2 * written)


@torch.no_grad()
def test_a_copy_packs_its_own(calls):
    network, x = network_of_two(), maps(4)
    folding.fold(network)
    with bf16():
        before = network(x)
        copied = copy.deepcopy(network)  # oneDNN's own layout cannot be copied
        network[0].weight.zero_()
        assert torch.equal(copied(x), before) and not torch.equal(network(x), before)


def test_gradients_are_torch_s_own(calls):
    one = network_of_two()
    other = copy.deepcopy(one)
    folding.fold(other)
    x = maps(4)
    with bf16():
        with torch.no_grad():
            other(x)
        del calls[:]
        for network in (one, other):
            network(x).sum().backward()
    assert torch.equal(one[0].weight.grad, other[0].weight.grad) and not calls


@torch.no_grad()
def test_packed_weights_count_as_memory(calls):
    network, x = network_of_two(), maps(4)
    folding.fold(network)
    assert not [*folded.folded_weights(network)]
    with bf16():
        network(x)
        held = sorted((t.dim(), t.nbytes) for t in folded.folded_weights(network))
        assert held == [(1, 2 * 4), (1, 8 * 2), (4, 2 * 8 * 9 * 2), (4, 4 * 8 * 9 * 2)]
        del calls[:]
        with folded.torch_operators(network):
            network(x)
    assert not calls
