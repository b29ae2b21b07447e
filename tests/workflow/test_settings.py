"""Which directory a run gets, which directories a setting names, when a run is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from detzoo.data import CheckResult
from detzoo.data.dataset import Problem
from detzoo.engine import status
from detzoo.files import read_json, write_json
from detzoo.workflow import settings as workflow_settings
from detzoo.workflow.images import find_images
from detzoo.workflow.select import select, select_one
from detzoo.workflow.settings import directory, runtime, trained, write_check
from detzoo.workflow.stages import train_run


def settings(**changes: Any) -> dict[str, Any]:
    """A run's settings; changes: part__key=value."""
    base: dict[str, Any] = {
        "label": "torchvision/faster_rcnn",
        "name": "mine",
        "seed": 0,
        "detector": {"_target_": "detzoo.detectors.TorchvisionDetector", "num_classes": 3},
        "data": {"_target_": "detzoo.data.Coco", "root": "/a", "holdout_seed": 0},
        "recipe": {"lr": 0.1, "images_seen": 100},
        "runtime": {"device": "cpu", "threads": 1, "workers": 0, "cache_mb": 10},
        "train_hash": "abc",
    }
    for key, value in changes.items():
        part, _, name = key.partition("__")
        if name:
            base[part] = {**base[part], name: value}
        else:
            base[part] = value
    return base


def test_the_directory_is_root_name_label_hash() -> None:
    path = directory(settings(), "runs")
    assert path.parent == Path("runs/mine")
    label, digest = path.name.rsplit("-", 1)
    assert label == "torchvision-faster_rcnn"
    assert len(digest) == 8 and int(digest, 16) >= 0


@pytest.mark.parametrize(
    "change",
    [
        {"runtime__threads": 2},
        {"runtime__workers": 2},
        {"runtime__cache_mb": 0},
        {"data__root": "/b"},
        {"name": "other"},
    ],
    ids=str,
)
def test_what_changes_no_result_changes_no_hash(change: dict[str, Any]) -> None:
    other = directory(settings(**change), "elsewhere")
    assert other.name == directory(settings(), "runs").name


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"recipe__lr": 0.2},
        {"runtime__device": "cuda"},
        {"data__holdout_seed": 1},
        {"detector__num_classes": 4},
        {"train_hash": "abd"},
    ],
    ids=str,
)
def test_what_changes_the_result_changes_the_hash(change: dict[str, Any]) -> None:
    assert directory(settings(**change), "runs") != directory(settings(), "runs")


@pytest.mark.parametrize("label", ["../../etc", "a/../b", "..", "/abs", ""])
def test_a_label_never_leaves_the_root(label: str) -> None:
    path = directory(settings(label=label), "runs")
    assert path.parent == Path("runs/mine") and ".." not in path.parts


def test_auto_is_replaced_and_threads_are_set() -> None:
    before = torch.get_num_threads()
    try:
        wanted = {"device": "cpu", "precision": "auto", "channels_last": "auto", "threads": 2}
        found = runtime({**wanted, "workers": 0})
        assert found["precision"] in ("fp32", "bf16") and found["channels_last"] in (True, False)
        assert found["threads"] == torch.get_num_threads() == 2 and found["workers"] == 0
        assert runtime({**wanted, "threads": None})["threads"] == workflow_settings.DEFAULT_THREADS
    finally:
        torch.set_num_threads(before)


def test_several_processes_are_another_run_and_one_is_the_same_as_ever(monkeypatch) -> None:
    wanted = {"device": "cpu", "precision": "fp32", "channels_last": False, "threads": 1}
    alone = runtime({**wanted, "sync_batch_norm": True})
    assert alone == wanted, "runs of before keep their directories"
    monkeypatch.setattr(workflow_settings.distributed, "processes", lambda: 2)
    several = runtime({**wanted, "sync_batch_norm": True})
    assert several == {**wanted, "sync_batch_norm": True, "processes": 2}


def test_a_run_that_another_process_trains_is_left_alone(tmp_path: Path) -> None:
    with status.stage(tmp_path, "train"):
        with pytest.raises(ValueError, match=r"is being trained already, by process \d+"):
            train_run({}, tmp_path)
    assert status.read(tmp_path)["state"] == "done"


@pytest.mark.parametrize(
    ("stage", "state", "answer"),
    [
        ("train", "running", False),
        ("train", "failed", False),
        ("train", "interrupted", False),
        ("train", "done", True),
        ("evaluate", "failed", True),
        ("speed", "interrupted", True),
    ],
)
def test_when_a_run_is_trained(stage: str, state: str, answer: bool, tmp_path: Path) -> None:
    assert not trained(tmp_path)
    status.update(tmp_path, stage=stage, state=state)
    assert trained(tmp_path) is answer


@pytest.fixture
def some_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("mine/a-00000001", "mine/b-00000002", "other/a-00000003"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.yaml").write_text("label: a\n")
    (tmp_path / "runs" / "mine" / "empty").mkdir()
    (tmp_path / "runs" / "mine" / "multirun.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("runs/mine", ["mine/a-00000001", "mine/b-00000002"]),
        (["runs/mine/b-00000002", "runs/other"], ["mine/b-00000002", "other/a-00000003"]),
        ("runs/*/a-*", ["mine/a-00000001", "other/a-00000003"]),
        ("runs/mine/a-00000001", ["mine/a-00000001"]),
    ],
)
def test_runs_are_named_by_path_folder_or_pattern(
    wanted: str | list[str], found: list[str], some_runs: Path
) -> None:
    assert select(wanted) == [Path("runs") / name for name in found]
    absolute = [
        str(some_runs.parent / w) for w in ([wanted] if isinstance(wanted, str) else wanted)
    ]
    assert select(absolute) == [some_runs / name for name in found]


def test_the_beginning_of_a_path_names_the_runs_of_one_detector(some_runs: Path) -> None:
    (some_runs / "mine" / "a-00000004").mkdir()
    (some_runs / "mine" / "a-00000004" / "config.yaml").write_text("label: a\n")
    (some_runs / "mine" / "bc-00000005").mkdir()
    (some_runs / "mine" / "bc-00000005" / "config.yaml").write_text("label: bc\n")
    assert [path.name for path in select("runs/mine/a")] == ["a-00000001", "a-00000004"]
    assert [path.name for path in select("runs/mine/b-")] == ["b-00000002"]
    assert [path.name for path in select("runs/oth")] == ["a-00000003"]
    with pytest.raises(
        ValueError, match=r"fits several: b-00000002, bc-00000005; name one, or all"
    ):
        select("runs/mine/b")
    assert len(select("runs/mine/b*")) == 2
    with pytest.raises(ValueError, match=r"runs/mine/d; runs/mine has a-00000001, a-0"):
        select("runs/mine/d")
    with pytest.raises(ValueError, match=r"runs/min0e; runs has mine$"):
        select("runs/min0e")


@pytest.mark.parametrize("name", ["a[1]", "it's", "*", "a=b, c", "写真"])
def test_what_is_there_is_no_pattern(name: str, tmp_path: Path) -> None:
    run = tmp_path / name / "a-1"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("label: a\n")
    assert select(str(tmp_path / name)) == [run] == select(str(tmp_path / name / "a*"))
    assert select_one(str(tmp_path / name / "a")) == run


def test_of_several_runs_the_best_on_val_is_one(some_runs: Path, capsys) -> None:
    with pytest.raises(
        ValueError, match="names 2 runs and none was scored on val; name one of a-0"
    ):
        select_one("runs/mine")
    for name, score in (("a-00000001", 0.5), ("b-00000002", 0.3)):
        rows = f"images_seen,seconds,AP,AP50\n8,1,0.9,0.9\n16,2,{score},0.9\n"
        (some_runs / "mine" / name / "curve.csv").write_text(rows)
    assert select_one("runs/mine").name == "a-00000001"
    assert "the best of 2 on val, AP 0.500" in capsys.readouterr().out
    write_json(some_runs / "mine" / "b-00000002" / "metrics-val.json", {"AP": 0.6})
    assert select_one("runs/mine/*").name == "b-00000002"
    assert select_one("runs/other").name == "a-00000003"


@pytest.mark.parametrize("wanted", ["runs/nothing", [], "runs/mine/empty", "runs/*/z-*"])
def test_no_run_is_an_error(wanted: str | list[str], some_runs: Path) -> None:
    with pytest.raises(ValueError, match="no run directory"):
        select(wanted)


def test_images_are_named_by_path_folder_or_pattern(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.JPG", "a.png", "notes.txt"):
        Path(name).write_text("")
    assert find_images(".") == [Path("a.png"), Path("b.JPG")]
    assert find_images(["b.JPG", "*.png"]) == [Path("b.JPG"), Path("a.png")]
    with pytest.raises(ValueError, match=r"no file or folder c\.jpg"):
        find_images(["c.jpg"])
    with pytest.raises(ValueError, match="no images"):
        find_images([])


def test_what_check_found_is_kept_for_the_report(tmp_path: Path) -> None:
    problems = [
        Problem("warning", "empty class", f"mine {split}", "dog has no boxes", "cannot be learnt")
        for split in ("train", "val")
    ]
    statistics = {"train": {"images": 4, "boxes": 9}}
    write_check(CheckResult("mine", "/data", ("cat", "dog"), statistics, problems), tmp_path)
    kept = read_json(tmp_path / "data.json")
    assert kept["splits"] == statistics and kept["warnings"] == 2 and "problems" not in kept
    (kind,) = kept["kinds"]
    assert (kind["number"], kind["where"], kind["severity"]) == (2, "mine train", "warning")
