"""What the bootstrap costs: 1,000 resamples of AP, AP50 and AP75.

On two made-up sets: the size of aquarium's test split (95 images, 7 classes, 736 boxes, 100
detections an image) and that of COCO's val2017 (5,000 images, 80 classes, 36,000 boxes, 500,000
detections). "match" is from COCO dicts to the match table, once a detector. Processor
time of one thread, so that a busy machine does not show.

    python benchmarks/bootstrap.py --resamples 1000
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from detzoo.metrics import bootstrap

SETS = {  # images, classes, boxes, detections an image
    "aquarium test": (95, 7, 736, 100),
    "COCO val2017": (5000, 80, 36_000, 100),
}


def made_up(
    images: int, classes: int, boxes: int, found: int, seed: int = 0
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Ground truth and results: rare and common classes, four boxes in five found, some roughly."""
    draw = np.random.default_rng(seed)
    share = 1 / np.arange(1, classes + 1) ** 0.7
    image = draw.integers(0, images, boxes)
    label = draw.choice(classes, boxes, p=share / share.sum())
    sides = np.exp(draw.normal(4, 0.8, (boxes, 2)))
    box = np.concatenate([draw.uniform(0, 500, (boxes, 2)), sides], axis=1)

    hits = np.flatnonzero(draw.uniform(size=boxes) < 0.8)
    blur = np.exp(draw.normal(-2.8, 0.8, (len(hits), 1)))
    near = box[hits] + draw.normal(0, 1, (len(hits), 4)) * blur * box[hits][:, [2, 3, 2, 3]]
    false = images * found - len(hits)
    # false alarms mostly of the classes that the image has
    like = draw.integers(0, boxes, false)
    anywhere = np.concatenate(
        [draw.uniform(0, 500, (false, 2)), np.exp(draw.normal(4, 0.8, (false, 2)))], axis=1
    )
    rows = zip(
        np.concatenate([image[hits], image[like]]).tolist(),
        np.concatenate([label[hits], label[like]]).tolist(),
        np.concatenate([near, anywhere]).tolist(),
        np.concatenate([draw.beta(3, 2, len(hits)), draw.beta(0.5, 6, false)]).tolist(),
        strict=True,
    )
    results = [{"image_id": i, "category_id": c, "bbox": b, "score": s} for i, c, b, s in rows]
    truth = {
        "images": [{"id": i} for i in range(images)],
        "categories": [{"id": k, "name": str(k)} for k in range(classes)],
        "annotations": [
            {"id": g, "image_id": i, "category_id": c, "bbox": b, "iscrowd": 0}
            for g, (i, c, b) in enumerate(
                zip(image.tolist(), label.tolist(), box.tolist(), strict=True)
            )
        ],
    }
    return truth, results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--resamples", type=int, default=1000)
    options = parser.parse_args()
    for name, size in SETS.items():
        truth, results = made_up(*size)
        start = time.process_time()
        matches = bootstrap.match(truth, results)
        matched = time.process_time()
        counts = bootstrap.draw_sets(matches.images, options.resamples)
        precision, _ = bootstrap.precision_and_recall(matches, counts)
        low, high = np.quantile(bootstrap.means(precision)[:, 0], [0.025, 0.975])
        end = time.process_time()
        print(
            f"{name:14} {size[0]:6,} images {len(results):8,} detections: match "
            f"{matched - start:5.2f} s, {options.resamples:,} resamples {end - matched:5.2f} s, "
            f"together {end - start:5.2f} s of one processor; AP in [{low:.3f}, {high:.3f}]"
        )


if __name__ == "__main__":
    main()
