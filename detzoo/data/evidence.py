"""Which annotation formats a folder holds, counted by the images that their files are about."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from detzoo.data import coco_places, voc_places, yolo_description
from detzoo.data.folders import Tree, hidden, split_of
from detzoo.data.source import DataError
from detzoo.data.unsupported import other_formats

TITLES = {"coco": "COCO JSON", "voc": "Pascal VOC XML", "yolo_txt": "YOLO text files"}
CLOSE = 0.5  # of the best format's images: another one with as many makes it ambiguous
CONTENT = {  # folders that are a part of a data set and never a whole one
    *("images", "image", "imgs", "img", "jpegimages", "labels", "label", "annotations", "annots"),
    *("annotation", "annot", "xml", "xmls", "imagesets", "json", "masks", "segmentationclass"),
    *("segmentationobject", "result", "results"),
}


@dataclass(frozen=True)
class Evidence:
    """Files of one format below a root: folder or file -> the images that they annotate."""

    format: str
    places: Mapping[Path, int]

    @property
    def images(self) -> int:
        return sum(self.places.values())


def format_of_file(path: Path) -> str | None:
    """The format of a root that is a description or an annotation file; None for a folder."""
    if path.suffix.lower() in (".yaml", ".yml") and path.is_file():
        return "yolo_txt"
    if path.suffix.lower() == ".json" and path.is_file():
        if coco_places.is_annotation_file(path):
            return "coco"
        hints = other_formats([path])
        raise DataError(
            hints[0] if hints else f"{path}: not COCO's form; data.root=DIR names a folder"
        )
    return None


def find_evidence(tree: Tree) -> list[Evidence]:
    """The evidence for every format that has files below a root; most images first."""
    coco = {path: coco_places.count_images(path) for path in coco_places.annotation_files(tree)}
    voc = {f: len(names) for f, names in voc_places.Places(tree.root, tree).xml.items()}
    yolo = yolo_description.label_folders(tree)
    found = [Evidence("coco", coco), Evidence("voc", voc), Evidence("yolo_txt", yolo)]
    return sorted((e for e in found if e.places), key=lambda e: -e.images)


def find_data_set(root: Path) -> tuple[Path, Evidence]:
    """The folder of the one data set at or below root, and the format that has most of it."""
    while True:
        tree = Tree(root)
        found = find_evidence(tree)
        if not found:
            raise DataError(_nothing(tree))
        homes = _homes(tree, found)
        if len(homes) != 1:
            break
        root = homes[0]
    if homes:
        raise DataError(_several(root, homes))
    if len(found) > 1 and found[1].images >= CLOSE * found[0].images:
        raise DataError(_which(tree, found))
    return root, found[0]


def _homes(tree: Tree, found: Sequence[Evidence]) -> list[Path]:
    """Folders of root that are separate data sets; [] where root itself is the data set."""
    if any(map(_describes, tree.files.get(tree.root, ()))):
        return []

    def child(place: Path) -> Path:
        return tree.root.joinpath(*place.relative_to(tree.root).parts[:1])

    of_annotations = {child(place) for each in found for place in each.places}
    of_images = {child(folder) for folder in tree.images}
    part_of_one = any(
        home == tree.root or home.is_file() or home.name.lower() in CONTENT or split_of(home.name)
        for home in of_annotations | of_images
    )
    return [] if part_of_one or of_images - of_annotations else sorted(of_annotations & of_images)


def _describes(name: str) -> bool:
    """Whether a file of that name beside folders makes them one data set."""
    return bool(
        re.search(
            r"\.(ya?ml|names|data)$|^(classes|labels|train|test|valid?|trainval)\.txt$"
            r"|^notes\.json$",
            name,
            re.I,
        )
    ) and not hidden(name)


def _nothing(tree: Tree) -> str:
    """Why nothing was recognised."""
    images = sum(map(len, tree.images.values()))
    hints = other_formats(
        tree.root.joinpath(f, n) for f, names in tree.files.items() for n in names
    )
    what = f"{tree.root}: no annotations of COCO (.json), VOC (.xml) or YOLO (.txt) below it, "
    what += f"beside {images} images" if images else "and no images"
    if hints:
        return f"{what}. {hints[0]}"
    if any(name.startswith("shapes-") for name in map(lambda p: p.name, tree.files)):
        return f"{what}. The embedded data set lies there: data=shapes data.root={tree.root}"
    return f"{what}; name the folder that holds both: data.root=DIR"


def _several(root: Path, homes: Sequence[Path]) -> str:
    """The data sets below a root, with the setting that names each."""
    rows = [f"  data.root={home}" for home in homes[:20]]
    rows += [f"  and {len(homes) - 20} more"] if len(homes) > 20 else []
    return (
        f"{root} is a folder of {len(homes)} folders that each have images and annotations; name "
        "one, or say what they are together (data=coco, voc or yolo_txt):\n" + "\n".join(rows)
    )


def _which(tree: Tree, found: Sequence[Evidence]) -> str:
    rows = []
    for each in found:
        first = next(iter(each.places)).relative_to(tree.root).as_posix()
        more = f" and {len(each.places) - 1} more" if len(each.places) > 1 else ""
        rows.append(
            f"  data={each.format:9} {TITLES[each.format]}: {each.images} images, {first}{more}"
        )
    return f"{tree.root}: annotations in {len(found)} formats; say which:\n" + "\n".join(rows)
