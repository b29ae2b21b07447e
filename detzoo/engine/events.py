"""TensorBoard's event files of a training: the content of log.csv and curve.csv, by images seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

FOLDER = "tensorboard"  # of a run
PATTERN = "events.out.tfevents.*"
NO_SCALAR = ("step", "images_seen", "seconds")


def check_installed() -> None:
    """Raise ImportError that names the extra where TensorBoard is not installed."""
    try:
        import tensorboard  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "runtime.tensorboard=true needs TensorBoard: pip install 'detzoo[tensorboard]'"
        ) from error


class Events:
    """Event files in run_dir/tensorboard, rewritten from the rows that a training has so far.

    So they hold what log.csv and curve.csv hold, however often the training was cut off, and all of
    it where the setting came later. A TensorBoard that looks meanwhile forgets what it
    has. steps, points: rows of the two files, with numbers or with their text.
    """

    def __init__(
        self, run_dir: Path, steps: Sequence[Mapping[str, Any]], points: Sequence[Mapping[str, Any]]
    ) -> None:
        check_installed()
        from torch.utils.tensorboard import SummaryWriter

        folder = run_dir / FOLDER
        for old in folder.glob(PATTERN):
            old.unlink()
        self.writer = SummaryWriter(str(folder), purge_step=0)
        for row in steps:
            self.add_step(row)
        for row in points:
            self.add_point(row)

    def add_step(self, row: Mapping[str, Any]) -> None:
        """A row of log.csv: loss, its parts, learning rate, images a second."""
        self._add("train", row)

    def add_point(self, row: Mapping[str, Any]) -> None:
        """A row of curve.csv: AP and AP50 on val."""
        self._add("val", row)

    def _add(self, part: str, row: Mapping[str, Any]) -> None:
        seen = int(row["images_seen"])
        for name, value in row.items():
            number = math.nan
            with suppress(TypeError, ValueError):  # n/a is None or an empty field
                number = float(value)
            if name not in NO_SCALAR and not math.isnan(number):
                self.writer.add_scalar(f"{part}/{name}", number, seen)

    def flush(self) -> None:
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()
