"""The settings of a verb and the type of each, from its composed configuration and from the
signatures of the classes that the configuration builds.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from detzoo.cli.values import ANY, Kind, kind_like, kind_of
from detzoo.config import folder

# Types of settings whose default does not show them
KINDS = {
    "size": "int | Sequence[int] | None",
    "channels": "int | Sequence[int]",  # several for YOLOv3
    **dict.fromkeys(("seconds", "speed.seconds", "smallest_anchor"), "float"),
    "score": "float | None",
    **dict.fromkeys(("rounds", "threads", "speed.rounds", "runtime.threads"), "int | None"),
    **dict.fromkeys(("batches", "speed.batches"), "Sequence[int] | None"),
    **dict.fromkeys(
        ("device", "precision", "study", "reference", "weights", "exported"), "str | None"
    ),
    **dict.fromkeys(("json", "out", "run", "to", "data.root", "start.source"), "str | Path | None"),
    **dict.fromkeys(("first", "second"), "Sequence[str | Path] | None"),
    **dict.fromkeys(("runs",), "Sequence[str | Path]"),
    **dict.fromkeys(("detectors", "precisions"), "Sequence[str] | None"),
    **dict.fromkeys(("runtime.channels_last", "channels_last", "runtime.workers", "jobs"), "Any"),
    "results": "Sequence[str] | Mapping[str, str] | None",
    "speed.reference": "str | None",
}
# The parts of a training, and the settings that are read beside them
PARTS = ("label", "name", "root", "seed", "lr", "detector", "data", "resize", "augment")
PARTS += ("recipe", "runtime")
REFERENCE = re.compile(r"\$\{(?:oc\.select:)?([\w.]+)")
# Constructor parameters that the program sets itself
FILLED = {"num_classes"}
# A mapping whose keys are a data set's splits
SPLITS = ("train", "val", "test")
OF_SPLITS = {"splits": SPLITS, "holdout": ("val", "test"), "images": SPLITS, "annotations": SPLITS}


class Schema:
    """The settings of a verb under a choice of groups.

    config: conf/`config`.yaml. choices: overrides that choose (`detector=ssd`), given to Hydra.
    """

    def __init__(self, config: str, choices: Sequence[str] = ()) -> None:
        with initialize_config_dir(str(folder("conf")), version_base="1.3"):
            composed = compose(config, list(choices), return_hydra_config=True)
        self.groups: dict[str, str | None] = dict(composed.hydra.runtime.choices)
        OmegaConf.set_struct(composed, False)
        del composed["hydra"]
        self.config: DictConfig = composed
        self.tree: dict[str, Any] = OmegaConf.to_container(composed, resolve=False)

    @cached_property
    def keys(self) -> list[str]:
        """Every setting's full name, including those that only a constructor declares."""
        return list(dict.fromkeys(self._keys(self.tree, "")))

    def _keys(self, node: Any, path: str) -> Iterator[str]:
        for key, value in node.items():
            name = f"{path}{key}"
            if key != "_target_":
                yield name
            if isinstance(value, dict):
                yield from self._keys(value, f"{name}.")
        for parameter in parameters(node.get("_target_")):
            yield f"{path}{parameter}"

    def find(self, key: str) -> Kind | None:
        """The kind of values that the setting takes; None for an unknown setting."""
        node: Any = self.tree
        parts = key.split(".")
        for place, part in enumerate(parts):
            last = place == len(parts) - 1
            known = parameters(node.get("_target_")) if isinstance(node, dict) else {}
            if isinstance(node, list):
                if not part.isdecimal() or int(part) >= len(node):
                    return None
                if last:
                    return ANY
                node = node[int(part)]
            elif node == {} and place:  # free: label -> value
                return ANY
            elif not isinstance(node, dict) or (part not in node and part not in known):
                return None
            elif last:
                return self._kind(key, part, node.get(part), known.get(part))
            elif part not in node or node[part] is None:
                return self._below(part, parts[place + 1 :], known.get(part, ""))
            elif part in OF_SPLITS and "_target_" in node:
                return self._below(part, parts[place + 1 :], known.get(part, "Mapping[str, Any]"))
            else:
                annotation, node = known.get(part, ""), node[part]
                if annotation.startswith("dict["):  # options: whatever the library takes
                    return ANY
        return None

    def _below(self, part: str, rest: Sequence[str], annotation: str) -> Kind | None:
        """The kind of a key in a mapping that a constructor takes and the configuration omits."""
        if not any(word in annotation for word in ("Mapping[", "dict[")):
            return None
        if part in OF_SPLITS and (len(rest) > 1 or rest[0] not in OF_SPLITS[part]):
            return None
        if part == "holdout":
            return Kind("number", none=True)
        return Kind("text", many=True, one=True, none=True) if part in OF_SPLITS else ANY

    def _kind(self, key: str, leaf: str, default: Any, annotation: str | None) -> Kind:
        if annotation:
            return kind_of(annotation, leaf)
        if key in KINDS and not (key == "images" and isinstance(default, bool)):
            return kind_of(KINDS[key], leaf)
        try:
            value = OmegaConf.select(self.config, key)
        except OmegaConfBaseException:  # an interpolation of what must be given
            value = default
        return kind_like(OmegaConf.to_object(value) if OmegaConf.is_config(value) else value, leaf)

    def referenced(self) -> set[str]:
        """The parts of a training, and the settings that they refer to by ${...}."""
        found: set[str] = set()
        parts = PARTS if "detector" in self.tree else (*PARTS, "proposals")  # of detzoo propose
        new = {name for name in parts if name in self.tree}
        while new:
            found |= new
            new = referred(str([self.tree.get(name) for name in new])) - found
        return found

    def training_images(self) -> int | None:
        """The number of training images of this configuration's data set; None if it is unknown.

        A synthetic data set has a setting for it, and is not drawn.
        """
        from detzoo.config import build, plain

        try:
            node = plain(self.config.data)
            if isinstance(node.get("train"), int):
                return node["train"]
            return len(build(node, "data").read("train"))
        except Exception:  # errors in the data are reported elsewhere
            return None

    def can_resolve(self, inner: str) -> bool:
        """Whether ${inner} is an interpolation that OmegaConf can resolve here."""
        name, colon, _ = inner.partition(":")
        if colon:
            return OmegaConf.has_resolver(name)
        try:
            return OmegaConf.select(self.config, inner, throw_on_missing=False) is not None
        except Exception:
            return False


def referred(text: str) -> set[str]:
    """The settings, by the first part of their names, that a text refers to by ${...}."""
    return {name.split(".")[0] for name in REFERENCE.findall(text)}


@cache
def schema_of(config: str, *choices: str) -> Schema:
    """The schema, composed once."""
    return Schema(config, choices)


@cache
def parameters(target: Any) -> dict[str, str]:
    """Parameter -> annotation of the class that `target` names, including those of its bases if it
    passes them on; {} without such a class."""
    if not isinstance(target, str) or not target.startswith("detzoo."):
        return {}
    try:
        kind = get_class(target)
    except (ValueError, ImportError, HydraException):
        return {}
    found: dict[str, str] = {}
    for base in inspect.getmro(kind):
        if "__init__" not in vars(base):
            continue
        of_base = inspect.signature(base.__init__).parameters.values()
        for parameter in list(of_base)[1:]:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                annotation = parameter.annotation
                text = (
                    annotation
                    if isinstance(annotation, str)
                    else inspect.formatannotation(annotation)
                )
                found.setdefault(parameter.name, "" if annotation is parameter.empty else text)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in of_base):
            break
    return {name: text for name, text in found.items() if name not in FILLED}


def value_of(override: str) -> Any:
    """The value of `key=value` by Hydra's grammar; None for a sweep. ValueError in one sentence."""
    try:
        found = OverridesParser.create().parse_override(override)
        return None if found.is_sweep_override() else found.value()
    except (HydraException, RecursionError):
        key, _, value = override.partition("=")
        raise ValueError(
            f"{key}={value} cannot be read: lists are [a,b], mappings {{a:b}}, and text with other "
            "signs in it is quoted once more: 'a: b'"
        ) from None


def choices_of(group: str) -> list[str]:
    """The choices of a config group: coco for data/coco.yaml, torchvision/ssd too."""
    where = folder("conf") / group
    names = [p.relative_to(where).with_suffix("").as_posix() for p in where.rglob("*.yaml")]
    stored = ConfigStore.instance().repo.get(group, {})
    return sorted({*names, *(name.removesuffix(".yaml") for name in stored)})
