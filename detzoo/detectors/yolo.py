"""YOLO: You Only Look Once (Redmon 2016, arXiv:1506.02640).

The image is a grid; the cell that contains an object's centre predicts it, with P boxes and their
confidences and one set of class probabilities. All outputs are one regression with squared error.

A cell holds one object. This limit of the paper (section 2.4) is kept: if two objects' centres
share a cell, only the last of the annotation is learnt, and all boxes of a cell have one class.
More cells make that rarer.

Where we depart: the paper's image is the padded input; sums are divided by the number of images;
the network's raw outputs are clamped to [0, 1] where they are used as a confidence or a
probability; a predictor without an object in a cell that a crowd box touches is not trained.

Shape letters: B images, Y X the grid's rows and columns (the paper's S), P predictors a cell (the
paper's B), K classes, M objects of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detzoo.detector import Detector
from detzoo.nn import Backbone, OneMap
from detzoo.nn.blocks import OutputConv, OutputLinear
from detzoo.nn.darknet import SLOPE, conv_block
from detzoo.nn.stride4 import TopDown
from detzoo.ops import boxes as box_ops
from detzoo.ops.assign import slot_owners
from detzoo.ops.constants import constant
from detzoo.ops.gaussian import cells_in_boxes
from detzoo.ops.select import top_candidates
from detzoo.text import check_choice
from detzoo.types import Candidates, Images, Target, pad_targets

NECKS = ("one_map", "topdown")
HEADS = ("fc", "conv")


class Outputs(NamedTuple):
    boxes: Tensor  # (B, Y, X, P, 4) x, y in the cell; square roots of the image's share of w, h
    confidence: Tensor  # (B, Y, X, P)
    classes: Tensor  # (B, Y, X, K) probabilities, if there is an object
    size: tuple[int, int]  # height and width of the padded input


class Assignment(NamedTuple):
    boxes: Tensor  # (B, Y, X, 4) as in Outputs
    labels: Tensor  # (B, Y, X) int64
    object: Tensor  # (B, Y, X) bool: there is one
    responsible: Tensor  # (B, Y, X, P) bool: the predictor with the highest IoU
    iou: Tensor  # (B, Y, X, P) with the cell's object
    negative: Tensor  # (B, Y, X, P) bool: not responsible, and no crowd box there


class FullyConnected(nn.Module):
    """4096 leaky units that see the whole map, then the grid's answers (section 2.1)."""

    def __init__(self, channels: int, grid: int, width: int, answers: int) -> None:
        super().__init__()
        self.grid = grid
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * grid * grid, width),
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.Dropout(0.5),  # section 2.2
            OutputLinear(width, grid * grid * answers),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, grid, grid) -> (B, answers, grid, grid)."""
        return self.layers(x).unflatten(1, (-1, self.grid, self.grid))


class Convolutional(nn.Sequential):
    """3x3 convolutions, then a 1x1, the same for all cells: (B, C, Y, X) -> (B, answers, Y, X)."""

    def __init__(self, in_channels: int, channels: int, convs: int, answers: int) -> None:
        widths = [in_channels] + [channels] * convs
        layers = [conv_block(a, b, 3) for a, b in pairwise(widths)]
        super().__init__(*layers, OutputConv(widths[-1], answers, 1))


class YOLO(Detector):
    """See the module's text.

    head: `fc`, the paper's, sees the whole image for every cell, but has most of the detector's
    weights, learns each place on its own and forces one number of cells on every input. `conv` has
    few weights, shares them over places and takes any input, but does not see the whole image: a
    cell sees only its receptive field. head_width: of the fully connected layer; channels and
    convs: of the convolutions.

    neck: `one_map`, the paper's, is the backbone's last map; `topdown` merges its maps down to
    cells of `cell` pixels, enlarging them by upsample_by (nn.upsample.UPSAMPLES; nearest). grid:
    cells to a side; a map with another number is averaged to it. None keeps the map's own cells
    (conv only), so their number depends on the input's size.

    answer_scale: factor on the last layer's outputs. These are probabilities and shares without a
    sigmoid, for which 0.1 is a large change, and Adam moves every weight by the learning rate,
    whatever its gradient: at 1 the outputs of 64 channels change by a third in a step. Plain SGD
    needs none.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        num_classes: int,
        neck: str = "one_map",
        cell: int = 8,
        upsample_by: str | None = None,
        head: str = "fc",
        head_width: int = 4096,  # section 2.1
        channels: int = 256,
        convs: int = 4,  # section 2.2
        grid: int | None = 7,  # S, section 2
        predictors: int = 2,  # B, section 2
        coord_weight: float = 5.0,  # section 2.2
        noobj_weight: float = 0.5,  # section 2.2
        answer_scale: float = 1.0,
        score_threshold: float = 0.001,
        top_k: int = 1000,  # candidates an image that reach NMS
        nms_threshold: float = 0.5,
        max_detections: int = 100,
    ) -> None:
        super().__init__(num_classes=num_classes, stride=backbone.strides[-1], backbone=backbone)
        check_choice("detector.neck", neck, NECKS)
        check_choice("detector.head", head, HEADS)
        if head == "fc" and grid is None:
            raise ValueError("detector.grid is None, but a fully connected head has so many cells")
        if answer_scale <= 0:
            raise ValueError(f"detector.answer_scale is {answer_scale}; it is above 0")
        if predictors < 1:
            raise ValueError(f"detector.predictors is {predictors}; a cell needs at least one")
        if neck == "topdown":
            self.neck: nn.Module = TopDown(
                backbone.channels,
                backbone.strides,
                channels=channels,
                stride=cell,
                upsample_by=upsample_by or "nearest",
            )
        else:
            self.neck = OneMap(backbone.channels, backbone.strides)
        answers = predictors * 5 + num_classes
        if head == "fc":
            self.head: nn.Module = FullyConnected(self.neck.channels, grid, head_width, answers)
        else:
            self.head = Convolutional(self.neck.channels, channels, convs, answers)
        last = self.head.layers[-1] if head == "fc" else self.head[-1]
        _start(last, predictors, num_classes, answer_scale)
        self.grid, self.predictors = grid, predictors
        self.coord_weight, self.noobj_weight = coord_weight, noobj_weight
        self.answer_scale = answer_scale
        self.score_threshold, self.top_k = score_threshold, top_k
        self.nms_threshold, self.max_detections = nms_threshold, max_detections

    def network(self, images: Images, targets: Sequence[Target] | None = None) -> Outputs:
        x = self.neck(self.backbone(self.normalise(images)))[0]  # (B, C, h, w)
        if self.grid is not None and x.shape[-2:] != (self.grid, self.grid):
            x = F.adaptive_avg_pool2d(x, self.grid)
        x = self.answer_scale * self.head(x).permute(0, 2, 3, 1)  # (B, Y, X, P * 5 + K)
        boxes, classes = x.split([self.predictors * 5, self.num_classes], -1)
        boxes, confidence = boxes.unflatten(-1, (self.predictors, 5)).split([4, 1], -1)
        return Outputs(boxes, confidence.squeeze(-1), classes, tuple(images.pixels.shape[-2:]))

    @torch.no_grad()
    def assign(self, outputs: Outputs, targets: Sequence[Target]) -> Assignment:
        batch, rows, columns = outputs.classes.shape[:3]
        truth = pad_targets(targets)  # (B, M, ...)
        height, width = outputs.size
        grid, image = (constant(p, truth.boxes.device) for p in ((columns, rows), (width, height)))
        objects = box_ops.to_cxcywh(truth.boxes)  # (B, M, 4)
        place = objects[..., :2] / image * grid  # in cells
        cell = place.floor().clamp(min=0).minimum(grid - 1)
        encoded = torch.cat([place - cell, (objects[..., 2:] / image).sqrt()], -1)
        x, y = cell.long().unbind(-1)

        owner = slot_owners(y * columns + x, truth.single, rows * columns)  # (B, Y * X)
        has = (owner >= 0).view(batch, rows, columns)
        index = owner.clamp(min=0)

        def of_cells(values: Tensor) -> Tensor:
            """(B, M, ...) -> (B, Y, X, ...): the values of every cell's object."""
            chosen = values[torch.arange(batch, device=index.device)[:, None], index]
            return chosen.view(batch, rows, columns, *values.shape[2:])

        boxes = of_cells(truth.boxes)
        iou = box_ops.iou(self.boxes(outputs), boxes[..., None, :]).squeeze(-1)  # (B, Y, X, P)
        best = F.one_hot(iou.argmax(-1), self.predictors).bool()
        responsible = best & has[..., None]

        areas = truth.boxes * truth.crowd[..., None] * (grid / image).repeat(2)  # in cells
        plane = torch.arange(batch, device=areas.device)[:, None].expand_as(truth.crowd)
        crowd = cells_in_boxes(areas.flatten(0, 1), plane.flatten(), batch, (rows, columns))
        negative = ~responsible & ~crowd[..., None]
        wanted, labels = of_cells(encoded), of_cells(truth.labels)
        return Assignment(wanted, labels, has, responsible, iou, negative)

    def losses(self, outputs: Outputs, targets: Sequence[Target]) -> dict[str, Tensor]:
        """Equation 3, its five lines as three: boxes, confidences and classes."""
        truth = self.assign(outputs, targets)
        boxes = (outputs.boxes.float() - truth.boxes[..., None, :]).square().sum(-1)
        confidence = outputs.confidence.float()
        hit = (confidence - truth.iou).square() * truth.responsible
        miss = confidence.square() * truth.negative
        wanted = F.one_hot(truth.labels, self.num_classes)
        classes = (outputs.classes.float() - wanted).square().sum(-1)
        images = len(targets)
        return {
            "box": self.coord_weight * (boxes * truth.responsible).sum() / images,
            "confidence": (hit.sum() + self.noobj_weight * miss.sum()) / images,
            "class": (classes * truth.object).sum() / images,
        }

    def boxes(self, outputs: Outputs) -> Tensor:
        """(B, Y, X, P, 4) xyxy in input pixels."""
        boxes = outputs.boxes.float()
        rows, columns = boxes.shape[1:3]
        height, width = outputs.size
        y, x = torch.meshgrid(
            torch.arange(rows, device=boxes.device),
            torch.arange(columns, device=boxes.device),
            indexing="ij",
        )
        image = constant((width, height), boxes.device)
        cell = image / constant((columns, rows), boxes.device)
        centre = (torch.stack([x, y], -1)[:, :, None] + boxes[..., :2]) * cell
        half = boxes[..., 2:].square() * image / 2
        return torch.cat([centre - half, centre + half], -1)

    def candidates(self, outputs: Outputs, sizes: Sequence[tuple[int, int]]) -> Candidates:
        confidence = outputs.confidence.float().clamp(0, 1)[..., None]
        scores = confidence * outputs.classes.float().clamp(0, 1)[..., None, :]  # equation 1
        scores, index, labels = top_candidates(scores.flatten(1, 3), self.top_k)
        boxes = self.boxes(outputs).flatten(1, 3)  # (B, Y * X * P, 4)
        boxes = boxes.gather(1, index[..., None].expand(-1, -1, 4))
        return Candidates(boxes, scores, labels)


@torch.no_grad()
def _start(
    layer: nn.Linear | nn.Conv2d, predictors: int, num_classes: int, answer_scale: float
) -> None:
    """Let every box begin in the middle of its cell with a quarter of the image's sides, without
    confidence, and all classes equally likely: what a squared error would learn first.
    """
    bias = torch.tensor([0.5, 0.5, 0.5, 0.5, 0.0] * predictors + [1 / num_classes] * num_classes)
    bias = bias / answer_scale
    layer.bias.copy_(bias[:, None].expand(-1, len(layer.bias) // len(bias)).flatten())
