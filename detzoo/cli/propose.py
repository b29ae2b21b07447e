"""detzoo propose: external proposals of a data set, and how many objects they cover."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from detzoo.cli.app import app
from detzoo.config import build, plain
from detzoo.files import atomic, check_writable
from detzoo.workflow.datasets import resolved

IOUS = (0.5, 0.7)


@app("propose")
def main(config: DictConfig) -> None:
    import pandas as pd
    import torch

    from detzoo.data.proposed import propose
    from detzoo.metrics.proposals import recall
    from detzoo.report.figures.overview import recall_curve
    from detzoo.workflow.select import select_one

    wanted = plain(config)
    counts = sorted(wanted["counts"])
    if not counts or counts[0] < 1:
        raise ValueError(f"counts is {wanted['counts']}; give numbers of proposals from 1 on")
    check_writable(Path(wanted["out"]) / "curve.csv")
    node = wanted["proposals"]
    if node.get("run"):
        node = {**node, "run": str(select_one(node["run"]))}
    proposer = build(node, "proposals")
    dataset = build(resolved(wanted["data"]), "data").read(wanted["split"])
    found = propose(dataset, proposer)
    boxes = [torch.from_numpy(b) for b in found.boxes]
    truths = [sample.boxes[~sample.crowd] for sample in dataset.samples]
    kept = [sum(min(len(b), n) for b in boxes) / len(boxes) for n in counts]
    covered = recall(boxes, truths, counts, IOUS)
    columns = {f"recall@{iou}": row for iou, row in zip(IOUS, covered, strict=True)}
    frame = pd.DataFrame({"at most": counts, "proposals": kept, **columns})

    kind = proposer.describe()["kind"]
    print(
        f"{kind} on {dataset.name}, {dataset.split}: {len(dataset)} images, "
        f"{sum(map(len, boxes)) / len(boxes):.0f} proposals an image, "
        f"{found.seconds.mean():.3f} s an image when they were computed"
    )
    print(frame.to_string(index=False, float_format=lambda x: f"{x:.3f}" if x <= 1 else f"{x:.0f}"))
    out = Path(wanted["out"]) / f"{dataset.name}-{dataset.split}-{kind}"
    with atomic(out.with_suffix(".csv")) as temporary:
        frame.to_csv(temporary, index=False)
    with atomic(out.with_suffix(".png")) as temporary:
        recall_curve(frame, f"{kind} on {dataset.name}, {dataset.split}").savefig(
            temporary, format="png", dpi=150
        )
    print(out.with_suffix(".png"))
