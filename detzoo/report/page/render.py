"""The page: one HTML file that needs nothing else, from a disk or a mail, on a desk or a phone."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from detzoo.report.analysis.detectors import SCORE, Analysis
from detzoo.report.analysis.rows import (
    DEPLOYED,
    NUMBERS,
    PRECISELY,
    pair_rows,
    why_no_threshold,
)
from detzoo.report.analysis.summary import Sentence
from detzoo.report.book import Table
from detzoo.report.figures.palette import Style
from detzoo.report.figures.render import Drawing
from detzoo.report.images.overlay import dot, overlay
from detzoo.report.images.side_by_side import COUNT, SHOWN, THRESHOLD, Gallery, Sheet
from detzoo.report.load.datasets import class_rows
from detzoo.report.load.protocols import Group, title
from detzoo.report.load.runs import Run, clean
from detzoo.report.page import protocol
from detzoo.report.page.rows import beyond_row, board_row, deployed_row, left_out_row, run_row
from detzoo.report.tables.leaderboard import LEAST, columns, noise
from detzoo.report.tables.notes import notes

# What `Sentence.about` leads the page, and how the page calls the rest
LEAD = ("accuracy", "speed", "threshold", "training")
TITLES = {"caution": "beware", "classes": "fails at"}


@dataclass(frozen=True)
class Galleries:
    """even: images evenly spaced; disputed: those on which detectors disagree; closer: misses and
    false alarms, a strip for each detector; sheet: the data alone."""

    even: Gallery = field(default_factory=Gallery)
    disputed: Gallery = field(default_factory=Gallery)
    closer: Gallery = field(default_factory=Gallery)
    sheet: Sheet = field(default_factory=Sheet)


@dataclass(frozen=True)
class Maps:
    """Why the detectors said so. page: of `detzoo explain`, relative to the report, or "". command:
    what makes it there, "" without a run that could be asked."""

    page: str
    command: str


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
    out: Path,
    maps: Maps,
) -> str:
    """The HTML, to be written into `out`. Everything that comes from a run is escaped by the
    template; SVG is our own."""
    script = file_text("page.js")
    return _template().render(
        heading=clean(heading, 300),
        command=clean(command, 4000),
        made=made,
        version=version,
        sections=[_section(section, styles, called) for section in sections],
        contents=_contents(sections, images),
        differences={title(field): values for field, values in differences.items()},
        left_out=[left_out_row(run, called[run]) for run in runs if not run.ranked],
        all_runs=[run_row(run, called[run], out) for run in runs],
        machine=protocol.machine([run for run in runs if run.environment]),
        commands=protocol.commands(runs),
        style=Markup(file_text("page.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        images=images,
        maps={"page": maps.page, "command": clean(maps.command, 4000)},
        picture_count=COUNT,
        shown_count=SHOWN,
        threshold=THRESHOLD,
    )


def file_text(name: str) -> str:
    """The text of a file that lies beside this module."""
    return files("detzoo.report.page").joinpath(name).read_text(encoding="utf-8")


def environment() -> Environment:
    """Jinja's, in which every value is escaped and a missing one is an error."""
    return Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


WORD = 16  # letters that a narrow column holds: shorter names stay in one piece


def breakable(text: str) -> Markup:
    """The text with the places marked where a long name may go on in the next line."""
    if len(text) <= WORD:
        return escape(text)
    return Markup("<wbr>").join(re.split(r"(?<=[/_])", text))


@lru_cache(maxsize=1)
def _template() -> object:
    page = environment()
    page.filters["breakable"] = breakable
    page.filters["dot"] = dot
    page.filters["overlay"] = overlay
    return page.from_string(file_text("page.html.j2"))


def _contents(sections: Sequence[Section], images: bool) -> list[tuple[str, str]]:
    """(id, text) of the links on top."""
    if len(sections) > 1:
        found = [(f"table-{s.index}", f"Table {s.index}") for s in sections]
    else:
        found = [("leaderboard", "Leaderboard")]
        for section in sections:
            found += [("data", "Data")] * (section.table.data is not None)
            found += [("figures", "Figures")] * any(not d.folded for d in section.drawings)
            more = isinstance(section.table.analysis, Analysis) and section.table.analysis.of
            found += [("beyond", "Beyond AP")] * bool(more)
            found += [("images", "Side by side")] * (images and not noise(section.frame))
            found.append(("protocol", "Protocol"))
    return [*found, ("failed", "Failed"), ("machine", "Machine"), ("again", "Make it again")]


def _section(
    section: Section, styles: Mapping[str, Style], called: Mapping[Run, str]
) -> dict[str, object]:
    means = set(section.frame.loc[section.frame["kind"] == "mean", "detector"])
    rows = [
        board_row(row, styles, columns(section.frame), means) for _, row in section.frame.iterrows()
    ]
    bodies: list[list[dict[str, object]]] = []
    for row in rows:  # a detector's seeds follow it
        bodies[-1].append(row) if row["kind"] == "seed" else bodies.append([row])
    data = section.table.data
    heads = [
        {
            "title": column.title,
            "help": column.help,
            "main": column.main,
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
        "lead": [_bold(s) for s in section.table.summary if s.about in LEAD],
        "noise": noise(section.frame),
        "least": LEAST,
        "facts": _facts(section),
        "data": data,
        "class_rows": class_rows(data) if data else [],
        "heads": heads,
        "bodies": bodies,
        "means": means,
        "single": any(row["detector"] not in means for row in rows),
        "n": f"{int(n.iloc[0]):,}" if len(n) else "n/a",
        "methods": list(methods),
        "figures": [_figure(d) for d in section.drawings if not d.folded],
        "folded": [_figure(d) for d in section.drawings if d.folded],
        "galleries": section.galleries,
        "many": len(section.table.by_name) > SHOWN,
        "untested": analysis if isinstance(analysis, str) else "",
        "method": "" if isinstance(analysis, str) else analysis.method,
        "dropped": [] if isinstance(analysis, str) else analysis.notes,
        "pairs": [] if isinstance(analysis, str) else pair_rows(analysis.pairs),
        "numbers": NUMBERS,
        "beyond": [beyond_row(name, detail, styles) for name, detail in details.items()],
        "deploy_spans": [("at the best F1", len(DEPLOYED)), ("at precision 0.9", len(PRECISELY))],
        "deploy_heads": [*DEPLOYED, *PRECISELY],
        "deployed": [
            deployed_row(name, detail, styles)
            for name, detail in details.items()
            if detail.point.threshold is not None
        ],
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


def _figure(drawing: Drawing) -> dict[str, object]:
    told = {key: getattr(drawing, key) for key in ("name", "title", "caption")}
    return told | {"inline": Markup(drawing.inline)}


def _bold(sentence: Sentence) -> Markup:
    """The sentence with the names in it in bold, each once."""
    text = escape(sentence.text)
    for name in sorted(sentence.names, key=len, reverse=True):
        bold = Markup("<strong>{}</strong>").format(name)
        pattern = rf"(?<![\w/]){re.escape(str(escape(name)))}(?![\w/])(?![^<]*</strong>)"
        text = Markup(re.sub(pattern, lambda _, bold=bold: str(bold), str(text), count=1))
    return text


def _facts(section: Section) -> dict[str, list[object]]:
    """What else a chooser asks -> the answers, each in a line."""
    facts: dict[str, list[object]] = {}
    for sentence in section.table.summary:
        if sentence.about not in LEAD:
            facts.setdefault(TITLES[sentence.about], []).append(_bold(sentence))
    if section.table.data:
        facts["data"] = [section.table.data.sentence()]
    if on := protocol.in_one_line(section.group):
        facts["measured on"] = [on]
    return facts
