"""The training recipe: everything that must be equal for two rows to be compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from typing import Any

import torch
from timm.optim import create_optimizer_v2, list_optimizers
from timm.utils import ModelEmaV3
from torch import nn

SCHEDULES = ("cosine", "steps", "constant")
ENDLESS = 2**40  # images that no training sees
FUSED = ("adam", "adamw", "momentum", "sgd")  # those of torch's own that have a fused form


@dataclass(frozen=True)
class Recipe:
    """A training recipe in images seen, not in steps or epochs, so that budgets can be compared.

    images_seen: the budget. lr: the peak of the learning rate, reached by linear warm-up over the
    share `warmup` of the budget; `schedule` changes it from there: `cosine` to `final_lr` times the
    peak, `steps` to a tenth of it at each of `milestones`, which are shares of the budget.
    optimizer: a name in timm.optim ("adamw", "sgd" with Nesterov momentum, "momentum" without).
    backbone_lr, head_lr: factors on the rate of the detector's backbone and of its head.
    weight_decay: applies to no bias and no norm layer. clip_norm: the largest norm of the whole
    gradient, or None. ema_decay: of the averaged weights that are scored, or None for no average;
    it warms up, as 1 - step^-ema_power, so that a short training averages over its end only.
    val_points: how often, evenly spaced, a training is scored on the validation split. patience:
    the training ends after this number of points in a row without a higher AP, with the last
    weights, not the best ones; None: never. minutes: the budget instead of images_seen, in minutes
    of training on this machine, without validation; all shares are then of this time.
    """

    images_seen: int
    lr: float
    batch_size: int = 16
    optimizer: str = "adamw"
    weight_decay: float = 0.05
    momentum: float = 0.9
    warmup: float = 0.1
    schedule: str = "cosine"
    milestones: Sequence[float] = ()
    final_lr: float = 0.01
    clip_norm: float | None = None
    ema_decay: float | None = None
    ema_power: float = 2 / 3
    val_points: int = 5
    patience: int | None = None
    backbone_lr: float = 1.0
    head_lr: float = 1.0
    minutes: float | None = None

    def __post_init__(self) -> None:
        for name in ("images_seen", "batch_size", "lr", "clip_norm", "minutes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"recipe.{name} is {value}; it must be above 0")
        for name in (
            "weight_decay",
            "momentum",
            "warmup",
            "final_lr",
            "val_points",
            "backbone_lr",
            "head_lr",
        ):
            value = getattr(self, name)
            if value < 0:
                raise ValueError(f"recipe.{name} is {value}; it must not be negative")
        if self.patience is not None and not 1 <= self.patience < self.val_points:
            raise ValueError(
                f"recipe.patience is {self.patience} points of recipe.val_points="
                f"{self.val_points}; it must be from 1 to below that"
            )
        if self.optimizer not in (known := list_optimizers()):
            near = get_close_matches(str(self.optimizer), known, 3) or ["adamw", "sgd", "momentum"]
            raise ValueError(
                f"recipe.optimizer is {self.optimizer!r}, which timm.optim does not know; there is "
                f"{', '.join(near)}"
            )
        if self.schedule not in SCHEDULES:
            raise ValueError(f"recipe.schedule is {self.schedule!r}; known: {', '.join(SCHEDULES)}")
        ordered = [0.0, *self.milestones, 1.0] == sorted([0.0, *self.milestones, 1.0])
        if (self.schedule == "steps") != bool(self.milestones) or not ordered:
            raise ValueError(
                f"recipe.milestones is {list(self.milestones)} under recipe.schedule="
                f"{self.schedule}; schedule=steps needs shares of images_seen in rising order, the "
                "others need none"
            )
        if self.warmup >= 1:
            raise ValueError(
                f"recipe.warmup is {self.warmup}; it is a share of images_seen and must be below 1"
            )
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"recipe.ema_decay is {self.ema_decay}; it must be within (0, 1)")

    @property
    def most_images(self) -> int:
        """The largest number of images that a training may see."""
        return self.images_seen if self.minutes is None else ENDLESS

    def lr_at(self, images: int, seconds: float = 0.0) -> float:
        """The learning rate of the update that ends after `images` images; depends on nothing else,
        or where the budget is minutes on the `seconds` before it alone.

        A straight line up to the peak, then half a cosine down to lr * final_lr, or steps.
        """
        budget, spent = self.images_seen, images
        if self.minutes is not None:
            budget, spent = 60 * self.minutes, seconds
        warmup = self.warmup * budget
        if spent < warmup:
            return self.lr * spent / warmup
        if self.schedule == "constant":
            return self.lr
        if self.schedule == "steps":
            return self.lr * 0.1 ** sum(spent > m * budget for m in self.milestones)
        done = min(1.0, (spent - warmup) / (budget - warmup))
        cosine = (1 + math.cos(math.pi * done)) / 2
        return self.lr * (self.final_lr + (1 - self.final_lr) * cosine)

    def make_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """timm's optimiser of that name, fused where torch has it (a quarter faster on a CPU)."""
        device = next(model.parameters()).device.type
        fused = self.optimizer in FUSED and device in ("cpu", "cuda")
        return create_optimizer_v2(
            self._groups(model),
            opt=self.optimizer,
            lr=self.lr,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            **({"fused": True} if fused else {}),
        )

    def _groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Parameter groups by weight decay and by the factor on the learning rate, `lr_scale`."""
        scales = {"backbone": self.backbone_lr, "head": self.head_lr}
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                alone = parameter.ndim <= 1 or name.endswith(".bias")  # norms and biases
                key = (0.0 if alone else self.weight_decay, scales.get(name.split(".")[0], 1.0))
                groups.setdefault(key, []).append(parameter)
        ordered = sorted(groups.items(), key=lambda item: item[0])  # as checkpoints have them
        return [
            {"params": parameters, "weight_decay": decay, "lr_scale": scale}
            for (decay, scale), parameters in ordered
        ]

    def make_ema(self, model: nn.Module) -> ModelEmaV3 | None:
        """timm's average of the weights and of the norm layers' statistics; None without decay."""
        if self.ema_decay is None:
            return None
        return ModelEmaV3(model, decay=self.ema_decay, use_warmup=True, warmup_power=self.ema_power)

    def gives_up(self, aps: Sequence[float]) -> bool:
        """Whether early stopping ends the training; aps: of its validations so far, NaN for n/a."""
        if self.patience is None or len(aps) <= self.patience:
            return False
        known = [-math.inf if math.isnan(ap) else ap for ap in aps]
        return max(known[-self.patience :]) <= max(known[: -self.patience])

    def val_steps(self, steps: int) -> set[int]:
        """After which of 1..`steps` a training is scored: evenly spaced, and after the last."""
        return {math.ceil(steps * k / self.val_points) for k in range(1, self.val_points + 1)}


def add_missing_keys(state: dict[str, Any]) -> dict[str, Any]:
    """The state of an older version, with the keys that it did not write yet: one process, and the
    recipe's defaults."""
    defaults = {f.name: f.default for f in fields(Recipe) if f.default is not MISSING}
    return {"processes": 1, **state, "recipe": {**defaults, **state["recipe"]}}
