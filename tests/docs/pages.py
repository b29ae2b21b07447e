"""The code blocks of the documentation, as a reader would run them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]


class Block(NamedTuple):
    """language: bash, python, yaml; "" of what is indented by four spaces and has no fence."""

    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    """In the page's order. An indented block ends where a line is not indented."""
    found: list[Block] = []
    language: str | None = None
    lines: list[str] = []

    def end() -> None:
        if any(lines):
            found.append(Block(language or "", "\n".join(lines) + "\n"))
        lines.clear()

    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            end()
            language = line[3:].strip() if language is None else None
        elif language is not None:
            lines.append(line)
        elif line.startswith("    "):
            lines.append(line[4:])
        elif line.strip():
            end()
    end()
    return found


def lines(text: str) -> list[str]:
    """The lines of a shell block, those that go on with a backslash joined, without comments."""
    joined = text.replace("\\\n", " ").splitlines()
    found = [shlex.join(shlex.split(line, comments=True)) for line in joined]
    return [line for line in found if line]


def commands(text: str) -> list[list[str]]:
    """The words of each line that begins with detzoo."""
    return [shlex.split(line) for line in lines(text) if line.startswith("detzoo ")]
