"""detzoo train: one detector into one run directory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from detzoo.cli.app import app
from detzoo.cli.positional import data_root
from detzoo.config import plain


@app("train", positional=data_root)
def main(config: DictConfig) -> None:
    from detzoo.cli import sweep
    from detzoo.workflow.devices import reserved_gpu
    from detzoo.workflow.settings import trained
    from detzoo.workflow.train import train

    @contextmanager
    def in_sweep(run: dict[str, Any], path: Path) -> Iterator[None]:
        """Register this run for the sweep's other runs, and reserve its GPU."""
        total = run["recipe"]["images_seen"]
        sweep.record(config, path=str(path.resolve()), total=total, before=trained(path))
        with reserved_gpu(run["runtime"]["device"]):
            yield

    settings = plain(config)
    if config.get("journal"):
        train(settings, before=in_sweep)
    else:
        train(settings)
