"""Which runs are comparable: protocol fingerprints, the tables they define, detectors' names.

Rows whose protocol differs never share a table. Seeds may differ inside one, and so may the
learning rate: the matched recipe allows each detector its own, found by the same search.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from detzoo.report.load.effort import budget_of, defaults_of, effort_of, minutes_of
from detzoo.report.load.runs import Run
from detzoo.report.load.values import clean, dig

# The field in metrics.json's fingerprint -> how the page calls it.
ACCURACY = {
    "dataset_hash": "data set and image list (hash)",
    "split": "split",
    "resize": "pixels and resize",
    "score_threshold": "score threshold",
    "max_dets": "detections per image",
    "precision": "precision",
    "compile": "compiled",
    "device": "device",
    "batch": "batch",
    "recipe": "recipe",
    "images_seen": "images seen",
    "decoder": "decoder of scored JPEGs",  # where it is not the CPU's
    "budget": "budget",
    "start": "start",
}
# The same of speed.json's fingerprint; a run that was not timed fits any of them.
SPEED = {
    "images_hash": "timed images (hash)",
    "resize": "timed pixels and resize",
    "score_threshold": "timed score threshold",
    "max_dets": "timed detections per image",
    "precision": "timed precision",
    "compile": "timed compiled",
    "device": "timed on",
    "threads": "threads",
    "batch": "latency batch",
    "channels_last": "channels last",
    "decoder": "decoder",
    "cpu": "CPU",
    "gpu": "GPU",
}
# Keys of a recipe that may differ inside a table: each detector has its own rate, and how often a
# training is looked at changes nothing.
OF_OLD = {"fraction": "1"}  # the value of older runs, whose configuration lacks the key
OWN_TO_A_DETECTOR = ("lr", "val_points")


def accuracy_fingerprint(run: Run) -> dict[str, Any]:
    """The fields of ACCURACY as the run recorded them; None for missing ones."""
    found = {key: dig(run.metrics, "fingerprint", key) for key in ACCURACY}
    if isinstance(found["recipe"], dict):
        found |= _budget(found["recipe"])
        before = _before_search(defaults_of(run))
        unset = [key for key, value in before.items() if value is None]
        recipe = found["recipe"] | before
        found["recipe"] = {k: v for k, v in recipe.items() if k not in (*OWN_TO_A_DETECTOR, *unset)}
    found["compile"] = bool(found["compile"])  # before it was recorded, nothing was compiled
    found["start"] = start_of(run)
    return found


def start_of(run: Run) -> str | None:
    """What the weights knew before the first step: scratch, imagenet, coco, run:HASH, file:HASH, or
    a backbone's file; None if unrecorded."""
    recorded = dig(run.config, "start")
    if isinstance(recorded, dict):
        kind, digest = clean(recorded.get("kind"), 20), clean(str(recorded.get("hash", ""))[:8])
        return kind if kind == "coco" else f"{kind}:{digest}"
    backbone = dig(run.config, "detector", "backbone")
    if not isinstance(backbone, dict):
        return None
    if backbone.get("weights"):
        return f"backbone {clean(str(backbone['weights']).rpartition('/')[2], 60)}"
    return "imagenet" if backbone.get("pretrained") else "scratch"


def _budget(recipe: dict[str, Any]) -> dict[str, Any]:
    """The budget as a kind and its size. With minutes the number of images seen differs by
    detector."""
    if minutes_of(recipe) is None:
        return {"budget": "images"}
    kept = {key: value for key, value in recipe.items() if key not in ("images_seen", "minutes")}
    return {"budget": budget_of(recipe), "images_seen": None, "recipe": kept}


def _before_search(defaults: dict[str, Any]) -> dict[str, Any]:
    """The recipe's values in place of those that a search chose, which may differ inside a table as
    the rate may."""
    recipe = "recipe."
    return {
        key.removeprefix(recipe): value for key, value in defaults.items() if key.startswith(recipe)
    }


def speed_fingerprint(run: Run) -> dict[str, Any]:
    """The fields of SPEED as the run recorded them: in the fingerprint, else beside it.

    A timing of before it named the processor is taken to be of the one that the run was trained on.
    """
    places = (run.speed.get("fingerprint"), run.speed, run.environment)
    found: dict[str, Any] = dict.fromkeys(SPEED)
    for key in SPEED:
        for place in places if key in ("cpu", "gpu") else places[:2]:
            if isinstance(place, dict) and key in place:
                found[key] = place[key]
                break
    found["compile"] = bool(found["compile"])
    return found


@dataclass(frozen=True)
class Group:
    """Runs of one protocol: one table. fields: "accuracy.x" or "speed.x" -> value."""

    runs: tuple[Run, ...]
    fields: dict[str, Any]


def title(field: str) -> str:
    """The page's name of a Group's field."""
    part, _, key = field.partition(".")
    return (ACCURACY if part == "accuracy" else SPEED)[key]


def group_runs(runs: Sequence[Run], *, across_starts: bool = False) -> list[Group]:
    """The ranked runs by protocol, the largest table first (and in the order given for equals).

    across_starts: runs that start from different weights share a table.
    """

    def fingerprint(run: Run) -> dict[str, Any]:
        found = accuracy_fingerprint(run)
        return found | {"start": "any"} if across_starts else found

    tables: list[Group] = []
    for same in _by(fingerprint, [run for run in runs if run.ranked]):
        timed = _by(speed_fingerprint, [run for run in same if run.speed])
        timed.sort(key=len, reverse=True)
        untimed = [run for run in same if not run.speed]
        for index, members in enumerate(timed or [[]]):
            together = members + (untimed if index == 0 else [])
            fields = {f"accuracy.{k}": v for k, v in fingerprint(together[0]).items()}
            if members:
                fields |= {f"speed.{k}": v for k, v in speed_fingerprint(members[0]).items()}
            ordered = tuple(run for run in same if run in together)
            tables.append(Group(ordered, fields))
    return sorted(tables, key=lambda group: -len(group.runs))


def group_timed_runs(runs: Sequence[Run]) -> list[Group]:
    """The timed runs, scored or not, by how and in which session they were timed."""
    timed = [run for run in runs if run.speed]
    together = _by(lambda run: [speed_fingerprint(run), run.speed.get("session")], timed)
    return [
        Group(tuple(same), {f"speed.{k}": v for k, v in speed_fingerprint(same[0]).items()})
        for same in sorted(together, key=len, reverse=True)
    ]


def _by(key: Any, runs: Sequence[Run]) -> list[list[Run]]:
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(_canonical(key(run)), []).append(run)
    return list(found.values())


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def differences(tables: Sequence[Group]) -> dict[str, list[str]]:
    """The fields that differ between tables -> their value in each, as text."""
    fields = dict.fromkeys(field for table in tables for field in table.fields)
    values = {
        field: [format_value(table.fields.get(field)) for table in tables] for field in fields
    }
    return {field: texts for field, texts in values.items() if len(set(texts)) > 1}


def format_value(value: Any) -> str:
    """A fingerprint's value for people; a hash is shown by its first 12 digits."""
    if value is None:
        return "not recorded"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 1e18 else str(value)
    if isinstance(value, dict):
        parts = [
            format_value(v)
            if k in ("kind", "name")
            else f"{clean(k, 60).replace('_', ' ')} {format_value(v)}"
            for k, v in value.items()
            if k != "_target_"
        ]
        return ", ".join(parts)
    if isinstance(value, list):
        numbers = all(isinstance(item, int | float) for item in value)
        return (" x " if numbers else ", ").join(map(format_value, value))
    text = clean(value, 200)
    hexadecimal = len(text) > 16 and all(
        c in "0123456789abcdef" for c in text.removeprefix("sha256:")
    )
    return text.removeprefix("sha256:")[:12] if hexadecimal else text


def name_detectors(runs: Sequence[Run]) -> dict[Run, str]:
    """run -> the detector's name: its label, and what distinguishes runs that share a label.

    Runs that differ in their seed alone get the same name; two detectors never do.
    """
    traits = {run: _flat(_identity(run)) for run in runs if run.config.get("detector")}
    found: dict[Run, str] = {}
    for run in runs:
        if run not in traits:  # of unknown settings, so it must not join those of its label
            alone = not run.ranked or run.label == run.path.name
            found[run] = run.label if alone else f"{run.label} ({run.path.name})"
            continue
        own, same = traits[run], [traits[other] for other in traits if other.label == run.label]
        keys = dict.fromkeys(key for other in same for key in other)
        differing = [key for key in keys if len({other.get(key) for other in same}) > 1]
        if "fraction" in differing and len({other.get("train_hash") for other in same}) == 2:
            differing.remove("train_hash")
        if not differing:
            found[run] = run.label
        elif len(differing) <= 2:
            values = (
                f"{key.rpartition('.')[2]}={own.get(key, OF_OLD.get(key, 'n/a'))}"
                for key in differing
            )
            found[run] = f"{run.label} ({', '.join(values)})"
        else:
            digest = hashlib.sha256(_canonical(own).encode()).hexdigest()[:6]
            found[run] = f"{run.label} ({digest})"
    return found


def title_of(run: Run, name: str) -> str:
    """A run for a list of those left out, with one hash: its directory's."""
    base = re.sub(r" \([0-9a-f]{6}\)$", "", name)
    place = "" if run.path.name in base else f" ({run.path.name})"
    return f"{base}, seed {run.seed}{place}"


def _identity(run: Run) -> dict[str, Any]:
    """The identity of a detector: all settings except the seed."""
    identity = {key: run.config.get(key) for key in ("detector", "augment", "train_hash")}
    effort = effort_of(run)
    tuned = {"tuned": str(effort)} if effort else {}
    started = {"start": start_of(run)} if run.config.get("start") else {}
    part = dig(run.config, "data", "fraction")
    if part is not None:  # the same as the hash of its images, in words
        identity |= {"train_hash": None, "fraction": str(part)}
    return identity | {"lr": dig(run.config, "recipe", "lr")} | tuned | started


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    if not isinstance(value, dict):
        return {prefix: clean(value, 40)}
    pairs: dict[str, str] = {}
    for key, child in value.items():
        pairs |= _flat(child, f"{prefix}.{key}" if prefix else str(key))
    return pairs
