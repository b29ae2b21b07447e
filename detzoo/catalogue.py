"""The available detectors, weights and data with their terms: the one file of licences and of
published figures. Plain data without imports, so that the report may read it.

Licences are as their owners state them, by SPDX's short names where there is one. They are facts,
not legal advice. Read in November 2026: timm's in the `license` field of its weights'
configurations; torchvision's in its README, "Pre-trained Model License", and its note on
docs.pytorch.org/vision/stable/models.html; xingyizhou/CenterNet's in its LICENSE (MIT) and
readme/MODEL_ZOO.md (figures); princeton-vl/CornerNet's as that NOTICE quotes it (BSD-3-Clause; its
own LICENSE could not be read here). Of COCO and ImageNet the terms are named from memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

OURS = "Apache-2.0"
# cocodataset.org/#termsofuse
COCO = "COCO 2017: annotations CC BY 4.0, images by their Flickr owners"
IMAGENET = "ImageNet-1k: non-commercial research and education"  # image-net.org/download
TIMM = "Apache-2.0"  # of the code; of weights, the field `license` of their configurations
VISION = "https://docs.pytorch.org/vision/stable/models.html"
CENTERNET = "https://github.com/xingyizhou/CenterNet/blob/master/readme/MODEL_ZOO.md"
CORNERNET = "https://github.com/princeton-vl/CornerNet"
NONE_STATED = "none stated for the weights"
# its README: they "may have their own licenses or terms [...] derived from the dataset"
TORCHVISION = f"{NONE_STATED}, terms of the training data may apply; its code is BSD-3-Clause"


@dataclass(frozen=True)
class Weights:
    """Published weights. name: as `create_detector` or a backbone takes them. licence: of the
    weights; data: their training data's. figure: the publisher's, or None; torchvision's are in the
    library, by this `meta` name, and are read there."""

    name: str
    saw: str
    licence: str
    data: str
    source: str
    figure: str | None = None
    meta: str | None = None


@dataclass(frozen=True)
class Entry:
    """code: licence of what computes it. weights: published ones that load here."""

    kind: str  # detector, peer, backbone
    code: str
    weights: tuple[Weights, ...] = ()


def _coco(meta: str) -> Weights:
    """torchvision's weights of a detector, which its paper's form here loads as well."""
    name = f"torchvision/{meta.rpartition('.')[2]}"
    return Weights(name, "COCO 2017", TORCHVISION, COCO, VISION, meta=meta)


def _timm(name: str) -> Weights:
    page = f"https://huggingface.co/timm/{name}"
    return Weights(f"timm/{name}", "ImageNet-1k", TIMM, IMAGENET, page)


def _vgg(meta: str) -> Weights:
    name = f"torchvision/{meta.rpartition('.')[2]}"
    return Weights(name, "ImageNet-1k", TORCHVISION, IMAGENET, VISION, meta=meta)


def _point(name: str, source: str, licence: str, figure: str | None) -> Weights:
    return Weights(name, "COCO 2017", licence, COCO, source, figure)


_FASTER = tuple(_coco(f"FasterRCNN_ResNet50_FPN{v}_Weights.COCO_V1") for v in ("", "_V2"))
_RETINA = tuple(_coco(f"RetinaNet_ResNet50_FPN{v}_Weights.COCO_V1") for v in ("", "_V2"))
_SSD = (_coco("SSD300_VGG16_Weights.COCO_V1"),)
_FCOS = (_coco("FCOS_ResNet50_FPN_Weights.COCO_V1"),)
_VIT = replace(_timm("vit_tiny_patch16_224.augreg_in21k_ft_in1k"), saw="ImageNet-21k, ImageNet-1k")
_MIT = f"{NONE_STATED}; its code is MIT"
_BSD = f"{NONE_STATED}; its code is BSD-3-Clause"

CENTERNETS = {"resdcn18": 28.1, "resdcn101": 34.6, "dla_2x": 37.4, "hg": 40.3}

DETECTORS: Mapping[str, Entry] = {
    **{name: Entry("detector", OURS) for name in ("rcnn", "fast_rcnn", "yolo", "yolov3", "detr")},
    "faster_rcnn": Entry("detector", OURS, _FASTER[:1]),
    "ssd": Entry("detector", OURS, _SSD),
    "retinanet": Entry("detector", OURS, _RETINA[:1]),
    "fcos": Entry("detector", OURS, _FCOS),
    "cornernet": Entry("detector", OURS, (_point("CornerNet_500000.pkl", CORNERNET, _BSD, None),)),
    "centernet": Entry(
        "detector",
        OURS,
        tuple(
            _point(f"ctdet_coco_{name}.pth", CENTERNET, _MIT, f"COCO AP {ap}")
            for name, ap in CENTERNETS.items()
        ),
    ),
    "torchvision/faster_rcnn": Entry("peer", "BSD-3-Clause", _FASTER),
    "torchvision/retinanet": Entry("peer", "BSD-3-Clause", _RETINA),
    "torchvision/ssd": Entry("peer", "BSD-3-Clause", _SSD),
    "torchvision/fcos": Entry("peer", "BSD-3-Clause", _FCOS),
    **{
        f"transformers/{kind}": Entry("peer", "Apache-2.0")
        for kind in (
            *("rt_detr_v2", "d_fine", "deimv2", "detr", "conditional_detr", "dab_detr"),
            "deformable_detr",
        )
    },
}

BACKBONES: Mapping[str, Entry] = {
    **{name: Entry("backbone", OURS) for name in ("darknet24", "hourglass", "hourglass_small")},
    "darknet53": Entry("backbone", TIMM, (_timm("darknet53.c2ns_in1k"),)),
    "mobilenetv2_100": Entry("backbone", TIMM, (_timm("mobilenetv2_100.ra_in1k"),)),
    "resnet10t": Entry("backbone", TIMM, (_timm("resnet10t.c3_in1k"),)),
    "resnet10t_half": Entry("backbone", TIMM),
    "resnet18": Entry("backbone", TIMM, (_timm("resnet18.a1_in1k"),)),
    "resnet50": Entry("backbone", TIMM, (_timm("resnet50.a1_in1k"),)),
    "vit_tiny": Entry("backbone", TIMM, (_VIT,)),
    "deit_tiny": Entry("backbone", TIMM, (_timm("deit_tiny_patch16_224.fb_in1k"),)),
    "deit_small": Entry("backbone", TIMM, (_timm("deit_small_patch16_224.fb_in1k"),)),
    "vgg16": Entry("backbone", OURS, (_vgg("VGG16_Weights.IMAGENET1K_FEATURES"),)),
    "vgg16conv5": Entry("backbone", OURS, (_vgg("VGG16_Weights.IMAGENET1K_V1"),)),
}
PRETRAINED = {"VGG16": "vgg16", "VGG16Conv5": "vgg16conv5"}  # class -> its entry
LIBRARIES = {"TorchvisionDetector": "torchvision", "TransformersDetector": "transformers"}
CODE = {"torchvision": "BSD-3-Clause", "transformers": "Apache-2.0"}


def licences(config: Mapping[str, Any]) -> dict[str, str]:
    """code, weights and data of a run by its config.yaml, which may come from elsewhere; `weights`
    and `data` are those of the weights its training started from, and say so if it started from
    none."""
    detector = _mapping(config.get("detector"))
    backbone = _mapping(detector.get("backbone"))
    library = LIBRARIES.get(_class(detector))
    code = OURS if library is None else f"{OURS}, {library} {CODE[library]}"
    if _class(backbone) in ("Backbone", "ViT"):
        code += f", timm {TIMM}"
    start = _mapping(config.get("start"))
    kind = str(start.get("kind") or ("imagenet" if backbone.get("pretrained") else "scratch"))
    unknown = "not known here"
    if kind == "imagenet":
        known = _of_backbone(PRETRAINED.get(_class(backbone)), str(backbone.get("name")))
        known = known or unknown
        return {"code": code, "weights": known, "data": IMAGENET}
    if kind == "coco":
        entry = DETECTORS.get(str(config.get("label")).split(" ")[0])
        known = entry.weights[0].licence if entry and entry.weights else unknown
        return {"code": code, "weights": known, "data": COCO}
    if kind == "scratch" and not backbone.get("weights"):
        return {"code": code, "weights": "your own", "data": "yours alone"}
    return {"code": code, "weights": "as of the file or run it began with", "data": "likewise"}


def _of_backbone(entry: str | None, model: str) -> str | None:
    """The licence of a backbone's ImageNet weights, by its entry here or by timm's name of it."""
    if entry is not None:
        return BACKBONES[entry].weights[0].licence
    files = [weights for of in BACKBONES.values() for weights in of.weights]
    named = [w for w in files if w.name.removeprefix("timm/").split(".")[0] == model]
    return named[0].licence if named else None


def _class(node: Mapping[str, Any]) -> str:
    return str(node.get("_target_")).rpartition(".")[2]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
