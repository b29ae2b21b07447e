"""The files of a run directory: their content, or the reason why one cannot be read."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

from detzoo.files import inside, read_json
from detzoo.plain_yaml import read_yaml
from detzoo.report.load.values import NAN, clean, number

CURVE = ("images_seen", "seconds", "AP", "AP50")


def read(path: Path, name: str) -> tuple[Any, str | None]:
    """The content of a JSON or YAML file and why it could not be read; (None, None) if absent."""
    file = path / name
    try:
        if not file.exists() and not file.is_symlink():
            return None, None
        file = inside(path, name)
        return (read_yaml if name.endswith(".yaml") else read_json)(file), None
    except (OSError, ValueError) as error:
        text = str(error).replace(str(file), name)
        text = " ".join(clean(text if name in text else f"{name}: {text}", 300).split())
        return None, f"{name} cannot be read ({text})"


def read_curve(path: Path) -> tuple[tuple[dict[str, float], ...], str | None]:
    """The rows of curve.csv, NaN for invalid numbers; a half-written last row is left out."""
    file = path / "curve.csv"
    try:
        if not file.exists():
            return (), None
        file = inside(path, "curve.csv")
        with open(file, encoding="utf-8", newline="") as stream:
            lines = csv.DictReader(stream)
            if not {"images_seen", "AP"} <= set(lines.fieldnames or ()):
                return (), "curve.csv has no columns images_seen and AP"
            rows = [{key: _parse(line.get(key)) for key in CURVE} for line in lines]
    except (OSError, ValueError, csv.Error) as error:
        return (), f"curve.csv cannot be read ({clean(error, 300)})"
    return tuple(row for row in rows if not math.isnan(row["images_seen"] + row["AP"])), None


def _parse(text: Any) -> float:
    try:
        return number(float(text))
    except (TypeError, ValueError):
        return NAN
