"""What verbs share: settings as arguments, and results."""

from __future__ import annotations

import importlib.util
import inspect
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import OmegaConf

import detzoo
from detzoo.config import folder
from detzoo.workflow.verb import Result, Settings, call, takes_settings

spec = importlib.util.spec_from_file_location(
    "fabricated_runs", Path(__file__).parent.parent / "report" / "fabricated_runs.py"
)
fabricated_runs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fabricated_runs)

EVIL = "<script>x</script>\x1b[2J"
ELSEWHERE = {"name", "root", "defaults", "hydra", "data", "weights", "train"}  # make arguments


@dataclass(frozen=True, repr=False)
class Rows(Result):
    frame: pd.DataFrame
    failed: dict[Path, str] = field(default_factory=dict)


@takes_settings
def verb(runs, *, split="test", data_root=None) -> Rows:
    """A verb."""
    rows = [{"run": run, "split": split, "root": data_root} for run in runs if run != "bad"]
    failed = {Path(run): f"ValueError: no {run}" for run in runs if run == "bad"}
    return Rows(pd.DataFrame(rows), failed)


def test_settings_are_arguments_and_what_is_given_wins() -> None:
    settings = Settings("verb", {"runs": ["a"], "split": "val", "x": 1, "data": {"root": "r"}})
    assert verb(settings).frame.to_dict("records") == [{"run": "a", "split": "val", "root": "r"}]
    assert call(verb, settings, split="test").frame["split"].tolist() == ["test"]
    with pytest.raises(ValueError, match="settings of speed, not of verb"):
        verb(Settings("speed", settings))


def test_a_result_prints_its_table_and_what_failed() -> None:
    result = verb(["a", "bad"])
    assert str(result) == repr(result) and result.exit_code == 1
    assert str(result).splitlines()[-1] == "failed: bad: ValueError: no bad"
    with pytest.raises(ValueError, match="failed: bad: ValueError: no bad"):
        verb(["bad"])
    assert verb(["a"]).exit_code == 0


def test_a_notebook_runs_no_code_of_a_name() -> None:
    shown = verb([EVIL])._repr_html_()
    assert "<script>" not in shown and "&lt;script&gt;" in shown and "\x1b" not in shown


@pytest.mark.parametrize("name", ["evaluate", "speed", "oracle", "pool", "report", "compare"])
def test_defaults_are_those_of_conf(name: str) -> None:
    """A default is in conf/ for the command line and in the signature for Python."""
    conf = OmegaConf.to_container(OmegaConf.load(folder("conf") / f"{name}.yaml"))
    if name == "speed":
        conf |= OmegaConf.to_container(OmegaConf.load(folder("conf") / "timing.yaml"))
        assert conf.pop("evaluate") == {"batch_size": 8, "images": True, "resamples": 1000}
    function = getattr(import_module(f"detzoo.workflow.{name}"), name)
    parameters = inspect.signature(function).parameters
    for key, value in conf.items():
        if key in ELSEWHERE:
            continue
        assert key in parameters, f"{name} takes no {key}"
        if "${" not in str(value) and parameters[key].default is not inspect.Parameter.empty:
            assert parameters[key].default == value, key


def test_runs_are_compared_and_reported_from_python(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(detzoo.report.build.__globals__, "draw", lambda *arguments: [])
    data = fabricated_runs.dataset(tmp_path / "data")
    a, b = (fabricated_runs.run(tmp_path / "runs" / "mine", name, data) for name in "AB")
    for run in (a, b):
        fabricated_runs.score(run, n=5)
    found = detzoo.compare(a, b, resamples=20, flips=20)
    assert found.frame.query("of == 'ap'")["name"].tolist()[0] == "AP"
    assert found.found.verdict in found._repr_html_().replace("&#x27;", "'")
    report = detzoo.report("runs/mine", images=False, resamples=20)
    assert report.page == Path("reports/mine/index.html") and report.page.is_file()
    assert set(report.frame["detector"]) == {"A", "B"} and str(report.page) in str(report)
    assert "<table" in report._repr_html_() and "p50 ms" in report._repr_html_()
