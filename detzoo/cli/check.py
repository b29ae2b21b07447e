"""detzoo check: is this data set sane?"""

from __future__ import annotations

from omegaconf import DictConfig

from detzoo.cli.app import app, show
from detzoo.cli.positional import data_root
from detzoo.config import plain


@app("check", positional=data_root)
def main(config: DictConfig) -> int:
    from detzoo.workflow.check import check

    return show(check(plain(config)))
