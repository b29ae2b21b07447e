"""The precision of float32: IEEE or TensorFloat-32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch
from torch.backends import cuda, cudnn, mkldnn


@contextmanager
def float32_as(tf32: bool) -> Iterator[None]:
    """A context in which float32 is computed as IEEE's, or with `tf32` in TensorFloat-32.

    torch's own default is TF32, with 10 bits of mantissa instead of 23, for cuDNN's convolutions
    and IEEE for matrix products. The setting is global to the process, in all its threads, and
    applies when a kernel is launched: a backward pass needs it too.
    """
    before = _state()
    cudnn.allow_tf32 = tf32
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    for operation in _operations():  # or torch.backends.fp32_precision would override them
        operation.fp32_precision = "tf32" if tf32 else "ieee"
    try:
        yield
    finally:
        _restore(*before)


def _operations() -> list[object]:
    """The objects in which torch >= 2.9 has a setting per kind of operation."""
    kinds = [getattr(module, name, None) for module in (cudnn, mkldnn) for name in ("conv", "rnn")]
    kinds += [cuda.matmul, getattr(mkldnn, "matmul", None)]
    return [kind for kind in kinds if hasattr(kind, "fp32_precision")]


def _state() -> tuple[bool | None, str | None, list[str]]:
    """None for what torch does not report, if its old and new settings were made inconsistent."""
    convolutions = matrices = None
    with suppress(RuntimeError):
        convolutions = cudnn.allow_tf32
    with suppress(RuntimeError):
        matrices = torch.get_float32_matmul_precision()
    return convolutions, matrices, [x.fp32_precision for x in _operations()]


def _restore(convolutions: bool | None, matrices: str | None, operations: list[str]) -> None:
    if convolutions is not None:
        cudnn.allow_tf32 = convolutions
    if matrices is not None:
        torch.set_float32_matmul_precision(matrices)
    for operation, value in zip(_operations(), operations, strict=True):
        operation.fp32_precision = value
