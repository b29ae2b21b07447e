"""YOLO's own building block and its first network (Redmon 2016, arXiv:1506.02640, figure 3)."""

from __future__ import annotations

from torch import Tensor, nn

from detzoo.nn.backbones import load_strictly
from detzoo.nn.freezing import Freezable, between_pools

SLOPE = 0.1  # of the leaky ReLU, equation 2

# Kernel size, channels and stride of the 24 convolutions; M halves by a 2x2 max pool.
_LAYERS = [
    *((7, 64, 2), "M"),
    *((3, 192, 1), "M"),
    *((1, 128, 1), (3, 256, 1), (1, 256, 1), (3, 512, 1), "M"),
    *[(1, 256, 1), (3, 512, 1)] * 4,
    *((1, 512, 1), (3, 1024, 1), "M"),
    *[(1, 512, 1), (3, 1024, 1)] * 2,
    *((3, 1024, 1), (3, 1024, 2)),
    *((3, 1024, 1), (3, 1024, 1)),
]


def conv_block(
    in_channels: int, channels: int, kernel: int, stride: int = 1, norm: bool = True
) -> nn.Sequential:
    """Convolution, batch norm (unless norm=False), leaky ReLU; keeps the size, or halves it."""
    convolution = nn.Conv2d(
        in_channels, channels, kernel, stride, padding=kernel // 2, bias=not norm
    )
    nn.init.kaiming_normal_(convolution.weight, a=SLOPE)
    layers: list[nn.Module] = [convolution]
    if norm:
        layers.append(nn.BatchNorm2d(channels))
    else:
        nn.init.zeros_(convolution.bias)
    return nn.Sequential(*layers, nn.LeakyReLU(SLOPE, inplace=True))


class Darknet24(Freezable):
    """The 24 convolutions of YOLO as a backbone of one map: 1024 channels at stride 64.

    norm: batch norm after every convolution; the paper has none, but its first twenty layers were
    trained on ImageNet for a week, and from scratch they do not learn without. weights: a file of
    this module's state dict. frozen_stages: the last stage that is not trained, or None; stage 0 is
    the first convolution, and a max pool ends each. Pixels are in [0, 1].

    forward: (B, 3, H, W) -> [(B, 1024, H / 64, W / 64)].
    """

    channels, strides = (1024,), (64,)
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def __init__(
        self,
        *,
        norm: bool = True,
        weights: str | None = None,
        frozen_stages: int | None = None,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        previous = 3
        for layer in _LAYERS:
            if layer == "M":
                layers.append(nn.MaxPool2d(2))
            else:
                kernel, width, stride = layer
                layers.append(conv_block(previous, width, kernel, stride, norm))
                previous = width
        self.layers = nn.Sequential(*layers)
        if weights is not None:
            load_strictly(self, weights)
        self.pretrained = weights is not None
        self.freeze(frozen_stages)

    @property
    def stages(self) -> list[list[nn.Module]]:
        return between_pools(self.layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.layers(x)]
