"""JPEG decoders: simplejpeg if it is installed, else Pillow; or a GPU, if chosen.

simplejpeg (the extra `fast`) is libjpeg-turbo bare: Pillow's pixels in half of its time. A GPU
decodes by nvJPEG through torchvision, whole images only, and rounds differently from libjpeg: its
pixels are others, so it is a choice (runtime.decoder=cuda), a part of a run's fingerprint, and
named in every protocol. The pixels are copied back, since resizing is the CPU's for all decoders.
Files that nvJPEG cannot read (CMYK, damaged) are decoded by Pillow, as elsewhere.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import metadata
from typing import Any

import numpy as np
import PIL
import torch
from PIL import Image
from torchvision import io as torchvision_io

from detzoo.imagefile import Size, open_image
from detzoo.text import check_choice

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

DECODERS = ("auto", "cuda")

_device: ContextVar[torch.device | None] = ContextVar("device that decodes JPEG", default=None)


def is_jpeg(data: bytes) -> bool:
    return data[:3] == b"\xff\xd8\xff"


def decoder() -> str:
    """The JPEG decoder in use, for protocols."""
    if _device.get() is not None:
        return f"nvJPEG by torchvision {metadata.version('torchvision')}, whole"
    name = "Pillow" if simplejpeg is None else "simplejpeg"
    version = PIL.__version__ if simplejpeg is None else metadata.version(name)
    return f"{name} {version}, at parts"


@contextmanager
def decoding(decoder: str, device: torch.device | str) -> Iterator[None]:
    """Within it, JPEGs are decoded by `decoder`, one of DECODERS; `cuda` is on `device`.

    Raises ValueError for another decoder, and where that device does not decode JPEG.
    """
    check_decoder(decoder, device)
    before = _device.set(torch.device(device) if decoder == "cuda" else None)
    try:
        yield
    finally:
        _device.reset(before)


def check_decoder(decoder: Any, device: torch.device | str) -> None:
    """Raise ValueError where `decoding` would."""
    check_choice("runtime.decoder", decoder, DECODERS)
    if decoder == "auto":
        return
    device = torch.device(device)
    if device.type != "cuda":
        raise ValueError(
            f"runtime.decoder=cuda decodes JPEG on a CUDA device, and the device is {device}; use "
            "runtime.decoder=auto"
        )
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG")
    try:
        _on_device(file.getvalue(), device)
    except (RuntimeError, AttributeError) as error:  # deprecated in torchvision 0.29
        reason = str(error).split("\n")[0]
        raise ValueError(
            f"runtime.decoder=cuda: this torchvision decodes no JPEG on {device} ({reason}); use "
            "runtime.decoder=auto"
        ) from error


def decode(
    data: bytes, most: float, least: Callable[[Size], Size]
) -> tuple[np.ndarray, Size] | None:
    """(H, W, 3) uint8 RGB and the image's own (height, width); None for files that are left to
    Pillow.

    most: pixels that an image may have. least: from its size, the smallest (height, width) that it
    may be decoded at; nvJPEG decodes at its own.
    """
    device = _device.get()
    if device is not None:
        with open_image(io.BytesIO(data), most) as image:
            size, mode = (image.height, image.width), image.mode
        if mode not in ("RGB", "L"):
            return None
        try:
            return _on_device(data, device), size
        except RuntimeError:
            return None
    if simplejpeg is not None:
        try:
            height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
            if colours in ("YCbCr", "Gray", "RGB") and height * width <= most:
                min_height, min_width = least((height, width))
                pixels = simplejpeg.decode_jpeg(data, min_height=min_height, min_width=min_width)
                return pixels, (height, width)
        except ValueError:
            pass  # Pillow decodes slightly damaged files, and says what is wrong with others
    return None


def _on_device(data: bytes, device: torch.device) -> np.ndarray:
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    rgb = torchvision_io.ImageReadMode.RGB
    pixels = torchvision_io.decode_jpeg(encoded, mode=rgb, device=device)  # (3, H, W)
    return pixels.permute(1, 2, 0).contiguous().cpu().numpy()
