"""Two detectors side by side: numbers that agree with COCO's, sentences no surer than the test."""

import json
import shutil

import fabricated_runs
import numpy as np
import pytest

from detzoo.metrics.coco import evaluate
from detzoo.report.analysis.pairwise import PairwiseResult, Row, compare_detectors, format_text

FEW = {"n": 60, "flips": 60}


@pytest.fixture
def data(tmp_path):
    return fabricated_runs.dataset(tmp_path / "data", count=20)


@pytest.fixture
def make(tmp_path, data):
    return lambda label, **other: fabricated_runs.run(tmp_path / "runs", label, data, **other)


def perfect(data):
    return [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 1}
        for a in data["annotations"]
    ]


def test_numbers_are_cocos(make, data):
    a, b = make("A"), make("B")
    found = compare_detectors([a], [b], **FEW)
    of = [evaluate(data, json.loads((run / "predictions.json").read_text())) for run in (a, b)]
    assert (found.first, found.second, found.seeds, found.images) == ("A", "B", (1, 1), 20)
    rows = {row.name: row for row in (*found.ap, *found.classes)}
    expected = {name: [m[name] for m in of] for name in ("AP", "AP50", "AP75")}
    expected |= {name: [m["per_class"][name]["AP"] for m in of] for name in data["classes"]}
    expected |= {"small": [m["APs"] for m in of], "medium": [m["APm"] for m in of]}
    for row in (*found.ap, *found.classes, *found.sizes[:2]):
        first, second = expected[row.name]
        if first is None:
            assert row == Row(row.name, None, None, None, None, None)
            continue
        assert (row.first, row.second) == (pytest.approx(first), pytest.approx(second))
        assert row.difference == pytest.approx(first - second)
        assert row.low <= row.difference <= row.high
    assert rows["unicorn"].first is None and found.sizes[2].first is None


def test_the_better_one_is_named_whichever_side_it_is_on(make, data, tmp_path):
    run = make("Runner")
    (tmp_path / "oracle.json").write_text(json.dumps(perfect(data)))
    won = compare_detectors([tmp_path / "oracle.json"], [run], **FEW)
    lost = compare_detectors([run], [tmp_path / "oracle.json"], **FEW)
    assert won.verdict.startswith("oracle is better than Runner on 20 images: AP +0.")
    assert lost.verdict.startswith("oracle is better than Runner on 20 images: AP -0.")
    assert won.ap[0].first == pytest.approx(1) and won.p < 0.05 and won.p_flip < 0.05
    assert all(row.first == 0 for row in won.errors[:5])
    assert sum(s.difference > 0 for s in won.swings) > sum(s.difference < 0 for s in won.swings)
    swings = [abs(s.difference) for s in won.swings]
    assert swings == sorted(swings, reverse=True) and len(swings) <= 10


def test_swings_are_contributions_of_images(make, data):
    """B has A's results without one image's: all of the difference comes from it."""
    a, b = make("A"), make("B")
    results = perfect(data)
    image = data["annotations"][0]["image_id"]
    (a / "predictions.json").write_text(json.dumps(results))
    (b / "predictions.json").write_text(json.dumps([r for r in results if r["image_id"] != image]))
    found = compare_detectors([a], [b], **FEW)
    assert len(found.swings) == 1 and found.swings[0].image_id == image
    assert found.swings[0].difference == pytest.approx(found.ap[0].difference)
    other = compare_detectors([b], [a], **FEW).swings
    assert other[0].difference == -found.swings[0].difference
    assert found.swings[0].file_name == data["images"][image - 1]["file_name"]


def test_equals_cannot_be_told_apart(make):
    a, b = make("A"), make("B")
    shutil.copy(a / "predictions.json", b / "predictions.json")
    found = compare_detectors([a], [b], **FEW)
    assert found.verdict.startswith("A and B cannot be told apart on 20 images: AP +0.000")
    assert found.p == pytest.approx(1) and found.p_flip == 1 and found.swings == ()
    itself = compare_detectors([a], [a], **FEW, swings=0)
    assert (itself.first, itself.second) == ("A (A)", "A (B)")


@pytest.mark.parametrize("images", [1, 5, 6])
def test_few_images_tell_nothing_apart(tmp_path, images):
    """Perfect results against none: however sure the bootstrap is, 5 images are 5 coins."""
    data = fabricated_runs.dataset(tmp_path / "data", count=20)
    with_boxes = list(dict.fromkeys(a["image_id"] for a in data["annotations"] if not a["iscrowd"]))
    kept = with_boxes[:images]
    data["images"] = [i for i in data["images"] if i["id"] in kept]
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] in kept]
    run = fabricated_runs.run(tmp_path / "runs", "Runner", data)
    (run / "predictions.json").write_text("[]")
    (tmp_path / "oracle.json").write_text(json.dumps(perfect(data)))
    found = compare_detectors([tmp_path / "oracle.json"], [run], **FEW)
    on = "on 1 image:" if images == 1 else f"on {images} images:"
    assert on in found.verdict and (" is better than " in found.verdict) == (images == 6)
    assert ("Fewer than 6 images with boxes tell nothing apart" in found.verdict) == (images < 6)
    assert found.p >= 2.0 ** (1 - images) and found.p_flip >= 2.0 ** (1 - images)
    for row in (*found.ap, *found.sizes, *found.classes, *found.errors):
        assert row.low is None or row.low < row.high
    assert all(row.low <= 0 for row in found.classes if row.low is not None) or images == 6


def test_few_images_on_which_two_differ_tell_nothing_apart(make, data, tmp_path):
    run = make("Runner")
    found = perfect(data)
    fabricated_runs.write(run / "predictions.json", found)
    others = sorted({a["image_id"] for a in data["annotations"]})[:4]
    less = [r for r in found if r["image_id"] not in others]
    (tmp_path / "less.json").write_text(json.dumps(less))
    lost = compare_detectors([run], [tmp_path / "less.json"], n=1000, flips=1000)
    assert lost.differing == 4 and lost.p >= 0.125 and lost.ap[0].low < 0
    assert lost.verdict.startswith("Runner and less cannot be told apart on 20 images")
    assert lost.verdict.endswith("They differ on 4 images, and fewer than 6 tell nothing apart.")


@pytest.mark.parametrize("groups", [5, 6])
def test_few_groups_tell_nothing_apart(tmp_path, groups):
    """Perfect results against none on 20 images of 20 videos."""
    data = fabricated_runs.dataset(tmp_path / "data", count=20)
    with_boxes = list(dict.fromkeys(a["image_id"] for a in data["annotations"] if not a["iscrowd"]))
    for image in data["images"]:
        place = with_boxes.index(image["id"]) if image["id"] in with_boxes else 0
        image["group"] = f"video {place % groups}"
    run = fabricated_runs.run(tmp_path / "runs", "Runner", data)
    (run / "predictions.json").write_text("[]")
    (tmp_path / "oracle.json").write_text(json.dumps(perfect(data)))
    found = compare_detectors([tmp_path / "oracle.json"], [run], **FEW)
    assert f"on 20 images in {groups} groups:" in found.verdict
    assert f"over {groups} groups of images, 60 resamples" in found.method
    assert (" is better than " in found.verdict) == (groups == 6)
    assert ("Fewer than 6 groups of images with boxes" in found.verdict) == (groups < 6)
    assert found.p >= 2.0 ** (1 - groups) and found.p_flip >= 2.0 ** (1 - groups)


def test_a_class_on_one_image_of_many_is_sure_of_nothing(make, data, tmp_path):
    """The oracle wins over all images; by a class that one of them has, it proves nothing."""
    rare = next(a for a in data["annotations"] if not a["iscrowd"])
    rare["category_id"] = 6  # the unicorn
    (tmp_path / "oracle.json").write_text(json.dumps(perfect(data)))
    run = make("Runner")
    (run / "predictions.json").write_text("[]")
    found = compare_detectors([tmp_path / "oracle.json"], [run], **FEW)
    rows = {row.name: row for row in found.classes}
    assert "is better" in found.verdict and found.ap[0].low > 0
    assert (rows["unicorn"].difference, rows["unicorn"].low, rows["unicorn"].high) == (1, -1, 1)


def test_seeds_of_one_detector_stand_on_one_side(make):
    runs = [make("A", seed=s) for s in (0, 1)]
    found = compare_detectors(runs, [make("B")], **FEW)
    assert found.seeds == (2, 1) and found.p_flip is None
    assert "images and seeds" in found.method
    alone = [
        compare_detectors([run], [make("C", seed=i)], n=5, flips=0) for i, run in enumerate(runs)
    ]
    assert found.ap[0].first == pytest.approx(np.mean([v.ap[0].first for v in alone]))
    with pytest.raises(ValueError, match=r"are several detectors \(A, D\)"):
        compare_detectors([runs[0], make("D")], [runs[1]], **FEW)


def test_other_images_are_refused_with_the_fields_that_differ(make):
    a = make("A")
    b = make("B", fingerprint={"split": "val", "dataset_hash": "00" * 32, "batch": 8})
    with pytest.raises(ValueError, match="not scored on the same images") as error:
        compare_detectors([a], [b], **FEW)
    assert "data set and image list (hash): 4b1f4b1f4b1f | 000000000000" in str(error.value)
    assert "split: test | val; batch: 16 | 8" in str(error.value)
    c = make("C")
    less = json.loads((c / "dataset.json").read_text())
    less["images"] = less["images"][:-1]
    (c / "dataset.json").write_text(json.dumps(less))
    with pytest.raises(ValueError, match=r"differ in image ids in dataset\.json"):
        compare_detectors([a], [c], **FEW)


def test_another_protocol_on_the_same_images_is_noted(make):
    found = compare_detectors([make("A")], [make("B", fingerprint={"batch": 8})], **FEW)
    assert found.notes == ("batch: 16 | 8",)
    assert "Note: they differ in batch: 16 | 8" in format_text(found)


def test_what_cannot_be_read_is_named(make, tmp_path):
    run, file = make("A"), tmp_path / "x.json"
    with pytest.raises(ValueError, match=r"x\.json cannot be read .*no such|No such"):
        compare_detectors([run], [file])
    for content, reason in (
        ("{}", "holds a mapping, not COCO results"),
        ("[", "cannot be read"),
        ('[{"image_id": 99}]', "x: result 0: image_id 99 is not among the images"),
        ("[3]", "x: "),
    ):
        file.write_text(content)
        with pytest.raises(ValueError, match=reason):
            compare_detectors([run], [file], **FEW)
    file.write_text("[]")
    with pytest.raises(ValueError, match="no ground truth"):
        compare_detectors([file], [file])
    (run / "predictions.json").unlink()
    with pytest.raises(ValueError, match=r"predictions\.json cannot be read.*detzoo evaluate"):
        compare_detectors([run], [file])


def test_text_says_it_all(make):
    found = compare_detectors([make("A")], [make("B \x1b[31m evil")], **FEW)
    told = format_text(found)
    assert found.verdict.split(":")[0].split(" on ")[1] in told
    for word in ("AP75", "small", "unicorn", "classification", "false negative", "Sign-flip"):
        assert word in told
    assert "n/a" in told and "\x1b" not in told
    assert max(map(len, told.splitlines())) < 200


def test_no_ground_truth_is_no_verdict():
    nothing = Row("AP", None, None, None, None, None)
    parts = dict.fromkeys(("sizes", "classes", "errors", "swings", "notes"), ())
    of = PairwiseResult("a", "b", (1, 1), 3, "m", None, None, (nothing,), **parts)
    assert of.verdict.startswith("No AP can be compared on 3 images")


@pytest.mark.parametrize("name", ["predictions.json", "dataset.json"])
def test_a_file_of_a_run_that_is_a_link_leads_nowhere(make, tmp_path, name):
    run, other = make("A"), make("B")
    (run / name).rename(tmp_path / "elsewhere.json")
    (run / name).symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(ValueError, match=f"{name}.*leads out of its folder"):
        compare_detectors([run], [other], **FEW)
