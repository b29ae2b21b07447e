"""Small data sets, written by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def write_image(path, height=40, width=60, seed=0, **options):
    """A JPEG or PNG of noise; another seed gives other bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


class CocoFolder:
    """A COCO data set that a test spoils piece by piece, then writes."""

    def __init__(self, root: Path, split: str = "train"):
        self.root, self.split = root, split
        self.content = {
            "images": [
                {"id": 7, "file_name": "a.jpg", "width": 60, "height": 40},
                {"id": 9, "file_name": "b.jpg", "width": 60, "height": 40},
            ],
            "annotations": [
                self.annotation(1, 7, 30, [10, 5, 20, 30]),
                self.annotation(2, 7, 20, [0, 0, 60, 40]),
                self.annotation(3, 9, 30, [1.5, 2.5, 10, 10]),
            ],
            "categories": [{"id": 30, "name": "zebra"}, {"id": 20, "name": "ape"}],
        }
        seed = sum(map(ord, split))
        for index, name in enumerate("ab"):
            write_image(root / "images" / split / f"{name}.jpg", seed=seed + index)

    @staticmethod
    def annotation(id, image, category, box, **more):
        return {"id": id, "image_id": image, "category_id": category, "bbox": box, **more}

    def add(self, *annotations):
        self.content["annotations"] += annotations
        return self

    def write(self):
        path = self.root / f"{self.split}.json"
        path.write_text(json.dumps(self.content))
        return self


@pytest.fixture
def coco(tmp_path):
    return CocoFolder(tmp_path)


SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def shared():
    """The real sets beside the project."""

    def folder(name: str) -> Path:
        path = SHARED / name
        if not path.is_dir():
            pytest.skip(f"{path} is not there: the real data set {name} is not on this machine")
        return path

    return folder


class VocFolder:
    """A Pascal VOC data set with one image of 60 x 40, whose objects a test chooses."""

    SIDES = ("xmin", "ymin", "xmax", "ymax")

    def __init__(self, root: Path):
        self.root = root

    def write(self, objects, name="a", split="train"):
        """objects: what differs from a default of name, difficult, the box's sides, and drawn."""
        write_image(self.root / "JPEGImages" / f"{name}.jpg", seed=sum(map(ord, name)))
        for folder in ("Annotations", "ImageSets/Main"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        parts = []
        for given in objects:
            default = {"name": "ape", "difficult": 0, "xmin": 3, "ymin": 4, "xmax": 20, "ymax": 30}
            of = default | given
            sides = "".join(f"<{side}>{of[side]}</{side}>" for side in self.SIDES)
            box = of.get("drawn", f"<bndbox>{sides}</bndbox>")
            parts.append(
                f"<object><name>{of['name']}</name><difficult>{of['difficult']}</difficult>"
                f"{box}</object>\n"
            )
        size = "<size><width>60</width><height>40</height><depth>3</depth></size>"
        text = f"<annotation>{size}\n{''.join(parts)}</annotation>"
        (self.root / "Annotations" / f"{name}.xml").write_text(text)
        with open(self.root / "ImageSets" / "Main" / f"{split}.txt", "a") as file:
            file.write(f"{name}\n")
        return self


@pytest.fixture
def voc(tmp_path):
    return VocFolder(tmp_path / "voc")
