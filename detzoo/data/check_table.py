"""The result of a check as text that fits a terminal: numbers first, then problems by kind."""

from __future__ import annotations

import shutil
import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from detzoo.data.dataset import Problem
from detzoo.text import escaped

EXAMPLES = 5  # shown per kind of problem; the JSON has them all
CLASSES = 20  # shown if there are many more; the JSON has them all
CELL = 4  # side in pixels of CenterNet's cells, each of which holds one object
WIDEST = 120  # characters of the longest line that is easy to read
COLUMNS = {
    **{"images": "images", "empty": "without_boxes", "boxes": "boxes", "crowd": "crowd"},
    **{"small": "small", "medium": "medium", "large": "large"},
}


def table(
    name: str,
    root: str,
    classes: Sequence[str],
    statistics: Mapping[str, Mapping[str, Any]],
    problems: Sequence[Problem],
) -> str:
    """All of it, no line wider than the terminal, except what cannot be broken."""
    width = min(WIDEST, max(60, shutil.get_terminal_size((80, 24)).columns))
    parts = [f"{escaped(name)} ({escaped(root)})"]
    if statistics:
        parts += [_numbers(statistics, width), _classes(classes, statistics, width)]
    errors = [problem for problem in problems if problem.severity == "error"]
    warnings = [problem for problem in problems if problem.severity == "warning"]
    parts.append(f"{_count(len(errors), 'error')}, {_count(len(warnings), 'warning')}")
    return "\n\n".join([*parts, *_kinds([*errors, *warnings], width)])


def _numbers(statistics: Mapping[str, Mapping[str, Any]], width: int) -> str:
    columns = dict(COLUMNS)
    if any("groups" in numbers for numbers in statistics.values()):
        columns["groups"] = "groups"
    rows = [("split", *columns, "width x height")]
    for split, numbers in statistics.items():
        (low, high) = numbers["image_sizes"]
        span = " to ".join(f"{w}x{h}" for h, w in ([low] if low == high else [low, high]))
        rows.append((split, *(str(numbers.get(key, 0)) for key in columns.values()), span))
    lines = [_aligned(rows)]
    for split, numbers in statistics.items():
        lost, boxes = numbers["centre_collisions"], numbers["boxes"] - numbers["crowd"]
        if lost:
            line = (
                f"{split}: {lost} of {boxes} boxes ({lost / boxes:.2%}) have their centre in the "
                f"same {CELL} x {CELL} pixels as another; CenterNet sees one of them"
            )
            lines.append(textwrap.fill(line, width, subsequent_indent="  "))
    return "\n\n".join(lines)


def _classes(
    classes: Sequence[str], statistics: Mapping[str, Mapping[str, Any]], width: int
) -> str:
    """Boxes per class; of very many classes, those with most boxes in the first split."""
    shown = list(classes)
    if len(shown) > 1.5 * CLASSES:
        counts = next(iter(statistics.values()))["per_class"]
        shown = sorted(shown, key=lambda name: -counts[name])[:CLASSES]
    room = width - sum(2 + max(len(split), 7) for split in statistics)
    rows = [("boxes of", *statistics)]
    for name in shown:
        counts = (str(numbers["per_class"][name]) for numbers in statistics.values())
        rows.append((_cut(escaped(name), room), *counts))
    more = len(classes) - len(shown)
    return _aligned(rows) + (f"\nand {more} classes with fewer; json=FILE has all" if more else "")


def _kinds(problems: Sequence[Problem], width: int) -> list[str]:
    """A paragraph for each kind: how many, what training does, the first examples."""
    groups: dict[tuple[str, str], list[Problem]] = defaultdict(list)
    for problem in problems:
        groups[problem.severity, problem.kind].append(problem)
    parts = []
    for (severity, kind), of_kind in groups.items():
        actions = {problem.action for problem in of_kind}
        head = f"{_count(len(of_kind), severity)}: {escaped(kind)}"
        lines = [f"{head}: {escaped(next(iter(actions)))}" if len(actions) == 1 else head]
        lines = [textwrap.fill(lines[0], width, subsequent_indent="  ")]
        for problem in of_kind[:EXAMPLES]:
            action = f" ({escaped(problem.action)})" if len(actions) > 1 else ""
            lines.append(_example(escaped(_where(problem)), escaped(problem.what) + action, width))
        if len(of_kind) > EXAMPLES:
            lines.append(f"  and {len(of_kind) - EXAMPLES} more")
        parts.append("\n".join(lines))
    return parts


def _where(problem: Problem) -> str:
    """The place, preceded by the split unless its name contains it."""
    if not problem.where or not problem.split or problem.split in problem.where:
        return problem.where
    return f"{problem.split}: {problem.where}"


def _example(where: str, what: str, width: int) -> str:
    """`where: what` wrapped to lines; long names are not broken."""
    if where and what.startswith(where):  # it begins with the file already
        where, what = "", what
    text = f"{where}: {what}" if where else what
    return textwrap.fill(
        text,
        width,
        initial_indent="  ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _cut(text: str, width: int) -> str:
    return text if len(text) <= max(10, width) else text[: max(10, width) - 1] + "…"


def _count(number: int, word: str) -> str:
    return f"{number or 'no'} {word}{'' if number == 1 else 's'}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns of text; numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = (
            cell.rjust(width) if cell.isdigit() else cell.ljust(width)
            for cell, width in zip(row, widths, strict=True)
        )
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
