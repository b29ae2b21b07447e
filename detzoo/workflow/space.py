"""The settings that a search may vary, declared once for every detector."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detzoo.config import plain
from detzoo.workflow.settings import Settings, check_buildable

DECADE = 10.0
DIGITS = 4  # significant ones, of a value in a range
LR = "recipe.lr"
# The parts whose settings may vary; the pixels, the data and the clock are equal for all.
PARTS = ("recipe", "detector", "augment")
EQUAL = ("recipe.images_seen", "recipe.minutes", "recipe.val_points", "detector.num_classes")

Value = float | int | str | bool | None


@dataclass(frozen=True)
class Range:
    """Log-uniform from low to high; whole numbers where both are."""

    low: float
    high: float

    def at(self, share: float) -> float | int:
        """The value at a share in [0, 1] of the range: 0.5 is its geometric middle."""
        return self.near(math.exp(math.log(self.low) + share * math.log(self.high / self.low)))

    def near(self, value: float) -> float | int:
        """The value in a few digits, which is all that a person reads, and in the range."""
        value = round(value) if self.whole else float(f"{value:.{DIGITS}g}")
        return min(max(value, self.low), self.high)

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def extremes(self) -> Sequence[Value]:
        return [self.low, self.high]

    def __str__(self) -> str:
        return f"log-uniform from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[Value, ...]

    def at(self, share: float) -> Value:
        """The value at a share in [0, 1]."""
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]

    @property
    def extremes(self) -> Sequence[Value]:
        return list(self.values)

    def __str__(self) -> str:
        return f"one of {', '.join(map(str, self.values))}"


Space = dict[str, "Range | Choice"]


def space_of(settings: Settings, listed: Mapping[str, Any]) -> Space:
    """The varied settings: the learning rate, a decade to either side of the recipe's, and what the
    user `listed`: setting -> [low, high], which is a log-uniform range, or a list of choices.

    Every value at an end or in a list is tried on the settings, which builds the detector without
    memory. Raises ValueError for a setting that is not there and for a value that it does not take.
    """
    space: Space = {LR: rates(settings)}
    for name, values in plain(listed).items():
        name = LR if name == "lr" else str(name)
        space[name] = _dimension(name, values)
        _check_name(name, settings)
    for name, dimension in space.items():
        for value in dimension.extremes:
            try:
                check_buildable(with_values(settings, {name: value}))
            except (ValueError, ImportError) as error:
                label = settings["label"]
                raise ValueError(f"tune.space: {name}={value} of {label}: {error}") from error
    return space


def rates(settings: Settings) -> Range:
    """The learning rates that are searched where the user lists none."""
    low, high = (settings["recipe"]["lr"] * factor for factor in (1 / DECADE, DECADE))
    return Range(float(f"{low:.{DIGITS}g}"), float(f"{high:.{DIGITS}g}"))


def _dimension(name: str, values: Any) -> Range | Choice:
    """Parse a list. Raises ValueError with one sentence."""
    where = f"tune.space: {name} is {values!r:.200}"
    if not isinstance(values, list | tuple) or len(values) < 2:
        raise ValueError(f"{where}; it takes [low, high], or a list of two choices or more")
    if not all(isinstance(value, Value) for value in values):
        raise ValueError(f"{where}; a choice is a number, a text, true, false or null")
    if any(isinstance(value, float) and not math.isfinite(value) for value in values):
        raise ValueError(f"{where}; its numbers must be finite")
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(values) == 2 and len(numbers) == 2:
        low, high = numbers
        if not 0 < low < high:
            raise ValueError(
                f"{where}; two numbers are a log-uniform range, from a low one above 0 to a higher "
                "one; three or more are choices"
            )
        return Range(low, high)
    if len({(type(value), value) for value in values}) < len(values):
        raise ValueError(f"{where}; a choice stands there twice")
    return Choice(tuple(values))


def _check_name(name: str, settings: Settings) -> None:
    part, _, rest = name.partition(".")
    if part not in PARTS or not rest:
        raise ValueError(
            f"tune.space: {name} cannot be searched; a setting of {', '.join(PARTS)} can, such as "
            "recipe.weight_decay. Data, pixels and runtime are equal for all trials"
        )
    if name in EQUAL:
        raise ValueError(f"tune.space: {name} cannot be searched: it is equal for all trials")
    node: Any = settings[part]
    for key in rest.split(".")[:-1]:
        node = node.get(key) if isinstance(node, dict) else None
    if not isinstance(node, dict):
        raise ValueError(f"tune.space: {settings['label']} has no {name}")


def with_values(settings: Settings, values: Mapping[str, Value]) -> Settings:
    """A copy of the settings with these values: {"recipe.lr": 0.01}."""
    changed = copy.deepcopy(settings)
    for name, value in values.items():
        *parents, leaf = name.split(".")
        node = changed
        for key in parents:
            node = node[key]
        node[leaf] = value
    return changed


def value_of(settings: Settings, name: str) -> Value:
    """The value in the settings; None where a constructor's default applies."""
    node: Any = settings
    for key in name.split("."):
        node = node.get(key) if isinstance(node, dict) else None
    return node


def described(space: Space) -> dict[str, Any]:
    """The space as plain JSON, as `tune.json` has it: two numbers are a range."""
    return {name: list(dimension.extremes) for name, dimension in space.items()}
