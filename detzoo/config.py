"""Builds objects from configuration: the only place where a `_target_` becomes a call.

A configuration may come from somebody else (a run directory, say), so a target is not trusted: it
must be one of TARGETS, in a place where that kind is allowed. No name is looked up that is not
listed here, and nothing is imported but detzoo's own modules.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue

from detzoo.plain_yaml import read_yaml

# The targets in conf/, by the place where each is allowed. A new class that a configuration builds
# is added here; a test walks conf/ and experiments/ and checks that this list is complete and has
# nothing unused.
TARGETS: dict[str, tuple[str, ...]] = {
    "detector": tuple(
        f"detzoo.detectors.{name}"
        for name in (
            *("RCNN", "FastRCNN", "FasterRCNN", "YOLO", "YOLOv3", "SSD", "RetinaNet", "FCOS"),
            *("CornerNet", "CenterNet", "DETR", "TorchvisionDetector", "TransformersDetector"),
        )
    ),
    "backbone": tuple(
        f"detzoo.nn.{name}"
        for name in ("Backbone", "Darknet24", "Hourglass", "VGG16", "VGG16Conv5", "ViT")
    ),
    "proposals": (
        *(f"detzoo.data.{name}" for name in ("EdgeBoxes", "Grid", "SelectiveSearch")),
        "detzoo.api.RegionProposals",
    ),
    "data": tuple(f"detzoo.data.{name}" for name in ("Auto", "Coco", "Shapes", "Voc", "YoloTxt")),
    "resize": tuple(f"detzoo.data.{name}" for name in ("Letterbox", "ShortestSide", "Stretch")),
    "augment": ("detzoo.data.augment.Policy",),
    "transform": (
        *(f"detzoo.data.augment.{name}" for name in ("Colour", "Flip", "Zoom")),
        *(f"detzoo.data.augment_ssd.{name}" for name in ("Distort", "ZoomOutAndCrop")),
    ),
    "recipe": ("detzoo.engine.recipe.Recipe",),
}
CHILDREN = {"detector": ("backbone", "proposals"), "augment": ("transform",)}

# What a constructor raises for arguments that it cannot use; an ImportError names an extra instead
CONSTRUCTION = (
    *(ValueError, TypeError, AttributeError, LookupError, ArithmeticError, AssertionError),
    *(OSError, RuntimeError, MemoryError),
)

_PACKAGE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """The folder `conf` or `experiments`: in the package (from a wheel) or beside it (checkout)."""
    installed = _PACKAGE / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


def plain(config: Any) -> Any:
    """A configuration as resolved dicts, lists and values without a trace of OmegaConf.

    Plain values are returned unchanged. Raises ValueError for a setting that must be given and is
    not.
    """
    if not OmegaConf.is_config(config):
        return config
    try:
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        name = error.full_key or "a setting"
        raise ValueError(f"{name} must be given: {name}=...") from error


def load_yaml(path: str | Path) -> dict[str, Any]:
    """The settings in a YAML file, by `plain_yaml.read_yaml`. Raises ValueError with the path.

    Settings in a file are resolved already; one that would be resolved again, and could then read
    the environment or name another target, is refused.
    """
    path = Path(path)
    try:
        value = read_yaml(path)
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such file") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: holds a {type(value).__name__}, not a mapping of settings")
    for where, text in _texts(value, str(path)):
        if "${" in text:
            raise ValueError(f"{where}: {text!r:.200} holds an interpolation; write its value out")
    return value


def _texts(node: Any, where: str) -> Iterator[tuple[str, str]]:
    """Every text below `node`, keys too, with its place."""
    if isinstance(node, dict):
        for key, child in node.items():
            if isinstance(key, str):
                yield where, key
            yield from _texts(child, f"{where}: {key}")
    elif isinstance(node, list | tuple):
        for index, child in enumerate(node):
            yield from _texts(child, f"{where}[{index}]")
    elif isinstance(node, str):
        yield where, node


def part_of(node: Any) -> str | None:
    """The part that the target of `node` is, by TARGETS; None for no node and no such target."""
    target = node.get("_target_") if isinstance(node, dict) else None
    return next((part for part, names in TARGETS.items() if target in names), None)


def build(node: Any, name: str = "config", file: str | Path = "", **arguments: Any) -> Any:
    """The object that `node` (a mapping with `_target_`) describes, its children built first.

    name, file: as in `check`. arguments: values that the program fills in, such as num_classes;
    they win over the node's. Raises ValueError as `check` does, before anything at all is built,
    and for arguments that the target refuses.
    """
    node = plain(node)
    check(node, name, file)
    return _construct({**node, **arguments}, f"{file}: {name}" if file else name)


def check(node: Any, name: str = "config", file: str | Path = "") -> None:
    """Raise ValueError unless `build` may build `node`; nothing is built.

    name: the place of the node; if it is a part of TARGETS, the node must be of that part. file:
    its source, for errors.
    """
    where = f"{file}: {name}" if file else name
    if not isinstance(node, dict) or "_target_" not in node:
        raise ValueError(f"{where} has no _target_ that says what to build, got {node!r:.200}")
    _check(node, where, [name] if name in TARGETS else list(TARGETS))


def _check(node: Any, where: str, parts: Sequence[str]) -> None:
    """Raise ValueError unless every target at and below `node` may be built at its place.

    parts: what a target here may be; below one, what CHILDREN has for it.
    """
    if isinstance(node, dict):
        if "_target_" in node:
            part = part_of(node)
            if part not in parts or not _is_ours(find_class(node["_target_"])):
                raise ValueError(
                    f"{where}: the target {node['_target_']!r:.200} is refused; only classes of "
                    f"detzoo's are built, and here {_listed(parts)}"
                )
            parts = CHILDREN.get(part, ())
        for key, child in node.items():
            if not isinstance(key, str) or (key.startswith("_") and key != "_target_"):
                raise ValueError(f"{where}: {key!r:.80} is no name of a setting")
            _check(child, f"{where}.{key}", parts)
    elif isinstance(node, list | tuple):
        for index, child in enumerate(node):
            _check(child, f"{where}[{index}]", parts)
    elif isinstance(node, str) and "${" in node:
        # Values must be resolved only once: a second time they could reach the environment.
        raise ValueError(f"{where}: {node!r:.200} holds an interpolation inside a resolved value")
    elif not isinstance(node, str | int | float | Path | None):
        raise ValueError(f"{where} is a {type(node).__name__}, which no setting is")


def _listed(parts: Sequence[str]) -> str:
    if not parts:
        return "none"
    return ", ".join(name for part in parts for name in TARGETS[part])


def find_class(target: str) -> Any:
    """The class that one of TARGETS names."""
    module, name = target.rsplit(".", 1)
    return getattr(import_module(module), name)


def _is_ours(value: Any) -> bool:
    """Whether it is a class defined in detzoo, under whatever name."""
    return isinstance(value, type) and value.__module__.split(".")[0] == "detzoo"


def _construct(node: Any, where: str) -> Any:
    """`node` with an object in place of each mapping with a target; `_check` has passed it."""
    if isinstance(node, list):
        return [_construct(child, f"{where}[{index}]") for index, child in enumerate(node)]
    if not isinstance(node, dict):
        return node
    built = {
        key: _construct(child, f"{where}.{key}") for key, child in node.items() if key != "_target_"
    }
    if "_target_" not in node:
        return built
    try:
        return find_class(node["_target_"])(**built)
    except CONSTRUCTION as error:
        kind = "" if isinstance(error, ValueError | TypeError) else f"{type(error).__name__}: "
        raise ValueError(f"{where} ({node['_target_']}): {kind}{error}") from error
