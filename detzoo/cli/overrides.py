"""Every override of a command is judged before Hydra sees it: taken, or refused in a sentence.

A setting that the verb does not have is an error that names the one it has, a value that cannot be
one that names the setting. What is taken goes to Hydra as `++key=value`, "set it, whether it is
there or not", since a constructor's default lives in its signature alone.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from detzoo.cli import values
from detzoo.cli.schema import Schema, choices_of, parameters, schema_of, value_of
from detzoo.cli.values import FUNCTION, Kind

OVERRIDE = re.compile(r"(?P<sign>\+\+|\+|~|)(?P<key>[^=]*?)(?:=(?P<value>.*))?", re.S)
# Hydra's flags that have a value of their own behind them
VALUED = {
    *("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn"),
    *("--config-dir", "-cd", "--experimental-rerun", "--info", "-i"),
}
# Settings that only some detectors have a use for
FOR_SOME = {
    *("channels", "head_width", "smallest_anchor", "finest_level", "cell", "octave_scales"),
    *("max_proposals", "crop", "crop_context", "crop_batch", "anchors", "size_weight"),
    *("proposals", "grid_smallest", "grid_growth", "grid_ratios", "grid_step"),
}
EPOCHS = {"epochs", "epoch", "max_epochs", "num_epochs", "n_epochs", "total_epochs"}
STEPS = {"steps", "max_steps", "iterations", "iters", "max_iter", "max_iters", "num_steps"}
# What other programs call a setting -> what it may be here, by the last part of a name
ALIASES = {
    **dict.fromkeys(
        ("imgsz", "img_size", "image_size", "img", "input_size"), ("resize.size", "size")
    ),
    **dict.fromkeys(("resolution", "pixels"), ("resize.size", "size")),
    **dict.fromkeys(("batch", "batchsize", "bs"), ("recipe.batch_size", "batch_size", "batches")),
    **dict.fromkeys(("model", "arch", "net", "architecture"), ("detector", "run", "runs")),
    **dict.fromkeys(("lr0", "learning_rate", "base_lr"), ("lr",)),
    **dict.fromkeys(
        ("pretrained_weights", "checkpoint", "ckpt"), ("backbone.weights", "run", "runs")
    ),
    **dict.fromkeys(("gpu", "gpus", "cuda"), ("runtime.device", "device")),
    **dict.fromkeys(("num_workers", "n_workers"), ("runtime.workers",)),
    **dict.fromkeys(("project", "save_dir", "output_dir", "output"), ("out", "root")),
    **dict.fromkeys(("exp", "exp_name", "experiment_name"), ("name",)),
    **dict.fromkeys(("dataset", "data_dir", "dataset_dir", "data_root", "path"), ("data.root",)),
    **dict.fromkeys(("conf", "conf_thres", "threshold", "score_thr"), ("score", "score_threshold")),
    **dict.fromkeys(("source", "input", "image"), ("images",)),
    **dict.fromkeys(("seed",), ("seeds",)),
    **dict.fromkeys(("detector",), ("detectors",)),
    **dict.fromkeys(("amp", "half", "fp16"), ("runtime.precision", "precision")),
    **dict.fromkeys(("nc", "num_classes", "class_names", "names"), ("data.classes",)),
    **dict.fromkeys(("iou", "iou_thres", "nms"), ("detector.nms_threshold",)),
}


class Refused(ValueError):
    """An override that cannot be taken."""


@dataclass(frozen=True)
class Override:
    """`key=value` as it came, with Hydra's sign before it: "", "+", "++" or "~"."""

    text: str
    sign: str
    key: str
    value: str | None

    @property
    def group(self) -> str:
        """The key without the package that Hydra lets follow it: data@mine is data."""
        return self.key.split("@")[0]


def parse(text: str) -> Override:
    found = OVERRIDE.fullmatch(text)
    assert found is not None
    return Override(text, found["sign"], found["key"].strip(), found["value"])


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Hydra's flags with their values, and the rest."""
    flags, rest, valued = [], [], False
    for argument in arguments:
        flag = argument.startswith("-") and not _is_setting(argument)
        (flags if flag or valued else rest).append(argument)
        valued = flag and argument in VALUED
    return flags, rest


def _is_setting(argument: str) -> bool:
    return not re.match(r"-{1,2}[A-Za-z]", argument)


def judge(
    verb: str,
    arguments: Sequence[str],
    *,
    config: str | None = None,
    multirun: bool = False,
    otherwise: Callable[[str], str | None] = lambda key: None,
) -> list[str]:
    """The overrides `arguments` of `detzoo verb` as Hydra shall have them.

    config: the file in conf/, where it is not called as the verb. multirun: commas sweep.
    otherwise: what else to say of a setting that is not there, if anything. Raises Refused.
    """
    found = [parse(text) for text in arguments]
    base = schema_of(config or verb)
    chosen: dict[str, list[str]] = {}
    for one in found:
        if is_group(one.group, base):
            names = choose(verb, one, multirun)
            if names:
                chosen[one.key] = names
    first = [f"{key}={names[0]}" for key, names in chosen.items() if not key.startswith("~")]
    schemas = [schema_of(config or verb, *first)] if first else [base]
    for place, (key, names) in enumerate(chosen.items()):
        for name in names[1:]:
            schemas.append(
                schema_of(config or verb, *first[:place], f"{key}={name}", *first[place + 1 :])
            )
    several = _of_detectors(config or verb, found, first, schemas[0])
    if any(one.key.startswith("detector.") for one in found):
        schemas = several or schemas
    say_without_effect(found, several or schemas)
    taken = []
    for one in found:
        if (
            one.key in chosen
            or one.key.startswith(("hydra.", "hydra/"))
            or (is_group(one.group, base) and one.value is not None)
        ):
            taken.append(one.text)
        elif not schemas[0].find(one.key) and one.key.rsplit(".", 1)[-1] in EPOCHS | STEPS:
            data = [
                f"++{o.key}={read(verb, o, kind, schemas[0], multirun)}"
                for o in found
                if o.key.startswith("data.") and o.value and (kind := schemas[0].find(o.key))
            ]
            raise Refused(budget(verb, one, schema_of(config or verb, *first, *data)))
        else:
            taken.append(_setting(verb, one, schemas, multirun, otherwise))
    return taken


def _of_detectors(
    config: str, found: Sequence[Override], first: Sequence[str], schema: Schema
) -> list[Schema]:
    """One schema for each of `detectors`, where a setting is the detector's own or may be."""
    own = any(one.key.split(".")[0] in {"detector", *FOR_SOME} for one in found)
    if not own or "detector" not in schema.groups:
        return []
    wanted = schema.tree.get("detectors")
    for one in found:
        if one.key == "detectors" and one.value is not None:
            text = one.value.strip().removeprefix("[").removesuffix("]")
            wanted = [values.unquoted(name) for name in values.elements(text)]
    known = set(choices_of("detector"))
    return [schema_of(config, *first, f"detector={name}") for name in wanted or () if name in known]


def say_without_effect(found: Sequence[Override], schemas: Sequence[Schema]) -> None:
    """A line on stderr for each setting that none of the detectors has a use for."""
    given = [name for one in found if (name := one.key.split(".")[0]) in FOR_SOME]
    if not given or "recipe" not in schemas[0].tree:
        return
    used = set().union(*(schema.used() for schema in schemas))
    labels = ", ".join(dict.fromkeys(str(schema.tree["label"]) for schema in schemas))
    for name in dict.fromkeys(given):
        if name not in used:
            print(f"note: {name} has no effect on {labels}", file=sys.stderr)


def is_group(key: str, schema: Schema) -> bool:
    return key in schema.groups


def choose(verb: str, one: Override, multirun: bool) -> list[str]:
    """The choices that `group=a` or `-m group=a,b` makes; [] where only Hydra can say."""
    if one.value is None or one.sign == "~" or one.group.startswith("hydra/"):
        return []
    value, known = one.value.strip(), choices_of(one.group)
    if value in ("null", ""):
        return ["null"]
    if FUNCTION.fullmatch(value):
        return [name for name in known if value.startswith("glob(")][:1]
    names = values.elements(value.removeprefix("[").removesuffix("]"))
    names = [values.unquoted(name) for name in names]
    for name in names:
        if name not in known:
            if one.group == "backbone" and is_backbone(name):
                raise Refused(f"there is no backbone {name!r} in conf; use backbone.name={name}")
            raise Refused(f"there is no {one.group} {name!r}{nearest(name, known)}")
    if (len(names) > 1 or value.startswith("[")) and not multirun:
        several = ",".join(names)
        raise Refused(
            f"{one.group}={value}: {verb} takes one {one.group}; several are a multirun: "
            f"detzoo {verb} -m {one.group}={several}"
            + (f", or {one.group}s=[{several}] of detzoo bench" if one.group == "detector" else "")
        )
    return names


def is_backbone(name: str) -> bool:
    """Whether timm has a network of that name."""
    import timm

    return timm.is_model(name)


def _setting(
    verb: str,
    one: Override,
    schemas: Sequence[Schema],
    multirun: bool,
    otherwise: Callable[[str], str | None],
) -> str:
    """One setting as Hydra shall have it."""
    kinds = [schema.find(one.key) for schema in schemas]
    for kind, schema in zip(kinds, schemas, strict=True):
        if kind is None:
            raise Refused(unknown(verb, one, schema, schemas, otherwise))
    kind = kinds[0]
    assert kind is not None
    if one.sign == "~":
        return one.text
    if one.value is None:
        raise Refused(f"{one.text}: a setting is KEY=VALUE: {one.key}=...")
    value = read(verb, one, kind, schemas[0], multirun)
    if one.key == "detectors":
        known = choices_of("detector")
        for name in values.elements(value.strip("[]")):
            if (name := values.unquoted(name)) not in known:
                raise Refused(f"detectors: there is no detector {name!r}{nearest(name, known)}")
    try:
        parsed = value_of(f"{one.key}={value}")
    except ValueError as error:
        raise Refused(str(error)) from None
    _check_keys(verb, one.key, parsed, schemas, otherwise)
    return f"++{one.key}={value}"


def _check_keys(
    verb: str,
    key: str,
    value: Any,
    schemas: Sequence[Schema],
    otherwise: Callable[[str], str | None],
) -> None:
    """Refuse a mapping with a key that is no setting: data.splits={tset:a}."""
    if not isinstance(value, dict) or key == "results":
        return
    for name, child in value.items():
        below = Override("", "", f"{key}.{name}", "")
        for schema in schemas:
            if schema.find(below.key) is None:
                raise Refused(unknown(verb, below, schema, schemas, otherwise))
        _check_keys(verb, below.key, child, schemas, otherwise)


def read(verb: str, one: Override, kind: Kind, schema: Schema, multirun: bool) -> str:
    """The value of one override, each part of a sweep by itself."""
    value = one.value or ""
    alone = not multirun or (kind.type in ("text", "path") and values.exists(value))
    try:
        if multirun and FUNCTION.fullmatch(value.strip()):
            return value
        parts = [value] if alone else values.elements(value)
        if alone and not kind.many and kind.type in ("count", "number", "flag") and "," in value:
            raise Refused(
                f"{one.key} is {value!r}; it takes one value, and several are a multirun: "
                f"detzoo {verb} -m {one.key}={value}"
            )
        return ",".join(values.read(one.key, part, kind, schema.resolves) for part in parts)
    except ValueError as error:
        raise Refused(str(error)) from None


def unknown(
    verb: str,
    one: Override,
    schema: Schema,
    schemas: Sequence[Schema],
    otherwise: Callable[[str], str | None],
) -> str:
    """What to say of a setting that is not there."""
    key = one.key
    parent, _, leaf = key.rpartition(".")
    label = schema.tree.get("label")
    has = [str(s.tree["label"]) for s in schemas if s.find(key) is not None]
    if has and label:
        return f"{label} has no {key}; {', '.join(dict.fromkeys(has))} has: train them apart"
    if one.value is None and one.sign != "~":
        return no_setting(verb, key, schema)
    if leaf == "num_classes" and parent == "detector":
        return f"{key}: the number of classes is the data set's; data.classes=[...] names them"
    said = otherwise(key)
    names = here(key, schema)
    value = f"={one.value}" if one.value else ""
    if names:
        lead = f"{said}; use" if said else f"{verb} has no {key}; use"
        return f"{lead} {' or '.join(name + value for name in names)}"
    if said:
        return said
    beside = [name for name in schema.keys if parent and name.rpartition(".")[0] == parent]
    if parent == "detector" and (owners := detectors_with(leaf)):
        return f"{label} has no {leaf}, which {' and '.join(owners)} {_have(owners)}"
    known = [name.rpartition(".")[2] for name in beside] or schema.keys
    lead = f"{parent} has no {leaf!r}" if beside else f"{verb} has no setting {key!r}"
    return lead + nearest(leaf if beside else key, known, f"{parent}." if beside else "")


def no_setting(verb: str, text: str, schema: Schema) -> str:
    """What to say of an argument without a `=` that is no path where one is taken."""
    groups = [group for group in schema.groups if "/" not in group and text in choices_of(group)]
    if "detector" in groups:
        groups = ["detector"]
    if groups:
        return f"{text}: did you mean {' or '.join(f'{group}={text}' for group in groups)}?"
    return f"{verb} takes settings, KEY=VALUE; {text!r} is none, and no file or folder"


def _have(owners: Sequence[str]) -> str:
    return "has" if len(owners) == 1 else "have"


def detectors_with(parameter: str) -> list[str]:
    """The detectors whose constructor has that parameter."""
    from detzoo.detectors import DETECTORS

    kinds = {name: getattr(kind, "func", kind) for name, kind in DETECTORS.items()}
    targets = {name: f"{kind.__module__}.{kind.__qualname__}" for name, kind in kinds.items()}
    return [name for name, target in sorted(targets.items()) if parameter in parameters(target)]


def here(key: str, schema: Schema) -> list[str]:
    """What the setting is called here that other programs, or other verbs, call `key`."""
    leaf = key.rpartition(".")[2]
    for name in ALIASES.get(leaf.replace("-", "_"), ()):
        if name in schema.keys or name in schema.groups:
            return [name]
    same = [name for name in schema.keys if name == leaf or name.endswith(f".{leaf}")]
    return sorted(same, key=lambda name: name.count("."))[:2]


def nearest(name: str, known: Sequence[str], prefix: str = "") -> str:
    """`; did you mean X?`, or all that there is."""
    leaves = {key.rsplit(".", 1)[-1]: key for key in reversed(known)}
    close = get_close_matches(name, known, 2, 0.6)
    close += [leaves[leaf] for leaf in get_close_matches(name.rsplit(".", 1)[-1], leaves, 1, 0.7)]
    if close:
        return f"; did you mean {' or '.join(prefix + text for text in dict.fromkeys(close[:2]))}?"
    return f"; there is {', '.join(key for key in known if '.' not in key)}"


def budget(verb: str, one: Override, schema: Schema) -> str:
    """What a number of epochs or steps is here: images seen."""
    leaf = one.key.rsplit(".", 1)[-1]
    if "recipe.images_seen" not in schema.keys:
        return f"{verb} has no {one.key}: it trains nothing"
    try:
        count = int(float(one.value or ""))
    except ValueError:
        count = 0
    if leaf in STEPS:
        batch = schema.tree["recipe"].get("batch_size", 16)
        example = f"{count or 1000} steps of {batch} images are {(count or 1000) * batch}"
    else:
        images = schema.training_images()
        example = (
            f"{count or 1} epochs of {images} images are {(count or 1) * images}"
            if images
            else f"{count or 1} epochs are {count or 1} times the number of training images"
        )
    return f"{verb} has no {one.key}: the budget is recipe.images_seen: {example}"
