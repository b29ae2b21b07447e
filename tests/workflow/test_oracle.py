from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

import detzoo
from detzoo.data import Letterbox, Shapes
from detzoo.engine.precision import Mode
from detzoo.engine.predict import predict_dataset
from detzoo.files import write_json
from detzoo.metrics import coco
from detzoo.workflow.oracle import rescore, scoring_mode


@pytest.mark.parametrize("name", ["centernet", "cornernet"])
def test_a_detector_of_truths_alone_finds_everything(name: str, tmp_path: Path) -> None:
    """The ideal-output round trip through a data set: resized, padded, decoded and scored."""
    dataset = Shapes(tmp_path, size=64, train=4, val=4, test=12, max_objects=5).read("test")
    torch.manual_seed(0)
    detector = detzoo.create_detector(name, num_classes=6, backbone="test_resnet", head_channels=8)
    detector.resize = Letterbox((96, 128))
    rows = rescore(detector, dataset)
    assert [len(row["true"]) for row in rows] == [0, 1, 2, 3]
    assert rows[0]["AP"] < 0.1
    assert rows[-1]["AP"] > 0.9 and rows[-1]["AP50"] > 0.95


def test_what_is_as_predicted_scores_as_it_was_scored(tmp_path: Path) -> None:
    """In the precision of metrics.json, and by the very same pass."""
    dataset = Shapes(tmp_path, size=64, train=4, val=4, test=8, max_objects=3).read("test")
    torch.manual_seed(0)
    detector = detzoo.create_detector("cornernet", num_classes=6, backbone="test_resnet")
    detector.resize = Letterbox(64)
    seen = []
    detector.head.register_forward_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    mode = Mode("bf16", channels_last=True)
    results = predict_dataset(
        detector, dataset, resize=detector.resize, progress=False, **asdict(mode)
    )
    rows = rescore(detector, dataset, 8, mode)
    assert rows[0]["AP"] == coco.evaluate(dataset.coco(), results)["AP"]
    assert seen and all(seen)


def test_the_mode_is_that_of_the_scoring_else_of_the_training(tmp_path: Path) -> None:
    runtime = {"device": "cpu", "precision": "fp32", "channels_last": False, "threads": 1}
    settings = {"runtime": runtime}
    assert scoring_mode(tmp_path, settings, {}) == ("cpu", Mode("fp32"))
    scored = {"device": "cpu", "precision": "bf16", "channels_last": True, "compile": True}
    write_json(tmp_path / "metrics.json", {"fingerprint": scored})
    assert scoring_mode(tmp_path, settings, {}) == ("cpu", Mode("bf16", True, True))
    write_json(tmp_path / "metrics.json", {"fingerprint": scored | {"device": "cuda:9"}})
    with pytest.raises(ValueError, match="device=cpu"):
        scoring_mode(tmp_path, settings, {})
    assert scoring_mode(tmp_path, settings, {"device": "cpu"})[0] == "cpu"
