"""The budget of a training, in images or minutes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from detzoo.engine.recipe import Recipe


@dataclass(frozen=True)
class Budget:
    """The budget of a training: `steps` steps, or recipe.minutes where that is not None."""

    recipe: Recipe
    steps: int

    @property
    def seconds(self) -> float | None:
        """None where it is images."""
        return None if self.recipe.minutes is None else 60 * self.recipe.minutes

    @property
    def total(self) -> tuple[int, str]:
        """The budget and its unit."""
        if self.seconds is not None:
            return round(self.seconds), "s"
        return self.steps * self.recipe.batch_size, "images"

    def spent(self, images_seen: int, seconds: float) -> int:
        """The part of the budget that is spent, in its unit."""
        return images_seen if self.seconds is None else int(seconds)

    def is_over(self, step: int, seconds: float) -> bool:
        return step == self.steps or (self.seconds is not None and seconds >= self.seconds)

    def scored_steps(self) -> set[int]:
        """The steps after which a training is scored; unknown for a budget in minutes."""
        return self.recipe.val_steps(self.steps) if self.seconds is None else set()

    def is_scored(self, step: int, seconds: float, curve: Sequence[dict[str, Any]]) -> bool:
        """Whether a point of the `curve` is due: after one of `scored_steps`, or of a budget in
        minutes when the next of val_points equal parts of it is over."""
        if self.seconds is None or not self.recipe.val_points:
            return step in self.scored_steps()
        before = float(curve[-1]["seconds"]) if curve else 0.0
        part = self.seconds / self.recipe.val_points
        return self.is_over(step, seconds) or seconds // part > before // part

    def describe(self, images_seen: int, seconds: float) -> str:
        """How much of it is spent: 400 of 3,000 images."""
        if self.recipe.minutes is not None:
            return f"{seconds / 60:.1f} of {self.recipe.minutes:g} minutes"
        return f"{images_seen:,} of {self.steps * self.recipe.batch_size:,} images"
