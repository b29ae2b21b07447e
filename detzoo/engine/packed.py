"""Convolutions by weights in the blocked layout of oneDNN, the library behind torch's on a CPU.

torch's own convolution takes a weight as it is stored, and oneDNN reorders it at every call: for
256 channels on a 10 x 10 map in bf16 that is more than half of the time. `torch.compile` packs a
constant weight once; these are the operators that it calls. The result is the same to the last bit.

In bf16 networks without regions are 1.1 to 1.3 times as fast with it (python benchmarks/packed.py,
one AMX thread); for many regions, and in fp32, sums take so long that nothing could be measured.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn


def can_pack(layer: nn.Module) -> bool:
    """Whether the layer is a convolution, or a transposed one, with zeros of given width around."""
    return (
        isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


def packing_pays(x: Tensor) -> bool:
    """Whether it is expected to be faster: in bf16 on the CPU, channels last, where oneDNN is."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.bfloat16
        and x.is_contiguous(memory_format=torch.channels_last)
        and torch._C._get_mkldnn_enabled()
        and _has_operators()
    )


def pack(layer: nn.Module, weight: Tensor, size: torch.Size) -> Tensor:
    """The layer's weight for `packed_convolution`; size: of the inputs, (B, C, H, W).

    Inputs of another size are computed too, and reordered for at each call if oneDNN wants
    another layout for them.
    """
    shared = [*layer.padding], [*layer.stride], [*layer.dilation], layer.groups, [*size]
    if isinstance(layer, nn.ConvTranspose2d):
        padding, *others = shared
        reorder = torch.ops.mkldnn._reorder_convolution_transpose_weight
        return reorder(weight, padding, [*layer.output_padding], *others)
    return torch.ops.mkldnn._reorder_convolution_weight(weight, *shared)


def packed_convolution(layer: nn.Module, x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """The layer's sum, channels last, for packed = pack(layer, ...). No gradients."""
    shape = [*layer.stride], [*layer.dilation], layer.groups
    no_activation = "none", [], ""
    if isinstance(layer, nn.ConvTranspose2d):
        padding = [*layer.padding], [*layer.output_padding]
        convolve = torch.ops.mkldnn._convolution_transpose_pointwise
        return convolve(x, packed, bias, *padding, *shape, *no_activation)
    convolve = torch.ops.mkldnn._convolution_pointwise
    return convolve(x, packed, bias, [*layer.padding], *shape, *no_activation)


@functools.cache
def _has_operators() -> bool:
    """Whether this build of torch has them, and the processor oneDNN's convolution in bf16."""
    if not torch.backends.mkldnn.is_available():
        return False
    mkldnn = torch.ops.mkldnn
    names = ("convolution_pointwise", "convolution_transpose_pointwise")
    names += ("reorder_convolution_weight", "reorder_convolution_transpose_weight")
    return all(hasattr(mkldnn, f"_{name}") for name in names) and mkldnn._is_mkldnn_bf16_supported()
