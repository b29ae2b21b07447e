from __future__ import annotations

from pathlib import Path

import pytest
import torch

import detzoo
from detzoo.cli.oracle import rescored
from detzoo.data import Letterbox, Shapes


@pytest.mark.parametrize("name", ["centernet", "cornernet"])
def test_a_detector_of_truths_alone_finds_everything(name: str, tmp_path: Path) -> None:
    """The ideal-output round trip through a data set: resized, padded, decoded and scored."""
    dataset = Shapes(tmp_path, size=64, train=4, val=4, test=12, max_objects=5).read("test")
    torch.manual_seed(0)
    detector = detzoo.create_detector(name, num_classes=6, backbone="test_resnet", head_channels=8)
    detector.resize = Letterbox((96, 128))
    rows = rescored(detector, dataset)
    assert [len(row["true"]) for row in rows] == [0, 1, 2, 3]
    assert rows[0]["AP"] < 0.1
    assert rows[-1]["AP"] > 0.9 and rows[-1]["AP50"] > 0.95
