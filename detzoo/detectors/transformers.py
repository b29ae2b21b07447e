"""transformers' detectors as rows of our tables: the same backbone, pixels and protocol.

Everything behind the backbone's maps is the library's: encoder, queries, decoder, heads, matching,
denoising and losses. Ours are the backbone, the normalisation and what is taken out. The library
computes outputs and losses in one call; `network` makes that call with a loss function that keeps
what it is called with, and `losses` calls the real one, so that nothing is computed twice and the
losses are the library's own.

    rt_detr_v2        RT-DETRv2 (Lv 2024, arXiv:2407.17140)
    d_fine            D-FINE (Peng 2024, arXiv:2410.13842)
    deimv2            DEIMv2 (Huang 2025, arXiv:2509.20787), its form with a convolutional backbone
    detr              DETR (Carion 2020, arXiv:2005.12872); ours is detectors/detr.py
    conditional_detr  Conditional DETR (Meng 2021, arXiv:2108.06152)
    dab_detr          DAB-DETR (Liu 2022, arXiv:2201.12329)
    deformable_detr   Deformable DETR (Zhu 2020, arXiv:2010.04159), with refined boxes

Where we depart: a class's probability begins at 0.01 wherever a sigmoid gives it; batch norms of
RT-DETRv2's neck begin at 1, as its authors' do (the library begins them near 0, for weights that it
will load); an image of more objects than there are denoising queries is trained without denoising,
which would make two queries of each; one with fewer cells than queries has a query a cell. Crowd
boxes are left out of the targets, since the library does not support them, so what they cover is a
negative. Trained by several processes, the losses are each process's own, averaged.

Shape letters: B images, K classes, N queries, M objects.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from detzoo.detector import Detector
from detzoo.nn.backbones import Backbone
from detzoo.nn.tied import save_tied_once
from detzoo.ops import boxes as box_ops
from detzoo.ops.padding import inside
from detzoo.ops.select import top_candidates
from detzoo.types import Candidates, Images, Target

PRIOR = 0.01  # of a class, before anything is learnt
MOST = 300  # candidates of an image
LEVELS = (8, 16, 32)  # strides of the maps, for models that read several


@dataclass(frozen=True)
class Kind:
    """A detector of the library.

    model: its class, without the ending. hybrid: of RT-DETR's family, which has a hybrid encoder,
    queries from it and denoising, and treats padding as pixels; the others mask it. levels: it
    reads three maps, not the last alone. width: what the library calls `channels`. heads: of
    classes, where the library does not begin them at the prior by itself.
    """

    model: str
    hybrid: bool = False
    levels: bool = False
    width: str = "d_model"
    heads: str | None = None


KINDS = {
    "rt_detr_v2": Kind("RTDetrV2", hybrid=True, levels=True),
    "d_fine": Kind("DFine", hybrid=True, levels=True),
    "deimv2": Kind("Deimv2", hybrid=True, levels=True),
    "detr": Kind("Detr"),
    "conditional_detr": Kind("ConditionalDetr", heads="class_labels_classifier"),
    "dab_detr": Kind("DabDetr", width="hidden_size"),
    "deformable_detr": Kind("DeformableDetr", levels=True, heads="class_embed"),
}


class Outputs(NamedTuple):
    """asked: the arguments of the library's loss function; None without targets."""

    logits: Tensor  # (B, N, K), of detr (B, N, K + 1) with no object last
    boxes: Tensor  # (B, N, 4) centre and size, in [0, 1] of `scale`
    scale: Tensor  # (B, 1, 4) width, height, width, height: padded where the kind masks no padding
    asked: tuple[tuple[Any, ...], dict[str, Any]] | None


class TransformersDetector(Detector):
    """One of transformers' detectors, by `kind`, under our interface.

    channels: width of encoder and decoder, a multiple of 32. hidden: of their feed-forward layers.
    encoder_layers: None is 1 of RT-DETR's family and 6 of the others, as published. denoising:
    queries of RT-DETR's family that training adds, at least two an object; the others have none.
    options: further fields of the library's configuration by its own names, such as depth_mult.

    Raises ImportError without the extra, and ValueError for an unknown kind, a backbone without the
    maps that the kind reads, and options that the kind has no use for.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        num_classes: int,
        kind: str,
        channels: int = 256,
        hidden: int = 1024,
        encoder_layers: int | None = None,
        decoder_layers: int = 6,
        queries: int = 300,
        denoising: int | None = None,
        score_threshold: float = 0.0,
        max_detections: int = 100,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            stride=backbone.strides[-1],
            mean=backbone.mean,
            std=backbone.std,
        )
        if kind not in KINDS:
            raise ValueError(f"kind is {kind!r}; choose one of {', '.join(KINDS)}")
        what = KINDS[kind]
        if denoising and not what.hybrid:
            raise ValueError(f"transformers' {kind} has no denoising; leave it out")
        if channels % 32:
            raise ValueError(f"channels is {channels}; {kind} has 8 heads and groups of 32")
        used = _maps(backbone, kind)
        self.kind, self.what, self.masks_padding = kind, what, not what.hybrid
        self.backbone = backbone
        settings = {
            what.width: channels,
            "encoder_ffn_dim": hidden,
            "decoder_ffn_dim": hidden,
            "encoder_layers": encoder_layers or (1 if what.hybrid else 6),
            "decoder_layers": decoder_layers,
            "num_queries": queries,
            "num_labels": num_classes,
            "auxiliary_loss": True,
        }
        if what.hybrid:
            settings |= {
                "encoder_hidden_dim": channels,
                "decoder_in_channels": [channels] * len(used),
                "encoder_in_channels": [backbone.channels[i] for i in used],
                "num_denoising": 100 if denoising is None else denoising,
            }
        if what.hybrid or kind == "dab_detr":
            settings["initializer_bias_prior_prob"] = PRIOR
        if kind == "deformable_detr":
            settings |= {"num_feature_levels": 1 + len(used), "with_box_refine": True}
        self.model = _parts().build(what.model, backbone, used, settings, options or {})
        _begin(self.model, kind)
        self.their_losses = self.model.loss_function
        self.model.loss_function = _keep_arguments
        save_tied_once(self)
        self.score_threshold, self.max_detections = score_threshold, max_detections
        self.nms_threshold = None

    def network(self, images: Images, targets: Sequence[Target] | None = None) -> Outputs:
        pixels, sizes = self.normalise(images), images.sizes
        padded = tuple(pixels.shape[-2:])
        given: dict[str, Any] = {}
        mask = None if self.what.hybrid else inside(sizes, padded, pixels.device)
        if mask is not None:
            given["pixel_mask"] = mask.long()
        reach = [padded] * len(sizes) if self.what.hybrid else sizes
        scale = torch.tensor([[(w, h, w, h)] for h, w in reach], dtype=torch.float32)
        scale = scale.to(pixels.device, non_blocking=True)
        if targets is not None:
            given["labels"] = _labels(targets, scale)
        objects = max((len(x["boxes"]) for x in given.get("labels", ())), default=0)
        with self._within_limits(objects, padded) as count:
            out = self.model(pixels, **given)
        if targets is None:
            return Outputs(out.logits.float(), out.pred_boxes.float(), scale, None)
        # RT-DETR's family has the queries of denoising in front.
        args, named = tree_map(_float32, out.loss_dict["asked"])
        logits, boxes = args[0][:, -count:], args[3][:, -count:]
        return Outputs(logits, boxes, scale, (args, named))

    @contextmanager
    def _within_limits(self, objects: int, padded: tuple[int, int]) -> Iterator[int]:
        """Within, RT-DETR's family has no denoising where an image has more objects than there are
        queries for it, and no more queries than the maps have cells, which it takes them from.

        Gives the number of queries.
        """
        config = self.model.config
        asked = {name: getattr(config, name, 0) for name in ("num_queries", "num_denoising")}
        if self.what.hybrid:
            cells = sum(padded[0] // stride * (padded[1] // stride) for stride in LEVELS)
            config.num_queries = min(config.num_queries, cells)
            config.num_denoising = 0 if objects > config.num_denoising else config.num_denoising
        try:
            yield config.num_queries
        finally:
            for name in asked if self.what.hybrid else ():
                setattr(config, name, asked[name])

    def losses(self, outputs: Outputs, targets: Sequence[Target]) -> dict[str, Tensor]:
        """Sums over the decoder's layers, the encoder's proposals and denoising, each weighted.

        Raises ValueError for outputs of a network that was given no targets.
        """
        if outputs.asked is None:
            raise ValueError("losses need what network(images, targets) gives; it had no targets")
        args, named = outputs.asked
        args = (args[0], _labels(targets, outputs.scale), *args[2:])
        with torch.autocast(outputs.scale.device.type, enabled=False):
            _, terms, _ = self.their_losses(*args, **named)
        weights = _weights(self.kind, self.model.config)
        found: dict[str, Tensor] = {}
        for name, value in terms.items():
            term = re.fullmatch(r"loss_([a-z]+?)(_aux|_dn)?(_\d+)?", name)
            if term:  # the rest is counted and not trained on
                name, value = term[1], value * weights.get(term[1], 1.0)
                found[name] = found[name] + value if name in found else value
        if self.training and self.what.hybrid and self.model.config.num_denoising:
            # Unused in a batch without objects, and other processes would wait for its gradient.
            idle = self.model.model.denoising_class_embed.weight.sum()
            found["bbox"] = found["bbox"] + 0.0 * idle
        return found

    def candidates(self, outputs: Outputs, sizes: Sequence[tuple[int, int]]) -> Candidates:
        boxes = box_ops.from_cxcywh(outputs.boxes) * outputs.scale
        if self.kind == "detr":
            scores, labels = outputs.logits.softmax(-1)[..., :-1].max(-1)
            return Candidates(boxes, scores, labels)
        scores, index, labels = top_candidates(outputs.logits.sigmoid(), MOST)
        return Candidates(boxes.gather(1, index[..., None].expand(-1, -1, 4)), scores, labels)


def _maps(backbone: Backbone, kind: str) -> list[int]:
    """Which of the backbone's maps the kind reads."""
    strides = list(backbone.strides)
    if not KINDS[kind].levels:
        return [len(strides) - 1]
    if missing := [stride for stride in LEVELS if stride not in strides]:
        raise ValueError(
            f"transformers' {kind} reads maps of stride {', '.join(map(str, LEVELS))}, and of "
            f"the backbone's strides {', '.join(map(str, strides))} there is no {missing[0]}"
        )
    return [strides.index(stride) for stride in LEVELS]


def _parts() -> ModuleType:
    """Import the library. Raises an ImportError that names the extra."""
    try:
        from detzoo.nn import transformers
    except ImportError as error:
        raise ImportError(
            "detector=transformers/... needs the extra: pip install 'detzoo[transformers]' "
            f"({error})"
        ) from error
    return transformers


def _begin(model: nn.Module, kind: str) -> None:
    """Where the library's random weights are not its authors' (see the module's text)."""
    for module in model.modules():
        if kind == "rt_detr_v2" and isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
    if heads := KINDS[kind].heads:
        for layer in getattr(model, heads).modules():
            if isinstance(layer, nn.Linear):
                nn.init.constant_(layer.bias, -math.log((1 - PRIOR) / PRIOR))


def _keep_arguments(*args: Any, **named: Any) -> tuple[None, dict[str, Any], None]:
    """Replaces the library's loss function: no loss, and its arguments."""
    return None, {"asked": (args, named)}, None


def _float32(value: Any) -> Any:
    floating = isinstance(value, Tensor) and value.is_floating_point()
    return value.float() if floating else value


def _labels(targets: Sequence[Target], scale: Tensor) -> list[dict[str, Tensor]]:
    """The library's targets: no crowd; boxes as centre and size, in [0, 1] of `scale`."""
    found = []
    for (boxes, labels), side in zip((t.objects for t in targets), scale, strict=True):
        boxes = box_ops.to_cxcywh(boxes.float() / side)
        found.append({"class_labels": labels, "boxes": boxes})
    return found


def _weights(kind: str, config: Any) -> dict[str, float]:
    """Of the library's losses by name, where it gives them unweighted."""
    if KINDS[kind].hybrid:
        return {}
    return {"bbox": config.bbox_loss_coefficient, "giou": config.giou_loss_coefficient}
