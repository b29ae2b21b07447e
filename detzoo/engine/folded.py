"""Layers as inference wants them: batch norm folded into the layer before it, weights cast once,
and 3x3 convolutions by Winograd's way where that is faster.

What is folded is a view of the weights and no copy that could go astray: the parameters, the state
dict and so checkpoints and fingerprints stay as they were; where gradients are wanted, in training
mode, and under `torch.export` the layers compute as they were written; and a weight that has
changed since is folded anew. `torch.compile` does not fold by itself: `CompiledNetwork` has the
layers folded before each call, and what is compiled takes them so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detzoo.detector import eval_mode
from detzoo.engine.winograd import winograd, winograd_filters, winograd_pays
from detzoo.ops.precision import float32_as

# These very classes, and what has a `late_bias`; others have a mind of their own
LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
SIDE = 64  # pixels, about, on which a backbone is compared with itself
TOLERANCE = 1e-3  # of a map's largest value


class Folding(NamedTuple):
    """norms: of the detector, batch norms with statistics. left: names of those that compute by
    themselves. why: the reason, where a whole backbone is left.
    """

    norms: int
    left: tuple[str, ...]
    why: str

    @property
    def said(self) -> str:
        """A sentence about what is left; empty where nothing is."""
        if not self.left:
            return ""
        some = ", ".join(self.left[:3]) + (", ..." if len(self.left) > 3 else "")
        why = self.why or "no layer right before them that they could be folded into"
        return f"{len(self.left)} of {self.norms} batch norms are not folded ({some}): {why}"

    def describe(self) -> dict[str, Any]:
        """Plain values, for a scoring's and a timing's record."""
        folded = self.norms - len(self.left)
        return {"norms": self.norms, "folded": folded, "left": list(self.left), "why": self.why}


def folding(detector: nn.Module) -> Folding:
    """What is folded of a detector, as it stands, and what is not."""
    norms = {name: m for name, m in detector.named_modules() if _has_statistics(m)}
    left = [n for n, norm in norms.items() if not isinstance(vars(norm).get("forward"), Done)]
    return Folding(len(norms), tuple(left), vars(detector).get("left_as_written", ""))


def fold(detector: nn.Module) -> None:
    """Fold every batch norm into the layer that it follows, in place; again is harmless.

    Whether it follows is taken from the order in which a module registers its children. In a
    Sequential that is the order of computing. Of the child `backbone`, which may be any of timm's,
    it is believed of all modules, and then seen: where random pixels give something else than
    before, the backbone is left as it is written. `folding` says what was done.
    """
    backbone = getattr(detector, "backbone", nn.Identity())
    inside = set(backbone.modules())
    followers: dict[nn.Module, set[nn.Module]] = {}
    for parent in detector.modules():
        if isinstance(parent, nn.Sequential) or parent in inside:
            for child, norm in pairwise(parent.children()):
                if _folds(layer := _last(child), norm):
                    followers.setdefault(layer, set()).add(norm)
    for module in detector.modules():  # what is folded so already is left, for who has compiled it
        if type(module) in LAYERS or _late_bias(module):
            norms = followers.get(module, set())
            _fold(module, norms.pop() if len(norms) == 1 else None)
    vars(detector).pop("left_as_written", None)
    if len(inside) > 1:
        apart = _apart(backbone, -(-SIDE // detector.stride) * detector.stride)
        if not apart <= TOLERANCE:  # or not a number
            unfold(backbone)
            vars(detector)["left_as_written"] = (
                f"folded, the backbone's maps differ by {apart:.2g} of their largest value"
            )


def _fold(layer: nn.Module, norm: nn.Module | None) -> None:
    before = vars(layer).get("forward")
    if isinstance(before, Folded):
        if before.layer is layer and before.norm is norm:
            return
        if before.norm is not None:
            vars(before.norm).pop("forward", None)
    layer.forward = Folded(layer, norm)
    if norm is not None:
        norm.forward = Done(norm, layer.forward)


def unfold(detector: nn.Module) -> None:
    """All layers as they were written."""
    vars(detector).pop("left_as_written", None)
    for module in detector.modules():
        if isinstance(vars(module).get("forward"), Folded | Done):
            del module.forward


def _folded(detector: nn.Module) -> Iterator[Folded]:
    for module in detector.modules():
        if isinstance(forward := vars(module).get("forward"), Folded):
            yield forward


class CompiledNetwork:
    """A detector's `network` by `torch.compile`, with its folded layers ready before each call."""

    def __init__(self, detector: nn.Module) -> None:
        self.detector = detector
        self.network = torch.compile(detector.network)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        layers = [forward for forward in _folded(self.detector) if not forward.as_written]
        for forward in layers:
            forward.current(forward.layer.weight.device.type)
            forward.ready = True
        try:
            return self.network(*arguments, **named)
        finally:
            for forward in layers:
                forward.ready = False


def kept(detector: nn.Module) -> Iterator[Tensor]:
    """The tensors that folding holds besides the detector's own."""
    for forward in _folded(detector):
        if forward.parameters is not None:
            tensors = (*forward.parameters, forward.filters)
            yield from (tensor for tensor in tensors if tensor is not None)


@contextmanager
def plain_sums(detector: nn.Module) -> Iterator[None]:
    """Within it every convolution is torch's own, for whoever counts operations."""
    fast = [forward for forward in _folded(detector) if forward.fast]
    for forward in fast:
        forward.fast = False
    try:
        yield
    finally:
        for forward in fast:
            forward.fast = True


class Folded:
    """The forward of a layer together with the norm behind it, if any; classes, not closures, so
    that a copy of the network has its own.
    """

    def __init__(self, layer: nn.Module, norm: nn.Module | None) -> None:
        self.layer, self.norm = layer, norm
        self.fast = _plain_3x3(layer)  # by `winograd`, where it pays
        self.late_bias = _late_bias(layer)
        self.sources = [layer.weight, layer.bias]
        if norm is not None:
            self.sources += [norm.weight, norm.bias, norm.running_mean, norm.running_var]
        self.made_of: Any = None
        self.parameters: tuple[Tensor, Tensor | None] | None = None
        self.filters: Tensor | None = None  # of `winograd`, made at the first use
        self.ready = False  # for what is compiled: `parameters` are of now

    @property
    def as_written(self) -> bool:
        """Whether the layer computes as if it were not folded, and the norm by itself."""
        if torch.is_grad_enabled() or (self.norm or self.layer).training:
            return True
        return torch.compiler.is_compiling() and not self.ready

    def __call__(self, x: Tensor) -> Tensor:
        if self.as_written:
            return type(self.layer).forward(self.layer, x)
        compiling = torch.compiler.is_compiling()
        weight, bias = self.parameters if compiling else self.current(x.device.type)
        if self.late_bias and weight.dtype != bias.dtype:
            return self.summed(x, weight, None) + bias[:, None, None]  # float32
        return self.summed(x, weight, bias)

    def summed(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The layer's sum, by these numbers."""
        layer, compiling = self.layer, torch.compiler.is_compiling()
        if isinstance(layer, nn.Linear):
            return F.linear(x, weight, bias)
        if self.fast and not compiling and winograd_pays(x := x.to(weight.dtype), len(weight)):
            if self.filters is None:
                self.filters = winograd_filters(weight)
            return winograd(x, self.filters, bias)
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

    def current(self, device: str) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of now, in the type that autocast computes in."""
        dtype = self.layer.weight.dtype
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        made_of = dtype, [(t._version, t.data_ptr()) for t in self.sources if t is not None]
        if made_of != self.made_of:
            weight, bias = self.layer.weight, self.layer.bias
            if self.norm is not None:
                weight, bias = _merged(self.layer, self.norm)
            bias = bias if bias is None else bias.detach()
            if not self.late_bias and bias is not None:
                bias = bias.to(dtype)
            self.parameters = weight.detach().to(dtype), bias
            self.filters = None
            self.made_of = made_of
        return self.parameters


class Done:
    """The forward of a norm that the layer before it has done: its activation, if it has one."""

    def __init__(self, norm: nn.Module, folded: Folded) -> None:
        self.norm, self.folded = norm, folded

    def __call__(self, x: Tensor) -> Tensor:
        norm = self.norm
        if self.folded.as_written:
            return type(norm).forward(norm, x)
        return norm.act(norm.drop(x)) if hasattr(norm, "act") else x  # timm's norms have both


def _late_bias(layer: nn.Module) -> bool:
    """Whether it is a convolution that adds its bias in float32 (nn.blocks.OutputConv)."""
    return isinstance(layer, nn.Conv2d) and getattr(layer, "late_bias", False)


def _plain_3x3(layer: nn.Module) -> bool:
    """Whether `winograd` computes it: no strides, holes or groups, a margin of one zero."""
    return (type(layer) is nn.Conv2d or _late_bias(layer)) and (
        (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        == ((3, 3), (1, 1), (1, 1), (1, 1))
        and (layer.groups, layer.padding_mode) == (1, "zeros")
    )


def _last(module: nn.Module) -> nn.Module:
    """What computes last of it."""
    while isinstance(module, nn.Sequential) and len(module):
        module = module[-1]
    return module


def _folds(layer: nn.Module, norm: nn.Module) -> bool:
    """Whether `norm` has statistics of its own, one for every channel that `layer` puts out."""
    return (
        _has_statistics(norm)
        and type(layer) in LAYERS
        and not isinstance(layer, nn.Linear)
        and len(norm.running_var) == layer.out_channels
    )


def _has_statistics(norm: nn.Module) -> bool:
    batch_norm = isinstance(norm, nn.BatchNorm2d) or "FrozenBatchNorm" in type(norm).__name__
    return batch_norm and getattr(norm, "running_var", None) is not None


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


@torch.no_grad()
def _apart(backbone: nn.Module, side: int) -> float:
    """How far the folded backbone is from itself as it is written, on random pixels: the largest
    difference of a map as a share of the map's largest value. In IEEE's float32, whatever they will
    be computed in: TF32 alone makes 2e-3.
    """
    like = next(backbone.parameters())
    pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0)).to(like)
    no_autocast = torch.autocast(like.device.type, enabled=False)
    with eval_mode(backbone), float32_as(tf32=False), no_autocast:
        folded = backbone(pixels)
        with torch.enable_grad():
            written = [x.detach() for x in backbone(pixels)]
    tiny = torch.finfo(like.dtype).tiny
    apart = [
        (a - b).abs().max() / b.abs().max().clamp(min=tiny)
        for a, b in zip(folded, written, strict=True)
    ]
    return float(torch.stack(apart).max())
