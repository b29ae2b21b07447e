"""detzoo pool: the folds of a small data set as one run."""

from __future__ import annotations

from omegaconf import DictConfig

from detzoo.cli.app import app, show
from detzoo.config import plain


@app("pool", positional="runs")
def main(config: DictConfig) -> int:
    from detzoo.workflow.pool import pool
    from detzoo.workflow.verb import call

    return show(call(pool, plain(config)))
