"""detzoo report: what is named by position, by NAME=FILE and by setting."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from detzoo import report
from detzoo.cli import main
from detzoo.workflow.report import name_of, result_files

from .test_compare import fabricated_runs

QUICK = ["images=false", "resamples=20"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with runs/mine, of two runs; figures are not drawn."""
    monkeypatch.chdir(tmp_path)
    data = fabricated_runs.dataset(tmp_path / "data")
    for name in "AB":
        fabricated_runs.score(fabricated_runs.run(tmp_path / "runs" / "mine", name, data), n=5)
    monkeypatch.setitem(report.build.__globals__, "draw", lambda *arguments: [])
    return tmp_path


def rows(name: str) -> list[str]:
    (table,) = json.loads(Path(f"reports/{name}/report.json").read_text())["tables"]
    return sorted(row["detector"] for row in table["rows"])


def test_a_report_is_called_after_what_is_named(home: Path, capsys) -> None:
    assert main(["report", "runs/mine", *QUICK]) == 0
    assert rows("mine") == ["A", "B"] and "reports/mine/index.html" in capsys.readouterr().out
    assert main(["report", "name=mine", "out=reports/again", *QUICK]) == 0
    assert rows("again") == ["A", "B"]
    first = next((home / "runs" / "mine").glob("a-*"))
    assert main(["report", str(first), *QUICK]) == 0
    assert rows(first.name) == ["A"]
    assert main(["report", "runs/mine/*", "name=other", *QUICK]) == 0
    assert rows("other") == ["A", "B"]
    assert (name_of("runs/mine/*"), name_of("runs/mine/"), name_of("a")) == ("mine", "mine", "a")


def test_results_of_another_program_join_by_name(home: Path, capsys) -> None:
    file = next((home / "runs" / "mine").glob("a-*/predictions.json"))
    name = "it's ${theirs} [x], {v8}"
    odd = file.parent.parent / "odd = 'name'.json"
    odd.write_bytes(file.read_bytes())
    assert main(["report", "runs/mine", f"{name}={odd}", *QUICK]) == 0
    assert rows("mine") == ["A", "B", name]
    assert "external" in capsys.readouterr().out
    assert main(["report", "name=mine", f"results={{theirs:'{file}'}}", *QUICK]) == 0
    assert rows("mine") == ["A", "B", "theirs"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["runs/mine", "runs/typo"], "no run directory in runs/typo; runs has mine"),
        (["theirs.json"], "theirs.json is a file; COCO results need a name: theirs=theirs.json"),
        (["runs/mine", "theirs=no.json"], "theirs=no.json: there is no such file"),
        (["runs/mine", "x=theirs.json", "x=theirs.json"], "x is given twice"),
        (["runs/mine", "A=theirs.json"], "a run has that name"),
        (["runs/mine", "x=theirs.json"], "x=theirs.json: result 0: image_id 99 is not among"),
        (["runs/mine", "results=[theirs.json]"], "it must be NAME=FILE"),
        (["runs/mine", "results={x:no.json}"], "x=no.json: there is no such file"),
    ],
)
def test_one_clear_error_for_what_cannot_be(home: Path, capsys, arguments, said) -> None:
    result = {"image_id": 99, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}
    (home / "theirs.json").write_text(json.dumps([result]))
    assert main(["report", *arguments, *QUICK]) == 1
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
    assert not (home / "reports").exists()


def test_a_setting_that_is_not_there_is_refused_by_name(home: Path, capsys) -> None:
    assert main(["report", "runs/mine", "tittle=x"]) == 1
    assert "tittle" in capsys.readouterr().err
    assert result_files(None) == {} and result_files([]) == {}
