"""The weights that a run starts from, by its setting `start`: found and checked before anything
long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import timm

from detzoo.config import build
from detzoo.data.dataset import content_hash
from detzoo.engine import checkpoint
from detzoo.files import inside
from detzoo.run_config import FILE, read_run
from detzoo.text import shortened
from detzoo.weights.published import Missing, fetch, name_of, patience, published
from detzoo.workflow.select import select_one

Settings = dict[str, Any]

WORDS = ("scratch", "imagenet", "coco")


def resolve(settings: Settings) -> Settings:
    """The settings with `start` as a run records it, and a backbone that starts accordingly.

    `start` is removed where the backbone's settings are enough: by default, from scratch and from
    ImageNet. Otherwise kind (coco, run or file), source, hash, seen and classes; published weights
    are downloaded if they are not in the cache. Raises ValueError, and Missing for a file that must
    be supplied.
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
    settings = _with_backbone(settings, "scratch")  # the start has every weight
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
    weights = inside(run, checkpoint.FILE)
    if not weights.is_file():
        raise ValueError(f"start={source}: {run} has no {checkpoint.FILE}; it was not trained yet")
    return {"kind": "run", "source": str(run), "hash": content_hash(weights), "seen": _seen(run)}


def _seen(run: Path) -> str:
    """The data that the weights of a run were trained on, including its own start's."""
    other = read_run(run, data=False)
    data = other.get("data") or {}
    images = (other.get("recipe") or {}).get("images_seen", 0)
    before = (other.get("start") or {}).get("seen")
    here = f"{images:,} images of {shortened(str(data.get('name', 'its data')), 60)}"
    return here + (f", before that {shortened(str(before), 200)}" if before else "")


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
