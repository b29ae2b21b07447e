"""What a run starts from, by its setting `start`: found, checked and named before anything long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
import torch

from detzoo.config import build
from detzoo.data.dataset import content_hash
from detzoo.detector import Detector
from detzoo.engine import checkpoint
from detzoo.files import write_json
from detzoo.run_config import FILE, read_run
from detzoo.text import shortened
from detzoo.weights.published import (
    Missing,
    as_overrides,
    fetch,
    name_of,
    patience,
    published,
)
from detzoo.weights.source import Weights, read, state_in
from detzoo.weights.start import (
    Carried,
    carry,
    count_classes,
    named_apart,
    silence,
)
from detzoo.workflow.select import select_one

Settings = dict[str, Any]

RECORD = "start.json"
# Of a detector: what changes neither its weights nor what they mean
WITHOUT_WEIGHTS = ("num_classes", "_target_", "pretrained", "weights", "proposer", "frozen_stages")
WORDS = ("scratch", "imagenet", "coco")
SHOWN = 8  # classes in a line


def resolve(settings: Settings) -> Settings:
    """The settings with `start` as a run records it, and a backbone that begins as it says.

    No `start` is left where the backbone says it all: by default, from scratch and from ImageNet.
    Otherwise kind (coco, run or file), source, hash, seen and classes; published weights are
    downloaded where they are not here yet. Raises ValueError, and Missing for a file to bring.
    """
    given = settings.get("start") or {}
    source = given.get("source")
    settings = {key: value for key, value in settings.items() if key != "start"}
    if source is None:
        if given.get("classes"):
            raise ValueError("start.classes is given without start=coco, start=FILE or start=RUN")
        return settings
    source = str(source)
    if source in ("scratch", "imagenet"):
        return _with_backbone(settings, source)
    name = name_of(settings["detector"])
    if source == "coco" and published(name) is None:
        print(f"{name}: no published detection weights are known here; starts from ImageNet")
        return _with_backbone(settings, "imagenet")
    start = {**_found(source, settings), "classes": dict(given.get("classes") or {})}
    settings = _with_backbone(settings, "scratch")  # every weight comes with the start
    return {**settings, "start": start}


def _with_backbone(settings: Settings, kind: str) -> Settings:
    """The settings with a backbone from scratch or with ImageNet's weights."""
    node = dict(settings["detector"]["backbone"])
    if kind == "imagenet":
        if "pretrained" not in node:
            name = node["_target_"].rpartition(".")[2]
            raise ValueError(
                f"start=imagenet: no ImageNet weights of {name} are known here; "
                "use backbone=resnet18 or another of timm's, or start=scratch"
            )
        node["pretrained"] = not node.get("weights")
        fetch_backbone(node)
    else:
        node |= {
            key: value for key, value in (("pretrained", False), ("weights", None)) if key in node
        }
    return {**settings, "detector": {**settings["detector"], "backbone": node}}


def fetch_backbone(node: Mapping[str, Any]) -> None:
    """Get the ImageNet weights of a backbone that shall be pretrained into the cache.

    node: its configuration. Raises Missing where they are neither here nor to be fetched.
    """
    if not node.get("pretrained"):
        return
    try:
        with patience():
            build({**node, "frozen_stages": None} if "frozen_stages" in node else node, "backbone")
    except (OSError, RuntimeError, ValueError) as error:
        name = str(node.get("name") or node["_target_"]).rpartition(".")[2]
        where = "its publisher"
        if timm.is_model(name):
            hub = timm.get_pretrained_cfg(name)
            where = f"https://huggingface.co/{hub.hf_hub_id}" if hub.hf_hub_id else str(hub.url)
        said = str(error).strip().split("\n")[0][:200]
        raise Missing(
            f"start=imagenet: the ImageNet weights of {name} cannot be fetched ({said}); bring "
            f"them from {where} and give backbone.weights=FILE, or start=scratch"
        ) from error


def _found(source: str, settings: Settings) -> dict[str, Any]:
    """kind, source, hash and seen."""
    if source == "coco":
        name = name_of(settings["detector"])
        path, seen = fetch(name), published(name).seen
        return {"kind": "coco", "source": str(path), "hash": content_hash(path), "seen": seen}
    path = Path(source).expanduser()
    if path.is_file() and path.name == checkpoint.FILE and (path.parent / FILE).is_file():
        path = path.parent
    if path.is_file():
        digest = content_hash(path)
        return {"kind": "file", "source": str(path.resolve()), "hash": digest, "seen": path.name}
    try:
        run = select_one(source).resolve()
    except ValueError as error:
        known = ", ".join(WORDS)
        raise ValueError(
            f"start is {shortened(source, 200)}: neither one of {known}, nor a file, nor a run "
            f"({error})"
        ) from error
    weights = run / checkpoint.FILE
    if not weights.is_file():
        raise ValueError(f"start={source}: {run} has no {checkpoint.FILE}; it was not trained yet")
    return {"kind": "run", "source": str(run), "hash": content_hash(weights), "seen": _seen(run)}


def _seen(run: Path) -> str:
    """What the weights of a run were trained on, its own start included."""
    other = read_run(run, data=False)
    data = other.get("data") or {}
    images = (other.get("recipe") or {}).get("images_seen", 0)
    before = (other.get("start") or {}).get("seen")
    here = f"{images:,} images of {shortened(str(data.get('name', 'its data')), 60)}"
    return here + (f", before that {shortened(str(before), 200)}" if before else "")


def left_over(settings: Settings) -> list[str]:
    """The classes of the source that the data do not have, by names that the data do not have.

    Reads the source for it, into a detector without memory for its weights. Raises ValueError
    where the data have none of its classes.
    """
    node = settings["detector"]
    with torch.device("meta"):
        detector = build({**node, "proposer": None} if "proposer" in node else node, "detector")
    weights, _ = _read(detector, settings)
    given = settings["start"]["classes"]
    return [n for n, own in named_apart(weights.classes, settings["classes"], given) if not own]


def begin(
    detector: Detector, settings: Settings, run: Path | None = None, *, untrained: bool = False
) -> None:
    """Load what `settings` starts from into a detector as it was built; prints it in three lines.

    run: where start.json is written. untrained: classes that the source lacks are never found.
    Raises ValueError for weights that do not fit.
    """
    start = settings.get("start")
    if start is None:
        return
    carried = load(detector, settings, untrained=untrained)
    if untrained:
        silence(detector, [settings["classes"].index(name) for name in carried.new])
    print("\n".join(lines(start, carried)), flush=True)
    if run is not None:
        write_json(
            run / RECORD,
            {
                **start,
                "loaded": dict(zip(("values", "of"), carried.values, strict=True)),
                "mapped": carried.classes,
                "new": carried.new,
                "left_over": carried.left,
            },
        )


def load(detector: Detector, settings: Settings, *, untrained: bool = False) -> Carried:
    """Carry the weights over. Raises ValueError with what they want where they do not fit."""
    start = settings["start"]
    weights, wanted = _read(detector, settings)
    theirs = weights.classes
    if untrained:
        mine = settings["classes"][: start["own"]]
        theirs = [name for name, _ in named_apart(theirs, mine, start["classes"])]
    return carry(
        detector,
        weights.state,
        theirs,
        settings["classes"],
        start["classes"],
        source=f"start={start['kind']} ({start['source']})",
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


def lines(start: Mapping[str, Any], carried: Carried) -> list[str]:
    """What was loaded, mapped, made anew and left over, for people."""
    loaded, of = carried.values
    from_ = start["kind"] if start["kind"] == "coco" else f"{start['kind']}:{start['hash'][:8]}"
    pairs = [m if m == t else f"{m} from {t}" for m, t in carried.classes.items()]
    return [
        f"start {from_}: loaded {loaded:,} of {of:,} values; they saw {start['seen']}",
        f"classes mapped: {_some(pairs)}",
        f"made anew: {_some(carried.new)}; left over: {_some(carried.left)}",
    ]


def _some(names: Any) -> str:
    names = [shortened(str(name), 60) for name in names]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more if names else "none"


def check_all(detectors: Sequence[str], source: str | None) -> None:
    """Raise one Missing for all files that must be brought before `source` can be started from."""
    missing = []
    for name in dict.fromkeys(detectors) if source == "coco" else ():
        try:
            if published(name) is not None:
                fetch(name)
        except Missing as error:
            missing.append(str(error))
    if missing:
        said = "\n  ".join(missing)
        raise Missing(f"start=coco lacks {len(missing)} files:\n  {said}")
