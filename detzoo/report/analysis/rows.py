"""The analysis of a table as rows for the page and as facts for report.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from detzoo.metrics.paired import Pair
from detzoo.metrics.thresholds import ALARM_RATES, BEST_F1, PRECISE
from detzoo.report.analysis.detectors import Analysis, Detail
from detzoo.text import interval_text

ALPHA = 0.05


@dataclass(frozen=True)
class Number:
    """A column beside the leaderboard. value(Detail) -> number or None."""

    title: str
    help: str
    higher_is_better: bool | None
    value: Any


NUMBERS = (
    Number(
        "threshold", "score threshold with the best F1 on val", None, lambda d: d.point.threshold
    ),
    Number("F1 val", "F1 there, on val, mean over classes", True, lambda d: d.point.val["f1"]),
    Number("F1", "F1 there, on the test set", True, lambda d: d.point.test["f1"]),
    Number(
        "precision",
        "of all boxes on the test set from the threshold on, the share that is right",
        True,
        lambda d: d.point.test["precision"],
    ),
    Number(
        "recall",
        "of all objects of the test set, the share found from the threshold on",
        True,
        lambda d: d.point.test["recall"],
    ),
    Number("D-ECE", "score against precision, mean distance", False, lambda d: d.d_ece.error),
    Number("LaECE0", "score against IoU, mean distance by class", False, lambda d: d.laece0.error),
    Number("oLRP", "optimal localisation recall precision error", False, lambda d: d.lrp["oLRP"]),
    Number("of it 1 - IoU", "of what is found there", False, lambda d: d.lrp["localisation"]),
    Number("1 - precision", "at oLRP's threshold", False, lambda d: d.lrp["false_positive"]),
    Number("1 - recall", "at oLRP's threshold", False, lambda d: d.lrp["false_negative"]),
)

# The columns of "If you deploy it": a detector is used from one threshold on, or from the other
DEPLOYED = (
    ("score", "threshold", "the score with the best F1 on val"),
    ("F1", "f1", "F1 there, mean over classes"),
    ("precision", "precision", "the share of its boxes that is right"),
    ("recall", "recall", "the share of all objects that is found"),
    ("false alarms", "false_alarms", "boxes that find nothing, an image"),
    ("alarmed", "alarmed", "the share of images without any object in which something is found"),
)
PRECISELY = (
    ("score", "threshold", "the lowest score with a precision of at least 0.9 on val"),
    ("precision", "precision", DEPLOYED[2][2]),
    ("recall", "recall", DEPLOYED[3][2]),
    ("false alarms", "false_alarms", DEPLOYED[4][2]),
)


def deployment_values(detail: Detail) -> list[tuple[float | None, tuple[float, float] | None]]:
    """(value, its 95% interval) for each of DEPLOYED and PRECISELY."""
    cells = []
    for name, columns in ((BEST_F1, DEPLOYED), (PRECISE, PRECISELY)):
        point = detail.deployment.points[name]
        for _, key, _ in columns:
            chosen = key == "threshold"
            value = point.threshold if chosen else point.test[key]
            cells.append((value, None if chosen else point.limits[key]))
    return cells


def p_text(p: float | None) -> str:
    """A p-value for people: three digits, and "< 0.001" below that."""
    return "n/a" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def verdict_text(pair: Pair) -> bool:
    return pair.p_holm is not None and pair.p_holm < ALPHA


def pair_rows(pairs: Sequence[Pair]) -> list[dict[str, str]]:
    """Better and worse, the difference with its interval, p, and whether it is significant."""
    rows = []
    for pair in pairs:
        if pair.difference is None:
            continue
        better, worse, sign = pair.first, pair.second, 1
        if pair.difference < 0:
            better, worse, sign = worse, better, -1
        low, high = sorted((sign * pair.low, sign * pair.high))
        rows.append(
            {
                "better": better,
                "worse": worse,
                "difference": f"{abs(pair.difference):.3f}",
                "limits": interval_text(low, high),
                "p": p_text(pair.p),
                "p_holm": p_text(pair.p_holm),
                "apart": "yes" if verdict_text(pair) else "no",
            }
        )
    return rows


def missing_thresholds(details: Mapping[str, Detail]) -> dict[str, list[str]]:
    """reason -> the detectors without a threshold chosen on val."""
    reasons: dict[str, list[str]] = {}
    for name, detail in details.items():
        if detail.point.reason:
            reasons.setdefault(detail.point.reason, []).append(name)
    return reasons


def as_json(analysis: Analysis | str) -> dict[str, Any]:
    """For report.json: the tests and, by detector, all that the figures are drawn from."""
    if isinstance(analysis, str):
        return {"reason": analysis}
    return {
        "method": analysis.method,
        "pairs": [asdict(pair) for pair in analysis.pairs],
        "ranks": {name: list(of) for name, of in analysis.ranks.items()},
        "left_out": list(analysis.notes),
        "detectors": {
            name: {
                "errors": {kind: asdict(of) for kind, of in detail.errors.items()},
                "operating_points": {
                    point: asdict(of) for point, of in detail.deployment.points.items()
                },
                "score_used": detail.score,
                "froc": {
                    "false_alarms": _listed(ALARM_RATES),
                    "recall": _listed(detail.deployment.froc),
                },
                "f1": _listed(detail.f1),
                "precision_at_recall": {
                    "IoU 0.50": _listed(detail.pr[0]),
                    "IoU 0.75": _listed(detail.pr[1]),
                },
                "confusion": {
                    "classes": [*detail.problem.class_names, "background"],
                    "counts": detail.confusion.tolist(),
                },
                "d_ece": detail.d_ece.error,
                "laece0": detail.laece0.error,
                "lrp": dict(detail.lrp),
            }
            for name, detail in analysis.details.items()
        },
    }


def _listed(values: np.ndarray) -> list[float | None]:
    return [round(float(v), 6) if np.isfinite(v) else None for v in values]
