from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import detzoo
from detzoo.data import Letterbox
from detzoo.workflow.heatmaps import compute_heatmaps, write_heatmaps, write_overlay


@pytest.mark.parametrize(
    ("name", "maps"),
    [
        ("centernet", ["centres"]),
        ("cornernet", ["top-left corners", "bottom-right corners"]),
    ],
)
def test_maps_end_where_the_image_does(name: str, maps: list[str]) -> None:
    detector = detzoo.create_detector(name, num_classes=2, backbone="test_resnet", head_channels=8)
    detector.resize = Letterbox(64)
    images = [np.full((32, 64, 3), 90, np.uint8), np.full((128, 96, 3), 90, np.uint8)]
    found = compute_heatmaps(detector, images)
    assert [list(image) for image in found] == [maps] * 2
    for image, shape in zip(found, [(8, 16), (16, 12)], strict=True):
        for heat in image.values():
            assert heat.shape == shape
            assert heat.min() >= 0 and heat.max() <= 1


def test_a_detector_without_points_has_none() -> None:
    detector = detzoo.create_detector("retinanet", num_classes=2, backbone="test_resnet")
    detector.resize = Letterbox(64)
    with pytest.raises(ValueError, match="RetinaNet has no heatmaps"):
        compute_heatmaps(detector, [np.zeros((32, 32, 3), np.uint8)])


def test_the_image_shows_through_where_there_is_no_heat(tmp_path: Path) -> None:
    heat = torch.zeros(4, 4)
    heat[1, 2] = 1.0
    write_overlay(np.full((40, 40, 3), 100, np.uint8), heat, tmp_path / "heat.jpg")
    picture = np.asarray(Image.open(tmp_path / "heat.jpg"))
    assert picture.shape == (40, 40, 3)
    assert abs(int(picture[35, 5].mean()) - 100) < 3
    assert picture[15, 25].mean() > 150


def test_what_the_report_shows_is_kept_as_pictures_of_the_images(tmp_path: Path) -> None:
    Image.new("RGB", (96, 64), (90, 90, 90)).save(tmp_path / "a.png")
    data = {"root": str(tmp_path), "images": [{"id": 7, "file_name": "a.png"}], "annotations": []}
    kept = tmp_path / "heatmaps.json"
    cornernet = detzoo.create_detector("cornernet", num_classes=2, backbone="test_resnet").eval()
    cornernet.resize = Letterbox(96)
    write_heatmaps(cornernet, data, kept)
    rows = json.loads(kept.read_text())
    assert [(r["image_id"], r["name"]) for r in rows] == [
        (7, "top-left corners"),
        (7, "bottom-right corners"),
    ]
    (expected,) = compute_heatmaps(cornernet, [np.full((64, 96, 3), 90, np.uint8)])
    for row, heat in zip(rows, expected.values(), strict=True):
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(row["png"]))))
        assert picture.shape == (16, 24)
        assert abs(picture / 255 - heat.numpy()).max() <= 0.5 / 255 + 1e-6

    retinanet = detzoo.create_detector("retinanet", num_classes=2, backbone="test_resnet").eval()
    write_heatmaps(retinanet, data, kept)
    assert not kept.exists()
