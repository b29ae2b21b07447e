"""`network` of the single-shot detectors compiles without a break and exports to ONNX."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from detzoo.api import create_detector
from detzoo.detector import Detector
from detzoo.export import Network, to_onnx
from detzoo.nn import Backbone
from detzoo.types import Frame, Images

SIZE = (64, 96)
SMALL = {
    "yolo": {"neck": "topdown", "head": "conv", "grid": None, "channels": 16},
    "yolov3": {"channels": 16},
    "ssd": {"maps": 4, "extra_channels": 16, "unpadded": 0},
    "retinanet": {"channels": 16, "convs": 1},
    "fcos": {"channels": 16, "convs": 1},
}


def make(name: str) -> Detector:
    torch.manual_seed(0)
    return create_detector(name, num_classes=3, backbone=Backbone("test_resnet"), **SMALL[name])


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_network_compiles_without_a_graph_break(name: str, pixels: torch.Tensor) -> None:
    detector = make(name)
    images = Images(pixels, [Frame(i, SIZE, SIZE) for i in range(len(pixels))])
    expected = detector.network(images)
    torch.compiler.reset()
    compiled = torch.compile(detector.network, backend="eager", fullgraph=True)
    for got, want in zip(compiled(images), expected, strict=True):
        if isinstance(want, torch.Tensor):
            torch.testing.assert_close(got, want)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolo", "ssd", "retinanet", "fcos"])
def test_onnxruntime_gives_the_same_outputs(
    name: str, pixels: torch.Tensor, tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    detector, path = make(name), tmp_path / "network.onnx"
    to_onnx(detector, path, SIZE, batch=2)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = Network(detector)(pixels)
    found = session.run(None, {"pixels": pixels.numpy()})
    assert len(found) == len(expected) >= 3
    for got, want in zip(found, expected, strict=True):
        assert got.shape == tuple(want.shape)
        assert abs(got - want.numpy()).max() <= 1e-4 * max(1.0, want.abs().max().item())


def test_a_size_that_the_network_does_not_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        to_onnx(make("retinanet"), tmp_path / "network.onnx", (64, 100))
    assert not list(tmp_path.iterdir())
