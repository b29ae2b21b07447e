from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask

from detzoo.metrics import rows
from detzoo.metrics.coco import evaluate
from detzoo.metrics.errors import (
    FALSE_ALARMS,
    KINDS,
    SUMS,
    classify_errors,
    errors,
    match_without_errors,
)
from detzoo.metrics.matching import arrays

from .problems import box, find, problem, truth

# Two boxes of class a (1) in image 0, one of class b (2) in image 1, all 100 x 100.
BOXES = [
    box(1, 0, 1, [0, 0, 100, 100]),
    box(2, 0, 1, [200, 0, 100, 100]),
    box(3, 1, 2, [0, 0, 100, 100]),
]
FOUND = [find(0, 1, [0, 0, 100, 100], 0.9), find(1, 2, [0, 0, 100, 100], 0.9)]


def kinds_of(results, boxes=BOXES):
    found = classify_errors(arrays(truth(boxes), results))
    return [FALSE_ALARMS[kind] if kind >= 0 else "hit" for kind in found.kind]


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (find(0, 1, [200, 60, 100, 100], 0.5), "localisation"),  # IoU 40 / 160 = 0.25
        (find(0, 1, [200, 82, 100, 100], 0.5), "background"),  # 18 / 182 = 0.099
        (find(0, 1, [200, 80, 100, 100], 0.5), "localisation"),  # 20 / 180 = 0.11
        (find(0, 2, [200, 0, 100, 100], 0.5), "classification"),
        (find(0, 2, [200, 60, 100, 100], 0.5), "both"),
        (find(0, 1, [0, 10, 100, 100], 0.5), "duplicate"),
        (find(0, 1, [500, 500, 9, 9], 0.5), "background"),
        (find(1, 1, [0, 0, 100, 100], 0.5), "classification"),  # though the box is found already
    ],
)
def test_each_kind_by_hand(result, kind):
    problem = arrays(truth(BOXES), [*FOUND, result])
    of = classify_errors(problem)
    (place,) = np.flatnonzero(problem.score == 0.5)
    assert FALSE_ALARMS[of.kind[place]] == kind
    assert of.hit.sum() == 2 and (of.kind >= 0).sum() == 1
    counts = {name: found.count for name, found in errors(problem).items()}
    missed = 0 if place in np.flatnonzero(of.mends) else 1  # box 2, unless the error points at it
    assert counts == {
        **dict.fromkeys((*KINDS, *SUMS), 0),
        kind: 1,
        "missed": missed,
        "false positive": 1,
        "false negative": 1,
    }


def test_gains_by_hand():
    """Class b is found whole: AP50 1. Of class a one box of two is: 51/101, so AP50 = 76/101.

    Mending the error at box 2, or leaving box 2 out, or adding it, makes class a whole: +25/101.
    """
    whole = 25 / 101
    moved = errors(arrays(truth(BOXES), [*FOUND, find(0, 1, [200, 60, 100, 100], 0.5)]))
    assert moved["localisation"].dap == pytest.approx(whole)
    assert moved["missed"].dap == 0 and moved["false negative"].dap == pytest.approx(whole)
    assert moved["false positive"].dap == 0  # the last in rank costs nothing
    taken = errors(arrays(truth(BOXES), [*FOUND, find(0, 2, [200, 0, 100, 100], 0.5)]))
    assert taken["classification"].dap == pytest.approx(whole) and taken["missed"].dap == 0
    none = errors(arrays(truth(BOXES), FOUND))
    assert none["missed"].dap == none["false negative"].dap == pytest.approx(whole)
    assert all(none[kind].dap == 0 for kind in FALSE_ALARMS)
    # Ranked above the hit, a false alarm halves the precision of class a: 51/101 * 1/2.
    above = errors(arrays(truth(BOXES), [*FOUND, find(0, 1, [500, 0, 9, 9], 0.95)]))
    assert above["background"].dap == above["false positive"].dap == pytest.approx(51 / 404)
    assert above["duplicate"].dap == 0


def test_the_best_of_several_errors_is_mended_and_the_others_go():
    """Box 2 is missed by two: mended, the one of score 0.95 is a hit and the other is gone."""
    results = [
        *FOUND,
        find(0, 1, [200, 60, 100, 100], 0.5),
        find(0, 1, [200, 55, 100, 100], 0.95),
    ]
    problem = arrays(truth(BOXES), results)
    of = classify_errors(problem)
    assert problem.score[of.mends].tolist() == [0.95]
    assert errors(problem)["localisation"].dap == pytest.approx(1 - (51 / 202 + 1) / 2)


def test_crowds_are_no_errors_and_absent_classes_no_zeros():
    boxes = [box(1, 0, 1, [0, 0, 50, 50], crowd=1), box(2, 0, 1, [60, 60, 30, 30])]
    results = [find(0, 1, [5, 5, 9, 9], 0.9), find(0, 1, [60, 60, 30, 30], 0.5)]
    found = errors(arrays(truth(boxes), [*results, find(1, 2, [0, 0, 5, 5], 0.7)]))
    assert found["false positive"].count == found["background"].count == 1  # of class b
    assert all(kind.dap == 0 for kind in found.values())  # b has no boxes, so AP50 is a's
    assert found["missed"].count == 0
    nothing = errors(arrays(truth([]), results))
    assert nothing["background"].count == 2 and nothing["background"].dap is None


def test_without_detections_everything_is_missed():
    found = errors(arrays(truth(BOXES), []))
    assert found["missed"].count == found["false negative"].count == 3
    assert found["missed"].dap is None  # nothing is left to be found


def reference(gt, results, foreground=0.5, background=0.1):
    """The definitions in loops: {result number: (kind, box number)}, found and missed boxes."""
    objects = [i for i, a in enumerate(gt["annotations"]) if not a["iscrowd"]]
    crowds = [i for i, a in enumerate(gt["annotations"]) if a["iscrowd"]]

    boxes = gt["annotations"]
    ious = mask.iou(
        [r["bbox"] for r in results], [a["bbox"] for a in boxes], [a["iscrowd"] for a in boxes]
    )
    number = {id(r): d for d, r in enumerate(results)}

    def iou(r, i):
        same_image = boxes[i]["image_id"] == r["image_id"]
        return float(ious[number[id(r)], i]) if same_image else 0.0

    def largest(r, boxes):
        return max(((iou(r, i), -i) for i in boxes), default=(0.0, 0))

    order = sorted(range(len(results)), key=lambda d: -results[d]["score"])
    category = [a["category_id"] for a in gt["annotations"]]
    found, alarms = set(), []
    for d in order:
        r = results[d]
        own = [i for i in objects if category[i] == r["category_id"] and i not in found]
        best = max(((iou(r, i), i) for i in own), default=(0, 0))
        if best[0] >= foreground:
            found.add(best[1])
        elif not any(iou(r, i) >= 0.5 for i in crowds if category[i] == r["category_id"]):
            alarms.append(d)
    kinds, targets = {}, {}
    for d in alarms:
        r = results[d]
        same, i = largest(r, [i for i in objects if category[i] == r["category_id"]])
        other, j = largest(r, [i for i in objects if category[i] != r["category_id"]])
        if background <= same < foreground:
            kinds[d], aim = "localisation", -i
        elif other >= foreground:
            kinds[d], aim = "classification", -j
        elif same >= foreground:
            kinds[d], aim = "duplicate", None
        elif max(same, other) < background:
            kinds[d], aim = "background", None
        else:
            kinds[d], aim = "both", None
        if aim is not None and aim not in found:
            targets.setdefault(aim, d)  # in order of score, so the best comes first
        kinds[d] = (kinds[d], aim)
    aimed = {aim for _, aim in kinds.values()}
    missed = {i for i in objects if i not in found and i not in aimed}
    return kinds, targets, found, missed


def fixed(gt, results, kind, kinds, targets, found, missed):
    """Ground truth and results with one kind of error mended, spelled out."""
    out = []
    for d, r in enumerate(results):
        mine, aim = kinds.get(d, ("", None))
        if kind == "false positive" and mine:
            continue
        if mine == kind:
            if targets.get(aim) != d:
                continue
            a = gt["annotations"][aim]
            r = {**r, "bbox": a["bbox"], "category_id": a["category_id"]}
        out.append(r)
    gone = {"missed": missed}.get(kind, set())
    if kind == "false negative":
        gone = {i for i, a in enumerate(gt["annotations"]) if not a["iscrowd"]} - found
    boxes = [a for i, a in enumerate(gt["annotations"]) if i not in gone]
    return {**gt, "annotations": boxes}, out


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_gains_are_what_pycocotools_says_of_the_mended_results(seed):
    """Counted in loops, mended one by one and scored anew, with crowd and a class without boxes."""
    gt, results = problem(seed, ties=False, found=25)
    ours = errors(arrays(gt, results))
    loops = reference(gt, results)
    kinds, _, _, missed = loops
    names = [name for name, _ in kinds.values()]
    assert [ours[name].count for name in FALSE_ALARMS] == [names.count(n) for n in FALSE_ALARMS]
    assert ours["missed"].count == len(missed)
    assert ours["false positive"].count == len(names)
    before = evaluate(gt, results, backend="pycocotools")["AP50"]
    for kind in (*KINDS, *SUMS):
        after = evaluate(*fixed(gt, results, kind, *loops), backend="pycocotools")["AP50"]
        if before is None or after is None:
            assert ours[kind].dap is None
        else:
            assert ours[kind].dap == pytest.approx(after - before, abs=1e-12), kind


def test_mended_tables_can_be_resampled():
    gt, results = problem(3, images=12, found=30)
    tables = match_without_errors(arrays(gt, results), classify_errors(arrays(gt, results)))
    assert list(tables) == ["", *KINDS, *SUMS]
    assert all(table.images == 12 and len(table.hit) == 1 for table in tables.values())


def test_as_tidecv_has_it(monkeypatch):
    """Where the definitions agree: no crowd, every class with boxes, at most 100 detections.

    tidecv's recalls are j / 100 where pycocotools' are j * 0.01, and it shows no loss.
    """
    tidecv = pytest.importorskip("tidecv")
    monkeypatch.setattr(rows, "RECALLS", np.arange(101) / 100)
    compared = 0
    for seed in range(40):
        gt, results = problem(seed, images=8, crowd=0, ties=False, found=25)
        gt["categories"] = gt["categories"][:2]
        results = [r for r in results if r["category_id"] < 5]
        gt["annotations"] += [box(900 + k, 17, k, [250, 250, 20 + k, 20]) for k in (3, 4)]
        theirs = tide(tidecv, gt, results)
        ours = errors(arrays(gt, results))
        for name, short in zip(
            (*KINDS, *SUMS),
            ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss", "FalsePos", "FalseNeg"),
            strict=True,
        ):
            assert max(100 * ours[name].dap, 0) == pytest.approx(theirs[short], abs=1e-9), name
            compared += 1
    assert compared == 320


def tide(tidecv, gt, results):
    truths, found = tidecv.Data("truth"), tidecv.Data("found")
    for category in gt["categories"]:
        truths.add_class(category["id"], category["name"])
    for image in gt["images"]:
        truths.add_image(image["id"], image["file_name"])
    for a in gt["annotations"]:
        truths.add_ground_truth(a["image_id"], a["category_id"], a["bbox"])
    for r in results:
        found.add_detection(r["image_id"], r["category_id"], r["score"], r["bbox"])
    run = tidecv.TIDE()
    run.evaluate(truths, found, mode=tidecv.TIDE.BOX)
    main, special = run.get_main_errors(), run.get_special_errors()
    (main,), (special,) = main.values(), special.values()
    return {**main, **special}
