"""detzoo speed: time runs against one another."""

from __future__ import annotations

from omegaconf import DictConfig

from detzoo.cli.app import app
from detzoo.config import plain


@app("speed")
def main(config: DictConfig) -> int:
    from detzoo.cli.select import select
    from detzoo.cli.timing import time_runs
    from detzoo.report import text_table

    wanted = plain(config)
    keys = ("seconds", "rounds", "max_batch", "device", "precision", "threads")
    paths = select(wanted["runs"])
    failed = time_runs(paths, **{key: wanted[key] for key in keys})
    print(text_table(paths))
    return 1 if failed else 0
