"""detzoo predict: objects in images of the user's own."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig

from detzoo.cli.app import app, show
from detzoo.cli.positional import is_run, list_setting, split_paths
from detzoo.cli.values import quote
from detzoo.config import plain


def settings_from(arguments: Sequence[str]) -> list[str]:
    """`detzoo predict RUN IMAGES...` is run=RUN images=[IMAGES,...]."""
    paths, given = split_paths(arguments)
    if paths and not any(text.lstrip("+").startswith("run=") for text in given):
        run = next((text for text in paths if is_run(text)), paths[0])
        paths.remove(run)
        given.append(f"run={quote(run)}")
    return list_setting("images", paths, given)


@app("predict", positional=settings_from)
def main(config: DictConfig) -> int:
    from detzoo.workflow.predict import predict
    from detzoo.workflow.verb import call

    wanted = plain(config)
    if not wanted["run"]:
        raise ValueError("which detector? name a trained run: run=runs/default/centernet-0a1b2c3d")
    return show(call(predict, wanted))
