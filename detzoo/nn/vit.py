"""Plain vision transformers as backbones: ViT (Dosovitskiy 2020, arXiv:2010.11929), DeiT (Touvron
2020, arXiv:2012.12877) and others of timm's, with a simple feature pyramid (Li 2022,
arXiv:2203.16527, section 3).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers import LayerNorm2d
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from detzoo.nn.backbones import check_name, check_options, load_strictly
from detzoo.nn.freezing import Freezable

PATCH = 16  # pixels


class ViT(Freezable):
    """A plain vision transformer's last map at four strides.

    All are computed from the one map of stride 16: by two transposed convolutions, by one,
    unchanged, and by a max pool. The paper's 1x1 and 3x3 convolutions after each are left to the
    detector's neck, which has its own. There is no window attention: every block attends to the
    whole image, as in timm. Positions, learnt for 14 x 14 patches, are interpolated to the image.

    name: a timm VisionTransformer of 16-pixel patches. max_stride: 16 leaves the coarsest map out.
    pretrained: timm's ImageNet weights, downloaded. weights: a file of them, loaded strictly,
    except for the classifier. options: further arguments of the timm model, such as drop_path_rate.
    frozen_stages: the last stage that is not trained, or None; stage 0 is the embedding of patches
    and positions, and each block is one. The pyramid is never frozen, since no published weights
    have it. Attributes as a Backbone's.

    forward: (B, 3, H, W), sides that are multiples of 32 -> [(B, C_i, H / s_i, W / s_i)].

    Raises ValueError for a name that timm does not have or that is no such transformer, and for
    weights that do not fit.
    """

    def __init__(
        self,
        name: str = "deit_tiny_patch16_224",
        *,
        max_stride: int = 32,
        pretrained: bool = False,
        weights: str | Path | None = None,
        options: dict[str, Any] | None = None,
        frozen_stages: int | None = None,
    ) -> None:
        super().__init__()
        check_name(name)
        check_options(options or {})
        given = {**(options or {}), "num_classes": 0}
        with torch.device("meta"):
            whole = timm.create_model(name, **(options or {}))
        patch = getattr(getattr(whole, "patch_embed", None), "patch_size", None)
        if not isinstance(whole, VisionTransformer) or patch != (PATCH, PATCH):
            raise ValueError(
                f"backbone.name is {name!r}, no vision transformer of {PATCH}-pixel patches; other "
                "timm models are backbones by detzoo.nn.Backbone"
            )
        self.model = timm.create_model(name, pretrained=pretrained, dynamic_img_size=True, **given)
        if weights is not None:
            load_strictly(self.model, weights, name, whole.state_dict())
        width = self.model.num_features
        made = {
            4: nn.Sequential(
                _double(width), LayerNorm2d(width // 2), nn.GELU(), _double(width // 2)
            ),
            8: _double(width),
            16: nn.Identity(),
            32: nn.MaxPool2d(2),
        }
        widths = {4: width // 4, 8: width // 2, 16: width, 32: width}
        self.strides: tuple[int, ...] = tuple(stride for stride in made if stride <= max_stride)
        self.channels: tuple[int, ...] = tuple(widths[stride] for stride in self.strides)
        self.pyramid = nn.ModuleList(made[stride] for stride in self.strides)
        self.mean: tuple[float, ...] = tuple(self.model.pretrained_cfg["mean"])
        self.std: tuple[float, ...] = tuple(self.model.pretrained_cfg["std"])
        self.pretrained = bool(pretrained or weights)
        self.freeze(frozen_stages)

    @property
    def stages(self) -> list[list[nn.Module]]:
        """The blocks; what comes before them, and with the last one the norm behind it."""
        model = self.model
        stem = [model.patch_embed, model.pos_drop, model.patch_drop, model.norm_pre]
        blocks = [[block] for block in model.blocks]
        blocks[-1].append(model.norm)
        return [stem, *blocks]

    def freeze(self, last: int | None) -> None:
        super().freeze(last)
        if last is not None:  # positions and tokens, which are no module's, belong to the stem
            for parameter in self.model.parameters(recurse=False):
                parameter.requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        (x,) = self.model.forward_intermediates(x, indices=1, intermediates_only=True, norm=True)
        return [level(x) for level in self.pyramid]


def _double(width: int) -> nn.Module:
    """Twice as high and wide, half as deep."""
    return nn.ConvTranspose2d(width, width // 2, 2, stride=2)
