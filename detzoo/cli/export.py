"""detzoo export: a trained run's network as a file that ONNX Runtime or OpenVINO computes."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig

from detzoo.cli.app import app, show
from detzoo.cli.positional import split_paths
from detzoo.cli.values import quote
from detzoo.config import plain


def settings_from(arguments: Sequence[str]) -> list[str]:
    """`detzoo export RUN FILE` is run=RUN to=FILE."""
    named, given = split_paths(arguments)
    free = [key for key in ("run", "to") if not any(text.startswith(f"{key}=") for text in given)]
    if len(named) > len(free):
        raise ValueError(f"export takes one run and one file, not {', '.join(named)}")
    return [*given, *(f"{key}={quote(text)}" for key, text in zip(free, named, strict=False))]


@app("export", positional=settings_from)
def main(config: DictConfig) -> int:
    from detzoo.workflow.export import export
    from detzoo.workflow.verb import call

    settings = plain(config)
    if not settings["run"]:
        raise ValueError("which detector? name a trained run: run=runs/default/centernet-0a1b2c3d")
    return show(call(export, settings))
