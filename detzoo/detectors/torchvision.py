"""torchvision's own detectors as rows of our tables: the same backbone, pixels and protocol.

Pyramid, anchors, heads, matching, sampling, losses and post-processing are torchvision's code,
called in the order in which its models call it. Ours are the backbone, the normalisation and the
resizing (its GeneralizedRCNNTransform is not run), so that `network` and `decode` can be timed
apart.

Where we depart: anchors are made in float32 (torchvision makes them in the features' type, and
bfloat16 cannot hold a coordinate above 256); RetinaNet and FCOS have K sigmoids instead of K + 1
with one unused; SSD's extra maps follow the backbone's of stride 8, 16 and 32, where torchvision
has VGG's; boxes without an area after clipping are dropped. Crowd boxes are left out of the
targets, as in torchvision's reference training, so what they cover is a negative. With several
processes the losses are, as there, averages of each process's own: if they are divided by a count
of the batch (all but RetinaNet's), that is not exactly the loss of the whole batch.

Shape letters: B images, K classes, N anchors of all levels, R regions of all images.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou

from detzoo.detector import Detector
from detzoo.nn import torchvision as parts
from detzoo.nn.backbones import Backbone
from detzoo.text import check_choice
from detzoo.types import Candidates, Detections, Images, Target

MODELS = {"faster_rcnn": FasterRCNN, "retinanet": RetinaNet, "ssd": SSD, "fcos": FCOS}
LEVELS = {"faster_rcnn": (2, 6), "retinanet": (3, 7), "ssd": (3, 8), "fcos": (3, 7)}
MOST = 1000  # candidates of an image


class DenseOutputs(NamedTuple):
    """The outputs of RetinaNet, SSD and FCOS."""

    head: dict[str, Tensor]  # torchvision's names -> (B, N, ...) float32
    anchors: Tensor  # (N, 4), the same for every image
    counts: list[int]  # anchors of each level; their sum is N


class RegionOutputs(NamedTuple):
    """The outputs of Faster R-CNN. Background is label 0, as in all of torchvision."""

    objectness: Tensor  # (B * N, 1) logits
    rpn_deltas: Tensor  # (B * N, 4)
    anchors: Tensor  # (N, 4)
    rois: list[Tensor]  # per image (R_b, 4); with targets, the sampled ones
    roi_labels: list[Tensor] | None  # per image (R_b,) in [0, K]; only with targets
    roi_targets: list[Tensor] | None  # per image (R_b, 4) deltas; only with targets
    scores: Tensor  # (R, K + 1) logits
    deltas: Tensor  # (R, (K + 1) * 4)


class TorchvisionDetector(Detector):
    """One of torchvision's detectors, by `kind`, under our interface.

    channels: of the pyramid (ssd: of the extra maps, one number or one each). levels: finest and
    coarsest, strides 2^l. smallest_anchor: base size at the finest level, doubled at every further
    one (retinanet: times 1, 2^(1/3), 2^(2/3)); anchor_sizes: or all sizes, per level. fcos has one
    point per cell and ssd sizes relative to the image: neither uses them. head_width: of the two
    fully connected layers of faster_rcnn. tower_norm: group norm in retinanet's towers,
    torchvision's own second version. unpadded, l2_scale: of ssd, as in `ssd300_vgg16`: see
    nn.torchvision.ExtraMaps. steps: of ssd, pixels between a map's cells, which allows images of
    any size. nms_threshold: None is the kind's own. options: further arguments of the torchvision
    model by its own names, such as rpn_batch_size_per_image.

    Raises ValueError for an unknown kind and for an argument that the kind does not use.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        num_classes: int,
        kind: str,
        channels: int | Sequence[int] = 256,
        levels: tuple[int, int] | None = None,
        smallest_anchor: float | None = None,
        anchor_sizes: Sequence[Sequence[float]] | None = None,
        head_width: int | None = None,
        tower_norm: bool = False,
        unpadded: int = 0,
        l2_scale: float | None = None,
        steps: Sequence[float] | None = None,
        score_threshold: float = 0.001,
        nms_threshold: float | None = None,
        max_detections: int = 100,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            stride=1 if steps else backbone.strides[-1],
            backbone=backbone,
        )
        of_ssd = (unpadded, l2_scale, steps)
        check_choice("detector.kind", kind, MODELS)
        parts.check(kind, channels, smallest_anchor or anchor_sizes, head_width, tower_norm, of_ssd)
        low, high = levels or LEVELS[kind]
        strides = [2**level for level in range(low, high + 1)]
        if anchor_sizes is None:
            anchor_sizes = parts.anchor_sizes_of(kind, strides, smallest_anchor or 32.0)
        if len(anchor_sizes) != len(strides):
            raise ValueError(f"anchor_sizes has {len(anchor_sizes)} levels, not {len(strides)}")

        self.kind = kind
        # For records only: torchvision's own model applies these values.
        self.score_threshold, self.max_detections = score_threshold, max_detections
        # With a softmax, background is class 0; sigmoids need none.
        self.first_label = 1 if kind in ("faster_rcnn", "ssd") else 0
        if kind == "ssd":
            self.neck = parts.ExtraMaps(backbone, channels, (low, high), unpadded, l2_scale)
        else:
            self.neck = parts.Pyramid(backbone, channels, (low, high))
        arguments = parts.model_parts(
            *(kind, anchor_sizes, len(self.neck.used), channels, head_width, tower_norm),
            *(num_classes, steps),
        )
        model = self._model(arguments, channels, nms_threshold, options or {})
        # In a tuple, so that its parts are not registered twice: trainable parts are registered
        # here, by the names that the clock knows. Copies and moves reach the rest through these
        # parts.
        self.rules = (model,)
        if kind == "faster_rcnn":
            self.rpn = model.rpn.head
            self.head = nn.Sequential(model.roi_heads.box_head, model.roi_heads.box_predictor)
        else:
            self.head = model.head

    def _model(
        self,
        own: dict[str, Any],
        channels: int | Sequence[int],
        nms_threshold: float | None,
        options: dict[str, Any],
    ) -> nn.Module:
        """torchvision's model of our parts `own`. ValueError for options that it does not have."""
        stub = nn.Identity()  # their models need a backbone with its width
        stub.out_channels = self.neck.channels if self.kind == "ssd" else channels
        prefix = "box_" if self.kind == "faster_rcnn" else ""
        arguments = {
            "backbone": stub,
            "num_classes": self.num_classes + self.first_label,
            f"{prefix}score_thresh": self.score_threshold,
            f"{prefix}detections_per_img": self.max_detections,
        }
        if nms_threshold is not None:
            arguments[f"{prefix}nms_thresh"] = nms_threshold
        arguments |= own | options
        unknown = set(arguments) - set(inspect.signature(MODELS[self.kind]).parameters)
        if unknown:
            named = ", ".join(sorted(unknown))
            raise ValueError(f"torchvision's {self.kind} has no argument {named}")
        return MODELS[self.kind](**arguments)

    def network(
        self, images: Images, targets: Sequence[Target] | None = None
    ) -> DenseOutputs | RegionOutputs:
        maps = self.neck(self.backbone(self.normalise(images)))
        if self.kind == "faster_rcnn":
            return self._regions(maps, images, targets)
        generator = self.rules[0].anchor_generator
        shapes = generator.num_anchors_per_location()
        counts = [a * x.shape[2] * x.shape[3] for a, x in zip(shapes, maps, strict=True)]
        head = {name: x.float() for name, x in self.head(maps).items()}
        return DenseOutputs(head, self._grid(generator, maps, images), counts)

    def _regions(
        self, maps: list[Tensor], images: Images, targets: Sequence[Target] | None
    ) -> RegionOutputs:
        """The rest of torchvision's GeneralizedRCNN.forward, up to the losses or the boxes."""
        rpn, roi_heads = self.rules[0].rpn, self.rules[0].roi_heads
        anchors = self._grid(rpn.anchor_generator, maps, images)
        objectness, deltas = self.rpn(maps)  # per level (B, A, h, w), (B, A*4, h, w)
        counts = [x[0].numel() for x in objectness]
        objectness, deltas = concat_box_prediction_layers(objectness, deltas)
        objectness, deltas = objectness.float(), deltas.float()
        batch = len(images.frames)
        proposals = rpn.box_coder.decode(deltas.detach(), [anchors] * batch).view(batch, -1, 4)
        rpn.training = targets is not None  # the number of kept proposals depends on it
        rois, _ = rpn.filter_proposals(proposals, objectness, images.sizes, counts)
        labels = wanted = None
        if targets is not None:
            truth = self._truth(targets)
            rois, _, labels, wanted = roi_heads.select_training_samples(rois, truth)
        # The pooler takes the maps' strides from these sizes, so they must be the padded ones.
        padded = [tuple(images.pixels.shape[-2:])] * batch
        named = {str(i): x for i, x in enumerate(maps)}
        scores, roi_deltas = self.head(roi_heads.box_roi_pool(named, rois, padded))
        return RegionOutputs(
            objectness, deltas, anchors, rois, labels, wanted, scores.float(), roi_deltas.float()
        )

    @staticmethod
    def _grid(generator: nn.Module, maps: list[Tensor], images: Images) -> Tensor:
        """(N, 4) float32: the anchors of a padded image, which only the maps' shapes decide."""
        like = [x.new_empty(x.shape, dtype=torch.float32) for x in maps]
        return generator(ImageList(images.pixels, images.sizes[:1]), like)[0]

    def _truth(self, targets: Sequence[Target]) -> list[dict[str, Tensor]]:
        """torchvision's targets: no crowd, and labels beginning where its classes do."""
        return [
            {"boxes": boxes.float(), "labels": labels + self.first_label}
            for boxes, labels in (target.objects for target in targets)
        ]

    def losses(
        self, outputs: DenseOutputs | RegionOutputs, targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        model, truth = self.rules[0], self._truth(targets)
        anchors = [outputs.anchors] * len(truth)
        if self.kind == "retinanet":
            return model.compute_loss(truth, outputs.head, anchors)
        if self.kind == "fcos":
            return model.compute_loss(truth, outputs.head, anchors, outputs.counts)
        if self.kind == "ssd":
            none = outputs.anchors.new_full((len(outputs.anchors),), -1, dtype=torch.int64)
            matched = [
                model.proposal_matcher(box_iou(t["boxes"], outputs.anchors))
                if len(t["boxes"])
                else none
                for t in truth
            ]
            return model.compute_loss(truth, outputs.head, anchors, matched)
        labels, boxes = model.rpn.assign_targets_to_anchors(anchors, truth)
        wanted = model.rpn.box_coder.encode(boxes, anchors)
        objectness, rpn_box = model.rpn.compute_loss(
            outputs.objectness, outputs.rpn_deltas, labels, wanted
        )
        classifier, box = fastrcnn_loss(
            outputs.scores, outputs.deltas, outputs.roi_labels, outputs.roi_targets
        )
        return {
            "rpn_objectness": objectness,
            "rpn_box": rpn_box,
            "classification": classifier,
            "bbox_regression": box,
        }

    def candidates(
        self, outputs: DenseOutputs | RegionOutputs, sizes: Sequence[tuple[int, int]]
    ) -> Candidates:
        """The MOST best-scored boxes of an image; not used by `decode`, which is torchvision's."""
        model = self.rules[0]
        if self.kind == "faster_rcnn":
            coder = model.roi_heads.box_coder
            return parts.region_candidates(
                coder, outputs.scores, outputs.deltas, outputs.rois, MOST
            )
        return parts.dense_candidates(
            self.kind, model.box_coder, outputs.head, outputs.anchors, MOST
        )

    @torch.no_grad()
    def decode(
        self, outputs: DenseOutputs | RegionOutputs, sizes: Sequence[tuple[int, int]]
    ) -> list[Detections]:
        model, sizes = self.rules[0], list(sizes)
        if self.kind == "faster_rcnn":
            found = zip(
                *model.roi_heads.postprocess_detections(
                    outputs.scores, outputs.deltas, outputs.rois, sizes
                ),
                strict=True,
            )
        else:
            anchors: list[Any] = [outputs.anchors] * len(sizes)
            head: dict[str, Any] = outputs.head
            if self.kind != "ssd":  # they take their maps one by one
                anchors = [outputs.anchors.split(outputs.counts)] * len(sizes)
                head = {name: x.split(outputs.counts, 1) for name, x in head.items()}
            boxes = model.postprocess_detections(head, anchors, sizes)
            found = ((b["boxes"], b["scores"], b["labels"]) for b in boxes)
        detections = []
        for boxes, scores, labels in found:
            one = Detections(boxes=boxes, scores=scores, labels=labels - self.first_label)
            detections.append(one[(boxes[:, 2:] > boxes[:, :2]).all(1)])
        return detections
