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
    missing_thresholds,
    pair_rows,
)
from detzoo.report.analysis.summary import Sentence
from detzoo.report.book import Table
from detzoo.report.figures.palette import Style
from detzoo.report.figures.render import Drawing
from detzoo.report.images.overlay import dot, overlay
from detzoo.report.images.side_by_side import COUNT, SHOWN, THRESHOLD, Gallery, Sheet
from detzoo.report.load.datasets import class_rows
from detzoo.report.load.protocols import Group, title
from detzoo.report.load.runs import Run
from detzoo.report.load.values import clean, shorten
from detzoo.report.page import protocol
from detzoo.report.page.figures import figure, growth, is_growth, is_shown
from detzoo.report.page.rows import (
    SHORT,
    board_row,
    deployment_row,
    detail_row,
    left_out_row,
    run_row,
)
from detzoo.report.tables.leaderboard import LEAST, columns, is_noise
from detzoo.report.tables.notes import notes

# What `Sentence.about` leads the page, and how the page calls the rest
LEAD = ("accuracy", "speed", "threshold", "training")
TITLES = {"caution": "beware", "classes": "fails at"}


@dataclass(frozen=True)
class Galleries:
    """even: images evenly spaced; disputed: those where detectors disagree; close_ups: misses and
    false alarms, a strip for each detector; sheet: the data alone; twins: near-duplicates in two
    splits."""

    even: Gallery = field(default_factory=Gallery)
    disputed: Gallery = field(default_factory=Gallery)
    close_ups: Gallery = field(default_factory=Gallery)
    sheet: Sheet = field(default_factory=Sheet)
    twins: Gallery = field(default_factory=Gallery)


@dataclass(frozen=True)
class Maps:
    """The explanations. page: that of `detzoo explain`, relative to the report, or "". command:
    makes that page; "" without a run that can be explained."""

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
        machine=protocol.describe_machine([run for run in runs if run.environment]),
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
    """The text of a file beside this module."""
    return files("detzoo.report.page").joinpath(name).read_text(encoding="utf-8")


def environment() -> Environment:
    """Jinja's environment: every value is escaped, and a missing one is an error."""
    return Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


WORD = 16  # letters that a narrow column holds: shorter names stay in one piece


def breakable(text: str) -> Markup:
    """The text with marks where a long name may be wrapped."""
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
            found += [("labels", "More labels")] * any(map(is_growth, section.drawings))
            found += [("figures", "Figures")] * any(map(is_shown, section.drawings))
            more = isinstance(section.table.analysis, Analysis) and section.table.analysis.details
            found += [("beyond", "Beyond AP")] * bool(more)
            found += [("images", "Side by side")] * (images and not is_noise(section.frame))
            found.append(("protocol", "Protocol"))
    return [*found, ("failed", "Failed"), ("machine", "Machine"), ("again", "Make it again")]


def _section(
    section: Section, styles: Mapping[str, Style], called: Mapping[Run, str]
) -> dict[str, object]:
    """The template's values for one table."""
    data = section.table.data
    return {
        "index": section.index,
        "answer": section.answer,
        "lead": [_bold(s) for s in section.table.summary if s.about in LEAD],
        "noise": is_noise(section.frame),
        "least": LEAST,
        "facts": _facts(section),
        "data": data,
        "class_rows": class_rows(data) if data else [],
        "figures": [figure(d) for d in section.drawings if is_shown(d)],
        "growth": growth(section.group.runs, section.drawings),
        "folded": [figure(d) for d in section.drawings if d.folded],
        "galleries": section.galleries,
        "many": len(section.table.by_name) > SHOWN,
        "notes": notes(section.group.runs, called),
        **_board(section, styles),
        **_tests(section.table.analysis, styles),
        **_protocol(section.group, called),
    }


def _board(section: Section, styles: Mapping[str, Style]) -> dict[str, object]:
    """The leaderboard: its heads, and a body for each detector with its seeds."""
    means = set(section.frame.loc[section.frame["kind"] == "mean", "detector"])
    shown = columns(section.frame)
    rows = [board_row(row, styles, shown, means) for _, row in section.frame.iterrows()]
    bodies: list[list[dict[str, object]]] = []
    for row in rows:  # a detector's seeds follow it
        bodies[-1].append(row) if row["kind"] == "seed" else bodies.append([row])
    heads = [
        {
            "title": column.title,
            "help": column.help,
            "main": column.main,
            "first": "descending" if column.higher_is_better else "ascending",
        }
        for column in shown
    ]
    n = section.frame["images"].dropna()
    return {
        "heads": heads,
        "bodies": bodies,
        "means": means,
        "single": any(row["detector"] not in means for row in rows),
        "n": f"{int(n.iloc[0]):,}" if len(n) else "n/a",
    }


def _tests(analysis: Analysis | str, styles: Mapping[str, Style]) -> dict[str, object]:
    """Paired tests and other results of the predictions; or a text, why there are none."""
    known = None if isinstance(analysis, str) else analysis
    details = known.details if known else {}
    return {
        "untested": analysis if isinstance(analysis, str) else "",
        "method": known.method if known else "",
        "dropped": known.notes if known else [],
        "pairs": pair_rows(known.pairs) if known else [],
        "numbers": NUMBERS,
        "details": [detail_row(name, detail, styles) for name, detail in details.items()],
        "deploy_spans": [("at the best F1", len(DEPLOYED)), ("at precision 0.9", len(PRECISELY))],
        "deploy_heads": [*DEPLOYED, *PRECISELY],
        "deployed": [
            deployment_row(name, detail, styles)
            for name, detail in details.items()
            if detail.point.threshold is not None
        ],
        "no_threshold": {
            reason: ", ".join(who) for reason, who in missing_thresholds(details).items()
        },
        "fallback": SCORE,
    }


def _protocol(group: Group, called: Mapping[Run, str]) -> dict[str, object]:
    """How the table's numbers were made."""
    metrics = [run.metrics for run in group.runs]
    methods = (clean(text, 200) for m in metrics if (text := m.get("interval_method")))
    backends = (clean(text, 60) for m in metrics if (text := m.get("backend")))
    return {
        "methods": list(dict.fromkeys(methods)),
        "accuracy": protocol.describe_table(group, "accuracy"),
        "speed": protocol.describe_table(group, "speed"),
        "backends": list(dict.fromkeys(backends)),
        "rates": protocol.describe_rates(group.runs, called),
        "timing": protocol.describe_timing(group.runs),
    }


def _bold(sentence: Sentence) -> Markup:
    """The sentence with the names in it in bold, each once; long ones as short as in the tables."""
    text = escape(sentence.text)
    for name in sorted(sentence.names, key=len, reverse=True):
        bold = Markup('<strong title="{}">{}</strong>').format(name, shorten(name, SHORT))
        pattern = rf"(?<![\w/]){re.escape(str(escape(name)))}(?![\w/])(?![^<]*</strong>)"
        text = Markup(re.sub(pattern, lambda _, bold=bold: str(bold), str(text), count=1))
    return text


def _facts(section: Section) -> dict[str, list[object]]:
    """Further questions of someone who must choose -> the answers, one per line."""
    facts: dict[str, list[object]] = {}
    for sentence in section.table.summary:
        if sentence.about not in LEAD:
            facts.setdefault(TITLES[sentence.about], []).append(_bold(sentence))
    if section.table.data:
        facts["data"] = [section.table.data.sentence()]
    if on := protocol.summarise_machine(section.group):
        facts["measured on"] = [on]
    return facts
