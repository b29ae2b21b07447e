"""Titles and captions of the figures, by the figures' names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from detzoo.report.analysis.tails import explain_tail, outliers
from detzoo.report.figures.fonts import legend
from detzoo.report.figures.overview import MOST_CLASSES
from detzoo.report.load.runs import Run
from detzoo.report.load.values import dig, number, shorten

GROWTH = "training-images"  # has its own section of the page
TITLES = {
    "speed-accuracy": "Speed against accuracy",
    "latency": "Where the time goes",
    "percentiles": "How long it may take",
    "curves": "Learning curves",
    "effort": "What a search is worth",
    GROWTH: "AP by the number of training images",
    "classes": "AP of each class",
    "errors": "Kinds of error",
    "precision-recall": "Precision and recall",
    "f1": "F1 against the score threshold",
    "froc": "Recall against false alarms",
    "reliability": "Does a score mean what it says?",
    "confusion": "What is taken for what",
}
CAPTIONS = {
    "speed-accuracy": "Up and left is better. Bars are 95% intervals on both axes; the dotted line "
    "is the Pareto front of the values themselves: it does not know the intervals.",
    "latency": "Medians of the stages at batch 1, sorted by the median of the whole: the tick "
    "below each bar, whose line reaches to the 90th percentile. Dots are passes of more than 3 "
    "times the median.",
    "percentiles": "Percentiles of the latency end to end at batch 1; nothing is clipped.",
    "curves": "AP on the validation split while training, one line a run. Where lines still rise "
    "or cross, another budget could give another order.",
    "effort": "The best AP on val to be expected of so many trials, and one standard deviation "
    "(Dodge et al. 2019, equation 1, with replacement from the trials that were made): a line that "
    "is flat needs no search, one that rises won by it. Of all trials at the first rung, at equal "
    "images seen; later ones were chosen by what the first gave.",
    GROWTH: "Runs of different data.fraction: a smaller part lies in a larger one, and is the same "
    "for all detectors. Bars are 95% intervals.",
    "classes": f"In brackets the number of test boxes (at most {MOST_CLASSES} classes, those with "
    "the most boxes).",
    "errors": "What AP50 would be higher by were there no error of a kind (TIDE); they do not add "
    "up. The two sums have a scale of their own. A box of the right class but IoU 0.1 to 0.5 "
    "(localisation); a good box of the wrong class (classification); neither (both); a second box "
    "on one object (duplicate); a box on nothing (background); an object that no error points at "
    "(missed).",
    "precision-recall": "The mean over classes of COCO's curves; the mean height of a line is its "
    "AP there.",
    "f1": "On the test set, mean over classes, at IoU 0.50. The marker is at the threshold that "
    "was the best on the validation split: what it reaches here was not chosen here. A line "
    "without a marker has no predictions on val.",
    "froc": "On the test set, all classes in one list by score, at IoU 0.50 (FROC). A false alarm "
    "is a box that finds no object of its class. The marker is at the threshold with the best F1 "
    "on the validation split.",
    "reliability": "Of the detections from a detector's own threshold on: their precision at IoU "
    "0.50 (line) and mean IoU (dashes) in 25 bins of the score, points as large as the bin is "
    "full. On the dotted line a score is what it promises; below it is too sure.",
    "confusion": "Boxes of a true class (down) by the class of their one detection at IoU 0.50, "
    "from the detector's own threshold on; colours are shares of the row. The last row are "
    "detections on background, the last column objects that were not found.",
}
# The caption's sentence about several seeds
SEEDS = {
    "speed-accuracy": " Faint points are single seeds; the bars of a mean reach around all of "
    "them.",
    **dict.fromkeys(("classes", "errors", "froc"), " Means over seeds."),
    **dict.fromkeys(("reliability", "confusion"), " Of several seeds the first."),
}
WITH_CLASSES = ("classes", "confusion")  # the figures that show class names


def write_captions(by_name: Mapping[str, Sequence[Run]]) -> dict[str, str]:
    """Figure -> caption, for these runs by detector."""
    several = any(len(members) > 1 for members in by_name.values())
    numbers = legend(class_names(by_name))
    found = dict(CAPTIONS)
    found["latency"] += _describe_tails(by_name)
    found["classes"] += _count_without_boxes(by_name)
    for name in SEEDS if several else ():
        found[name] += SEEDS[name]
    for name in WITH_CLASSES if numbers else ():
        found[name] += f" {numbers}"
    return found


def class_names(by_name: Mapping[str, Sequence[Run]]) -> list[str]:
    """In the order of their ids, as metrics.json has them."""
    return list(dict.fromkeys(name for table in _class_tables(by_name) for name in table))


def _class_tables(by_name: Mapping[str, Sequence[Run]]) -> list[dict]:
    tables = [dig(run.metrics, "per_class") for runs in by_name.values() for run in runs]
    return [table for table in tables if isinstance(table, dict)]


def _describe_tails(by_name: Mapping[str, Sequence[Run]]) -> str:
    """Why passes are slow, of the three detectors that have the most of them."""
    slow = {name: len(outliers(runs)) for name, runs in by_name.items()}
    worst = sorted((n for n in slow if slow[n]), key=lambda n: -slow[n])[:3]
    return "".join(f" {shorten(name, 40)}: {explain_tail(by_name[name])}." for name in worst)


def _count_without_boxes(by_name: Mapping[str, Sequence[Run]]) -> str:
    """How many classes have no test boxes."""
    first = next(iter(_class_tables(by_name)), {})
    count = sum(number(first, name, "boxes") == 0 for name in first)
    verb = "class has" if count == 1 else "classes have"
    return f" {count} {verb} no test boxes, and no AP." * bool(count)
