"""DETR: End-to-End Object Detection with Transformers (Carion 2020, arXiv:2005.12872).

N learned queries ask a transformer for the objects of an image, and each gives one object or none.
In training the queries are matched to the objects one to one, so that nothing is found twice: no
anchors, no NMS.

Where we depart: a query that is matched to nothing and lies in a crowd box is a negative for no
class; the extra losses of the decoder's layers share the last layer's heads and norm, as the
published code has it.

Shape letters: B images, K classes, N queries, L decoder layers, M objects of an image, S cells of
the map, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detzoo.detector import Detector
from detzoo.nn import Backbone
from detzoo.nn.transformer import DecoderLayer, EncoderLayer, sine_of, sine_positions
from detzoo.ops import boxes as box_ops
from detzoo.ops.assign import crowded
from detzoo.ops.assignment import solve_assignment
from detzoo.ops.losses import normaliser
from detzoo.text import check_choice
from detzoo.types import Candidates, Images, PaddedTargets, Target, pad_targets

POSITIONS = ("attention", "input", "decoder", "none")
BOX_LOSSES = {"both": (1.0, 1.0), "l1": (1.0, 0.0), "giou": (0.0, 1.0)}


class Outputs(NamedTuple):
    logits: Tensor  # (L, B, N, K + 1), no object last
    boxes: Tensor  # (L, B, N, 4) centre and size, in [0, 1] of the unpadded image
    scale: Tensor  # (B, 1, 4) width, height, width, height of the unpadded image


class Transformer(nn.Module):
    """forward: (B, D, H, W), mask (B, H, W) or None: no padding -> (L, B, N, D)."""

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        encoder_layers: int,
        decoder_layers: int,
        queries: int,
        dropout: float,
        position: str,
        anchored: bool = False,
    ) -> None:
        super().__init__()
        layer = (width, heads, hidden, dropout)
        self.encoder = nn.ModuleList(EncoderLayer(*layer) for _ in range(encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(*layer) for _ in range(decoder_layers))
        self.norm = nn.LayerNorm(width)
        self.anchors, self.queries = None, None if anchored else nn.Embedding(queries, width)
        if anchored:
            self.place = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.position = position
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)  # section 4
        if anchored:
            self.anchors = nn.Parameter(torch.rand(queries, 2).logit(1e-2))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        shown = x.new_ones(len(x), *x.shape[2:], dtype=torch.bool) if mask is None else mask
        places = sine_positions(shown, x.shape[1]).flatten(1, 2).to(x.dtype)  # (B, S, D)
        keys = None if mask is None else mask.flatten(1)[:, None, None]  # (B, 1, 1, S)
        memory = x.flatten(2).mT  # (B, S, D)
        if self.position == "input":
            memory = memory + places
        for layer in self.encoder:
            memory = layer(memory, places if self.position == "attention" else None, keys)
        if self.anchors is None:
            query = self.queries.weight
        else:
            query = self.place(sine_of(self.anchors.sigmoid(), x.shape[1]).to(x.dtype))
        query = query.expand(len(x), -1, -1)  # (B, N, D)
        places = places if self.position in ("attention", "decoder") else None
        found, layers = torch.zeros_like(query), []
        for layer in self.decoder:
            found = layer(found, query, memory, places, keys)
            layers.append(self.norm(found))
        return torch.stack(layers)


class Head(nn.Module):
    """forward: (L, B, N, D) -> logits (L, B, N, K + 1), boxes (L, B, N, 4) (section 3.2).

    anchors: (N, 2) logits of x and y, from which the boxes' centres are reckoned.
    """

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.logits = nn.Linear(width, num_classes + 1)
        layers = nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        self.boxes = nn.Sequential(*layers, nn.Linear(width, 4))

    def forward(self, x: Tensor, anchors: Tensor | None = None) -> tuple[Tensor, Tensor]:
        boxes = self.boxes(x).float()
        if anchors is not None:
            boxes = boxes + F.pad(anchors, (0, 2))
        return self.logits(x).float(), boxes.sigmoid()


class DETR(Detector):
    """See the module's text.

    The backbone's last map is read: backbone.max_stride=16 for small pictures. channels: D.
    position: where sine positions are added, at every `attention`, to the `input` once, in the
    `decoder` alone, or `none` (table 3). box_loss: `both`, `l1` or `giou` (table 4), in the loss as
    in the matching. anchored: a query is no free vector but a learnt point: its position is that
    point's sine, and its box's centre is reckoned from there (Meng 2021, arXiv:2108.06152, section
    3.3), not the paper's, but sooner learnt.
    auxiliary: every decoder layer is trained, not the last alone (section 3.2).
    """

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
        self.neck = nn.Conv2d(backbone.channels[-1], channels, 1)
        self.transformer = Transformer(
            *(channels, heads, hidden, encoder_layers, decoder_layers, queries),
            *(dropout, position, anchored),
        )
        self.head = Head(channels, num_classes)
        l1, giou = BOX_LOSSES[box_loss]
        self.l1_weight, self.giou_weight = l1 * l1_weight, giou * giou_weight
        self.auxiliary, self.class_cost, self.no_object = auxiliary, class_cost, no_object
        self.score_threshold, self.max_detections = score_threshold, max_detections
        self.nms_threshold = None

    def network(self, images: Images, targets: Sequence[Target] | None = None) -> Outputs:
        x = self.neck(self.backbone(self.normalise(images))[-1])  # (B, D, H, W)
        device = x.device
        mask = None
        if any(size != images.pixels.shape[-2:] for size in images.sizes):
            filled = [[-(-side // self.stride) for side in size] for size in images.sizes]
            filled = torch.tensor(filled).to(device, non_blocking=True)
            rows, columns = (torch.arange(n, device=device) for n in x.shape[-2:])
            mask = (rows[:, None] < filled[:, 0, None, None]) & (columns < filled[:, 1, None, None])
        scale = torch.tensor([[(w, h, w, h)] for h, w in images.sizes], dtype=torch.float32)
        found = self.head(self.transformer(x, mask), self.transformer.anchors)
        return Outputs(*found, scale.to(device, non_blocking=True))

    @torch.no_grad()
    def assign(self, outputs: Outputs, truth: PaddedTargets) -> Tensor:
        """(L, B, M): every object's query, at least sum of costs (equation 1); -1 where none is.

        The costs of all layers and images go to the host at once, where they are solved one by one.
        """
        probability = outputs.logits.softmax(-1)  # (L, B, N, K + 1)
        boxes = box_ops.from_cxcywh(outputs.boxes)
        wanted = truth.boxes / outputs.scale  # (B, M, 4)
        layers, batch, queries = probability.shape[:3]
        index = truth.labels[None, :, None].expand(layers, -1, queries, -1)
        cost = -self.class_cost * probability.gather(3, index)  # (L, B, N, M)
        l1 = torch.cdist(outputs.boxes, box_ops.to_cxcywh(wanted).expand(layers, -1, -1, -1), p=1)
        cost = cost + self.l1_weight * l1 - self.giou_weight * box_ops.giou(boxes, wanted[None])
        # Of a network that has diverged any assignment will do: its loss says so.
        single = truth.single.expand(layers, -1, -1)[..., None]  # beside them, to wait once
        cost = torch.cat([cost.nan_to_num().mT, single], 3).cpu().numpy()  # (L, B, M, N + 1)
        cost, single = cost[..., :-1], cost[0, ..., -1]
        chosen = torch.full(cost.shape[:3], -1)
        for layer in range(layers):
            for image in range(batch):
                objects = single[image].nonzero()[0]
                rows, columns = solve_assignment(cost[layer, image, objects])
                chosen[layer, image, objects[rows]] = torch.from_numpy(columns)
        return chosen.to(truth.boxes.device, non_blocking=True)

    def losses(self, outputs: Outputs, targets: Sequence[Target]) -> dict[str, Tensor]:
        if not self.auxiliary:
            outputs = outputs._replace(logits=outputs.logits[-1:], boxes=outputs.boxes[-1:])
        truth = pad_targets(targets)
        chosen = self.assign(outputs, truth)  # (L, B, M)
        layer, image, object_index = (chosen >= 0).nonzero(as_tuple=True)  # of the P pairs
        query = chosen[layer, image, object_index]
        wanted = truth.boxes[image, object_index] / outputs.scale[image, 0]  # (P, 4)
        found = outputs.boxes[layer, image, query]

        labels = torch.full(outputs.logits.shape[:3], self.num_classes, device=query.device)
        labels[layer, image, query] = truth.labels[image, object_index]  # (L, B, N)
        entropy = F.cross_entropy(outputs.logits.flatten(0, 2), labels.flatten(), reduction="none")
        weight = torch.where(labels == self.num_classes, self.no_object, 1.0)
        ignored = crowded(box_ops.from_cxcywh(outputs.boxes.detach()) * outputs.scale, truth)
        weight = weight.masked_fill(ignored & (labels == self.num_classes), 0)
        total = normaliser(weight.sum() / len(weight))  # every layer's loss is a weighted mean

        count = normaliser(truth.single.sum())
        giou = box_ops.giou(box_ops.from_cxcywh(found)[:, None], wanted[:, None])  # (P, 1, 1)
        return {
            "class": (entropy.view_as(weight) * weight).sum() / total,
            "l1": self.l1_weight * (found - box_ops.to_cxcywh(wanted)).abs().sum() / count,
            "giou": self.giou_weight * (1 - giou).sum() / count,
        }

    def candidates(self, outputs: Outputs, sizes: Sequence[tuple[int, int]]) -> Candidates:
        probability = outputs.logits[-1].softmax(-1)[..., :-1]  # (B, N, K)
        scores, labels = probability.max(-1)
        return Candidates(box_ops.from_cxcywh(outputs.boxes[-1]) * outputs.scale, scores, labels)
