"""detzoo list: every detector, peer and backbone, its published weights and their terms."""

from __future__ import annotations

from omegaconf import DictConfig

from detzoo.cli.app import app, show
from detzoo.config import plain


@app("list")
def main(config: DictConfig) -> int:
    from detzoo.workflow.catalogue import catalogue
    from detzoo.workflow.verb import call

    settings = plain(config)
    return show(call(catalogue, settings, form=settings["format"]))
