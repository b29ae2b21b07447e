"""detzoo bench: check, train, evaluate, speed and report in a row."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import replace
from pathlib import Path

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from detzoo.cli.app import app, command
from detzoo.cli.colours import painted
from detzoo.cli.positional import data_root
from detzoo.config import plain
from detzoo.files import check_writable
from detzoo.text import escaped

TRIED = 16  # images on which the proposals are compared


@app("bench", positional=data_root)
def main(config: DictConfig) -> int:
    from detzoo.engine.progress import note, part_of_others
    from detzoo.report import gather, write
    from detzoo.workflow import parallel
    from detzoo.workflow.overall import Overall
    from detzoo.workflow.settings import check_source, directory, keep, settings_of, source, tell
    from detzoo.workflow.timing import time_runs

    start = time.monotonic()
    wanted = plain(config)
    out = Path(wanted["reports"]) / wanted["name"]
    check_writable(out / "index.html")
    check_writable(Path(wanted["root"]) / wanted["name"] / "run" / "config.yaml")
    settings = [settings_of(job) for job in jobs("bench", wanted["detectors"], wanted["seeds"])]
    checked = check_source(source(settings[0]))
    tell(checked)
    paths = [directory(job, wanted["root"]) for job in settings]
    for path in paths:
        keep(checked, path)

    at_once = parallel.how_many(wanted["jobs"], settings, wanted["runtime"]["threads"])
    with Overall(settings, paths, wanted["speed"]["seconds"]):
        if at_once > 1:
            failed = parallel.side_by_side(settings, paths, wanted["evaluate"], at_once)
        else:
            failed = {}
            for number, (job, path) in enumerate(zip(settings, paths, strict=True)):
                note(parallel.announcement(number, settings, path))
                part_of_others(parallel.named(job))
                if error := parallel.train_and_score(job, path, wanted["evaluate"]):
                    failed[path] = error
                part_of_others("")
    scored = [path for path in paths if path not in failed]
    if scored:
        failed |= time_runs(scored, **wanted["speed"], evaluate=wanted["evaluate"], again=False)

    book, name = gather(paths), str(wanted["name"])
    page = write(book, out, title=name, command=command(), images=wanted["report"]["images"])
    print(f"\n{painted(book.text())}\n")
    for path, error in failed.items():
        print(escaped(f"failed: {path}: {error}", lines=True), file=sys.stderr)
    print(f"{page}\n{len(paths) - len(failed)} of {len(paths)} runs done in {clock(start)}")
    return 1 if failed else 0


def jobs(verb: str, detectors: list[str], seeds: list[int]) -> list[DictConfig]:
    """The configuration of every run, composed anew with the overrides that the verb was given."""
    overrides = list(HydraConfig.get().overrides.task)
    for group in ("detector", "seed"):
        if any(text.lstrip("+").split("=")[0] == group for text in overrides):
            raise ValueError(f"{verb} takes several: give {group}s=[...], not {group}=")
    if not detectors or not seeds:
        raise ValueError(f"nothing to do: detectors={detectors} seeds={seeds}")
    if verb == "bench":
        overrides += better_proposals(overrides, detectors)
    return [
        compose(verb, [*overrides, f"detector={detector}", f"seed={seed}"])
        for seed in seeds
        for detector in detectors
    ]


def better_proposals(overrides: list[str], detectors: list[str]) -> list[str]:
    """An override for R-CNN and Fast R-CNN: the best proposals that are installed.

    Those that cover most objects of a few validation images. None where the command or an
    experiment chose some, nor on shapes, for which the grid was made: of photographs' objects it
    covers few (aquarium: 0.09 at an IoU of 0.7), and rows on it say little.
    """
    from detzoo.data.proposals import installed

    config = compose("bench", overrides)
    given = any(text.lstrip("+").split("=")[0] == "proposals" for text in overrides)
    drawn = config.data._target_ == "detzoo.data.Shapes"
    needed = bool({"rcnn", "fast_rcnn"} & set(detectors))
    if given or drawn or not needed or config.proposals._target_ != "detzoo.data.Grid":
        return []
    if not (choices := installed()):
        print(
            "R-CNN and Fast R-CNN get the grid's proposals, for OpenCV is not installed: "
            "pip install 'detzoo[proposals]'",
            file=sys.stderr,
        )
        return []
    covered = {
        name: coverage(compose("bench", [*overrides, f"proposals={name}"])) for name in choices
    }
    best = max(covered, key=covered.__getitem__)
    told = ", ".join(f"{name} {part:.2f}" for name, part in covered.items())
    print(
        f"regions for R-CNN and Fast R-CNN by {best}; recall on {TRIED} validation images: {told}"
    )
    return [f"proposals={best}"]


def coverage(config: DictConfig) -> float:
    """Recall of the configured proposals, the mean over IoUs of 0.5 and 0.7, on TRIED images."""
    from detzoo.config import build
    from detzoo.data import with_proposals
    from detzoo.metrics.proposals import recall
    from detzoo.speed.clock import thinned
    from detzoo.workflow.settings import source

    settings = plain(config)
    dataset = source(settings).read("val")
    dataset = replace(dataset, samples=tuple(thinned(dataset.samples, TRIED)))
    samples = with_proposals(dataset, build(settings["proposals"], "proposals")).samples
    truths = [sample.boxes[~sample.crowd] for sample in samples]
    most = settings["max_proposals"]
    part = recall([sample.proposals for sample in samples], truths, [most]).mean()
    return 0.0 if math.isnan(part) else float(part)


def clock(start: float) -> str:
    minutes, seconds = divmod(round(time.monotonic() - start), 60)
    return f"{minutes} min {seconds:02d} s"
