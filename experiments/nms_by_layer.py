"""What NMS does to DETR's decoder, layer by layer (Carion 2020, arXiv:2005.12872, figure 4).

One trained run; every image goes through the network once, and what each decoder layer says is
decoded without NMS and with it. The paper finds that NMS helps the first layer and not the last.

    python experiments/nms_by_layer.py runs/detr_nms_by_layer/detr-* --threshold 0.5
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

import detzoo
from detzoo.data import Dataset
from detzoo.data.loader import EvaluationBatches
from detzoo.detectors import DETR
from detzoo.engine.predict import coco_results
from detzoo.files import write_json
from detzoo.metrics import coco
from detzoo.run_config import SCORED
from detzoo.workflow.settings import read_moved, source


@torch.no_grad()
def score_layers(
    detector: DETR, dataset: Dataset, threshold: float, batch_size: int = 8
) -> list[dict[str, Any]]:
    """AP and AP50 of every decoder layer without NMS and with NMS at `threshold`, on the CPU."""
    layers = range(1, len(detector.transformer.decoder) + 1)
    kinds = [(layer, nms) for layer in layers for nms in (None, threshold)]
    found: dict[tuple[int, float | None], list[dict[str, Any]]] = {kind: [] for kind in kinds}
    for images in EvaluationBatches(
        dataset, batch_size=batch_size, resize=detector.resize, stride=detector.stride
    ):
        outputs = detector.network(images)
        for layer, nms in kinds:
            part = slice(layer - 1, layer)
            detector.nms_threshold = nms
            shown = outputs._replace(logits=outputs.logits[part], boxes=outputs.boxes[part])
            found[layer, nms] += coco_results(detector.decode(shown, images.sizes), images, dataset)
    detector.nms_threshold = None
    truth, rows = dataset.coco(), []
    for (layer, nms), results in found.items():
        scores = coco.evaluate(truth, results)
        rows.append({"layer": layer, "nms": nms, "AP": scores["AP"], "AP50": scores["AP50"]})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--threshold", type=float, default=0.5, help="IoU of NMS")
    parser.add_argument("--split", default="test")
    options = parser.parse_args()
    for run in options.runs:
        detector = detzoo.load(run)
        if not isinstance(detector, DETR):
            parser.error(f"{run} holds a {type(detector).__name__}, whose decoder has no layers")
        dataset = source(read_moved(run, SCORED, None)).read(options.split)
        rows = score_layers(detector, dataset, options.threshold)
        write_json(run / "nms_by_layer.json", {"split": options.split, "layers": rows})
        print(run)
        for row in rows:
            how = "no NMS" if row["nms"] is None else f"NMS {row['nms']:g}"
            print(f"  layer {row['layer']}  {how:<8} AP {row['AP']:.3f}  AP50 {row['AP50']:.3f}")


if __name__ == "__main__":
    main()
