"""Which run directories a setting names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from detzoo.report.runs import find


def select(runs: str | Sequence[str]) -> list[Path]:
    """The run directories that a path, a pattern or a list of them names. ValueError for none."""
    wanted = [runs] if isinstance(runs, str) else list(runs)
    paths: list[Path] = []
    for text in wanted:
        path = Path(text)
        if any(c in text for c in "*?["):
            paths += sorted(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor))))
        else:
            paths.append(path)
    found = [path for path in find(paths) if (path / "config.yaml").is_file()]
    if not found:
        raise ValueError(f"no run directory in {', '.join(wanted) or 'an empty list'}")
    return found
