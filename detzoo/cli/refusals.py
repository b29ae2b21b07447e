"""Error messages for overrides that are refused, each naming what exists instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

from detzoo.cli.schema import Schema, choices_of, parameters, referred, schema_of
from detzoo.config import folder

if TYPE_CHECKING:
    from detzoo.cli.overrides import Override

EPOCHS = {"epochs", "epoch", "max_epochs", "num_epochs", "n_epochs", "total_epochs"}
STEPS = {"steps", "max_steps", "iterations", "iters", "max_iter", "max_iters", "num_steps"}
# Names of settings in other programs -> our names, by the last part of a name
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


def explain_unknown(
    verb: str,
    one: Override,
    schema: Schema,
    schemas: Sequence[Schema],
    explain_missing: Callable[[str], str | None],
) -> str:
    """The message for a setting that does not exist."""
    key = one.key
    parent, _, leaf = key.rpartition(".")
    label = schema.tree.get("label")
    has = [str(s.tree["label"]) for s in schemas if s.find(key) is not None]
    if has and label:
        return f"{label} has no {key}; {', '.join(dict.fromkeys(has))} has: train them apart"
    if one.value is None and one.sign != "~":
        return explain_no_setting(verb, key, schema)
    if leaf == "num_classes" and parent == "detector":
        return f"{key}: the number of classes is the data set's; data.classes=[...] names them"
    explanation = explain_missing(key)
    names = equivalent_settings(key, schema)
    value = f"={one.value}" if one.value else ""
    if names:
        lead = f"{explanation}; use" if explanation else f"{verb} has no {key}; use"
        return f"{lead} {' or '.join(name + value for name in names)}"
    if explanation:
        return explanation
    beside = [name for name in schema.keys if parent and name.rpartition(".")[0] == parent]
    if parent == "detector" and (owners := find_detectors_with(leaf)):
        return f"{label} has no {leaf}, which {' and '.join(owners)} {_have(owners)}"
    known = [name.rpartition(".")[2] for name in beside] or schema.keys
    lead = f"{parent} has no {leaf!r}" if beside else f"{verb} has no setting {key!r}"
    return lead + suggest(leaf if beside else key, known, f"{parent}." if beside else "")


def explain_no_setting(verb: str, text: str, schema: Schema) -> str:
    """The message for an argument without a `=` that is neither a path nor a setting."""
    groups = [group for group in schema.groups if "/" not in group and text in choices_of(group)]
    if "detector" in groups:
        groups = ["detector"]
    if groups:
        return f"{text}: did you mean {' or '.join(f'{group}={text}' for group in groups)}?"
    return f"{verb} takes settings, KEY=VALUE; {text!r} is none, and no file or folder"


def explain_useless(name: str, schemas: Sequence[Schema]) -> str:
    """The message for an existing setting that no chosen part uses."""
    if name.startswith("grid_") and any("proposals" in schema.referenced() for schema in schemas):
        return f"{name}: proposals={schemas[0].groups['proposals']} has no use for it; grid has"
    wanted = "proposals" if name.startswith("grid_") else name
    files = {name: folder("conf") / "detector" / f"{name}.yaml" for name in choices_of("detector")}
    owners = [of for of, file in files.items() if wanted in referred(file.read_text("utf-8"))]
    labels = ", ".join(dict.fromkeys(str(schema.tree["label"]) for schema in schemas))
    has = "has" if len(set(labels.split(", "))) == 1 else "have"
    return f"{name}: {labels} {has} no use for it; {', '.join(owners)} {_have(owners)}"


def explain_untrained(key: str, config: str, verb: str, switch: str) -> str | None:
    """Why a verb on runs has no setting of conf/CONFIG.yaml; None for a key that has none either.

    verb: as in "evaluate scores"; switch: the setting that selects that configuration, train=none.
    """
    schema = schema_of(config)
    if schema.find(key) or schema.groups.get(key):
        return f"{verb} runs as they were trained and has no {key} without {switch}"
    return None


def _have(owners: Sequence[str]) -> str:
    return "has" if len(owners) == 1 else "have"


def find_detectors_with(parameter: str) -> list[str]:
    """The detectors whose constructor has that parameter."""
    from detzoo.detectors import DETECTORS

    kinds = {name: getattr(kind, "func", kind) for name, kind in DETECTORS.items()}
    targets = {name: f"{kind.__module__}.{kind.__qualname__}" for name, kind in kinds.items()}
    return [name for name, target in sorted(targets.items()) if parameter in parameters(target)]


def equivalent_settings(key: str, schema: Schema) -> list[str]:
    """Our names of the setting that other programs, or other verbs, call `key`."""
    leaf = key.rpartition(".")[2]
    for name in ALIASES.get(leaf.replace("-", "_"), ()):
        if name in schema.keys or name in schema.groups:
            return [name]
    same = [name for name in schema.keys if name == leaf or name.endswith(f".{leaf}")]
    return sorted(same, key=lambda name: name.count("."))[:2]


def suggest(name: str, known: Sequence[str], prefix: str = "") -> str:
    """`; did you mean X?`, or a list of all known names."""
    leaves = {key.rsplit(".", 1)[-1]: key for key in reversed(known)}
    close = get_close_matches(name, known, 2, 0.6)
    close += [leaves[leaf] for leaf in get_close_matches(name.rsplit(".", 1)[-1], leaves, 1, 0.7)]
    if close:
        return f"; did you mean {' or '.join(prefix + text for text in dict.fromkeys(close[:2]))}?"
    return f"; there is {', '.join(key for key in known if '.' not in key)}"


def explain_budget(verb: str, one: Override, schema: Schema) -> str:
    """The message for a budget in epochs or steps, converted to images seen."""
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
