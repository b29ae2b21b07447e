"""Who may import whom: every import in detzoo, read from its source, against the design."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "detzoo"

# What everything may import, beside its own part: reading and writing of plain files, plain text
LOWEST = {
    *("box_forms", "files", "imagefile", "plain_yaml", "processes", "progress", "text"),
    "__version__",
}

# part -> what it may import beyond that
ARROWS = {
    "types": set(),
    "box_forms": set(),
    "files": set(),
    "imagefile": set(),
    "plain_yaml": set(),
    "moved": set(),
    "processes": set(),
    "progress": set(),
    "text": set(),
    "ops": {"types"},
    "nn": {"types", "ops"},
    "data": {"types"},
    "metrics": {"types"},
    "detector": {"types", "ops", "data.folders", "data.image", "data.proposals", "data.resize"},
    "region_detector": {"types", "ops", "nn", "detector", "data.proposals"},
    "detectors": {"types", "ops", "nn", "detector", "region_detector"},
    "weights": {
        *("types", "ops", "nn", "detector", "region_detector", "detectors", "data.resize"),
    },
    "engine": {"types", "detector", "data", "metrics", "ops.precision"},
    # engine.precision: speed and accuracy must come from the same object at the same precision
    "speed": {
        *("types", "detector", "data", "metrics"),
        *("engine.precision", "engine.folded", "engine.folding", "engine.cpu"),
    },
    "explain": {"types", "detector", "data", "metrics", "ops.boxes", "ops.precision"},
    "report": {"metrics", "catalogue"},
    "ideal": {"types", "detector", "detectors"},
    "pipeline": {"types", "ops", "detector"},
    "export": {"types", "detector", "data.resize", "pipeline"},
    "runtimes": {"types", "detector", "export"},
    "config": set(),
    "limits": {"config"},
    "catalogue": set(),
    "run_config": {"config"},
}
TOP = {"cli", "api"}  # may import everything; only they may have no importers
HOUSE = {"workflow"}  # imports everything below; imported by TOP alone

# report's rooms, in this order: each imports itself and those before it
ROOMS = ["load", "tables", "analysis", "figures", "book", "images", "page", "build"]
LAZY = {"__init__", "__main__"}
HYDRA = {"cli", "config"}


def part_of(path: Path) -> str:
    """detzoo/ops/boxes.py -> ops; detzoo/types.py -> types."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Every module that the file imports, anywhere in it, as (line, dotted name)."""
    package = ["detzoo", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            if module == "detzoo":  # from detzoo import ops
                yield from ((node.lineno, f"detzoo.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, module


def room_too_late(path: Path, names: list[str]) -> str:
    """Why a module of the report must not import another, or "": see ROOMS."""
    here = path.relative_to(PACKAGE / "report").with_suffix("").parts[0]
    if here in LAZY or len(names) < 3:
        return ""
    if names[2] in ROOMS and ROOMS.index(names[2]) <= ROOMS.index(here):
        return ""
    return f"{here} may import {', '.join(ROOMS[: ROOMS.index(here) + 1])}"


def wrong_arrows(path: Path) -> list[str]:
    part = part_of(path)
    wrong = []
    for line, module in imports(path):
        where = f"{path.relative_to(PACKAGE.parent)}:{line} imports {module}"
        names = module.split(".")
        if names[0] in ("hydra", "omegaconf") and part not in HYDRA:
            wrong.append(f"{where}; only cli and config may")
        if part == "report" and names[0] in ("torch", "torchvision", "timm"):
            wrong.append(f"{where}; the report needs none of it")
        if names[0] != "detzoo" or part in TOP | LAZY or len(names) == 1:
            continue
        target = names[1]
        if part in HOUSE:
            if target in TOP:
                wrong.append(f"{where}; {part} imports nothing above it")
            continue
        if part == target == "report" and (late := room_too_late(path, names)):
            wrong.append(f"{where}; {late}")
        allowed = ARROWS.get(part, set()) | {part} | LOWEST
        if part == "detectors" and target == "detectors" and path.name != "__init__.py":
            wrong.append(f"{where}; detectors never import one another")
        elif target not in allowed and ".".join(names[1:3]) not in allowed:
            wrong.append(f"{where}; {part} may import {', '.join(sorted(allowed))}")
    return wrong


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_import_against_the_arrows(path: Path) -> None:
    assert not wrong_arrows(path)


def test_every_part_has_its_arrows() -> None:
    parts = {part_of(path) for path in FILES}
    assert parts == set(ARROWS) | HOUSE | TOP | LAZY


def test_every_room_of_the_report_has_its_place() -> None:
    rooms = {p.stem for p in (PACKAGE / "report").iterdir() if not p.name.startswith("__")}
    assert rooms == set(ROOMS)


def test_a_wrong_arrow_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path / "detzoo")
    for name, source in {
        "ops/a.py": "from detzoo.nn import Backbone",
        "nn/a.py": "def f():\n    import detzoo.detectors",
        "detector.py": "from detzoo.data.dataset import Dataset",
        "detectors/a.py": "from .b import X",
        "engine/a.py": "from detzoo import detectors",
        "report/a.py": "import torch.nn",
        "data/a.py": "from omegaconf import OmegaConf",
        "metrics/a.py": "from ..cli import main",
        "workflow/a.py": "from detzoo.cli import main",
        "report/load/a.py": "from detzoo.report.page.render import render",
    }.items():
        path = tmp_path / "detzoo" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        assert len(wrong_arrows(path)) == 1, name


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import detzoo", ["torch", "hydra", "pandas"]),
        (
            "import detzoo.report.build, detzoo.report.tables.leaderboard",
            ["torch", "torchvision", "timm"],
        ),
        ("import detzoo.cli", ["torch", "hydra"]),
        ("import detzoo.api", ["hydra", "omegaconf"]),
        ("import detzoo.detectors, detzoo.engine, detzoo.data", ["hydra", "omegaconf"]),
    ],
)
def test_what_an_import_does_not_bring(statement: str, absent: list[str]) -> None:
    code = f"import sys; {statement}; print([m for m in {absent!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", sorted((PACKAGE / "detectors").glob("*.py")), ids=lambda p: p.stem)
def test_a_detector_is_a_page(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300
