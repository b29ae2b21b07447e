from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from detzoo.nn.blocks import Halving


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
    for _ in range(20):  # what lies in fresh memory differs from time to time
        junk = [torch.full((32, 32, 3, 3), 3e30) for _ in range(4)]
        del junk
        x, gradients = torch.randn(4, 32, *size), {}
        for enabled in (False, True):
            layer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                layer(x).float().square().sum().backward()
            gradients[enabled] = layer.weight.grad.clone()
        torch.testing.assert_close(gradients[True], gradients[False], rtol=0.1, atol=5.0)
