"""DETR: End-to-End Object Detection with Transformers (Carion 2020, arXiv:2005.12872).

A transformer decodes N learned queries into one object or none each. In training the queries are
matched to the objects one to one, so that there are no duplicates: no anchors, no NMS.

Where we depart: an unmatched query inside a crowd box is a negative for no class; the extra losses
of the decoder's layers share the last layer's heads and norm, as in the published code. Later
papers' remedies for the slow convergence are settings: queries with boxes (`anchored`, `two_stage`)
and `denoising`. All layers of the decoder correct a query's first box.

Shape letters: B images, K classes, N queries, L decoder layers, M objects of an image, S cells of
the map, G groups of denoising, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detzoo.detector import Detector
from detzoo.nn import Backbone
from detzoo.nn.blocks import OutputLinear
from detzoo.nn.transformer import Memory, Transformer
from detzoo.ops import boxes as box_ops
from detzoo.ops.assign import inside_crowd
from detzoo.ops.assignment import assign_batch
from detzoo.ops.constants import constant
from detzoo.ops.denoising import add_noise, group_mask
from detzoo.ops.losses import normaliser
from detzoo.ops.padding import inside
from detzoo.text import check_choice
from detzoo.types import Candidates, Images, PaddedTargets, Target, pad_targets

POSITIONS = ("attention", "input", "decoder", "none")
BOX_LOSSES = {"both": (1.0, 1.0), "l1": (1.0, 0.0), "giou": (0.0, 1.0)}
SIDE = 0.1  # of a query's first box (2010.04159, appendix A.4: 0.05 and its doubles)
EDGE = 1e-3  # a box's numbers are clamped to this distance from 0 and 1 before the logit
NEVER = 20.0  # a logit


class Predictions(NamedTuple):
    """Of others than the queries."""

    logits: Tensor  # (L, B, ..., K + 1)
    boxes: Tensor  # (L, B, ..., 4)


class Outputs(NamedTuple):
    logits: Tensor  # (L, B, N, K + 1), no object last
    boxes: Tensor  # (L, B, N, 4) centre and size, in [0, 1] of the unpadded image
    scale: Tensor  # (B, 1, 4) width, height, width, height of the unpadded image
    proposals: Predictions | None = None  # of the encoder: L is 1, N is S; with two_stage
    denoised: Predictions | None = None  # G M in the place of N; where there are targets to denoise


class Head(nn.Module):
    """forward: (L, B, N, D) -> logits (L, B, N, K + 1), boxes (L, B, N, 4) (section 3.2).

    places: (B, N, 4) boxes that the outputs correct; with `boxed`, the outputs are initialised to
    equal these (2010.04159, appendix A.4).
    """

    def __init__(self, width: int, num_classes: int, boxed: bool) -> None:
        super().__init__()
        self.logits = OutputLinear(width, num_classes + 1)
        layers = nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        self.boxes = nn.Sequential(*layers, OutputLinear(width, 4))
        if boxed:
            nn.init.zeros_(self.boxes[-1].weight)
            nn.init.zeros_(self.boxes[-1].bias)

    def forward(self, x: Tensor, places: Tensor | None = None) -> Predictions:
        boxes = self.boxes(x)
        if places is not None:
            boxes = boxes + places.logit(EDGE)
        return Predictions(self.logits(x), boxes.sigmoid())


class DETR(Detector):
    """The backbone's last map is used: backbone.max_stride=16 for small images. channels: D.
    position: where sine positions are added, at every `attention`, to the `input` once, in the
    `decoder` alone, or `none` (table 3). box_loss: `both`, `l1` or `giou` (table 4), in the loss as
    in the matching. auxiliary: every decoder layer is trained, not the last alone (section 3.2).

    anchored: a query is not a free vector but a learnt box, whose sine encoding is its position and
    which its output is relative to (DAB-DETR, Liu 2022, arXiv:2201.12329, section 4). two_stage:
    its box is the encoder's prediction at one of the `queries` most confident cells; every cell is
    trained like a query (Zhu 2020, arXiv:2010.04159, section 4.2). denoising: training adds at most
    this number of queries per image, true objects with `box_noise` and `label_noise` in as many
    groups as fit, to be reconstructed (DN-DETR, Li 2022, arXiv:2203.01305); an image with more
    objects has none.

    Raises ValueError for an unknown name and for contradictory settings.
    """

    masks_padding = True

    def __init__(
        self,
        *,
        backbone: Backbone,
        num_classes: int,
        channels: int = 256,  # appendix A.4
        heads: int = 8,  # appendix A.4
        hidden: int = 2048,  # appendix A.4
        encoder_layers: int = 6,  # section 4
        decoder_layers: int = 6,  # section 4
        queries: int = 100,  # section 4
        dropout: float = 0.1,  # section 4
        position: str = "attention",
        box_loss: str = "both",
        anchored: bool = False,
        two_stage: bool = False,
        denoising: int = 0,
        box_noise: float = 0.4,  # 2203.01305, section 5.1
        label_noise: float = 0.2,  # 2203.01305, section 5.1
        auxiliary: bool = True,
        class_cost: float = 1.0,  # equation 1
        l1_weight: float = 5.0,  # appendix A.4
        giou_weight: float = 2.0,  # appendix A.4
        no_object: float = 0.1,  # section 3.1: the weight of the class that most queries have
        score_threshold: float = 0.0,
        max_detections: int = 100,
    ) -> None:
        super().__init__(num_classes=num_classes, stride=backbone.strides[-1], backbone=backbone)
        check_choice("detector.position", position, POSITIONS)
        check_choice("detector.box_loss", box_loss, BOX_LOSSES)
        if anchored and two_stage:
            raise ValueError(
                "detector.anchored and detector.two_stage are both true; a query's box is either "
                "learnt or one of the encoder's: choose one"
            )
        boxed = anchored or two_stage
        if denoising and not boxed:
            raise ValueError(
                f"detector.denoising is {denoising}, which needs queries with boxes: set "
                "detector.two_stage=true or detector.anchored=true, or denoising=0"
            )
        self.neck = nn.Conv2d(backbone.channels[-1], channels, 1)
        self.transformer = Transformer(
            *(channels, heads, hidden, encoder_layers, decoder_layers, queries),
            *(dropout, position, boxed),
        )
        self.head = Head(channels, num_classes, boxed)
        self.encoder_head = Head(channels, num_classes, boxed) if two_stage else None
        self.label_embedding = nn.Embedding(num_classes, channels) if denoising else None
        self.anchors = None
        if anchored:
            sides = torch.full((queries, 2), SIDE)
            self.anchors = nn.Parameter(torch.cat([torch.rand(queries, 2), sides], 1).logit(EDGE))
        l1, giou = BOX_LOSSES[box_loss]
        self.l1_weight, self.giou_weight = l1 * l1_weight, giou * giou_weight
        self.queries, self.denoising = queries, denoising
        self.box_noise, self.label_noise = box_noise, label_noise
        self.auxiliary, self.class_cost, self.no_object = auxiliary, class_cost, no_object
        self.score_threshold, self.max_detections = score_threshold, max_detections
        self.nms_threshold = None

    def network(self, images: Images, targets: Sequence[Target] | None = None) -> Outputs:
        x = self.neck(self.backbone(self.normalise(images))[-1])  # (B, D, H, W)
        ends = [(-(-h // self.stride), -(-w // self.stride)) for h, w in images.sizes]
        memory = self.transformer.encode(x, inside(ends, x.shape[-2:], x.device))
        scale = torch.tensor([[(w, h, w, h)] for h, w in images.sizes], dtype=torch.float32)
        scale = scale.to(x.device, non_blocking=True)
        boxes, proposals = None, None
        if self.anchors is not None:
            boxes = self.anchors.sigmoid().expand(len(x), -1, -1)  # (B, N, 4)
        elif self.encoder_head is not None:
            proposals = self.propose(memory, x.shape[-2:], scale)
            boxes = self.best_proposals(proposals)
        if targets is None or not self.denoising:
            found = self.head(self.transformer.decode(memory, boxes), boxes)
            return Outputs(*found, scale, proposals)
        boxes, n = self.add_denoising(boxes, pad_targets(targets), scale), boxes.shape[1]
        found = self.head(self.transformer.decode(memory, *boxes), boxes[0])
        denoised = Predictions(*(x[:, :, n:] for x in found))
        return Outputs(*(x[:, :, :n] for x in found), scale, proposals, denoised)

    def propose(self, memory: Memory, shape: tuple[int, int], scale: Tensor) -> Predictions:
        """The encoder's prediction of an object at each of its cells, (1, B, S, ...)."""
        y, x = (torch.arange(n, device=scale.device) + 0.5 for n in shape)
        middle = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).flatten(0, 1)  # (S, 2)
        middle = middle * self.stride / scale[..., :2]  # (B, S, 2)
        found = self.encoder_head(memory.cells[None], F.pad(middle, (0, 2), value=SIDE))
        if memory.inside is None:
            return found
        # The padding is sure that it is nothing, which costs nothing and moves nothing.
        nothing = constant([-NEVER] * self.num_classes + [NEVER], scale.device)
        real = memory.inside.flatten(1)[..., None]  # (B, S, 1)
        return found._replace(logits=found.logits.where(real, nothing))

    def best_proposals(self, proposals: Predictions) -> Tensor:
        """(B, N, 4): the boxes of the cells least likely to be of no object, in the cells' order,
        so that the queries' order does not depend on rounding."""
        nothing, boxes = proposals.logits[0].softmax(-1)[..., -1], proposals.boxes[0].detach()
        count = min(self.queries, nothing.shape[1])
        index = nothing.topk(count, largest=False).indices.sort().values
        return boxes.gather(1, index[..., None].expand(-1, -1, 4))

    def add_denoising(
        self, boxes: Tensor, truth: PaddedTargets, scale: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N, 4) -> what `decode` takes: boxes (B, N + G M, 4), content, and who sees whom."""
        groups = self.denoising // truth.labels.shape[1]
        noised, labels = add_noise(
            box_ops.to_cxcywh(truth.boxes / scale),
            truth.labels,
            groups=groups,
            num_classes=self.num_classes,
            box_noise=self.box_noise,
            label_noise=self.label_noise,
        )
        n = boxes.shape[1]
        content = F.pad(self.label_embedding(labels), (0, 0, n, 0))
        return torch.cat([boxes, noised], 1), content, group_mask(truth.single, groups, n)

    @torch.no_grad()
    def assign(self, outputs: Outputs, truth: PaddedTargets) -> Tensor:
        """(L, B, M): every object's query, at least sum of costs (equation 1); -1 where none is."""
        probability = outputs.logits.softmax(-1)  # (L, B, N, K + 1)
        boxes = box_ops.from_cxcywh(outputs.boxes)
        wanted = truth.boxes / outputs.scale  # (B, M, 4)
        layers, queries = len(probability), probability.shape[2]
        index = truth.labels[None, :, None].expand(layers, -1, queries, -1)
        cost = -self.class_cost * probability.gather(3, index)  # (L, B, N, M)
        l1 = torch.cdist(outputs.boxes, box_ops.to_cxcywh(wanted).expand(layers, -1, -1, -1), p=1)
        cost = cost + self.l1_weight * l1 - self.giou_weight * box_ops.giou(boxes, wanted[None])
        # If the network has diverged any assignment will do: its loss shows it.
        return assign_batch(cost, truth.single)

    def losses(self, outputs: Outputs, targets: Sequence[Target]) -> dict[str, Tensor]:
        """Losses of the queries: class, l1, giou; the sums of those of proposals and denoising."""
        truth = pad_targets(targets)
        if not self.auxiliary:
            outputs = outputs._replace(logits=outputs.logits[-1:], boxes=outputs.boxes[-1:])
        count = normaliser(truth.single.sum())
        losses = self.matched_losses(outputs, truth, count)
        if outputs.proposals is not None:
            first = outputs._replace(logits=outputs.proposals.logits, boxes=outputs.proposals.boxes)
            losses["proposals"] = sum(self.matched_losses(first, truth, count).values())
        if outputs.denoised is not None:
            losses["denoising"] = self.denoising_loss(outputs.denoised, truth, outputs.scale, count)
        return losses

    def matched_losses(
        self, outputs: Outputs, truth: PaddedTargets, count: Tensor
    ) -> dict[str, Tensor]:
        """From logits and boxes; every object has its chosen output, all others none.

        count: of the objects, which the losses of boxes are divided by.
        """
        chosen = self.assign(outputs, truth)  # (L, B, M)
        n, pairs = outputs.boxes.shape[2], chosen >= 0
        labels = chosen.new_full((*chosen.shape[:2], n + 1), self.num_classes)
        wanted = truth.labels.expand_as(chosen)
        labels = labels.scatter_(2, chosen.where(pairs, n), wanted)[..., :n]  # (L, B, N)
        entropy = F.cross_entropy(outputs.logits.flatten(0, 2), labels.flatten(), reduction="none")
        weight = torch.where(labels == self.num_classes, self.no_object, 1.0)
        ignored = inside_crowd(box_ops.from_cxcywh(outputs.boxes.detach()) * outputs.scale, truth)
        weight = weight.masked_fill(ignored & (labels == self.num_classes), 0)
        total = normaliser(weight.sum() / len(weight))  # every layer's loss is a weighted mean

        index = chosen.clamp(min=0)[..., None].expand(-1, -1, -1, 4)
        l1, giou = self.box_losses(outputs.boxes.gather(2, index), truth.boxes / outputs.scale)
        return {
            "class": (entropy.view_as(weight) * weight).sum() / total,
            "l1": (l1 * pairs).sum() / count,
            "giou": (giou * pairs).sum() / count,
        }

    def denoising_loss(
        self, found: Predictions, truth: PaddedTargets, scale: Tensor, count: Tensor
    ) -> Tensor:
        """The mean over groups, whose versions of the objects need no matching."""
        groups = found.boxes.shape[2] // truth.labels.shape[1]
        if not self.auxiliary:
            found = Predictions(*(x[-1:] for x in found))
        labels = truth.labels.repeat(1, groups).expand(len(found.logits), -1, -1)
        entropy = F.cross_entropy(found.logits.flatten(0, 2), labels.flatten(), reduction="none")
        wanted = (truth.boxes / scale).repeat(1, groups, 1)
        l1, giou = self.box_losses(found.boxes, wanted)
        each = entropy.view_as(l1) + l1 + giou  # (L, B, G M)
        return (each * truth.single.repeat(1, groups)).sum() / (count * max(groups, 1))

    def box_losses(self, found: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """(..., 4) centre and size, (..., 4) xyxy, both in [0, 1] -> L1 and GIoU's, each (...)."""
        l1 = (found - box_ops.to_cxcywh(wanted)).abs().sum(-1)
        boxes = box_ops.from_cxcywh(found)
        giou = box_ops.giou(boxes[..., None, :], wanted[..., None, :])
        return self.l1_weight * l1, self.giou_weight * (1 - giou[..., 0, 0])

    def candidates(self, outputs: Outputs, sizes: Sequence[tuple[int, int]]) -> Candidates:
        probability = outputs.logits[-1].softmax(-1)[..., :-1]  # (B, N, K)
        scores, labels = probability.max(-1)
        return Candidates(box_ops.from_cxcywh(outputs.boxes[-1]) * outputs.scale, scores, labels)
