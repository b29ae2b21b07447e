"""Numbers that Python knows, on a device, without making it wait for each of them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor


def constant(values: Any, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Tensor:
    """A cached tensor of nested sequences of numbers: equal ones are copied to the device once.

    Image sizes, strides and weights come again in every batch. Do not write into the result. What
    is a tensor already, as the sizes are in a graph that takes them as an input, stays one.
    """
    if isinstance(values, Tensor):
        return values.to(device, dtype)
    return _kept(_frozen(values), torch.device(device), dtype)


@lru_cache(maxsize=1024)
def _kept(values: tuple, device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):  # or a training could not use it later
        return torch.tensor(values, dtype=dtype).to(device, non_blocking=True)


def _frozen(values: Any) -> Any:
    return tuple(map(_frozen, values)) if isinstance(values, list | tuple) else values
