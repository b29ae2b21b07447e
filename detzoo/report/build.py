"""From run directories to a folder with the page, the tables and the figures."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd

import detzoo
from detzoo.files import atomic, read_json, remove_leftovers, write_json, write_text
from detzoo.report.analysis.detectors import Analysis
from detzoo.report.analysis.rows import as_json
from detzoo.report.analysis.verdict import write_verdict
from detzoo.report.book import Book, Table, gather
from detzoo.report.figures.palette import Style, styles
from detzoo.report.figures.render import draw
from detzoo.report.images.failures import close_ups, find_disputed
from detzoo.report.images.near_duplicates import near_duplicates
from detzoo.report.images.photographs import FEW_IMAGES, NO_IMAGES, showable
from detzoo.report.images.side_by_side import COUNT, Gallery, gallery, has_no_images, sheet
from detzoo.report.load.protocols import differences, title
from detzoo.report.load.runs import Run
from detzoo.report.load.values import clean
from detzoo.report.page.render import Galleries, Maps, Section, render
from detzoo.report.tables.latex import latex
from detzoo.report.tables.leaderboard import concat, csv, escape, is_noise, markdown
from detzoo.report.tables.notes import notes

MOST_BYTES = 5_000_000
EXPLAINED = "explained"  # the folder beside the page that may hold the maps
PICTURES = ((640, 82), (480, 72), (360, 65), (240, 60))  # (side, JPEG quality), until the page fits
_OURS = re.compile(r"figures/[a-z0-9-]+\.(svg|png)")


def build(
    run_dirs: Sequence[str | Path],
    out: str | Path,
    *,
    title: str,
    command: str,
    images: bool = True,
    results: Mapping[str, str | Path] | None = None,
    resamples: int = 1000,
) -> Path:
    """Write index.html, table.csv, .md and .tex, report.json and figures/ into `out`; returns the
    page.

    run_dirs: run directories or directories that hold some; a failed or damaged run becomes a line
    with its reason. title: the page's heading. command: makes this report again, printed. images:
    False leaves the photographs out. results: name -> COCO result file of a program that is not run
    here. resamples: of the images, for the paired tests. Every file is whole or absent, the page
    comes last; other files in `out` are left alone. Raises ValueError if no run directory is given,
    or a result file is not of the runs' images.
    """
    book = gather(run_dirs, results, resamples=resamples)
    return write(book, out, title=title, command=command, images=images)


def write(book: Book, out: str | Path, *, title: str, command: str, images: bool = True) -> Path:
    """As `build`, from gathered data."""
    out, runs, called = Path(out), book.runs, book.called
    if out.is_dir():
        remove_leftovers(out)
    tables = [table.group for table in book.tables]
    looks = styles(called.values())
    sections = []
    for table in book.tables:
        suffix = f"-{table.index}" if len(tables) > 1 else ""
        analysis = table.analysis if isinstance(table.analysis, Analysis) else None
        details = analysis.details if analysis else {}
        pairs = analysis.pairs if analysis else ()
        drawings = draw(table.group.runs, table.frame, called, looks, suffix, details)
        verdict = write_verdict(table.frame, pairs, table.by_name)
        sections.append(Section(table, verdict, drawings, Galleries()))

    made = datetime.now(timezone.utc).replace(microsecond=0).isoformat()
    common = {
        "heading": title,
        "command": command,
        "made": made.replace("T", " ").replace("+00:00", " UTC"),
        "version": detzoo.__version__,
        "differences": differences(tables),
        "runs": runs,
        "called": called,
        "styles": looks,
        "out": out,
        "maps": maps_of(out, runs),
    }
    page = _render_within_limit(common, sections, images)

    written = {}
    for section in sections:
        for drawing in section.drawings:
            written[f"figures/{drawing.name}.svg"] = drawing.svg.encode()
            written[f"figures/{drawing.name}.png"] = drawing.png
    _remove_old_figures(out, keep=written)
    for name, content in written.items():
        with atomic(out / name) as temporary:
            temporary.write_bytes(content)
    frames = [section.frame for section in sections]
    write_text(out / "table.csv", csv(concat(frames)))
    write_text(out / "table.tex", latex(frames))
    write_text(out / "table.md", _markdown(title, command, sections, common))
    write_json(out / "report.json", _facts(title, command, made, sections, common, sorted(written)))
    write_text(out / "index.html", page)
    return out / "index.html"


def maps_of(out: Path, runs: Sequence[Run]) -> Maps:
    """The page of `detzoo explain` beside the report, or the command that makes it."""
    folders = dict.fromkeys(run.path.parent for run in runs if run.ranked and not run.external)
    arguments = [*map(str, folders), f"out={out / EXPLAINED}"]
    page = f"{EXPLAINED}/index.html" if (out / EXPLAINED / "index.html").is_file() else ""
    return Maps(page, f"detzoo explain {shlex.join(arguments)}" if folders else "")


def _render_within_limit(common: dict[str, Any], sections: list[Section], images: bool) -> str:
    """The page with the largest pictures that keep it below MOST_BYTES; without any if it must."""
    called, looks = common["called"], common["styles"]
    for side, quality in PICTURES if images else ():
        shown = [
            replace(section, galleries=_galleries(section.table, called, looks, side, quality))
            for section in sections
        ]
        page = render(**common, sections=shown, images=True)
        if len(page.encode()) < MOST_BYTES:
            return page
    return render(**common, sections=sections, images=False)


def _galleries(
    table: Table, called: Mapping[Run, str], looks: Mapping[str, Style], side: int, quality: int
) -> Galleries:
    """The photographs of one table. side: the longer side of the largest in pixels."""
    runs = [run for members in table.by_name.values() for run in members]  # by falling AP
    if has_no_images(runs):
        return Galleries(Gallery(notes=[NO_IMAGES]))
    how: dict[str, Any] = {"side": side, "quality": quality}
    of_data: dict[str, Any] = {"sheet": sheet(runs, quality=quality)}
    if table.data:
        pairs = table.data.near_duplicates
        of_data["twins"] = near_duplicates(runs, pairs, side=2 * side // 5, quality=quality)
    if is_noise(table.frame):
        return Galleries(**of_data)
    if not isinstance(table.analysis, Analysis) or not table.analysis.details:
        return Galleries(gallery(runs, called, looks, **how), **of_data)
    details, truth = table.analysis.details, table.analysis.truth
    how["thresholds"] = {name: detail.score for name, detail in details.items()}
    among = showable(truth)
    by_result = (
        gallery(runs, called, looks, ids=find_disputed(details, COUNT, among), **how),
        close_ups(truth, details, looks, side=side // 3, quality=quality),
    )
    if among is not None and len(among) < len(truth["images"]):
        for found in by_result:
            found.notes.append(FEW_IMAGES.format(kept=len(among), images=len(truth["images"])))
    return Galleries(gallery(runs, called, looks, **how), *by_result, **of_data)


def _remove_old_figures(out: Path, keep: dict[str, bytes]) -> None:
    """Figures that an earlier report wrote here and this one does not have."""
    try:
        before = read_json(out / "report.json")["figures"]
        old = [name for name in before if _OURS.fullmatch(name) and name not in keep]
    except (OSError, ValueError, TypeError, KeyError):
        return
    for name in old:
        (out / name).unlink(missing_ok=True)


def _markdown(heading: str, command: str, sections: Sequence[Section], common: dict) -> str:
    lines = [f"# {escape(clean(heading, 300))}\n"]
    for section in sections:
        if len(sections) > 1:
            lines.append(f"## Table {section.index} of {len(sections)}\n")
        lines.append(escape(" ".join(s.text for s in section.table.summary)) + "\n")
        lines.append(markdown(section.frame))
        for text, rows in notes(section.group.runs, common["called"]).items():
            lines.append(f"- {escape(rows)}: {escape(text)}")
        lines.append("")
        lines.append(escape(" ".join(section.answer)) + "\n")
    if common["differences"]:
        lines.append("Rows of different tables must not be compared; the tables differ in:\n")
        for field, values in common["differences"].items():
            lines.append(f"- {title(field)}: {escape(' | '.join(values))}")
        lines.append("")
    lines.append(
        "AP in [0, 1] with 95% intervals; latency end to end at batch 1; n/a: not available.\n"
    )
    left_out = [run for run in common["runs"] if not run.ranked]
    if left_out:
        lines.append("Failed or left out:\n")
        for run in left_out:
            name, reason = common["called"][run], run.problems[0].splitlines()[0]
            lines.append(f"- {escape(name)}, seed {escape(run.seed)}: {escape(reason)}")
        lines.append("")
    fence = "`" * (1 + max((len(m) for m in re.findall("`+", command)), default=2))
    return "\n".join([*lines, f"{fence}\n{clean(command)}\n{fence}"]) + "\n"


def _facts(
    heading: str,
    command: str,
    made: str,
    sections: Sequence[Section],
    common: dict[str, Any],
    figures: Sequence[str],
) -> dict[str, Any]:
    """report.json: the same content for programs; n/a is null."""
    return {
        "title": heading,
        "command": command,
        "made": made,
        "detzoo": common["version"],
        "tables": [
            {
                "index": s.index,
                "answer": [sentence.text for sentence in s.table.summary],
                "tests": list(s.answer),
                "fingerprint": _to_json(s.group.fields),
                "rows": [_to_json(row) for row in s.frame.to_dict("records")],
                "analysis": _to_json(as_json(s.table.analysis)),
            }
            for s in sections
        ],
        "differences": common["differences"],
        "left_out": [
            {
                "run": str(run.path),
                "detector": common["called"][run],
                "seed": run.seed,
                "state": run.state,
                "reasons": list(run.problems),
            }
            for run in common["runs"]
            if not run.ranked
        ],
        "figures": list(figures),
    }


def _to_json(value: Any) -> Any:
    """Strict JSON of a value from pandas or from a run: None for numbers that are not finite."""
    if isinstance(value, dict):
        return {str(key): _to_json(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(child) for child in value]
    if value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value
