"""The weights that a run starts from, held against its detector, and carried over into it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

from detzoo.config import build
from detzoo.detector import Detector
from detzoo.engine import checkpoint
from detzoo.files import write_json
from detzoo.run_config import read_run
from detzoo.text import shortened
from detzoo.weights.anchors import anchors_of, apart, published_anchors
from detzoo.weights.published import as_overrides, name_of, published
from detzoo.weights.source import Weights, read, state_in
from detzoo.weights.start import (
    Carried,
    carry,
    check_fit,
    count_classes,
    suppress_classes,
    unique_names,
)
from detzoo.weights.torchvision import KINDS, PREFIX

Settings = dict[str, Any]

RECORD = "start.json"
# Settings of a detector that change neither its weights nor their meaning
WITHOUT_WEIGHTS = ("num_classes", "_target_", "pretrained", "weights", "proposer", "frozen_stages")
SHOWN = 8  # classes in a line


def check(settings: Settings) -> None:
    """Raise ValueError with the settings they need if the weights do not fit that `settings` starts
    from; nothing is loaded into anything, so that it is known before anything long."""
    if "start" in settings:
        parts = {key: settings[key] for key in ("start", "detector", "classes")}
        _check(json.dumps(parts, sort_keys=True))


@cache
def _check(text: str) -> None:
    settings = json.loads(text)
    detector = _outline(settings["detector"])
    weights, wanted = _read(detector, settings)
    given = settings["start"]["classes"]
    how = {"source": _named(settings["start"]), "wanted": " ".join(as_overrides(wanted))}
    check_fit(detector, weights.state, weights.classes, settings["classes"], given, **how)


def _outline(node: Mapping[str, Any]) -> Detector:
    """The detector of a node on the meta device, without memory for its weights."""
    with torch.device("meta"):
        return build({**node, "proposer": None} if "proposer" in node else dict(node), "detector")


def _named(start: Mapping[str, Any]) -> str:
    return f"start={start['kind']} ({start['source']})"


def left_over(settings: Settings) -> list[str]:
    """The classes of the source that the data do not have, by names that the data do not have.

    Reads the source for it, into a detector without memory for its weights. Raises ValueError
    where the data have none of its classes.
    """
    weights, _ = _read(_outline(settings["detector"]), settings)
    given = settings["start"]["classes"]
    return [n for n, own in unique_names(weights.classes, settings["classes"], given) if not own]


def begin(
    detector: Detector, settings: Settings, run: Path | None = None, *, untrained: bool = False
) -> None:
    """Load the start of `settings` into a newly built detector; prints it in three lines.

    run: where start.json is written. untrained: classes that the source lacks are never found.
    Raises ValueError for weights that do not fit.
    """
    start = settings.get("start")
    if start is None:
        return
    carried = load(detector, settings, untrained=untrained)
    if untrained:
        suppress_classes(detector, [settings["classes"].index(name) for name in carried.new])
    anchors = apart(anchors_of(detector), _their_anchors(settings))
    print("\n".join(lines(start, carried, anchors)), flush=True)
    if run is not None:
        write_json(
            run / RECORD,
            {
                **start,
                "loaded": dict(zip(("values", "of"), carried.values, strict=True)),
                "mapped": carried.classes,
                "new": carried.new,
                "left_over": carried.left,
                "other_anchors": anchors or None,
            },
        )


def load(detector: Detector, settings: Settings, *, untrained: bool = False) -> Carried:
    """Carry the weights over. Raises ValueError with the settings they need if they do not fit."""
    start = settings["start"]
    weights, wanted = _read(detector, settings)
    theirs = weights.classes
    if untrained:
        mine = settings["classes"][: start["own"]]
        theirs = [name for name, _ in unique_names(theirs, mine, start["classes"])]
    return carry(
        detector,
        weights.state,
        theirs,
        settings["classes"],
        start["classes"],
        source=_named(start),
        wanted=" ".join(as_overrides(wanted)),
    )


def _read(detector: Detector, settings: Settings) -> tuple[Weights, dict[str, Any]]:
    """The weights, their classes by name or number, and the settings that they want."""
    start, wanted = settings["start"], {}
    source = Path(start["source"])
    if start["kind"] == "run":
        other = read_run(source, data=False)
        _check_same(other["detector"], settings["detector"], source)
        state = state_in(checkpoint.load(source), source / checkpoint.FILE)
        wanted = _differing(other["detector"], settings["detector"], "detector")
        return Weights(state, tuple(other["classes"])), wanted
    found = read(source, detector, published=start["kind"] == "coco")
    if start["kind"] == "coco":
        wanted = published(name_of(settings["detector"])).settings
    if found.classes is None:
        count = count_classes(detector, found.state) or 0
        found = Weights(found.state, tuple(str(label) for label in range(count)))
    return found, wanted


def _check_same(theirs: Mapping[str, Any], ours: Mapping[str, Any], run: Path) -> None:
    kinds = [(node.get("_target_"), node.get("kind")) for node in (theirs, ours)]
    if kinds[0] != kinds[1]:
        names = [" ".join(filter(None, (str(k[0]).rpartition(".")[2], k[1]))) for k in kinds]
        raise ValueError(
            f"start={run} holds a {names[0]}'s weights, and the detector asked for is {names[1]}"
        )


def _differing(theirs: Mapping[str, Any], ours: Mapping[str, Any], at: str) -> dict[str, Any]:
    """The settings of a run's detector that are others here."""
    found: dict[str, Any] = {}
    for key, value in theirs.items():
        if key in WITHOUT_WEIGHTS or value == ours.get(key):
            continue
        if isinstance(value, dict) and isinstance(ours.get(key), dict):
            found |= _differing(value, ours[key], f"{at}.{key}")
        else:
            found[f"{at}.{key}"] = value
    return found


def _their_anchors(settings: Settings) -> dict[str, Any]:
    """Those that the weights were trained with; {} where that is not known, as of a file."""
    start = settings["start"]
    if start["kind"] == "run":
        return anchors_of(_outline(read_run(start["source"], data=False)["detector"]))
    name = name_of(settings["detector"]).removeprefix(PREFIX)
    return published_anchors(name) if start["kind"] == "coco" and name in KINDS else {}


def lines(start: Mapping[str, Any], carried: Carried, anchors: str = "") -> list[str]:
    """What was loaded, mapped, newly initialised and left over, for people; anchors: of `apart`."""
    loaded, of = carried.values
    from_ = start["kind"] if start["kind"] == "coco" else f"{start['kind']}:{start['hash'][:8]}"
    pairs = [m if m == t else f"{m} from {t}" for m, t in carried.classes.items()]
    found = [
        f"start {from_}: loaded {loaded:,} of {of:,} values; they saw {start['seen']}",
        f"classes mapped: {_some(pairs)}",
        f"made anew: {_some(carried.new)}; left over: {_some(carried.left)}",
    ]
    if anchors:
        found.append(
            f"its boxes were learned from other anchors, and have to be learned anew: {anchors}"
        )
    return found


def _some(names: Any) -> str:
    names = [shortened(str(name), 60) for name in names]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more if names else "none"
