"""A run directory of November 2026 stays readable: loaded, scored anew and reported."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import detzoo
from detzoo.cli import main

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


def test_turned_photographs_are_the_same_to_all_that_see_them(run: Path, tmp_path: Path) -> None:
    """Evaluation, `detzoo predict` of the data set and of a file, and a detector in Python: on
    photographs stored on their side, with a run whose setting says they were labelled so."""
    photos = dataset.write(tmp_path / "squares")
    tags = Image.Exif()
    tags[0x0112] = 6
    for path in photos.glob("*.ppm"):
        Image.open(path).save(path.with_suffix(".png"), exif=tags)
    for path in photos.glob("*.json"):
        path.write_text(path.read_text().replace(".ppm", ".png"))
    config = (run / "config.yaml").read_text()
    config = config.replace("  allow: []\n", "  exif: stored\n")
    config = config.partition("train_hash")[0]  # it is another data set than it was trained on
    (run / "config.yaml").write_text(config)
    detzoo.evaluate(run, data_root=photos, resamples=2)
    scored: dict[int, list] = {}
    for row in json.loads((run / "predictions.json").read_text()):
        if row["score"] >= 0.3:
            x, y, width, height = row["bbox"]
            scored.setdefault(row["image_id"], []).append([x, y, x + width, y + height])
    images = json.loads((run / "dataset.json").read_text())["images"]
    files = [str(photos / image["file_name"]) for image in images]
    of_data = detzoo.predict(run, data_root=photos, out=tmp_path / "a", score=0.3)
    of_files = detzoo.predict(run, files, out=tmp_path / "b", score=0.3)
    model = detzoo.load(run)
    assert len(scored) == len(images) and any(scored.values())
    for image, one, other, file in zip(images, of_data.images, of_files.images, files, strict=True):
        boxes = [
            [found["box"] for found in one["objects"]],
            [found["box"] for found in other["objects"]],
            model.predict(file, score_threshold=0.3).boxes.tolist(),
        ]
        for found in boxes:
            assert np.allclose(found, scored[image["id"]], atol=0.5), image
        assert one["width"] == other["width"] == image["width"]
    assert model.predict(files[0], score_threshold=0.3).draw().size == Image.open(files[0]).size


def test_it_is_explained_by_the_images_that_it_was_scored_on(run: Path, tmp_path: Path) -> None:
    photos = dataset.write(tmp_path / "squares")
    config = (run / "config.yaml").read_text().replace("/nowhere/squares", str(photos))
    (run / "config.yaml").write_text(config)
    out = tmp_path / "explained"
    assert main(["explain", str(run), "methods=[saliency]", "objects=1", f"out={out}"]) == 0
    assert "square in test-" in (out / "index.html").read_text()
