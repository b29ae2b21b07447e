"""detzoo check out=DIR: what a wrong layout looks like is seen before an hour is spent."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detzoo.cli import main


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """COCO, names with spaces and accents, a class without boxes, images without boxes."""
    root = tmp_path / "my data"
    for split, count in (("train", 5), ("val", 2), ("test", 2)):
        images, annotations = [], []
        (root / split).mkdir(parents=True)
        for id in range(1, count + 1):
            name = f"été {id}.jpg"
            seed = np.random.default_rng(len(split) * 100 + id)
            pixels = seed.integers(0, 255, (60, 90, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / split / name)
            images.append({"id": id, "file_name": name, "width": 90, "height": 60})
            box = {"image_id": id, "category_id": 1 + id % 2, "iscrowd": 0}
            annotations += [
                box | {"id": 9 * id + k, "bbox": [5 + k, 5, 30, 20]} for k in range(id % 3)
            ]
        names = ["a very long class name " * 5, "猫 <b>", "never"]
        categories = [{"id": id, "name": name} for id, name in enumerate(names, 1)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / split / "_annotations.coco.json").write_text(json.dumps(content))
    return root


def check(data: Path, out: Path, *more: str) -> int:
    return main(["check", "data=coco", f"data.root='{data}'", f"out='{out}'", *more])


def test_all_of_it_is_shown(data, tmp_path, capsys):
    out = tmp_path / "out é"
    assert check(data, out, "augment=ssd", "resize.size=64") == 0
    assert f"To look at: {out / 'index.html'}" in capsys.readouterr().out
    text = (out / "index.html").read_text("utf-8")
    for title in ("look here first", "images as read", "A batch as the network sees it"):
        assert title in text
    assert "64 x 64 pixels" in text and "two boxes" not in text and "猫 &lt;b&gt;" in text
    made = {path.name for path in out.glob("*.jpg")}
    assert {"batch-1.jpg", "train-doubtful-1.jpg", "train-empty-1.jpg"} <= made
    assert {"train-class-001-1.jpg", "test-class-002-1.jpg"} <= made
    assert not any("class-003" in name for name in made)
    assert text.index("train-doubtful") < text.index("train-images") < text.index("train-class")


def test_what_check_refuses_is_shown_too(data, tmp_path, capsys):
    cut = data / "train" / "été 1.jpg"
    cut.write_bytes(cut.read_bytes()[:900])
    assert check(data, tmp_path / "out") == 1
    text = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert ": 1 error, " in text
    assert "None can be made, and no training could start" in text
    assert (tmp_path / "out" / "train-doubtful-1.jpg").is_file()


def test_sheets_are_not_put_among_the_images(data, capsys):
    assert check(data, data / "train" / "sheets") == 1
    assert "lies in the data set's own folder" in capsys.readouterr().err
    assert not (data / "train" / "sheets").exists()


def test_the_same_images_give_the_same_sheets(data, tmp_path):
    for name in "ab":
        check(data, tmp_path / name)
    one, other = (sorted((tmp_path / name).iterdir()) for name in "ab")
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]
