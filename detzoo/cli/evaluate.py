"""detzoo evaluate: score trained runs."""

from __future__ import annotations

import sys

from omegaconf import DictConfig

from detzoo.cli.app import app, tell
from detzoo.config import plain
from detzoo.text import escaped


@app("evaluate", positional="runs")
def main(config: DictConfig) -> int:
    from detzoo.cli.colours import painted
    from detzoo.report import text_table
    from detzoo.workflow.select import select
    from detzoo.workflow.stages import evaluate_run

    wanted = plain(config)
    keys = ("split", "batch_size", "backend", "resamples", "device", "precision", "compile")
    paths = select(wanted["runs"])
    options = {"again": True, "data_root": wanted["data"]["root"]}
    found, failed = {}, 0
    for path in paths:
        print(f"evaluate {path}")
        try:
            found[path] = evaluate_run(path, **options, **{key: wanted[key] for key in keys})
        except Exception as error:  # one run that cannot be scored stops no other
            print(escaped(f"{path}:", lines=True), file=sys.stderr)
            tell("evaluate", error)
            failed = 1
    if wanted["split"] == "test":
        print(painted(text_table(paths)))
    else:  # a report is of the test split
        for path, metrics in found.items():
            low, high = metrics["intervals"]["AP"]
            print(
                f"{path}: {wanted['split']}: AP {metrics['AP']:.3f} [{low:.3f}, {high:.3f}]  "
                f"AP50 {metrics['AP50']:.3f}"
            )
    return failed
