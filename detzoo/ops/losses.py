"""Losses of logits, unreduced, in float32 whatever the precision of the network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, distributed


def sigmoid_focal(logits: Tensor, targets: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """FL = -alpha_t (1 - p_t)^gamma log(p_t), elementwise (1708.02002, equation 5).

    targets: of the logits' shape, in {0, 1}. alpha weighs the ones, 1 - alpha the zeros; a negative
    alpha weighs nothing. gamma 0 is (balanced) cross-entropy.
    """
    targets = targets.float()
    z = logits.float() * (2 * targets - 1)  # p_t = sigmoid(z)
    loss = -F.logsigmoid(z)
    if gamma > 0:
        # (1 - p_t)^gamma by its logarithm: the power's own derivative is infinite at p_t = 1
        loss = loss * torch.exp(gamma * F.logsigmoid(-z))
    if alpha >= 0:
        loss = loss * (alpha * targets + (1 - alpha) * (1 - targets))
    return loss


def hard_negatives(loss: Tensor, positive: Tensor, negative: Tensor, ratio: float) -> Tensor:
    """(B, N) bool: in every image the `negative` of largest loss, `ratio` for each `positive`.

    All three are (B, N), the latter two bool (SSD, 1512.02325, section 2.2). An image without a
    positive has none.
    """
    order = loss.detach().masked_fill(~negative, -torch.inf).argsort(1, descending=True)
    return negative & (order.argsort(1) < ratio * positive.sum(1, keepdim=True))


def penalty_reduced_focal(logits: Tensor, targets: Tensor, *, alpha: float, beta: float) -> Tensor:
    """Elementwise, of a heatmap whose peaks are 1 (1808.01244, equation 1; 1904.07850, equation 1).

    -(1 - p)^alpha log(p) where the target is 1; elsewhere -(1 - target)^beta p^alpha log(1 - p), so
    that what is near a peak costs little. By logits, so that no logarithm meets a 0.
    """
    logits = logits.float()
    rest = (1 - targets) ** beta * logits.sigmoid() ** alpha * F.logsigmoid(-logits)
    at = (targets == 1).nonzero(as_tuple=True)  # a handful of places
    peaks = logits[at]
    return -rest.index_put(at, (1 - peaks.sigmoid()) ** alpha * F.logsigmoid(peaks))


def normaliser(count: Tensor | int) -> Tensor:
    """What a loss is divided by that is summed over `count` objects: a scalar, at least 1.

    Where a batch is spread over W processes, count is this process's part of it. The loss of the
    whole batch is sum_r S_r / max(1, sum_r N_r), while DDP averages gradients: (1/W) sum_r of each
    process's loss. So that the two are the same, the sums S_r are divided by max(1, sum_r N_r) / W.
    Every process must come here equally often.
    """
    count = torch.as_tensor(count)
    if not (distributed.is_available() and distributed.is_initialized()):
        return count.clamp(min=1)
    total = count.detach().to(torch.float32, copy=True)
    distributed.all_reduce(total)
    return total.clamp(min=1) / distributed.get_world_size()


def smooth_l1(prediction: Tensor, target: Tensor, beta: float) -> Tensor:
    """0.5 d^2 / beta below beta, |d| - 0.5 beta above; beta 0 is L1. Elementwise."""
    if beta == 0:
        return F.l1_loss(prediction.float(), target.float(), reduction="none")
    return F.smooth_l1_loss(prediction.float(), target.float(), beta=beta, reduction="none")
