"""Rows of exported networks: what is refused, and how detections are held against torch's."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import detzoo
from detzoo.run_config import read_run
from detzoo.types import Detections
from detzoo.workflow.contestants import contestants
from detzoo.workflow.export import alike, fixed_size
from detzoo.workflow.runtimes import MODEL, attach, exported_run


def found(*rows: tuple[float, float, int]) -> Detections:
    """(left edge, score, label) of boxes of 10 x 10."""
    boxes = torch.tensor([[x, 0.0, x + 10, 10] for x, _, _ in rows]).reshape(-1, 4)
    scores, labels = (torch.tensor([row[i] for row in rows]) for i in (1, 2))
    return Detections(boxes, scores, labels)


def test_a_detection_is_the_same_by_class_score_and_box_and_is_used_once() -> None:
    first = found((0, 0.9, 0), (0, 0.9, 0), (50, 0.5, 1))
    assert alike(first, first) == 3
    assert alike(first, first[:1]) == 1
    assert alike(first, found((0.4, 0.9005, 0), (50, 0.5, 0), (50, 0.52, 1), (51, 0.5, 1))) == 1
    assert alike(found(), first) == 0


def test_an_unknown_runtime_or_precision_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="onnxruntime, openvino"):
        exported_run(tmp_path, "tensorrt", "fp32")
    with pytest.raises(ValueError, match="onnxruntime it is one of fp32, int8"):
        exported_run(tmp_path, "onnxruntime", "bf16")
    assert not list(tmp_path.iterdir())


def test_whoever_wrote_a_config_its_exported_part_is_checked(tmp_path: Path) -> None:
    detector = torch.nn.Identity()
    assert attach(detector, tmp_path, {}) is detector
    with pytest.raises(ValueError, match="must have runtime and precision"):
        attach(detector, tmp_path, {"exported": "onnxruntime"})


def test_a_resize_of_many_sizes_is_refused() -> None:
    class Some:
        stride = 32

        class resize:
            fixed, target = False, (100, 60)

            @staticmethod
            def describe() -> dict[str, str]:
                return {"kind": "shortest_side"}

    with pytest.raises(ValueError, match=r"shortest_side.*letterbox"):
        fixed_size(Some())
    Some.resize.fixed = True
    assert fixed_size(Some()) == (128, 64)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kept run's network in ONNX Runtime, as a run directory."""
    for name in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(name)
    folder = tmp_path_factory.mktemp("exported")
    kept = Path(__file__).parents[1] / "kept" / "ssd-c60a70ce"
    run = Path(shutil.copytree(kept, folder / "ssd"))
    text = (run / "config.yaml").read_text().replace("/nowhere/squares", str(folder))
    (run / "config.yaml").write_text(text)
    return exported_run(run, "onnxruntime", "fp32")


def test_an_exported_network_is_not_explained(exported: Path) -> None:
    """It has no gradients, and beside the run itself it would be the same column twice."""
    run, cpu = exported.parent / "ssd", torch.device("cpu")
    assert [c.name for c in contestants([run, exported], cpu)] == ["ssd"]
    with pytest.raises(ValueError, match="gives no gradients: name the run that was exported"):
        contestants([exported], cpu)


def _elsewhere(model: Any) -> bytes:
    """Its first large weights in the file `weights.bin` beside it."""
    import onnx

    tensor = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    told = {"location": "weights.bin", "offset": "0", "length": str(len(tensor.raw_data))}
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in told.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return model.SerializeToString()


def _fewer(model: Any) -> bytes:
    del model.graph.output[1:]
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda model: b"", "no network that onnxruntime can compute"),
        (lambda model: b"\x08\x99junk", "no network that onnxruntime can compute"),
        (lambda model: model.SerializeToString()[:5000], "no network that onnxruntime can"),
        (_elsewhere, "its weights lie in another file"),
        (_fewer, "it is another one's network"),
    ],
)
def test_a_network_that_somebody_else_wrote_is_one_sentence(
    exported: Path, tmp_path: Path, damage: Callable[[Any], bytes], said: str
) -> None:
    import onnx

    run = Path(shutil.copytree(exported, tmp_path / "run"))
    content = damage(onnx.load(str(run / MODEL)))
    (run / MODEL).write_bytes(content)
    (run / "weights.bin").write_bytes(bytes(1_000_000))
    with pytest.raises(ValueError, match=rf"model\.onnx: .*{said}"):
        attach(detzoo.load(run), run, read_run(run)).predict(Image.new("RGB", (64, 64)))
