"""What the newest rows go through, on images so small and few that a row takes seconds: a training
that is cut off and goes on to the same bits, scoring, timing, a comparison, a table of the report.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

import detzoo
from detzoo.detectors.transformers import KINDS
from detzoo.engine import checkpoint
from detzoo.report import gather
from detzoo.workflow.settings import directory, settings_of
from detzoo.workflow.stages import evaluate_run, train_run
from detzoo.workflow.timing import time_runs

pytestmark = pytest.mark.slow

SMALL = [
    *("data.size=64", "data.min_size=8", "data.train=8", "data.val=4", "data.test=6"),
    *("resize.size=64", "backbone=resnet10t", "backbone.name=test_resnet"),
    *("channels=32", "head_width=32", "recipe.images_seen=8", "recipe.batch_size=4"),
    *("recipe.val_points=1", "runtime.threads=1", "runtime.device=cpu", "runtime.precision=fp32"),
]
SHALLOW = ["detector.encoder_layers=1", "detector.decoder_layers=2", "detector.queries=20"]
ROWS = {
    "fcos": ["detector=fcos"],
    "detr": ["detector=detr", *SHALLOW],
    "a ViT": ["detector=centernet", "backbone=vit_tiny", "backbone.name=test_vit"],
    **{name: [f"detector={name}", *SHALLOW] for name in (f"transformers/{kind}" for kind in KINDS)},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rows")


@pytest.fixture(autouse=True)
def there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


@pytest.fixture(scope="module")
def centernet(home: Path) -> Path:
    """The run that every row is compared with."""
    before = Path.cwd()
    os.chdir(home)
    try:
        path = detzoo.train(detzoo.settings("train", *SMALL, "detector=centernet")).path.resolve()
        evaluate_run(path, resamples=5, images=False)
    finally:
        os.chdir(before)
    return path


@pytest.mark.parametrize("row", ROWS)
def test_a_row_goes_all_the_way(row: str, centernet: Path) -> None:
    if row.startswith("transformers/"):
        pytest.importorskip("transformers", reason="needs the extra: detzoo[transformers]")
    settings = settings_of(detzoo.settings("train", *SMALL, *ROWS[row]))
    path = directory(settings, "runs")
    train_run(settings, path, until=4)
    assert json.loads((path / "status.json").read_text())["state"] != "done"
    train_run(settings, path)
    train_run(settings, whole := Path("whole") / path.name)
    ends = [checkpoint.load(run)["ema"] for run in (path, whole)]
    assert all(torch.equal(ends[1][key], value) for key, value in ends[0].items())

    scores = evaluate_run(path, resamples=5, images=False)
    assert scores["AP"] is not None and scores["images"] == 6
    failed = time_runs([path], rounds=2, seconds=0.1, max_batch=1, lock=False)
    assert not failed and json.loads((path / "speed.json").read_text())["end_to_end"]["p50"] > 0
    compared = detzoo.compare(path, centernet, resamples=5, flips=0)
    assert "on 6 images" in compared.text()
    (table,) = gather([path, centernet], resamples=5).tables
    assert len(table.frame) == 2 and table.frame["AP"].notna().all()
