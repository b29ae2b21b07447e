"""Timing beyond the medians: by an image's content, by batch size, by precision.

From the content of speed.json to the content of study_NAME.json, and from that to a table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detzoo.report.load.values import clean, shorten
from detzoo.report.tables.leaderboard import align, format_digits

STUDIES = ("content", "batch", "precision")
BINS = 4
DRAWS = 1000


def time_by_content(speed: Mapping[str, Any]) -> dict[str, Any]:
    """Milliseconds against what is in the image; an image counts by the median of its passes.

    by: for boxes (of a score of 0.05 or more), proposals and the input's shape, rows of images that
    agree in it: at most four groups of boxes and of proposals, of about equal size. slope:
    milliseconds end to end for each additional one, by least squares, with its 95% interval by
    bootstrap over images; None where all images have the same number. Proposals only of a second
    stage.
    """
    samples = speed["samples"]
    image = np.array(samples["image"])
    images, first = np.unique(image, return_index=True)
    keys = ("end_to_end", "network", "postprocess")
    of_image = {
        key: np.array([np.median(np.array(samples[key])[image == i]) for i in images])
        for key in keys
    }
    found: dict[str, Any] = {"n": len(image), "images": len(images), "by": {}, "slope": {}}
    for what in ("boxes", "proposals"):
        if samples[what][0] is None:
            continue
        counts = np.array(samples[what])[first]
        rows = [
            {"from": int(counts[at].min()), "to": int(counts[at].max()), **_medians(of_image, at)}
            for at in _alike(counts)
        ]
        found["by"][what] = rows
        found["slope"][what] = _slope(counts, of_image["end_to_end"])
    shapes = [tuple(samples["shape"][i]) for i in first]
    found["by"]["shape"] = [
        {"shape": list(shape), **_medians(of_image, np.array([s == shape for s in shapes]))}
        for shape in sorted(set(shapes))
    ]
    return found


def _alike(counts: np.ndarray) -> list[np.ndarray]:
    """Masks of at most BINS groups; images of one count are never split."""
    edges = np.unique(np.quantile(counts, np.linspace(0, 1, BINS + 1)[1:-1]))
    group = np.searchsorted(edges, counts)  # a count on an edge is below it
    return [group == i for i in np.unique(group)]


def _medians(of_image: Mapping[str, np.ndarray], at: np.ndarray) -> dict[str, Any]:
    return {"images": int(at.sum())} | {k: float(np.median(v[at])) for k, v in of_image.items()}


def _slope(counts: np.ndarray, times: np.ndarray) -> dict[str, Any] | None:
    def fitted(at: np.ndarray) -> float:
        x, y = counts[at] - counts[at].mean(), times[at]
        return float((x * y).sum() / (x * x).sum()) if x.any() else math.nan

    everything = np.arange(len(counts))
    if math.isnan(fitted(everything)):
        return None
    draws = np.random.default_rng(0).integers(len(counts), size=(DRAWS, len(counts)))
    limits = np.nanpercentile([fitted(at) for at in draws], (2.5, 97.5)).tolist()
    return {"ms_each": fitted(everything), "interval": limits}


def time_by_batch(speed: Mapping[str, Any]) -> dict[str, Any]:
    """The throughput's sweep: images per second and milliseconds at every batch size."""
    rows = [
        {**point, "ms_per_batch": 1e3 * point["batch"] / point["images_per_second"]}
        for point in speed["throughput"]["sweep"]
    ]
    best = {key: speed["throughput"][key] for key in ("batch", "images_per_second", "stopped")}
    return {"rows": rows, "best": best}


def time_by_precision(timed: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """precision -> the content of its speed.json with `accuracy` (metrics or None), as one table.

    kept: AP as a share of the reference's AP; None without a reference AP.
    """
    reference = next(iter(timed.values()))["against"]["reference"]
    whole = (timed[reference]["accuracy"] or {}).get("AP")
    rows = []
    for name, speed in timed.items():
        accuracy = speed["accuracy"] or {}
        ap = accuracy.get("AP")
        rows.append(
            {
                "precision": name,
                "n": speed["n"],
                **{key: speed["end_to_end"][key] for key in ("p50", "p90", "p99", "interval")},
                "against": speed["against"],
                "images_per_second": speed["throughput"]["images_per_second"],
                "peak_memory_mb": speed["peak_memory_mb"],
                "AP": ap,
                "AP_interval": (accuracy.get("intervals") or {}).get("AP"),
                "kept": None if ap is None or not whole else ap / whole,
                "warnings": speed["warnings"],
                "fingerprint": speed["fingerprint"],
            }
        )
    return {"reference": reference, "rows": rows}


def format_text(study: str, found: Mapping[str, Mapping[str, Any]]) -> str:
    """run -> the content of its study_NAME.json, for a terminal."""
    lines = {"content": _content, "batch": _batch, "precision": _precision}[study](found)
    about: dict[str, list[str]] = {}
    for name, study_ in found.items():
        parts = [study_, *(study_["rows"] if study == "precision" else [])]
        for warning in dict.fromkeys(w for part in parts for w in part.get("warnings", ())):
            about.setdefault(warning, []).append(name)
    notes = [f"note: {', '.join(names)}: {warning}" for warning, names in about.items()]
    return "\n".join(clean(line.rstrip(), 500) for line in [*lines, *notes]) + "\n"


def _content(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows = [["run", "by", "from - to", "images", "p50 ms", "network", "postprocess", "ms each"]]
    for name, study in found.items():
        for what, groups in study["by"].items():
            slope = study["slope"].get(what)
            for number, group in enumerate(groups):
                given = group.get("shape")
                span = " x ".join(map(str, given)) if given else f"{group['from']} - {group['to']}"
                times = [
                    format_digits(group[key]) for key in ("end_to_end", "network", "postprocess")
                ]
                each = _limited(slope["ms_each"], slope["interval"]) if slope and not number else ""
                rows.append([shorten(name, 30), what, span, str(group["images"]), *times, each])
    return align(rows, left=2)


def _batch(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows = [["run", "batch", "img/s", "ms a batch", ""]]
    for name, study in found.items():
        for row in study["rows"]:
            best = "best" if row["batch"] == study["best"]["batch"] else ""
            speed = [format_digits(row["images_per_second"]), format_digits(row["ms_per_batch"])]
            rows.append([shorten(name, 30), str(row["batch"]), *speed, best])
    return align(rows, left=1)


def _precision(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    heads = ["run", "precision", "AP", "kept", "p50 ms", "p90", "p99", "times the first", "img/s"]
    rows = [[*heads, "MB"]]
    for name, study in found.items():
        for row in study["rows"]:
            ap = "n/a" if row["AP"] is None else f"{row['AP']:.3f}"
            kept = "n/a" if row["kept"] is None else f"{row['kept']:.1%}"
            against = _limited(row["against"]["ratio"], row["against"]["interval"])
            times = [format_digits(row[key]) for key in ("p50", "p90", "p99")]
            last = [format_digits(row["images_per_second"]), format_digits(row["peak_memory_mb"])]
            cells = [row["precision"], ap, kept, *times, against, *last]
            rows.append([shorten(name, 30), *cells])
    return align(rows, left=2)


def _limited(value: float, interval: Sequence[float] | None) -> str:
    if interval is None:
        return format_digits(value)
    return f"{format_digits(value)} [{format_digits(interval[0])}, {format_digits(interval[1])}]"
