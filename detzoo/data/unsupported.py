"""Annotations that no reader takes, recognised by their content, with advice for each."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from detzoo.data.folders import ARCHIVES, VIDEOS, hidden

LOOKED_AT = 200  # files whose beginnings are read
EXPORT = "export them as COCO, VOC or YOLO"
JSON = (  # words in the beginning of a file that only this program's have, and whose it is
    (b'"imagePath"', "labelme's JSON"),
    (b'"_via_settings"', "a project of VIA's"),
    (b'"shape_attributes"', "VIA's own JSON"),
    (b'"annotations_results"', "Label Studio's own JSON"),
    (b'"original_width"', "Label Studio's own JSON"),
    (b'"from_name"', "Label Studio's own JSON"),
    (b'"classTitle"', "Supervisely's JSON"),
    (b'"coordinates"', "CreateML's JSON"),
    (b'"labelTypes"', "V7's JSON"),
)


def other_formats(paths: Iterable[Path]) -> list[str]:
    """A sentence for each kind of annotations, archives and videos among the files."""
    sentences: dict[str, str] = {}
    for number, path in enumerate(paths):
        suffix = os.path.splitext(path.name)[1].lower()
        if hidden(path.name):
            continue
        if suffix in ARCHIVES:
            sentences.setdefault("archive", f"{path.name} is an archive: unpack it first")
        elif suffix in VIDEOS:
            sentences.setdefault(
                "video", f"{path.name} is a video: cut it into images and label them"
            )
        elif suffix == ".csv":
            sentences.setdefault("csv", f"{path.name} is a table; if it holds the boxes, {EXPORT}")
        elif suffix in (".tfrecord", ".record"):
            sentences.setdefault("tf", f"{path.name} is a TFRecord; {EXPORT}")
        elif suffix in (".json", ".xml") and number < LOOKED_AT and (whose := _whose(path, suffix)):
            sentences.setdefault(whose, f"{path.name} is {whose}; {EXPORT}")
    return list(sentences.values())


def _whose(path: Path, suffix: str) -> str | None:
    try:
        with open(path, "rb") as file:
            head = file.read(1 << 16)
    except OSError:
        return None
    if suffix == ".xml":
        return "CVAT's own XML" if b"<annotations" in head else None
    return next((whose for word, whose in JSON if word in head), None)
