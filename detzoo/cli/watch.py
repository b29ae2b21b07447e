"""detzoo watch: progress and curves of runs, while they are trained."""

from __future__ import annotations

from omegaconf import DictConfig

from detzoo.cli.app import app, show
from detzoo.config import plain


@app("watch", positional="runs")
def main(config: DictConfig) -> int:
    from detzoo.workflow.verb import call
    from detzoo.workflow.watch import watch

    return show(call(watch, plain(config)))
