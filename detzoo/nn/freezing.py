"""Backbones whose first stages can be kept as they are."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence

from torch import nn


class Freezable(nn.Module, abc.ABC):
    """A backbone with stages: 0 is the stem, each later one follows the one before.

    frozen_stages: the last of those that are not trained; None: all are. The frozen ones' weights
    require no gradient, so that the backward pass ends there, and their norms and dropout stay in
    eval mode even after `train`. pretrained: whether the weights are of a training.
    """

    frozen_stages: int | None = None
    pretrained: bool = False

    @property
    @abc.abstractmethod
    def stages(self) -> Sequence[Sequence[nn.Module]]:
        """The modules of every stage, in the order in which they are computed."""

    def freeze(self, last: int | None) -> None:
        """Freeze the stages 0..last. Raises ValueError for a stage that is not there."""
        count = len(self.stages) if last is not None else 0
        if last is not None and not 0 <= last < count:
            raise ValueError(
                f"backbone.frozen_stages is {last}; this backbone has the stages 0 (its stem) to "
                f"{count - 1}"
            )
        self.frozen_stages = last
        for module in self.frozen_modules:
            module.requires_grad_(False)
            module.eval()

    @property
    def frozen_modules(self) -> list[nn.Module]:
        """Those of the frozen stages."""
        if self.frozen_stages is None:
            return []
        return [module for stage in self.stages[: self.frozen_stages + 1] for module in stage]

    def train(self, mode: bool = True) -> nn.Module:
        super().train(mode)
        for module in self.frozen_modules:
            module.eval()
        return self


def between_pools(layers: Iterable[nn.Module]) -> list[list[nn.Module]]:
    """The stages of a plain network: every max pool ends one."""
    found: list[list[nn.Module]] = [[]]
    for layer in layers:
        found[-1].append(layer)
        if isinstance(layer, nn.MaxPool2d):
            found.append([])
    return [stage for stage in found if stage]
