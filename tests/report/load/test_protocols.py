"""What shares a table, what does not, and what detectors are called."""

from pathlib import Path

import fabricated_runs
import pytest

from detzoo.report.load.protocols import (
    ACCURACY,
    differences,
    format_value,
    group_runs,
    name_detectors,
    start_of,
    title,
    title_of,
)
from detzoo.report.load.runs import Run, load


@pytest.fixture
def make(tmp_path):
    data = fabricated_runs.dataset(tmp_path / "data", count=2)
    return lambda label, **other: load(fabricated_runs.run(tmp_path / "runs", label, data, **other))


DIFFERENT = {
    "dataset_hash": "00",
    "split": "val",
    "images_hash": "11",
    "resize": {"kind": "letterbox", "size": [320, 320]},
    "score_threshold": 0.05,
    "max_dets": 300,
    "precision": "bf16",
    "compile": True,
    "device": "cuda:0",
    "batch": 8,
    "recipe": "paper",
    "images_seen": 8000,
    "decoder": "cuda",
}


@pytest.mark.parametrize("field", sorted(DIFFERENT.keys() & ACCURACY.keys()))
def test_every_field_of_the_fingerprint_parts_tables(make, field):
    same, other = make("A"), make("B", fingerprint={field: DIFFERENT[field]})
    again = make("C")
    tables = group_runs([same, other, again])
    assert [table.runs for table in tables] == [(same, again), (other,)]
    assert f"accuracy.{field}" in differences(tables)


STARTS = {
    "scratch": {"detector": {"backbone": {"name": "resnet18", "pretrained": False}}},
    "imagenet": {"detector": {"backbone": {"name": "resnet18", "pretrained": True}}},
    "backbone a.pth": {"detector": {"backbone": {"weights": "b/a.pth", "pretrained": False}}},
    "coco": {"start": {"kind": "coco", "hash": "0123456789abcdef", "seen": "x"}},
    "run:01234567": {"start": {"kind": "run", "hash": "0123456789abcdef"}},
    None: {"detector": {}},
}


@pytest.mark.parametrize("said", STARTS)
def test_what_a_run_started_from_is_read_off_its_configuration(make, said):
    run = make("A")
    run.config.update(STARTS[said])
    assert start_of(run) == said


def test_other_starts_are_other_tables_unless_that_is_asked_for(make):
    scratch, coco, again = make("A"), make("B"), make("C")
    coco.config.update(STARTS["coco"])
    runs = [scratch, coco, again]
    assert [table.runs for table in group_runs(runs)] == [(scratch, again), (coco,)]
    assert differences(group_runs(runs)) == {"accuracy.start": ["scratch", "coco"]}
    (both,) = group_runs(runs, across_starts=True)
    assert both.runs == (scratch, coco, again)


def test_two_starts_of_one_detector_have_names_of_their_own(make):
    scratch, coco = make("A"), make("A", seed=1)
    coco.config["start"] = STARTS["coco"]["start"]
    assert sorted(name_detectors([scratch, coco]).values()) == ["A (start=coco)", "A (start=n/a)"]


def test_seeds_and_learning_rates_share_a_table(make):
    recipe = fabricated_runs.FINGERPRINT["recipe"] | {"lr": 0.3, "val_points": 2}
    runs = [make("A"), make("A", seed=1), make("B", fingerprint={"recipe": recipe})]
    assert len(group_runs(runs)) == 1
    assert differences(group_runs(runs)) == {}


def test_timings_of_two_machines_never_share_a_table(make):
    slow, fast, untimed = make("A"), make("B"), make("C", speed=False)
    fast.speed["fingerprint"]["cpu"] = "another"
    tables = group_runs([untimed, slow, fast])
    assert [table.runs for table in tables] == [(untimed, slow), (fast,)]
    assert differences(tables) == {"speed.cpu": ["AMD EPYC 7B13", "another"]}
    assert title("speed.cpu") == "CPU" and title("accuracy.batch") == "batch"


def test_runs_without_records_share_no_table(make):
    known, unknown = make("A"), make("B")
    unknown.metrics["fingerprint"] = None
    assert len(group_runs([known, unknown])) == 2


def test_names_distinguish_runs_that_differ_in_more_than_the_seed(make):
    target = {"_target_": "x", "backbone": {"name": "resnet18"}}
    runs = [
        make("A", detector=target),
        make("A", detector=target, seed=1),
        make("A", detector=target | {"backbone": {"name": "resnet34"}}, seed=2),
        make("B", detector=target),
    ]
    expected = ["A (name=resnet18)", "A (name=resnet18)", "A (name=resnet34)", "B"]
    assert list(name_detectors(runs).values()) == expected


def test_names_of_detectors_that_differ_in_many_ways(make):
    runs = [make("A", detector={"a": i, "b": i, "c": i}, seed=i) for i in (1, 2)]
    first, second = name_detectors(runs).values()
    assert first != second and all(len(name) == len("A (123456)") for name in (first, second))


def test_a_run_without_its_configuration_has_its_own_name(make):
    whole, lost = make("A"), make("A", seed=1)
    del lost.config["detector"]
    assert name_detectors([whole, lost]) == {whole: "A", lost: f"A ({lost.path.name})"}


def test_another_training_set_makes_another_detector(make):
    first, second = make("A"), make("A", seed=1)
    first.config["train_hash"], second.config["train_hash"] = "aa", "bb"
    assert name_detectors([first, second]) == {
        first: "A (train_hash=aa)",
        second: "A (train_hash=bb)",
    }


def test_values_for_people():
    assert format_value({"_target_": "detzoo.x", "lr": 0.1}) == "lr 0.1"
    assert format_value(["avx2", "fma"]) == "avx2, fma"
    assert format_value(None) == "not recorded"
    assert format_value({"kind": "letterbox", "size": [320, 320]}) == "letterbox, size 320 x 320"
    assert format_value("sha256:" + "ab" * 32) == "abababababab"
    assert (format_value(4000), format_value(0.001), format_value(True), format_value("cpu")) == (
        "4,000",
        "0.001",
        "yes",
        "cpu",
    )


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ssd", "ssd, seed 0 (ssd-1a2b3c4d)"),
        ("ssd (5e6f70)", "ssd, seed 0 (ssd-1a2b3c4d)"),  # one hash, that of the directory
        ("ssd (lr=0.1)", "ssd (lr=0.1), seed 0 (ssd-1a2b3c4d)"),
        ("ssd-1a2b3c4d", "ssd-1a2b3c4d, seed 0"),
    ],
)
def test_a_label_carries_one_hash(name, told):
    run = Run(Path("runs/ssd-1a2b3c4d"), config={"seed": 0})
    assert title_of(run, name) == told


def test_a_run_without_a_label_is_called_by_its_directory_once():
    run = Run(Path("runs/ssd-1a2b3c4d"), ranked=True)
    assert name_detectors([run]) == {run: "ssd-1a2b3c4d"}
