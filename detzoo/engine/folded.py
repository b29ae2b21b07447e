"""Layers that compute with the batch norm behind them, by weights that are cast and packed once,
and 3x3 convolutions by Winograd's way.

Folded weights are derived from the parameters, never stale copies: the state dict and so
checkpoints and fingerprints are unchanged; with gradients, in training mode, and under
`torch.export` the layers compute unfolded; and a weight that has changed since is folded again. A
backbone's frozen stages are folded in training too: they need no gradient, and their norms stay in
eval mode.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame, pad_same
from torch import Tensor, nn

from detzoo.engine.packed import can_pack, pack, packed_convolution, packing_pays
from detzoo.engine.winograd import winograd, winograd_filters, winograd_pays


@dataclass
class Derived:
    """What a folded layer computes with."""

    made_of: Any = None  # the type, and the versions of the parameters
    weights: dict[str, Tensor] = field(default_factory=dict)  # by form: plain, winograd, packed
    bias: Tensor | None = None


class Folded:
    """The forward of a layer together with the norm behind it, if any; classes, not closures, so
    that a copy of the network has its own.
    """

    def __init__(self, layer: nn.Module, norm: nn.Module | None) -> None:
        self.layer, self.norm = layer, norm
        self.special = True  # False: by torch's own operators alone
        self.by_winograd, self.by_packing = _plain_3x3(layer), can_pack(layer)
        self.late_bias = has_late_bias(layer)
        self.sources = [layer.weight, layer.bias]
        if norm is not None:
            self.sources += [norm.weight, norm.bias, norm.running_mean, norm.running_var]
        self.derived = Derived()
        self.ready: tuple[Tensor, Tensor | None] | None = None  # for compiled code, if current

    def __getstate__(self) -> dict[str, Any]:
        """A copy derives its own: a packed weight has no storage that could be copied."""
        return {**vars(self), "derived": Derived(), "ready": None}

    def as_written(self, x: Tensor | None = None) -> bool:
        """Whether the layer computes as if it were not folded, and the norm by itself.

        x: the input of either; None: one that may want a gradient.
        """
        if (self.norm or self.layer).training or (torch.is_grad_enabled() and self.wants(x)):
            return True
        return torch.compiler.is_compiling() and self.ready is None

    def wants(self, x: Tensor | None) -> bool:
        """Whether a gradient may be wanted of the input or of what the layer computes with."""
        tensors = (x, *self.sources)
        return x is None or any(t is not None and t.requires_grad for t in tensors)

    def __call__(self, x: Tensor) -> Tensor:
        if self.as_written(x):
            return type(self.layer).forward(self.layer, x)
        if isinstance(self.layer, Conv2dSame):  # TensorFlow's padding, which depends on the input
            x = pad_same(x, self.layer.kernel_size, self.layer.stride, self.layer.dilation)
        if torch.compiler.is_compiling():
            form, (weight, bias) = "plain", self.ready
        else:
            dtype = self.dtype(x.device.type)
            form = self.form(x := x if x.dtype == dtype else x.to(dtype))
            weight, bias = self.current(dtype, form, x.shape)
        if self.late_bias and weight.dtype != bias.dtype:
            return self.summed(x, weight, None, form) + bias[:, None, None]  # float32
        return self.summed(x, weight, bias, form)

    def dtype(self, device: str) -> torch.dtype:
        """The type that the layer computes in: autocast's, if it is on."""
        if torch.is_autocast_enabled(device):
            return torch.get_autocast_dtype(device)
        return self.layer.weight.dtype

    def form(self, x: Tensor) -> str:
        """The form of the weight by which this input is computed fastest."""
        if self.special and self.by_winograd and winograd_pays(x, len(self.layer.weight)):
            return "winograd"
        return "packed" if self.special and self.by_packing and packing_pays(x) else "plain"

    def summed(self, x: Tensor, weight: Tensor, bias: Tensor | None, form: str) -> Tensor:
        """The layer's sum, by these numbers."""
        layer = self.layer
        if form == "winograd":
            return winograd(x, weight, bias)
        if form == "packed":
            return packed_convolution(layer, x, weight, bias)
        if isinstance(layer, nn.Linear):
            return F.linear(x, weight, bias)
        if isinstance(layer, nn.Conv2d):
            return layer._conv_forward(x, weight, bias)
        return F.conv_transpose2d(
            x,
            weight,
            bias,
            layer.stride,
            layer.padding,
            layer.output_padding,
            layer.groups,
            layer.dilation,
        )

    def current(
        self, dtype: torch.dtype, form: str = "plain", size: torch.Size | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of now, in this type and form. size: of the inputs, to pack for."""
        made_of = dtype, [(t._version, t.data_ptr()) for t in self.sources if t is not None]
        if made_of != self.derived.made_of:
            self.derived = Derived(made_of)
        derived = self.derived
        if form not in derived.weights:
            weight, bias = self.layer.weight, self.layer.bias
            if self.norm is not None:
                weight, bias = _merged(self.layer, self.norm)
            weight = weight.detach().to(dtype)
            if form == "winograd":
                weight = winograd_filters(weight)
            elif form == "packed":
                weight = pack(self.layer, weight, size)
            derived.weights[form] = weight
            if bias is not None:
                derived.bias = bias.detach() if self.late_bias else bias.detach().to(dtype)
        return derived.weights[form], derived.bias


class FoldedNorm:
    """The forward of a norm that the layer before it has done: its activation, if it has one."""

    def __init__(self, norm: nn.Module, folded: Folded) -> None:
        self.norm, self.folded = norm, folded

    def __call__(self, x: Tensor) -> Tensor:
        norm = self.norm
        if self.folded.as_written(x):
            return type(norm).forward(norm, x)
        return norm.act(norm.drop(x)) if hasattr(norm, "act") else x  # timm's norms have both


def folded_layers(detector: nn.Module) -> Iterator[Folded]:
    """The forward of every layer that is folded."""
    for module in detector.modules():
        if isinstance(forward := vars(module).get("forward"), Folded):
            yield forward


def folded_weights(detector: nn.Module) -> Iterator[Tensor]:
    """The tensors that folding holds besides the detector's own."""
    for forward in folded_layers(detector):
        yield from forward.derived.weights.values()
        if forward.derived.bias is not None:
            yield forward.derived.bias


@contextmanager
def torch_operators(detector: nn.Module) -> Iterator[None]:
    """A context in which every layer is computed by torch's own, so that they can be counted."""
    layers = [*folded_layers(detector)]
    for forward in layers:
        forward.special = False
    try:
        yield
    finally:
        for forward in layers:
            forward.special = True


def has_late_bias(layer: nn.Module) -> bool:
    """Whether the layer is a convolution that adds its bias in float32 (nn.blocks.OutputConv)."""
    return isinstance(layer, nn.Conv2d) and getattr(layer, "late_bias", False)


def _plain_3x3(layer: nn.Module) -> bool:
    """Whether `winograd` supports it: no strides, dilation or groups, a padding of one zero."""
    return (type(layer) is nn.Conv2d or has_late_bias(layer)) and (
        (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        == ((3, 3), (1, 1), (1, 1), (1, 1))
        and (layer.groups, layer.padding_mode) == (1, "zeros")
    )


def _merged(layer: nn.Module, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """(x * w + b - mean) * scale + shift = x * (w * scale) + ((b - mean) * scale + shift)."""
    scale = torch.rsqrt(norm.running_var + norm.eps)
    scale = scale if norm.weight is None else scale * norm.weight
    bias = -norm.running_mean if layer.bias is None else layer.bias - norm.running_mean
    bias = bias * scale if norm.bias is None else bias * scale + norm.bias
    if isinstance(layer, nn.ConvTranspose2d):  # (in, out / groups, ...), the groups along `in`
        groups = layer.groups
        weight = layer.weight.unflatten(0, (groups, -1))
        weight = weight * scale.view(groups, 1, -1, 1, 1)
        return weight.flatten(0, 1), bias
    return layer.weight * scale[:, None, None, None], bias
