"""The effort behind rows, and the note if it was not equal."""

from __future__ import annotations

import json

import fabricated_runs
import pytest
import yaml

from detzoo.report.load import effort
from detzoo.report.load.protocols import differences, group_runs, name_detectors
from detzoo.report.load.runs import load
from detzoo.report.tables.leaderboard import columns, concat, group_frame
from detzoo.report.tables.notes import notes

RECIPE = fabricated_runs.FINGERPRINT["recipe"]
EFFORT = {
    "trials": 8,
    "images": 1500,
    "rungs": 3,
    "total": 6000,
    "space": {"recipe.lr": [0.1, 1.0]},
    "defaults": {"recipe.lr": 0.001, "recipe.weight_decay": 0.05, "recipe.momentum": None},
}


@pytest.fixture
def make(tmp_path):
    data = fabricated_runs.dataset(tmp_path / "data", count=2)

    def run(label, seed=0, recipe=None, effort=None):
        fingerprint = {"recipe": RECIPE | (recipe or {})} | ({"effort": effort} if effort else {})
        path = fabricated_runs.run(
            tmp_path / "runs", label, data, seed=seed, fingerprint=fingerprint
        )
        config = yaml.safe_load((path / "config.yaml").read_text())
        config["recipe"] |= recipe or {}
        config |= {"effort": effort} if effort else {}
        (path / "config.yaml").write_text(yaml.safe_dump(config))
        return load(path)

    return run


def test_what_a_search_chose_may_differ_inside_a_table(make):
    chosen = {"lr": 0.4, "weight_decay": 0.001, "momentum": 0.5}
    runs = [make("A", recipe=chosen, effort=EFFORT), make("B", effort=EFFORT), make("C")]
    assert len(group_runs(runs)) == 1
    runs.append(make("D", recipe={"weight_decay": 0.001}))  # not searched, but another recipe
    assert len(group_runs(runs)) == 2


def test_effort_is_a_column_and_rows_of_unequal_effort_carry_a_note(make):
    equal = [make("A", effort=EFFORT), make("B", effort=EFFORT)]
    (group,) = group_runs(equal)
    frame = group_frame(group, name_detectors(equal))
    assert list(frame["trials"]) == [8, 8] and list(frame["tuning_images"]) == [6000, 6000]
    assert {"trials", "tuning_images"} <= {column.key for column in columns(frame)}
    assert not [text for text in notes(equal, name_detectors(equal)) if "effort" in text]

    runs = [*equal, make("C")]
    said = notes(runs, name_detectors(runs))
    unequal = "the rows of this table had unequal effort"
    assert said[f"tuned by 8 trials of 1,500 images: {unequal}"] == "A (seed 0), B (seed 0)"
    assert said[f"not tuned: {unequal}"] == "C (seed 0)"
    (group,) = group_runs([runs[2]])
    assert "trials" not in [
        column.key for column in columns(group_frame(group, name_detectors(runs)))
    ]


def test_a_tuned_run_is_no_seed_of_one_that_is_not(make):
    runs = [make("A"), make("A", seed=1, effort=EFFORT), make("A", seed=2, effort=EFFORT)]
    assert list(name_detectors(runs).values()) == [
        "A (tuned=n/a)",
        *["A (tuned=8 trials of 1,500 images)"] * 2,
    ]


def test_minutes_are_another_kind_of_budget(make):
    runs = [make("A"), make("B", recipe={"minutes": 10.0}), make("C", recipe={"minutes": 10.0})]
    for run, seen in zip(runs, (4000, 5000, 7000), strict=True):
        run.status["images_seen"] = seen
    runs[2].metrics["fingerprint"]["images_seen"] = None
    tables = group_runs(runs)
    assert [len(table.runs) for table in tables] == [2, 1]
    assert differences(tables)["accuracy.budget"] == ["10 minutes", "images"]
    frame = concat([group_frame(table, name_detectors(runs), i) for i, table in enumerate(tables)])
    assert list(frame["budget"]) == ["10 minutes", "10 minutes", "images"]
    said = [text for text in notes(tables[0].runs, name_detectors(runs)) if "minutes" in text]
    assert "trained for 10 minutes, in which it saw 7,000 images: another machine" in said[1]
    assert not [text for text in notes(tables[1].runs, name_detectors(runs)) if "minutes" in text]


@pytest.mark.parametrize(
    "content",
    ["[", "[]", '{"trials": 3}', '{"trials": [{"AP": ["x"]}, {"AP": [2]}, {"AP": []}, 4]}'],
)
def test_a_damaged_tune_json_is_no_trials(make, content):
    run = make("A", effort=EFFORT)
    (run.path / "tune.json").write_text(content)
    assert effort.trial_scores(run) == []


def test_the_scores_of_trials_are_those_at_the_first_rung(make):
    run = make("A", effort=EFFORT)
    trials = [{"AP": [0.1, 0.3]}, {"AP": [0.2]}, {"AP": [0.0], "error": "NonFiniteLoss"}]
    (run.path / "tune.json").write_text(json.dumps({"trials": trials}))
    assert effort.trial_scores(run) == [0.1, 0.2, 0.0]
    assert effort.effort_of(run) == (8, 1500, 6000)
    assert effort.effort_of(make("B")) is None
    assert effort.effort_of(make("C", effort={"trials": "many"})) is None
