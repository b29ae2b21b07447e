"""detzoo predict: objects in images of the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from detzoo.cli.app import app
from detzoo.config import plain
from detzoo.files import atomic, write_json

if TYPE_CHECKING:
    import numpy as np

    from detzoo.types import Detections

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


@app("predict")
def main(config: DictConfig) -> int:
    from tqdm import tqdm

    import detzoo
    from detzoo.cli.heatmaps import overlay, see
    from detzoo.data import load_image
    from detzoo.engine.precision import choose_device

    wanted = plain(config)
    if not wanted["run"]:
        raise ValueError("which detector? name a trained run: run=runs/default/centernet-0a1b2c3d")
    paths = images_of(wanted["images"])
    out, size = Path(wanted["out"]), wanted["batch_size"]
    detector = detzoo.load(wanted["run"], choose_device(wanted["device"]))
    found: list[dict[str, Any]] = []
    for start in tqdm(range(0, len(paths), size), "predict", unit="batch", disable=None):
        batch = paths[start : start + size]
        pixels = [load_image(path) for path in batch]
        detections = detector.predict(batch, batch_size=size, score_threshold=wanted["score"])
        seen = see(detector, pixels) if wanted["heatmaps"] else [{}] * len(pixels)
        for path, image, boxes, maps in zip(batch, pixels, detections, seen, strict=True):
            picture = out / f"{len(found):04d}-{path.stem}.jpg"
            for name, heat in maps.items():
                overlay(image, heat, picture.with_suffix(f".{name.replace(' ', '-')}.jpg"))
            save_picture(image, boxes, detector.class_names, picture)
            found.append(
                entry(path, image, boxes, detector.class_names) | {"picture": picture.name}
            )
    write_json(out / "predictions.json", found)
    objects = sum(len(image["objects"]) for image in found)
    print(f"{objects} objects in {len(found)} images, in {out / 'predictions.json'} and beside it")
    return 0


def images_of(wanted: str | Sequence[str]) -> list[Path]:
    """Files, the images in folders, and what patterns match. Raises ValueError if there is none."""
    paths: list[Path] = []
    for text in [wanted] if isinstance(wanted, str) else wanted:
        path = Path(text).expanduser()
        if path.is_dir():
            paths += sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
        elif path.is_file():
            paths.append(path)
        elif any(character in text for character in "*?["):
            paths += sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        else:
            raise ValueError(f"images: there is no file or folder {path}")
    if not paths:
        raise ValueError("no images; name files, folders or patterns: images=[a.jpg,holiday/]")
    return paths


def entry(path: Path, image: np.ndarray, found: Detections, names: Sequence[str]) -> dict[str, Any]:
    """One image's part of predictions.json; boxes are xyxy in the image's own pixels."""
    objects = [
        {"class": names[label], "score": score, "box": box}
        for box, score, label in zip(
            found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
        )
    ]
    height, width = image.shape[:2]
    return {"file": str(path), "width": width, "height": height, "objects": objects}


def save_picture(image: np.ndarray, found: Detections, names: Sequence[str], path: Path) -> None:
    """The image with boxes and names on it, as JPEG, written whole or not at all."""
    from matplotlib.colors import to_hex
    from PIL import Image

    from detzoo.report.drawing import Box, draw

    boxes = [
        Box(tuple(box), f"{names[label]} {score:.2f}", colour=to_hex(f"C{label % 10}"))
        for box, score, label in zip(
            found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
        )
    ]
    size = max(11, max(image.shape[:2]) // 50)
    with atomic(path) as temporary:
        draw(Image.fromarray(image), boxes, size=size).save(temporary, "JPEG", quality=90)
