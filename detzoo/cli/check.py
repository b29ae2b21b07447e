"""detzoo check: is this data set sane?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from detzoo.cli.app import app
from detzoo.cli.positional import data_root
from detzoo.config import build, plain
from detzoo.files import check_writable, write_json
from detzoo.workflow.datasets import resolved

if TYPE_CHECKING:
    from detzoo.data import CheckResult, Dataset, Source

PRIORS = 9  # of YOLOv3, three a map


@app("check", positional=data_root)
def main(config: DictConfig) -> int:
    from detzoo.data import check

    wanted = plain(config)
    if wanted["json"]:
        check_writable(wanted["json"])
    source = build(resolved(wanted["data"]), "data")
    result = check(source, tuple(wanted["splits"]))
    print(result.table())
    found = result.json()
    if not result.errors and "train" in wanted["splits"]:
        found["anchors"] = anchors(source.read("train"), wanted["size"])
        at = f"inside {wanted['size']} px" if wanted["size"] else "in the images' own pixels"
        print(f"\nYOLOv3's anchors by k-means, width and height {at}:")
        print(in_lines("anchors=" + str(found["anchors"]).replace(" ", "")))
    if wanted["json"]:
        write_json(wanted["json"], found)
    if wanted["out"]:
        print(f"\nTo look at: {look_at(wanted, source, result)}")
    return 1 if result.errors else 0


def look_at(wanted: dict[str, Any], source: Source, result: CheckResult) -> Path:
    """Write the contact sheets; gives the page's path."""
    from detzoo.workflow.sheets import write_sheets

    return write_sheets(
        source,
        result,
        wanted["splits"],
        Path(wanted["out"]).expanduser(),
        resize=build(wanted["resize"], "resize"),
        augment=build(wanted["augment"], "augment"),
        seed=wanted["seed"],
    )


def in_lines(setting: str, width: int = 79) -> str:
    r"""A setting as a shell takes it from several lines: each but the last ends in a backslash."""
    pieces = re.sub(r"(\],)", r"\1\n", setting).split("\n")
    lines = [""]
    for piece in pieces:
        if lines[-1] and len(lines[-1]) + len(piece) > width:
            lines.append("")
        lines[-1] += piece
    return "\\\n".join(lines)


def anchors(dataset: Dataset, size: int | None) -> list[list[int]]:
    """[[width, height], ...] in whole pixels: k-means of the boxes that are no crowd.

    size: the square that every image is fitted into first, as resize=letterbox does; None: none.
    Fewer boxes give fewer anchors.
    """
    import torch

    from detzoo.data import Letterbox
    from detzoo.ops.anchors import cluster

    sides = [torch.zeros(0, 2)]
    for sample in dataset.samples:
        height, width = sample.size
        boxes = sample.boxes[~sample.crowd]
        scale = Letterbox(size).size(height, width)[0] / height if size else 1.0
        sides.append((boxes[:, 2:] - boxes[:, :2]) * scale)
    sides = torch.cat(sides)
    found = cluster(sides, min(PRIORS, len(sides))) if len(sides) else sides
    return [[max(1, round(side)) for side in pair] for pair in found.tolist()]
