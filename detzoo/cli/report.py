"""detzoo report: the page and the tables of a set of runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from detzoo.cli.app import app, command, show
from detzoo.cli.positional import list_setting, split_paths
from detzoo.cli.values import exists, quote
from detzoo.config import folder, plain


def settings_from(arguments: Sequence[str]) -> list[str]:
    """`detzoo report RUNS... NAME=FILE.json` is runs=[...] results=[...]."""
    settings = set(OmegaConf.load(folder("conf") / "report.yaml"))
    results, rest = [], []
    for argument in arguments:
        key, _, value = argument.partition("=")
        known = key.lstrip("+~").split(".")[0].split("@")[0] in settings
        is_file = value.endswith(".json") or (exists(value) and Path(value).is_file())
        is_result = is_file and not known and not exists(argument)
        (results if is_result else rest).append(argument)
    runs, given = split_paths(rest)
    given = list_setting("results", results, list_setting("runs", runs, given))
    from detzoo.workflow.report import name_of

    if runs and not any(text.lstrip("+").startswith("name=") for text in given):
        given.append(f"name={quote(name_of(runs[0]))}")
    return given


@app("report", positional=settings_from)
def main(config: DictConfig) -> int:
    from detzoo.workflow.report import report
    from detzoo.workflow.verb import call

    return show(call(report, plain(config), command=command()))
