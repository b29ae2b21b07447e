"""Receptive fields: which pixels a cell of a map can depend on, by the arithmetic of its layers.

Every call of a function on tensors is traced from the backbone's input to the layer, so that
branches, residuals and pyramids need no description. The largest reach of several paths counts. By
convention a norm's statistics do not: in eval mode a batch norm computes none, and through those of
a group norm every cell would depend on every pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from detzoo.detector import Detector
from detzoo.explain.layers import layer_of, tensors
from detzoo.types import Images


@dataclass(frozen=True)
class Field:
    """Along one side, cell i depends on the pixels from i * step + low to i * step + high.

    In pixels of the backbone's input: of the image, or of a crop. Infinite where it covers all.
    """

    step: float = 1.0
    low: float = 0.0
    high: float = 1.0

    def span(self, cell: int, most: int) -> tuple[float, float]:
        """The interval of one cell, inside [0, most]."""
        low, high = cell * self.step + self.low, cell * self.step + self.high
        return max(0.0, low), min(float(most), high)

    def reach(self, factor: float, low: float, high: float) -> Field:
        """After a layer whose cell i reads cells i * factor + low to i * factor + high."""
        return Field(self.step * factor, self.low + self.step * low, self.high + self.step * high)

    def union(self, other: Field) -> Field:
        if self == other:
            return self
        if not math.isclose(self.step, other.step):
            return WHOLE
        return Field(self.step, min(self.low, other.low), max(self.high, other.high))


WHOLE = Field(1.0, -math.inf, math.inf)
Fields = tuple[Field, Field]  # of rows, of columns
GLOBAL = {"cummax", "cummin", "cumsum", "flip", "roll", "scaled_dot_product_attention"}


def receptive_fields(detector: Detector, images: Images, layer: str | None = None) -> list[Fields]:
    """The fields of each of the layer's maps for these images, level by level.

    One forward pass. Raises ValueError as `layer_of`, and for a layer that gives no maps.
    """
    backbone, module = getattr(detector, "backbone", detector), layer_of(detector, layer)
    found: list[Fields] = []
    tracker = _Tracker()

    def begin(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        for x in tensors(inputs):
            tracker.note(x, (Field(), Field()))

    def keep(_: nn.Module, __: Any, outputs: Any) -> None:
        maps = [x for x in tensors(outputs) if x.dim() == 4]
        found.extend(tracker.of(x) or (WHOLE, WHOLE) for x in maps)

    handles = [backbone.register_forward_pre_hook(begin), module.register_forward_hook(keep)]
    try:
        with torch.no_grad(), tracker:
            detector.network(images)
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise ValueError(f"layer is {layer!r}, which gives no maps: (R, C, h, w)")
    return found


class _Tracker(TorchFunctionMode):
    """Within it every map's fields follow from those of the maps that it is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[int, tuple[Tensor, Fields]] = {}  # a tensor that lives keeps its id

    def note(self, x: Tensor, fields: Fields) -> None:
        self.fields[id(x)] = (x, fields)

    def of(self, x: Tensor) -> Fields | None:
        return self.fields[id(x)][1] if id(x) in self.fields else None

    def __torch_function__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = function(*args, **kwargs)
        known = [x for x in tensors([list(args), kwargs]) if id(x) in self.fields]
        if not known:
            return out
        name = getattr(function, "__name__", "")
        for x in tensors(out):
            if x.dim() < 3:
                continue
            rule = _RULES.get(name)
            of = [self.fields[id(k)][1] for k in known]
            if rule and len(known) == 1:
                self.note(x, rule(of[0], known[0], x, args, kwargs))
            elif name in GLOBAL or any(not _same_sides(k, x, name) for k in known):
                self.note(x, (WHOLE, WHOLE))
            else:
                rows, columns = of[0]
                for more in of[1:]:
                    rows, columns = rows.union(more[0]), columns.union(more[1])
                self.note(x, (rows, columns))
        return out


def _same_sides(x: Tensor, y: Tensor, name: str) -> bool:
    """Whether cells keep their place between the two; a slice keeps the first ones."""
    return x.shape[-2:] == y.shape[-2:] or (name == "__getitem__" and x.dim() == y.dim() == 4)


def _pair(value: Any) -> tuple[Any, Any]:
    return (value[0], value[-1]) if isinstance(value, list | tuple) else (value, value)


def _option(args: tuple, kwargs: dict[str, Any], place: int, name: str, default: Any) -> Any:
    value = args[place] if len(args) > place else kwargs.get(name, default)
    return default if value is None or (isinstance(value, list | tuple) and not value) else value


def _convolution(of: Fields, x: Tensor, out: Tensor, args: tuple, kwargs: dict) -> Fields:
    weight = _option(args, kwargs, 1, "weight", None)
    stride = _pair(_option(args, kwargs, 3, "stride", 1))
    padding = _option(args, kwargs, 4, "padding", 0)
    dilation = _pair(_option(args, kwargs, 5, "dilation", 1))
    reaches = [d * (k - 1) for d, k in zip(dilation, weight.shape[-2:], strict=True)]
    if isinstance(padding, str):  # "same" or "valid"
        padding = [reach // 2 if padding == "same" else 0 for reach in reaches]
    parts = zip(of, stride, _pair(padding), reaches, strict=True)
    return tuple(field.reach(s, -p, reach - p) for field, s, p, reach in parts)


def _transposed(of: Fields, x: Tensor, out: Tensor, args: tuple, kwargs: dict) -> Fields:
    weight = _option(args, kwargs, 1, "weight", None)
    stride = _pair(_option(args, kwargs, 3, "stride", 1))
    padding = _pair(_option(args, kwargs, 4, "padding", 0))
    dilation = _pair(_option(args, kwargs, 7, "dilation", 1))
    reaches = [d * (k - 1) for d, k in zip(dilation, weight.shape[-2:], strict=True)]
    parts = zip(of, stride, padding, reaches, strict=True)
    return tuple(field.reach(1 / s, (p - r) / s, p / s) for field, s, p, r in parts)


def _pool(of: Fields, x: Tensor, out: Tensor, args: tuple, kwargs: dict) -> Fields:
    kernel = _pair(_option(args, kwargs, 1, "kernel_size", 1))
    stride = _pair(_option(args, kwargs, 2, "stride", kernel))
    padding = _pair(_option(args, kwargs, 3, "padding", 0))
    parts = zip(of, kernel, stride, padding, strict=True)
    return tuple(field.reach(s, -p, k - 1 - p) for field, k, s, p in parts)


def _interpolated(of: Fields, x: Tensor, out: Tensor, args: tuple, kwargs: dict) -> Fields:
    """Between whole cells: the nearest one's, or those of both sides."""
    nearest = _option(args, kwargs, 3, "mode", "nearest").startswith("nearest")
    found = []
    for field, small, large in zip(of, x.shape[-2:], out.shape[-2:], strict=True):
        factor = small / large
        slack = 0.0 if large % small else factor  # how far above a whole cell it never is
        if nearest:
            found.append(field.reach(factor, slack - 1, 0))
        else:
            found.append(field.reach(factor, (factor + slack) / 2 - 1.5, factor / 2 + 0.5))
    return tuple(found)


def _padded(of: Fields, x: Tensor, out: Tensor, args: tuple, kwargs: dict) -> Fields:
    pad = _option(args, kwargs, 1, "pad", (0, 0))
    left, top = pad[0], pad[2] if len(pad) > 3 else 0
    return of[0].reach(1, -top, -top), of[1].reach(1, -left, -left)


_RULES = {
    "conv2d": _convolution,
    "conv_transpose2d": _transposed,
    **dict.fromkeys(("max_pool2d", "_max_pool2d", "boolean_dispatch", "avg_pool2d"), _pool),
    "interpolate": _interpolated,
    "pad": _padded,
}
