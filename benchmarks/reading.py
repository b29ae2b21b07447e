"""What one reads to know a detector: the functions of the project that its page calls, and theirs.

From the page itself, which is read whole, every name that is called or built on is followed into
the file that defines it, as far as `detzoo` goes; of another file only those functions and classes
count, once each. Data, training and configuration are not followed.

    python benchmarks/reading.py retinanet cornernet
"""

from __future__ import annotations

import argparse
import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLLOWED = ("ops", "nn", "detectors", "types", "detector", "region_detector")

Definition = tuple[Path, str]  # where, and the name of a function or class at its top level


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("detectors", nargs="*", default=["retinanet", "cornernet"])
    parser.add_argument("--files", action="store_true", help="list the files and their lines")
    options = parser.parse_args()
    for name in options.detectors:
        lines = read(ROOT / "detzoo" / "detectors" / f"{name}.py")
        print(f"{name}: {sum(lines.values()):,} lines in {len(lines)} files")
        for path, count in sorted(lines.items(), key=lambda item: -item[1]) * options.files:
            print(f"  {count:>5} {path.relative_to(ROOT)}")


def read(page: Path) -> dict[Path, int]:
    """The page and every file that it leads to -> how many of its lines are read."""
    lines = {page: len(page.read_text(encoding="utf-8").splitlines())}
    waiting = [d for name in definitions(page) for d in uses(page, name)]
    seen: set[Definition] = set()
    while waiting:
        path, name = here = waiting.pop()
        if here in seen or path == page:
            continue
        seen.add(here)
        node = definitions(path)[name]
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        lines[path] = lines.get(path, 0) + node.end_lineno - first + 1
        waiting += uses(path, name)
    return lines


@cache
def definitions(path: Path) -> dict[str, ast.stmt]:
    """Functions, classes and constants at the top level of a file."""
    found: dict[str, ast.stmt] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign):
            found |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
    return found


@cache
def imports(path: Path) -> dict[str, tuple[str, str | None]]:
    """A name in a file -> the module of detzoo and the name in it, None for the module itself."""
    found: dict[str, tuple[str, str | None]] = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("detzoo"):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                module = (whole, None) if file_of(whole) else (node.module, alias.name)
                found[alias.asname or alias.name] = module
    return found


def file_of(module: str) -> Path | None:
    path = ROOT / module.replace(".", "/")
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def uses(path: Path, name: str) -> list[Definition]:
    """The definitions that the one of that name uses, in its own file and in others."""
    found: list[Definition] = []
    own, foreign = definitions(path), imports(path)
    for node in ast.walk(own[name]):
        if isinstance(node, ast.Name):
            if node.id in own:
                found.append((path, node.id))
            elif node.id in foreign and foreign[node.id][1]:
                found += resolved(*foreign[node.id])
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module, inner = foreign.get(node.value.id, ("", None))
            if module and inner is None:
                found += resolved(module, node.attr)
    return found


def resolved(module: str, name: str | None) -> list[Definition]:
    """Where a name of a module is defined, through re-exports; nothing where it is not followed."""
    path = file_of(module)
    if path is None or name is None or module.split(".")[1] not in FOLLOWED:
        return []
    if name in definitions(path):
        return [(path, name)]
    if name in imports(path):
        return resolved(*imports(path)[name])
    return []


if __name__ == "__main__":
    main()
