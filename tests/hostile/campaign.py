"""Hostile and damaged run directories against every verb; prints what got through, exits 1 if any.

    python tests/hostile/campaign.py attacks --count 300 --seed 0
    python tests/hostile/campaign.py damages --count 200 --seed 0

attacks: 0 may execute, and 0 may read or write outside. damages: 0 may end in a traceback. The test
suite runs a short form of both. Takes a fifth to a whole second a verb and directory.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent))

from attacks import EVIL, Marks, configs, photographs, reaches
from damages import ALL_VERBS, damages, verbs_for
from watched import Watch, called

TINY = (
    *("data=shapes", "detector=centernet", "backbone=resnet10t_half", "channels=8"),
    "resize.size=64",
    *("recipe.images_seen=8", "recipe.batch_size=4", "recipe.val_points=1", "runtime.threads=1"),
    *("data.train=4", "data.val=2", "data.test=3", "data.size=64", "data.min_size=8"),
)
BESIDE = (
    *("dataset.json", "speed.json", "environment.json", "curve.csv", "log.csv", "data.json"),
    *("dataset-val.json", "predictions-val.json", "heatmaps.json", "thresholds.json"),
    *("tune.json", "start.json"),
)
ONE_MAP = ("methods=[saliency]", "objects=1")
SLOW = 20.0  # seconds after which a verb hangs


def make_run(work: Path, timed: bool) -> Path:
    """A run that was trained, scored and perhaps timed, by the verbs themselves."""
    from detzoo.cli import main

    settings = [f"root={work / 'runs'}", f"data.root={work / 'data'}"]
    assert main(["train", *TINY, *settings]) == 0
    (run,) = (work / "runs" / "default").iterdir()
    assert main(["evaluate", f"runs=[{run}]", "resamples=2"]) == 0
    if timed:
        assert main(["speed", f"runs=[{run}]", "seconds=0.2", "max_batch=1"]) == 0
    for name, content in beside(run).items():
        (run / name).write_text(json.dumps(content))
    return run


def beside(run: Path) -> dict[str, Any]:
    """What other verbs leave in a run, and what another program writes: its results, by name."""
    settings = yaml.safe_load((run / "config.yaml").read_text())
    trial = {"number": 0, "values": {"recipe.lr": 0.1}, "folder": "000-a", "state": "whole"}
    trial |= {"error": None, "AP": [0.1], "curve": [{"images_seen": 8, "AP": 0.1, "AP50": 0.2}]}
    search = {"label": settings["label"], "state": "done", "winner": 0, "error": None}
    search |= {"plan": {"trials": 1, "images": 8, "rungs": 1}, "total": 8, "running": None}
    search |= {"space": {"recipe.lr": [0.01, 1]}, "trials": [trial]}
    start = {"kind": "file", "source": "a.pth", "hash": "0" * 16, "seen": "a.pth", "classes": {}}
    start |= {"loaded": {"values": 1, "of": 2}, "mapped": {"disc": "disc"}, "new": []}
    results = json.loads((run / "predictions.json").read_text())
    told = {"p50_ms": 12.5, "p90_ms": 13, "timed": "all of it", "batch": 1, "precision": "fp16"}
    theirs = {"results": results, "latency": told | {"device": "a card", "images": 3}}
    return {"tune.json": search, "start.json": start, "theirs.json": theirs}


class Verbs:
    """Each verb on a run directory, as (exit code, output); None for an exception that escaped."""

    def __init__(self, work: Path, good: Path) -> None:
        self.work, self.good = work, good
        self.image = next((work / "data").rglob("*.jpg"))
        self.settings = yaml.safe_load((good / "config.yaml").read_text())

    def __call__(self, verb: str, run: Path) -> tuple[int | None, str]:
        return called(lambda: self._call(verb, run))

    def _call(self, verb: str, run: Path) -> int | None:
        from detzoo.cli import main

        if verb == "load":
            import detzoo

            detzoo.load(run)
            return 0
        if verb == "train":  # what `detzoo train` does once it knows the run's directory
            from detzoo.workflow.stages import train_run

            train_run(self.settings, run)
            return 0
        out = self.work / "out"
        arguments = {
            "predict": [f"run={run}", f"images=[{self.image}]", f"out={out}"],
            "evaluate": [f"runs=[{run}]", "resamples=2"],
            "speed": [f"runs=[{run}]", "seconds=0.1", "max_batch=1", "evaluate.resamples=2"],
            "oracle": [f"runs=[{run}]"],
            "report": [f"runs=[{run}]", f"out={out}", *self._theirs(run)],
            "compare": [str(run), str(self.good), "resamples=10", "flips=10"],
            "pool": [f"runs=[{run}]", f"out={out / 'pooled'}"],
            "explain": [f"runs=[{run}]", f"images=[{self.image}]", f"out={out / 'why'}", *ONE_MAP],
            "export": [f"run={run}", f"to={out / 'model.onnx'}", "images=1"],
            "start": [*TINY, f"start={run}", f"root={out}", f"data.root={self.work / 'data'}"],
        }[verb]
        if verb == "start":  # what was trained is not trained again
            shutil.rmtree(out / "default", ignore_errors=True)
        return main(["train" if verb == "start" else verb, *arguments])

    @staticmethod
    def _theirs(run: Path) -> list[str]:
        """Another program's results as a row, where they are there."""
        return [f"theirs={run / 'theirs.json'}"] if (run / "theirs.json").exists() else []


def copied(run: Path, work: Path) -> Path:
    target = work / "hostile" / run.name
    shutil.rmtree(target.parent, ignore_errors=True)
    shutil.copytree(run, target)
    return target


def attack(work: Path, run: Path, count: int, seed: int, verbs: Sequence[str]) -> Iterator[str]:
    """What ran, was read or was written that must not, and what ended in a traceback."""
    marks = Marks(work / "outside")
    sys.path.append(str(marks.folder))
    run_verb = Verbs(work, run)
    for verb in verbs:  # all that they import and ask the machine for on a good run, unwatched
        run_verb(verb, copied(run, work))
    watch = Watch(marks.folder, EVIL)
    base = yaml.safe_load((run / "config.yaml").read_text())
    cases: list[tuple[str, Callable[[Path], Any]]] = [
        (name, lambda path, text=text: (path / "config.yaml").write_text(text))
        for name, text in configs(base, marks, count, seed)
    ]
    cases += [
        (name, lambda path, c=content: (path / "config.yaml").write_text(yaml.safe_dump(c)))
        for name, content in reaches(base, marks).items()
    ]
    dataset = json.loads((run / "dataset.json").read_text())
    cases += [
        (f"photographs of {name}", lambda path, c=content: without_images(path, c))
        for name, content in photographs(dataset, marks).items()
    ]
    for file in ("config.yaml", "checkpoint.pt", "predictions.json", "metrics.json", "status.json"):
        cases.append((f"{file} a link", lambda path, file=file: linked(path / file, marks.secret)))
    cases.append(
        ("what else it holds a link", lambda p: [linked(p / f, marks.secret) for f in BESIDE])
    )
    cases.append(("images a link", lambda path: linked(path / "images", marks.folder)))
    kept = next((run / "images").iterdir()).name
    cases.append(("an image a link", lambda path: linked(path / "images" / kept, marks.photograph)))
    for name, change in cases:
        for verb in verbs:
            hostile = copied(run, work)
            change(hostile)
            with watch.watching():
                start = time.perf_counter()
                code, output = run_verb(verb, hostile)
                seconds = time.perf_counter() - start
            seen = watch.drain()
            if marks.changed():
                seen.append("a file outside was written or is gone")
                shutil.rmtree(marks.folder, ignore_errors=True)
                marks = Marks(marks.folder)
            if EVIL in sys.modules:
                seen.append("a module was imported")
                del sys.modules[EVIL]
            yield from (f"{verb}: {name}: {event}" for event in seen)
            yield from _troubles(f"{verb}: {name}", code, output, seconds)


def linked(path: Path, target: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.symlink_to(target)


def without_images(run: Path, dataset: dict[str, Any]) -> None:
    shutil.rmtree(run / "images")
    (run / "dataset.json").write_text(json.dumps(dataset))


def damage(work: Path, run: Path, count: int, seed: int, verbs: Sequence[str]) -> Iterator[str]:
    """What ended in a traceback, hung, or failed without a word."""
    run_verb = Verbs(work, run)
    for file, what, change in damages(run, count, seed):
        for verb in verbs_for(file):
            if verb in verbs:
                hurt = copied(run, work)
                if verb == "train":  # as if it had been killed before its last line
                    text = (hurt / "status.json").read_text()
                    text = text.replace('"done"', '"interrupted"').replace('"speed"', '"train"')
                    (hurt / "status.json").write_text(text)
                change(hurt / file)
                start = time.perf_counter()
                code, output = run_verb(verb, hurt)
                seconds = time.perf_counter() - start
                yield from _troubles(f"{verb}: {file} {what}", code, output, seconds)
                if code and verb in ("load", "predict", "train") and file not in output:
                    yield f"{verb}: {file} {what}: the file is not named: {output[-300:]}"


def _troubles(name: str, code: int | None, output: str, seconds: float) -> list[str]:
    found = []
    if code is None or "Traceback" in output:
        found.append(f"{name}: traceback: {output[-1500:]}")
    if any(c in output for c in "\x1b\x00\u202e"):
        found.append(f"{name}: control characters are printed")
    if code and len(output.strip()) < 10:
        found.append(f"{name}: failed without a word")
    if seconds > SLOW:
        found.append(f"{name}: took {seconds:.0f} s")
    return found


CAMPAIGNS = {"attacks": attack, "damages": damage}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kind", choices=[*CAMPAIGNS, "both"])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbs", nargs="+", default=ALL_VERBS)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="detzoo-hostile-") as folder:
        os.chdir(folder)  # proposals and the like are kept in the current folder
        work = Path(folder).resolve() / "work"
        work.mkdir()
        run, found = make_run(work, "speed" in wanted.verbs), 0
        for kind in [damage, attack] if wanted.kind == "both" else [CAMPAIGNS[wanted.kind]]:
            for trouble in kind(work, run, wanted.count, wanted.seed, wanted.verbs):
                print(trouble, flush=True)
                found += 1
    print(f"{wanted.kind}: {wanted.count} by seed {wanted.seed}: {found} got through")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
