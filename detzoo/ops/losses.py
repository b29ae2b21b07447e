"""Losses of logits, unreduced, in float32 for any precision of the network."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, distributed

from detzoo.ops import fast


def sigmoid_focal(logits: Tensor, targets: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """FL = -alpha_t (1 - p_t)^gamma log(p_t), elementwise (1708.02002, equation 5).

    targets: of the logits' shape, in {0, 1}. alpha weights the ones, 1 - alpha the zeros; a
    negative alpha weighs nothing. gamma 0 is (balanced) cross-entropy.
    """
    if alpha < 0:
        return _Focal.apply(logits, targets, gamma, torch.ones_like)
    return _Focal.apply(logits, targets, gamma, lambda t: alpha * t + (1 - alpha) * (1 - t))


def penalty_reduced_focal(logits: Tensor, targets: Tensor, *, alpha: float, beta: float) -> Tensor:
    """Elementwise, of a heatmap whose peaks are 1 (1808.01244, equation 1; 1904.07850, equation 1).

    -(1 - p)^alpha log(p) where the target is 1; elsewhere -(1 - target)^beta p^alpha log(1 - p), so
    that cells near a peak cost little.
    """
    return _Focal.apply(logits, targets, alpha, lambda t: (1 - t) ** beta + (t == 1))


class _Focal(torch.autograd.Function):
    """-weigh(target) (1 - p_t)^gamma log(p_t), p_t being p where the target is 1 and else 1 - p.

    With its gradient (1708.02002, appendix B) at once, a chunk at a time: for millions of logits
    each intermediate result costs. By logits, so that no logarithm meets a 0.
    """

    @staticmethod
    def forward(
        ctx, logits: Tensor, targets: Tensor, gamma: float, weigh: Callable[[Tensor], Tensor]
    ) -> Tensor:
        loss = torch.empty(logits.shape, dtype=torch.float32, device=logits.device)
        slope = torch.empty_like(loss)
        flat = (x.reshape(-1) for x in (logits, targets, loss, slope))
        chunks = (x.split(len(x) if x.is_cuda else fast.CHUNK) for x in flat)
        for x, target, its_loss, its_slope in zip(*chunks, strict=True):
            target = target.float()
            sign = torch.where(target == 1, 1.0, -1.0)
            z = x.float() * sign  # p_t = sigmoid(z)
            surprise, rest = fast.softplus(-z), torch.sigmoid(-z)  # -log(p_t) and 1 - p_t
            weight = rest**gamma * weigh(target)
            torch.mul(weight, surprise, out=its_loss)
            # by z, times -sign: without rest^(gamma - 1), which may be infinite at p_t = 1
            steep = surprise.mul_(gamma * (1 - rest)).add_(rest)
            torch.mul(weight.mul_(-sign), steep, out=its_slope)
        ctx.save_for_backward(slope)
        ctx.dtype = logits.dtype
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (slope,) = ctx.saved_tensors
        return (slope * gradient).to(ctx.dtype), None, None, None


def hard_negatives(loss: Tensor, positive: Tensor, negative: Tensor, ratio: float) -> Tensor:
    """(B, N) bool: in every image the `negative` of largest loss, `ratio` for each `positive`.

    All three are (B, N), the latter two bool (SSD, 1512.02325, section 2.2). An image without a
    positive has none.
    """
    order = loss.detach().masked_fill(~negative, -torch.inf).argsort(1, descending=True)
    return negative & (order.argsort(1) < ratio * positive.sum(1, keepdim=True))


def normaliser(count: Tensor | int) -> Tensor:
    """The divisor of a loss that is summed over `count` objects: a scalar, at least 1.

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
