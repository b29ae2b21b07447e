"""A GPU that is pretended: tensors that say they are on cuda:0 and are computed on the CPU.

Every branch that asks `is_cuda` is taken, a tensor of the CPU among them is refused as CUDA refuses
it, and everything that would make the host wait for the device is counted, with its line. The
inside of torch (a backward pass, a kernel) is not examined; but the operations of its functions are
counted, each of which launches a kernel.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

CUDA = torch.device("cuda", 0)
# The host has to know a value, or how many there are.
WAITS = {
    *("item", "tolist", "numpy", "__array__", "__bool__", "__int__", "__float__", "__index__"),
    *("nonzero", "argwhere", "masked_select", "unique", "unique_consecutive", "bincount"),
    *(
        "equal",
        "allclose",
        "is_nonzero",
        "__contains__",
        "__repr__",
        "cpu",
        "nms",
        "count_nonzero_",
    ),
}
FREE = {"empty.memory_format", "empty_strided.default", "empty_like.default", "new_empty.default"}
COPIES = {"to", "copy_", "type_as", "__set__"}


class OnGPU(torch.Tensor):
    """See the module's text."""

    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    def __deepcopy__(self, memo: dict[int, Any]) -> OnGPU:
        twin = on_gpu(on_host(self).detach().clone()).requires_grad_(self.requires_grad)
        if isinstance(self, nn.Parameter):
            twin = nn.Parameter(twin, requires_grad=self.requires_grad)
        memo[id(self)] = twin
        return twin

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return Waits.now(func, args, kwargs or {})


def on_gpu(x: torch.Tensor) -> OnGPU:
    return x if isinstance(x, OnGPU) else x.as_subclass(OnGPU)


def on_host(x: torch.Tensor) -> torch.Tensor:
    with torch._C.DisableTorchFunctionSubclass():
        return x.as_subclass(torch.Tensor)


class Launches(TorchDispatchMode):
    """Counts the operations that compute or copy; views launch nothing."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        views = [r for r in func._schema.returns if r.alias_info and not r.alias_info.is_write]
        self.count += not views and func.__name__ not in FREE
        return func(*args, **(kwargs or {}))


class Waits(TorchFunctionMode):
    """A context that counts the host's waits, by operation and line.

    launches: how many kernels a GPU would have been given.
    """

    current: Waits | None = None

    def __init__(self) -> None:
        super().__init__()
        self.where: Counter[str] = Counter()
        self.launches = 0
        self.lenient = False  # autograd gives gradients that know of no pretence

    @property
    def count(self) -> int:
        return sum(self.where.values())

    @classmethod
    def now(cls, func, args, kwargs):
        with torch._C.DisableTorchFunctionSubclass():
            return (cls.current or cls()).run(func, args, kwargs)

    def __enter__(self) -> Waits:
        self.before, Waits.current = Waits.current, self
        return super().__enter__()

    def __exit__(self, *error) -> None:
        Waits.current = self.before
        super().__exit__(*error)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunctionSubclass():
            return self.run(func, args, kwargs or {})

    def note(self, what: str) -> None:
        frames = [f for f in traceback.extract_stack() if "/detzoo/" in f.filename]
        place = f"{frames[-1].filename.split('/detzoo/')[-1]}:{frames[-1].lineno}" if frames else ""
        self.where[f"{place} {what}"] += 1

    def run(self, func, args, kwargs):
        name = getattr(func, "__name__", str(func)).split(".")[0]
        tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
        ours = any(isinstance(x, OnGPU) for x in tensors)
        if name == "_has_compatible_shallow_copy_type":  # a module moves its parameters
            return not (ours and not all(isinstance(x, OnGPU) for x in tensors))
        if name in ("__getitem__", "__setitem__"):  # CUDA takes an index from the host's memory
            tensors = [x for x in (args[0], *args[2:]) if isinstance(x, torch.Tensor)]
        theirs = any(not isinstance(x, OnGPU) and x.dim() > 0 for x in tensors)
        if name in ("backward", "grad") and not self.lenient:
            self.lenient = True
            try:
                return self.compute(func, args, kwargs, ours)
            finally:
                self.lenient = False
        if ours and theirs and name not in COPIES and not self.lenient:
            raise RuntimeError(f"{name}: expected all tensors to be on one device, cuda:0 and cpu")
        if name == "to":
            return self.move(func, args, kwargs)
        if ours and name == "cpu":
            self.note("cpu")
            return on_host(args[0]).detach().clone()
        if ours and self.waits(name, args, kwargs):
            self.note(name)
        device = None if name == "_parse_to" else kwargs.get("device")
        if device is not None and torch.device(device).type == "cuda":
            if name in ("tensor", "as_tensor"):
                self.note(f"{name} from the host's memory")
            return self.compute(func, args, {**kwargs, "device": "cpu"}, True)
        if device is not None:
            return func(*args, **kwargs)
        if name == "new_tensor" and ours:
            self.note("new_tensor")
        return self.compute(func, args, kwargs, ours)

    def waits(self, name: str, args: tuple, kwargs: dict) -> bool:
        if name in ("__getitem__", "__setitem__"):
            index = args[1] if isinstance(args[1], tuple | list) else [args[1]]
            index = [i for i in index if isinstance(i, torch.Tensor)]
            return any(i.dtype == torch.bool or not isinstance(i, OnGPU) for i in index)
        if name == "repeat_interleave":
            return kwargs.get("output_size") is None
        if name == "where":
            return len(args) == 1
        return name in WAITS

    def move(self, func, args, kwargs):
        x, *rest = args
        wanted = kwargs.get("device", rest[0] if rest else None)
        if isinstance(wanted, torch.Tensor):
            wanted, rest, kwargs = wanted.device, [], {**kwargs, "dtype": wanted.dtype}
        is_device = isinstance(wanted, str | torch.device)
        target = torch.device(wanted).type if is_device else None
        if target is None:
            return self.compute(func, args, kwargs, isinstance(x, OnGPU))
        others = {k: v for k, v in kwargs.items() if k != "device"}
        rest = rest[1:] if rest and rest[0] is wanted else rest
        here = isinstance(x, OnGPU)
        if here and target == "cpu" and not others.get("non_blocking"):
            self.note("to cpu")
        elif not here and target == "cuda" and not others.get("non_blocking") and x.numel():
            self.note("to cuda, blocking")
        moved = on_host(x).to("cpu", *rest, **others)
        if here != (target == "cuda"):
            moved = moved.clone() if moved.data_ptr() == on_host(x).data_ptr() else moved
        elif moved.data_ptr() == on_host(x).data_ptr() and moved.dtype == x.dtype:
            return x
        return on_gpu(moved) if target == "cuda" else moved

    def compute(self, func, args, kwargs, ours: bool):
        if not ours:
            return func(*args, **kwargs)
        with Launches() as launched:
            out = func(*args, **kwargs)
        self.launches += launched.count

        def mark(x: Any) -> Any:
            return on_gpu(x) if isinstance(x, torch.Tensor) else x

        return tree_map(mark, out)


def move_module(module: nn.Module) -> nn.Module:
    """All parameters and buffers of the module, in place, on the pretended GPU; tied stay tied."""
    moved: dict[nn.Parameter, nn.Parameter] = {}
    for part in module.modules():
        for name, value in part._parameters.items():
            if value is not None and value not in moved:
                there = on_gpu(value.detach().clone())
                moved[value] = nn.Parameter(there, requires_grad=value.requires_grad)
            if value is not None:
                part._parameters[name] = moved[value]
        for name, value in part._buffers.items():
            if value is not None:
                part._buffers[name] = on_gpu(value.clone())
    return module


@contextmanager
def gpu() -> Iterator[Waits]:
    """The pretence; what was kept for its device is forgotten at the end."""
    try:
        with Waits() as waits:
            yield waits
    finally:
        forget()


def forget() -> None:
    from detzoo.detectors import yolov3
    from detzoo.ops import anchors, constants

    for kept in (
        constants._kept,
        anchors.pyramid_anchors,
        anchors.default_boxes,
        yolov3.make_grid,
    ):
        kept.cache_clear()
