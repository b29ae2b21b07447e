"""detzoo report: the page and the tables of a set of runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from detzoo.cli.app import app, command
from detzoo.config import folder, plain
from detzoo.plain_yaml import read_yaml


def main(arguments: Sequence[str]) -> int:
    """`detzoo report RUNS... NAME=FILE.json` is runs=[...] results=[...], which Hydra takes."""
    settings = set(read_yaml(folder("conf") / "report.yaml")) | {"hydra"}
    runs, results, given = [], [], []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if argument.startswith("-"):
            given.append(argument)
        elif not equals or Path(argument).exists():
            runs.append(argument)
        elif key.lstrip("+~").split(".")[0].split("@")[0] in settings:
            given.append(argument)
        elif value.endswith(".json") or Path(value).is_file():
            results.append(argument)
        else:
            given.append(argument)
    if runs:
        given.append(f"runs=[{','.join(map(quoted, runs))}]")
        if not any(text.startswith("name=") for text in given):
            given.append(f"name={quoted(called(runs[0]))}")
    if results:
        given.append(f"results=[{','.join(map(quoted, results))}]")
    return _main(given)


def quoted(text: str) -> str:
    """As Hydra reads it back whatever it holds."""
    if re.fullmatch(r"[A-Za-z_.][\w./-]*", text) and text.lower() not in ("true", "false", "null"):
        return text
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("${", "\\${")
    return f"'{escaped}'"


def called(path: str) -> str:
    """The last part of a path that is no pattern: runs/mine/* is mine."""
    parts = [part for part in Path(path).resolve().parts if not any(c in part for c in "*?[")]
    return parts[-1]


@app("report")
def _main(config: DictConfig) -> None:
    from detzoo.cli.select import select
    from detzoo.report import gather, write

    wanted = plain(config)
    named = [wanted["runs"]] if isinstance(wanted["runs"], str) else list(wanted["runs"])
    for text in named:
        path = Path(text)
        if path.is_file():
            raise ValueError(f"{text} is a file; COCO results need a name: theirs={text}")
        if not path.exists() and not any(c in text for c in "*?["):
            raise ValueError(f"there is no run directory {text}")
    book = gather(select(named), results_of(wanted["results"]), resamples=wanted["resamples"])
    page = write(
        book,
        Path(wanted["out"]),
        title=str(wanted["title"]),
        command=command(),
        images=wanted["images"],
    )
    print(book.text())
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
        if not Path(file).is_file():
            raise ValueError(f"{name}={file}: there is no such file of COCO results")
        found[name] = Path(file)
    return found
