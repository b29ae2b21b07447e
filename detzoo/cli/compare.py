"""detzoo compare: the difference between two detectors, and where it comes from."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig

from detzoo.cli.app import app, show
from detzoo.cli.positional import split_paths
from detzoo.cli.values import quote
from detzoo.config import plain


def settings_from(arguments: Sequence[str]) -> list[str]:
    """`detzoo compare A B` is first=A second=B."""
    paths, given = split_paths(arguments)
    free = [
        side
        for side in ("first", "second")
        if not any(text.lstrip("+").startswith(f"{side}=") for text in given)
    ]
    if len(paths) > len(free):
        raise ValueError(
            f"compare takes two detectors, not {', '.join(paths)}; several seeds of one are a "
            "pattern or first=[A,B]"
        )
    return [*given, *(f"{side}={quote(text)}" for side, text in zip(free, paths, strict=False))]


@app("compare", positional=settings_from)
def main(config: DictConfig) -> int:
    from detzoo.workflow.compare import compare
    from detzoo.workflow.verb import call

    return show(call(compare, plain(config)))
