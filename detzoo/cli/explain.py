"""detzoo explain: why detectors said so, for the same objects."""

from __future__ import annotations

from omegaconf import DictConfig

from detzoo.cli.app import app, command, show
from detzoo.config import plain


@app("explain", positional="runs")
def main(config: DictConfig) -> int:
    from detzoo.workflow.explain import explain
    from detzoo.workflow.verb import call

    wanted = plain(config)
    if not wanted["runs"]:
        raise ValueError("which detectors? name trained runs: runs=runs/mine")
    return show(call(explain, wanted, command=command()))
