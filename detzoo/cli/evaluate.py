"""detzoo evaluate: score trained runs."""

from __future__ import annotations

import sys

from omegaconf import DictConfig

from detzoo.cli.app import app, tell
from detzoo.config import plain
from detzoo.text import escaped


@app("evaluate")
def main(config: DictConfig) -> int:
    from detzoo.cli.select import select
    from detzoo.cli.stages import evaluate_run
    from detzoo.report import text_table

    wanted = plain(config)
    keys = ("split", "batch_size", "backend", "resamples", "device", "precision", "compile")
    paths = select(wanted["runs"])
    failed = 0
    for path in paths:
        print(f"evaluate {path}")
        try:
            evaluate_run(path, again=True, **{key: wanted[key] for key in keys})
        except Exception as error:  # one run that cannot be scored stops no other
            print(escaped(f"{path}:", lines=True), file=sys.stderr)
            tell("evaluate", error)
            failed = 1
    print(text_table(paths))
    return failed
