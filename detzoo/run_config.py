"""config.yaml of a run directory, checked and completed before anything is built from it.

A run directory may come from somebody else. Its settings describe the detector and the data
set; they may name no other file and no download. Keys that an older version did not write are
completed with that version's behaviour.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detzoo.config import build, check, load_yaml, part_of
from detzoo.files import inside, link
from detzoo.text import shortened

FILE = "config.yaml"
DETECTOR = ("detector", "resize", "classes")
SCORED = (*DETECTOR, "data", "recipe")

BUILT = ("detector", "resize", "data")
KINDS: dict[str, tuple[type, str]] = {
    **dict.fromkeys(
        (*BUILT, "recipe", "runtime", "effort", "start"), (dict, "a mapping of settings")
    ),
    **dict.fromkeys(("label", "name"), (str, "a name")),
    "seed": (int, "a number"),
    "classes": (list, "a list of names"),
}

# Defaults of keys that earlier versions did not write
OLD_DEFAULTS: dict[str, Any] = {"name": "default", "seed": 0}
OLD_RUNTIME: dict[str, Any] = {
    "device": "auto",
    "precision": "auto",
    "channels_last": "auto",
    "threads": None,
    "workers": 0,
    "cache_mb": 2048,
}
MOST = {"threads": 4096, "workers": 4096, "cache_mb": 100_000_000}  # of the runtime
PROPOSER_FILES = (FILE, "checkpoint.pt")
BEGUN = {"pretrained": False, "weights": None}  # a backbone's settings without its starting weights
GONE = ("frozen",)  # a backbone's, formerly the number of convolutions that are not trained
EXPORTED = "exported"  # the key for the program that computes the network, if it is not torch
PROPOSER = "proposer"  # the folder in a run for the Faster R-CNN that proposes its regions


def read_run(
    run: str | Path,
    needs: Sequence[str] = DETECTOR,
    root: str | Path | None = None,
    *,
    data: bool = True,
) -> dict[str, Any]:
    """The settings of a run. needs: the required parts.

    root: where the data set is now, instead of its place at training. data: False if the data set
    is not read, only its settings. No backbone is downloaded or read from a file: the checkpoint
    has all weights. A Faster R-CNN that proposes regions is the one kept in the run's own folder.
    The data set is read in data.root and nowhere else. Raises ValueError with the file's name for
    what is missing, of another type, or reaches further.
    """
    run = Path(run)
    file = inside(run, FILE)
    settings = load_yaml(file)
    if missing := [key for key in needs if key not in settings]:
        raise ValueError(f"{file} lacks {', '.join(missing)}")
    settings = {"label": run.name, **OLD_DEFAULTS, **settings}
    for part in BUILT:
        if part in settings and (part != "data" or data):
            check(settings[part], part, file)
    settings["runtime"] = settings.get("runtime") or {}
    _check_types(settings, file)
    settings["runtime"] = {**OLD_RUNTIME, **settings["runtime"]}
    check_runtime(settings["runtime"], f"{file}: runtime")
    if "detector" in settings:
        settings["detector"] = _detector(settings, run, file)
    if root is not None:
        settings["data"] = {**settings.get("data", {}), "root": str(root)}
    if "data" in settings and data:
        _check_data(settings["data"], file)
    return settings


def check_runtime(settings: Mapping[str, Any], where: str) -> None:
    """Raise ValueError for more threads, workers or memory than any machine has."""
    for key, most in MOST.items():
        value = settings.get(key)
        if isinstance(value, int) and not 0 <= value <= most:
            raise ValueError(f"{where}.{key} is {value:.3g}; it lies between 0 and {most:,}")


def copy_proposer(settings: dict[str, Any], run: str | Path) -> None:
    """Copy the Faster R-CNN that proposes the run's regions into the run, for `read_run`.

    By `files.link`. Raises OSError.
    """
    node = settings["detector"].get("proposer")
    if part_of(node) != "proposals" or "run" not in node:
        return
    for name in PROPOSER_FILES:
        link(Path(node["run"]) / name, Path(run) / PROPOSER / name)


def _check_types(settings: dict[str, Any], file: Path) -> None:
    """Raise ValueError for a value of a type that no version of detzoo writes."""
    for key, (kind, wanted) in KINDS.items():
        value = settings.get(key)
        if key in settings and (not isinstance(value, kind) or isinstance(value, bool)):
            raise ValueError(f"{file}: {key} is {shortened(repr(value), 80)}; it must be {wanted}")
    if "recipe" in settings and "images_seen" not in settings["recipe"]:
        raise ValueError(f"{file}: recipe lacks images_seen, which every table shows")
    for name in settings.get("classes") or ():
        if not isinstance(name, str):
            raise ValueError(f"{file}: the class {shortened(repr(name), 80)} is not a name")


def _detector(settings: dict[str, Any], run: Path, file: Path) -> Any:
    """The detector's node, confined to the run's own files."""
    node, classes = settings["detector"], settings.get("classes")
    count = node.get("num_classes")
    if isinstance(classes, list) and count is not None and count != len(classes):
        raise ValueError(
            f"{file}: detector.num_classes is {shortened(repr(count), 80)}, and there are "
            f"{len(classes)} classes"
        )
    return _confine(node, run, file)


def _confine(node: Any, run: Path, file: Path) -> Any:
    """`node` with no backbone that is downloaded or read, and the run's own regions."""
    if isinstance(node, list):
        return [_confine(child, run, file) for child in node]
    if not isinstance(node, dict):
        return node
    found = {key: _confine(child, run, file) for key, child in node.items()}
    if part_of(node) == "backbone":
        found = {key: value for key, value in found.items() if key not in GONE}
        found |= {key: value for key, value in BEGUN.items() if key in found}
    elif part_of(node) == "proposals" and "run" in found:
        found["run"] = str(_copied_proposer(found["run"], run, file))
    return found


def _copied_proposer(named: Any, run: Path, file: Path) -> Path:
    """The Faster R-CNN inside `run` that proposes its regions."""
    kept = run / PROPOSER
    if (kept / FILE).is_file():
        return kept
    if isinstance(named, str) and not _is_outside(run, named):
        return run / named
    raise ValueError(
        f"{file}: its regions come from {shortened(named, 300)}, outside of the run, where nothing "
        f"is read. If that is right: mkdir {kept}; cp {shortened(named, 300)}/{{config.yaml,"
        f"checkpoint.pt}} {kept}"
    )


def _check_data(node: dict[str, Any], file: Path) -> None:
    """Raise ValueError for a data set that would be read elsewhere than in its root, or drawn."""
    root = node.get("root")
    if root is not None and not isinstance(root, str):
        raise ValueError(f"{file}: data.root is {shortened(repr(root), 80)}; it must be a folder")
    for key, value in node.items():
        if key in ("root", "name", "classes", "_target_", "allow", "skip", "group"):
            continue
        for place in _strings(value):
            if _is_outside(Path(root or "."), place):
                raise ValueError(
                    f"{file}: data.{key} is {shortened(place, 200)}, outside of data.root; a run's "
                    "data set is read in its root alone: data.root=DIR names the folder of both"
                )
    if node.get("_target_") == "detzoo.data.Shapes":
        drawn = build(node, "data", file).root
        if not drawn.is_dir():
            raise ValueError(
                f"{file}: {drawn} is not there, where the run found its data set: data.root=DIR "
                "says where it lies now; detzoo check data=shapes draws it again"
            )


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict | list):
        children = value.values() if isinstance(value, dict) else value
        return [text for child in children for text in _strings(child)]
    return [value] if isinstance(value, str) else []


def _is_outside(folder: Path, place: str) -> bool:
    """Whether folder/place is outside `folder`, by its name (links are the owner's)."""
    base = os.path.abspath(folder.parent if folder.is_file() else folder.expanduser())
    path = os.path.abspath(os.path.join(base, os.path.expanduser(place)))
    return os.path.commonpath([base, path]) != base
