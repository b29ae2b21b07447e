"""detzoo compare: the difference between two detectors, and where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from detzoo.cli.app import app
from detzoo.cli.positional import apart
from detzoo.cli.values import quoted
from detzoo.config import plain


def placed(arguments: Sequence[str]) -> list[str]:
    """`detzoo compare A B` is first=A second=B."""
    named, given = apart(arguments)
    free = [
        side
        for side in ("first", "second")
        if not any(text.lstrip("+").startswith(f"{side}=") for text in given)
    ]
    if len(named) > len(free):
        raise ValueError(
            f"compare takes two detectors, not {', '.join(named)}; several seeds of one are a "
            "pattern or first=[A,B]"
        )
    return [*given, *(f"{side}={quoted(text)}" for side, text in zip(free, named, strict=False))]


@app("compare", positional=placed)
def main(config: DictConfig) -> None:
    from detzoo.files import check_writable, write_json
    from detzoo.report.analysis.pairwise import text, versus

    wanted = plain(config)
    if wanted["out"]:
        check_writable(wanted["out"])
    keys = ("seed", "flips", "swings")
    found = versus(
        *(_paths(wanted[side], side) for side in ("first", "second")),
        n=wanted["resamples"],
        **{key: wanted[key] for key in keys},
    )
    if wanted["out"]:
        write_json(Path(wanted["out"]), asdict(found) | {"verdict": found.verdict})
    print(text(found), end="")


def _paths(named: Any, side: str) -> list[Path]:
    """A result file as it is, anything else as the run directories that it names."""
    from detzoo.workflow.select import select

    if not named:
        raise ValueError(f"no {side} detector: detzoo compare A B takes two run directories")
    several = [named] if isinstance(named, str) else list(named)
    files = [Path(name) for name in several if Path(name).is_file()]
    rest = [name for name in several if not Path(name).is_file()]
    return files + (select(rest) if rest else [])
