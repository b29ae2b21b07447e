"""Layers for inference: batch norm folded into the layer before it, weights cast once, and 3x3
convolutions by Winograd's way where that is faster (engine.folded).

`torch.compile` does not fold by itself: `CompiledNetwork` has the layers folded before each call,
and what is compiled takes them so.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import torch
from timm.layers import Conv2dSame
from torch import nn

from detzoo.detector import eval_mode
from detzoo.engine.folded import Folded, FoldedNorm, folded_layers, has_late_bias
from detzoo.ops.precision import float32_as

# These very classes, and what has a `late_bias`; a subclass may compute something else
LAYERS = (nn.Conv2d, Conv2dSame, nn.ConvTranspose2d, nn.Linear)
SIDE = 64  # pixels, about, of the input on which a backbone is compared before and after
TOLERANCE = 1e-3  # of a map's largest value


class Folding(NamedTuple):
    """Which batch norms of a detector are folded.

    norms: number of its batch norms with statistics. left: names of those that compute by
    themselves. why: the reason, where a whole backbone is left.
    """

    norms: int
    left: tuple[str, ...]
    why: str

    @property
    def warning(self) -> str:
        """A sentence about the remaining ones; empty without any."""
        if not self.left:
            return ""
        some = ", ".join(self.left[:3]) + (", ..." if len(self.left) > 3 else "")
        why = self.why or "no layer right before them that they could be folded into"
        return f"{len(self.left)} of {self.norms} batch norms are not folded ({some}): {why}"

    def describe(self) -> dict[str, Any]:
        """Plain values, for a scoring's and a timing's record."""
        folded = self.norms - len(self.left)
        return {"norms": self.norms, "folded": folded, "left": list(self.left), "why": self.why}


def inspect_folding(detector: nn.Module) -> Folding:
    """Which batch norms of a detector are folded now, and which are not."""
    norms = {name: m for name, m in detector.named_modules() if _has_statistics(m)}
    left = [n for n, norm in norms.items() if not isinstance(vars(norm).get("forward"), FoldedNorm)]
    return Folding(len(norms), tuple(left), vars(detector).get("left_as_written", ""))


def fold(detector: nn.Module) -> None:
    """Fold every batch norm into the layer that it follows, in place; idempotent.

    Which layer it follows is taken from the order in which a module registers its children. In a
    Sequential that is the order of computing. In the child `backbone`, which may be any of timm's,
    it is assumed for all modules and then verified: if random pixels give another result than
    before, the backbone is not folded. `inspect_folding` reports what was done.
    """
    backbone = getattr(detector, "backbone", nn.Identity())
    inside = set(backbone.modules())
    followers: dict[nn.Module, set[nn.Module]] = {}
    for parent in detector.modules():
        if isinstance(parent, nn.Sequential) or parent in inside:
            for child, norm in pairwise(parent.children()):
                if _folds(layer := _last(child), norm):
                    followers.setdefault(layer, set()).add(norm)
    for module in detector.modules():  # skip folded layers: they may be compiled
        if type(module) in LAYERS or has_late_bias(module):
            norms = followers.get(module, set())
            _fold(module, norms.pop() if len(norms) == 1 else None)
    vars(detector).pop("left_as_written", None)
    if len(inside) > 1:
        apart = _deviation(backbone, -(-SIDE // detector.stride) * detector.stride)
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
        norm.forward = FoldedNorm(norm, layer.forward)


def unfold(detector: nn.Module) -> None:
    """All layers as they were written."""
    vars(detector).pop("left_as_written", None)
    for module in detector.modules():
        if isinstance(vars(module).get("forward"), Folded | FoldedNorm):
            del module.forward


class CompiledNetwork:
    """A detector's `network` by `torch.compile`, with its folded layers ready before each call."""

    def __init__(self, detector: nn.Module) -> None:
        self.detector = detector
        self.network = torch.compile(detector.network)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        layers = [forward for forward in folded_layers(self.detector) if not forward.as_written()]
        for forward in layers:
            dtype = forward.dtype(forward.layer.weight.device.type)
            forward.ready = forward.current(dtype)
        try:
            return self.network(*arguments, **named)
        finally:
            for forward in layers:
                forward.ready = None


def _last(module: nn.Module) -> nn.Module:
    """The last layer of the module."""
    while isinstance(module, nn.Sequential) and len(module):
        module = module[-1]
    return module


def _folds(layer: nn.Module, norm: nn.Module) -> bool:
    """Whether `norm` has its own statistics, one for every output channel of `layer`."""
    return (
        _has_statistics(norm)
        and type(layer) in LAYERS
        and not isinstance(layer, nn.Linear)
        and len(norm.running_var) == layer.out_channels
    )


def _has_statistics(norm: nn.Module) -> bool:
    batch_norm = isinstance(norm, nn.BatchNorm2d) or "FrozenBatchNorm" in type(norm).__name__
    return batch_norm and getattr(norm, "running_var", None) is not None


@torch.no_grad()
def _deviation(backbone: nn.Module, side: int) -> float:
    """The deviation of the folded backbone from the original, on random pixels: the largest
    difference of a map as a share of the map's largest value. In IEEE's float32, not in the
    precision of the run: TF32 alone makes 2e-3.
    """
    like = next(backbone.parameters())
    pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0)).to(like)
    no_autocast = torch.autocast(like.device.type, enabled=False)
    with eval_mode(backbone), float32_as(tf32=False), no_autocast:
        folded = backbone(pixels)
        with torch.enable_grad():
            written = [x.detach() for x in backbone(pixels.requires_grad_())]
    tiny = torch.finfo(like.dtype).tiny
    apart = [
        (a - b).abs().max() / b.abs().max().clamp(min=tiny)
        for a, b in zip(folded, written, strict=True)
    ]
    return float(torch.stack(apart).max())
