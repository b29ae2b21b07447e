"""detzoo explain: maps that explain detections, for the same objects."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig

from detzoo.cli.app import app, command, show
from detzoo.cli.positional import is_run, list_setting, split_paths
from detzoo.config import plain


def settings_from(arguments: Sequence[str]) -> list[str]:
    """`detzoo explain RUNS... IMAGES...` is runs=[RUNS,...] images=[IMAGES,...]."""
    paths, given = split_paths(arguments)
    if any(text.lstrip("+").startswith("runs=") for text in given):
        return list_setting("images", paths, given)
    runs = [text for text in paths if is_run(text)] or paths[:1]
    images = [text for text in paths if text not in runs]
    return list_setting("images", images, list_setting("runs", runs, given))


@app("explain", positional=settings_from)
def main(config: DictConfig) -> int:
    from detzoo.workflow.explain import explain
    from detzoo.workflow.verb import call

    wanted = plain(config)
    if not wanted["runs"]:
        raise ValueError("which detectors? name trained runs: runs=runs/mine")
    return show(call(explain, wanted, command=command()))
