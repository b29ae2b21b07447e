"""3x3 convolutions of stride 1 with fewer multiplications, by Winograd's minimal filtering.

Lavin and Gray 2016 (arXiv:1509.09308): a tile of N x N pixels gives M x M outputs with N^2 products
per channel pair, where the plain sum takes 9 M^2: 36 against 144 here, besides the transforms.
torch's CPU convolutions do not offer it; cuDNN chooses it by itself.

B images, C input and K output channels, tiles of N x N input and M x M output pixels.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from detzoo.engine.cpu import cpu_flags, mkl_is_narrow

M, R = 4, 3  # outputs of a tile and taps of a filter, along a side
N = M + R - 1
# Where polynomials are evaluated, besides infinity. 0, +-1, +-2 of the paper round three times as
# coarsely in bf16; points of about one size, near 1 (Barabasz 2020, arXiv:1803.10986), less.
POINTS = (0.0, 5 / 8, -5 / 8, 3 / 2, -3 / 2)
CHANNELS = 128  # with fewer the transforms cost more than they save
ENOUGH = 2**12  # tiles of an image times channels; up to it the products are too small
CHUNK = 2**22  # bytes of transformed tiles at a time, so that they stay in the cache


def winograd_pays(x: Tensor, out_channels: int) -> bool:
    """Whether it is expected to be faster than torch's own convolution, for x (B, C, H, W) in its
    dtype.

    By the measurements of python benchmarks/winograd.py. Decided by one image's shape, not the
    batch's, so that no detection depends on the rest of its batch. Not in bf16 with AMX, whose
    products are too fast for the transforms to pay, nor in fp32 where MKL's products are slow.
    """
    channels = min(x.shape[1], out_channels)
    return (
        x.device.type == "cpu"
        and channels >= CHANNELS
        and _tiles(x.shape[2]) * _tiles(x.shape[3]) * channels > ENOUGH
        and not ("amx_bf16" in cpu_flags() if x.dtype == torch.bfloat16 else mkl_is_narrow())
    )


def winograd_filters(weight: Tensor) -> Tensor:
    """(K, C, 3, 3) -> (N * N, C, K), for `winograd`."""
    _, filters, _ = _matrices(torch.float64)
    transformed = filters @ weight.double().flatten(2).permute(2, 1, 0).flatten(1)
    return transformed.unflatten(1, (weight.shape[1], weight.shape[0])).to(weight.dtype)


def winograd(x: Tensor, filters: Tensor, bias: Tensor | None) -> Tensor:
    """F.conv2d(x, weight, bias, padding=1) for filters = winograd_filters(weight).

    x (B, C, H, W), filters (N * N, C, K), bias (K,): (B, K, H, W), channels last. All of one dtype,
    on the CPU; no gradients. Rounding error, as a share of the output's deviation: 1e-6 in fp32 and
    1e-2 in bf16; torch's own: 6e-7 and 2e-3 (python benchmarks/winograd.py).
    """
    batch, channels, height, width = x.shape
    out_channels = filters.shape[2]
    lines, columns = _tiles(height), _tiles(width)
    inputs, _, outputs = _matrices(x.dtype)
    margins = (0, 0, 1, columns * M + 1 - width, 1, lines * M + 1 - height)
    tiles = F.pad(x.permute(0, 2, 3, 1), margins).unfold(1, N, M).unfold(2, N, M)
    tiles = tiles.permute(4, 5, 0, 1, 2, 3)  # (N, N, B, lines, columns, C)
    out = x.new_empty(batch, lines, M, columns, M, out_channels)
    line = N * N * batch * columns * max(channels, out_channels) * x.element_size()
    step = max(1, CHUNK // line)
    for first in range(0, lines, step):
        chunk = tiles[:, :, :, first : first + step]
        sides = chunk.shape[2:5]
        chunk = inputs @ chunk.reshape(N * N, -1)
        chunk = chunk.view(N * N, -1, channels).bmm(filters)  # (N * N, B * step * columns, K)
        chunk = outputs @ chunk.flatten(1)
        chunk = chunk.view(M, M, *sides, out_channels).permute(2, 3, 0, 4, 1, 5)
        target = out[:, first : first + step]
        target.copy_(chunk) if bias is None else torch.add(chunk, bias, out=target)
    out = out.view(batch, lines * M, columns * M, out_channels)[:, :height, :width]
    return out.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def _tiles(side: int) -> int:
    return -(-side // M)


@functools.cache
def _matrices(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """The transforms of whole tiles: B^T (N * N, N * N), G (N * N, R * R) and A^T (M * M, N * N).

    Cook and Toom: the product of two polynomials of M and R coefficients, from its values at N
    points, infinity among them; filtering is its transpose. Interpolation divides by the products
    of a point's differences from the others; these factors are put into the filters.
    """
    count = len(POINTS)
    points = torch.tensor(POINTS, dtype=torch.float64)
    inputs = torch.zeros(N, N, dtype=torch.float64)
    filters, outputs = (torch.zeros(N, taps, dtype=torch.float64) for taps in (R, M))
    for i, point in enumerate(POINTS):
        others = [p for j, p in enumerate(POINTS) if j != i]
        inputs[i, :count] = _with_roots(others)
        differences = (point - torch.tensor(others, dtype=torch.float64)).prod()
        filters[i] = points[i] ** torch.arange(R) / differences
        outputs[i] = points[i] ** torch.arange(M)
    inputs[-1] = _with_roots(POINTS)  # infinity: the highest coefficient
    filters[-1, -1] = outputs[-1, -1] = 1
    return tuple(
        torch.kron(matrix, matrix).to(dtype) for matrix in (inputs, filters, outputs.T.contiguous())
    )


def _with_roots(roots: tuple[float, ...] | list[float]) -> Tensor:
    """Coefficients of prod (x - root), lowest first."""
    coefficients = torch.ones(1, dtype=torch.float64)
    for root in roots:
        coefficients = F.pad(coefficients, (1, 0)) - root * F.pad(coefficients, (0, 1))
    return coefficients
