"""detzoo speed, on images so small and few that it takes seconds; no time is asserted."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from detzoo.cli import main
from detzoo.report.load import runs as report_runs
from detzoo.report.load.runs import OBJECT
from detzoo.workflow import detections, stages, timing
from detzoo.workflow.select import select
from detzoo.workflow.timing import change_size

pytestmark = pytest.mark.slow

SMALL = [
    *("data.size=64", "data.min_size=8", "data.train=24", "data.val=6", "data.test=10"),
    *("resize.size=64", "backbone=resnet10t", "channels=16", "head_width=16"),
    *("recipe.images_seen=16", "recipe.batch_size=8", "recipe.val_points=1"),
    *("runtime.threads=1", "runtime.device=cpu", "runtime.precision=fp32"),
]
QUICK = ["rounds=2", "seconds=0.1", "max_batch=1", "evaluate.resamples=5", "+lock=false"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one trained run in runs/default."""
    path = tmp_path_factory.mktemp("speed")
    before = Path.cwd()
    os.chdir(path)
    try:
        assert main(["train", *SMALL, "detector=faster_rcnn"]) == 0
    finally:
        os.chdir(before)
    return path


@pytest.fixture(autouse=True)
def there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """The objects that were timed and those that were scored, and how."""
    found: dict[str, list[Any]] = {"timed": [], "scored": []}
    measure, predict = timing.measure, stages.predict_dataset

    def timing_measure(models: dict, *args: Any, **options: Any) -> dict:
        found["timed"] += models.values()
        return measure(models, *args, **options)

    def predict_dataset(detector: Any, *args: Any, **options: Any) -> list:
        found["scored"].append(detector)
        return predict(detector, *args, **options)

    # a few passes on any machine: the result must not depend on its load
    monkeypatch.setattr(report_runs, "LEAST_PASSES", 1)
    monkeypatch.setattr(report_runs, "BUSY", 1.0)
    monkeypatch.setattr(timing, "measure", timing_measure)
    for module in (stages, detections):
        monkeypatch.setattr(module, "predict_dataset", predict_dataset)
    return found


def json_of(path: Path) -> dict:
    return json.loads(path.read_text())


def test_the_object_that_was_timed_is_scored_and_no_other(
    seen: dict[str, list[Any]],
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (run,) = select("runs/default")
    assert main(["speed", *QUICK]) == 0  # it was never scored
    assert len(seen["timed"]) == 1 and seen["scored"] == 2 * seen["timed"]  # val and test
    metrics, speed = json_of(run / "metrics.json"), json_of(run / "speed.json")
    for key in OBJECT:
        assert metrics["fingerprint"].get(key) == speed["fingerprint"].get(key)
    assert speed["fingerprint"]["precision"] == "fp32"
    for key in ("dataset_hash", "split", "images_hash", "resize", "score_threshold", "max_dets"):
        assert speed["fingerprint"][key] is not None
    for key in ("recipe", "images_seen", "seed", "batch", "device", "precision", "compile"):
        assert key in speed["fingerprint"] and key in metrics["fingerprint"]
    said = capsys.readouterr().out
    assert (
        "scoring what was timed (fp32, channels last)" in said
        and "overhead" in said
        and "of it rpn" in said
    )
    assert speed["inner"]["backbone"] > 0 and speed["gmacs"] > 0

    seen["scored"].clear()
    assert main(["speed", *QUICK]) == 0  # metrics.json is of this object already
    assert seen["scored"] == [] and len(seen["timed"]) == 2

    called: list[int] = []

    def fake_compile(function: Any) -> Any:
        called.append(0)

        def compiled(*args: Any) -> Any:
            called[-1] += 1
            return function(*args)

        return compiled

    monkeypatch.setattr(torch, "compile", fake_compile)
    assert main(["speed", *QUICK, "compile=true", "precision=bf16", "size=32"]) == 0
    assert seen["scored"] == 2 * seen["timed"][2:] and len(called) == 1, (
        "compiled once, used by both"
    )
    metrics, speed = json_of(run / "metrics.json"), json_of(run / "speed.json")
    assert called[0] > speed["n"]
    for found in (metrics["fingerprint"], speed["fingerprint"]):
        assert (found["compile"], found["precision"]) == (True, "bf16")
        assert found["resize"]["size"] == [32, 32]
    assert speed["inner"] is None and speed["input"] == [1, 3, 32, 32]

    assert main(["evaluate", "resamples=5"]) == 0  # as it was trained: no longer what was timed
    said = capsys.readouterr().out
    assert "its milliseconds are left out" in said and "precision fp32 and bf16" in said


def test_a_bench_times_again_what_was_timed_otherwise(seen: dict[str, list[Any]]) -> None:
    runs = select("runs/default")
    main(["speed", *QUICK, "precision=bf16"])
    wanted = {"again": False, "rounds": 1, "max_batch": 1, "lock": False}
    wanted["evaluate"] = {"resamples": 5}
    for times in (2, 2):  # as trained; then it stands
        assert timing.time_runs(runs, **wanted) == {}
        assert len(seen["timed"]) == times
    assert json_of(runs[0] / "metrics.json")["fingerprint"]["precision"] == "fp32"


def test_bare_models_need_no_run(capsys: pytest.CaptureFixture) -> None:
    asked = ["detectors=[centernet,torchvision/faster_rcnn]", "reference=torchvision/faster_rcnn"]
    assert main(["speed", *SMALL, *QUICK, "weights=none", *asked]) == 0
    said = capsys.readouterr().out
    ours, peer = sorted(Path("runs/bare").iterdir())
    assert ours.name.startswith("centernet") and peer.name.startswith("torchvision-faster_rcnn")
    assert yaml.safe_load((ours / "config.yaml").read_text())["weights"] == "none"
    assert json_of(ours / "speed.json")["against"]["reference"] == peer.name
    assert "times: against torchvision/faster_rcnn" in said and "n/a" in said
    assert "note: " in said and "random weights, never trained" in said
    assert not (ours / "metrics.json").exists() and not (ours / "checkpoint.pt").exists()
    first = json_of(ours / "speed.json")["fingerprint"]["weights_hash"]
    assert main(["speed", *SMALL, *QUICK, "weights=none", "detector=centernet"]) == 0
    again = json_of(ours / "speed.json")["fingerprint"]["weights_hash"]
    assert again == first, "drawn by the seed, so the same at every call"


def test_a_reference_that_fails_is_told_and_the_others_are_timed(
    capsys: pytest.CaptureFixture,
) -> None:
    # At 64 px torchvision's FCOS has a map of one cell, which its group norm refuses.
    asked = ["detectors=[centernet,torchvision/fcos]", "reference=torchvision/fcos", "channels=32"]
    assert main(["speed", *SMALL, *QUICK, "weights=none", "name=failing", *asked]) == 1
    said = capsys.readouterr()
    assert "ValueError: Expected more than 1 value" in said.err and "times: against" in said.out


@pytest.mark.parametrize("study", ["content", "batch"])
def test_a_study_is_a_table_and_a_file(study: str, capsys: pytest.CaptureFixture) -> None:
    (run,) = select("runs/default")
    asked = ["batches=[1,3]"] if study == "batch" else []
    assert main(["speed", *QUICK, f"study={study}", *asked]) == 0
    found, said = json_of(run / f"study_{study}.json"), capsys.readouterr().out
    assert found["fingerprint"]["dataset_hash"] and found["session"]
    if study == "batch":
        assert [row["batch"] for row in found["rows"]] == [1, 3] and "ms a batch" in said
    else:
        assert set(found["by"]) == {"boxes", "proposals", "shape"} and "proposals" in said
        assert found["by"]["shape"][0]["shape"] == [64, 64]


def test_every_precision_is_an_object_that_is_timed_and_scored(
    seen: dict[str, list[Any]], capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = select("runs/default")
    before = (run / "speed.json").read_bytes() if (run / "speed.json").exists() else None
    assert main(["speed", *QUICK, "study=precision"]) == 0
    rows = json_of(run / "study_precision.json")["rows"]
    assert [row["precision"] for row in rows] == ["fp32", "bf16"]  # no fp16 on a CPU
    assert rows[0]["kept"] in (1.0, None) and rows[0]["against"]["ratio"] == 1.0
    assert [row["fingerprint"]["precision"] for row in rows] == ["fp32", "bf16"]
    assert len(seen["scored"]) == 2 and seen["scored"][0] is not seen["scored"][1]
    assert "times the first" in capsys.readouterr().out
    after = (run / "speed.json").read_bytes() if (run / "speed.json").exists() else None
    assert after == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["study=contents"], "study is 'contents'; it must be one of content, batch, precision"),
        (["weights=COCO"], "weights is 'COCO'; it must be none or left out"),
        (["study=precision", "precisions=[fp16]"], "fp16 needs CUDA"),
        (["precisions=[bf16]"], "is of study=precision"),
        (["study=precision", "precision=bf16"], "precisions=[...] names them"),
        (["precision=fp8"], "precision is 'fp8'"),
        (["device=cuda:99"], "CUDA devices here"),
        (["reference=nobody"], "reference is 'nobody'; it must be one of the rows: faster_rcnn"),
        (["batches=[0]"], "batches is 0"),
    ],
)
def test_bad_wishes_are_named(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(["speed", *QUICK, *arguments]) == 1
    assert said in capsys.readouterr().err


def test_other_pixels_keep_the_rule() -> None:
    letterbox = {"_target_": "detzoo.data.Letterbox", "size": 96}
    shortest = {"_target_": "detzoo.data.ShortestSide", "shortest": 800, "longest": 1333}
    assert change_size(letterbox, None).describe()["size"] == [96, 96]
    assert change_size(letterbox, [64, 32]).describe()["size"] == [64, 32]
    assert change_size(shortest, 400).describe() == {
        **{"kind": "shortest_side", "shortest": 400, "longest": 666},
    }
    with pytest.raises(ValueError, match="one number"):
        change_size(shortest, [64, 32])
