"""The data of a table's numbers: images, boxes, classes, sizes, and the warnings of `check`.

Read from a run's data.json (what `detzoo check` counted before the training); runs of before it was
kept have the test and val splits in dataset.json and dataset-val.json, and nothing of train.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detzoo.report.load.files import read
from detzoo.report.load.runs import Run
from detzoo.report.load.values import clean, dig, number, shorten

SPLITS = ("train", "val", "test")
NUMBERS = ("images", "without_boxes", "boxes", "crowd", "small", "medium", "large", "groups")
SMALL, MEDIUM = 32**2, 96**2  # COCO's borders, in square pixels
MOST_CLASSES = 40


@dataclass(frozen=True)
class Pair:
    """Two images, each with split, file_name, height and width, and by how many of 64 bits their
    perceptual hashes differ."""

    images: tuple[Mapping[str, Any], Mapping[str, Any]]
    distance: int


@dataclass(frozen=True)
class Data:
    """splits: split -> number by name, of those in NUMBERS that are known. classes: name -> boxes
    (no crowds) by split, the commonest first. warnings: one a kind, or None where the run did not
    keep them. near_duplicates: pairs of images of two splits that look nearly the same."""

    name: str
    splits: Mapping[str, Mapping[str, int]]
    sizes: Mapping[str, str]
    classes: Mapping[str, Mapping[str, int]]
    warnings: Sequence[str] | None
    near_duplicates: Sequence[Pair] = ()

    @property
    def numbers(self) -> list[str]:
        """The NUMBERS that are not 0 in every split."""
        always = ("images", "boxes")
        return [n for n in NUMBERS if n in always or any(s.get(n) for s in self.splits.values())]

    @property
    def without_test_boxes(self) -> list[str]:
        return [name for name, of in self.classes.items() if of.get("test") == 0]

    def sentence(self) -> str:
        """The data in one line."""
        counts = [
            f"{split} {of['images']:,} images ({of['boxes']:,} boxes"
            + (f", {of['groups']:,} groups)" if of.get("groups") else ")")
            for split, of in self.splits.items()
        ]
        number_of = f"{len(self.classes)} class{'es' * (len(self.classes) != 1)}"
        return f"{self.name}: {number_of}; {', '.join(counts)}."


def data_of(runs: Sequence[Run]) -> Data | None:
    """From the first run with a record."""
    for run in (run for run in runs if not run.external):
        kept, _ = read(run.path, "data.json")
        test, _ = read(run.path, "dataset.json")
        test = test if isinstance(test, dict) else {}
        known = isinstance(kept, dict) and isinstance(kept.get("splits"), dict)
        if known and (found := _kept(kept, test)):
            return found
        if isinstance(test.get("images"), list):
            val, _ = read(run.path, "dataset-val.json")
            return _counted({"val": val, str(test.get("split") or "test"): test})
    return None


def _kept(kept: Mapping[str, Any], test: Mapping[str, Any]) -> Data | None:
    """From data.json."""
    splits, sizes, classes = {}, {}, {}
    for split in SPLITS:
        of = kept["splits"].get(split)
        known = {n: int(v) for n in NUMBERS if (v := number(of, n)) == v}
        if {"images", "boxes"} <= set(known):
            splits[split] = known
            sizes[split] = _span(dig(of, "image_sizes"))
            counts = dig(of, "per_class")
            for name in counts if isinstance(counts, dict) else ():
                if (count := number(counts, name)) == count:
                    classes.setdefault(clean(name, 200), {})[split] = int(count)
    warnings = []
    for of in kept.get("kinds") if isinstance(kept.get("kinds"), list) else []:
        count, kind = number(of, "number"), clean(dig(of, "kind"), 60)
        if dig(of, "severity") == "warning" and count == count:
            example = f"{clean(dig(of, 'where'), 200)}: {clean(dig(of, 'what'), 300)}"
            does = clean(dig(of, "action") or "", 200)
            warnings.append(f"{count:,.0f} {kind} (such as {example}{f'; {does}' if does else ''})")
    name = clean(kept.get("name") or test.get("name") or "the data set", 120)
    pairs = _pairs(kept.get("near_duplicates"))
    return Data(name, splits, sizes, _by_number(classes), warnings, pairs) if splits else None


def _pairs(found: Any) -> list[Pair]:
    """The pairs of near-duplicates that a run recorded; invalid ones are left out."""
    pairs = []
    for of in found if isinstance(found, list) else []:
        images, distance = dig(of, "images"), number(of, "distance")
        if isinstance(images, list) and len(images) == 2 and distance == distance:
            first, second = images
            if isinstance(first, dict) and isinstance(second, dict):
                pairs.append(Pair((first, second), int(distance)))
    return pairs


def _span(sizes: Any) -> str:
    """[[h, w], [h, w]] as `160 x 160 to 240 x 160`, width first."""
    ends = [(number(sizes, i, 1), number(sizes, i, 0)) for i in (0, 1)]
    if any(value != value for end in ends for value in end):
        return ""
    return " to ".join(dict.fromkeys(f"{w:.0f} x {h:.0f}" for w, h in ends))


def _counted(truths: Mapping[str, Any]) -> Data | None:
    """From COCO's ground truth of the splits."""
    splits, sizes, classes, name = {}, {}, {}, ""
    for split, truth in truths.items():
        if not isinstance(truth, dict) or not isinstance(truth.get("images"), list):
            continue
        name = clean(truth.get("name") or name or "the data set", 120)
        found = truth.get("annotations")
        boxes = [a for a in found if isinstance(a, dict)] if isinstance(found, list) else []
        areas = [number(a, "area") for a in boxes]
        with_boxes = {repr(a.get("image_id")) for a in boxes}
        ids = [repr(dig(image, "id")) for image in truth["images"]]
        crowd = [bool(a.get("iscrowd")) for a in boxes]
        splits[split] = {
            "images": len(ids),
            "without_boxes": sum(i not in with_boxes for i in ids),
            "boxes": len(boxes),
            "crowd": sum(crowd),
            "small": sum(area < SMALL for area in areas),
            "medium": sum(SMALL <= area < MEDIUM for area in areas),
            "large": sum(area >= MEDIUM for area in areas),
        }
        groups = {repr(group) for i in truth["images"] if (group := dig(i, "group")) is not None}
        splits[split] |= {"groups": len(groups)} if groups else {}
        both = [(number(i, "height"), number(i, "width")) for i in truth["images"]]
        both = sorted((s for s in both if s[0] == s[0] and s[1] == s[1]), key=lambda s: s[0] * s[1])
        sizes[split] = _span([list(both[0]), list(both[-1])]) if both else ""
        counts = Counter(
            repr(a.get("category_id")) for a, c in zip(boxes, crowd, strict=True) if not c
        )
        categories = truth.get("categories")
        for category in categories if isinstance(categories, list) else []:
            label = clean(dig(category, "name"), 200)
            classes.setdefault(label, {})[split] = counts[repr(dig(category, "id"))]
    return Data(name, splits, sizes, _by_number(classes), None) if splits else None


def _by_number(classes: Mapping[str, Mapping[str, int]]) -> dict[str, Mapping[str, int]]:
    return dict(sorted(classes.items(), key=lambda item: -sum(item[1].values())))


def class_rows(data: Data) -> list[tuple[str, list[str]]]:
    """(name, boxes by split) of the commonest classes, the rest as one row."""
    rows = list(data.classes.items())
    shown = rows if len(rows) <= MOST_CLASSES else rows[: MOST_CLASSES - 1]
    found = [(shorten(n, 60), [_count(of.get(s)) for s in data.splits]) for n, of in shown]
    if rest := rows[len(shown) :]:
        sums = [_count(sum(of.get(s, 0) for _, of in rest)) for s in data.splits]
        found.append((f"{len(rest)} more classes", sums))
    return found


def _count(value: int | None) -> str:
    return "n/a" if value is None else f"{value:,}"
