"""How many times as fast: over passes that were paired, or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detzoo.report.analysis.speed_ratios import ratio
from detzoo.report.load.runs import Run


def timed(ms, rounds=10, images=4, session="s", **samples):
    which = [[r, i] for r in range(rounds) for i in range(images)]
    found = {
        "round": [r for r, _ in which],
        "image": [i for _, i in which],
        "end_to_end": list(np.broadcast_to(ms, len(which)).astype(float)),
    }
    return Run(Path("a"), speed={"session": session, "samples": found | samples})


def test_a_slowdown_of_both_cancels():
    """A machine that gets four times slower while it times: three times as fast all the same."""
    drift = np.linspace(1, 4, 40)
    found = ratio([timed(30 * drift)], [timed(10 * drift)])
    assert found.value == pytest.approx(3) and found.n == 40
    assert found.low == pytest.approx(3) and found.high == pytest.approx(3)


def test_the_interval_is_over_rounds_whose_passes_belong_together():
    """Ten rounds from 1 to 10 times as slow: a thousand independent passes would put the median
    between 5 and 6."""
    ms = np.repeat(np.arange(1.0, 11), 100)
    found = ratio([timed(ms, images=100)], [timed(1.0, images=100)])
    assert found.value == 5.5 and found.low < 4 and found.high > 7


def test_of_several_seeds_the_geometric_mean():
    found = ratio([timed(20.0), timed(80.0)], [timed(10.0)])
    assert found.value == pytest.approx(4)


@pytest.mark.parametrize(
    "other",
    [
        timed(1.0, session="another"),
        timed(1.0, session=None),
        timed(1.0, rounds=9),
        timed(1.0, image=[0] * 40),
        timed(0.0),
        timed(1.0, end_to_end=[1.0, 2.0]),
        timed(1.0, end_to_end=None),
        timed(1.0, end_to_end=["a"] * 40),
        Run(Path("a")),
    ],
)
def test_without_pairs_there_is_no_ratio(other):
    assert ratio([timed(3.0)], [other]) is None


def test_one_round_has_no_ratio():
    assert ratio([timed(3.0, rounds=1)], [timed(1.0, rounds=1)]) is None
