"""The search for one detector's settings: what is tried, what is stopped, who wins, and that a
kill at any moment changes none of it."""

from __future__ import annotations

import csv
import json
import math
import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from detzoo.files import read_json
from detzoo.workflow import search as searching
from detzoo.workflow import trials
from detzoo.workflow.search import Plan, folder_of, search, trial_settings, tuned
from detzoo.workflow.space import Choice, Range

pytest.importorskip("optuna")

SETTINGS = {
    "label": "tiny",
    "name": "test",
    "seed": 0,
    "detector": {"depth": 1},
    "data": {},
    "runtime": {},
    "recipe": {"images_seen": 4000, "batch_size": 4, "lr": 0.01, "val_points": 5},
}
SPACE = {"recipe.lr": Range(0.001, 0.1), "detector.kind": Choice(("a", "b"))}
PLAN = Plan(trials=8, images=160, rungs=3)


def ap_of(settings: dict, images: int) -> float:
    """A made-up score: best at a rate of 0.03 and kind b; late bloomers have a small rate."""
    rate, kind = settings["recipe"]["lr"], settings["detector"]["kind"]
    distance = abs(math.log10(rate / 0.03))
    return (1 - math.exp(-images / 80)) / (1 + distance) + 0.05 * (kind == "b")


def fake(settings: dict, path: Path, until: int) -> list[dict[str, float]]:
    """A training of a few milliseconds, which goes on where it was cut off."""
    file = path / "curve.csv"
    rows = list(csv.DictReader(file.open())) if file.exists() else []
    curve = [{key: float(row[key]) for key in row} for row in rows]
    for seen in (40, 80, 120, 160):
        if len(curve) * 40 < seen <= until:
            time.sleep(0.002)
            ap = ap_of(settings, seen)
            curve.append({"images_seen": seen, "seconds": 0.0, "AP": ap, "AP50": ap})
            temporary = file.with_suffix(".tmp")
            with temporary.open("w", newline="") as opened:
                writer = csv.DictWriter(opened, curve[0])
                writer.writeheader()
                writer.writerows(curve)
            os.replace(temporary, file)
    (path / "checkpoint.pt").write_text(str(len(curve)))
    return curve


def comparable(found: dict) -> str:
    return json.dumps(found, sort_keys=True)


def test_what_it_costs_is_known_before():
    assert PLAN.counts == [8, 4, 2]
    assert [PLAN.images_at(rung, 4) for rung in range(3)] == [40, 80, 160]
    assert PLAN.total(4) == 8 * 40 + 4 * 40 + 2 * 80
    assert Plan(8, 160, rungs=1).total(4) == 8 * 160
    assert Plan(3, 1500).counts == [3, 1, 1]
    assert [Plan(3, 1500).images_at(rung, 4) for rung in range(3)] == [376, 752, 1500]
    with pytest.raises(ValueError, match=r"tune\.images=12 are too few for tune\.rungs=3"):
        Plan(8, 12).check(4)
    for wrong in (0, True, "8", 1.5):
        with pytest.raises(ValueError, match=r"tune\.trials is"):
            Plan(wrong, 100)


def test_a_search(tmp_path):
    seen: dict[Path, list[int]] = {}

    def train(settings, path, until):
        seen.setdefault(path, []).append(until)
        return fake(settings, path, until)

    found = search(SETTINGS, tmp_path, PLAN, SPACE, train)
    assert found == read_json(tmp_path / "tune.json")
    assert [len(trial["AP"]) for trial in found["trials"]].count(3) == 2
    assert sum(sum(b - a for a, b in zip([0, *u], u, strict=False)) for u in seen.values()) == 640
    assert found["total"] == 640 and found["state"] == "done" and found["running"] is None
    first = [trial["AP"][0] for trial in found["trials"]]
    second = sorted(range(8), key=lambda n: (-first[n], n))[:4]
    assert sorted(n for n in range(8) if len(found["trials"][n]["AP"]) > 1) == sorted(second)
    finals = {n: t["AP"][2] for n, t in enumerate(found["trials"]) if len(t["AP"]) == 3}
    assert found["winner"] == max(finals, key=finals.get)
    assert {trial["state"] for trial in found["trials"]} == {"stopped", "whole"}
    for trial in found["trials"]:
        curve = trial["curve"]
        assert [point["images_seen"] for point in curve][-1] == (40, 80, 160)[len(trial["AP"]) - 1]
        assert not (tmp_path / trial["folder"] / "checkpoint.pt").exists()
    assert found["trials"][0]["values"]["recipe.lr"] == 0.01  # the recipe's own rate
    assert all(0.001 <= trial["values"]["recipe.lr"] <= 0.1 for trial in found["trials"])

    def never(*_):
        raise AssertionError("a search that is over trains nothing")

    assert search(SETTINGS, tmp_path, PLAN, SPACE, never) == found


def test_the_winner_s_training_has_its_values_and_says_what_it_cost(tmp_path):
    found = search(SETTINGS, tmp_path, PLAN, SPACE, fake)
    values = found["trials"][found["winner"]]["values"]
    settings = tuned(SETTINGS, found)
    assert settings["recipe"] == {**SETTINGS["recipe"], "lr": values["recipe.lr"]}
    assert settings["detector"]["kind"] == values["detector.kind"]
    effort = settings["effort"]
    assert (effort["trials"], effort["images"], effort["total"]) == (8, 160, 640)
    assert effort["defaults"] == {"recipe.lr": 0.01, "detector.kind": None}
    assert SETTINGS["recipe"]["lr"] == 0.01 and "effort" not in SETTINGS


def test_a_trial_is_compared_by_images_whatever_the_winner_s_budget_is():
    settings = {**SETTINGS, "recipe": {**SETTINGS["recipe"], "minutes": 10.0, "patience": 2}}
    trial = trial_settings(settings, PLAN, {"recipe.lr": 0.5})
    assert trial["recipe"] == {"images_seen": 160, "batch_size": 4, "lr": 0.5, "val_points": 4}


def test_winners_of_two_budgets_are_of_one_search(tmp_path):
    def folder(plan=PLAN, space=SPACE, **recipe):
        settings = {**SETTINGS, "recipe": {**SETTINGS["recipe"], **recipe}}
        return folder_of(settings, plan, space, tmp_path)

    assert folder() == folder(images_seen=9, val_points=1) == folder(minutes=3.0)
    assert folder().parent == tmp_path / "test-tune"
    others = [folder(batch_size=8), folder(Plan(9, 160)), folder(space={"recipe.lr": Range(1, 2)})]
    assert len({folder(), *others}) == 4


def test_a_failed_trial_counts_as_nothing_found_and_stops_no_other(tmp_path):
    def train(settings, path, until):
        if settings["recipe"]["lr"] > 0.02:
            raise RuntimeError("CUDA out of memory\nmuch more")
        return fake(settings, path, until)

    found = search(SETTINGS, tmp_path, PLAN, SPACE, train)
    failed = [trial for trial in found["trials"] if trial["state"] == "failed"]
    assert failed and all(trial["AP"] == [0.0] for trial in failed)
    assert {trial["error"] for trial in failed} == {"RuntimeError: CUDA out of memory"}
    assert found["trials"][found["winner"]]["values"]["recipe.lr"] <= 0.02


def test_all_trials_failed(tmp_path):
    def train(settings, path, until):
        raise FloatingPointError("not finite at step 3")

    found = search(SETTINGS, tmp_path, PLAN, SPACE, train)
    assert (found["state"], found["winner"]) == ("failed", None)
    with pytest.raises(ValueError, match=r"no winner: all trials failed, the first: .*step 3"):
        tuned(SETTINGS, found)


def test_what_is_no_trial_s_fault_stops_the_search_which_goes_on_later(tmp_path):
    def train(settings, path, until):
        if len(list(tmp_path.glob("0*"))) > 3:
            raise OSError("no space left")
        return fake(settings, path, until)

    with pytest.raises(OSError, match="no space left"):
        search(SETTINGS, tmp_path, PLAN, SPACE, train)
    assert read_json(tmp_path / "tune.json")["state"] == "running"
    whole = search(SETTINGS, tmp_path / "whole", PLAN, SPACE, fake)
    assert comparable(search(SETTINGS, tmp_path, PLAN, SPACE, fake)) == comparable(whole)


def test_a_split_without_boxes_cannot_be_tuned_on(tmp_path):
    with pytest.raises(ValueError, match="no AP on val after 40 images"):
        search(SETTINGS, tmp_path, PLAN, SPACE, lambda *_: [])


def test_without_optuna_one_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"pip install 'detzoo\[tune\]'"):
        search(SETTINGS, tmp_path, PLAN, SPACE, fake)


def test_the_first_trials_are_spread_evenly_the_recipe_s_own_first(tmp_path):
    with trials.records(tmp_path, {"recipe.lr": Range(0.001, 0.1)}, seed=0) as history:
        rates = []
        for _ in range(4):
            values = history.propose(4)
            rates.append(values["recipe.lr"])
            history.add(values, trials.Outcome(0.1))
    assert rates == pytest.approx([0.01, 0.01 * 10**0.5, 0.01 * 10**-0.5, 0.01 * 10**-0.25], 1e-3)
    assert [trials.starts_of(n) for n in (1, 4, 6, 8, 20)] == [1, 4, 4, 4, 10]


def killed_after(seconds: float, folder: Path) -> bool:
    """Search in a separate process that gets SIGKILL; returns whether it had finished before."""
    process = multiprocessing.get_context("fork").Process(
        target=search, args=(SETTINGS, folder, PLAN, SPACE, fake)
    )
    process.start()
    process.join(seconds)
    done = process.exitcode == 0
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    return done


def test_killed_at_ten_random_moments_it_goes_on_to_the_same_winner(tmp_path):
    """Ten kills of one search, at moments spread over all that it does; then it is let end."""
    start = time.monotonic()
    whole = search(SETTINGS, tmp_path / "whole", PLAN, SPACE, fake)
    took = time.monotonic() - start
    draw = random.Random(7)
    kills = 0
    while kills < 10:
        if killed_after(draw.uniform(0.02, 0.6) * took, tmp_path / "cut"):
            (tmp_path / "cut").rename(tmp_path / f"over{kills}")  # too late: another one is killed
            assert comparable(read_json(tmp_path / f"over{kills}/tune.json")) == comparable(whole)
            continue
        kills += 1
    found = search(SETTINGS, tmp_path / "cut", PLAN, SPACE, fake)
    assert comparable(found) == comparable(whole)
    assert searching.finished(tmp_path / "cut") == found


@pytest.mark.parametrize(
    "damage",
    [
        lambda found: "{",
        lambda found: "[]",
        lambda found: json.dumps({"state": "done"}),
        lambda found: json.dumps({**found, "winner": 99}),
        lambda found: json.dumps({**found, "winner": "0"}),
        lambda found: json.dumps({**found, "trials": [{}]}),
        lambda found: json.dumps({**found, "trials": None}),
        lambda found: json.dumps({**found, "plan": 3}),
        lambda found: json.dumps({**found, "total": "many"}),
        lambda found: "[" * 100_000,
    ],
)
def test_a_damaged_tune_json_is_made_anew_from_the_records(tmp_path, damage):
    def untrained(*_):
        raise AssertionError("all trials are recorded")

    plan = Plan(trials=2, images=80, rungs=1)
    found = search(SETTINGS, tmp_path, plan, SPACE, fake)
    (tmp_path / "tune.json").write_text(damage(found))
    assert searching.finished(tmp_path) is None
    assert search(SETTINGS, tmp_path, plan, SPACE, untrained) == found
    assert read_json(tmp_path / "tune.json") == found
