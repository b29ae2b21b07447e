"""What a training on four classes is worth as a start for two others: experiments/transfer.yaml.

Runs that are done are skipped, so the command goes on where it was cut off.

    python experiments/transfer.py [--detectors ssd --images 64 256 --seeds 0 1 --seen 1600]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from detzoo.cli.compose import settings
from detzoo.files import atomic, read_json, write_json, write_text
from detzoo.metrics import paired
from detzoo.metrics.bootstrap import draw_sets, match_problem, means, precision_and_recall
from detzoo.metrics.matching import arrays
from detzoo.metrics.samples import Samples
from detzoo.speed.machine import environment
from detzoo.workflow.settings import directory, settings_of
from detzoo.workflow.stages import evaluate_run
from detzoo.workflow.train import train

# One source for every detector, whatever the seeds: the intervals are of what starts from it
KNOWN, NEW = "[circle,square,triangle,star]", "[cross,ring]"
SOURCE = 3000  # images that the sources see
STARTS = ("from the other classes", "from scratch")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--detectors", nargs="+", default=["faster_rcnn", "retinanet", "ssd", "centernet"]
    )
    parser.add_argument("--images", nargs="+", type=int, default=[64, 256, 1024])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--seen", type=int, default=1600, help="images that a training sees")
    parser.add_argument("--source-seen", type=int, default=SOURCE, help="and a source")
    parser.add_argument("--report", action="store_true", help="train nothing: what there is")
    parser.add_argument("--root", type=Path, default=Path("runs/transfer"))
    parser.add_argument("--out", type=Path, default=Path("reports/transfer"))
    parser.add_argument("settings", nargs="*", help="further settings of detzoo train")
    options = parser.parse_args()
    runs: dict[tuple[str, int, str], list[Path]] = {}
    for seed in options.seeds:  # whoever is cut off has whole seeds
        for name in options.detectors:
            source = trained(options, name, 0, "source", KNOWN, seen=options.source_seen)
            for count in options.images:
                for kind, start in zip(STARTS, (source, "scratch"), strict=True):
                    where = f"{count}-{kind.rpartition(' ')[2]}"
                    run = trained(options, name, seed, where, NEW, count=count, start=start)
                    if run is not None:
                        runs.setdefault((name, count, kind), []).append(run)
    cells = product(options.detectors, options.images)
    rows = [compared(*c, runs) for c in cells if all((*c, kind) in runs for kind in STARTS)]
    write_json(options.out / "transfer.json", {"rows": rows, "environment": environment("cpu")})
    draw(rows, options.out / "transfer.svg", len(options.seeds))
    text = table(rows, options)
    write_text(options.out / "transfer.md", text)
    print(text)


def trained(
    options: argparse.Namespace,
    name: str,
    seed: int,
    where: str,
    classes: str,
    *,
    seen: int | None = None,
    count: int | None = None,
    start: str | Path | None = None,
) -> Path | None:
    """The directory of one run, trained and scored where it is not yet; None where it shall not."""
    overrides = ["experiment=transfer", f"detector={name}", f"seed={seed}", f"name={where}"]
    overrides += [f"data.classes={classes}", f"recipe.images_seen={seen or options.seen}"]
    overrides += [f"root={options.root}"] + ([f"data.train={count}"] if count else [])
    overrides += [f"start={start}"] if start else []
    composed = settings("train", *overrides, *options.settings)
    if options.report:
        run = directory(settings_of(composed), options.root)
        return run if (run / "metrics.json").is_file() else None
    run = train(composed).path
    if not (run / "metrics.json").is_file():
        evaluate_run(run, resamples=100, images=False)  # the intervals are made here
    return run


def compared(name: str, count: int, runs: dict[tuple[str, int, str], list[Path]]) -> dict[str, Any]:
    """AP of both starts and their paired difference, with intervals over images and seeds."""
    first, second = (
        paired.over_seeds([scored(run) for run in runs[name, count, kind]], seed=place)
        for place, kind in enumerate(STARTS)
    )
    difference = first - second
    row: dict[str, Any] = {"detector": name, "images": count}
    for kind, of in ((STARTS[0], first), (STARTS[1], second), ("difference", difference)):
        row[kind], row[f"{kind}_interval"] = float(of.estimate), of.interval() or (None, None)
    return row | {"p": difference.p_value()}


def scored(run: Path, resamples: int = 1000) -> Samples:
    """AP of a run on its test split and on resamples of it, the same for all runs."""
    problem = arrays(read_json(run / "dataset.json"), read_json(run / "predictions.json"))
    matches = match_problem(problem)
    sets = draw_sets(len(problem.image_ids), resamples, 0)
    return Samples.from_values(means(precision_and_recall(matches, sets)[0])[:, 0], matches.units)


def table(rows: Sequence[dict[str, Any]], options: argparse.Namespace) -> str:
    """The page beside the figure, in Markdown: what was run, and both starts with intervals."""
    where, seeds = environment("cpu"), len(options.seeds)
    lines = [
        "# A training on four classes as a start for two others",
        "",
        f"AP on test, mean of {seeds} seed{'s' * (seeds > 1)}, 95% intervals over images"
        f"{' and seeds' * (seeds > 1)}; {options.seen} images seen, by the source "
        f"{options.source_seen}. "
        f"`{where['command']}`, {where['commit']}, {where['cpu']}.",
        "",
        "![AP against the number of training images](transfer.svg)",
        "",
        f"| detector | images | {STARTS[0]} | {STARTS[1]} | difference | p |",
        "| --- | --: | --: | --: | --: | --: |",
    ]
    for row in rows:
        cells = [interval(row, kind) for kind in STARTS]
        cells.append(interval(row, "difference", "+"))
        cells.append(probability(row["p"]))
        lines.append(f"| {row['detector']} | {row['images']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def probability(p: float | None) -> str:
    return "n/a" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def interval(row: dict[str, Any], kind: str, sign: str = "") -> str:
    low, high = row[f"{kind}_interval"]
    limits = "" if low is None else f" [{low:{sign}.3f}, {high:{sign}.3f}]"
    return f"{row[kind]:{sign}.3f}{limits}"


def draw(rows: Sequence[dict[str, Any]], path: Path, seeds: int) -> None:
    """A panel for each detector: AP against the number of images, both starts, with intervals."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(row["detector"] for row in rows))
    figure, panels = pyplot.subplots(
        1, len(names), figsize=(2.6 * len(names) + 0.6, 3.0), sharey=True, squeeze=False
    )
    for panel, name in zip(panels[0], names, strict=True):
        own = [row for row in rows if row["detector"] == name]
        for place, (kind, marker) in enumerate(zip(STARTS, "os", strict=True)):
            middle = np.array([row[kind] for row in own])
            limits = np.array([row[f"{kind}_interval"] for row in own], float)
            x = np.array([row["images"] for row in own]) * (0.97 + 0.06 * place)  # side by side
            spread = np.abs(limits.T - middle)
            panel.errorbar(x, middle, spread, marker=marker, capsize=3, label=kind)
        panel.set_xscale("log")
        panel.set_xticks([row["images"] for row in own], [str(row["images"]) for row in own])
        panel.minorticks_off()
        panel.set_title(name)
        panel.set_xlabel("training images")
    panels[0][0].set_ylim(bottom=0)  # of all: they share it
    panels[0][0].set_ylabel(f"AP on test, mean of {seeds} seed{'s' * (seeds > 1)}")
    panels[0][-1].legend(frameon=False, fontsize="small")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    for suffix in (".svg", ".png"):
        with atomic(path.with_suffix(suffix)) as temporary:
            figure.savefig(temporary, format=suffix[1:], dpi=150)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
