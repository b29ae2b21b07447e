"""No file over 300 lines, no function over 60: longer ones do several things, or say why not."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "detzoo"
FILE, FUNCTION = 300, 60

# What is longer, and why it is one unit
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """(name, lines) of every function and method in the file, signature and docstring included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.end_lineno - node.lineno + 1


def test_no_file_and_no_function_is_too_long() -> None:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > FILE and name not in LONG_FILES:
            found[name] = lines
        for function, lines in functions(path):
            place = f"{name} {function}"
            if lines > FUNCTION and place not in LONG_FUNCTIONS:
                found[place] = lines
    assert not found, "split them by sense, or say here why each is one thing"
