"""How the numbers of a page were made: protocol, clock, machines, commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from detzoo.report.load.protocols import Group, format_value, title
from detzoo.report.load.runs import Run
from detzoo.report.load.values import clean, dig

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
NOT_RECORDED = "not recorded"
TIMING = {"images": "timed images", "n": "timed passes", "rounds": "interleaved rounds"}


def describe_table(group: Group, part: str) -> dict[str, str]:
    """The table's fingerprint, for people."""
    pairs = {field: value for field, value in group.fields.items() if field.startswith(part)}
    found = {
        title(field): format_value(value) for field, value in pairs.items() if value is not None
    }
    return found or {"fingerprint": "not recorded" if pairs else "not timed"}


def describe_timing(runs: Sequence[Run]) -> dict[str, str]:
    """How the clock ran: once where all timed runs of the table agree, else for each run."""
    facts: dict[str, dict[str, None]] = {}
    for run in runs:
        for key, name in TIMING.items():
            if (value := run.speed.get(key)) is not None:
                facts.setdefault(name, {})[format_value(value)] = None
    sessions = {format_value(run.speed.get("session")) for run in runs if run.speed}
    if len(sessions) > 1:
        facts["timed in"] = {
            f"{len(sessions)} sessions: rounds of different ones do not interleave": None
        }
    return {name: " | ".join(values) for name, values in facts.items()}


def describe_rates(runs: Sequence[Run], called: Mapping[Run, str]) -> str:
    """The learning rate of all that were trained here, or each one's where they differ."""
    trained = [run for run in runs if not run.external]
    facts = dict.fromkeys(
        (called[run], format_value(dig(run.config, "recipe", "lr"))) for run in trained
    )
    different = dict.fromkeys(rate for _, rate in facts)
    if len(different) == 1:
        return next(iter(different))
    return "; ".join(f"{name}: {rate}" for name, rate in facts)


def describe_machine(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Every fact about the machines and versions; several values where the runs differ."""
    facts: dict[str, list[str]] = {}
    for key, name in MACHINE.items():
        values = dict.fromkeys(_fact(key, run.environment.get(key)) for run in runs)
        if any(value != "not recorded" for value in values):
            facts[name] = list(values)
    return facts


def _fact(key: str, value: object) -> str:
    return (
        f"{value:.1f}" if key == "memory_gb" and isinstance(value, float) else format_value(value)
    )


def commands(runs: Sequence[Run]) -> list[str]:
    """The commands that made the runs, each once."""
    found = dict.fromkeys(command_of(run) for run in runs if not run.external)
    return [command for command in found if command != NOT_RECORDED]


def command_of(run: Run) -> str:
    """The user's command. Runs of before it was kept have that of the process that bench began."""
    command = run.environment.get("command")
    if not isinstance(command, str) or "multiprocessing" in command or "spawn_main" in command:
        return NOT_RECORDED
    return clean(command, 2000)


def summarise_machine(group: Group) -> str:
    """The machine and how it was used, by the table's fingerprint and its runs."""
    fields = group.fields
    speed = {key: fields.get(f"speed.{key}") for key in ("cpu", "gpu", "device", "threads")}
    environments = [run.environment for run in group.runs if run.environment]
    facts = {key: value for key in ("cpu", "gpu") if (value := speed[key])}
    for key in ("cpu", "gpu", "device", "threads"):
        values = {format_value(e[key]) for e in environments if e.get(key) is not None}
        if not speed[key] and len(values) == 1:
            facts[key] = values.pop()
        elif speed[key]:
            facts[key] = format_value(speed[key])
    processor = facts.get("gpu") if str(facts.get("device", "")).startswith("cuda") else None
    parts = [processor or facts.get("cpu") or facts.get("device") or ""]
    if "threads" in facts:
        parts.append(f"{facts['threads']} thread{'s' * (facts['threads'] != '1')}")
    if precision := fields.get("accuracy.precision"):
        parts.append(format_value(precision))
    return ", ".join(part for part in parts if part)
