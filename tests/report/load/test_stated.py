"""What others state of their speed: shown with how it was measured, ranked against nothing."""

from __future__ import annotations

import json
import math

import fabricated_runs
import pytest

from detzoo.report.book import gather
from detzoo.report.load.stated import stated_latency

STATED = {
    "p50_ms": 12.5,
    "p99_ms": 20,
    "timed": "network and NMS",
    "batch": 1,
    "precision": "fp16",
    "device": "a GPU, TensorRT",
}


def test_it_is_a_note_and_no_number_of_the_table(tmp_path):
    data = fabricated_runs.dataset(tmp_path / "data")
    ours = fabricated_runs.score(fabricated_runs.run(tmp_path / "runs", "Ours", data))
    results = json.loads((ours / "predictions.json").read_text())
    file = tmp_path / "theirs.json"
    file.write_text(json.dumps({"results": results, "latency": STATED}))
    book = gather([ours], {"theirs": file}, resamples=5)
    theirs = book.tables[0].frame.iloc[1]
    assert math.isnan(theirs["p50_ms"]) and math.isnan(theirs["images_per_second"])
    text = " ".join(book.text().split())
    assert (
        "its authors state, by their own clock: p50 12.5 ms, p99 20 ms, batch 1, fp16, a GPU, "
        "TensorRT; timed: network and NMS. Not measured here, compared with nothing" in text
    )
    file.write_text(json.dumps({"results": results, "latency": {**STATED, "p50_ms": "12"}}))
    with pytest.raises(ValueError, match=r"theirs=.*theirs\.json: latency\.p50_ms is '12'"):
        gather([ours], {"theirs": file}, resamples=5)


@pytest.mark.parametrize("value", [[], None, 3, {"results": []}])
def test_a_file_without_a_latency_gives_none(value):
    assert stated_latency(value) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"p50_ms": None}, "latency lacks p50_ms"),
        ({"timed": None, "device": None}, "latency lacks timed, device"),
        ({"p50": 3}, "latency has 'p50'; it takes p50_ms, p90_ms"),
        *(({"p50_ms": x}, "p50_ms is") for x in (0, -1, True, "9", math.nan, math.inf, 10**400)),
        *(({"batch": x}, "batch is") for x in (1.5, 0, True, "1")),
        ({"images_per_second": []}, "images_per_second is"),
        ({"p90_ms": 5}, "must not fall"),
        *(({"device": x}, "device is") for x in (" ", 3, "x" * 201, ["a"])),
        ({"\x1b[2J": 1}, r"latency has '\x1b[2J'"),
    ],
)
def test_what_is_of_another_kind_is_refused(change, said):
    with pytest.raises(ValueError) as error:
        stated_latency({"latency": {**STATED, **change}})
    assert said in str(error.value)


@pytest.mark.parametrize("value", [[], "12 ms", None, 12])
def test_it_is_a_mapping(value):
    with pytest.raises(ValueError, match="it must be a mapping"):
        stated_latency({"latency": value})


def test_hostile_text_is_escaped_on_one_line():
    note = stated_latency({"latency": {**STATED, "device": "a\x1b[31m\n\u202eb", "source": "a\nb"}})
    assert "\x1b" not in note and "\u202e" not in note and "\n" not in note
    assert r"a\x1b[31m" in note and "(a b)" in note
