"""The second look at regions: which of them are trained on, their loss, what they become.

R-CNN, Fast R-CNN and Faster R-CNN share every line of it. Shape letters: B images, K classes,
R regions of all images, R_b of one image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from detzoo.ops import boxes as box_ops
from detzoo.ops.assign import match, sample
from detzoo.ops.losses import normaliser, smooth_l1
from detzoo.ops.select import top_candidates
from detzoo.types import Candidates, Images, Target

WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # deltas over their standard deviations, as Fast R-CNN's code


def given(images: Images, most: int) -> list[Tensor]:
    """Per image the first `most` of its proposals. ValueError for images that carry none at all."""
    if images.proposals is None:
        raise ValueError(
            "these images come without proposals (Images.proposals is None), and R-CNN and Fast "
            "R-CNN look nowhere else: detzoo.data.with_proposals adds them to a data set, "
            "Detector.predict computes them by itself"
        )
    return [proposals[:most] for proposals in images.proposals]


@torch.no_grad()
def sample_regions(
    proposals: Sequence[Tensor],
    targets: Sequence[Target],
    *,
    num_classes: int,
    positive: float,
    background: float = 0.0,
    size: int,
    positive_fraction: float,
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Regions to train on: per image (R_b, 4), labels (R,) in [0, K], their objects (R, 4).

    A region is a positive from an IoU of `positive` on and background (K) between `background` and
    that; of each image at most `size` are drawn, `positive_fraction` of them positives. The true
    boxes join the proposals, so that there are positives whatever is proposed.
    """
    rois, labels, boxes = [], [], []
    for found, target in zip(proposals, targets, strict=True):
        regions = torch.cat([found, target.objects[0]])
        matched = match(
            regions, target, positive=positive, negative=positive, background=background
        )
        positives, negatives = sample(matched, size, positive_fraction)
        chosen = torch.cat([positives, negatives])
        rois.append(regions[chosen])
        nothing = torch.full_like(negatives, num_classes)
        labels.append(torch.cat([target.labels[matched[positives]], nothing]))
        boxes.append(torch.cat([target.boxes[matched[positives]], regions[negatives]]))
    return rois, torch.cat(labels), torch.cat(boxes)


def region_losses(
    scores: Tensor,
    deltas: Tensor,
    rois: Sequence[Tensor],
    labels: Tensor,
    boxes: Tensor,
    beta: float,
) -> dict[str, Tensor]:
    """1504.08083, equation 1, lambda 1, both terms over the number of sampled regions.

    scores: (R, K + 1) logits, background last. deltas: (R, K, 4), those of a region's class count.
    The rest as `sample_regions` gives it.
    """
    count = normaliser(len(labels))
    positive = (labels < deltas.shape[1]).nonzero().squeeze(1)
    wanted = box_ops.encode(torch.cat(list(rois))[positive], boxes[positive], WEIGHTS)
    found = deltas[positive, labels[positive]]
    return {
        "class": F.cross_entropy(scores.float(), labels, reduction="sum") / count,
        "box": smooth_l1(found, wanted, beta).sum() / count,
    }


def region_candidates(
    scores: Tensor, deltas: Tensor, rois: Sequence[Tensor], top_k: int
) -> Candidates:
    """Every class of every region is a candidate; the best `top_k` of an image reach NMS.

    scores: (R, K + 1) logits, background last. deltas: (R, K, 4). rois: per image (R_b, 4).
    """
    counts = [len(r) for r in rois]
    regions = pad_sequence(list(rois), batch_first=True)  # (B, P, 4)
    deltas = pad_sequence(deltas.split(counts), batch_first=True)  # (B, P, K, 4)
    scores = scores.float().softmax(1)[:, :-1]
    scores = pad_sequence(scores.split(counts), batch_first=True, padding_value=-1.0)
    scores, index, labels = top_candidates(scores, top_k)  # (B, top_k)
    image = torch.arange(len(counts), device=scores.device)[:, None]
    boxes = box_ops.decode(regions[image, index], deltas[image, index, labels], WEIGHTS)
    return Candidates(boxes, scores, labels)
