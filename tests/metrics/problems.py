"""Small random detection problems, awkward on purpose."""

from __future__ import annotations

from typing import Any

import numpy as np


def problem(
    seed: int,
    *,
    images: int = 6,
    classes: int = 3,
    crowd: float = 0.2,
    ties: bool = True,
    found: int = 12,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Ground truth and results: images without boxes, crowd, a class that never occurs, ties.

    Image ids are not consecutive, category ids start at 3, annotation ids start at 0.
    """
    draw = np.random.default_rng(seed)
    ids = [10 * i + 7 for i in range(images)]
    categories = [{"id": k + 3, "name": f"class {k}"} for k in range(classes)]
    annotations, results = [], []
    for image in ids[1:]:  # the first image has no box
        for _ in range(draw.integers(0, 5)):
            x, y = draw.uniform(0, 150, 2)
            w, h = np.exp(draw.uniform(np.log(8), np.log(150), 2))
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": image,
                    "category_id": 3 + int(draw.integers(0, max(1, classes - 1))),
                    "bbox": [float(x), float(y), float(w), float(h)],
                    "area": float(w * h),
                    "iscrowd": int(draw.uniform() < crowd),
                }
            )
    for image in ids[:-1]:  # nothing is found in the last image
        here = [a for a in annotations if a["image_id"] == image]
        for _ in range(draw.integers(0, found)):
            if here and draw.uniform() < 0.8:
                box = here[draw.integers(len(here))]
                noise = draw.normal(0, 0.06, 4) * np.array(box["bbox"])[[2, 3, 2, 3]]
                bbox = [float(v) for v in np.array(box["bbox"]) + noise]
                category = box["category_id"]
            else:
                bbox = [float(v) for v in draw.uniform(5, 100, 4)]
                category = 3 + int(draw.integers(0, classes))
            score = float(draw.uniform())
            if ties:
                score = round(score, 1)
            results.append(
                {"image_id": image, "category_id": category, "bbox": bbox, "score": score}
            )
    gt = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 300, "height": 300} for i in ids],
        "annotations": annotations,
        "categories": categories,
    }
    return gt, results


def box(id: int, image: int, category: int, bbox: list[float], crowd: int = 0) -> dict[str, Any]:
    return {
        "id": id,
        "image_id": image,
        "category_id": category,
        "bbox": bbox,
        "area": bbox[2] * bbox[3],
        "iscrowd": crowd,
    }


def truth(boxes: list[dict[str, Any]], images: int = 2, classes: int = 2) -> dict[str, Any]:
    return {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "width": 100, "height": 100} for i in range(images)
        ],
        "annotations": boxes,
        "categories": [{"id": k + 1, "name": "ab"[k]} for k in range(classes)],
    }


def find(image: int, category: int, bbox: list[float], score: float) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": bbox, "score": score}


def repeated(gt, results, counts):
    """The resampled set spelled out: copies of an image are consecutive, under new ids."""
    out = {"images": [], "annotations": [], "categories": gt["categories"]}
    found = []
    for image, count in zip(sorted(gt["images"], key=lambda i: i["id"]), counts, strict=True):
        for _ in range(count):
            new = len(out["images"]) + 1
            out["images"].append({**image, "id": new})
            for annotation in gt["annotations"]:
                if annotation["image_id"] == image["id"]:
                    number = len(out["annotations"]) + 1
                    out["annotations"].append({**annotation, "id": number, "image_id": new})
            found += [{**r, "image_id": new} for r in results if r["image_id"] == image["id"]]
    return out, found
