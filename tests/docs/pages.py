"""The code blocks of the documentation, as a reader would run them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """language: bash, python, yaml; "" of what is indented by four spaces and no fence."""

    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    """In the page's order."""
    text = page.read_text(encoding="utf-8")
    found = [(match.start(), Block(match[1], match[2])) for match in FENCE.finditer(text)]
    bare = FENCE.sub(lambda match: "\n" * match[0].count("\n"), text)
    lines = [line[4:] for line in bare.splitlines() if line.startswith("    ")]
    return [block for _, block in sorted(found)] + [Block("", "\n".join(lines))]


def commands(text: str) -> list[list[str]]:
    """The words of each line that begins with detzoo, joined where it goes on with a backslash."""
    lines = text.replace("\\\n", " ").splitlines()
    return [
        shlex.split(line, comments=True) for line in lines if line.strip().startswith("detzoo ")
    ]
