"""Which image files a setting or an argument names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from detzoo.data.folders import VIDEOS, images_in, is_image
from detzoo.imagefile import ImageFile
from detzoo.run_config import SCORED
from detzoo.workflow.settings import read_moved, source


def find_images(names: str | Path | Sequence[str | Path]) -> list[Path]:
    """Files, the images in folders, and the matches of patterns, each once.

    Raises ValueError, which names the given paths, if there is none.
    """
    paths: list[Path] = []
    for text in [names] if isinstance(names, str | Path) else names:
        paths += _images_of(str(text))
    if not paths:
        raise ValueError("no images; name files, folders or patterns: images=[a.jpg,holiday/]")
    return list(dict.fromkeys(paths))


def _images_of(text: str) -> list[Path]:
    path = Path(text).expanduser()
    if path.is_dir():
        found = images_in(path)
        if not found:
            below = f"{path}/*/*" if any(p.is_dir() for p in path.iterdir()) else ""
            hint = f"; for those in its folders: images=['{below}']" if below else ""
            raise ValueError(f"images: there is no image in {path}{hint}")
        return found
    if path.is_file():
        if path.suffix.lower() in VIDEOS:
            raise ValueError(
                f"images: {path} is a video; cut it into images first: "
                f"ffmpeg -i {path.name} %06d.png"
            )
        return [path]
    if "://" in text:
        raise ValueError(f"images: {text} is a URL; download it and name the file")
    if any(character in text for character in "*?["):
        matched = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        return [p for p in matched if p.is_file() and is_image(p.name)]
    raise ValueError(f"images: there is no file or folder {path}")


def below_root(root: str | Path, text: str) -> str:
    """The path `text`, or the one below the data set's folder `root` where only that exists."""
    inside = Path(root).expanduser() / text
    return str(inside) if inside.exists() and not Path(text).exists() else text


def dataset_images(run: Path, root: str | Path) -> list[ImageFile]:
    """The images of the run's test split, with the data set now in `root`."""
    dataset = source(read_moved(run, SCORED, root)).read("test")
    return [sample.image for sample in dataset.samples]
