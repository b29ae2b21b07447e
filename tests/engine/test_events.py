"""TensorBoard's files hold what the CSV files hold, however often a training was cut off."""

from __future__ import annotations

import csv
import sys
from contextlib import suppress
from pathlib import Path

import pytest

import detzoo
from detzoo.engine.status import Paused
from detzoo.engine.train import train
from engine.tiny import FakeBatches, recipe, score, tiny

pytest.importorskip("tensorboard")


def scalars(run: Path) -> dict[str, dict[int, float]]:
    """name -> images seen -> value, as TensorBoard reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run / "tensorboard"))
    found.Reload()
    tags = found.Tags()["scalars"]
    assert all(len({e.step for e in found.Scalars(tag)}) == len(found.Scalars(tag)) for tag in tags)
    return {tag: {event.step: event.value for event in found.Scalars(tag)} for tag in tags}


def column(file: Path, name: str) -> dict[int, float]:
    with open(file, newline="") as opened:
        return {int(row["images_seen"]): float(row[name]) for row in csv.DictReader(opened)}


def part(run: Path, until: int | None, tensorboard: bool = True) -> None:
    """Train, or resume, until a number of 48 images are seen."""
    how = {"seed": 3, "validate": score, "progress": False, "tensorboard": tensorboard}
    with suppress(Paused):
        train(tiny(), FakeBatches(12), recipe(12), run, until=until, **how)


@pytest.mark.parametrize("first", [True, False], ids=["from the start", "from the middle"])
def test_events_are_the_rows_whatever_happened_on_the_way(tmp_path: Path, first: bool) -> None:
    part(tmp_path, 20, tensorboard=first)
    assert (tmp_path / "tensorboard").is_dir() == first
    part(tmp_path, 32)
    assert list(scalars(tmp_path)["train/loss"]) == list(range(4, 33, 4))
    part(tmp_path, None)
    found = scalars(tmp_path)
    for name in ("loss", "cls", "size", "lr"):
        assert found[f"train/{name}"] == pytest.approx(column(tmp_path / "log.csv", name))
    assert found["val/AP"] == pytest.approx(column(tmp_path / "curve.csv", "AP"))
    assert set(found) == {
        f"train/{n}" for n in ("loss", "cls", "size", "lr", "images_per_second")
    } | {
        "val/AP",
        "val/AP50",
    }
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_a_finished_training_gets_its_events_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    short = ["detector=ssd", "recipe.images_seen=8", "recipe.val_points=1", "resize.size=64"]
    short += ["backbone=resnet10t", "data.train=8", "data.val=2", "data.test=1", "data.size=64"]
    run = detzoo.train(detzoo.settings("train", *short)).path
    assert not (run / "tensorboard").exists()
    detzoo.train(detzoo.settings("train", *short, "runtime.tensorboard=true"))
    assert scalars(run)["train/loss"] == pytest.approx(column(run / "log.csv", "loss"))


def test_without_tensorboard_one_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    settings = detzoo.settings("train", "runtime.tensorboard=true", f"root={tmp_path}")
    with pytest.raises(ImportError, match=r"pip install 'detzoo\[tensorboard\]'"):
        detzoo.train(settings)
    assert not list(tmp_path.iterdir())
