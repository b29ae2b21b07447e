"""External proposals of a data set, and how many objects they cover."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from PIL import Image

from detzoo.config import build
from detzoo.data.proposal_cache import propose as compute
from detzoo.files import atomic, check_writable
from detzoo.metrics.proposals import recall
from detzoo.report.figures.overview import recall_curve
from detzoo.report.images.drawing import as_uri
from detzoo.text import escaped
from detzoo.workflow.datasets import resolved
from detzoo.workflow.select import select_one
from detzoo.workflow.verb import Result, takes_settings

IOUS = (0.5, 0.7)


@dataclass(frozen=True, repr=False)
class ProposalRecall(Result):
    """The recall of a data set's proposals.

    frame: a row for each limit: `at most` that many proposals per image, their mean number, and the
    recall at each of IOUS. title: the method and the split. figure: the curve, a PNG; a CSV of the
    frame is beside it.
    """

    frame: pd.DataFrame
    title: str
    figure: Path

    def text(self) -> str:
        table = self.frame.to_string(index=False, float_format=_digits)
        return f"{self.title}\n{table}\n{self.figure}"

    def html(self) -> str:
        with Image.open(self.figure) as picture:
            picture.thumbnail((720, 720))
            shown = as_uri(picture.convert("RGB"), 85)
        return f'<p>{html.escape(escaped(self.title))}</p>{super().html()}<img src="{shown}">'


def _digits(value: float) -> str:
    return f"{value:.3f}" if value <= 1 else f"{value:.0f}"


@takes_settings
def propose(settings: Mapping[str, Any]) -> ProposalRecall:
    """Compute proposals and their recall; writes a CSV and a figure into settings["out"].

    settings: of `detzoo propose`: data, split, proposals, counts, out. Raises ValueError for counts
    that are no numbers of proposals.
    """
    counts = sorted(settings["counts"])
    if not counts or counts[0] < 1:
        raise ValueError(f"counts is {settings['counts']}; give numbers of proposals from 1 on")
    check_writable(Path(settings["out"]) / "curve.csv")
    node = settings["proposals"]
    if node.get("run"):
        node = {**node, "run": str(select_one(node["run"]))}
    proposer = build(node, "proposals")
    dataset = build(resolved(settings["data"]), "data").read(settings["split"])
    found = compute(dataset, proposer)
    boxes = [torch.from_numpy(b) for b in found.boxes]
    truths = [sample.boxes[~sample.crowd] for sample in dataset.samples]
    frame = _recalls(boxes, truths, counts)
    kind = proposer.describe()["kind"]
    title = (
        f"{kind} on {dataset.name}, {dataset.split}: {len(dataset)} images, "
        f"{sum(map(len, boxes)) / len(boxes):.0f} proposals an image, "
        f"{found.seconds.mean():.3f} s an image when they were computed"
    )
    out = Path(settings["out"]) / f"{dataset.name}-{dataset.split}-{kind}"
    with atomic(out.with_suffix(".csv")) as temporary:
        frame.to_csv(temporary, index=False)
    with atomic(out.with_suffix(".png")) as temporary:
        recall_curve(frame, f"{kind} on {dataset.name}, {dataset.split}").savefig(
            temporary, format="png", dpi=150
        )
    return ProposalRecall(frame, title, out.with_suffix(".png"))


def _recalls(
    boxes: Sequence[torch.Tensor], truths: Sequence[torch.Tensor], counts: Sequence[int]
) -> pd.DataFrame:
    """boxes, truths: per image (P, 4) and (M, 4) xyxy."""
    kept = [sum(min(len(b), n) for b in boxes) / len(boxes) for n in counts]
    covered = recall(boxes, truths, counts, IOUS)
    columns = {f"recall@{iou}": row for iou, row in zip(IOUS, covered, strict=True)}
    return pd.DataFrame({"at most": counts, "proposals": kept, **columns})
