from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from detzoo.engine.precision import prepare
from detzoo.nn.blocks import Halving, OutputConv, OutputLinear


@pytest.mark.parametrize("size", [(1, 1), (3, 1), (1, 2), (4, 5)])
def test_halving_is_a_convolution_of_stride_2(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer, x = Halving(3, 5), torch.randn(2, 3, *size)
    expected = F.conv2d(x, layer.weight, layer.bias, stride=2, padding=1)
    assert expected.shape[-2:] == tuple(-(-side // 2) for side in size)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("size", [(1, 1), (2, 1)])
def test_the_bf16_gradient_of_a_narrow_map_is_the_fp32_one(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = Halving(32, 32)
    for _ in range(20):  # the content of fresh memory varies
        junk = [torch.full((32, 32, 3, 3), 3e30) for _ in range(4)]
        del junk
        x, gradients = torch.randn(4, 32, *size), {}
        for enabled in (False, True):
            layer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                layer(x).float().square().sum().backward()
            gradients[enabled] = layer.weight.grad.clone()
        torch.testing.assert_close(gradients[True], gradients[False], rtol=0.1, atol=5.0)


@pytest.mark.parametrize("kernel", [1, 3])
def test_large_answers_of_a_last_layer_stay_apart_in_bf16(kernel: int) -> None:
    """Embeddings of about 100 that differ by an eighth; bf16 has steps of a half there."""
    layer = OutputConv(8, 1, kernel, padding=kernel // 2)
    nn.init.constant_(layer.weight, 0.0)
    layer.weight.data[:, 0, kernel // 2, kernel // 2] = 1.0
    layer.bias.data.fill_(100.0)
    x = torch.zeros(1, 8, 1, 4)
    x[:, 0] = torch.tensor([0.125, 0.25, 0.375, 0.5])
    for inference in (False, True):
        network = prepare(nn.Sequential(layer).eval(), "cpu", False, inference=inference)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            found = network(x)
        assert found.flatten().tolist() == [100.125, 100.25, 100.375, 100.5]


def test_a_last_fully_connected_layer_answers_in_float32() -> None:
    layer = OutputLinear(4, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(torch.ones(1, 4).bfloat16()), layer(torch.ones(1, 4)))
