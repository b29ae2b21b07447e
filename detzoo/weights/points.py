"""The published checkpoints of CenterNet and CornerNet, read into ours.

CenterNet (github.com/xingyizhou/CenterNet): `resdcn_18`, `resdcn_101`, `res_18`, `res_101` (a
ResNet with deformable or without 3x3 convolutions between its deconvolutions), `dla_34` and
`hourglass`, for detection (heads hm, wh and reg). CornerNet (github.com/princeton-vl/CornerNet): a
snapshot of its Hourglass-104. The layouts are taken from the networks' public source.

Not tested, since the files were not available: whether a published file loads, and whether it
reaches its published AP here. Known differences from the authors' tests: they scale and pad an
image about its centre, we to its top left; CornerNet's sees an image at its own size, and its
mirror image too. Their pixels are in BGR order with their own mean and deviation: the first
convolution's input channels are reversed, mean and std are set.

Labels are 0..79, COCO's 80 categories in the order of their ids.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detzoo.data.resize import Letterbox
from detzoo.detector import Detector
from detzoo.detectors import CenterNet, CornerNet
from detzoo.nn import Backbone, Hourglass

KINDS: dict[str, type[Detector]] = {"centernet": CenterNet, "cornernet": CornerNet}
MEAN, STD = Hourglass.mean, Hourglass.std  # of all of them

Rules = list[tuple[str, "str | Callable[[re.Match[str]], str]"]]


def _counted_from_0(match: re.Match[str]) -> str:
    layer = {"proj": "project", "node": "node", "up": "enlarge"}[match[1]]
    return f".{layer}.{int(match[2]) - 1}."


_CONVOLUTION: Rules = [(r"\.conv\.", ".0."), (r"\.bn\.", ".1.")]
# Which keys, and what is replaced in them, one rule after the other.
_RULES: list[tuple[str, Rules]] = [
    (
        r"(conv1|bn1|layer\d|deconv_layers)\.",
        [
            (r"^(conv1|bn1|layer\d)\.", r"backbone.model.\1."),
            (r"^deconv_layers\.", "neck.layers."),
            (r"\.conv_offset_mask\.", ".where."),
        ],
    ),
    (r"base\.", [(r"^base\.", "backbone.model.")]),
    (
        r"(dla_up\.ida_|ida_up)",
        [
            (r"^dla_up\.ida_", "neck.steps."),
            (r"^ida_up\.", "neck.last."),
            (r"\.(proj|node|up)_(\d)\.", _counted_from_0),
            (r"\.conv\.conv_offset_mask\.", ".conv.where."),
            (r"\.actf\.0\.", ".bn."),
            *_CONVOLUTION,
        ],
    ),
    (
        r"(tl|br)_cnvs\.",
        [
            (r"^tl_cnvs\.(\d)\.", r"head.\1.corners.0."),
            (r"^br_cnvs\.(\d)\.", r"head.\1.corners.1."),
            (r"\.p1_conv1\.", ".vertical."),
            (r"\.p2_conv1\.", ".horizontal."),
            (r"\.p_conv1\.", ".pooled.0."),
            (r"\.p_bn1\.", ".pooled.1."),
            (r"\.conv1\.", ".skip.0."),
            (r"\.bn1\.", ".skip.1."),
            (r"\.conv2\.", ".merged."),
            *_CONVOLUTION,
        ],
    ),
    (
        r"(pre|kps|cnvs_?|inters_?)\.",
        [
            (r"^pre\.", "backbone.stem."),
            (r"^kps\.", "backbone.glasses."),
            (r"^cnvs\.", "backbone.found."),
            (r"^cnvs_\.", "backbone.merge_found."),
            (r"^inters\.", "backbone.merged."),
            (r"^inters_\.", "backbone.merge_input."),
            (r"\.up1\.", ".skip."),
            (r"\.low1\.", ".down."),
            (r"\.low2(?=\.)", ".inner"),  # low2.low2.low2
            (r"\.low3\.", ".up."),
            (r"\.conv1\.", ".first.0."),
            (r"\.bn1\.", ".first.1."),
            (r"\.conv2\.", ".second.0."),
            (r"\.bn2\.", ".second.1."),
            *_CONVOLUTION,
        ],
    ),
]
# hm.0.weight and hm.2.weight; hm.STACK.0.conv.weight and hm.STACK.1.weight; tl_heats. likewise
_HEAD = re.compile(
    r"(?:(tl|br)_)?(hm|heats|wh|tags|reg|regrs)\.(?:(\d)\.)??(0|1|2)(?:\.conv)?\.(weight|bias)"
)
_ORDER = {"hm": 0, "heats": 0, "wh": 1, "tags": 1, "reg": 2, "regrs": 2}
_FIRST = ("backbone.model.conv1", "backbone.model.base_layer.0", "backbone.stem.0.0")
# Unused entries: counters, classifiers, and the projection of a tree of trees.
UNUSED = re.compile(r".*\.num_batches_tracked|base\.fc\..+|fc\..+|base\.level[34]\.project\..+")


def create_from_points(name: str, source: str | Path, **arguments: Any) -> Detector:
    """A CenterNet or CornerNet with the weights of a published file, in eval mode.

    name: `centernet` or `cornernet`. arguments: the constructor's, where they should differ from
    the file. Loads with weights_only=True. Raises ValueError for a file of another layout and for
    arguments that do not fit it.
    """
    state = read(source)
    kind = "cornernet" if "tl_heats.0.1.bias" in state else "centernet"
    if name != kind:
        raise ValueError(f"{source} is a {kind}'s; it cannot be read into {name}")
    settings = settings_of(state)
    classes = arguments.pop("num_classes", None)
    if classes not in (None, settings["num_classes"]):
        raise ValueError(
            f"num_classes is {classes}, but {source} has {settings['num_classes']} classes; "
            "leave it out"
        )
    if arguments.pop("backbone", None) is not None:
        raise ValueError(f"{source} brings its own backbone; leave backbone out")
    detector = KINDS[name](**(settings | arguments))
    load_points(detector, state)
    if detector.num_classes == 80:
        detector.class_names = coco_names()
    detector.resize = Letterbox(512)
    return detector.eval()


def read(source: str | Path) -> dict[str, Tensor]:
    """The file's state dict without the prefixes of wrappers and without unused entries."""
    if not Path(source).is_file():
        raise ValueError(f"weights is {source}, where there is no file")
    try:
        state = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds; none of them names the file
        raise ValueError(f"{source}: not a file of weights that loads safely ({error})") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    state = {re.sub(r"^(module\.)+", "", key): value for key, value in state.items()}
    if not any(key.startswith(("hm.", "tl_heats.")) for key in state):
        raise ValueError(
            f"{source}: not of CenterNet's or CornerNet's layout (no key hm.* or tl_heats.*)"
        )
    return {key: value for key, value in state.items() if not UNUSED.fullmatch(key)}


def load_points(detector: Detector, state: Mapping[str, Tensor]) -> None:
    """Copy a state dict of `read` into `detector`, strictly: all of theirs into all of ours.

    Raises ValueError for a key that has no counterpart and for shapes that do not fit.
    """
    theirs = converted(state)
    own = {key: value.shape for key, value in detector.state_dict().items()}
    own = {key: shape for key, shape in own.items() if not UNUSED.fullmatch(key)}
    shapes = {key: value.shape for key, value in theirs.items()}
    if own != shapes:
        key = sorted(k for k in own.keys() | shapes if own.get(k) != shapes.get(k))[0]
        raise ValueError(
            f"these weights do not fit this {type(detector).__name__}: {key} is {own.get(key)} in "
            f"the detector and {shapes.get(key)} in the file"
        )
    detector.load_state_dict(theirs, strict=False)


def converted(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Their names and tensors -> ours. Raises ValueError for a key that has no counterpart."""
    ours: dict[str, Tensor] = {}
    hidden: dict[str, dict[int, Tensor]] = {}  # of every head, the 3x3 of each of its outputs
    for key, value in state.items():
        head = _HEAD.fullmatch(key)
        if head is None:
            ours[_renamed(key)] = value
            continue
        corner, output, stack, layer, what = head.groups()
        owner = f"head.{stack or 0}"
        owner += f".corners.{int(corner == 'br')}.heads" if corner else ""
        order = _ORDER[output]
        if layer == "0":
            hidden.setdefault(f"{owner}.hidden.{what}", {})[order] = value
        else:
            last = f"values.{order - 1}" if order else "heatmap"
            ours[f"{owner}.{last}.{what}"] = value
    for key, parts in hidden.items():
        ours[key] = torch.cat([parts[order] for order in sorted(parts)])
    for key in (f"{layer}.weight" for layer in _FIRST):
        if key in ours:
            ours[key] = ours[key].flip(1)  # BGR -> RGB
    return ours


def _renamed(key: str) -> str:
    for start, rules in _RULES:
        if re.match(start, key):
            for pattern, replacement in rules:
                key = re.sub(pattern, replacement, key)
            return key
    raise ValueError(f"the key {key} has no counterpart in ours")


def settings_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The constructor's arguments, read from names and shapes."""
    settings: dict[str, Any] = {}
    if any(key.startswith("kps.") for key in state):
        backbone: Backbone | Hourglass = Hourglass()
    elif any(key.startswith("dla_up.") for key in state):
        backbone = Backbone("dla34")
        settings |= {"upsample": "dla", "upsample_convolutions": "deformable"}
    else:
        blocks = len({key.split(".")[1] for key in state if key.startswith("layer3.")})
        bottleneck = "layer1.0.conv3.weight" in state
        depths = {(2, False): 18, (6, False): 34, (6, True): 50, (23, True): 101, (36, True): 152}
        if (blocks, bottleneck) not in depths:
            raise ValueError(f"no ResNet that is known here has {blocks} blocks in its layer3")
        backbone = Backbone(f"resnet{depths[blocks, bottleneck]}")
        deformable = "deconv_layers.0.conv_offset_mask.weight" in state
        settings |= {
            "upsample": "deconv",
            "upsample_channels": (256, 128, 64) if deformable else 256,
            "upsample_convolutions": "deformable" if deformable else "none",
        }
    backbone.mean, backbone.std = MEAN, STD
    heats = next(k for k in state if re.match(r"(hm|tl_heats)\.(\d\.1|2)\.bias", k))
    hidden = next(k for k in state if re.match(r"(hm|tl_heats)\.(0|\d\.0\.conv)\.bias", k))
    settings |= {"num_classes": len(state[heats]), "head_channels": len(state[hidden])}
    return settings | {"backbone": backbone}


def coco_names() -> tuple[str, ...]:
    from torchvision.models.detection import RetinaNet_ResNet50_FPN_Weights

    names = RetinaNet_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    return tuple(name for name in names if name not in ("__background__", "N/A"))
