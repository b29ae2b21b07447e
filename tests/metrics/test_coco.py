from __future__ import annotations

import contextlib
import copy
import gc
import io
import json

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detzoo.metrics import coco
from detzoo.metrics.coco import NUMBERS, evaluate, self_check

from .problems import box, find, problem, truth

BOTH = pytest.mark.parametrize("backend", ["pycocotools", "faster_coco_eval"])


@pytest.mark.parametrize("collecting", [True, False])
def test_the_garbage_collector_is_left_as_it_was(collecting, monkeypatch):
    seen = []
    monkeypatch.setattr(
        coco, "choose_backend", lambda _: seen.append(gc.isenabled()) or "pycocotools"
    )
    was = gc.isenabled()
    try:
        (gc.enable if collecting else gc.disable)()
        evaluate(truth([box(1, 0, 1, [0, 0, 40, 40])]), [])
        assert (seen, gc.isenabled()) == ([False], collecting)
        with pytest.raises(ValueError, match="images"):
            evaluate({}, [])
        assert gc.isenabled() == collecting
    finally:
        (gc.enable if was else gc.disable)()


@BOTH
def test_literal_answers(backend):
    """Two boxes of class a, one found first, then a false one: precision 1 up to recall 1/2.

    51 of the 101 recalls (0, .01, ..., .50) are reached at precision 1, the rest at 0: 51/101.
    """
    gt = truth([box(1, 0, 1, [0, 0, 40, 40]), box(2, 1, 1, [0, 0, 40, 40])])
    results = [find(0, 1, [0, 0, 40, 40], 0.9), find(1, 1, [50, 50, 40, 40], 0.8)]
    metrics = evaluate(gt, results, backend=backend)
    assert metrics["AP"] == pytest.approx(51 / 101)
    assert metrics["AP50"] == pytest.approx(51 / 101)
    assert metrics["AR100"] == pytest.approx(0.5)
    assert metrics["per_class"]["a"] == {
        "AP": pytest.approx(51 / 101),
        "AP50": pytest.approx(51 / 101),
        "boxes": 2,
    }
    assert metrics["per_class"]["b"] == {"AP": None, "AP50": None, "boxes": 0}
    assert metrics["APs"] is None and metrics["APl"] is None  # 40 x 40 is medium
    assert metrics["APm"] == metrics["AP"]
    assert (metrics["images"], metrics["boxes"], metrics["reason"]) == (2, 2, None)
    json.dumps(metrics, allow_nan=False)


@BOTH
def test_iou_counts_at_its_thresholds(backend):
    """IoU 0.8 is a hit at .50 to .80: 7 of the 10 thresholds."""
    gt = truth([box(1, 0, 1, [0, 0, 100, 100])])
    metrics = evaluate(gt, [find(0, 1, [0, 0, 80.0001, 100], 0.5)], backend=backend)
    assert (metrics["AP50"], metrics["AP75"]) == (pytest.approx(1), pytest.approx(1))
    assert metrics["AP"] == pytest.approx(0.7)


@BOTH
def test_annotation_with_id_0_can_be_found(backend):
    gt = truth([box(0, 0, 1, [0, 0, 40, 40])])
    assert evaluate(gt, [find(0, 1, [0, 0, 40, 40], 0.9)], backend=backend)["AP"] > 0.999


@BOTH
def test_no_detections_is_zero_and_no_boxes_is_none(backend):
    gt = truth([box(1, 0, 1, [0, 0, 40, 40])])
    metrics = evaluate(gt, [], backend=backend)
    assert (metrics["AP"], metrics["AR100"], metrics["APs"]) == (0, 0, None)
    empty = evaluate(truth([]), [find(0, 1, [0, 0, 40, 40], 0.9)], backend=backend)
    assert all(empty[name] is None for name in NUMBERS)
    assert "no box" in empty["reason"]
    only_crowd = evaluate(truth([box(1, 0, 1, [0, 0, 9, 9], crowd=1)]), [], backend=backend)
    assert only_crowd["AP"] is None and only_crowd["boxes"] == 0 and only_crowd["reason"]


@BOTH
def test_what_lies_on_a_crowd_is_no_mistake(backend):
    gt = truth([box(1, 0, 1, [0, 0, 50, 50], crowd=1), box(2, 0, 1, [60, 60, 30, 30])])
    results = [find(0, 1, [5, 5, 9, 9], 0.9), find(0, 1, [60, 60, 30, 30], 0.5)]
    assert evaluate(gt, results, backend=backend)["AP"] == pytest.approx(1)


@pytest.mark.parametrize("seed", range(12))
def test_backends_and_the_oracle_agree(seed):
    gt, results = problem(seed, ties=seed % 2 == 0)
    ours = [evaluate(gt, results, backend=b) for b in ("pycocotools", "faster_coco_eval")]
    for name in NUMBERS:
        values = [metrics[name] for metrics in ours]
        assert values[0] == (None if values[1] is None else pytest.approx(values[1], abs=1e-6)), (
            name
        )
    assert ours[0]["per_class"].keys() == ours[1]["per_class"].keys()
    for name, of in ours[0]["per_class"].items():
        other = ours[1]["per_class"][name]
        assert of["AP"] == (None if other["AP"] is None else pytest.approx(other["AP"], abs=1e-6))

    # The oracle as its authors print it: stats, with -1 for what has no ground truth.
    gt = copy.deepcopy(gt)
    for annotation in gt["annotations"]:
        annotation["id"] += 1
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = gt
        coco.createIndex()
        run = COCOeval(coco, coco.loadRes(copy.deepcopy(results)), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    for name, expected in zip(NUMBERS, run.stats, strict=True):
        assert ours[0][name] == (None if expected == -1 else pytest.approx(expected, abs=1e-12))


@BOTH
def test_max_dets_limits_the_detections(backend):
    gt = truth([box(i, 0, 1, [12 * i, 0, 10, 10]) for i in range(1, 5)])
    results = [find(0, 1, [12 * i, 0, 10, 10], 1 - i / 10) for i in range(1, 5)]
    assert evaluate(gt, results, backend=backend, max_dets=100)["AR100"] == pytest.approx(1)
    assert evaluate(gt, results, backend=backend, max_dets=3)["AR100"] == pytest.approx(0.75)
    assert evaluate(gt, results, backend=backend, max_dets=3)["AR1"] == pytest.approx(0.25)


def test_input_is_unchanged_and_nothing_is_printed(capsys):
    gt, results = problem(1)
    before = copy.deepcopy((gt, results))
    evaluate(gt, results, backend="pycocotools")
    evaluate(gt, results, backend="faster_coco_eval")
    self_check(gt)
    assert (gt, results) == before
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 99}, "image_id 99 is not among"),
        ({"category_id": 99}, "category_id 99 is not among"),
        ({"bbox": [0, 0, float("nan"), 1]}, "four finite numbers"),
        (
            {"bbox": ["0", "0", "9", "9"]},
            "bbox is \\['0', '0', '9', '9'\\]; it must be four finite",
        ),
        ({"score": "0.9"}, "score '0.9' is text"),
        ({"score": float("nan")}, "score is nan"),
    ],
)
def test_bad_results_are_named(change, message):
    gt = truth([box(1, 0, 1, [0, 0, 40, 40])])
    good = find(0, 1, [0, 0, 40, 40], 0.9)
    with pytest.raises(ValueError, match=f"result 1: .*{message}"):
        evaluate(gt, [good, {**good, **change}])


def test_bad_ground_truth_is_named():
    with pytest.raises(ValueError, match="no list 'annotations'"):
        evaluate({"images": [], "categories": []}, [])
    with pytest.raises(ValueError, match="no images"):
        evaluate(truth([], images=0), [])
    gt = truth([box(5, 9, 1, [0, 0, 4, 4])])
    with pytest.raises(ValueError, match="annotation 5: image_id 9"):
        evaluate(gt, [])
    gt = truth([])
    gt["images"].append(gt["images"][0])
    with pytest.raises(ValueError, match="twice among the images: 0"):
        evaluate(gt, [])
    with pytest.raises(ValueError, match="backend is 'other'"):
        evaluate(truth([]), [], backend="other")


@BOTH
def test_self_check(backend):
    for seed in range(4):
        self_check(problem(seed)[0], backend=backend)
    self_check(truth([]), backend=backend)
    crowded = [box(i, 0, 1, [i / 2, 0, 10, 10]) for i in range(150)]
    self_check(truth(crowded), backend=backend)
    bad = truth([box(1, 0, 1, [0, 0, 40, 40]), box(7, 1, 1, [3, 3, 0, 5])])
    with pytest.raises(ValueError, match=r"scores AP 0\.\d+, not 1.0.*a 0\.\d+.*without area: 7"):
        self_check(bad, backend=backend)
