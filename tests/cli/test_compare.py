from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from detzoo.cli import main

spec = importlib.util.spec_from_file_location(
    "fabricated_runs", Path(__file__).parent.parent / "report" / "fabricated_runs.py"
)
fabricated_runs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fabricated_runs)

QUICK = ["resamples=40", "flips=40"]


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    data = fabricated_runs.dataset(tmp_path / "data")
    a, b = (fabricated_runs.run(tmp_path / "it's = a, run", name, data) for name in "AB")
    return a, b


def test_compare_two_run_directories(runs: tuple[Path, Path], tmp_path: Path, capsys) -> None:
    """With any characters in their names, as first= and second=, and as a file of results."""
    a, b = map(str, runs)
    out = tmp_path / "found.json"
    assert main(["compare", a, b, *QUICK, f"out={out}"]) == 0
    told = capsys.readouterr().out
    assert told.startswith(("A ", "B ")) and "on 12 images" in told
    found = json.loads(out.read_text())
    assert found["verdict"] in told and found["first"] == "A" and len(found["errors"]) == 8
    results = tmp_path / "theirs.json"
    results.write_bytes((runs[1] / "predictions.json").read_bytes())
    assert main(["compare", a, str(results), *QUICK]) == 0
    again = capsys.readouterr().out
    assert "A and theirs" in again or "theirs is" in again or "A is" in again
    numbers = told[told.index("AP ") : told.index(", p")]
    assert numbers in again


def test_what_is_missing_is_said(capsys) -> None:
    assert main(["compare"]) == 1
    assert "no first detector: detzoo compare A B takes two" in capsys.readouterr().err
    assert main(["compare", "nowhere", "nothing", "too much"]) == 1
    assert "too much" in capsys.readouterr().err
    assert main(["compare", "nowhere", "nothing"]) == 1
    assert "no run directory in nowhere" in capsys.readouterr().err
