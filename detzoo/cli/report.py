"""detzoo report: the page and the tables of a set of runs."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from detzoo.cli.app import app, command
from detzoo.config import plain


@app("report")
def main(config: DictConfig) -> None:
    from detzoo.cli.select import select
    from detzoo.report import build, text_table

    wanted = plain(config)
    paths = select(wanted["runs"])
    page = build(paths, Path(wanted["out"]), title=str(wanted["title"]), command=command())
    print(text_table(paths))
    print(page)
