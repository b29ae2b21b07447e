"""A run directory of November 2026 stays readable: loaded, scored anew and reported."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

import detzoo

KEPT = Path(__file__).parent / "kept"
spec = importlib.util.spec_from_file_location("kept_dataset", KEPT / "dataset.py")
dataset = importlib.util.module_from_spec(spec)
spec.loader.exec_module(dataset)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(KEPT / "ssd-c60a70ce", tmp_path / "runs" / "ssd-c60a70ce"))


def test_it_loads_and_finds_the_squares(run: Path, tmp_path: Path) -> None:
    photos = dataset.write(tmp_path / "squares")
    model = detzoo.load(run)
    found = model.predict(photos / "test-1.ppm", score_threshold=0.1)
    assert found.names[0] == "square" and len(found)
    kept = json.loads((run / "predictions.json").read_text())
    best = max((row for row in kept if row["image_id"] == 1), key=lambda row: row["score"])
    assert found.to_coco(1)[0]["bbox"] == pytest.approx(best["bbox"], abs=0.5)


def test_it_is_scored_as_it_was_where_its_data_lie_now(run: Path, tmp_path: Path) -> None:
    before = json.loads((run / "metrics.json").read_text())
    result = detzoo.evaluate(run, data_root=dataset.write(tmp_path / "squares"), resamples=20)
    after = json.loads((run / "metrics.json").read_text())
    assert result.frame["AP"].tolist() == [after["AP"]]
    assert after["AP"] == pytest.approx(before["AP"], abs=0.05) and before["AP"] > 0.5
    assert before["fingerprint"].items() <= after["fingerprint"].items()


def test_it_is_reported_as_it_lies(run: Path, tmp_path: Path) -> None:
    report = detzoo.report(run, out=tmp_path / "page", images=False, resamples=20)
    (row,) = report.frame.to_dict("records")
    kept = json.loads((run / "metrics.json").read_text())
    assert row["detector"] == "ssd" and row["AP"] == kept["AP"]
    assert "left out" not in str(report) and report.page.is_file()
