from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from detzoo.data.dataset import Dataset, Sample
from detzoo.data.resize import Letterbox
from detzoo.detector import Detector
from detzoo.engine.folded import Folded
from detzoo.engine.predict import predict_dataset
from detzoo.types import Detections


class Corner(Detector):
    """Finds one box over the left upper quarter, and nothing in an image that is dark."""

    def __init__(self):
        super().__init__(num_classes=2, stride=8)
        self.conv = nn.Conv2d(3, 1, 1)

    def network(self, images, targets=None):
        assert not self.training
        self.dtype = self.conv(self.normalise(images)).dtype
        return images.pixels.float().amax((1, 2, 3))

    def losses(self, outputs, targets):
        raise NotImplementedError

    def decode(self, outputs, sizes):
        found = []
        for bright, (height, width) in zip(outputs > 50, sizes, strict=True):
            count = int(bright)
            boxes = torch.tensor([[0.0, 0, width / 2, height / 2]])[:count]
            found.append(Detections(boxes, torch.tensor([0.1])[:count], torch.tensor([1])[:count]))
        return found


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    """Three images: 60 x 90 bright, 100 x 100 dark, 33 x 20 bright."""
    samples = []
    for number, (height, width, value) in enumerate([(60, 90, 200), (100, 100, 10), (33, 20, 99)]):
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.full((height, width, 3), value, np.uint8)).save(path)
        none = torch.zeros(0)
        boxes, labels = none.reshape(0, 4), none.long()
        samples.append(Sample(10 + number, path, (height, width), boxes, labels, none.bool(), none))
    return Dataset("toy", "test", tmp_path, tuple(samples), ("a", "b"), (4, 7))


def test_what_is_scored_is_folded_as_what_is_timed(dataset):
    detector = Corner()
    options = {"batch_size": 2, "device": "cpu", "precision": "fp32", "channels_last": False}
    predict_dataset(detector, dataset, resize=Letterbox(48), progress=False, **options)
    assert isinstance(detector.conv.forward, Folded)


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_results_in_original_pixels_and_own_ids(dataset, batch_size, precision, dtype):
    detector = Corner().train()
    results = predict_dataset(
        detector,
        dataset,
        resize=Letterbox(48),
        batch_size=batch_size,
        device="cpu",
        precision=precision,
        channels_last=True,
        progress=False,
    )
    assert [r["image_id"] for r in results] == [10, 12]
    assert [r["category_id"] for r in results] == [7, 7]
    assert results[0]["bbox"] == pytest.approx([0, 0, 45, 30])
    assert results[1]["bbox"] == pytest.approx([0, 0, 10, 16.5], abs=1e-5)
    assert results[0]["score"] == float(np.float32(0.1))  # not rounded
    assert detector.training and detector.dtype == dtype


def test_a_line_now_and_then_where_there_is_no_terminal(dataset, capsys, monkeypatch):
    monkeypatch.setattr("detzoo.progress.SECONDS_BETWEEN_LINES", 0.0)
    predict_dataset(Corner(), dataset, resize=Letterbox(48), batch_size=2)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("predict: 2/3 images") and lines[0].endswith("left")
    assert lines[-1].startswith("predict: 3/3 images")
    monkeypatch.setattr("detzoo.progress.SECONDS_BETWEEN_LINES", 30.0)
    predict_dataset(Corner(), dataset, resize=Letterbox(48), batch_size=2)
    assert capsys.readouterr().err == ""


class Frozen(Corner):
    """With a norm that its owner keeps in eval mode while all else trains."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.train()
        self.norm.eval()


@pytest.mark.parametrize("how", ["predict", "predict_dataset"])
def test_every_module_s_own_mode_is_put_back(dataset, how):
    detector = Frozen()
    before = {name: module.training for name, module in detector.named_modules()}
    if how == "predict":
        detector.predict([np.full((20, 30, 3), 200, np.uint8)])
    else:
        predict_dataset(detector, dataset, resize=Letterbox(48), progress=False)
    assert {name: module.training for name, module in detector.named_modules()} == before


def test_predict_computes_in_float32_on_a_gpu_too():
    seen = []
    detector = Corner()
    detector.conv.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
    detector.predict([np.full((20, 30, 3), 200, np.uint8)])
    assert seen == [False] and torch.backends.cudnn.allow_tf32
