"""Limits on what a configuration may build, checked before memory is allocated.

A run directory may come from somebody else, and a mistyped number may need a terabyte.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration

from detzoo.config import build
from detzoo.text import shortened

NUMBER = 1_000_000  # the largest whole number among the settings of a detector
ITEMS = 10_000  # of one list
ELEMENTS = 4_000_000_000  # of all parameters and buffers together: 16 GB in fp32
MODULES = 10_000


def outline(node: Mapping[str, Any], file: str | Path = "") -> nn.Module:
    """The detector that `node` describes, on the meta device: shapes without memory.

    file: where the node was read, for errors. Raises ValueError as `build` does, and for a detector
    beyond the limits above.
    """
    where = f"{file}: detector" if file else "detector"
    check_numbers(node, where)
    with torch.device("meta"), _counted(where):
        return build(node, "detector", file)


def check_numbers(node: Any, where: str) -> None:
    """Raise ValueError for a whole number or a list at or below `node` beyond the limits."""
    if isinstance(node, Mapping):
        for key, child in node.items():
            check_numbers(child, f"{where}.{key}")
    elif isinstance(node, list | tuple):
        if len(node) > ITEMS:
            raise ValueError(f"{where} is a list of {len(node):,}; at most {ITEMS:,} are read")
        for index, child in enumerate(node):
            check_numbers(child, f"{where}[{index}]")
    elif isinstance(node, int) and abs(node) > NUMBER:
        shown = shortened(f"{node:,}" if node.bit_length() < 200 else "of many digits", 80)
        raise ValueError(f"{where} is {shown}; no setting of a detector is beyond {NUMBER:,}")


@contextmanager
def _counted(where: str) -> Iterator[None]:
    """A context that raises ValueError as soon as a module built inside has too many weights or
    modules."""
    elements, modules = 0, 0

    def count_elements(_: nn.Module, name: str, tensor: Tensor | None) -> None:
        nonlocal elements
        elements += 0 if tensor is None else math.prod(tensor.shape)
        if elements > ELEMENTS:
            raise ValueError(
                f"{where} has more than {ELEMENTS:,} weights (at {name}); it would need "
                f"{4 * ELEMENTS / 1e9:.0f} GB and more"
            )

    def count_modules(_: nn.Module, name: str, child: nn.Module | None) -> None:
        nonlocal modules
        modules += 1
        if modules > MODULES:
            raise ValueError(f"{where} has more than {MODULES:,} layers (at {name})")

    hooks = [
        registration.register_module_parameter_registration_hook(count_elements),
        registration.register_module_buffer_registration_hook(count_elements),
        registration.register_module_module_registration_hook(count_modules),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
