"""The answers that someone who must choose needs first, in short sentences. Pure functions of a
table's rows, its paired tests, and what is known about each detector. The long form, with every
interval and test, is in `answer`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from detzoo.metrics.paired import Pair
from detzoo.report.analysis import training
from detzoo.report.analysis.speed_ratios import Ratio
from detzoo.report.analysis.training import Curve, list_names
from detzoo.report.analysis.verdict import intervals_overlap
from detzoo.report.tables.leaderboard import LEAST, contenders, format_digits
from detzoo.report.tables.starts import mixed_starts
from detzoo.text import interval_text

ALPHA = 0.05
LONG_TAIL = 10  # times p50, from where p99 is a warning
WORST, BELOW = 3, 0.5  # classes named, where their AP is below that share of the detector's


@dataclass(frozen=True)
class Sentence:
    """about: accuracy, speed, threshold, training, classes or caution. names: shown in bold."""

    about: str
    text: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Point:
    """How a detector does from its own threshold on, on the test set; None is n/a.

    reason: why there is no threshold. false_alarms: an image, of any class.
    """

    threshold: float | None = None
    f1: float | None = None
    precision: float | None = None
    recall: float | None = None
    false_alarms: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Known:
    """What is known of the detectors of one table, by name."""

    pairs: Sequence[Pair] = ()
    points: Mapping[str, Point] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)
    classes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # class -> AP
    ratios: Mapping[str, Ratio] = field(default_factory=dict)  # to the fastest, paired passes
    tails: Mapping[str, str] = field(default_factory=dict)  # why a latency has a long tail
    groups: str = ""  # what groups of images do to the intervals


def summary(frame: pd.DataFrame, known: Known) -> list[Sentence]:
    """The sentences about one table (as `tables.group_frame` makes it), the most important
    first."""
    rows = contenders(frame).sort_values("AP", ascending=False, kind="stable", na_position="last")
    scored = rows.dropna(subset=["AP"])
    found = [accuracy(rows, known.pairs), Sentence("caution", mixed_starts(frame))]
    found.append(speed(rows, known.ratios))
    if len(scored) and scored["AP"].iloc[0] >= LEAST:
        order = [str(name) for name in scored["detector"]]
        best = order[0]
        found.append(deployment(rows, known))
        curves = {name: known.curves[name] for name in order if known.curves.get(name)}
        found += [
            disagreement(order, known.points),
            Sentence("training", training.describe_curves(curves)),
        ]
        found.append(Sentence("caution", training.describe_crossings(curves)))
        found.append(classes(best, known.classes.get(best, {})))
    found += [tails(rows, known.tails), Sentence("caution", known.groups)]
    return [sentence for sentence in found if sentence.text]


def accuracy(rows: pd.DataFrame, pairs: Sequence[Pair]) -> Sentence:
    """Which is the most accurate, by how much, and whether that is sure. rows: by falling AP."""
    scored = rows.dropna(subset=["AP"])
    if scored.empty:
        return Sentence(
            "accuracy", "No AP can be given: there is no ground truth to score against."
        )
    best = scored.iloc[0]
    name, value = str(best["detector"]), f"AP {best['AP']:.3f}"
    if best["AP"] < LEAST:
        return Sentence("accuracy", f"No detector finds anything yet: every AP is below {LEAST}.")
    if len(scored) == 1:
        return Sentence("accuracy", f"{name} reaches {value}{_interval(best)}.", (name,))
    alike = [
        str(row["detector"]) for _, row in scored.iloc[1:].iterrows() if _alike(best, row, pairs)
    ]
    if alike:
        text = f"{name} has the highest AP ({value.removeprefix('AP ')}), but cannot be told apart "
        return Sentence("accuracy", f"{text}from {list_names(alike)}.", (name, *alike[:3]))
    second = scored.iloc[1]
    gap = best["AP"] - second["AP"]
    text = f"{name} is the most accurate ({value}, {gap:.3f} above the next, {second['detector']}; "
    return Sentence("accuracy", f"{text}sure at 5%).", (name,))


def _interval(row: pd.Series) -> str:
    low, high = row["AP_low"], row["AP_high"]
    return "" if pd.isna(low) or pd.isna(high) else f" {interval_text(low, high)}"


def _alike(best: pd.Series, row: pd.Series, pairs: Sequence[Pair]) -> bool:
    """Whether the two are not significantly different, by the paired test, else by the
    intervals."""
    wanted = {best["detector"], row["detector"]}
    for pair in pairs:
        if {pair.first, pair.second} == wanted and pair.p_holm is not None:
            return pair.p_holm >= ALPHA
    return intervals_overlap(best, row, "AP")


def speed(rows: pd.DataFrame, ratios: Mapping[str, Ratio]) -> Sentence:
    """Which is the fastest, beside the most accurate. rows: by falling AP."""

    def as_fast(row: pd.Series) -> bool:
        if (of := ratios.get(str(row["detector"]))) is not None:
            return of.low <= 1
        return intervals_overlap(fastest, row, "p50_ms")

    timed = rows.dropna(subset=["p50_ms"]).sort_values("p50_ms", kind="stable")
    if timed.empty:
        return Sentence("speed", "None of them has a latency." if len(rows) else "")
    fastest = timed.iloc[0]
    name, ms = str(fastest["detector"]), format_digits(fastest["p50_ms"])
    if len(timed) == 1:
        return Sentence("speed", f"{name} takes {ms} ms an image.", (name,))
    second = timed.iloc[1]
    others = [row for _, row in timed.iloc[1:].iterrows()]
    beside = [str(row["detector"]) for row in others if as_fast(row)]
    if beside:
        text = f"{name} has the least latency ({ms} ms an image), but cannot be told apart from "
        return Sentence("speed", f"{text}{list_names(beside)}.", (name, *beside[:3]))
    best = rows.iloc[0]
    if best["detector"] == name or pd.isna(best["p50_ms"]):
        other = f"the next, {second['detector']}, {format_digits(second['p50_ms'])}"
    else:
        other = f"{best['detector']} {format_digits(best['p50_ms'])}"
    also = "also " if best["detector"] == name else ""
    return Sentence("speed", f"{name} is {also}the fastest ({ms} ms an image; {other}).", (name,))


def deployment(rows: pd.DataFrame, known: Known) -> Sentence:
    """Which one to deploy, and at which score threshold. rows: by falling AP.

    The most accurate one, or the fastest of those not significantly different from it.
    """
    best = rows.iloc[0]
    chosen = _fastest_alike(rows, known)
    name, first = str(chosen["detector"]), str(best["detector"])
    found = threshold(name, known.points.get(name, Point()))
    if name == first:
        return found
    text = (
        f"{found.text} In AP nothing separates it from {first}, and it takes "
        f"{format_digits(chosen['p50_ms'])} ms an image where that takes "
        f"{format_digits(best['p50_ms'])}."
    )
    return Sentence("threshold", text, (name, first))


def _fastest_alike(rows: pd.DataFrame, known: Known) -> pd.Series:
    """The row to deploy: a faster one than the first only if it has a threshold, their AP does not
    differ significantly, and their latencies do."""
    best = rows.iloc[0]
    chosen = best
    for _, row in rows.dropna(subset=["AP", "p50_ms"]).iloc[1:].iterrows():
        point = known.points.get(str(row["detector"]), Point())
        if (
            point.threshold is not None
            and _alike(best, row, known.pairs)
            and _faster(row, best, known.ratios)
            and row["p50_ms"] < chosen["p50_ms"]
        ):
            chosen = row
    return chosen


def _faster(row: pd.Series, other: pd.Series, ratios: Mapping[str, Ratio]) -> bool:
    """Whether `row` is significantly faster: by the paired passes if it is the fastest of all."""
    if not row["p50_ms"] < other["p50_ms"]:
        return False
    of = ratios.get(str(other["detector"]))
    if of is not None and str(row["detector"]) not in ratios:
        return of.low > 1
    return not intervals_overlap(row, other, "p50_ms")


def threshold(name: str, point: Point) -> Sentence:
    """The score threshold to use a detector at, and its hits and errors there."""
    if point.threshold is None:
        reason = f": {point.reason}" if point.reason else ""
        return Sentence("threshold", f"No score threshold is known for {name}{reason}.", (name,))
    parts = [
        f"{what} {value:.2f}"
        for what, value in (("precision", point.precision), ("recall", point.recall))
        if value is not None
    ]
    if point.false_alarms is not None:
        parts.append(f"{format_digits(point.false_alarms)} false alarms an image")
    text = f"Deploy {name} at score {point.threshold:.2f}: {', '.join(parts)}."
    return Sentence("threshold", text.replace(": .", "."), (name,))


def disagreement(order: Sequence[str], points: Mapping[str, Point]) -> Sentence:
    """Where another one than the first of `order` (by AP) has the best F1 at its threshold."""
    known = {n: p.f1 for n in order if (p := points.get(n)) and p.f1 is not None}
    if order[0] not in known:
        return Sentence("caution", "")
    best = max(known, key=lambda name: known[name])
    ahead, first = known[best], known[order[0]]
    if round(ahead, 2) <= round(first, 2):
        return Sentence("caution", "")
    text = (
        f"AP and F1 disagree: at its own threshold ({points[best].threshold:.2f}) {best} has the "
        f"higher F1, {ahead:.2f} against {first:.2f}; it is the one to take where boxes are used "
        "from one threshold on."
    )
    return Sentence("caution", text, (best,))


def classes(name: str, aps: Mapping[str, float]) -> Sentence:
    """The classes that the most accurate one fails at."""
    known = {c: ap for c, ap in aps.items() if not math.isnan(ap)}
    if len(known) < 2:
        return Sentence("classes", "")
    worst = sorted(known, key=lambda c: known[c])
    mean = sum(known.values()) / len(known)
    failing = [c for c in worst if known[c] < BELOW * mean]
    if failing:
        listed = [f"{c} (AP {known[c]:.3f})" for c in failing[:WORST]]
        more = len(failing) - WORST
        text = f"{name} fails at {list_names(listed + [f'{more} more classes'] * (more > 0), 4)}."
        return Sentence("classes", text, (name,))
    text = f"{name} is worst at {worst[0]} (AP {known[worst[0]]:.3f}) and best at {worst[-1]}"
    return Sentence("classes", f"{text} ({known[worst[-1]]:.3f}).", (name,))


def tails(rows: pd.DataFrame, why: Mapping[str, str]) -> Sentence:
    """Whose p99 is LONG_TAIL times its p50 or more, and why that of the worst is."""
    timed = rows.dropna(subset=["p50_ms", "p99_ms"])
    long = {
        str(row["detector"]): row
        for _, row in timed.iterrows()
        if row["p99_ms"] >= LONG_TAIL * row["p50_ms"] > 0
    }
    if not long:
        return Sentence("caution", "")
    worst = max(long, key=lambda name: long[name]["p99_ms"] / long[name]["p50_ms"])
    p50, p99 = long[worst]["p50_ms"], long[worst]["p99_ms"]
    text = f"{worst}'s p99 ({format_digits(p99)} ms) is {p99 / p50:,.0f} times its p50"
    text += f": {why[worst]}" if why.get(worst) else ""
    if others := [name for name in long if name != worst]:
        text += f". The same holds of {list_names(others)}, by {LONG_TAIL} times or more"
    return Sentence("caution", f"{text}.", (worst, *others[:3]))
