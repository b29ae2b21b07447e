"""Run directories as train, evaluate and speed would leave them, made up in milliseconds.

The numbers are invented but hang together: predictions are the truth, jittered; times add up.
"""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import yaml
from PIL import Image, ImageDraw

from detzoo.report.images import photographs

EVIL = "<img src=x onerror=\"document.title='run'\">"
CLASSES = ("circle", "square", f"star {EVIL}", "cross & ring", "$x^2$", "unicorn")  # no unicorn
STAGES = {
    "decode": 0.9,
    "proposals": 0.0,
    "preprocess": 1.1,
    "transfer": 0.02,
    "network": 0.0,
    "postprocess": 1.4,
    "restore": 0.1,
}
FINGERPRINT = {
    "dataset_hash": "4b1f" * 16,
    "split": "test",
    "images_hash": "9ac0" * 16,
    "resize": {"kind": "letterbox", "size": [160, 160]},
    "score_threshold": 0.001,
    "max_dets": 100,
    "precision": "fp32",
    "device": "cpu",
    "batch": 16,
    "recipe": {"name": "matched", "optimizer": "adamw", "weight_decay": 0.05, "lr": 0.001},
    "images_seen": 4000,
}
DETECTORS = {  # label -> AP, network ms, GMACs, parameters
    "CenterNet": (0.352, 14.2, 1.9, 14_400_000),
    "Faster R-CNN": (0.371, 41.7, 5.6, 28_700_000),
    "RetinaNet": (0.243, 29.3, 4.1, 19_800_000),
    "torchvision/faster_rcnn": (0.366, 44.9, 5.6, 28_700_000),
}


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, allow_nan=False), encoding="utf-8")


def dataset(
    root: Path, count: int = 12, classes: tuple[str, ...] = CLASSES, side: int = 160
) -> dict:
    """`count` JPEG images with coloured boxes on them, and their dataset.json."""
    draw_from = random.Random(0)
    images, annotations = [], []
    (root / "images").mkdir(parents=True, exist_ok=True)
    for i in range(count):
        width, height = side + 40 * (i % 3), side
        image = Image.new("RGB", (width, height), (60 + 9 * i, 90, 140 - 6 * i))
        canvas = ImageDraw.Draw(image)
        name = f"images/{i:03d} <b>&.jpg"
        for _ in range(i % 5):
            w, h = draw_from.uniform(12, 60), draw_from.uniform(12, 60)
            x, y = draw_from.uniform(0, width - w), draw_from.uniform(0, height - h)
            label = draw_from.randrange(len(classes) - 1)
            colour = tuple(draw_from.randrange(60, 255) for _ in range(3))
            (canvas.ellipse if label % 2 else canvas.rectangle)((x, y, x + w, y + h), fill=colour)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i + 1,
                    "category_id": label + 1,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": int(len(annotations) == 5),
                }
            )
        image.save(root / name, quality=90)
        images.append({"id": i + 1, "file_name": name, "width": width, "height": height})
    ids = list(range(1, len(classes) + 1))
    return {
        "name": "fabricated",
        "split": "test",
        "hash": FINGERPRINT["dataset_hash"],
        "root": str(root),
        "classes": list(classes),
        "category_ids": ids,
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in zip(ids, classes, strict=True)],
    }


def run(
    root: Path,
    label: str,
    data: dict,
    *,
    seed: int = 0,
    ap: float = 0.3,
    network: float = 20.0,
    gmacs: float = 2.0,
    parameters: int = 10_000_000,
    half: float = 0.03,
    fingerprint: dict | None = None,
    speed: bool = True,
    detector: dict | None = None,
) -> Path:
    """One whole run directory. half: half of AP's interval; fingerprint: fields that differ."""
    chance = random.Random(f"{label}{seed}")
    slug = "".join(c if c.isalnum() else "_" for c in label.lower())
    path = root / f"{slug}-{chance.randrange(16**8):08x}"
    target = {"_target_": f"detzoo.detectors.{slug}", "backbone": {"name": "resnet18"}}
    config = {
        "label": label,
        "name": "fabricated",
        "seed": seed,
        "detector": detector or target,
        "augment": {"_target_": "flip"},
        "recipe": {"name": "matched", "lr": 0.001},
        "resize": {"size": 160},
        "runtime": {"device": "cpu", "precision": "fp32"},
    }
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    write(
        path / "environment.json",
        {
            "detzoo": "0.1.0",
            "python": "3.12.3",
            "torch": "2.14.1",
            "torchvision": "0.29.2",
            "timm": "1.0.20",
            "commit": "8fbf5a2",
            "command": f"detzoo train detector={slug} seed={seed}",
            "cpu": "AMD EPYC 7B13",
            "cores": 2,
            "memory_gb": 7.75,
            "gpu": None,
            "driver": None,
            "threads": 2,
            "device": "cpu",
            "precision": "fp32",
        },
    )
    write(path / "dataset.json", data)
    photographs.save_photographs(data, path)
    write(path / "predictions.json", predictions(data, chance))
    numbers = {
        "AP50": 1.6 * ap,
        "AP75": 0.95 * ap,
        "APs": 0.5 * ap,
        "APm": 1.1 * ap,
        "APl": 1.4 * ap,
        "AR1": 0.6 * ap,
        "AR10": 1.2 * ap,
        "AR100": 1.3 * ap,
        "ARs": 0.6 * ap,
        "ARm": 1.2 * ap,
        "ARl": 1.5 * ap,
    }
    boxes = {
        name: sum(a["category_id"] == i for a in data["annotations"])
        for i, name in enumerate(data["classes"], start=1)
    }
    write(
        path / "metrics.json",
        {
            "split": "test",
            "images": len(data["images"]),
            "boxes": len(data["annotations"]),
            "AP": ap,
            **numbers,
            "intervals": {
                "AP": [ap - half, ap + half],
                "AP50": [1.5 * ap, 1.7 * ap],
                "AP75": [0.9 * ap, ap],
            },
            "interval_method": "percentile bootstrap over images, 1,000 resamples",
            "per_class": {
                name: {
                    "AP": min(1, ap * chance.uniform(0.6, 1.4)) if n else None,
                    "AP50": ap if n else None,
                    "boxes": n,
                }
                for name, n in boxes.items()
            },
            "backend": "pycocotools",
            "score_threshold": 0.001,
            "max_dets": 100,
            "fingerprint": FINGERPRINT | {"seed": seed} | (fingerprint or {}),
        },
    )
    if speed:
        write(path / "speed.json", timing(network, gmacs, parameters, fingerprint or {}))
    write(
        path / "status.json",
        {
            "state": "done",
            "stage": "speed",
            "started": "2025-01-01T10:00:00",
            "finished": "2025-01-01T10:04:00",
            "error": None,
            "images_seen": 4000,
            "train_seconds": 60 + 4 * network,
            "pid": 1,
        },
    )
    rows = ["images_seen,seconds,AP,AP50"]
    for i in range(1, 6):
        value = ap * (1 - math.exp(-0.8 * i)) * chance.uniform(0.95, 1.05)
        rows.append(f"{800 * i},{(60 + 4 * network) * i / 5},{value},{1.6 * value}")
    (path / "curve.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def timing(network: float, gmacs: float, parameters: int, fingerprint: dict) -> dict:
    stages = STAGES | {"network": network}
    total = sum(stages.values())

    def spread(ms: float) -> dict[str, float]:
        return {"p50": ms, "p90": 1.15 * ms, "p99": 1.5 * ms, "mean": 1.04 * ms}

    return {
        "n": 12,
        "images_hash": FINGERPRINT["images_hash"],
        "device": "cpu",
        "precision": "fp32",
        "threads": 2,
        "batch": 1,
        "stages": {name: spread(ms) for name, ms in stages.items()},
        "end_to_end": spread(total) | {"interval": [0.98 * total, 1.03 * total]},
        "overhead": {"p50": (total - stages["decode"]) / network, "interval": None},
        "against": {"reference": "x", "ratio": 1.0, "interval": [0.98, 1.03], "n": 12},
        "throughput": {"batch": 8, "images_per_second": 1250 / total},
        "gmacs": gmacs,
        "input": [1, 3, 160, 160],
        "parameters": parameters,
        "peak_memory_mb": 300 + 4 * network,
        "rounds": 20,
        "warmup": {"rounds": 3},
        "warnings": [],
        "versions": {},
        "fingerprint": {
            "device": "cpu",
            "precision": "fp32",
            "threads": 2,
            "batch": 1,
            "images_hash": FINGERPRINT["images_hash"],
        }
        | {k: v for k, v in fingerprint.items() if k in ("device", "precision", "threads")},
    }


def score(path: Path, n: int = 60) -> Path:
    """Give the run the metrics that its predictions come to, as evaluate would, and those of val.

    n: resamples. The val split is the test split with other detections.
    """
    from detzoo.metrics import bootstrap, coco

    data, found = (
        json.loads((path / f"{name}.json").read_text()) for name in ("dataset", "predictions")
    )
    metrics = json.loads((path / "metrics.json").read_text())
    metrics |= coco.evaluate(data, found, backend="pycocotools")
    metrics["intervals"] = bootstrap.interval(data, found, n=n)
    write(path / "metrics.json", metrics)
    write(path / "dataset-val.json", data | {"split": "val", "weights_hash": None})
    write(path / "predictions-val.json", predictions(data, random.Random(path.name)))
    return path


def predictions(data: dict, chance: random.Random) -> list[dict]:
    """The ground truth, jittered, with some missed, some doubled and some out of nothing."""
    found = []
    for a in data["annotations"]:
        for _ in range(chance.choice((0, 1, 1, 1, 2))):
            x, y, w, h = (v + chance.gauss(0, 2.5) for v in a["bbox"])
            found.append(
                {
                    "image_id": a["image_id"],
                    "category_id": a["category_id"],
                    "bbox": [x, y, max(w, 2), max(h, 2)],
                    "score": chance.uniform(0.1, 1),
                }
            )
    for image in data["images"]:
        found.append(
            {
                "image_id": image["id"],
                "category_id": 1,
                "bbox": [5, 5, 30, 30],
                "score": chance.uniform(0, 0.5),
            }
        )
    return found


def failed(root: Path, label: str = "CornerNet", **status: Any) -> Path:
    """A run that died while it trained."""
    path = root / f"{label.lower()}-00000bad"
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump({"label": label, "seed": 0}), encoding="utf-8")
    error = f"NonFiniteLoss: step 120: push is nan, images 4, 17 {EVIL}"
    write(
        path / "status.json",
        {
            "state": "failed",
            "stage": "train",
            "error": error,
            "images_seen": 1920,
            "train_seconds": 31.0,
            "pid": 1,
        }
        | status,
    )
    return path


def comparison(root: Path, seeds: tuple[int, ...] = (0,)) -> list[Path]:
    """Four detectors (each with `seeds`) and a failed one, on one data set."""
    data = dataset(root / "data")
    paths = []
    for label, (ap, network, gmacs, parameters) in DETECTORS.items():
        for seed in seeds:
            shift = 0.008 * math.sin(7 * seed + network)
            network *= 1 + 0.02 * math.sin(5 * seed)
            paths.append(
                run(
                    root / "runs",
                    label,
                    data,
                    seed=seed,
                    ap=ap + shift,
                    network=network,
                    gmacs=gmacs,
                    parameters=parameters,
                )
            )
    return [*paths, failed(root / "runs")]
