"""Two detectors on the same images: the difference, its significance, and its origin."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from detzoo.files import check_writable, write_json
from detzoo.report.analysis import pairwise
from detzoo.text import escaped
from detzoo.workflow.select import select
from detzoo.workflow.verb import Result, takes_settings


@dataclass(frozen=True, repr=False)
class Comparison(Result):
    """The difference of two detectors, with intervals and p-values. found: all that was computed;
    its verdict is one sentence."""

    found: pairwise.PairwiseResult

    @property
    def frame(self) -> pd.DataFrame:
        """A row for each number: its object and name, both values, the difference with its
        interval."""
        rows = [
            {"of": of, **asdict(row)}
            for of in ("ap", "sizes", "classes", "errors")
            for row in getattr(self.found, of)
        ]
        return pd.DataFrame(rows, columns=["of", *pairwise.Row.__dataclass_fields__])

    def text(self) -> str:
        return pairwise.format_text(self.found)

    def html(self) -> str:
        return f"<p>{html.escape(escaped(self.found.verdict))}</p>{super().html()}"


@takes_settings
def compare(
    first: str | Path | Sequence[str | Path],
    second: str | Path | Sequence[str | Path],
    *,
    resamples: int = 1000,
    flips: int = 1000,
    swings: int = 10,
    seed: int = 0,
    out: str | Path | None = None,
) -> Comparison:
    """Compare two detectors, each a run directory, several of its seeds, or a COCO result file.

    resamples: of the images, for the intervals and p. flips: of the sign-flip test; 0: without it.
    swings: the images that differ most. out: a JSON file for all of it. Raises ValueError where the
    two were not scored on the same images.
    """
    if out:
        check_writable(out)
    sides = [_paths(named, side) for named, side in ((first, "first"), (second, "second"))]
    found = pairwise.compare_detectors(*sides, n=resamples, seed=seed, flips=flips, swings=swings)
    if out:
        write_json(Path(out), asdict(found) | {"verdict": found.verdict})
    return Comparison(found)


def _paths(named: str | Path | Sequence[str | Path] | None, side: str) -> list[Path]:
    """A result file itself, anything else as the run directories that it names."""
    if not named:
        raise ValueError(f"no {side} detector: detzoo compare A B takes two run directories")
    several = [named] if isinstance(named, str | Path) else list(named)
    files = [Path(name) for name in several if Path(name).is_file()]
    rest = [str(name) for name in several if not Path(name).is_file()]
    return files + (select(rest) if rest else [])
