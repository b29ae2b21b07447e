"""Device, number format, memory layout, compiled or not: how a network is computed."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import torch

from detzoo.data.resize import Resize
from detzoo.engine.cpu import cpu_flags
from detzoo.engine.folding import CompiledNetwork, fold, inspect_folding, unfold
from detzoo.ops.precision import float32_as
from detzoo.types import Images

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
Module = TypeVar("Module", bound=torch.nn.Module)


@dataclass(frozen=True)
class Mode:
    """How a network is computed. precision: one of PRECISIONS; compile: by `torch.compile`.

    fp32 is IEEE's float32 everywhere. tf32, which is torch's own default for convolutions on a GPU,
    stores float32 and multiplies with 10 bits of mantissa.
    """

    precision: str = "fp32"
    channels_last: bool = False
    compile: bool = False

    def __str__(self) -> str:
        layout = ", channels last" if self.channels_last else ""
        return self.precision + layout + (", compiled" if self.compile else "")


def choose_device(wanted: str = "auto") -> torch.device:
    """`auto` is CUDA if available, else the CPU. Raises ValueError for an unavailable device."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device is {wanted!r}; it must be auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device is {wanted!r}, and torch sees {torch.cuda.device_count()} CUDA devices here; "
            "use device=auto or device=cpu"
        )
    return device


def choose_precision(device: torch.device | str, wanted: str = "auto") -> str:
    """One of PRECISIONS. `auto` is bf16 where the hardware multiplies in it, fp32 elsewhere.

    That is CUDA from compute capability 8.0 on, and x86 CPUs with AMX or AVX-512 BF16; where it is
    emulated it is slower than fp32. Raises ValueError for unknown values, for fp16 and tf32 without
    CUDA, and for tf32 on a GPU from before compute capability 8.0, which has none.
    """
    device = torch.device(device)
    if wanted not in ("auto", *PRECISIONS):
        raise ValueError(f"precision is {wanted!r}; it must be auto, {', '.join(PRECISIONS)}")
    if wanted in ("fp16", "tf32") and device.type != "cuda":
        raise ValueError(f"precision {wanted} needs CUDA, the device is {device}; use bf16 or fp32")
    if wanted == "tf32" and torch.cuda.get_device_capability(device) < (8, 0):
        raise ValueError(f"precision tf32 needs compute capability 8.0, and {device} has less")
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    return "bf16" if device.type == "cpu" and {"amx_bf16", "avx512_bf16"} & cpu_flags() else "fp32"


def choose_channels_last(device: torch.device | str, wanted: bool | str = "auto") -> bool:
    """`auto` is on for CUDA and CPU, whose kernels it suits in every precision.

    On two Zen 4 cores in fp32 it trains 1.02 to 1.15 times and infers 1.02 to 1.05 times as fast
    (python benchmarks/precision.py --size 320).
    """
    if wanted not in ("auto", True, False):
        raise ValueError(f"channels_last is {wanted!r}; it must be auto, true or false")
    if wanted != "auto":
        return bool(wanted)
    return torch.device(device).type in ("cuda", "cpu")


def autocast(device: torch.device | str, precision: str) -> AbstractContextManager[None]:
    """The context in which a detector is called, for training, scoring and timing alike."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; it must be one of {', '.join(PRECISIONS)}")
    return _autocast(torch.device(device).type, precision)


@contextmanager
def _autocast(device_type: str, precision: str) -> Iterator[None]:
    dtype = DTYPES.get(precision)
    given = {"enabled": False} if dtype is None else {"dtype": dtype}
    with float32_as(tf32=precision == "tf32"), torch.autocast(device_type, **given):
        yield


@contextmanager
def fastest_convolutions(fixed_shapes: bool) -> Iterator[None]:
    """A context in which cuDNN benchmarks its algorithms at every new shape, for fixed shapes.

    That is a gain only where shapes repeat; otherwise, and afterwards, the setting is unchanged.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = fixed_shapes or before
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def prepare(
    detector: Module,
    device: torch.device | str,
    channels_last: bool,
    compile: bool = False,
    *,
    inference: bool = False,
) -> Module:
    """Move the detector, in place, to the device and into the layout; returns it.

    inference: with batch norm folded, weights cast once and, where it pays, 3x3 convolutions by
    Winograd's way (engine.folding), for whatever finds objects; the weights themselves, and what
    training computes but for frozen stages, stay as they are. Layers that could not be folded cause
    one warning; `inspect_folding` counts them.

    compile: the `network` of this one object is `torch.compile`d, at its first call for a shape,
    folded if `inference`; all calls of the object then use it. False restores the original network.
    Raises ValueError where torch cannot compile.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    detector.to(device=device).to(memory_format=layout)
    if inference:
        fold(detector)
        if warning := inspect_folding(detector).warning:
            warnings.warn(f"{type(detector).__name__}: {warning}", stacklevel=2)
    else:
        unfold(detector)
        if getattr(getattr(detector, "backbone", None), "frozen_modules", None):
            fold(detector)
    if not compile:
        if isinstance(vars(detector).get("network"), CompiledNetwork):
            del detector.network
    elif "network" not in vars(detector):
        _check_compiler(device)
        detector.network = CompiledNetwork(detector)
    return detector


def _check_compiler(device: torch.device | str) -> None:
    """Raise an error where no C++ compiler is installed, which torch.compile needs on a CPU."""
    wanted = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if torch.device(device).type == "cpu" and shutil.which(wanted) is None:
        raise ValueError(
            f"compile=true needs a C++ compiler, and there is no {wanted} here; install one, name "
            "it by the variable CXX, or leave compile=false"
        )


def describe_detector(
    detector: torch.nn.Module, resize: Resize, device: torch.device | str, mode: Mode
) -> dict[str, Any]:
    """All that determines this detector's results, for the record of a scoring and a timing.

    A row of a table shows AP and milliseconds together only if both records agree here
    (detzoo.report.load.runs checks it), so the two are of one object. weights_hash: 16 hex digits
    over every weight and buffer. resize: the rule with its pixels. score_threshold: None where the
    detector has none; max_dets: then COCO's 100. runtime: only for a network that another program
    computes (detzoo.runtimes).
    """
    describe = getattr(vars(detector).get("network"), "describe", None)
    digest = hashlib.blake2b(digest_size=8)
    for name, value in sorted(detector.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        flat = value.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return {
        "weights_hash": digest.hexdigest(),
        "resize": resize.describe(),
        "score_threshold": getattr(detector, "score_threshold", None),
        "max_dets": getattr(detector, "max_detections", 100),
        "device": str(device),
        **asdict(mode),
        **({} if describe is None else {"runtime": describe()}),
    }


def transfer(images: Images, device: torch.device | str, channels_last: bool) -> Images:
    """Move a batch, still uint8, to the device and into the layout."""
    images = images.to(device, non_blocking=True)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    pixels = images.pixels.contiguous(memory_format=layout)
    return replace(images, pixels=pixels)
