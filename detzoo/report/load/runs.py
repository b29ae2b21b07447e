"""Run directories as rows: whole, running, failed, damaged. Nothing found in one raises.

An unreadable file becomes a reason that the report prints; n/a is None in the files and NaN here.
Values of unexpected type or range count as absent, never as zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detzoo.processes import alive
from detzoo.report.load.files import read, read_curve
from detzoo.report.load.values import clean, dig, number

FILES = ("status.json", "config.yaml", "metrics.json", "speed.json", "environment.json")
# What a run's two fingerprints must share for its AP and its milliseconds to be of one object
OBJECT = (
    *("weights_hash", "dataset_hash", "split", "resize", "score_threshold", "max_dets"),
    *("precision", "channels_last", "compile", "device", "runtime"),
)
# With fewer passes, or more load from other processes, milliseconds are meaningless
LEAST_PASSES = 10
BUSY = 0.2  # of all processors, taken by others
OF_TIME = ("stages", "end_to_end", "overhead", "against", "throughput", "energy", "inner")
OF_TIME += ("samples",)


@dataclass(frozen=True, eq=False)
class Run:
    """One run directory as it was found; equal to itself alone.

    state: done, running, failed, interrupted or unknown. ranked: whether it has an accuracy for a
    table. problems: why it is not ranked, or what is missing or damaged. external: the path is
    another program's file of COCO results, not a directory. data_root: where the data set is, given
    by the caller: its images may be shown.
    """

    path: Path
    state: str = "unknown"
    ranked: bool = False
    problems: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    speed: dict[str, Any] = field(default_factory=dict)
    status: dict[str, Any] = field(default_factory=dict)
    curve: tuple[dict[str, float], ...] = ()
    external: bool = False
    data_root: str | None = None
    joined: list[dict[str, Any]] | None = field(default=None, repr=False)

    @property
    def label(self) -> str:
        """The detector's name: the configuration's label, else the directory's name."""
        label = self.config.get("label")
        label = label if isinstance(label, str) and label.strip() else self.path.name
        return " ".join(clean(label, 120).split())

    @property
    def seed(self) -> str:
        seed = self.config.get("seed", dig(self.metrics, "fingerprint", "seed"))
        return "n/a" if seed is None else clean(seed, 40)

    @property
    def title(self) -> str:
        """What distinguishes it from the other runs of its detector."""
        return "external results" if self.external else f"seed {self.seed}"

    def results(self) -> tuple[Any, str | None]:
        """Its COCO results, and why they could not be read; (None, None) if there are none."""
        if self.external:
            return self.joined, None
        return read(self.path, "predictions.json")

    def dataset(self) -> tuple[Any, str | None]:
        """Its dataset.json, or None and the reason.

        `root`, the run's own image folder, is replaced by data_root, and `run` by the run's folder:
        nothing is read elsewhere.
        """
        value, problem = read(self.path, "dataset.json")
        if isinstance(value, dict):
            value |= {"root": self._root(value.get("root")), "run": str(self.path)}
        return value, problem

    def _root(self, recorded: Any) -> str | None:
        """data_root, or the folder in it where the run found the images."""
        if self.data_root is None or not isinstance(recorded, str):
            return self.data_root
        named = Path(self.data_root).expanduser()
        named = named.parent if named.is_file() else named  # data.root may be a description
        within = Path(recorded).is_relative_to(named.absolute())
        return recorded if within else str(named)

    @property
    def images_seen(self) -> float:
        """Of the budget, or, where recipe.patience may have ended the training, those it saw."""
        budget = number(self.metrics, "fingerprint", "images_seen")
        seen = number(self.status, "images_seen")
        may_stop = number(self.config, "recipe", "patience") >= 1
        return seen if math.isnan(budget) or (may_stop and seen < budget) else budget


def differing_fields(metrics: dict[str, Any], speed: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The fields of OBJECT in which what was scored is not what was timed -> (scored, timed).

    A field that one of the two records lacks, as in earlier versions, is not compared.
    """
    scored, timed = metrics.get("fingerprint"), speed.get("fingerprint")
    if not isinstance(scored, dict) or not isinstance(timed, dict):
        return {}
    both = (key for key in OBJECT if key in scored and key in timed)
    return {key: (scored[key], timed[key]) for key in both if scored[key] != timed[key]}


def find_runs(paths: Iterable[str | Path]) -> list[Path]:
    """The run directories among `paths` and directly below them, in order, each once.

    A path that is no run and contains none is kept, as a row with that problem.
    """
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        inside = [path]
        if path.is_dir() and not _is_run(path):
            inside = sorted(child for child in path.iterdir() if _is_run(child)) or [path]
        for run in inside:
            found.setdefault(run.resolve(), run)
    return list(found.values())


def _is_run(path: Path) -> bool:
    return path.is_dir() and any((path / name).exists() for name in FILES)


def load_all(paths: Iterable[str | Path]) -> list[Run]:
    """Every run of `paths` (run directories or folders of them). ValueError without any."""
    runs = [load(path) for path in find_runs(paths)]
    if not runs:
        raise ValueError("no run directory was given; name one, or a directory that holds some")
    return runs


def load(path: str | Path) -> Run:
    """Read one run directory; missing and damaged parts are listed in `problems`."""
    path = Path(path)
    if not path.is_dir():
        what = "it is no directory" if path.exists() else "there is no such directory"
        return Run(path, problems=(what,))
    if not _is_run(path):
        return Run(path, problems=(f"it holds no run: none of {', '.join(FILES)} is in it",))
    parts, damaged = {}, []
    for name in FILES:
        value, problem = read(path, name)
        parts[name] = value if isinstance(value, dict) else {}
        if problem:
            damaged.append(problem)
        elif value is not None and not isinstance(value, dict):
            damaged.append(f"{name} holds a {type(value).__name__}, not a mapping")
    status, config, metrics, speed, environment = (parts[name] for name in FILES)
    state = _state(status, path)
    reasons = _unranked_reasons(state, status, metrics)
    notes = []
    if not reasons:
        notes = [text for text in (_describe_status(state, status),) if text]
        if not (path / "speed.json").exists():
            notes.append("not timed: there is no speed.json")
        notes += _early_stop_note(config, status)
    if differing := differing_fields(metrics, speed):
        fields = (f"{key.replace('_', ' ')} {a} and {b}" for key, (a, b) in differing.items())
        notes.append(
            f"its milliseconds are left out: the scored and the timed detector differ in "
            f"{clean('; '.join(fields), 300)}; run detzoo speed again"
        )
        speed = {}
    speed = drop_unreliable_speed(speed)
    curve, problem = read_curve(path)
    if problem:
        damaged.append(problem)
    return Run(
        path=path,
        state=state,
        ranked=not reasons,
        problems=(*reasons, *notes, *damaged),
        config=config,
        environment=environment,
        metrics=metrics,
        speed=speed,
        status=status,
        curve=curve,
    )


def _early_stop_note(config: dict[str, Any], status: dict[str, Any]) -> list[str]:
    """That `recipe.patience` ended the training before its budget was spent."""
    patience, budget = (number(config, "recipe", key) for key in ("patience", "images_seen"))
    seen = number(status, "images_seen")
    if not (patience >= 1 and seen < budget):
        return []
    return [
        f"stopped after {seen:,.0f} of {budget:,.0f} images: val AP had not risen for "
        f"{patience:.0f} point{'s' * (patience != 1)} of the curve (recipe.patience), so that its "
        "budget is not that of the others"
    ]


def drop_unreliable_speed(speed: dict[str, Any]) -> dict[str, Any]:
    """speed.json without its times (then n/a) where they are meaningless, and a warning with the
    reason; what does not depend on time, such as parameters, stays."""
    passes, others = number(speed, "n"), number(speed, "other_load")
    why = []
    if passes < LEAST_PASSES:
        why.append(
            f"latency n/a: {passes:.0f} timed passes, and fewer than {LEAST_PASSES} say nothing; "
            "speed.seconds=120 gives it more (detzoo speed: seconds=120)"
        )
    if others > BUSY:
        why.append(
            f"latency n/a: other processes used {others:.0%} of the processors while timing ran; "
            "time again on a quiet machine: detzoo speed RUNS"
        )
    if not why:
        return speed
    kept = {key: value for key, value in speed.items() if key not in OF_TIME}
    kept["against"] = {"reference": dig(speed, "against", "reference")}
    before = speed.get("warnings")
    return kept | {"warnings": [*why, *(before if isinstance(before, list) else [])]}


def _state(status: dict[str, Any], path: Path) -> str:
    state = status.get("state")
    if state not in ("done", "running", "failed", "interrupted"):
        return "unknown"
    return (
        "interrupted" if state == "running" and not alive(status, path / "status.json") else state
    )


def _describe_status(state: str, status: dict[str, Any]) -> str:
    """The status of a run that is not done, from status.json; its error may have several lines."""
    if state not in ("failed", "interrupted", "running"):
        return ""
    stage, seen, error = (status.get(key) for key in ("stage", "images_seen", "error"))
    where = f" in {clean(stage, 40)}" if stage else ""
    after = "" if math.isnan(number(seen)) else f" after {number(seen):,.0f} images seen"
    gone = status.get("state") == "running" and state == "interrupted"
    return "".join(
        (
            "still running" if state == "running" else state,
            where,
            after,
            f" (its process {status.get('pid')} is gone)" if gone else "",
            f": {clean(error).strip()}" if error else "",
        )
    )


def _unranked_reasons(state: str, status: dict[str, Any], metrics: dict[str, Any]) -> list[str]:
    """Why the run may not be in a table; empty if it may."""
    status_notes = [text for text in (_describe_status(state, status),) if text]
    if status_notes and status.get("stage") == "train":
        stale = "its metrics.json is older than the training in its status.json"
        return [*status_notes, stale] if metrics else status_notes
    if "AP" in metrics and (metrics["AP"] is None or not math.isnan(number(metrics, "AP"))):
        return []
    if metrics:
        return [*status_notes, "metrics.json gives no AP"]
    return status_notes or ["it was not evaluated: there is no whole metrics.json"]
