"""Folds put together: every image once, numbers by hand, and missing folds are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from detzoo.cli import main
from detzoo.metrics import coco

PROTOCOL = {"split": "test", "max_dets": 100, "score_threshold": 0.001, "precision": "fp32"}
TRUTH = [10.0, 10.0, 20.0, 20.0]


def truth(ids: list[int]) -> dict:
    return {
        "name": "small",
        "split": "test",
        "hash": f"hash of {ids}",
        "root": "/nowhere",
        "classes": ["x"],
        "category_ids": [1],
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 60, "height": 40} for i in ids],
        "annotations": [
            {
                "id": number,
                "image_id": i,
                "category_id": 1,
                "bbox": TRUTH,
                "area": 400.0,
                "iscrowd": 0,
            }
            for number, i in enumerate(ids, 1)
        ],
        "categories": [{"id": 1, "name": "x"}],
    }


def results(ids: list[int], right: bool = True) -> list[dict]:
    box = TRUTH if right else [40.0, 30.0, 9.0, 9.0]
    return [{"image_id": i, "category_id": 1, "bbox": box, "score": 0.5 + i / 100} for i in ids]


def fold_run(root: Path, fold: int, ids: list[int], right: bool = True, **changes) -> Path:
    """A scored run whose test images are `ids` and whose val images are the next fold's."""
    path = root / "cv" / f"{changes.get('label', 'ssd')}-{9 - fold}{changes.get('seed', 0)}"
    path.mkdir(parents=True)
    config = {
        "label": "ssd",
        "name": "cv",
        "seed": 0,
        "detector": {"_target_": "detzoo.detectors.SSD"},
        "data": {"root": "/nowhere", "folds": 3, "fold": fold},
        "runtime": {"device": "cpu"},
        "train_hash": f"of fold {fold}",
        **{key: value for key, value in changes.items() if key in ("label", "seed", "data")},
    }
    if fold == 0 and "data" not in changes:
        del config["data"]["fold"]  # as it is where only data.folds was given
    own = {"dataset_hash": f"hash of {ids}", "weights_hash": f"weights {fold}"}
    found = results(ids, right)
    metrics = coco.evaluate(truth(ids), found) | {"split": changes.get("split", "test")}
    metrics["fingerprint"] = {**PROTOCOL, **own, **changes.get("protocol", {})}
    after = [i % 6 + 1 for i in (ids[-1], ids[-1] + 1)]
    for name, value in {
        "metrics.json": metrics,
        "dataset.json": truth(ids),
        "dataset-val.json": truth(after),
        "predictions.json": found,
        "predictions-val.json": results(after),
    }.items():
        (path / name).write_text(json.dumps(value))
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    return path


def pooled(root: Path) -> list[Path]:
    return sorted((root / "cv-pooled").iterdir())


def test_three_folds_become_one_run_over_all_images(tmp_path, capsys):
    for fold, right in ((2, True), (0, True), (1, False)):  # and by name the last is first
        fold_run(tmp_path, fold, [2 * fold + 1, 2 * fold + 2], right)
    assert main(["pool", "name=cv", f"root={tmp_path}", "resamples=20"]) == 0
    (path,) = pooled(tmp_path)
    told = capsys.readouterr().out
    assert f"{path}: AP of the folds 1.000, 0.000, 1.000" in told

    whole = json.loads((path / "dataset.json").read_text())
    assert [image["id"] for image in whole["images"]] == [1, 2, 3, 4, 5, 6]
    assert [a["id"] for a in whole["annotations"]] == [1, 2, 3, 4, 5, 6]
    found = json.loads((path / "metrics.json").read_text())
    # By falling score: images 6 and 5 right, 4 and 3 wrong, 2 and 1 right. Precision is 1 up to a
    # recall of 2/6, then at most 4/6 up to 4/6: (34 + 33 * 4/6) of 101 recalls.
    assert found["AP"] == pytest.approx((34 + 33 * 4 / 6) / 101, abs=1e-6)
    assert [fold["AP"] for fold in found["folds"]] == [1, 0, 1]
    assert found["intervals"]["AP"][0] <= found["AP"] <= found["intervals"]["AP"][1]
    assert found["fingerprint"]["dataset_hash"] == whole["hash"]
    assert found["fingerprint"]["precision"] == "fp32"
    val = json.loads((path / "dataset-val.json").read_text())
    assert sorted(image["id"] for image in val["images"]) == [1, 2, 3, 4, 5, 6]
    assert val["weights_hash"] == found["fingerprint"]["weights_hash"]
    config = yaml.safe_load((path / "config.yaml").read_text())
    assert config["data"] == {"root": "/nowhere", "folds": 3} and config["name"] == "cv-pooled"
    assert json.loads((path / "status.json").read_text())["state"] == "done"


def test_detectors_and_seeds_are_pooled_apart_and_report_as_runs(tmp_path, capsys):
    for fold in range(3):
        for changes in ({}, {"seed": 1}, {"label": "yolo"}):
            fold_run(tmp_path, fold, [2 * fold + 1, 2 * fold + 2], **changes)
    assert main(["pool", "name=cv", f"root={tmp_path}", "resamples=20"]) == 0
    paths = pooled(tmp_path)
    assert len(paths) == 3
    made = {
        json.loads((p / "metrics.json").read_text())["fingerprint"]["dataset_hash"] for p in paths
    }
    assert len(made) == 1, "one test set, so one table"
    out = tmp_path / "page"
    assert main(["report", str(tmp_path / "cv-pooled"), f"out={out}", "images=false"]) == 0
    assert (out / "index.html").is_file()


@pytest.mark.parametrize(
    ("last", "says"),
    [
        (None, "of 3 folds there are 0, 1 in"),
        ({"split": "val"}, "was not scored on its test split"),
        ({"protocol": {"precision": "bf16"}}, "scored otherwise than ssd-90 (precision)"),
    ],
)
def test_what_is_missing_or_otherwise_is_said_and_stops_no_other(tmp_path, capsys, last, says):
    for fold in range(3):
        fold_run(tmp_path, fold, [2 * fold + 1, 2 * fold + 2], label="yolo")
        if fold < 2 or last is not None:
            fold_run(
                tmp_path, fold, [2 * fold + 1, 2 * fold + 2], **(last or {} if fold == 2 else {})
            )
    assert main(["pool", "name=cv", f"root={tmp_path}", "resamples=20"]) == 1
    assert says in capsys.readouterr().err
    (made,) = pooled(tmp_path)
    assert made.name.startswith("yolo-")


def test_an_image_in_two_folds_is_refused(tmp_path, capsys):
    for fold, ids in enumerate(([1, 2], [3, 4], [4, 5])):
        fold_run(tmp_path, fold, ids)
    assert main(["pool", "name=cv", f"root={tmp_path}", "resamples=20"]) == 1
    assert "two folds were scored on one image" in capsys.readouterr().err


def test_runs_that_are_no_folds_are_told_how(tmp_path, capsys):
    fold_run(tmp_path, 1, [1], data={"root": "/nowhere"})
    assert main(["pool", "name=cv", f"root={tmp_path}"]) == 1
    assert "+data.folds=5" in capsys.readouterr().err
