"""thresholds.json belongs to one scoring, and names it; a missing one is reported."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from detzoo.files import read_json, write_json
from detzoo.metrics.matching import arrays
from detzoo.metrics.thresholds import BEST_F1, choose
from detzoo.report.book import gather
from detzoo.workflow import thresholds

spec = importlib.util.spec_from_file_location(
    "fabricated_runs", Path(__file__).parent.parent / "report" / "fabricated_runs.py"
)
fabricated_runs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fabricated_runs)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    data = fabricated_runs.dataset(tmp_path / "data")
    return fabricated_runs.score(fabricated_runs.run(tmp_path / "runs", "A", data))


def test_it_is_what_the_runs_predictions_come_to(run):
    thresholds.write_thresholds(run, 60)
    kept = json.loads((run / "thresholds.json").read_text())
    of = [
        arrays(*(read_json(run / f"{name}{split}.json") for name in ("dataset", "predictions")))
        for split in ("-val", "")
    ]
    fingerprint = kept.pop("fingerprint")
    assert kept == choose(*of, n=60)
    assert fingerprint == read_json(run / "metrics.json")["fingerprint"]
    assert thresholds.score_of(run) == (
        kept["overall"][BEST_F1]["threshold"],
        "with the best F1 on val",
    )


def test_of_another_scoring_it_is_not_current(run):
    assert not thresholds.is_current(run)
    thresholds.write_thresholds(run, 2)
    assert thresholds.is_current(run)
    metrics = read_json(run / "metrics.json")
    metrics["fingerprint"]["weights_hash"] = "other"
    write_json(run / "metrics.json", metrics)
    assert not thresholds.is_current(run)


def test_without_one_the_score_is_the_old_one_and_it_is_said(run):
    score, why = thresholds.score_of(run)
    assert score == 0.3 and "no threshold was chosen" in why and f"detzoo evaluate {run}" in why


def test_the_report_reads_it_and_where_it_is_stale_computes_the_same(run):
    def point():
        (table,) = gather([run], resamples=60).tables
        return table.analysis.details["A"].point

    computed = point()
    thresholds.write_thresholds(run, 61)  # the report draws the whole set and 60 more
    assert point() == computed
    kept = read_json(run / "thresholds.json")
    kept["overall"][BEST_F1]["threshold"] = 0.123
    write_json(run / "thresholds.json", kept)
    assert point().threshold == 0.123
    write_json(run / "thresholds.json", kept | {"fingerprint": {"weights_hash": "other"}})
    assert point() == computed
