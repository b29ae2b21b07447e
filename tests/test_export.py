"""`network` of the single-shot detectors compiles without a break; every detector's is exported."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detzoo.api import create_detector
from detzoo.data import Letterbox, Stretch
from detzoo.detector import Detector
from detzoo.export import (
    Graph,
    _cummax,
    _program,
    calls,
    graph_file,
    replace_tensors,
    tensors,
    to_onnx,
)
from detzoo.nn import Backbone, ViT
from detzoo.runtimes import SESSIONS, ExportedNetwork, ExportedPipeline, check_precision
from detzoo.types import Frame, Images
from detzoo.workflow.export import alike

onnxruntime = pytest.importorskip("onnxruntime")

SIZE = (64, 96)
SMALL = {
    "yolo": {"neck": "topdown", "head": "conv", "grid": None, "channels": 16},
    "yolov3": {"channels": 16},
    "ssd": {"maps": 4, "extra_channels": 16, "unpadded": 0},
    "retinanet": {"channels": 16, "convs": 1},
    "fcos": {"channels": 16, "convs": 1},
}
PEER = {"channels": 32, "hidden": 32, "encoder_layers": 1, "decoder_layers": 1, "queries": 10}
REGIONS = {"channels": 16, "head_width": 16}
OTHERS = {
    "rcnn": {"crop": 32, "context": 2, "head_width": 16},
    "fast_rcnn": {"neck": "fpn", **REGIONS},
    "faster_rcnn": REGIONS,
    "cornernet": {"upsample_channels": 16, "head_channels": 16},
    "centernet": {"upsample_channels": 16, "head_channels": 16},
    "detr": {"channels": 16, "queries": 5, "encoder_layers": 1, "two_stage": True},
    "torchvision/faster_rcnn": REGIONS,
    "transformers/conditional_detr": PEER,
}
# fcos' graph is as RetinaNet's; of these others the network is a part of the whole pipeline below
EXPORTED = ["retinanet", *(name for name in OTHERS if name != "centernet")]


def make(name: str) -> Detector:
    torch.manual_seed(0)
    if name.startswith("transformers/"):
        pytest.importorskip("transformers", reason="needs the extra: detzoo[transformers]")
    backbone = ViT("test_vit") if name == "centernet" else Backbone("test_resnet")
    detector = create_detector(name, num_classes=3, backbone=backbone, **(SMALL | OTHERS)[name])
    detector.score_threshold = 0.0  # random weights are sure of nothing
    if detector.masks_padding:
        detector.resize = Stretch(SIZE)
    return detector


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
@pytest.mark.parametrize("name", EXPORTED)
def test_the_exported_network_gives_torchs_outputs_and_detections(
    name: str, tmp_path: Path
) -> None:
    """Images of a batch that do not fill it; by every runtime, of one file."""
    detector, path = make(name), tmp_path / "network.onnx"
    to_onnx(detector, path, SIZE, metadata={"classes": '["a"]'})
    images = padded(detector)
    with torch.no_grad():
        wanted = calls(detector, images)
        outputs = detector.network(images)
        expected = detector.decode(outputs, images.sizes)
        for runtime in SESSIONS if name in ("retinanet", "faster_rcnn") else ("onnxruntime",):
            pytest.importorskip(runtime)
            exported = ExportedNetwork(detector, path, SIZE, runtime=runtime)
            assert exported.parts.keys() == wanted.keys()
            for graph, (given, of_torch) in wanted.items():
                found = tensors(exported.parts[graph](*given))
                for (key, got), (_, want) in zip(found, tensors(of_torch), strict=True):
                    assert got.shape == want.shape
                    assert (got - want).abs().max() <= 1e-4 * want.abs().max(), (graph, key)
            found = detector.decode(exported(images), images.sizes)
            # an untrained CenterNet's boxes have no sides
            assert sum(map(len, expected)) > 0 or name == "centernet"
            for got, want in zip(found, expected, strict=True):
                assert len(got) == len(want) and alike(want, got) >= 0.99 * len(want)
    file = onnxruntime.InferenceSession(graph_file(path, next(iter(wanted))))
    assert file.get_modelmeta().custom_metadata_map["classes"] == '["a"]'


WHOLE = ["ssd", "retinanet", "yolo", "yolov3", "centernet", "cornernet", "detr"]


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
def test_the_whole_pipeline_gives_torchs_detections(name: str, tmp_path: Path) -> None:
    """Three images, of two sizes below the canvas, two at once; their padding is not the mean."""
    detector, path = make(name), tmp_path / "whole.onnx"
    detector.max_detections = 20  # CornerNet's soft NMS is a step for each
    to_onnx(detector, path, SIZE, batch=2, whole=True)
    images = padded(detector)
    with torch.no_grad():
        expected = detector.decode(detector.network(images), images.sizes)
    assert sum(map(len, expected)) > 0 or name == "centernet"
    for runtime in SESSIONS:
        pytest.importorskip(runtime)
        found = ExportedPipeline(path, SIZE, runtime=runtime, batch=2)(images)
        for got, want in zip(found, expected, strict=True):
            # of random weights' scores, the last may be another by a rounding
            assert len(got) == len(want) and alike(want, got) >= len(want) - 1


def padded(detector: Detector) -> Images:
    """Three images, two of them smaller than the batch, and their regions, of one none."""
    sizes = [SIZE, (SIZE[0], 60), (40, SIZE[1])]
    if isinstance(detector.resize, Stretch):
        sizes = [SIZE] * 3
    pixels = torch.randint(256, (3, 3, *SIZE), dtype=torch.uint8)
    for canvas, (height, width) in zip(pixels, sizes, strict=True):
        canvas[:, height:] = canvas[:, :, width:] = 0
    boxes = [torch.tensor([[0.0, 0, 30, 30], [5, 5, 55, 40]]), torch.zeros(0, 4)]
    boxes.append(torch.tensor([[3.0, 3, 20, 38]]))
    return Images(pixels, [Frame(i, s, s) for i, s in enumerate(sizes)], boxes)


@settings(max_examples=20, deadline=None)
@given(length=st.integers(1, 20), dim=st.integers(0, 2), seed=st.integers(0, 99))
def test_the_running_maximum_of_shifts_is_torchs(length: int, dim: int, seed: int) -> None:
    shape = [2, 3, 4]
    shape[dim] = length
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(_cummax(x, dim)[0], x.cummax(dim).values)


class Asserts(torch.nn.Module):
    """As transformers' RT-DETR and D-FINE do."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        torch._check(torch.ops.aten._is_all_true(x.cummax(1).values >= x).item())
        return (x + 1,)


def test_what_onnx_does_not_have_is_written_in_what_it_has() -> None:
    x = torch.rand(2, 3)
    program = _program(Graph("network", Asserts(), (x,), (x,)))
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    (found,) = session.run(None, {"pixels": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), x + 1)


def test_nested_outputs_are_taken_apart_and_put_together() -> None:
    class Pair(NamedTuple):
        a: torch.Tensor
        b: object

    value = Pair(torch.ones(1), {"x": [torch.ones(2), 3], "y": (None, torch.ones(3))})
    assert [name for name, _ in tensors(value)] == ["a", "b.x.0", "b.y.1"]
    again = replace_tensors(value, iter([torch.zeros(n) for n in (1, 2, 3)]))
    assert isinstance(again, Pair) and again.b["x"][1] == 3 and again.b["y"][0] is None
    assert all(not x.any() and len(x) == n for n, (_, x) in enumerate(tensors(again), 1))


@pytest.mark.parametrize("name", ["detr", "transformers/conditional_detr"])
def test_who_is_told_of_padding_says_so_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    detector = make(name)
    detector.resize = Letterbox(SIZE)
    with pytest.raises(ValueError, match=r"where each image ends.*resize=stretch"):
        to_onnx(detector, tmp_path / "network.onnx", SIZE)
    assert not list(tmp_path.iterdir())


def test_openvino_computes_in_bf16_where_asked(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("no bf16 on this processor")
    detector, path = make("retinanet"), tmp_path / "network.onnx"
    to_onnx(detector, path, SIZE)
    images = padded(detector)
    answers = {}
    for precision in ("fp32", "bf16"):
        exported = ExportedNetwork(detector, path, SIZE, runtime="openvino", precision=precision)
        assert exported.describe()["precision"] == precision
        answers[precision] = [x for _, x in tensors(exported(images))]
    apart = [
        float((exact - rounded).abs().max() / exact.abs().max())
        for exact, rounded in zip(*answers.values(), strict=True)
    ]
    assert 1e-4 < max(apart) < 0.05, apart  # bf16 has eight bits of mantissa


def test_bf16_is_refused_where_a_processor_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    openvino = SimpleNamespace(Core=lambda: SimpleNamespace(get_property=lambda *_: ["FP32"]))
    monkeypatch.setitem(sys.modules, "openvino", openvino)
    with pytest.raises(ValueError, match="bf16', which this processor does not compute in"):
        check_precision("openvino", "bf16")
    with pytest.raises(ValueError, match="onnxruntime it is one of fp32, int8"):
        check_precision("onnxruntime", "bf16")


def test_without_the_runtime_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SESSIONS:
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ImportError, match=rf"pip install 'detzoo\[{name}\]'"):
            ExportedNetwork(make("retinanet"), Path("x.onnx"), SIZE, runtime=name)
    with pytest.raises(ValueError, match="onnxruntime, openvino"):
        ExportedNetwork(make("retinanet"), Path("x.onnx"), SIZE, runtime="tensorrt")


def test_a_size_that_the_network_does_not_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        to_onnx(make("retinanet"), tmp_path / "network.onnx", (64, 100))
    assert not list(tmp_path.iterdir())
