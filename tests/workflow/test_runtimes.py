"""Rows of exported networks: what is refused, and how detections are held against torch's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from detzoo.types import Detections
from detzoo.workflow.export import alike, fixed_size
from detzoo.workflow.runtimes import attach, exported_run


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
    with pytest.raises(ValueError, match="fp32 or int8"):
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
