"""The Python face."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import detzoo
from detzoo.engine import checkpoint
from detzoo.moved import MOVED
from detzoo.nn import Backbone


def test_public_names_are_there_and_nothing_else_is_made_up() -> None:
    for name in detzoo.__all__:
        assert getattr(detzoo, name) is not None
        assert name in dir(detzoo)
    with pytest.raises(AttributeError, match="no attribute 'detector_zoo'"):
        _ = detzoo.detector_zoo


def test_modules_that_moved_name_their_new_place() -> None:
    for old, new in MOVED.items():
        assert find_spec(f"detzoo.{new}")
        with pytest.raises(ModuleNotFoundError, match=f"{old} has moved to detzoo.{new}"):
            import_module(f"detzoo.{old}")


def test_every_name_makes_a_detector_that_predicts() -> None:
    assert {"faster_rcnn", "retinanet", "centernet"} <= set(detzoo.list_detectors())
    image = np.full((40, 60, 3), 127, np.uint8)
    model = detzoo.create_detector("retinanet", num_classes=3, backbone="resnet10t")
    model.resize = detzoo.detector.Letterbox(64)
    (found,) = model.predict([image], score_threshold=0.0)
    assert isinstance(model, detzoo.Detector) and not model.training
    assert found.boxes.shape == (len(found), 4)
    assert (found.boxes[:, 2] <= 60).all() and (found.boxes[:, 3] <= 40).all()


def test_arguments_reach_the_detector() -> None:
    backbone = Backbone("resnet10t")
    model = detzoo.create_detector("centernet", num_classes=2, backbone=backbone, max_detections=7)
    assert model.backbone is backbone and model.max_detections == 7 and model.num_classes == 2


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("retina", {"num_classes": 3}, "no detector 'retina'; choose one of centernet"),
        ("retinanet", {}, "how many classes"),
        ("retinanet", {"num_classes": 3, "backbone": "resnet181"}, "timm does not know"),
        ("centernet", {"weights": "torchvision/COCO_V1"}, "not centernet"),
    ],
)
def test_what_cannot_be_made_says_why(name: str, arguments: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        detzoo.create_detector(name, **arguments)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with a CenterNet of known weights."""
    backbone = {"_target_": "detzoo.nn.Backbone", "name": "resnet10t"}
    torch.manual_seed(0)
    model = detzoo.create_detector("centernet", num_classes=2, backbone="resnet10t")
    settings = {
        "label": "centernet",
        "detector": {
            "_target_": "detzoo.detectors.CenterNet",
            "num_classes": 2,
            "backbone": {**backbone, "pretrained": True, "weights": "gone.pth"},
        },
        "resize": {"_target_": "detzoo.data.Letterbox", "size": 64},
        "classes": ["cat", "dog"],
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    checkpoint.save(tmp_path, {"model": model.state_dict(), "ema": None})
    model.resize = detzoo.detector.Letterbox(64)
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    np.save(tmp_path / "image.npy", image)
    torch.save(model.predict([image], score_threshold=0)[0].boxes, tmp_path / "boxes.pt")
    return tmp_path


def test_a_trained_detector_comes_back_whole(run: Path) -> None:
    model = detzoo.load(run)
    assert not model.training and model.class_names == ("cat", "dog")
    assert model.resize.describe()["size"] == [64, 64]
    (found,) = model.predict([np.load(run / "image.npy")], score_threshold=0)
    assert torch.equal(found.boxes, torch.load(run / "boxes.pt", weights_only=True))


def test_what_is_no_run_says_so(run: Path) -> None:
    settings = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**settings, "classes": None, "detector": {}}))
    with pytest.raises(ValueError, match="detector has no _target_"):
        detzoo.load(run)
    bad = {"_target_": "detzoo.files.write_text", "path": str(run / "hacked"), "text": ""}
    (run / "config.yaml").write_text(yaml.safe_dump({**settings, "detector": bad}))
    with pytest.raises(ValueError, match=r"config\.yaml: detector: .*refused"):
        detzoo.load(run)
    assert not (run / "hacked").exists()
    (run / "config.yaml").write_text("label: a")
    with pytest.raises(ValueError, match="lacks detector, resize, classes"):
        detzoo.load(run)
    (run / "checkpoint.pt").unlink()
    with pytest.raises(ValueError, match=r"has no checkpoint\.pt"):
        detzoo.load(run)
    (run / "config.yaml").unlink()
    with pytest.raises(ValueError, match="is no run directory"):
        detzoo.load(run)


def test_predict_takes_one_image_a_list_or_a_folder(run: Path, tmp_path: Path) -> None:
    model, image = detzoo.load(run), np.load(run / "image.npy")
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("b.png", "a.png"):
        Image.fromarray(image).save(folder / name)
    one = model.predict(image, score_threshold=0)
    assert isinstance(one, detzoo.Detections) and one.class_names == ("cat", "dog")
    assert torch.equal(one.boxes, torch.load(run / "boxes.pt", weights_only=True))
    for given in (folder / "a.png", str(folder / "a.png"), Image.fromarray(image)):
        assert torch.equal(model.predict(given, score_threshold=0).boxes, one.boxes)
    assert len(model.predict([image])) == 1 and model.predict([]) == []
    several = model.predict(folder, score_threshold=0)
    assert [found.image.name for found in several] == ["a.png", "b.png"]
    assert several[0].draw().size == (64, 48)
    with pytest.raises(TypeError, match="not int"):
        model.predict(3)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no image in the folder"):
        model.predict(tmp_path / "empty")


def test_of_a_folder_of_runs_the_best_on_val_is_loaded(run: Path, tmp_path: Path, capsys) -> None:
    sweep = tmp_path / "sweep"
    for name, ap in (("a-1", 0.2), ("b-2", 0.4), ("c-3", 0.3)):
        (sweep / name).mkdir(parents=True)
        for file in ("config.yaml", "checkpoint.pt"):
            (sweep / name / file).write_bytes((run / file).read_bytes())
        settings = yaml.safe_load((sweep / name / "config.yaml").read_text())
        settings["classes"] = [name, "dog"]
        (sweep / name / "config.yaml").write_text(yaml.safe_dump(settings))
        (sweep / name / "metrics-val.json").write_text(f'{{"AP": {ap}}}')
    assert detzoo.load(sweep).class_names == ("b-2", "dog")
    assert "the best of 3 on val, AP 0.400" in capsys.readouterr().out
