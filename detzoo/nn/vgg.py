"""VGG16 as SSD has it (Liu 2016, arXiv:1512.02325, section 3), and as the R-CNNs do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from detzoo.nn.backbones import load_strictly
from detzoo.nn.freezing import Freezable, between_pools

# Channels of conv1_1 to conv5_3; M halves by a 2x2 max pool.
_BEFORE = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512]
_AFTER = ["M", 512, 512, 512]


class VGG16(Freezable):
    """Two maps: conv4_3 (512 channels, stride 8) and conv7 (1024 channels, stride 16).

    fc6 and fc7 are convolutions, fc6 with holes of 6 so that it sees as far as it did; pool5 is 3x3
    of stride 1; pool3 rounds up, which makes 38 cells of 300 pixels. pretrained: torchvision's
    ImageNet weights for everything up to conv5_3 (downloads); fc6 and fc7 start afresh, where the
    paper subsamples VGG's. weights: a file of this module's own state dict. frozen_stages: the last
    stage that is not trained, or None; stage 0 is conv1_1 and conv1_2, the last conv5_1 to conv7.
    Pixels are in [0, 255] minus the mean colour, as the Caffe weights require.

    forward: (B, 3, H, W) -> [(B, 512, h, w), (B, 1024, h // 2, w // 2)].
    """

    channels, strides = (512, 1024), (8, 16)
    mean, std = (0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255)

    def __init__(
        self,
        *,
        pretrained: bool = False,
        weights: str | None = None,
        frozen_stages: int | None = None,
    ) -> None:
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
        self.pretrained = bool(pretrained or weights)
        self.freeze(frozen_stages)

    @property
    def stages(self) -> list[list[nn.Module]]:
        """Each ends with a max pool; the dilated layers are the last one's."""
        return [*between_pools(self.conv4_3), [self.conv7]]

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.conv4_3(x)
        return [x, self.conv7(x)]


class VGG16Conv5(Freezable):
    """One map, conv5_3: 512 channels at stride 16 (1504.08083, 1506.01497); with its max pool
    behind it, at stride 32, R-CNN's (1311.2524).

    fc6 and fc7 are the detector's: a BoxHead on 7x7 cells and 4096 wide begins with the ones of
    ImageNet, which are kept in `fully_connected` until it does. frozen_stages: the last stage that
    is not trained, or None; stage 0 is conv1_1 and conv1_2, and 1 ends before conv3_1 (1504.08083,
    section 4.5). pretrained: torchvision's ImageNet weights (downloads), which are not the papers'
    Caffe ones. weights: or a file of them, with fc6 and fc7 or without.

    forward: (B, 3, H, W) -> [(B, 512, H // 16, W // 16)].
    """

    channels = (512,)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    def __init__(
        self,
        *,
        pool5: bool = False,
        pretrained: bool = False,
        weights: str | None = None,
        frozen_stages: int | None = None,
    ) -> None:
        super().__init__()
        self.strides = (32,) if pool5 else (16,)
        self.features = nn.Sequential(*_layers(3, _BEFORE + _AFTER + ["M"] * pool5))
        self.fully_connected: dict[str, Tensor] = {}
        if pretrained:
            from torchvision.models import VGG16_Weights

            published = VGG16_Weights.IMAGENET1K_V1.get_state_dict(
                progress=True, check_hash=True, weights_only=True
            )
            own = {k: v for k, v in published.items() if k in self.state_dict()}
            self.load_state_dict(own)
            self.fully_connected = _fully_connected(published)
        if weights is not None:
            load_strictly(self, weights, "torchvision's VGG16", _CLASSIFIER)
            state = torch.load(Path(weights), map_location="cpu", weights_only=True)
            self.fully_connected = _fully_connected(state.get("state_dict", state))
        self.pretrained = bool(pretrained or weights)
        self.freeze(frozen_stages)

    @property
    def stages(self) -> list[list[nn.Module]]:
        return between_pools(self.features)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.features(x)]


# torchvision's names, and the papers'
_FULLY_CONNECTED = {"classifier.0": "fc6", "classifier.3": "fc7"}
_CLASSIFIER = {f"classifier.{layer}.{part}" for layer in (0, 3, 6) for part in ("weight", "bias")}


def _fully_connected(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        f"{ours}.{part}": published[f"{theirs}.{part}"]
        for theirs, ours in _FULLY_CONNECTED.items()
        for part in ("weight", "bias")
        if f"{theirs}.{part}" in published
    }


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
