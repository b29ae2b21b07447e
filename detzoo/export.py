"""A detector's network alone, pixels in and raw tensors out, for torch.export and ONNX."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from detzoo.detector import Detector, eval_mode
from detzoo.types import Frame, Images


class Network(nn.Module):
    """`detector.network` of images that fill their batch, as a plain module.

    forward: (B, 3, H, W) uint8, or float32 in [0, 1] -> the tensors of the detector's outputs, in
    their order. Nothing is known of padding here: who pads an image fills it with the detector's
    mean colour, which is what `normalise` makes of padding.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        size = (pixels.shape[-2], pixels.shape[-1])
        frames = [Frame(i, size, size) for i in range(len(pixels))]
        outputs = self.detector.network(Images(pixels, frames))
        return tuple(x for x in outputs if isinstance(x, Tensor))


def to_onnx(detector: Detector, path: str | Path, size: tuple[int, int], batch: int = 1) -> None:
    """Write `detector.network` in eval mode, at one input size, as an ONNX file.

    size: (height, width), multiples of `detector.stride`. Input `pixels` is (batch, 3, H, W)
    float32 in [0, 1]; outputs are those of Network, by the fields' names. The extra `export` is
    needed. Raises ValueError for a size that is no multiple, and ImportError without the extra.
    """
    if any(side < 1 or side % detector.stride for side in size):
        raise ValueError(f"size is {size}; both sides must be multiples of {detector.stride}")
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError("writing ONNX needs the extra: pip install 'detzoo[export]'") from error
    pixels = torch.rand(batch, 3, *size)
    network = Network(detector)
    with eval_mode(network), torch.no_grad():
        # Anchors are kept from call to call; those made here are numbers, not symbols.
        outputs = detector.network(Images(pixels, [Frame(i, size, size) for i in range(batch)]))
        names = [k for k, v in outputs._asdict().items() if isinstance(v, Tensor)]
        program = torch.onnx.export(
            network, (pixels,), input_names=["pixels"], output_names=names, dynamo=True
        )
    program.save(str(path))
