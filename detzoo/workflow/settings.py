"""A run: its settings, its data set, its directory."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import torch

from detzoo.config import build, plain
from detzoo.data import CheckResult, Source, check
from detzoo.data.jpeg import check_decoder, decoding
from detzoo.data.source import DataError
from detzoo.data.workers import choose_workers
from detzoo.engine import distributed, events, status
from detzoo.engine import precision as precisions
from detzoo.files import inside, read_json, write_json
from detzoo.limits import check_numbers, outline
from detzoo.run_config import BEGUN, check_runtime, read_run
from detzoo.text import escaped
from detzoo.workflow import start, start_weights
from detzoo.workflow.datasets import resolved
from detzoo.workflow.select import select_one

Settings = dict[str, Any]

DEFAULT_THREADS = torch.get_num_threads()

KEYS = ("label", "name", "seed", "detector", "data", "resize", "augment", "recipe", "runtime")
# Settings that change where a run is stored or how fast it is, but not its result.
WITHOUT_EFFECT = {
    "runtime": ("threads", "workers", "cache_mb", "tensorboard"),
    "data": ("root",),
    "start": ("source", "seen"),
}


def source(settings: Settings) -> Source:
    """The data set of `settings`; the same object for the same settings, so it is read once."""
    if "data" not in settings:
        raise ValueError("config.yaml lacks data, which says where the images are")
    return part(settings, "data")


def part(settings: Settings, name: str) -> Any:
    """The object that settings[name] describes: data set, recipe, resize or augmentation.

    The same object for the same settings, so it is built once; none of them changes in use. Raises
    ValueError as `build` does.
    """
    return _part(json.dumps(settings[name], sort_keys=True), name)


@cache
def _part(text: str, name: str) -> Any:
    return build(json.loads(text), name)


@cache
def check_source(source: Source, splits: tuple[str, ...] = ("train", "val", "test")) -> CheckResult:
    """The problems of the data. Raises ValueError with all errors if there is one."""
    result = check(source, splits)
    if result.errors:
        said = "\n".join(escaped(f"  {p.where}: {p.kind}: {p.what}") for p in result.errors[:20])
        more = len(result.errors) - 20
        said += f"\n  and {more} more" if more > 0 else ""
        raise ValueError(
            f"{source.name} has errors, so nothing was started; fix them or see "
            f"detzoo check:\n{said}"
        )
    return result


def read_moved(path: Path, needs: Sequence[str], root: str | Path | None) -> Settings:
    """The settings of a run whose data set is at `root` now; None: not moved.

    As `run_config.read_run`. Also raises ValueError if the training images there, if any, are not
    those that the run was trained on: the test split may have been moved alone.
    """
    settings = read_run(path, needs, root and Path(root).expanduser().resolve())
    known = settings.get("train_hash")
    if root is None or known is None:
        return settings
    try:
        found = source(settings).read("train").hash
    except DataError:
        return settings
    if found != known:
        raise ValueError(
            f"{root} holds other images or boxes than {path.name} was trained on (their hash is "
            f"{found}, and was {known}); data.root= is for a data set that was moved"
        )
    return settings


def settings_of(config: Mapping[str, Any]) -> Settings:
    """The plain settings of one run from a composed configuration, complete and without `auto`."""
    settings = plain(config)
    begun = {"start": settings["start"]} if settings.get("start") else {}
    settings = {key: settings[key] for key in KEYS}
    settings |= {key: str(settings[key]) for key in ("label", "name")}
    check_buildable(settings)
    settings = start.resolve(settings | begun)
    settings["runtime"] = runtime(settings["runtime"])
    settings["data"] = resolved(settings["data"])
    if settings["data"].get("root"):  # so that a run can be scored from any folder
        root = str(Path(settings["data"]["root"]).expanduser().resolve())
        settings["data"] = {**settings["data"], "root": root}
    data = source(settings)
    settings["classes"] = list(data.classes)
    settings["detector"] = {**settings["detector"], "num_classes": len(data.classes)}
    start_weights.check(settings)
    proposer = settings["detector"].get("proposer") or {}
    if proposer.get("run"):  # likewise
        run = str(select_one(str(proposer["run"])).resolve())
        settings["detector"]["proposer"] = {**proposer, "run": run}
    # The files may change while their settings do not; a run belongs to the images that it saw.
    if settings["data"].get("fraction") == 1:  # all of them: the same run as without the setting
        del settings["data"]["fraction"]
    if "fraction" in settings["data"]:
        settings["train_images"] = len(data.read("train"))
    settings["train_hash"] = data.read("train").hash
    return settings


def check_buildable(settings: Settings) -> None:
    """Raise ValueError for an impossible value, before any data are read.

    The recipe, the resize and the augmentation are kept for the training (`part`). The detector is
    built without memory for its weights, and for two classes: the number is not yet known.
    """
    for name in ("recipe", "resize", "augment"):
        part(settings, name)
    detector = {**settings["detector"], "num_classes": 2}
    proposer = detector.pop("proposer", None)
    check_numbers(proposer, "detector.proposer")
    check_runtime(settings["runtime"], "runtime")
    if settings["runtime"].get("tensorboard"):
        events.check_installed()
    if proposer and "run" not in proposer:
        build(proposer, "proposals")
    backbone = detector.get("backbone")
    if isinstance(backbone, dict):
        detector["backbone"] = backbone | {key: BEGUN[key] for key in BEGUN if key in backbone}
    outline(detector)


def runtime(wanted: dict[str, Any]) -> dict[str, Any]:
    """`auto` and null replaced by this machine's values; torch's threads are set accordingly."""
    device = precisions.choose_device(wanted["device"])
    threads = wanted["threads"] or DEFAULT_THREADS
    torch.set_num_threads(threads)
    precision = precisions.choose_precision(device, wanted["precision"])
    layout = precisions.choose_channels_last(device, wanted["channels_last"])
    chosen = {"device": str(device), "precision": precision, "channels_last": layout}
    decoder = wanted.get("decoder", "auto")
    check_decoder(decoder, device)
    if decoder == "auto":  # as before there was a choice, and shall not make another run of it
        wanted = {key: value for key, value in wanted.items() if key != "decoder"}
    if "workers" in wanted:
        processes = distributed.processes()
        chosen["workers"] = choose_workers(device, wanted["workers"], processes, decoder)
    if distributed.processes() > 1:
        chosen["processes"] = distributed.processes()
    else:  # has no effect then, and must not create a second run of the same
        wanted = {key: value for key, value in wanted.items() if key != "sync_batch_norm"}
    return {**wanted, **chosen, "threads": threads}


def runtime_of_run(settings: Settings, other: Mapping[str, Any]) -> dict[str, Any]:
    """The runtime in which a trained run is scored or timed: its own, except for what `other` sets.

    If that is not a GPU, JPEGs are decoded by the default decoder.
    """
    wanted = settings["runtime"] | {k: v for k, v in other.items() if v is not None}
    if not str(wanted["device"]).startswith("cuda"):
        wanted.pop("decoder", None)
    return runtime(wanted)


def decoding_of(runtime: Mapping[str, Any]) -> AbstractContextManager[None]:
    """A context in which JPEGs are decoded as that runtime requires."""
    return decoding(runtime.get("decoder", "auto"), runtime["device"])


def directory(settings: Settings, root: str | Path) -> Path:
    """root/name/label-hash, the hash over every setting that decides the result."""
    decisive = {key: value for key, value in settings.items() if key != "name"}
    for key, ignored in WITHOUT_EFFECT.items():
        if key in decisive:
            decisive[key] = {k: v for k, v in decisive[key].items() if k not in ignored}
    text = json.dumps(decisive, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    label = re.sub(r"[^\w.+]+", "-", settings["label"]).strip("-.") or "run"
    return Path(root) / settings["name"] / f"{label}-{digest}"


def trained(path: Path) -> bool:
    """Whether the training has finished; later stages may have failed."""
    now = status.read(path)
    return now is not None and (now["stage"] != "train" or now["state"] == "done")


def print_warnings(result: CheckResult) -> None:
    """Print the number of each kind of warning of a check, in one line."""
    warnings = Counter(p.kind for p in result.problems if p.severity == "warning")
    if warnings:
        kinds = ", ".join(f"{count} {kind}" for kind, count in warnings.most_common())
        print(f"{sum(warnings.values())} warnings about the data ({kinds}): see detzoo check")


def write_check(result: CheckResult, path: Path) -> None:
    """Write the check's statistics into the run directory, for the report: data.json.

    The number and the first problem of each kind; `detzoo check` lists them all.
    """
    kinds: dict[tuple[str, str], dict[str, Any]] = {}
    for problem in result.problems:
        first = asdict(problem) | {"number": 0}
        kinds.setdefault((problem.severity, problem.kind), first)["number"] += 1
    counted = {key: value for key, value in result.json().items() if key != "problems"}
    write_json(path / "data.json", {**counted, "kinds": list(kinds.values())})


def read_or_empty(path: Path) -> dict[str, Any]:
    """The content of the file; {} if it is missing, damaged, or a link out of its folder."""
    try:
        found = read_json(inside(path.parent, path.name))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def print_failure(path: Path, error: Exception) -> str:
    """Print that a run failed while others continue; returns the error in one line."""
    print_traceback(error)
    text = f"failed, going on with the others: {path}: {type(error).__name__}: {error}"
    print(escaped(text, lines=True), file=sys.stderr)
    return one_line(error)


def print_traceback(error: Exception) -> str:
    """Print where an error comes from unless it explains itself; returns its kind and message."""
    if not isinstance(error, ValueError | OSError | ImportError):
        traceback.print_exception(error)
    return f"{type(error).__name__}: {error}"


def one_line(error: Exception) -> str:
    """The kind of an error and the first line of its message."""
    return f"{type(error).__name__}: {error}".split("\n")[0]
