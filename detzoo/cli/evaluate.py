"""detzoo evaluate: score trained runs."""

from __future__ import annotations

from omegaconf import DictConfig

from detzoo.cli.app import app, show
from detzoo.config import plain


@app("evaluate", positional="runs")
def main(config: DictConfig) -> int:
    from detzoo.workflow.evaluate import evaluate
    from detzoo.workflow.verb import call

    return show(call(evaluate, plain(config)))
