"""From configuration to objects: the one place where a `_target_` becomes a call.

A configuration may come from somebody else (a run directory, say), so a target is a request and not
an order: it must name a class of detzoo, or a module or an optimiser of torch, torchvision or timm.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue

from detzoo.plain_yaml import read_yaml

ALLOWED = ("detzoo", "torch", "torchvision", "timm")
_PACKAGE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """Where `conf` or `experiments` lies: in the package (from a wheel) or beside it (checkout)."""
    installed = _PACKAGE / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


def plain(config: Any) -> Any:
    """A configuration as resolved dicts, lists and values without a trace of OmegaConf.

    What is plain already stays as it is. Raises ValueError for a setting that must be given and is
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

    Settings that lie in a file are resolved already; one that would be resolved once more, when it
    could reach the environment or name another target, is refused.
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
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from _texts(child, f"{where}[{index}]")
    elif isinstance(node, str):
        yield where, node


def build(node: Any, name: str = "config", **arguments: Any) -> Any:
    """The object that `node` (a mapping with `_target_`) describes, its children built first.

    name: where the node stands, for errors. arguments: values that the program fills in, such as
    num_classes; they win over the node's. Raises ValueError for a target that is not allowed,
    before anything at all is built, and for arguments that the target refuses.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    node = plain(node)
    if not isinstance(node, dict) or "_target_" not in node:
        raise ValueError(f"{name} has no _target_ that says what to build, got {node!r}")
    for where, target in _targets(node, name):
        _resolve(where, target)
    try:
        return instantiate(node, _convert_="all", **arguments)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, ValueError | TypeError | OSError):
            raise ValueError(f"{name} ({node['_target_']}): {cause}") from error
        raise


def _targets(node: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Every `_target_` below `node` with its path."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield where, node["_target_"]
        for key, child in node.items():
            yield from _targets(child, f"{where}.{key}")
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from _targets(child, f"{where}[{index}]")
    elif isinstance(node, str) and "${" in node:
        # What is resolved once must not be resolved again, when it could name another target.
        raise ValueError(f"{where}: {node!r} holds an interpolation inside a resolved value")


def _resolve(where: str, target: Any) -> None:
    """Raise ValueError unless `target` names a class that may be built."""
    refused = (
        f"{where}: the target {target!r} is refused; only classes of detzoo, and modules and "
        "optimisers of torch, torchvision and timm, may be built"
    )
    if not isinstance(target, str) or target.split(".")[0] not in ALLOWED:
        raise ValueError(refused)
    value = _find(where, target)
    # A name below detzoo may be an import of detzoo's: what counts is where the class was made.
    home = (getattr(value, "__module__", None) or "").split(".")[0]
    if not inspect.isclass(value) or home not in ALLOWED:
        raise ValueError(refused)
    if home != "detzoo":
        from torch import nn, optim

        if not issubclass(value, nn.Module | optim.Optimizer):
            raise ValueError(refused)


def _find(where: str, target: str) -> Any:
    """Whatever has that dotted name; modules on the way are imported. ValueError for nothing."""
    parts = target.split(".")
    value = import_module(parts[0])
    for used, part in enumerate(parts[1:], 2):
        if not hasattr(value, part):
            try:
                import_module(".".join(parts[:used]))
            except ModuleNotFoundError as error:
                raise ValueError(f"{where}: there is no {target} ({error})") from error
        value = getattr(value, part)
    return value
