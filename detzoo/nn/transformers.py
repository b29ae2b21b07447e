"""Our backbones inside the detectors of the library transformers.

Imported only where such a detector is built, since the library takes seconds to import.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import transformers
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import AutoBackbone, AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BackboneOutput

from detzoo.nn.backbones import Backbone
from detzoo.nn.norms import GroupNorm

# What `options` may not set: names of files, addresses or classes, and options without losses
_CLOSED = re.compile(r"backbone|pretrained|checkpoint|path|label|dtype|_size$|^two_stage|^_")


class MapsConfig(PreTrainedConfig):
    """Widths of maps, in place of the configuration of the library's own backbone."""

    model_type = "detzoo_maps"
    widths: list[int] | None = None


class MapsStub(PreTrainedModel):
    """A placeholder backbone of these widths that computes nothing, for building a model."""

    config_class = MapsConfig

    def __init__(self, config: MapsConfig) -> None:
        super().__init__(config)
        self.channels = list(config.widths or ())


AutoConfig.register(MapsConfig.model_type, MapsConfig)
AutoBackbone.register(MapsConfig, MapsStub)


class Maps(nn.Module):
    """The maps of our backbone that the library's model reads: (B, 3, H, W) -> its output form."""

    def __init__(self, backbone: Backbone, used: Sequence[int]) -> None:
        super().__init__()
        # In a tuple, so that its parameters are not registered twice; a copy of the detector copies
        # it together with the detector's own.
        self.backbone, self.used = (backbone,), tuple(used)

    def forward(self, pixel_values: Tensor, **_: object) -> BackboneOutput:
        maps = self.backbone[0](pixel_values)
        return BackboneOutput(feature_maps=tuple(maps[i] for i in self.used))


def build(
    model: str,
    backbone: Backbone,
    used: Sequence[int],
    settings: Mapping[str, Any],
    options: Mapping[str, Any],
) -> nn.Module:
    """The library's <model>ForObjectDetection, with random weights, on these maps of our backbone.

    settings, options: fields of its configuration; the first are the caller's, the second a user's.
    Raises ValueError for an option that it has not or that is not a user's to choose.
    """
    config_class = getattr(transformers, f"{model}Config")
    for name in options:
        known = name in config_class.__dataclass_fields__ and name not in settings
        if not known or _CLOSED.search(name):
            raise ValueError(f"options.{name}: transformers' {model} takes no such option here")
    stub = MapsConfig(widths=[backbone.channels[i] for i in used])
    try:
        config = config_class(backbone_config=stub, **settings, **options)
    except StrictDataclassError as error:
        raise ValueError(f"transformers' {model}Config: {error}") from error
    detector = getattr(transformers, f"{model}ForObjectDetection")(config)
    place = detector.model
    for name in ("backbone", "conv_encoder"):  # one, the other, or one in the other
        place = getattr(place, name, place)
    place.model = Maps(backbone, used)
    # Their convolutions with a norm as a Sequential of the same names, so that norms can be folded.
    for name, module in list(detector.named_modules()):
        if [child for child, _ in module.named_children()] == ["conv", "norm", "activation"]:
            detector.set_submodule(name, nn.Sequential(OrderedDict(module.named_children())))
        elif type(module) is nn.GroupNorm:  # which refuses a map of one cell
            detector.set_submodule(name, GroupNorm(module.num_groups, module.num_channels))
    return detector
