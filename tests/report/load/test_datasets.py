"""The data of a table: from data.json where it was kept, else from the truth of val and test."""

import json

import fabricated_runs
import pytest

from detzoo.report.load.datasets import class_rows, data_of
from detzoo.report.load.runs import load_all


@pytest.fixture
def run(tmp_path):
    data = fabricated_runs.dataset(tmp_path / "data", count=12)
    return fabricated_runs.run(tmp_path / "runs", "A", data)


def test_what_check_found_is_shown(run):
    numbers = {"images": 30, "boxes": 70, "crowd": 2, "groups": 5, "image_sizes": [[4, 3], [9, 8]]}
    kept = {
        "name": "mine",
        "splits": {"train": {**numbers, "per_class": {"cat": 60, "dog": 8}}, "test": "damaged"},
        "kinds": [
            {
                "severity": "warning",
                "kind": "empty class",
                "number": 3,
                "where": "mine train",
                "what": "dog has no boxes",
                "action": "cannot be learnt",
            },
            {"severity": "error", "kind": "allowed", "number": 1},
            None,
        ],
    }
    (run / "data.json").write_text(json.dumps(kept))
    data = data_of(load_all([run]))
    assert data.sentence() == "mine: 2 classes; train 30 images (70 boxes, 5 groups)."
    assert data.numbers == ["images", "boxes", "crowd", "groups"]
    assert data.sizes == {"train": "3 x 4 to 8 x 9"}
    assert data.warnings == [
        "3 empty class (such as mine train: dog has no boxes; cannot be learnt)"
    ]
    assert class_rows(data) == [("cat", ["60"]), ("dog", ["8"])]


@pytest.mark.parametrize("kept", [None, "[]", '{"splits": {}}', "{"])
def test_runs_of_before_have_the_splits_that_were_scored(run, kept):
    if kept:
        (run / "data.json").write_text(kept)
    data = data_of(load_all([run]))
    truth = json.loads((run / "dataset.json").read_text())
    boxes = len(truth["annotations"])
    assert dict(data.splits["test"]) | {"small": 0, "medium": 0} == {
        **{"images": 12, "without_boxes": 3, "boxes": boxes, "crowd": 1},
        **{"small": 0, "medium": 0, "large": 0},
    }
    assert data.splits["test"]["small"] + data.splits["test"]["medium"] == boxes
    assert data.without_test_boxes == ["unicorn"] and data.warnings is None
    assert data.sizes == {"test": "160 x 160 to 240 x 160"}


def test_without_any_record_there_is_no_section(run):
    (run / "dataset.json").unlink()
    assert data_of(load_all([run])) is None


def test_many_classes_are_pooled(run):
    per_class = {f"class {i}": i for i in range(100)}
    kept = {"splits": {"test": {"images": 1, "boxes": 1, "per_class": per_class}}}
    (run / "data.json").write_text(json.dumps(kept))
    rows = class_rows(data_of(load_all([run])))
    assert len(rows) == 40 and rows[0] == ("class 99", ["99"])
    assert rows[-1] == ("61 more classes", ["1,830"])
