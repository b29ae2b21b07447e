"""What maps are worth, over a sample of objects: every detector, every method, the same objects.

Means have 95% intervals from resamples of whole images, whose objects are not independent; two
detectors are compared over the same objects by the paired bootstrap.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from detzoo.detector import Detector
from detzoo.explain.methods import draw
from detzoo.explain.pixels import seeded
from detzoo.explain.scores import agreement, deletion, energy, energy_share, insertion, pointing
from detzoo.explain.target import Asked
from detzoo.explain.view import View
from detzoo.metrics.paired import holm
from detzoo.metrics.samples import Samples, draw_sets

RESAMPLES = 2000
ALPHA = 0.05


@dataclass(frozen=True)
class Score:
    """better: "high" or "low"."""

    title: str
    better: str


SCORES = {
    "deletion": Score("deletion: score while its highest pixels go", "low"),
    "insertion": Score("insertion: score while its highest pixels come", "high"),
    "energy": Score("energy in the box over the box's share of the image", "high"),
    "pointing": Score("highest pixel in the box", "high"),
    "others": Score("energy on other objects", "low"),
    "head": Score("agreement with the map of a randomised head", "low"),
    "backbone": Score("agreement with the map of a detector all randomised", "low"),
    "seconds": Score("seconds for a map", "low"),
}


def judge(
    detector: Detector,
    view: View,
    asked: Asked,
    truth: Tensor,
    others: Tensor,
    method: str,
    *,
    seed: int = 0,
    shaken: Sequence[Detector] = (),
) -> dict[str, float | None]:
    """One map's scores, by the names of SCORES.

    truth: (1, 4) the object's true box, others: (M, 4) those of the image's other objects, both in
    the network's pixels. shaken: what `randomised` gave, for the sanity of the method
    (1810.03292): a map that stays the same shows the picture and not the detector.
    """
    start = time.perf_counter()
    heat = draw(detector, view, asked, method, seed)
    seconds = time.perf_counter() - start
    rows, columns = view.frame.resized
    inside = heat[:rows, :columns].cpu().numpy()
    hit = pointing(inside, truth)
    scores: dict[str, float | None] = {
        "deletion": deletion(detector, view, asked, heat).area,
        "insertion": insertion(detector, view, asked, heat).area,
        "energy": energy(inside, truth),
        "pointing": None if hit is None else float(hit),
        "others": energy_share(inside, others) if len(others) else None,
        "seconds": seconds,
    }
    for name, other in zip(("head", "backbone"), shaken, strict=False):
        again = draw(other, view, asked, method, seed)[:rows, :columns].cpu().numpy()
        scores[name] = agreement(inside, again)
    return scores


def randomised(detector: Detector, seed: int = 0) -> tuple[Detector, Detector]:
    """Copies with a randomly initialised head, and with everything so."""
    head, whole = copy.deepcopy(detector), copy.deepcopy(detector)
    device = next(detector.parameters()).device
    for twin, part in ((head, "head"), (whole, "")):
        with seeded(seed, device):
            for module in (twin.get_submodule(part) if hasattr(twin, part) else twin).modules():
                _reset(module)
    return head, whole


def _reset(module: nn.Module) -> None:
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return  # its statistics are of other maps, but without any the signal dies
    if callable(reset := getattr(module, "reset_parameters", None)):
        with torch.no_grad():
            reset()


def summarise(rows: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """One row for a detector, method and score: mean, low, high, objects, images.

    rows: columns detector, method, image (any ids), and those of SCORES, one row an object.
    """
    found = []
    for (name, method), part in rows.groupby(["detector", "method"], sort=False):
        for score in (s for s in SCORES if s in part):
            known = part[part[score].notna()]
            values = known[score].to_numpy(float)
            samples = mean_samples(values, known["image"].to_numpy(), seed) if len(values) else None
            low, high = (samples and samples.interval()) or (np.nan, np.nan)
            found.append(
                {
                    "detector": name,
                    "method": method,
                    "score": score,
                    "mean": float(values.mean()) if len(values) else np.nan,
                    "low": low,
                    "high": high,
                    "objects": len(values),
                    "images": known["image"].nunique(),
                }
            )
    return pd.DataFrame(found)


def mean_samples(values: np.ndarray, clusters: np.ndarray, seed: int = 0) -> Samples:
    """The mean of (N,) values on resamples of whole clusters (images, or groups of them)."""
    _, index = np.unique(clusters, return_inverse=True)
    sums, sizes = np.bincount(index, values), np.bincount(index)
    drawn = draw_sets(len(sums), RESAMPLES, seed)
    means = (drawn @ sums) / (drawn @ sizes)
    return Samples(means[0], means[1:], units=len(sums))


def compare(rows: pd.DataFrame, score: str, method: str, seed: int = 0) -> list[dict[str, Any]]:
    """Every pair of detectors over the objects that both have: difference, p, objects; by p.

    p is the paired bootstrap's by Holm's correction, over resamples of whole images.
    """
    part = rows[(rows["method"] == method) & rows[score].notna()]
    table = part.pivot(index=["image", "object"], columns="detector", values=score)
    found = []
    names = list(dict.fromkeys(rows["detector"]))
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            if first not in table or second not in table:
                continue
            both = table[[first, second]].dropna()
            if both.empty:
                continue
            differences = (both[first] - both[second]).to_numpy(float)
            images = both.index.get_level_values("image").to_numpy()
            found.append(
                {
                    "first": first,
                    "second": second,
                    "difference": float(differences.mean()),
                    "p": mean_samples(differences, images, seed).p_value(),
                    "objects": len(both),
                }
            )
    for pair, p in zip(found, holm([pair["p"] for pair in found]), strict=True):
        pair["p"] = p
    return sorted(found, key=lambda pair: 1.0 if pair["p"] is None else pair["p"])


def sentence(rows: pd.DataFrame, summary: pd.DataFrame, method: str) -> str:
    """What may be said of the detectors' energy by one method, or that nothing may be."""
    pairs = compare(rows, "energy", method)
    if not pairs:
        return f"By {method} no two detectors have an object in common, so nothing can be said."
    best = pairs[0]
    of = summary[(summary["method"] == method) & (summary["score"] == "energy")]
    of = of.set_index("detector")
    if best["p"] is None or best["p"] > ALPHA:
        return (
            f"By {method} no two detectors can be told apart in how much of their maps lies on "
            f"the object ({best['objects']} objects)."
        )
    first, second = best["first"], best["second"]
    if best["difference"] < 0:
        first, second = second, first

    def number(name: str) -> str:
        row = of.loc[name]
        return f"{row['mean']:.1f} [{row['low']:.1f}, {row['high']:.1f}]"

    p = "p < 0.001" if best["p"] < 0.001 else f"p = {best['p']:.3f}"
    return (
        f"{first} looks at the object more than {second}: energy ratio {number(first)} against "
        f"{number(second)} by {method}, {p}, {best['objects']} objects."
    )
