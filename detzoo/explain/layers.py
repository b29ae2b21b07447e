"""A layer by its name, and its output maps.

Shape letters: R rows of a batch of maps (images, or crops of one), C channels, h and w a map's
sides.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from torch import Tensor, nn

from detzoo.detector import Detector


def layer_of(detector: Detector, name: str | None = None) -> nn.Module:
    """The module of that name, such as backbone.model.layer2.

    By default the one whose maps the head reads: the neck, else the backbone. Raises ValueError for
    an unknown name, and without a name for a detector that has neither.
    """
    if name is not None:
        modules = dict(detector.named_modules())
        if name not in modules or not name:
            near = get_close_matches(name, modules, 3) or [n for n, _ in detector.named_children()]
            raise ValueError(
                f"layer is {name!r}, and {type(detector).__name__} has none of that name; "
                f"near are {', '.join(near)}"
            )
        return modules[name]
    found = getattr(detector, "neck", None) or getattr(detector, "backbone", None)
    if found is None:
        raise ValueError(
            f"{type(detector).__name__} has neither a neck nor a backbone, so no maps to weigh; "
            "use a method on pixels: occlusion, d_rise, saliency"
        )
    return found


@contextmanager
def calls_of(module: nn.Module) -> Iterator[list[list[Tensor]]]:
    """Within it, the (R, C, h, w) maps that the module gives, a list for each of its calls."""
    calls: list[list[Tensor]] = []

    def keep(_: nn.Module, __: Any, outputs: Any) -> Tensor | None:
        calls.append([x for x in tensors(outputs) if x.dim() == 4])
        # What follows goes on with a copy: a ReLU in place would change what is kept
        return outputs.clone() if isinstance(outputs, Tensor) else None

    handle = module.register_forward_hook(keep)
    try:
        yield calls
    finally:
        handle.remove()


def tensors(outputs: Any) -> Iterator[Tensor]:
    """All tensors in what a module gives, in their order."""
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, dict):
        yield from tensors(list(outputs.values()))
    elif isinstance(outputs, list | tuple):
        for part in outputs:
            yield from tensors(part)
