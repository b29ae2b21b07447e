from __future__ import annotations

import pytest

from detzoo.speed.caveats import warnings_about


def result(**changes):
    warmup = {"settled": True, "seconds": 1.0, "passes": 9, "shapes": 1, "shapes_settled": 1}
    clocks = {"throttles": None}
    made = {
        "gpu": None,
        "clocks": clocks,
        "other_load": 0.0,
        "warmup": warmup,
        "n": 100,
        "images": 1,
        "processors": 2,
        "threads": 2,
        "shapes": 1,
    }
    return {**made, "samples": {"image": [0]}, **changes}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"other_load": 0.34}, "other processes used 34% of the 2 processors"),
        ({"n": 40}, "p99 of 40 passes says little more than their maximum; speed.seconds=90 gives"),
        ({"n": 40, "seconds": 60.0}, "speed.seconds=150 gives it more (detzoo speed: seconds=150)"),
        ({"images": 9}, "1 of 9 images were timed; speed.seconds=270"),
        ({"shapes": 3}, "the input has 3 shapes"),
        ({"clocks": {"throttles": ["power cap"]}}, "held back while timing ran: power cap"),
        ({"gpu": "H100"}, "NVML needs pip install"),
    ],
)
def test_what_a_reader_must_know_is_a_warning(changes, words):
    assert warnings_about(result()) == []
    (warning,) = warnings_about(result(**changes))
    assert words in warning


@pytest.mark.parametrize(
    ("processors", "threads", "others", "warned"),
    [
        (2, 2, 0.05, False),  # what an idle machine does for itself
        (2, 2, 0.07, True),
        (2, 2, 0.19, True),  # was seen to slow two threads
        (16, 16, 0.07, True),  # 0.4%, and yet the slowest thread is waited for
        (16, 8, 0.7, False),  # half of them are free
        (16, 8, 0.9, True),  # more than a twentieth of all
        (2, 4, 0.05, False),  # more threads than processors
    ],
)
def test_one_neighbour_is_enough_where_no_processor_is_free(processors, threads, others, warned):
    machine = {"processors": processors, "threads": threads, "other_load": others / processors}
    assert bool(warnings_about(result(**machine))) is warned


def test_a_warm_up_that_did_not_settle_is_a_warning():
    unsettled = {**result()["warmup"], "settled": False, "shapes": 4}
    (warning,) = warnings_about(result(warmup=unsettled))
    assert "did not settle in 1.0 s and 9 passes (1 of 4 input shapes did)" in warning
