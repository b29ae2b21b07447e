"""ReLUs whose backward pass is another: deconvnet and guided backpropagation.

A mode that sees every call of a function on tensors, so that ReLUs are met whether they are modules
or functions, in place or not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

# functions that are 0 below 0, and how else they bend
_RELUS = {
    torch.relu: torch.relu,
    torch.relu_: torch.relu,
    Tensor.relu: torch.relu,
    Tensor.relu_: torch.relu,
    F.relu: torch.relu,
    F.relu_: torch.relu,
    F.relu6: lambda x: x.clamp(0, 6),
}
RULES = ("deconvnet", "guided")


class _Ruled(torch.autograd.Function):
    """forward: the function; backward: positive slopes alone, and guided: where x > 0 alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Callable[[Tensor], Tensor], guided: bool) -> Tensor:
        ctx.guided = guided
        ctx.save_for_backward(x)
        return function(x)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        slope = slope.clamp(min=0)
        return (slope * (x > 0) if ctx.guided else slope), None, None


class ruled_relus(TorchFunctionMode):
    """Within it every ReLU and ReLU6 passes back by the rule.

    deconvnet (Zeiler and Fergus, 1311.2901): positive gradients, independent of the forward pass.
    guided (Springenberg, 1412.6806): those where the forward pass was positive too. Leaky and
    smooth activations, which neither paper has, keep their derivative.
    """

    def __init__(self, rule: str) -> None:
        super().__init__()
        if rule not in RULES:
            raise ValueError(f"rule is {rule!r}; it must be one of {', '.join(RULES)}")
        self.guided = rule == "guided"

    def __torch_function__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in (F.hardtanh, F.hardtanh_) and _is_relu6(args, kwargs):
            return _Ruled.apply(args[0], _RELUS[F.relu6], self.guided)
        if function in _RELUS:
            x = args[0] if args else kwargs["input"]
            return _Ruled.apply(x, _RELUS[function], self.guided)
        return function(*args, **kwargs)


def _is_relu6(args: tuple, kwargs: dict[str, Any]) -> bool:
    low = args[1] if len(args) > 1 else kwargs.get("min_val", -1.0)
    high = args[2] if len(args) > 2 else kwargs.get("max_val", 1.0)
    return (low, high) == (0, 6)
