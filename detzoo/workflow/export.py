"""A trained run as a file that other programs compute: written, described, and checked."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import detzoo
from detzoo.data import Dataset, with_proposals
from detzoo.data.loader import EvaluationBatches
from detzoo.detector import Detector
from detzoo.engine.precision import Mode, describe_detector
from detzoo.export import calls, tensors, to_onnx
from detzoo.files import atomic, check_writable
from detzoo.metrics.thresholds import BEST_F1, PRECISE, threshold_of
from detzoo.run_config import SCORED
from detzoo.runtimes import ExportedNetwork, ExportedPipeline, imported
from detzoo.types import Detections
from detzoo.workflow.select import select_one
from detzoo.workflow.settings import read_moved, read_or_empty, source
from detzoo.workflow.verb import Result

RAW = 1e-3  # of an output's largest value
SAME = 0.99  # of the detections: those of equal scores may change places at the end
SCORE, SIDE = 1e-3, 0.5  # how far a detection may be: in its score, and its box in pixels
RUNTIMES = {".onnx": "onnxruntime", ".xml": "openvino"}  # by the file's ending


def fixed_size(detector: Detector) -> tuple[int, int]:
    """(height, width) of all that the network sees. ValueError where the resize makes any size."""
    if not detector.resize.fixed:
        raise ValueError(
            f"its resize ({detector.resize.describe()['kind']}) gives images of many sizes, and an "
            "exported network takes one; train it with resize=letterbox or resize=stretch"
        )
    height, width = (
        -(-side // detector.stride) * detector.stride for side in detector.resize.target
    )
    return height, width


PIXELS = "pixels {batch} x 3 x {height} x {width}, RGB, float32 in [0, 1], not normalised; "
NETWORK_INPUT = PIXELS + "padding right and below, in the mean colour"
WHOLE_INPUT = PIXELS + (
    "padding right and below, of whatever colour; sizes {batch} x 2, int64, (height, width) of "
    "every image before padding"
)
WHOLE_OUTPUT = (
    "boxes (x1, y1, x2, y2) in the pixels of the input, scores, labels (of classes, -1 where there "
    "is none), counts: how many detections every image has; score threshold and NMS are applied"
)


def metadata(
    run: Path, detector: Detector, *, whole: bool = False, batch: int = 1
) -> dict[str, str]:
    """The metadata of the file: all that its user must know, as JSON under each name."""
    height, width = fixed_size(detector)
    form = WHOLE_INPUT if whole else NETWORK_INPUT
    kept = read_or_empty(run / "thresholds.json")
    facts = {
        "detzoo": detzoo.__version__,
        "run": run.name,
        "detector": type(detector).__name__,
        "weights_hash": describe_detector(detector, detector.resize, "cpu", Mode())["weights_hash"],
        "classes": list(detector.class_names),
        "input": form.format(batch=batch, height=height, width=width),
        "mean": detector.mean.flatten().tolist(),
        "std": detector.std.flatten().tolist(),
        "resize": detector.resize.describe(),
        "thresholds": {name: threshold_of(kept, name) for name in (BEST_F1, PRECISE)},
    }
    if whole:
        facts |= {"output": WHOLE_OUTPUT, "score_threshold": detector.score_threshold}
    return {key: json.dumps(value) for key, value in facts.items()}


def write(
    detector: Detector, to: Path, about: dict[str, str], *, whole: bool = False, batch: int = 1
) -> list[Path]:
    """The files of an export, ONNX or, by its ending .xml, OpenVINO's. ValueError for another."""
    if to.suffix not in RUNTIMES:
        raise ValueError(f"to is {to}; it must end with {' or '.join(RUNTIMES)}")
    how = {"size": fixed_size(detector), "batch": batch, "whole": whole}
    if to.suffix == ".onnx":
        return to_onnx(detector, to, metadata=about, **how)
    openvino, files = imported("openvino"), []
    with tempfile.TemporaryDirectory() as folder:
        for onnx in to_onnx(detector, Path(folder) / to.with_suffix(".onnx").name, **how):
            model = openvino.Core().read_model(str(onnx))
            for key, value in about.items():
                model.set_rt_info(value, ["detzoo", key])
            file = to.with_name(onnx.with_suffix(".xml").name)
            made = Path(folder) / "made.xml"
            openvino.save_model(model, str(made), compress_to_fp16=False)
            for suffix in (".bin", ".xml"):  # who finds the .xml finds its weights
                with atomic(file.with_suffix(suffix)) as temporary:
                    temporary.write_bytes(made.with_suffix(suffix).read_bytes())
            files.append(file)
    return files


@dataclass(frozen=True)
class Check:
    """raw: the largest difference of an output, as a share of its largest value, and where: which;
    None of a whole pipeline, which gives no raw outputs. same: of `detections` of torch's, or of
    the file's on an image where it gives more, those that both give."""

    images: int
    raw: float | None
    where: str
    detections: int
    same: int

    @property
    def good(self) -> bool:
        return (self.raw or 0.0) <= RAW and self.same >= SAME * self.detections

    def __str__(self) -> str:
        said = f"{self.same} of {self.detections} detections are the same"
        if self.raw is None:
            return f"on {self.images} images {said} as torch's"
        return (
            f"on {self.images} images raw outputs differ from torch's by {self.raw:.1e} of their "
            f"largest value at most ({self.where}); {said}"
        )


@torch.no_grad()
def compare(
    detector: Detector,
    exported: ExportedNetwork | ExportedPipeline,
    dataset: Dataset,
    images: int = 10,
    batch_size: int = 1,
) -> Check:
    """The exported file compared with torch: for a network, raw outputs of every graph for the same
    input; and detections end to end, on the data set's first images."""
    worst, where, total, same, count = 0.0, "", 0, 0, 0
    whole = isinstance(exported, ExportedPipeline)
    few = with_proposals(replace(dataset, samples=dataset.samples[:images]), detector.proposer)
    for batch in EvaluationBatches(
        few, batch_size=batch_size, resize=detector.resize, stride=detector.stride
    ):
        count += len(batch.frames)
        for name, (given, wanted) in ({} if whole else calls(detector, batch)).items():
            found = dict(tensors(exported.parts[name](*given)))
            for output, of_torch in tensors(wanted):
                apart = _apart(found[output], of_torch)
                if apart >= worst:
                    worst, where = apart, f"{name} {output}".strip()
        of_torch = detector.decode(type(detector).network(detector, batch), batch.sizes)
        of_file = exported(batch)
        if not whole:
            of_file = detector.decode(of_file, batch.sizes)
        for ours, theirs in zip(of_torch, of_file, strict=True):
            total, same = total + max(len(ours), len(theirs)), same + alike(ours, theirs)
    return Check(count, None if whole else worst, where, total, same)


def _apart(found: torch.Tensor, wanted: torch.Tensor) -> float:
    if not wanted.numel():
        return 0.0
    return float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1e-9))


def alike(first: Detections, second: Detections) -> int:
    """How many of the first one's detections the second one has too, each used once."""
    free = np.ones(len(second), bool)
    labels, scores, boxes = (getattr(second, key).numpy() for key in ("labels", "scores", "boxes"))
    same = 0
    for box, score, label in zip(first.boxes, first.scores, first.labels, strict=True):
        near = free & (labels == label.item()) & (abs(scores - score.item()) <= SCORE)
        near &= (abs(boxes - box.numpy()) <= SIDE).all(axis=1)
        if near.any():
            free[near.argmax()] = False
            same += 1
    return same


@dataclass(frozen=True, repr=False)
class Exported(Result):
    """The written files, and the result of the check against torch."""

    files: Sequence[Path]
    check: Check

    @property
    def frame(self) -> pd.DataFrame:
        """A row for each file: its name and size in MB."""
        rows = [{"file": str(file), "mb": file.stat().st_size / 1e6} for file in self.files]
        return pd.DataFrame(rows)

    def text(self) -> str:
        said = f"{', '.join(map(str, self.files))}: {self.check}"
        if len(self.files) > 1:
            said += (
                ". Several files, since what is between them depends on the image: the choice of "
                "regions and their features stay detzoo's own (detzoo.runtimes)"
            )
        return said


def export(
    run: str | Path,
    to: str | Path = "model.onnx",
    *,
    whole: bool = False,
    batch: int = 1,
    images: int = 10,
    data_root: str | Path | None = None,
) -> Exported:
    """Write a trained run's network to `to` (.onnx or .xml) and check it on its test images.

    run: a run, or a folder of which the best on val is taken. whole: the pipeline from resized
    pixels to boxes instead, score threshold and NMS included. batch: how many images the file takes
    at once. images: of the check. data_root: where the data set is now, if it was moved. Raises
    ValueError where it cannot be exported, with the reason, and where the file's outputs differ
    from torch's; then the files are removed.
    """
    run, to = select_one(str(run)), Path(to)
    check_writable(to)
    if batch < 1:
        raise ValueError(f"batch is {batch}; a file takes one image at a time, or several")
    dataset = source(read_moved(run, SCORED, data_root)).read("test")
    detector = detzoo.load(run)
    about = metadata(run, detector, whole=whole, batch=batch)
    files = write(detector, to, about, whole=whole, batch=batch)
    try:
        size, how = fixed_size(detector), {"runtime": RUNTIMES[to.suffix], "batch": batch}
        exported = (
            ExportedPipeline(to, size, **how)
            if whole
            else ExportedNetwork(detector, to, size, **how)
        )
        check = compare(detector, exported, dataset, images, batch)
        if not check.good:
            raise ValueError(f"{to} was not kept: {check}")
    except Exception:
        for file in files:
            file.unlink()
            file.with_suffix(".bin").unlink(missing_ok=True)
        raise
    return Exported(files, check)
