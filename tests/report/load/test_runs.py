"""Run directories in every state of disrepair."""

import json
import math
import os
from datetime import datetime, timezone

import fabricated_runs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detzoo.plain_yaml import read_yaml
from detzoo.report import table, text_table
from detzoo.report.load.runs import FILES, find_runs, load, load_all
from detzoo.report.load.values import clean, dig, interval, number, shorten


@pytest.fixture
def whole(tmp_path):
    data = fabricated_runs.dataset(tmp_path / "data", count=3)
    return fabricated_runs.run(tmp_path / "runs", "CenterNet", data, ap=0.25)


def test_a_whole_run(whole):
    run = load(whole)
    assert (run.label, run.seed, run.state, run.ranked) == ("CenterNet", "0", "done", True)
    assert run.problems == ()
    assert run.metrics["AP"] == 0.25
    assert [row["images_seen"] for row in run.curve] == [800, 1600, 2400, 3200, 4000]


def test_numbers_are_found_or_nan():
    value = {"a": [1, {"b": 2.5}], "t": True, "s": "1", "big": 10**400, "n": None}
    assert dig(value, "a", 1, "b") == 2.5 == number(value, "a", 1, "b")
    assert dig(value, "a", 7) is None and dig(value, "s", 0) is None
    for key in ("t", "s", "big", "n", "a", "absent"):
        assert math.isnan(number(value, key))
    assert math.isnan(number(float("inf")))
    assert interval({"AP": [0.1, 0.3]}, "AP") == (0.1, 0.3)
    for bad in ([0.3, 0.1], [0.1], ["a", 2], None, 0.2):
        assert all(map(math.isnan, interval({"AP": bad}, "AP")))


def test_text_is_made_harmless():
    assert clean("a\x1b[31mb\u202ec\nd") == "a\\x1b[31mb\\u202ec\nd"
    assert clean("abcdef", 4) == "abc…"
    assert shorten("torchvision/faster_rcnn", 14) == "torchvisi…rcnn"
    assert shorten("two\nlines", 14) == "two lines"


def test_a_failed_run_gives_its_error(tmp_path):
    run = load(fabricated_runs.failed(tmp_path, error="OutOfMemory"))
    assert not run.ranked and run.state == "failed" and run.label == "CornerNet"
    assert run.problems == ("failed in train after 1,920 images seen: OutOfMemory",)


def test_a_running_run_and_one_whose_process_is_gone(tmp_path):
    now = datetime.now(timezone.utc).isoformat()
    status = {"state": "running", "error": None, "images_seen": 10, "started": now}
    alive = load(fabricated_runs.failed(tmp_path, "alive", **status | {"pid": os.getpid()}))
    assert (alive.state, alive.problems) == (
        "running",
        ("still running in train after 10 images seen",),
    )

    gone = load(fabricated_runs.failed(tmp_path, "gone", **status | {"pid": 2**22 + 1}))
    assert gone.state == "interrupted" and "its process 4194305 is gone" in gone.problems[0]
    before = {"pid": os.getpid(), "started": "2001-01-01T00:00:00+00:00"}
    inherited = load(fabricated_runs.failed(tmp_path, "inherited", **status | before))
    assert inherited.state == "interrupted"


def test_metrics_older_than_a_training_do_not_count(whole):
    started = datetime.now(timezone.utc).isoformat()
    status = {"state": "running", "stage": "train", "pid": os.getpid(), "started": started}
    fabricated_runs.write(whole / "status.json", status)
    run = load(whole)
    assert not run.ranked and "older than the training" in run.problems[1]


def test_a_failure_after_the_evaluation_keeps_the_accuracy(whole):
    (whole / "speed.json").unlink()
    status = {"state": "failed", "stage": "speed", "error": "lock"}
    fabricated_runs.write(whole / "status.json", status)
    run = load(whole)
    assert run.ranked and run.state == "failed"
    assert run.problems == ("failed in speed: lock", "not timed: there is no speed.json")


@pytest.mark.parametrize(
    ("name", "content", "ranked", "reason"),
    [
        ("metrics.json", '{"AP": 0.', False, "metrics.json cannot be read"),
        ("metrics.json", "[]", False, "metrics.json holds a list, not a mapping"),
        ("metrics.json", '{"AP": "high"}', False, "metrics.json gives no AP"),
        ("metrics.json", '{"AP": NaN}', False, "metrics.json gives no AP"),
        ("metrics.json", '{"AP": null}', True, ""),
        ("metrics.json", None, False, "no whole metrics.json"),
        ("speed.json", None, True, "not timed"),
        ("speed.json", "\xff", True, "speed.json cannot be read"),
        ("config.yaml", "a: [", True, "config.yaml cannot be read"),
        ("config.yaml", "!!python/object/apply:os.getpid []", True, "config.yaml cannot be read"),
        ("curve.csv", "a,b\n1,2\n", True, "curve.csv has no columns"),
        ("curve.csv", None, True, ""),
        ("environment.json", "3", True, "environment.json holds a int"),
    ],
)
def test_damage_is_reported(whole, name, content, ranked, reason):
    (whole / name).unlink()
    if content is not None:
        (whole / name).write_bytes(content.encode("latin-1"))
    run = load(whole)
    assert run.ranked is ranked
    assert reason in "; ".join(run.problems) and bool(reason) == bool(run.problems)


def test_a_half_written_curve_keeps_its_whole_rows(whole):
    (whole / "curve.csv").write_text("images_seen,seconds,AP,AP50\n10,1.5,0.1,0.2\n20,,0.2,\n30,")
    rows = load(whole).curve
    assert [row["AP"] for row in rows] == [0.1, 0.2]
    assert rows[0]["seconds"] == 1.5 and math.isnan(rows[1]["seconds"])


def test_folders_of_runs_are_opened_and_no_run_counts_twice(whole, tmp_path):
    (tmp_path / "runs" / "not a run").mkdir()
    assert find_runs([tmp_path / "runs", whole, whole / ".." / whole.name]) == [whole]
    missing = tmp_path / "nowhere"
    assert [run.problems for run in load_all([missing, tmp_path / "runs" / "not a run"])] == [
        ("there is no such directory",),
        (f"it holds no run: none of {', '.join(FILES)} is in it",),
    ]
    with pytest.raises(ValueError, match="no run directory was given"):
        load_all([])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = {
    "metrics.json": ("AP", "images", "intervals", "per_class", "fingerprint", "interval_method"),
    "speed.json": ("end_to_end", "stages", "throughput", "fingerprint", "warnings", "batch", "n"),
    "status.json": ("state", "stage", "pid", "error", "images_seen", "train_seconds", "hostname"),
    "config.yaml": ("label", "seed", "detector", "augment", "recipe"),
}


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=st.sampled_from(sorted(KEYS)), data=st.data())
def test_no_content_of_a_file_crashes_a_table(whole, name, data):
    keep = (whole / name).read_bytes()
    key, value = data.draw(st.sampled_from(KEYS[name])), data.draw(JSON)
    sound = {
        "metrics.json": {"AP": 0.5},
        "status.json": {"state": "done"},
        "speed.json": {},
        "config.yaml": {"label": "x"},
    }
    try:
        (whole / name).write_text(json.dumps(sound[name] | {key: value}))
        assert len(table([whole])) <= 1
        assert text_table([whole])
    finally:
        (whole / name).write_bytes(keep)


@pytest.mark.parametrize(
    ("seen", "patience", "said"), [(640, 2, True), (1600, 2, False), (640, None, False)]
)
def test_a_training_that_patience_ended_is_said_with_what_it_saw(tmp_path, seen, patience, said):
    data = fabricated_runs.dataset(tmp_path / "data", count=3)
    path = fabricated_runs.run(tmp_path / "runs", "A", data)
    config = read_yaml(path / "config.yaml")
    config["recipe"] = {**config.get("recipe", {}), "images_seen": 1600, "patience": patience}
    (path / "config.yaml").write_text(json.dumps(config))
    status = json.loads((path / "status.json").read_text())
    (path / "status.json").write_text(json.dumps({**status, "images_seen": seen}))
    metrics = json.loads((path / "metrics.json").read_text())
    metrics["fingerprint"] = {**metrics["fingerprint"], "images_seen": 1600}
    (path / "metrics.json").write_text(json.dumps(metrics))
    found = load(path)
    told = "stopped after 640 of 1,600 images: val AP had not risen for 2 points of the curve"
    assert any(told in problem for problem in found.problems) == said
    assert found.ranked and found.images_seen == (640 if said else 1600)
