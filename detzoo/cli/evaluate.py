"""detzoo evaluate: score trained runs."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig

from detzoo.cli.app import app, show
from detzoo.config import plain


def config_name(arguments: Sequence[str]) -> str:
    """conf/as_published.yaml has the settings of a training too, which describe the model."""
    given = {text.lstrip("+") for text in arguments}
    return "as_published" if "train=none" in given else "evaluate"


def explain_missing(key: str) -> str | None:
    """Why a training's setting is not available here; None for another setting."""
    from detzoo.cli.refusals import explain_untrained

    return explain_untrained(key, "as_published", "evaluate scores", "train=none")


@app("evaluate", positional="runs", config_name=config_name, explain_missing=explain_missing)
def main(config: DictConfig) -> int:
    from detzoo.workflow.evaluate import evaluate
    from detzoo.workflow.published import published_run
    from detzoo.workflow.verb import call

    settings = plain(config)
    if settings["train"] is None:
        return show(call(evaluate, settings))
    if settings["train"] != "none":
        raise ValueError(f"train is {settings['train']!r}; it must be none or left out")
    return show(call(evaluate, settings, runs=[published_run(settings)], data_root=None))
