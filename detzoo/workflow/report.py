"""The page and the tables of a set of runs."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from detzoo.files import atomic, check_writable, write_text
from detzoo.report import gather, write
from detzoo.report.analysis.training_images import format_text as size_text
from detzoo.report.analysis.training_images import frame as size_frame
from detzoo.report.analysis.training_images import sizes
from detzoo.report.book import Book
from detzoo.report.figures.training_images import growth
from detzoo.report.tables.leaderboard import columns, concat, contenders, format_cell, format_limits
from detzoo.text import escaped
from detzoo.workflow.select import select
from detzoo.workflow.verb import Result, takes_settings

STUDIES = ("images",)


@dataclass(frozen=True, repr=False)
class Report(Result):
    """A written report. book: the tables and the analysis of their rows; page: index.html, with
    tables and figures beside it. study: the table of a study, if one was requested."""

    book: Book
    page: Path
    failed: Mapping[Path, str] = field(default_factory=dict)
    study: str = ""

    @property
    def frame(self) -> pd.DataFrame:
        """A row for each run and mean over seeds, of all tables, with every column."""
        return concat([table.frame for table in self.book.tables])

    def text(self) -> str:
        study = f"{self.study}\n" if self.study else ""
        return f"{self.book.text()}\n{study}{self.page}"

    def html(self) -> str:
        """The tables with their main columns, the first figure, and the page's path."""
        figures = sorted((self.page.parent / "figures").glob("speed-accuracy*.svg"))[:1]
        tables = [as_html(table.frame) for table in self.book.tables]
        shown = [f'<div style="max-width: 720px">{figure.read_text()}</div>' for figure in figures]
        return f"{''.join([*tables, *shown])}<p>{html.escape(escaped(self.page))}</p>"


def as_html(frame: pd.DataFrame) -> str:
    """One table of a report for a notebook, a detector a row, intervals beside the AP."""
    main = [column for column in columns(frame) if column.main]
    rows = []
    for _, row in contenders(frame).iterrows():
        cells = {"detector": escaped(row["detector"])}
        cells |= {c.title: f"{format_cell(c, row)} {format_limits(c, row)}".strip() for c in main}
        rows.append(cells)
    return pd.DataFrame(rows).to_html(index=False, border=0)


@takes_settings
def report(
    runs: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    title: str | None = None,
    results: str | Sequence[str] | Mapping[str, str | Path] | None = None,
    images: bool = True,
    data_root: str | Path | None = None,
    resamples: int = 1000,
    across_starts: bool = False,
    study: str | None = None,
    command: str = "detzoo.report, from Python",
) -> Report:
    """Write the page, the tables and the figures of runs into `out`.

    out: reports/NAME by default, NAME that of the runs' folder. title: the page's heading, by
    default the folder's name. results: name -> file of COCO results of another program, or
    NAME=FILE. images: False leaves the photographs out. data_root: where the data set is; without
    it only the images kept in the runs are shown. resamples: of the images, for the tests.
    across_starts: rank rows together that start from different weights. study: "images" adds how AP
    grows with the number of training images, for runs of different data.fraction:
    training-images.svg and .csv. command: named on the page. Raises ValueError without any run.
    """
    if study is not None and study not in STUDIES:
        raise ValueError(f"study is {study!r}; of a report there is {', '.join(STUDIES)}")
    paths = [runs] if isinstance(runs, str | Path) else list(runs)
    for path in paths:
        if Path(path).is_file():
            raise ValueError(f"{path} is a file; COCO results need a name: theirs={path}")
    out = Path(out or Path("reports") / (name_of(str(paths[0])) if paths else "default"))
    check_writable(out / "index.html")
    files = result_files(results)
    book = gather(
        select(paths),
        files,
        resamples=resamples,
        data_root=data_root,
        across_starts=across_starts,
    )
    grown = sizes(book.runs) if study else []
    if study and not grown:
        raise ValueError(
            "study=images needs runs of different numbers of training images: "
            "detzoo train -m +data.fraction=0.1,0.3,1"
        )
    page = write(
        book,
        out,
        title=out.name if title is None else str(title),
        command=command,
        images=images,
    )
    if not grown:
        return Report(book, page)
    with atomic(out / "training-images.svg") as temporary:
        growth(grown).savefig(temporary, format="svg", metadata={"Date": None})
    write_text(out / "training-images.csv", size_frame(grown).to_csv(index=False))
    return Report(book, page, study=f"{size_text(grown)}\n{out / 'training-images.svg'}")


def name_of(path: str) -> str:
    """The last part of a path that is no pattern: runs/mine/* is mine."""
    with suppress(OSError, ValueError, RuntimeError):  # an impossible path does not exist
        if Path(path).expanduser().exists():
            return Path(path).expanduser().resolve().name
    parts = [part for part in Path(path).resolve().parts if not any(c in part for c in "*?[")]
    return parts[-1]


def result_files(results: Any) -> dict[str, Path]:
    """name -> file of COCO results, from a mapping, NAME=FILE, or several of these.

    Raises ValueError for any other form, for a name given twice, and for a missing file.
    """
    found: dict[str, Path] = {}
    if isinstance(results, Mapping):
        results = [f"{name}={file}" for name, file in results.items()]
    for text in [results] if isinstance(results, str) else results or ():
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
