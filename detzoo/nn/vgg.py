"""VGG16 as SSD has it (Liu 2016, arXiv:1512.02325, section 3)."""

from __future__ import annotations

from torch import Tensor, nn

from detzoo.nn.backbones import load_strictly

# Channels of conv1_1 to conv5_3; M halves by a 2x2 max pool.
_BEFORE = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512]
_AFTER = ["M", 512, 512, 512]


class VGG16(nn.Module):
    """Two maps: conv4_3 (512 channels, stride 8) and conv7 (1024 channels, stride 16).

    fc6 and fc7 are convolutions, fc6 with holes of 6 so that it sees as far as it did; pool5 is 3x3
    of stride 1; pool3 rounds up, which makes 38 cells of 300 pixels. pretrained: torchvision's
    ImageNet weights for everything up to conv5_3 (downloads); fc6 and fc7 start afresh, where the
    paper subsamples VGG's. weights: a file of this module's own state dict. Pixels go in as 0 to
    255 less the mean colour, as the Caffe weights want them.

    forward: (B, 3, H, W) -> [(B, 512, h, w), (B, 1024, h // 2, w // 2)].
    """

    channels, strides = (512, 1024), (8, 16)
    mean, std = (0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255)

    def __init__(self, *, pretrained: bool = False, weights: str | None = None) -> None:
        super().__init__()
        self.conv4_3 = nn.Sequential(*_layers(3, _BEFORE))
        self.conv4_3[16].ceil_mode = True
        self.conv7 = nn.Sequential(
            *_layers(512, _AFTER),
            nn.MaxPool2d(3, stride=1, padding=1),
            nn.Conv2d(512, 1024, 3, padding=6, dilation=6),
            nn.ReLU(inplace=True),
            nn.Conv2d(1024, 1024, 1),
            nn.ReLU(inplace=True),
        )
        for layer in (self.conv7[8], self.conv7[10]):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        if pretrained:
            _copy_imagenet(self)
        if weights is not None:
            load_strictly(self, weights)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.conv4_3(x)
        return [x, self.conv7(x)]


def _layers(previous: int, widths: list[int | str]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for width in widths:
        if isinstance(width, str):
            layers.append(nn.MaxPool2d(2))
        else:
            convolution = nn.Conv2d(previous, width, 3, padding=1)
            nn.init.kaiming_normal_(convolution.weight)
            nn.init.zeros_(convolution.bias)
            layers += [convolution, nn.ReLU(inplace=True)]
            previous = width
    return layers


def _copy_imagenet(model: VGG16) -> None:
    from torchvision.models import VGG16_Weights

    published = VGG16_Weights.IMAGENET1K_FEATURES.get_state_dict(
        progress=True, check_hash=True, weights_only=True
    )
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)][:13]  # no fc6, fc7
    names = [k.removesuffix(".weight") for k in published if k.startswith("features.")]
    names = [n for n in names if not n.endswith(".bias")]
    for name, layer in zip(names, convolutions, strict=True):
        layer.load_state_dict({k: published[f"{name}.{k}"] for k in ("weight", "bias")})
