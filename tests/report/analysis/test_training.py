"""What curves say of whether training is done."""

import pytest

from detzoo.report.analysis.training import crossing, describe_crossings, describe_curves, trend

RISES = [(1, 0.1), (2, 0.3), (3, 0.4)]
LEVEL = [(1, 0.3), (2, 0.398), (3, 0.4)]
FALLS = [(1, 0.3), (2, 0.5), (3, 0.4)]


@pytest.mark.parametrize(
    ("curve", "told"),
    [
        (RISES, "rises"),
        (LEVEL, "level"),
        (FALLS, "falls"),
        (RISES[:2], ""),
        ([(1, 0.0), (2, 1e-4), (3, 9e-4)], ""),
        ([], ""),
    ],
)
def test_the_last_interval_decides(curve, told):
    assert trend(curve) == told


def test_fewer_than_three_points_have_no_trend():
    told = "It is unknown whether training is done: "
    assert describe_curves({"a": RISES[:2], "b": LEVEL[:1]}) == (
        f"{told}that takes curves of 3 points or more (recipe.val_points=5)."
    )
    assert describe_curves({"a": []}) == f"{told}there are no learning curves."


def test_some_rise_some_fall():
    assert describe_curves({"a": RISES, "b": LEVEL, "c": RISES, "d": FALLS}) == (
        "The curves of a and c still rise after 3 images: another budget may give another order. "
        "d has fallen below an earlier best."
    )
    assert describe_curves({"a": LEVEL, "b": LEVEL}) == "No curve rises any more after 3 images."
    assert describe_curves({"a": RISES}).startswith(
        "The curve still rises after 3 images: more training"
    )
    assert describe_curves({"a": RISES, "b": RISES}).startswith(
        "Both curves still rise: this is an order"
    )


def test_curves_that_cross_late():
    late = [(1, 0.5), (2, 0.35), (3, 0.38), (4, 0.39)]
    best = [(1, 0.1), (2, 0.2), (3, 0.35), (4, 0.4)]
    assert crossing(best, late) == 3
    assert crossing(best, [(1, 0.15), (2, 0.1), (3, 0.1), (4, 0.1)]) is None  # early
    assert crossing(best, [(s, ap / 2) for s, ap in best]) is None
    assert crossing(best, late[:2]) is None
    assert describe_crossings({"a": best, "b": late}) == (
        "Curves cross: a passed b only after 3 images, so that a smaller or larger budget may give "
        "another order."
    )
    assert describe_crossings({"a": best}) == describe_crossings({}) == ""
