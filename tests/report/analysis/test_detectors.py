"""Results beyond AP: only from the predictions that the AP is of, and chosen on val alone."""

from __future__ import annotations

import json

import fabricated_runs
import numpy as np
import pytest

from detzoo.metrics import bootstrap, curves
from detzoo.metrics.errors import errors
from detzoo.metrics.matching import arrays
from detzoo.metrics.paired import compare_all
from detzoo.report.analysis.detectors import SCORE, Analysis
from detzoo.report.analysis.rows import NUMBERS, p_text, pair_rows
from detzoo.report.book import gather

N = 80


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return fabricated_runs.dataset(tmp_path_factory.mktemp("data"), count=20)


@pytest.fixture
def make(data, tmp_path):
    return lambda label, **other: fabricated_runs.score(
        fabricated_runs.run(tmp_path / "runs", label, data, **other)
    )


@pytest.mark.parametrize("images", [1, 3])
def test_few_images_give_no_ranks_and_old_intervals_are_replaced(tmp_path, images):
    """metrics.json of a version that knew nothing of few images holds a point for an interval."""
    data = fabricated_runs.dataset(tmp_path / "data")
    kept = list(dict.fromkeys(a["image_id"] for a in data["annotations"]))[1 : images + 1]
    data["images"] = [i for i in data["images"] if i["id"] in kept]
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] in kept]
    runs = [fabricated_runs.score(fabricated_runs.run(tmp_path / "runs", c, data)) for c in "AB"]
    rewrite(runs[1], "predictions.json", lambda found: found.clear())
    fabricated_runs.score(runs[1])
    point = {"AP": [0.25, 0.25], "AP50": [0.25, 0.2500001]}
    rewrite(runs[0], "metrics.json", lambda metrics: metrics.update(intervals=point))
    table = only(*runs)
    for _, row in table.frame.iterrows():
        assert (row["rank"], row["rank_worst"]) == (1, 2)
        for key in ("AP", "AP50"):
            assert row[f"{key}_high"] - row[f"{key}_low"] > 0.3
    assert all(pair.p >= 2.0 ** (1 - images) for pair in table.analysis.pairs)


def only(*paths):
    (table,) = gather(paths, resamples=N).tables
    return table


def of(path, name):
    return json.loads((path / name).read_text())


def rewrite(path, name, change):
    value = of(path, name)
    change(value)
    fabricated_runs.write(path / name, value)


def test_ranks_and_pairs_are_those_of_the_paired_tests(make, data):
    a, b = make("A"), make("B")
    rewrite(b, "predictions.json", lambda found: found.__delitem__(slice(0, len(found) // 2)))
    fabricated_runs.score(b)
    table = only(a, b)
    matches = {
        name: [bootstrap.match(data, of(path, "predictions.json"))]
        for name, path in (("A", a), ("B", b))
    }
    (expected,) = compare_all(matches, n=N)
    (found,) = table.analysis.pairs
    assert found == expected and found.p_holm < 0.05 and found.difference > 0.1
    assert list(table.frame["rank"]) == [1, 2] and list(table.frame["rank_worst"]) == [1, 2]
    (row,) = pair_rows([found])
    assert (row["better"], row["worse"], row["apart"]) == ("A", "B", "yes")


def test_insignificant_differences_share_ranks(make):
    a, b = make("A"), make("B")
    fabricated_runs.write(b / "predictions.json", of(a, "predictions.json"))
    fabricated_runs.score(b)
    frame = only(a, b).frame
    assert list(zip(frame["rank"], frame["rank_worst"], strict=True)) == [(1, 2), (1, 2)]
    assert only(a).frame["rank"].isna().all()  # there is no other to compare it with


def test_predictions_of_another_scoring_are_left_out_and_it_is_said(make):
    a, b = make("A"), make("B")
    rewrite(b, "metrics.json", lambda metrics: metrics.update(AP=metrics["AP"] + 0.01))
    table = only(a, b)
    assert list(table.analysis.details) == ["A"] and table.analysis.pairs == []
    (note,) = table.analysis.notes
    assert note.startswith("B (seed 0): predictions.json comes to AP 0.") and "evaluate" in note
    (b / "predictions.json").unlink()
    assert only(a, b).analysis.notes == ["B (seed 0): it has no predictions.json"]
    (a / "dataset.json").unlink()
    (b / "dataset.json").unlink()
    assert only(a, b).analysis == f"{a.name} has no dataset.json with images"


def test_a_mean_is_sure_over_images_and_seeds_together(make):
    paths = [make("A", seed=seed) for seed in (0, 1, 2)]
    table = only(*paths, make("B"))
    frame = table.frame
    mean = frame[frame["kind"] == "mean"].iloc[0]
    sampled = table.analysis.details["A"].samples
    assert [mean["AP_low"], mean["AP_high"]] == sampled["AP"].interval()
    assert [mean["AR100_low"], mean["AR100_high"]] == sampled["AR100"].interval()
    assert mean["AP"] == pytest.approx(float(sampled["AP"].estimate), abs=1e-4)
    assert "images and seeds" in table.analysis.method
    seeds = frame[(frame["detector"] == "A") & (frame["kind"] == "run")]
    assert seeds["rank"].isna().all() and (seeds["AP_low"] != mean["AP_low"]).any()


def test_intervals_that_a_run_lacks_are_made_up_for(make):
    path = make("A")
    before = of(path, "metrics.json")["intervals"]
    rewrite(path, "metrics.json", lambda m: m.update(intervals={"AP": [0.1, 0.9]}))
    row = only(path).frame.iloc[0]
    assert (row["AP_low"], row["AP_high"]) == (0.1, 0.9)  # the recorded value is kept
    assert row["AR100_low"] == pytest.approx(before["AR100"][0], abs=0.05)


def test_the_threshold_is_chosen_on_val_and_judged_on_test(make, data):
    path = make("A")
    detail = only(path).analysis.details["A"]
    val, test = (
        curves.f1(bootstrap.match(data, of(path, name)))
        for name in ("predictions-val.json", "predictions.json")
    )
    best = int(val.mean.argmax())
    assert detail.point.threshold == curves.THRESHOLDS[best] == detail.score
    assert detail.point.val["f1"] == pytest.approx(val.mean[best])
    assert detail.point.test["f1"] == pytest.approx(test.mean[best])
    problem = arrays(data, of(path, "predictions.json"))
    np.testing.assert_array_equal(detail.confusion, curves.confusion(problem, detail.score))
    assert detail.errors == errors(problem)
    assert detail.lrp["oLRP"] == curves.mean_lrp(curves.lrp(problem))
    assert len([n.value(detail) for n in NUMBERS if n.value(detail) is not None]) == len(NUMBERS)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda p: (p / "predictions-val.json").unlink(), "detzoo evaluate keeps them"),
        (lambda p: (p / "predictions-val.json").write_text("[{"), "cannot be read"),
        (
            lambda p: rewrite(p, "dataset-val.json", lambda d: d.update(weights_hash="x")),
            "of other weights",
        ),
        (lambda p: rewrite(p, "metrics.json", lambda m: m.update(split="val")), "val itself"),
        (
            lambda p: rewrite(p, "predictions-val.json", lambda r: r[0].update(image_id=999)),
            "image_id 999 is not among the images",
        ),
    ],
)
def test_without_sound_predictions_on_val_no_threshold_is_chosen(make, change, reason):
    path = make("A")
    change(path)
    detail = only(path).analysis.details["A"]
    assert detail.point.threshold is None and reason in detail.point.reason
    assert detail.score == SCORE


def test_of_several_seeds_the_numbers_are_means(make, data):
    paths = [make("A", seed=seed) for seed in (0, 1)]
    detail = only(*paths).analysis.details["A"]
    each = [errors(arrays(data, of(path, "predictions.json"))) for path in paths]
    assert detail.errors["missed"].dap == pytest.approx(np.mean([e["missed"].dap for e in each]))
    assert isinstance(only(*paths).analysis, Analysis)


def test_how_p_is_printed():
    assert [p_text(p) for p in (None, 1e-9, 0.0123, 1.0)] == ["n/a", "< 0.001", "0.012", "1.000"]
