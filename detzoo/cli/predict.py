"""detzoo predict: objects in images of the user's own."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from detzoo.cli.app import app
from detzoo.cli.positional import apart, listed
from detzoo.cli.values import quoted
from detzoo.config import plain
from detzoo.files import atomic, check_writable, write_json

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from detzoo.types import Detections


def placed(arguments: Sequence[str]) -> list[str]:
    """`detzoo predict RUN IMAGES...` is run=RUN images=[IMAGES,...]."""
    named, given = apart(arguments)
    if named and not any(text.lstrip("+").startswith("run=") for text in given):
        run = next((text for text in named if _names_a_run(text)), named[0])
        named.remove(run)
        given.append(f"run={quoted(run)}")
    return listed("images", named, given)


def _names_a_run(text: str) -> bool:
    from detzoo.workflow.select import select

    try:
        return bool(select(text))
    except ValueError:
        return False


@app("predict", positional=placed)
def main(config: DictConfig) -> int:
    from tqdm import tqdm

    import detzoo
    from detzoo.engine.precision import choose_device
    from detzoo.report.figures.fonts import legend
    from detzoo.workflow.heatmaps import see
    from detzoo.workflow.select import select_one
    from detzoo.workflow.thresholds import score_of

    wanted = plain(config)
    if not wanted["run"]:
        raise ValueError("which detector? name a trained run: run=runs/default/centernet-0a1b2c3d")
    run, root = select_one(wanted["run"]), wanted["data"]["root"]
    images = wanted["images"]
    if root:
        images = [below(root, text) for text in images] or images_of_test(run, root)
    paths = images_of(images)
    out, size, score = Path(wanted["out"]), wanted["batch_size"], wanted["score"]
    check_writable(out / "predictions.json")
    if score is None:
        score, why = score_of(run)
        print(f"from score {score:.2f} on: {why}")
    detector = detzoo.load(run, choose_device(wanted["device"]))
    found: list[dict[str, Any]] = []
    broken: dict[Path, str] = {}
    for start in tqdm(range(0, len(paths), size), "predict", unit="batch", disable=None):
        pixels = readable(paths[start : start + size], broken)
        if not pixels:
            continue
        detections = detector.predict([*pixels], batch_size=size, score_threshold=score)
        seen = see(detector, [*pixels.values()]) if wanted["heatmaps"] else [{}] * len(pixels)
        for (path, image), boxes, maps in zip(pixels.items(), detections, seen, strict=True):
            picture = out / f"{len(found):04d}-{_shortened(path.stem)}.jpg"
            save_pictures(image, boxes, maps, detector.class_names, picture)
            found.append(
                entry(path, image, boxes, detector.class_names) | {"picture": picture.name}
            )
    write_json(out / "predictions.json", found)
    objects = sum(len(image["objects"]) for image in found)
    print(f"{objects} objects in {len(found)} images, in {out / 'predictions.json'} and beside it")
    if numbers := legend(detector.class_names):
        print(numbers)
    if broken:
        told = "\n".join(f"  {why}" for why in broken.values())
        print(
            f"detzoo predict: {len(broken)} of {len(paths)} images cannot be read:\n{told}",
            file=sys.stderr,
        )
    return 1 if broken else 0


def readable(paths: Sequence[Path], broken: dict[Path, str]) -> dict[Path, np.ndarray]:
    """path -> (H, W, 3) uint8 RGB of the images that can be read; `broken` gets the others, and
    why."""
    from PIL import Image

    from detzoo.data import load_image

    found = {}
    for path in paths:
        try:
            found[path] = load_image(path)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            said = str(error)
            broken[path] = said if str(path) in said else f"{path}: {said}"
    return found


def _shortened(stem: str, most: int = 120) -> str:
    """Short enough, in bytes, for any file system together with what is put around it."""
    return stem.encode()[:most].decode(errors="ignore")


def below(root: str, text: str) -> str:
    """What `text` names, which may lie below the data set's folder."""
    inside = Path(root).expanduser() / text
    return str(inside) if inside.exists() and not Path(text).exists() else text


def images_of_test(run: Path, root: str) -> list[str]:
    """The images of the run's test split, where the data set lies now."""
    from detzoo.run_config import SCORED
    from detzoo.workflow.settings import read_moved, source

    dataset = source(read_moved(run, SCORED, root)).read("test")
    return [str(sample.path) for sample in dataset.samples]


def images_of(wanted: str | Sequence[str]) -> list[Path]:
    """Files, the images in folders, and what patterns match, each once.

    Raises ValueError if there is none, saying what was named instead.
    """
    from detzoo.data.folders import VIDEOS, images_in, is_image

    paths: list[Path] = []
    for text in [wanted] if isinstance(wanted, str) else wanted:
        path = Path(text).expanduser()
        if path.is_dir():
            inside = images_in(path)
            if not inside:
                below = f"{path}/*/*" if any(p.is_dir() for p in path.iterdir()) else ""
                hint = f"; for those in its folders: images=['{below}']" if below else ""
                raise ValueError(f"images: there is no image in {path}{hint}")
            paths += inside
        elif path.is_file():
            if path.suffix.lower() in VIDEOS:
                raise ValueError(
                    f"images: {path} is a video; cut it into images first: "
                    f"ffmpeg -i {path.name} %06d.png"
                )
            paths.append(path)
        elif "://" in text:
            raise ValueError(f"images: {text} is a URL; download it and name the file")
        elif any(character in text for character in "*?["):
            matched = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
            paths += [p for p in matched if p.is_file() and is_image(p.name)]
        else:
            raise ValueError(f"images: there is no file or folder {path}")
    if not paths:
        raise ValueError("no images; name files, folders or patterns: images=[a.jpg,holiday/]")
    return list(dict.fromkeys(paths))


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


def save_pictures(
    image: np.ndarray,
    found: Detections,
    heatmaps: Mapping[str, Tensor],
    names: Sequence[str],
    path: Path,
) -> None:
    """The image with boxes and names on it, and beside it one for each heatmap, as JPEG, each
    written whole or not at all."""
    from matplotlib.colors import to_hex
    from PIL import Image

    from detzoo.report.figures.fonts import drawable
    from detzoo.report.images.drawing import Box, draw
    from detzoo.workflow.heatmaps import overlay

    for name, heat in heatmaps.items():
        overlay(image, heat, path.with_name(f"{path.stem}.{name.replace(' ', '-')}.jpg"))
    drawn = drawable(names)
    boxes = [
        Box(tuple(box), f"{drawn[names[label]]} {score:.2f}", colour=to_hex(f"C{label % 10}"))
        for box, score, label in zip(
            found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
        )
    ]
    size = max(11, max(image.shape[:2]) // 50)
    with atomic(path) as temporary:
        draw(Image.fromarray(image), boxes, size=size).save(temporary, "JPEG", quality=90)
