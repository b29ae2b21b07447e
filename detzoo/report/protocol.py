"""What a page says of how its numbers were made: protocol, clock, machines, commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from detzoo.report.compare import Group, show, title
from detzoo.report.runs import Run, clean, dig

MACHINE = {
    "cpu": "CPU",
    "instruction_sets": "instruction sets",
    "cores": "cores",
    "memory_gb": "memory (GB)",
    "gpu": "GPU",
    "driver": "driver",
    "cuda": "CUDA",
    "system": "system",
    "device": "device",
    "precision": "precision",
    "threads": "threads",
    "python": "Python",
    "torch": "torch",
    "torchvision": "torchvision",
    "timm": "timm",
    "detzoo": "detzoo",
    "commit": "commit",
}
TIMING = {"images": "timed images", "n": "timed passes", "rounds": "interleaved rounds"}


def of_table(group: Group, part: str) -> dict[str, str]:
    """What the table's fingerprint records, for people."""
    pairs = {field: value for field, value in group.fields.items() if field.startswith(part)}
    found = {title(field): show(value) for field, value in pairs.items() if value is not None}
    return found or {"fingerprint": "not recorded" if pairs else "not timed"}


def timing(runs: Sequence[Run]) -> dict[str, str]:
    """How the clock ran, where every timed run of the table says the same or each what it did."""
    told: dict[str, dict[str, None]] = {}
    for run in runs:
        for key, name in TIMING.items():
            if (value := run.speed.get(key)) is not None:
                told.setdefault(name, {})[show(value)] = None
    sessions = {show(run.speed.get("session")) for run in runs if run.speed}
    if len(sessions) > 1:
        told["timed in"] = {
            f"{len(sessions)} sessions: rounds of different ones do not interleave": None
        }
    return {name: " | ".join(values) for name, values in told.items()}


def rates(runs: Sequence[Run], called: Mapping[Run, str]) -> str:
    """The learning rate of all that were trained here, or each one's where they differ."""
    trained = [run for run in runs if not run.external]
    told = dict.fromkeys((called[run], show(dig(run.config, "recipe", "lr"))) for run in trained)
    different = dict.fromkeys(rate for _, rate in told)
    if len(different) == 1:
        return next(iter(different))
    return "; ".join(f"{name}: {rate}" for name, rate in told)


def machine(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Every fact about the machines and versions; several values where the runs differ."""
    told: dict[str, list[str]] = {}
    for key, name in MACHINE.items():
        values = dict.fromkeys(_fact(key, run.environment.get(key)) for run in runs)
        if any(value != "not recorded" for value in values):
            told[name] = list(values)
    return told


def _fact(key: str, value: object) -> str:
    return f"{value:.1f}" if key == "memory_gb" and isinstance(value, float) else show(value)


def commands(runs: Sequence[Run]) -> list[str]:
    """What made the runs, each once."""
    found = (run.environment.get("command") for run in runs)
    return list(dict.fromkeys(clean(command, 2000) for command in found if command))
