"""The content of speed.json, as a table for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from detzoo.report.load.protocols import (
    differences,
    format_value,
    group_timed_runs,
    name_detectors,
    title,
    title_of,
)
from detzoo.report.load.runs import Run, load_all
from detzoo.report.load.values import clean, dig, interval, number, shorten
from detzoo.report.tables.leaderboard import align, format_digits
from detzoo.report.tables.notes import group_notes, warnings

STAGES = ("decode", "proposals", "preprocess", "transfer", "network", "postprocess", "restore")
PARTS = ("backbone", "neck", "rpn", "head", "rest")


def speed_table(run_dirs: Iterable[str | Path]) -> str:
    """The content of speed.json for runs and untrained models: a table for each class and session.

    Times are milliseconds, end to end at batch 1, except `img/s`, which is at the batch size beside
    it. `times` is against the reference row, over paired passes. `overhead` is (end to end - JPEG
    decoding) / network alone. GMACs are multiply-adds, mean and spread over images. Intervals are
    95%. The lower half splits the medians into stages, and the network into its parts.
    """
    runs = load_all(run_dirs)
    called, tables = name_detectors(runs), group_timed_runs(runs)
    lines: list[str] = []
    for index, group in enumerate(tables, start=1):
        if len(tables) > 1:
            lines.append(f"Table {index} of {len(tables)}: not to be compared with the others")
        ordered = sorted(group.runs, key=lambda run: number(run.speed, "end_to_end", "p50"))
        lines += [*_speeds(ordered, called), "", *_splits(ordered, called), ""]
        facts = (
            f"{title(field)} {format_value(v)}"
            for field, v in group.fields.items()
            if v is not None
        )
        images = format_value(dig(group.runs[0].speed, "images"))
        lines.append(f"measured on {images} images of the test split; {'; '.join(facts)}")
        lines += [*_machine(group.runs[0]), ""]
    for field, values in differences(tables).items():
        lines.append(f"the tables differ in {title(field)}: {' | '.join(values)}")
    if len({run.speed.get("session") for group in tables for run in group.runs}) > 1:
        lines.append("the tables were timed in different sessions: their rounds do not interleave")
    for run in runs:
        if not run.speed:
            reason = " ".join("; ".join(run.problems).split()) or "it was not timed"
            lines.append(f"left out: {title_of(run, called[run])}: {reason}")
    notes_of = ((called[run], warnings(run)) for group in tables for run in group.runs)
    lines += [f"note: {rows}: {text}" for text, rows in group_notes(list(notes_of)).items()]
    return "\n".join(clean(line.rstrip(), 500) for line in lines).strip("\n") + "\n"


def _machine(run: Run) -> list[str]:
    """The session of a timing: clocks, warm-up, folding, versions."""
    before, after = (dig(run.speed, "clocks", when) or {} for when in ("before", "after"))
    facts = [
        f"{clean(key, 40).replace('_', ' ')} {format_digits(number(before, key))} before, "
        f"{format_digits(number(after, key))} after"
        for key in before
        if number(before, key) > 0 and number(after, key) > 0
    ]
    if (throttles := dig(run.speed, "clocks", "throttles")) is not None:
        facts.append(f"held back by {format_value(throttles) or 'nothing'}")
    if (seconds := number(run.speed, "warmup", "seconds")) > 0:
        facts.append(
            f"warm-up took {format_digits(seconds)} s, "
            f"{format_value(dig(run.speed, 'warmup', 'passes'))} passes"
        )
    if (norms := number(run.speed, "folding", "norms")) > 0:
        folded = format_value(dig(run.speed, "folding", "folded"))
        facts.append(f"{folded} of {format_value(int(norms))} batch norms folded")
    versions = dig(run.speed, "versions")
    facts += (
        [f"{clean(k, 40)} {format_value(v)}" for k, v in versions.items() if v] if versions else []
    )
    return [f"{run.label}: {'; '.join(facts)}"] if facts else []


def _speeds(runs: Sequence[Run], called: Mapping[Run, str]) -> list[str]:
    heads = ["AP", "p50 ms", "p90", "p99", "n", "times", "img/s", "at", "overhead", "GMACs"]
    rows = [["detector", *heads, "Mpar", "MB"]]
    for run in runs:
        speed, whole = run.speed, ("end_to_end",)
        ap = number(run.metrics, "AP") if run.ranked else math.nan
        spread = number(speed, "gmacs_sd")
        beside = f" ±{format_digits(spread)}" if spread > 0 else ""
        rows.append(
            [
                shorten(called[run], 30),
                "n/a" if math.isnan(ap) else f"{ap:.3f}",
                _limited(number(speed, *whole, "p50"), interval(speed, *whole, "interval")),
                *(_digits(number(speed, *whole, key)) for key in ("p90", "p99")),
                format_value(dig(speed, "n")),
                _limited(number(speed, "against", "ratio"), interval(speed, "against", "interval")),
                _digits(number(speed, "throughput", "images_per_second")),
                format_value(dig(speed, "throughput", "batch")),
                _digits(number(speed, "overhead", "p50")),
                _digits(number(speed, "gmacs")) + beside,
                _digits(number(speed, "parameters") / 1e6),
                _digits(number(speed, "peak_memory_mb")),
            ]
        )
    reference = dig(runs[0].speed, "against", "reference")
    row = next((called[run] for run in runs if run.path.name == reference), None)
    legend = "overhead: (end to end - JPEG decoding) / network alone, median over passes"
    if row is not None:
        legend = f"times: against {row}, over paired passes; {legend}"
    return [*align(rows, left=1), legend]


def _splits(runs: Sequence[Run], called: Mapping[Run, str]) -> list[str]:
    """Only stages and parts that some row has; a stage that is not there takes no time."""
    stages = [s for s in STAGES if s != "proposals" or any(dig(r.speed, "proposer") for r in runs)]
    parts = [p for p in PARTS if any(dig(run.speed, "inner", p) is not None for run in runs)]
    watched = any(dig(run.speed, "energy") for run in runs)
    heads = [*stages, *(f"of it {part}" for part in parts)]
    place = heads.index("network") + 1
    heads = [*stages[:place], *heads[len(stages) :], *stages[place:], *(["J/image"] * watched)]
    rows = [["p50 ms of", *heads]]
    for run in runs:
        of_stage = {stage: number(run.speed, "stages", stage, "p50") for stage in stages}
        of_part = {f"of it {part}": number(run.speed, "inner", part) for part in parts}
        joules = {"J/image": number(run.speed, "energy", "joules_per_image")}
        values = of_stage | of_part | joules
        rows.append([shorten(called[run], 30), *(_digits(values[head]) for head in heads)])
    return align(rows, left=1)


def _digits(value: float) -> str:
    return "n/a" if math.isnan(value) else format_digits(value)


def _limited(value: float, limits: tuple[float, float]) -> str:
    low, high = limits
    return _digits(value) + (
        "" if math.isnan(low) else f" [{format_digits(low)}, {format_digits(high)}]"
    )
