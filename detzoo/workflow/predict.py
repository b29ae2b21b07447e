"""Objects in images of the user's own: predictions.json and drawn pictures."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from torch import Tensor

import detzoo
from detzoo.data import load_image
from detzoo.engine.precision import choose_device
from detzoo.files import atomic, check_writable, write_json
from detzoo.imagefile import UNREADABLE, ImageFile
from detzoo.progress import track
from detzoo.report.figures.fonts import legend
from detzoo.report.images.drawing import as_uri
from detzoo.types import Detections
from detzoo.workflow.draw import draw
from detzoo.workflow.heatmaps import compute_heatmaps, write_overlay
from detzoo.workflow.images import below_root, dataset_images, find_images
from detzoo.workflow.select import select_one
from detzoo.workflow.thresholds import score_of
from detzoo.workflow.verb import Result, takes_settings

PICTURES = 4  # that a notebook shows


@dataclass(frozen=True, repr=False)
class Predictions(Result):
    """The detections in each image.

    images: as in predictions.json: "file", "width", "height", "picture", and "objects" of "class",
    "score" and "box" (xyxy in the image's own pixels). file: predictions.json; the pictures are
    beside it. failed: image -> why it could not be read. legend: names that are drawn as numbers.
    """

    images: Sequence[Mapping[str, Any]]
    file: Path
    failed: Mapping[Path, str]
    legend: str = ""

    @property
    def frame(self) -> pd.DataFrame:
        """A row for each object: file, class, score, x1, y1, x2, y2."""
        rows = [
            {"file": image["file"], "class": found["class"], "score": found["score"]}
            | dict(zip(("x1", "y1", "x2", "y2"), found["box"], strict=True))
            for image in self.images
            for found in image["objects"]
        ]
        return pd.DataFrame(rows, columns=["file", "class", "score", "x1", "y1", "x2", "y2"])

    def text(self) -> str:
        objects = sum(len(image["objects"]) for image in self.images)
        text = f"{objects} objects in {len(self.images)} images, in {self.file} and beside it"
        return f"{text}\n{self.legend}".rstrip()

    def html(self) -> str:
        pictures = []
        for image in self.images[:PICTURES]:
            with Image.open(self.file.parent / image["picture"]) as picture:
                picture.thumbnail((400, 400))
                pictures.append(f'<img src="{as_uri(picture, 80)}" style="margin: 2px">')
        return f"<p>{html.escape(self.text())}</p>{''.join(pictures)}"

    def failures(self) -> list[str]:
        if not self.failed:
            return []
        count = len(self.images) + len(self.failed)
        lines = "\n".join(f"  {reason}" for reason in self.failed.values())
        return [f"{len(self.failed)} of {count} images cannot be read:\n{lines}"]


@takes_settings
def predict(
    run: str | Path,
    images: str | Path | Sequence[str | Path] = (),
    *,
    out: str | Path = "predictions",
    score: float | None = None,
    heatmaps: bool = False,
    batch_size: int = 8,
    device: str = "auto",
    data_root: str | Path | None = None,
) -> Predictions:
    """Write predictions.json and a picture of every image into `out`.

    run: a run directory; if it names several, the best on val. images: files, folders or patterns.
    score: detections below it are left out; None for the run's own, with the best F1 on val.
    heatmaps: write a picture of each, for point-based detectors. data_root: where the run's data
    set is now; images are also searched below it, and without `images` its test split is taken.
    Raises ValueError where there are no images.
    """
    run, out = select_one(str(run)), Path(out)
    names = [images] if isinstance(images, str | Path) else images
    if data_root and not names:
        files = dataset_images(run, data_root)
    else:
        names = [below_root(data_root, str(name)) if data_root else name for name in names]
        files = [ImageFile(path) for path in find_images(names)]
    check_writable(out / "predictions.json")
    if score is None:
        score, reason = score_of(run)
        print(f"from score {score:.2f} on: {reason}")
    detector = detzoo.load(run, choose_device(device))
    exif = getattr(detector, "exif", "auto")
    files = [file if file.size else file._replace(exif=exif) for file in files]
    names = detector.class_names
    entries: list[dict[str, Any]] = []
    unreadable: dict[Path, str] = {}
    for pixels in _batches(files, batch_size, unreadable):
        detections = detector.predict([*pixels], batch_size=batch_size, score_threshold=score)
        maps = compute_heatmaps(detector, [*pixels.values()]) if heatmaps else [{}] * len(pixels)
        for (path, image), found, of_image in zip(pixels.items(), detections, maps, strict=True):
            picture = out / f"{len(entries):04d}-{_shortened(path.stem)}.jpg"
            _save_pictures(image, found, of_image, names, picture)
            entries.append(_entry(path, image, found, names) | {"picture": picture.name})
    write_json(out / "predictions.json", entries)
    return Predictions(entries, out / "predictions.json", unreadable, legend(names))


def _batches(
    files: Sequence[ImageFile], size: int, unreadable: dict[Path, str]
) -> Iterator[dict[Path, np.ndarray]]:
    """path -> (H, W, 3) uint8 RGB, `size` images at a time; `unreadable` gets the others, and
    why."""
    starts = range(0, len(files), size)
    for start in track(starts, "predict", "batches"):
        pixels = {}
        for file in files[start : start + size]:
            path = Path(file.source)
            try:
                pixels[path] = load_image(file)
            except UNREADABLE as error:
                reason = str(error)
                unreadable[path] = reason if str(path) in reason else f"{path}: {reason}"
        if pixels:
            yield pixels


def _shortened(stem: str, most: int = 120) -> str:
    """Short enough, in bytes, for any file system together with what is put around it."""
    return stem.encode()[:most].decode(errors="ignore")


def _entry(
    path: Path, image: np.ndarray, found: Detections, names: Sequence[str]
) -> dict[str, Any]:
    """One image's part of predictions.json; boxes are xyxy in the image's own pixels."""
    objects = [
        {"class": names[label], "score": score, "box": box}
        for box, score, label in zip(
            found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
        )
    ]
    height, width = image.shape[:2]
    return {"file": str(path), "width": width, "height": height, "objects": objects}


def _save_pictures(
    image: np.ndarray,
    found: Detections,
    heatmaps: Mapping[str, Tensor],
    names: Sequence[str],
    path: Path,
) -> None:
    """The image with boxes and names on it, and beside it one for each heatmap, as JPEG, each
    written whole or not at all."""
    for name, heat in heatmaps.items():
        write_overlay(image, heat, path.with_name(f"{path.stem}.{name.replace(' ', '-')}.jpg"))
    with atomic(path) as temporary:
        draw(image, found, class_names=names).save(temporary, "JPEG", quality=90)
