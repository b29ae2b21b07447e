"""detzoo report: the page and the tables of a set of runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from detzoo.cli.app import app, command
from detzoo.cli.colours import painted
from detzoo.cli.positional import apart, listed
from detzoo.cli.values import exists, quoted
from detzoo.config import folder, plain
from detzoo.files import check_writable


def placed(arguments: Sequence[str]) -> list[str]:
    """`detzoo report RUNS... NAME=FILE.json` is runs=[...] results=[...]."""
    settings = set(OmegaConf.load(folder("conf") / "report.yaml"))
    results, rest = [], []
    for argument in arguments:
        key, _, value = argument.partition("=")
        known = key.lstrip("+~").split(".")[0].split("@")[0] in settings
        is_file = value.endswith(".json") or (exists(value) and Path(value).is_file())
        is_result = is_file and not known and not exists(argument)
        (results if is_result else rest).append(argument)
    runs, given = apart(rest)
    given = listed("results", results, listed("runs", runs, given))
    if runs and not any(text.lstrip("+").startswith("name=") for text in given):
        given.append(f"name={quoted(called(runs[0]))}")
    return given


def called(path: str) -> str:
    """The last part of a path that is no pattern: runs/mine/* is mine."""
    if exists(path):
        return Path(path).expanduser().resolve().name
    parts = [part for part in Path(path).resolve().parts if not any(c in part for c in "*?[")]
    return parts[-1]


@app("report", positional=placed)
def main(config: DictConfig) -> None:
    from detzoo.report import gather, write
    from detzoo.workflow.select import select

    wanted = plain(config)
    named = [wanted["runs"]] if isinstance(wanted["runs"], str) else list(wanted["runs"])
    for text in named:
        if Path(text).is_file():
            raise ValueError(f"{text} is a file; COCO results need a name: theirs={text}")
    check_writable(Path(wanted["out"]) / "index.html")
    book = gather(
        select(named),
        results_of(wanted["results"]),
        resamples=wanted["resamples"],
        data_root=wanted["data"]["root"],
    )
    page = write(
        book,
        Path(wanted["out"]),
        title=str(wanted["title"]),
        command=command(),
        images=wanted["images"],
    )
    print(painted(book.text()))
    print(page)


def results_of(wanted: Any) -> dict[str, Path]:
    """name -> file. ValueError for what is no NAME=FILE, for a name given twice, for no file."""
    found: dict[str, Path] = {}
    if isinstance(wanted, dict):
        wanted = [f"{name}={file}" for name, file in wanted.items()]
    for text in [wanted] if isinstance(wanted, str) else wanted or ():
        name, equals, file = str(text).partition("=")
        if not equals or not name.strip():
            raise ValueError(f"results={text}: it must be NAME=FILE, or results={{theirs:a.json}}")
        if name in found:
            raise ValueError(f"{name} is given twice: {found[name]} and {file}")
        path = Path(file).expanduser()
        if not path.is_file():
            raise ValueError(f"{name}={file}: there is no such file of COCO results")
        found[name] = path
    return found
