"""detzoo propose: external proposals of a data set, and how many objects they cover."""

from __future__ import annotations

from omegaconf import DictConfig

from detzoo.cli.app import app, show
from detzoo.config import plain


@app("propose")
def main(config: DictConfig) -> int:
    from detzoo.workflow.propose import propose

    return show(propose(plain(config)))
