"""Any timm network as a list of feature maps."""

from __future__ import annotations

import math
import re
from collections.abc import Container, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from timm.layers import BatchNormAct2d, freeze_batch_norm_2d
from torch import Tensor, nn

from detzoo.nn.freezing import Freezable
from detzoo.nn.norms import GroupNorm
from detzoo.text import check_choice

NORMS = ("bn", "frozen_bn", "gn")

# Options of timm's that name a file, an address or a function; and what an option's text looks like
_READING = re.compile(r"pretrained|checkpoint|weights|cache|file|url|hub|_fn$|^model_cfg|^features")
_WORD = re.compile(r"\w*")
# Children of a timm network that begin a stage; what comes before the first is the stem
_STAGE = re.compile(r"(layers?|stages?|level|s)_?\d+|features_denseblock\d+")


class Backbone(Freezable):
    """A timm network's feature maps at strides 4 and beyond, as the network itself declares them.

    name: a timm model that offers `features_only`. norm: `bn` unchanged; `frozen_bn` (statistics
    and affine fixed, for pretrained weights and small batches); `gn` (group norm of up to 32
    groups, from scratch only). max_stride: layers beyond it are left out. pretrained: timm's
    ImageNet weights, downloaded. weights: a file of them, loaded strictly, except for the
    classifier. options: further arguments of the timm model, such as pad_type for MobileNetV2.
    frozen_stages: the last stage that is not trained, 0 being the stem, or None. mean, std: of the
    pixels that the weights were trained with, by default timm's. Attributes channels and strides
    are per map, finest first.

    forward: (B, 3, H, W) -> [(B, C_i, ceil(H / s_i), ceil(W / s_i))].

    Raises ValueError for an unknown name or norm, for weights that do not fit, and for group norm
    with weights that were trained with batch norm.
    """

    def __init__(
        self,
        name: str = "resnet18",
        *,
        norm: str = "bn",
        max_stride: int = 32,
        pretrained: bool = False,
        weights: str | Path | None = None,
        options: dict[str, Any] | None = None,
        frozen_stages: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        check_choice("backbone.norm", norm, NORMS)
        check_name(name)
        if norm == "gn" and (pretrained or weights):
            raise ValueError(
                "backbone.norm is gn, but ImageNet weights were trained with batch norm and mean "
                "nothing without it; use norm=bn or frozen_bn, or train from scratch"
            )
        options = options or {}
        check_options(options)
        whole = timm.create_model(name, features_only=True, **options)
        declared = [level["reduction"] for level in whole.feature_info.info]
        if len(declared) > 1 and len(set(declared)) == 1:  # all of its maps are as coarse
            raise ValueError(
                f"backbone.name is {name!r}, whose maps are all of stride {declared[0]}; a vision "
                "transformer is a backbone by detzoo.nn.ViT: backbone=deit_tiny backbone.name=..."
            )
        model = timm.create_model(
            name,
            features_only=True,
            out_indices=[i for i, stride in enumerate(declared) if 4 <= stride <= max_stride],
            pretrained=pretrained,
            **options,
        )
        if weights is not None:
            _load(model, name, Path(weights), options)
        if norm == "frozen_bn":
            model = freeze_batch_norm_2d(model)
        elif norm == "gn":
            _to_group_norm(model)
        self.model = model
        self.name = name
        self.channels: tuple[int, ...] = tuple(model.feature_info.channels())
        self.strides: tuple[int, ...] = tuple(model.feature_info.reduction())
        self.mean: tuple[float, ...] = tuple(mean or model.pretrained_cfg["mean"])
        self.std: tuple[float, ...] = tuple(std or model.pretrained_cfg["std"])
        self.pretrained = bool(pretrained or weights)
        self.freeze(frozen_stages)

    @property
    def stages(self) -> list[list[nn.Module]]:
        """MobileNet's and EfficientNet's are their blocks, a ResNet's its layers, and so on."""
        found: list[list[nn.Module]] = [[]]
        for name, child in self.model.named_children():
            if name == "blocks":
                found += [[block] for block in child.children()]
            elif _STAGE.fullmatch(name):
                found.append([child])
            else:
                found[-1].append(child)
        if len(found) == 1:
            raise ValueError(f"{type(self.model).__name__} has no stages that detzoo can tell")
        return found

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.model(x)


def check_name(name: str) -> None:
    """Raise ValueError for a name that timm does not have, with similar ones."""
    if not timm.is_model(name):
        near = ", ".join(get_close_matches(name, timm.list_models(), 5))
        raise ValueError(
            f"backbone.name is {name!r}, which timm does not know "
            f"({near or 'see timm.list_models()'})"
        )


def check_options(options: dict[str, Any], where: str = "backbone.options") -> None:
    """Raise ValueError for an option that would make timm read a file or load something."""
    for key, value in options.items():
        if _READING.search(key):
            raise ValueError(f"{where}.{key}: use backbone.pretrained or backbone.weights instead")
        if isinstance(value, dict):
            check_options(value, f"{where}.{key}")
        for text in value if isinstance(value, list | tuple) else [value]:
            if isinstance(text, str) and not _WORD.fullmatch(text):
                raise ValueError(f"{where}.{key} is {text!r:.80}; it takes a word of timm's")


def _load(model: nn.Module, name: str, path: Path, options: dict[str, Any]) -> None:
    """Load `path` into a features-only model; only the classifier's weights may be left over."""
    with torch.device("meta"):
        whole = timm.create_model(name, **options).state_dict()
    load_strictly(model, path, name, whole)


def load_strictly(
    model: nn.Module,
    path: str | Path,
    name: str | None = None,
    known: Container[str] = (),
) -> None:
    """Load a file of weights into `model`: all of its keys and no others, but those in `known`.

    name: the model's name in an error. Runs no code from the file. Raises ValueError.
    """
    path, name = Path(path), name or type(model).__name__
    if not path.is_file():
        raise ValueError(f"backbone.weights is {path}, where there is no file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds; none of them names the file
        raise ValueError(f"{path}: not a file of weights that loads safely ({error})") from error
    state = state.get("state_dict", state)
    own = model.state_dict()
    missing = [key for key in own if key not in state]
    foreign = [key for key in state if key not in own and key not in known]
    shapes = [k for k in own if k in state and own[k].shape != state[k].shape]
    if missing or foreign or shapes:
        problems = [f"lacks {len(missing)} keys such as {missing[0]}"] if missing else []
        problems += [f"has {len(foreign)} unknown keys such as {foreign[0]}"] if foreign else []
        problems += (
            [f"has other shapes at {len(shapes)} keys such as {shapes[0]}"] if shapes else []
        )
        raise ValueError(f"{path} is not a file of {name}'s weights: it {' and '.join(problems)}")
    model.load_state_dict({key: state[key] for key in own})


def _to_group_norm(module: nn.Module) -> None:
    """Replace every batch norm below `module` by a group norm of the same width and activation."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d | BatchNormAct2d):
            width = child.num_features
            norm: nn.Module = GroupNorm(math.gcd(32, width), width)
            if isinstance(child, BatchNormAct2d):
                norm = nn.Sequential(norm, child.drop, child.act)
            setattr(module, name, norm)
        else:
            _to_group_norm(child)
