"""From the scores of many maps to conclusions about detectors and methods.

Means have 95% intervals from resamples of whole units: images, or groups of images, whose objects
are not independent. Two detectors, or two methods, are compared over the same objects by the paired
bootstrap.

rows: one per map, with the columns detector, method, image, object (any ids) and the scores; unit,
if images are grouped: the group; ROUND, if each detector was trained several times: which training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from detzoo.explain.faithfulness import COVERED, LAYER, ORACLE, SCORES
from detzoo.explain.methods import METHODS
from detzoo.metrics.paired import holm
from detzoo.metrics.samples import FEWEST, Samples, draw_sets
from detzoo.text import interval_text

RESAMPLES = 2000
ALPHA = 0.05
UNBOUNDED = (-math.inf, math.inf)
ROUNDING = 1e-12
ROUND = "training"
MAP = (ROUND, "image", "object", "detector", "method")  # what names one map


@dataclass(frozen=True)
class Pair:
    """The mean of `first` minus that of `second` over `maps` maps of each. low, high: of its 95%
    interval. p: two-sided, with Holm's correction; None where there are too few units."""

    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float | None
    maps: int

    @property
    def apart(self) -> bool:
        return self.p is not None and self.p <= ALPHA


def summarise(rows: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """One row for a detector, method and score: mean, low, high, objects, units."""
    scores = [s for s in SCORES if s in rows] + [s for s in rows if str(s).startswith(LAYER)]
    found = []
    for (name, method), part in rows.groupby(["detector", "method"], sort=False):
        for score in scores:
            known = part[part[score].notna()]
            values = known[score].to_numpy(float)
            if not len(values) and score not in SCORES:
                continue  # a layer that this detector does not have
            limits = SCORES[score].limits if score in SCORES else UNBOUNDED
            low, high = mean_interval(values, units_of(known), seed, limits)
            found.append(
                {
                    "detector": name,
                    "method": method,
                    "score": score,
                    "mean": float(values.mean()) if len(values) else np.nan,
                    "low": low,
                    "high": high,
                    "objects": len(values),
                    "units": len(np.unique(units_of(known))),
                }
            )
    return pd.DataFrame(found)


def units_of(rows: pd.DataFrame) -> np.ndarray:
    """(N,) the resampled unit: the group of each row's image, or the image itself."""
    return rows["unit" if "unit" in rows else "image"].to_numpy()


def mean_interval(
    values: np.ndarray,
    units: np.ndarray,
    seed: int = 0,
    limits: tuple[float, float] = UNBOUNDED,
) -> tuple[float, float]:
    """The mean of (N,) values, (low, high) at 95%; NaN with fewer than FEWEST units.

    limits: the range of a value. If all values are equal, but for rounding, and the range is
    unbounded, low and high are that value.
    """
    if len(np.unique(units)) < FEWEST:
        return np.nan, np.nan
    if limits == UNBOUNDED and np.ptp(values) < ROUNDING:
        return float(values[0]), float(values[0])
    low, high = mean_samples(values, units, seed, limits).interval() or (np.nan, np.nan)
    return low, high


def mean_samples(
    values: np.ndarray,
    units: np.ndarray,
    seed: int = 0,
    limits: tuple[float, float] = UNBOUNDED,
) -> Samples:
    """The mean of (N,) values on resamples of whole units, given by their (N,) ids."""
    _, index = np.unique(units, return_inverse=True)
    sums, sizes = np.bincount(index, values), np.bincount(index)
    drawn = _sets(len(sums), seed)
    means = (drawn @ sums) / (drawn @ sizes)
    return Samples(means[0], means[1:], units=len(sums), limits=limits)


@lru_cache(maxsize=8)
def _sets(units: int, seed: int) -> np.ndarray:
    return draw_sets(units, RESAMPLES, seed)


def compare(rows: pd.DataFrame, score: str, between: str, seed: int = 0) -> list[Pair]:
    """Every pair of `between`, "detector" or "method", over the maps that both have; by p."""
    same = [column for column in MAP if column in rows and column != between]
    known = rows[rows[score].notna()]
    table = known.pivot(index=same, columns=between, values=score)
    unit = dict(zip(known["image"], units_of(known), strict=True))
    found = []
    for first, second in combinations([n for n in rows[between].unique() if n in table], 2):
        both = table[[first, second]].dropna()
        if both.empty:
            continue
        differences = (both[first] - both[second]).to_numpy(float)
        units = np.array([unit[image] for image in both.index.get_level_values("image")])
        low, high = mean_interval(differences, units, seed)
        p = mean_samples(differences, units, seed).p_value()
        found.append((first, second, float(differences.mean()), low, high, p, len(both)))
    corrected = holm([row[5] for row in found])
    pairs = [Pair(*row[:5], p, row[6]) for row, p in zip(found, corrected, strict=True)]
    return sorted(pairs, key=lambda pair: 1.0 if pair.p is None else pair.p)


def detector_sentence(rows: pd.DataFrame, summary: pd.DataFrame, method: str) -> str:
    """The conclusions about the detectors' energy by one method, or that there are none."""
    pairs = compare(rows[rows["method"] == method], "energy", "detector")
    if not pairs:
        return f"By {method} no two detectors have an object in common, so nothing can be said."
    best = pairs[0]
    of = summary[(summary["method"] == method) & (summary["score"] == "energy")]
    of = of.set_index("detector")
    if not best.apart:
        return (
            f"By {method} no two detectors can be told apart in how much of their maps lies on "
            f"the object ({best.maps} objects)."
        )
    first, second = (best.first, best.second) if best.difference > 0 else (best.second, best.first)
    return (
        f"{first} looks at the object more than {second}: energy ratio {number(of.loc[first])} "
        f"against {number(of.loc[second])} by {method}, {p_text(best.p)}, {best.maps} objects."
    )


def method_sentence(rows: pd.DataFrame, score: str) -> str:
    """Which method's maps are the best by "insertion" or "deletion", over all detectors."""
    own = rows[rows["method"].isin(METHODS)]
    sign = 1 if SCORES[score].better == "high" else -1
    means = (sign * own.groupby("method", sort=False)[score].mean()).sort_values(ascending=False)
    if len(means) < 2:
        return ""
    best, of = means.index[0], own["detector"].nunique()
    pairs = [pair for pair in compare(own, score, "method") if best in (pair.first, pair.second)]
    others = {
        apart: [
            pair.second if pair.first == best else pair.first
            for pair in pairs
            if pair.apart is apart
        ]
        for apart in (True, False)
    }
    maps = f"{pairs[0].maps if pairs else 0} maps of each, over {of} detectors"
    mean = f"{sign * means.iloc[0]:.2f} on average"
    if not others[True]:
        return (
            f"By {score} no method can be told apart from {best}, whose maps do best ({mean}; "
            f"{maps})."
        )
    text = (
        f"By {score} {best}'s maps are the best ({mean}), better than {_listed(others[True])} by a "
        f"paired test (p < {ALPHA}{' each' if len(others[True]) > 1 else ''})"
    )
    if others[False]:
        text += f", and cannot be told apart from {_listed(others[False])}"
    return f"{text}; {maps}."


def mark_sentences(rows: pd.DataFrame, methods: Sequence[str]) -> list[str]:
    """For each detector, whether it uses a planted mark, and by which methods its maps show that:
    [] without a mark.

    The truth is what the score loses when the mark is covered, compared with the place opposite,
    where there is nothing. A map is never quite 0 beside an object: its energies on both are
    compared in the same way, with Holm's correction over the methods.
    """
    if not set(COVERED) <= set(rows):
        return []
    found = []
    for name, of in rows[rows[COVERED[0]].notna()].groupby("detector", sort=False):
        by = {method: of[of["method"] == method] for method in methods}
        maps = by[methods[0]]
        uses, p = _is_larger(maps, *reversed(COVERED))
        marked, opposite = (maps[column].mean() - 1 for column in COVERED)
        known = {m: part.dropna(subset=["mark", "opposite"]) for m, part in by.items()}
        tests = {m: _is_larger(part, "mark", "opposite") for m, part in known.items() if len(part)}
        corrected = holm([value for _, value in tests.values()])
        clauses = []
        for (method, (larger, _)), value in zip(tests.items(), corrected, strict=True):
            on, off = (known[method][place].mean() for place in ("mark", "opposite"))
            says = _SAYS[uses, larger and value <= ALPHA]
            clauses.append(
                f"{method} {says} (energy on the mark {on:.1f} times its share of the image, on "
                f"the place opposite {off:.1f}, {p_text(value)})"
            )
        found.append(
            f"{name} {'uses' if uses else 'does not show to use'} the planted mark: its score "
            f"changes by {marked:+.0%} when the mark is covered, by {opposite:+.0%} when the place "
            f"opposite is ({p_text(p)}, {len(maps)} objects); {'; '.join(clauses)}."
        )
    return found


# (whether a detector uses the mark, whether its maps look as if) -> what a method says of it
_SAYS = {
    (True, True): "shows it",
    (True, False): "does not show it",
    (False, True): "suggests that it did",
    (False, False): "agrees",
}


def _is_larger(rows: pd.DataFrame, first: str, second: str) -> tuple[bool, float | None]:
    """Whether the mean of one column is above another's by the paired bootstrap, and its p."""
    differences = (rows[first] - rows[second]).to_numpy(float)
    p = mean_samples(differences, units_of(rows)).p_value()
    return p is not None and p <= ALPHA and differences.mean() > 0, p


def ranking_sentence(rows: pd.DataFrame, score: str, method: str) -> str:
    """For how many detectors the right map scores better than the method's, and that better than
    the uniform one; and which ones are not so."""
    sign = 1 if SCORES[score].better == "high" else -1
    steps = ((ORACLE, method), (method, "uniform"))
    ordered, clear, against = [], [], []
    for name, of in rows.groupby("detector", sort=False):
        means = sign * of.groupby("method")[score].mean()
        pairs = {frozenset((p.first, p.second)): p.apart for p in compare(of, score, "method")}
        wrong = [step for step in steps if not means[step[0]] > means[step[1]]]
        if wrong:
            values = (f"{n} {sign * means[n]:.2f}" for n in (ORACLE, method, "uniform"))
            against.append(f"{name} ({', '.join(values)})")
            continue
        ordered.append(name)
        clear += [name] if all(pairs.get(frozenset(step)) for step in steps) else []
    count = rows["detector"].nunique()
    text = (
        f"By {score} the map of the pasted pixels is better than {method}'s, and {method}'s better "
        f"than the uniform one, for {len(ordered)} of {count} detectors, for {len(clear)} of them "
        "by a paired test at both steps"
    )
    return f"{text}; not for {_listed(against)}." if against else f"{text}."


def number(row: pd.Series) -> str:
    """A mean and its interval, as a sentence has them."""
    return f"{row['mean']:.1f}{limits_text(row, '.1f')}"


def limits_text(row: Mapping[str, Any] | pd.Series, form: str) -> str:
    """ " [low, high]" in the format; "" where there is none."""
    return f" {interval_text(row['low'], row['high'], form)}" if np.isfinite(row["low"]) else ""


def p_text(p: float | None) -> str:
    if p is None:
        return "p n/a"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
