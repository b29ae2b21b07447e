"""The page: one HTML file that needs nothing else, from a disk or a mail, on a desk or a phone."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files

import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from detzoo.report import protocol
from detzoo.report.analysis import SCORE, Detail
from detzoo.report.beyond import NUMBERS, pair_rows, why_no_threshold
from detzoo.report.compare import Group, title
from detzoo.report.figures import Drawing
from detzoo.report.gather import Table
from detzoo.report.palette import Style
from detzoo.report.pictures import COUNT, THRESHOLD, Gallery
from detzoo.report.runs import Run, clean, shorten
from detzoo.report.tables import Column, cell, columns, limits, notes, seed_text

_SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const buttons = table.querySelectorAll("thead button");
  for (const button of buttons) button.addEventListener("click", () => {
    const th = button.closest("th"), column = th.cellIndex, old = th.getAttribute("aria-sort");
    const first = th.dataset.first, up = old ? old !== "ascending" : first === "ascending";
    for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
    th.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = (row) => row.cells[column].dataset.value;
    const rows = [...body.rows].sort((a, b) => {
      const x = key(a), y = key(b);
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = th.dataset.text ? x.localeCompare(y) : x - y;
      return up ? order : -order;
    });
    body.append(...rows);
  });
}
const zoom = document.querySelector("dialog");
const tiles = document.querySelectorAll("button.zoom");
for (const button of tiles) button.addEventListener("click", () => {
  zoom.querySelector("img").src = button.querySelector("img").src;
  zoom.querySelector("p").textContent = button.dataset.caption;
  zoom.showModal();
});
if (zoom) zoom.addEventListener("click", () => zoom.close());
"""


@dataclass(frozen=True)
class Galleries:
    """even: images evenly spaced; disputed: those on which detectors disagree; closer: misses and
    false alarms, a strip for each detector."""

    even: Gallery = field(default_factory=Gallery)
    disputed: Gallery = field(default_factory=Gallery)
    closer: Gallery = field(default_factory=Gallery)


@dataclass(frozen=True)
class Section:
    """All that the page shows of one table."""

    table: Table
    answer: Sequence[str]
    drawings: Sequence[Drawing]
    galleries: Galleries

    @property
    def index(self) -> int:
        return self.table.index

    @property
    def group(self) -> Group:
        return self.table.group

    @property
    def frame(self) -> pd.DataFrame:
        return self.table.frame


def render(
    *,
    heading: str,
    command: str,
    made: str,
    version: str,
    sections: Sequence[Section],
    differences: Mapping[str, Sequence[str]],
    runs: Sequence[Run],
    called: Mapping[Run, str],
    styles: Mapping[str, Style],
    images: bool,
) -> str:
    """The HTML. Everything that comes from a run is escaped by the template; SVG is our own."""
    return _template().render(
        heading=clean(heading, 300),
        command=clean(command, 4000),
        made=made,
        version=version,
        sections=[_section(section, styles, called) for section in sections],
        differences={title(field): values for field, values in differences.items()},
        left_out=[_left_out(run, called[run]) for run in runs if not run.ranked],
        machine=protocol.machine([run for run in runs if run.environment]),
        commands=protocol.commands(runs),
        script=Markup(_SCRIPT),
        script_hash=base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode(),
        images=images,
        picture_count=COUNT,
        threshold=THRESHOLD,
    )


@lru_cache(maxsize=1)
def _template() -> object:
    source = files("detzoo.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["breakable"] = lambda text: Markup("<wbr>").join(
        re.split(r"(?<=[/_])", text)
    )
    return environment.from_string(source)


def _section(
    section: Section, styles: Mapping[str, Style], called: Mapping[Run, str]
) -> dict[str, object]:
    means = set(section.frame.loc[section.frame["kind"] == "mean", "detector"])
    rows = [_row(row, styles, columns(section.frame)) for _, row in section.frame.iterrows()]
    heads = [
        {
            "title": column.title,
            "help": column.help,
            "first": "descending" if column.higher_is_better else "ascending",
        }
        for column in columns(section.frame)
    ]
    analysis = section.table.analysis
    details = {} if isinstance(analysis, str) else analysis.of
    group = section.group
    n = section.frame["images"].dropna()
    methods = dict.fromkeys(
        clean(m, 200) for run in group.runs if (m := run.metrics.get("interval_method"))
    )
    return {
        "index": section.index,
        "answer": section.answer,
        "heads": heads,
        "rows": rows,
        "means": means,
        "single": any(row["detector"] not in means for row in rows),
        "n": f"{int(n.iloc[0]):,}" if len(n) else "n/a",
        "methods": list(methods),
        "drawings": [
            {
                "name": d.name,
                "title": d.title,
                "caption": d.caption,
                "wide": Markup(d.wide),
                "narrow": Markup(d.narrow),
            }
            for d in section.drawings
        ],
        "galleries": section.galleries,
        "untested": analysis if isinstance(analysis, str) else "",
        "method": "" if isinstance(analysis, str) else analysis.method,
        "dropped": [] if isinstance(analysis, str) else analysis.notes,
        "pairs": [] if isinstance(analysis, str) else pair_rows(analysis.pairs),
        "numbers": NUMBERS,
        "beyond": [_beyond(name, detail, styles) for name, detail in details.items()],
        "no_threshold": {
            reason: ", ".join(who) for reason, who in why_no_threshold(details).items()
        },
        "fallback": SCORE,
        "notes": notes(group.runs, called),
        "accuracy": protocol.of_table(group, "accuracy"),
        "speed": protocol.of_table(group, "speed"),
        "backends": list(
            dict.fromkeys(clean(b, 60) for r in group.runs if (b := r.metrics.get("backend")))
        ),
        "rates": protocol.rates(group.runs, called),
        "timing": protocol.timing(group.runs),
    }


def _beyond(name: str, detail: Detail, styles: Mapping[str, Style]) -> dict[str, object]:
    values = [number.value(detail) for number in NUMBERS]
    return {
        "detector": name,
        "shown": shorten(name, 40),
        "colour": styles[name].colour,
        "cells": [
            {
                "text": "n/a" if v is None else f"{v:.3f}",
                "value": "" if v is None else repr(float(v)),
            }
            for v in values
        ],
    }


def _row(row: pd.Series, styles: Mapping[str, Style], shown: Sequence[Column]) -> dict[str, object]:
    cells = []
    for column in shown:
        value = row[column.key]
        cells.append(
            {
                "text": cell(column, row),
                "limits": _short(column, limits(column, row)),
                "value": "" if pd.isna(value) else repr(_order(column, row)),
            }
        )
    return {
        "detector": row["detector"],
        "shown": shorten(row["detector"], 40),
        "colour": styles[row["detector"]].colour,
        "seed": _seed(row),
        "kind": row["kind"],
        "state": row["state"],
        "cells": cells,
    }


def _short(column: Column, text: str) -> str:
    """An accuracy's interval as `[.123 .456]`: eight of them must stand beside one another."""
    return re.sub(r"\b0\.", ".", text).replace(",", "") if column.kind == "accuracy" else text


def _order(column: Column, row: pd.Series) -> float:
    """What a column is sorted by; of equal best ranks the better worst one comes first."""
    more = row["rank_worst"] / 1e4 if column.kind == "rank" else 0
    return float(row[column.key] + more)


def _seed(row: pd.Series) -> str:
    if row["kind"] == "mean" or row["seed"] == "external":
        return "external results" if row["seed"] == "external" else seed_text(row)
    return f"seed {row['seed']}"


def _left_out(run: Run, name: str) -> dict[str, object]:
    """The reason's last line is the error itself where it is a traceback; the rest on request."""
    first, *more = run.problems
    lines = [line for line in first.splitlines() if line.strip()]
    long = len(lines) > 1
    reason = f"{lines[0]} … {lines[-1].strip()}" if long else first
    return {
        "name": name,
        "seed": run.seed,
        "run": run.path.name,
        "state": run.state,
        "reason": reason,
        "full": first if long else "",
        "more": more,
    }
