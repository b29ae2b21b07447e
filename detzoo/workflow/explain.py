"""Explanations of detections: a page of maps over the objects that detectors disagree about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from torch import Tensor

import detzoo
from detzoo.data import Source, load_image
from detzoo.engine.precision import choose_device
from detzoo.explain.faithfulness import ORACLE
from detzoo.explain.methods import BASELINES, METHODS, draw, method_of
from detzoo.explain.scores import energy
from detzoo.explain.target import SAME, Asked
from detzoo.explain.view import View, look, scaled
from detzoo.files import atomic, check_writable, write_text
from detzoo.imagefile import ImageFile
from detzoo.ops.boxes import iou
from detzoo.progress import track
from detzoo.report.book import gather
from detzoo.report.images.failures import find_disputed
from detzoo.report.load.values import shorten
from detzoo.report.page.explained import Cell, Row, render_explained, strip
from detzoo.run_config import SCORED
from detzoo.workflow.contestants import (
    Contestant,
    Found,
    contestants,
    most_disputed,
    objects_of,
)
from detzoo.workflow.images import find_images
from detzoo.workflow.select import select
from detzoo.workflow.settings import read_moved, source
from detzoo.workflow.verb import Result

STUDIES = ("faithfulness", "pasted", "features")
OBJECTS = {
    None: 8,
    "faithfulness": 60,
    "pasted": 60,
    "features": 300,
}  # of the page, and of each study
METHODS_SHOWN = ("odam", "grad_cam", "guided", "saliency")


@dataclass(frozen=True, repr=False)
class Explained(Result):
    """The written page. page: index.html; frame: of a study, a row for each detector, method and
    score, else one for each object and detector."""

    page: Path
    frame: pd.DataFrame
    sentences: Sequence[str] = ()
    failed: Mapping[Path, str] = field(default_factory=dict)

    def text(self) -> str:
        return "\n".join([*self.sentences, str(self.page)])


def explain(
    runs: str | Path | Sequence[str | Path],
    *,
    images: str | Path | Sequence[str | Path] = (),
    split: str = "test",
    methods: Sequence[str] = METHODS_SHOWN,
    study: str | None = None,
    objects: int | None = None,
    layer: str | None = None,
    channel: int | None = None,
    out: str | Path = "explained",
    seed: int = 0,
    device: str = "auto",
    data_root: str | Path | None = None,
    command: str = "",
) -> Explained:
    """Write a page that shows, for the same objects, which pixels each detector's score depends on,
    and maps.png, the first objects by the first method.

    images: files, folders and patterns; without them the images of `split` that the detectors
    disagree about most. methods: of explain.METHODS, the first is shown first. study: one of
    STUDIES: the faithfulness of maps over true objects that all detectors find, or over objects
    pasted in, whose pixels are known; or the features of true objects. objects: how many, by
    default as OBJECTS has it. layer, channel: of the features study, see `workflow.features`.
    Raises ValueError for what does not exist.
    """
    methods = [methods] if isinstance(methods, str) else list(methods)
    for name in methods:
        method_of(name)
    if study is not None and study not in STUDIES:
        raise ValueError(f"study is {study!r}; choose one of {', '.join(STUDIES)}")
    objects = OBJECTS[study] if objects is None else objects
    if objects < 1:
        raise ValueError(f"objects is {objects}; a page shows one or more")
    check_writable(Path(out) / "index.html")
    paths = select([str(run) for run in ([runs] if isinstance(runs, str | Path) else runs)])
    asked = contestants(paths, choose_device(device))
    heading = shorten(Path(out).resolve().name, 80)
    about = {"heading": heading, "command": command, "detectors": [c.name for c in asked]}
    if study:
        of = source(read_moved(paths[0], SCORED, data_root))
        given = (objects, Path(out), seed, about)
        return _study(study, asked, of, split, given, methods, layer, channel)
    if images:
        exif = asked[0].detector.exif
        files = [ImageFile(path, exif=exif) for path in find_images(images)]
    else:
        files = _disputed(paths, split, data_root, objects)
    found = most_disputed(
        [objects_of(asked, file) for file in track(files, "predict", "images")], len(asked)
    )[:objects]
    if not found:
        raise ValueError(
            f"no detector finds an object in {len(files)} images; name others: images=[...]"
        )
    classes = asked[0].detector.class_names or ()
    shown = track(found, "explain", "objects")
    rows = [_row(asked, one, methods, classes, seed) for one in shown]
    page = write_page(Path(out), rows=rows, methods=methods, **about)
    return Explained(page, _frame(rows))


def _study(
    study: str,
    asked: Sequence[Contestant],
    data: Source,
    split: str,
    given: tuple[int, Path, int, Mapping[str, Any]],
    methods: Sequence[str],
    layer: str | None,
    channel: int | None,
) -> Explained:
    """Run one of STUDIES. given: objects, out, seed, and the page's description of itself."""
    if study == "features":
        from detzoo.workflow.features import features

        splits = (data.read("train"), data.read(split))
        return features(asked, *splits, *given, layer=layer, channel=channel)
    if study == "pasted":
        from detzoo.workflow.pasted import pasted

        return pasted(asked, data, split, methods, *given)
    from detzoo.workflow.faithfulness import faithfulness, marks_of

    return faithfulness(asked, data.read(split), methods, *given, marks_of(data))


def _disputed(
    paths: Sequence[Path], split: str, data_root: str | Path | None, count: int
) -> list[ImageFile]:
    """The images of the split that scored runs disagree about most; its first ones without any."""
    dataset = source(read_moved(paths[0], SCORED, data_root)).read(split)
    files = {sample.id: sample.image for sample in dataset.samples}
    ids: list[int] = []
    if split == "test":
        for table in gather(paths, resamples=1).tables[:1]:
            if not isinstance(table.analysis, str):
                ids = find_disputed(table.analysis.details, count)
    return [files[i] for i in ids if i in files] or list(files.values())[:count]


def _row(
    asked: Sequence[Contestant],
    found: Found,
    methods: Sequence[str],
    classes: Sequence[str],
    seed: int,
) -> Row:
    pixels = load_image(found.image)
    cells = {c.name: _cell(c, pixels, found, methods, seed) for c in asked}
    label = classes[found.label] if found.label < len(classes) else str(found.label)
    title = f"{label} in {shorten(Path(found.image.source).name, 40)}"
    x1, y1, x2, y2 = found.box.tolist()
    return Row(title, Image.fromarray(pixels), (x1, y1, x2, y2), cells)


def _cell(
    contestant: Contestant, pixels: np.ndarray, found: Found, methods: Sequence[str], seed: int
) -> Cell:
    """The detector's box on the object, or its best one below its threshold, and why."""
    detector = contestant.detector
    missed = contestant.name not in found.by
    if missed:
        (faint,) = detector.predict([pixels], score_threshold=0.0)
        near = (faint.labels == found.label) & (iou(faint.boxes, found.box[None])[:, 0] >= SAME)
        index = next(iter(near.nonzero()[:, 0].tolist()), None)
        if index is None:
            return Cell("not found: no box near")
        detections = faint
    else:
        detections, index = found.by[contestant.name]
    view = look(detector, pixels)
    (box,) = view.boxes(detections.boxes[index : index + 1])
    asked = Asked(box, found.label)
    maps, numbers = {}, {}
    for method in methods:
        heat = draw(detector, view, asked, method, seed)
        maps[method] = scaled(view.in_original(heat))
        numbers[method] = {"energy": energy(_inside(view, heat), box[None])}
    score = float(detections.scores[index])
    caption = f"score {score:.2f}"
    if missed:
        caption = f"not found: score {score:.2f}, its threshold is {contestant.score:.2f}"
    x1, y1, x2, y2 = detections.boxes[index].tolist()
    return Cell(caption, (x1, y1, x2, y2), maps, numbers)


def _inside(view: View, heat: Tensor) -> np.ndarray:
    rows, columns = view.frame.resized
    return heat[:rows, :columns].cpu().numpy()


def write_page(out: Path, *, methods: Sequence[str], **parts: Any) -> Path:
    known = {name: of.title for name, of in (METHODS | BASELINES).items()}
    known |= {ORACLE: "how much the pasted object changes each pixel"}
    text = render_explained(
        made=f"{datetime.now():%Y-%m-%d}",
        version=detzoo.__version__,
        methods={name: known[name] for name in methods},
        **parts,
    )
    if rows := parts["rows"]:
        with atomic(out / "maps.png") as temporary:
            strip(rows[0], parts["detectors"], methods[0]).save(temporary, "PNG", optimize=True)
    write_text(out / "index.html", text)
    return out / "index.html"


def _frame(rows: Sequence[Row]) -> pd.DataFrame:
    """A row for each object, detector and method: the caption, and the numbers of its map."""
    return pd.DataFrame(
        {
            "object": row.title,
            "detector": name,
            "caption": cell.caption,
            "method": method,
            **numbers,
        }
        for row in rows
        for name, cell in row.cells.items()
        for method, numbers in (cell.numbers or {"": {}}).items()
    )
