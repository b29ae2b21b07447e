"""How AP grows with the number of training images: the study `images`, of runs whose
`data.fraction` differs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import pandas as pd

from detzoo.report.load.files import read
from detzoo.report.load.runs import Run
from detzoo.report.load.values import interval, number, shorten
from detzoo.text import interval_text


@dataclass(frozen=True)
class Size:
    """A detector trained on `images` images: the mean AP of its seeds, and the envelope of their
    intervals; NaN where unknown."""

    detector: str
    images: int
    seeds: int
    ap: float
    low: float
    high: float


def sizes(runs: Sequence[Run]) -> list[Size]:
    """By detector and number of training images; empty where all numbers are equal.

    A run of all images without a recorded number gets it from the runs of fractions.
    """
    ranked = [run for run in runs if run.ranked and not run.external]
    whole = [number(r.config, "train_images") / fraction_of(r) for r in ranked]
    whole = [round(of) for of in whole if not math.isnan(of)]
    found: dict[tuple[str, int], list[Run]] = {}
    for run in ranked:
        images = number(run.config, "train_images")
        if math.isnan(images):
            kept, _ = read(run.path, "data.json")
            images = number(kept, "splits", "train", "images")
        if math.isnan(images) and whole:
            images = max(whole)
        if not math.isnan(images):
            found.setdefault((run.label, int(images)), []).append(run)
    if len({images for _, images in found}) < 2:
        return []
    return [_size(*key, members) for key, members in sorted(found.items())]


def of_fractions(runs: Sequence[Run]) -> list[Size]:
    """`sizes` of runs among which some were trained on a fraction of the data; else none."""
    return sizes(runs) if any(fraction_of(run) < 1 for run in runs) else []


def fraction_of(run: Run) -> float:
    """`data.fraction`, 1 where it was not set."""
    fraction = number(run.config, "data", "fraction")
    return fraction if 0 < fraction <= 1 else 1.0


def _size(detector: str, images: int, runs: Sequence[Run]) -> Size:
    aps = [number(run.metrics, "AP") for run in runs]
    limits = [interval(run.metrics, "intervals", "AP") for run in runs]
    low, high = min(low for low, _ in limits), max(high for _, high in limits)
    return Size(detector, images, len(runs), sum(aps) / len(aps), low, high)


def frame(found: Sequence[Size]) -> pd.DataFrame:
    """A row for each of `sizes`."""
    return pd.DataFrame([vars(of) for of in found])


def table(found: Sequence[Size]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """The numbers of training images as heads, and for each detector the APs as text."""
    counts = sorted({of.images for of in found})
    of = {(size.detector, size.images): size for size in found}
    names = dict.fromkeys(size.detector for size in found)
    rows = [(name, [_cell(of.get((name, n))) for n in counts]) for name in names]
    return [f"{n:,}" for n in counts], rows


def format_text(found: Sequence[Size]) -> str:
    """A detector a row, a number of training images a column, then what the answer is."""
    heads, rows = table(found)
    lines = [f"{'AP after N images':<20}" + "".join(f"{head:>23}" for head in heads)]
    for name, cells in rows:
        lines.append(f"{shorten(name, 19):<20}" + "".join(f"{cell:>23}" for cell in cells))
    return "\n".join([*lines, *filter(None, [describe_seeds(found)]), "", *summarise(found)]) + "\n"


def describe_seeds(found: Sequence[Size]) -> str:
    """How the AP of several seeds is given; "" where each has one seed."""
    if {size.seeds for size in found} == {1}:
        return ""
    return "Means over seeds, whose intervals reach around those of all seeds."


def _cell(size: Size | None) -> str:
    if size is None or math.isnan(size.ap):
        return "n/a"
    return f"{size.ap:.3f} {interval_text(size.low, size.high)}"


def summarise(found: Sequence[Size]) -> list[str]:
    """Sentences: the gain of the last images, and the changes of rank before."""
    counts = sorted({of.images for of in found})
    of = {(size.detector, size.images): size for size in found}
    sentences = []
    first, last = counts[-2:]
    for name in dict.fromkeys(size.detector for size in found):
        if (name, first) in of and (name, last) in of:
            before, after = of[name, first], of[name, last]
            sure = "" if before.high < after.low else ", and their intervals overlap"
            per = (after.ap - before.ap) / math.log2(last / first)
            sentences.append(
                f"{name}: {after.ap - before.ap:+.3f} AP from {first:,} to {last:,} images, "
                f"{per:+.3f} a doubling{sure}."
            )
    orders = {n: _order(found, n) for n in counts}
    changed = [
        f"{', '.join(orders[a])} at {a:,} images and {', '.join(orders[b])} at {b:,}"
        for a, b in pairwise(counts)
        if set(orders[a]) == set(orders[b]) and orders[a] != orders[b]
    ]
    if changed:
        sentences.append(f"The ranks change on the way: {'; '.join(changed)}.")
    elif len(set(map(len, orders.values()))) == 1 and len(orders[last]) > 1:
        sentences.append("The order of the detectors is the same at every number of images.")
    return sentences


def _order(found: Sequence[Size], images: int) -> list[str]:
    """The detectors at that number of images, the highest AP first."""
    here = [of for of in found if of.images == images and not math.isnan(of.ap)]
    return [of.detector for of in sorted(here, key=lambda of: -of.ap)]
