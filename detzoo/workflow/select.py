"""Run directories by path, pattern, folder or the beginning of a path."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from detzoo.report.load.files import read, read_curve
from detzoo.report.load.runs import find_runs
from detzoo.report.load.values import number

PATTERN = "*?["
SHOWN = 12  # names in a message


def select(runs: str | Path | Sequence[str | Path]) -> list[Path]:
    """The run directories named by a path, a pattern, a path prefix or a list of them.

    A path prefix must match the runs of one detector. ValueError for none, and for several.
    """
    wanted = [str(runs)] if isinstance(runs, str | Path) else list(map(str, runs))
    paths = [path for text in wanted for path in expand_path(text)]
    found = [path for path in find_runs(paths) if _is_run(path)]
    if not found:
        raise ValueError(f"no run directory in {', '.join(wanted) or 'an empty list'}")
    return found


def select_one(run: str) -> Path:
    """The one run directory that a path, a pattern, the beginning of a path or a folder names.

    Of several the one whose AP on val was best at the end of its training. ValueError where none
    has one.
    """
    found = select(run)
    if len(found) == 1:
        return found[0]
    scores = {path: _val_score(path) for path in found}
    best = max(found, key=lambda path: (not math.isnan(scores[path]), scores[path]))
    if math.isnan(scores[best]):
        raise ValueError(
            f"{run} names {len(found)} runs and none was scored on val; name one of "
            f"{_names(path.name for path in found)}"
        )
    print(f"{best}: the best of {len(found)} on val, AP {scores[best]:.3f}")
    return best


def _val_score(path: Path) -> float:
    """AP on val, of evaluate split=val or else of the last validation; NaN without either."""
    metrics, _ = read(path, "metrics-val.json")
    if not math.isnan(score := number(metrics, "AP")):
        return score
    curve, _ = read_curve(path)
    return curve[-1]["AP"] if curve else math.nan


def expand_path(text: str) -> list[Path]:
    """The folders that a text names. ValueError for no or an ambiguous beginning of a path."""
    path = Path(text).expanduser()
    if path.exists():
        return [path]
    start = _existing_parent(path)
    rest = path.relative_to(start) if start != Path() else path
    if any(letter in str(rest) for letter in PATTERN):
        return sorted(start.glob(str(rest)))
    there = [p for p in _runs_in(path.parent) if p.name.startswith(path.name)]
    if len({_label(p) for p in there}) > 1:
        raise ValueError(
            f"{text} fits several: {_names(p.name for p in there)}; name one, or all as {text}*"
        )
    if not there:
        raise ValueError(f"no run directory in {text}{_suggest(path)}")
    return there


def _existing_parent(path: Path) -> Path:
    """The deepest existing parent of a path."""
    return next((parent for parent in path.parents if parent.exists()), Path())


def _suggest(path: Path) -> str:
    """A hint about similar names that exist."""
    start = _existing_parent(path)
    part = path.relative_to(start).parts[0] if start != Path() else path.parts[0]
    names = [p.name for p in _runs_in(start)]
    if not names:
        return f"; there is none in {start}" if start != Path() else ""
    close = get_close_matches(part, names, 3, 0.6)
    return f"; {start} has {_names(close or names)}"


def _runs_in(folder: Path) -> list[Path]:
    """The runs in a folder, and the folders of runs."""
    if not folder.is_dir():
        return []
    children = [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
    return sorted(p for p in children if _is_run(p) or any(_is_run(run) for run in p.iterdir()))


def _is_run(path: Path) -> bool:
    return (path / "config.yaml").is_file()


def _label(path: Path) -> str:
    """The name without its hash."""
    return path.name.rpartition("-")[0] if _is_run(path) else path.name


def _names(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
