"""Images per second on one core from encoded bytes to augmented pixels, beside torchvision's way.

Three recipes: flipping alone, scale jitter (large: a window of the image, resampled), and SSD's
(photometric distortion, zooming out, cropping by IoU, flipping). The peer is torchvision's
reference recipe, Pillow and transforms.v2; ours is detzoo's loader without its cache: decoding,
resizing, the policy of that kind. Both end at the same size with boxes beside it. All in turns
within one run; ratios above 1 are in our favour.

    python benchmarks/data_path.py --size 320 --seconds 30
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import numpy as np
import torch
from lib import arguments, begin, interleaved, photographed, ratio, timing_lock
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from detzoo.data.augment import Flip, Policy, Zoom
from detzoo.data.augment_ssd import Distort, ZoomOutAndCrop
from detzoo.data.dataset import Sample
from detzoo.data.loader import Batches
from detzoo.data.resize import Letterbox

IMAGES = 16  # a call


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], seconds=40, batch=1, size=320)
    options = parser.parse_args()
    options.threads, options.backbone = 1, "no backbone"
    device = begin(options)
    dataset = photographed(options, "train")
    size = (options.size, options.size)
    end = [v2.PILToTensor(), v2.SanitizeBoundingBoxes()]
    jitter = [v2.ScaleJitter(size, (0.7, 1.5)), v2.RandomCrop(size, pad_if_needed=True, fill=114)]
    ssd = [v2.RandomPhotometricDistort(), v2.RandomZoomOut(fill=(123, 117, 104))]
    ssd += [v2.RandomIoUCrop(), v2.RandomHorizontalFlip(), v2.Resize(size)]
    recipes = {
        "flip": (Policy([Flip()]), v2.Compose([v2.RandomHorizontalFlip(), v2.Resize(size), *end])),
        "scale jitter": (
            Policy([Flip(), Zoom(p=1.0)]),
            v2.Compose([*jitter, v2.RandomHorizontalFlip(), *end]),
        ),
        "ssd": (Policy([Distort(), ZoomOutAndCrop(), Flip()]), v2.Compose([*ssd, *end])),
    }
    for name, (policy, theirs) in recipes.items():
        batches = Batches(
            dataset,
            batch_size=IMAGES,
            images_seen=10**6,
            resize=Letterbox(options.size),
            augment=policy,
            stride=32,
            seed=0,
            cache_mb=0,
        )
        work = {"ours": _ours(batches), "peer": _theirs(dataset.samples, theirs)}
        with timing_lock():
            rates = interleaved(work, options.seconds / len(recipes), device)
        medians = {key: statistics.median(found) for key, found in rates.items()}
        print(
            f"{name:<14}ours {medians['ours']:7.1f} /s, peer {medians['peer']:7.1f} /s  "
            f"{ratio(rates['ours'], rates['peer'])}"
        )


def _ours(batches: Batches) -> Callable[[], int]:
    step = 0

    def once() -> int:
        nonlocal step
        batches[step]
        step += 1
        return IMAGES

    return once


def _theirs(samples: list[Sample], recipe: Callable) -> Callable[[], int]:
    order = np.random.default_rng(0)
    torch.manual_seed(0)

    def once() -> int:
        for index in order.integers(len(samples), size=IMAGES):
            sample = samples[index]
            image = Image.open(sample.path).convert("RGB")
            boxes = tv_tensors.BoundingBoxes(sample.boxes, format="XYXY", canvas_size=sample.size)
            recipe({"image": image, "boxes": boxes, "labels": sample.labels})
        return IMAGES

    return once


if __name__ == "__main__":
    main()
