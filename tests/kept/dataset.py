"""The data set of the kept run: eight squares, in files whose bytes are the same anywhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

SIDE = 64


def write(root: Path) -> Path:
    """COCO files train, val and test with PPM images, a white square on grey in each."""
    root.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        images, annotations = [], []
        for i in range(1, count + 1):
            x, y, side = 8 * i, 6 * i, 16 + 2 * len(split)
            pixels = np.full((SIDE, SIDE, 3), 60 + i, np.uint8)
            pixels[y : y + side, x : x + side] = 255
            name = f"{split}-{i}.ppm"
            (root / name).write_bytes(b"P6 %d %d 255\n" % (SIDE, SIDE) + pixels.tobytes())
            images.append({"id": i, "file_name": name, "width": SIDE, "height": SIDE})
            box = {"bbox": [x, y, side, side], "area": side * side, "iscrowd": 0}
            annotations.append({"id": i, "image_id": i, "category_id": 1, **box})
        content = {"images": images, "annotations": annotations}
        content["categories"] = [{"id": 1, "name": "square"}]
        (root / f"{split}.json").write_text(json.dumps(content))
    return root
