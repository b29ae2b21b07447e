from __future__ import annotations

import pytest

from detzoo.speed.phases import Sample
from detzoo.speed.summary import latency, ratio


def samples(milliseconds, per_round=1):
    return [
        Sample(i // per_round, i, (0.0, 0.0, 0.0, 0.0, value / 2000, value / 2000, 0.0))
        for i, value in enumerate(milliseconds)
    ]


def test_percentiles_are_linear_and_nothing_is_clipped():
    found = latency(samples([*range(1, 100), 10_000]))
    whole = found["end_to_end"]
    assert whole["p50"] == pytest.approx(50.5)
    assert whole["p90"] == pytest.approx(90.1)
    assert whole["p99"] == pytest.approx(99 + 0.01 * 9901)
    assert whole["mean"] == pytest.approx((4950 + 10_000) / 100)
    assert found["stages"]["network"]["p50"] == pytest.approx(25.25)
    assert max(found["samples"]["end_to_end"]) == 10_000


def test_the_interval_draws_whole_rounds():
    # Two rounds, each constant: a draw is 1 1, 1 3, 3 1 or 3 3, its median 1, 2, 2 or 3.
    assert latency(samples([1] * 10 + [3] * 10, 10))["end_to_end"]["interval"] == [1.0, 3.0]
    # Both rounds alike: every draw of rounds has the same median, though not every draw of passes.
    assert latency(samples([1, 2, 9] * 2, 3))["end_to_end"]["interval"] == [2.0, 2.0]


def test_one_round_has_no_interval():
    assert latency(samples([1, 2, 3], 3))["end_to_end"]["interval"] is None


def test_p90_and_p99_have_intervals_of_their_own():
    # Of two rounds, 1 to 10 and 11 to 20, a draw is one of them twice or both.
    found = latency(samples(range(1, 21), 10))["end_to_end"]
    assert found["interval"] == pytest.approx([5.5, 15.5])
    assert found["p90_interval"] == pytest.approx([9.1, 19.1])  # of 1 1 2 2 ..: position 17.1
    assert found["p99_interval"] == pytest.approx([10, 20], abs=0.2)
    assert found["n"] == 20


def test_overhead_is_all_but_jpeg_decoding_over_the_network():
    # (restore 1 + network 4) / 4, for any time of decoding; then (1 + 2) / 2 and (1 + 1) / 1.
    made = [
        Sample(0, 0, (9.0, 0.0, 0.0, 0.0, 4.0, 0.0, 1.0)),
        Sample(0, 1, (0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 1.0)),
        Sample(0, 2, (5.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0)),
    ]
    assert latency(made)["overhead"]["p50"] == 1.5
    assert latency(made)["overhead"]["interval"] is None


def test_the_ratio_is_of_pairs():
    # The machine is ten times slower in the second round: pair by pair nothing changes.
    ours = samples([2, 4, 20, 40], 2)
    theirs = samples([1, 2, 10, 20], 2)
    found = ratio(ours, theirs)
    assert found == {"ratio": 2.0, "interval": [2.0, 2.0], "n": 4}
    assert ratio(theirs, ours)["ratio"] == 0.5
    assert ratio(samples([1, 1]), samples([1, 3]))["interval"] == pytest.approx([1 / 3, 1.0])
    assert ratio(ours[:2], theirs[:2])["interval"] is None
    # of medians it would be 10 / 4: the machine was slow at another moment for each of them
    assert ratio(samples([1, 10, 20]), samples([1, 5, 4]))["ratio"] == 2.0


def test_passes_of_different_images_are_no_pairs():
    with pytest.raises(ValueError, match="no pairs"):
        ratio(samples([1, 2]), samples([1, 2, 3]))
