"""detzoo oracle: how good would a detector be if a part of its predictions were true?"""

from __future__ import annotations

from omegaconf import DictConfig

from detzoo.cli.app import app, show
from detzoo.config import plain


@app("oracle", positional="runs")
def main(config: DictConfig) -> int:
    from detzoo.workflow.oracle import oracle
    from detzoo.workflow.verb import call

    return show(call(oracle, plain(config)))
