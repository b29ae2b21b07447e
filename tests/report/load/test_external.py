"""Results of other programs: scored like ours, on the same images, or refused with a reason."""

from __future__ import annotations

import json
import math

import fabricated_runs
import pytest

from detzoo.report.book import gather


@pytest.fixture
def ours(tmp_path):
    data = fabricated_runs.dataset(tmp_path / "data")
    return fabricated_runs.score(fabricated_runs.run(tmp_path / "runs", "Ours", data))


def test_the_same_results_get_the_same_accuracy_and_no_speed(ours):
    """With our results as another program's, all numbers are equal, and no test finds a
    difference."""
    (table,) = gather([ours], {"theirs <b>": ours / "predictions.json"}, resamples=60).tables
    mine, theirs = (row for _, row in table.frame.iterrows())
    assert (mine["detector"], theirs["detector"], theirs["seed"]) == (
        "Ours",
        "theirs <b>",
        "external",
    )
    for key in ("AP", "AP50", "AP75", "APs", "AR100", "AP_low", "AP_high", "AR100_low"):
        assert theirs[key] == pytest.approx(mine[key], abs=1e-9), key
    for key in ("p50_ms", "images_per_second", "gmacs", "train_seconds"):
        assert math.isnan(theirs[key]) and not math.isnan(mine[key])
    assert (mine["rank"], mine["rank_worst"], theirs["rank_worst"]) == (1, 2, 2)
    detail = table.analysis.details["theirs <b>"]
    assert "another program" in detail.point.reason
    text = gather([ours], {"theirs": ours / "predictions.json"}, resamples=5).text()
    assert "note: theirs (external results): " in text and "scored here, not timed" in text


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ([{"image_id": 99, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}], "image_id 99 is"),
        ([{"image_id": 1, "category_id": 80, "bbox": [0, 0, 1, 1], "score": 1}], "category_id 80"),
        ([{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1], "score": 1}], "four finite numbers"),
        ([{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]}], "score is None"),
        ({"annotations": []}, "it holds a mapping, not COCO results"),
        ([1, 2], "a list of mappings"),
        (None, "does not hold COCO results"),
    ],
)
def test_what_is_no_result_of_these_images_is_refused(ours, tmp_path, results, said):
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps(results))
    with pytest.raises(ValueError, match="theirs=") as error:
        gather([ours], {"theirs": path})
    assert said in str(error.value) and str(path) in str(error.value)


def test_an_empty_list_of_results_finds_nothing(ours, tmp_path):
    (tmp_path / "none.json").write_text("[]")
    (table,) = gather([ours], {"none": tmp_path / "none.json"}, resamples=20).tables
    assert table.frame.iloc[1]["AP"] == 0 and table.frame.iloc[1]["rank"] == 2


def test_a_name_is_taken_once(ours):
    with pytest.raises(ValueError, match="a run has that name"):
        gather([ours], {"Ours": ours / "predictions.json"})


def test_there_must_be_one_set_of_images_to_be_scored_on(ours, tmp_path):
    file = ours / "predictions.json"
    data = json.loads((ours / "dataset.json").read_text())
    other = fabricated_runs.run(
        tmp_path / "more", "B", data | {"hash": "b"}, fingerprint={"dataset_hash": "b"}
    )
    with pytest.raises(ValueError, match="scored on different images"):
        gather([ours, other], {"theirs": file})
    with pytest.raises(ValueError, match="no run was scored"):
        gather([fabricated_runs.failed(tmp_path)], {"theirs": file})
    moved = file.rename(tmp_path / "kept.json")
    (ours / "dataset.json").unlink()
    with pytest.raises(ValueError, match=r"no ground truth: .* has no dataset\.json"):
        gather([ours], {"theirs": moved})


def test_a_data_set_of_other_images_is_no_ground_truth(ours):
    data = json.loads((ours / "dataset.json").read_text())
    fabricated_runs.write(ours / "dataset.json", data | {"hash": "other"})
    with pytest.raises(ValueError, match="not of the images that were scored"):
        gather([ours], {"theirs": ours / "predictions.json"})
