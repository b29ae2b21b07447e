"""Equal searches: what they look at, and what they print of their cost."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import detzoo
from detzoo.data import Dataset
from detzoo.detector import Detector
from detzoo.workflow import stages, tuning_cost
from detzoo.workflow.settings import settings_of
from detzoo.workflow.tuning import task_of

pytest.importorskip("optuna")

TINY = ("data.size=64", "data.min_size=8", "data.train=6", "data.val=3", "data.test=5")
TINY += ("resize.size=64", "backbone=resnet10t", "recipe.images_seen=8", "recipe.val_points=1")
TINY += ("jobs=1", "evaluate.resamples=5", "tune.rungs=1", "tune.images=8", "runtime.threads=1")
OPENED: list[str] = []
LISTENS = [False]


def listen(event: str, arguments: tuple[Any, ...]) -> None:
    """Of every file that Python opens. There is no way to remove an audit hook."""
    if LISTENS[0] and event == "open":
        OPENED.append(str(arguments[0]))


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """The files that are opened from here on."""
    if not getattr(listen, "added", False):
        sys.addaudithook(listen)
        listen.added = True  # type: ignore[attr-defined]
    OPENED.clear()
    LISTENS[0] = True
    yield OPENED
    LISTENS[0] = False


def test_a_search_opens_no_image_of_the_test_split_and_its_winner_does_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    searched: dict[str, list[str]] = {}
    scored: list[str] = []
    tune, bench = (import_module(f"detzoo.workflow.{name}") for name in ("tune", "bench"))
    tune_all, predict = tune.tune_all, stages.predict_dataset
    assert bench.tune_all is tune_all  # one search for both verbs

    def spied(*arguments: Any) -> Any:
        opened.clear()
        found = tune_all(*arguments)
        searched.update(files=list(opened), scored=list(scored))
        opened.clear()
        return found

    def predicted(detector: Detector, dataset: Dataset, **options: Any) -> list[dict[str, Any]]:
        scored.append(dataset.split)
        return predict(detector, dataset, **options)

    monkeypatch.setattr(tune, "tune_all", spied)
    monkeypatch.setattr(stages, "predict_dataset", predicted)
    detzoo.tune(detzoo.settings("tune", *TINY, "detectors=[centernet]", "tune.trials=2"))

    def splits(files: list[str]) -> set[str]:
        return {Path(name).parent.name for name in files if name.endswith(".jpg")}

    assert splits(searched["files"]) == {"train", "val"}
    assert searched["scored"] == ["val", "val"]
    assert "test" in splits(opened) and scored.count("test") == 1


def test_a_cost_that_is_not_known_has_its_reason_and_the_others_are_summed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    train_run = tuning_cost.train_run

    def fails(settings: dict[str, Any], path: Path) -> None:
        if settings["label"] == "ssd":
            raise RuntimeError("out of memory\nmore")
        train_run(settings, path)

    monkeypatch.setattr(tuning_cost, "train_run", fails)
    given = [text for text in TINY if not text.startswith("recipe.val_points")]
    given += ["recipe.patience=1", "recipe.val_points=2", "detectors=[ssd,centernet]"]
    settings = detzoo.settings("tune", *given)
    runs = [settings_of(training) for training in settings["trainings"]]
    tasks = [task_of(run, settings["tune"], tmp_path) for run in runs]
    assert tuning_cost.print_costs(tasks, runs, tuning_cost.estimates(tasks, 1), 1) is None
    said = capsys.readouterr().out
    failed = "ssd: its cost is not known, for its first steps failed: RuntimeError: out of memory\n"
    assert f"  {failed}" in said and "?" not in said
    assert "  centernet: 0:" in said and "1 at once, without ssd, of which tuning 0:" in said
