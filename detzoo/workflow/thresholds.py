"""thresholds.json of a run: its score thresholds, chosen on val and evaluated on test."""

from __future__ import annotations

from pathlib import Path

from detzoo.files import read_json, write_json
from detzoo.metrics.matching import arrays
from detzoo.metrics.thresholds import choose, threshold_of
from detzoo.workflow.settings import read_or_empty

FILE = "thresholds.json"
FALLBACK = 0.3  # where none was chosen


def write_thresholds(path: Path, resamples: int = 1000) -> None:
    """Choose thresholds on predictions-val.json and evaluate them on predictions.json.

    Does nothing where the weights that were scored have no predictions on val: earlier versions
    kept none. Raises OSError and ValueError for damaged files.
    """
    metrics = read_json(path / "metrics.json")
    weights = metrics["fingerprint"].get("weights_hash")
    if read_or_empty(path / "dataset-val.json").get("weights_hash") != weights:
        return
    val, test = (
        arrays(
            read_json(path / f"dataset{of}.json"),
            read_json(path / f"predictions{of}.json"),
            max_dets=metrics["max_dets"],
        )
        for of in ("-val", "")
    )
    found = choose(val, test, n=resamples)
    write_json(path / FILE, {"fingerprint": metrics["fingerprint"], **found})


def is_current(path: Path) -> bool:
    """Whether thresholds.json belongs to the same scoring as metrics.json."""
    found, metrics = (read_or_empty(path / name) for name in (FILE, "metrics.json"))
    return "fingerprint" in found and found["fingerprint"] == metrics.get("fingerprint")


def score_of(path: Path) -> tuple[float, str]:
    """The score threshold of a run, and its origin in words."""
    chosen = threshold_of(read_or_empty(path / FILE))
    if chosen is None:
        return FALLBACK, f"no threshold was chosen on val (detzoo evaluate {path} does)"
    return chosen, "with the best F1 on val"
