"""Why some passes are slow, by the passes themselves."""

from pathlib import Path

import pytest

from detzoo.report.analysis.tails import explain_tail, outliers
from detzoo.report.load.runs import Run

ROUNDS, IMAGES = 10, 6


def run(slow, **other):
    """A run of 60 passes of 10 ms; slow: (round, image) -> whether the network makes it 100."""
    which = [(r, i) for r in range(ROUNDS) for i in range(IMAGES)]
    ms = [100.0 if slow(r, i) else 10.0 for r, i in which]
    samples = {
        "round": [r for r, _ in which],
        "image": [i for _, i in which],
        "end_to_end": ms,
        "decode": [1.0] * len(ms),
        "network": [0.8 * v for v in ms],
        "postprocess": [0.5] * len(ms),
    }
    return Run(Path("a"), speed={"samples": samples | other})


@pytest.mark.parametrize(
    ("slow", "told"),
    [
        (lambda r, i: i == 2, "10 of 60 passes, of one image in every round, so that"),
        (lambda r, i: r == 4, "6 of 60 passes, in 1 of 10 rounds, so that something else kept"),
        (lambda r, i: (r, i) in ((1, 2), (4, 5), (8, 0)), "3 of 60 passes, spread over rounds"),
        (lambda r, i: (r, i) == (3, 3), "1 of 60 passes, spread over rounds and images"),
    ],
)
def test_the_reason_is_images_rounds_or_unknown(slow, told):
    found = explain_tail([run(slow)])
    assert found.startswith(told) and found.endswith("it is the network that grows")


def test_without_slow_passes_or_without_passes_nothing_is_said():
    assert explain_tail([run(lambda r, i: False)]) == explain_tail([Run(Path("a"))]) == ""
    damaged = [{"round": [1]}, {"end_to_end": "x"}, {"image": None}, {"network": [[1]]}]
    for other in damaged:
        found = explain_tail([run(lambda r, i: r == 4, **other)])
        assert found == "" or "network" not in found


def test_seeds_are_one_detector():
    two = [run(lambda r, i: i == 2), run(lambda r, i: r == 4)]
    assert explain_tail(two).startswith("16 of 120 passes, spread over rounds and images")
    assert outliers(two) == [100.0] * 16
