"""What the studies make of a timing, on numbers that can be checked by hand."""

from __future__ import annotations

import pytest

from detzoo.report.analysis.studies import (
    format_text,
    time_by_batch,
    time_by_content,
    time_by_precision,
)


def speed(boxes, times, proposals=None, shapes=None, image=None):
    n = len(boxes)
    return {
        "samples": {
            "image": list(range(n)) if image is None else image,
            "boxes": boxes,
            "proposals": [None] * n if proposals is None else proposals,
            "shape": [(8, 8)] * n if shapes is None else shapes,
            "end_to_end": times,
            "network": [t / 2 for t in times],
            "postprocess": [t / 4 for t in times],
        }
    }


def test_milliseconds_by_boxes():
    # 10 ms and 2 more a box.
    found = time_by_content(speed([0, 1, 2, 3, 4, 5, 6, 7], [10, 12, 14, 16, 18, 20, 22, 24]))
    rows = found["by"]["boxes"]
    assert [(r["from"], r["to"], r["images"]) for r in rows] == [
        *((0, 1, 2), (2, 3, 2), (4, 5, 2), (6, 7, 2)),
    ]
    assert [r["end_to_end"] for r in rows] == [11, 15, 19, 23]
    assert (rows[0]["network"], rows[0]["postprocess"]) == (5.5, 2.75)
    assert found["slope"]["boxes"]["ms_each"] == pytest.approx(2)
    assert found["slope"]["boxes"]["interval"] == pytest.approx([2, 2])
    assert "proposals" not in found["by"]


def test_an_image_counts_once_by_the_median_of_its_passes():
    found = time_by_content(speed([3, 9, 3, 3], [10, 50, 12, 90], image=[4, 7, 4, 4]))
    assert (found["n"], found["images"]) == (4, 2)
    assert [(r["from"], r["end_to_end"]) for r in found["by"]["boxes"]] == [(3, 12), (9, 50)]


def test_images_of_one_count_are_never_parted_and_have_no_slope():
    found = time_by_content(speed([5, 5, 5, 5], [1, 2, 3, 4]))
    assert [(r["from"], r["to"], r["images"]) for r in found["by"]["boxes"]] == [(5, 5, 4)]
    assert found["slope"]["boxes"] is None


def test_proposals_and_shapes_have_rows_of_their_own():
    wide = [(8, 8), (8, 16), (8, 16)]
    found = time_by_content(speed([1, 1, 1], [10, 20, 40], proposals=[100, 200, 300], shapes=wide))
    assert found["slope"]["proposals"]["ms_each"] == pytest.approx(0.15)
    rows = [(r["shape"], r["images"], r["end_to_end"]) for r in found["by"]["shape"]]
    assert rows == [([8, 8], 1, 10), ([8, 16], 2, 30)]
    lines = format_text("content", {"a-1": found | {"warnings": ["the neighbour was busy"]}})
    assert "8 x 16" in lines and "100 - 100" in lines
    assert "note: a-1: the neighbour was busy" in lines


def test_the_sweep_as_a_table():
    sweep = [{"batch": 1, "images_per_second": 50.0}, {"batch": 4, "images_per_second": 100.0}]
    throughput = {"sweep": sweep, "batch": 4, "images_per_second": 100.0, "stopped": "no gain"}
    found = time_by_batch({"throughput": throughput})
    assert [row["ms_per_batch"] for row in found["rows"]] == [20.0, 40.0]
    lines = format_text("batch", {"a-1": found}).splitlines()
    assert lines[1].split() == ["a-1", "1", "50.0", "20.0"]
    assert lines[2].split() == ["a-1", "4", "100", "40.0", "best"]


def timed(p50, ap, ratio):
    return {
        "n": 8,
        "end_to_end": {"p50": p50, "p90": p50, "p99": p50, "interval": [p50, p50]},
        "against": {"reference": "fp32", "ratio": ratio, "interval": None, "n": 8},
        "throughput": {"images_per_second": 1000 / p50},
        "peak_memory_mb": 10.0,
        "accuracy": None if ap is None else {"AP": ap, "intervals": {"AP": [0.1, 0.5]}},
        "warnings": [],
        "fingerprint": {},
    }


def test_what_a_precision_keeps():
    found = time_by_precision({"fp32": timed(20.0, 0.4, 1.0), "bf16": timed(10.0, 0.396, 0.5)})
    assert [row["kept"] for row in found["rows"]] == [1.0, pytest.approx(0.99)]
    assert found["rows"][1]["AP_interval"] == [0.1, 0.5]
    lines = format_text("precision", {"a-1": found}).splitlines()
    assert lines[2].split()[:4] == ["a-1", "bf16", "0.396", "99.0%"] and " 0.500 " in lines[2]


@pytest.mark.parametrize("ap", [None, 0.0])
def test_without_an_accuracy_no_share_is_kept(ap):
    found = time_by_precision({"fp32": timed(20.0, ap, 1.0), "bf16": timed(10.0, ap, 0.5)})
    assert [row["kept"] for row in found["rows"]] == [None, None]
    assert "n/a" in format_text("precision", {"a-1": found})
