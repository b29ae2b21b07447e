"""Rows of exported networks: run directories beside those that they were exported from."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

import detzoo
from detzoo.config import load_yaml
from detzoo.data import with_proposals
from detzoo.data.loader import EvaluationBatches
from detzoo.detector import Detector
from detzoo.engine.status import stage
from detzoo.export import calls, chains, graph_file, tensors, to_onnx
from detzoo.files import atomic, inside, link, read_json, write_text
from detzoo.metrics.bootstrap import match
from detzoo.metrics.paired import compare_all
from detzoo.run_config import EXPORTED, FILE, SCORED, copy_proposer
from detzoo.runtimes import SESSIONS, ExportedNetwork, check_precision, imported
from detzoo.text import interval_text
from detzoo.workflow.export import fixed_size, metadata
from detzoo.workflow.settings import Settings, one_line, read_moved, source

MODEL = "model.onnx"
CALIBRATION = 64  # training images for calibrating the ranges of int8
KEPT = ("checkpoint.pt", "environment.json", "data.json", "curve.csv")


def exported_run(path: Path, runtime: str, precision: str, data_root: str | None = None) -> Path:
    """The directory of the run's network in another runtime, made anew: PATH-RUNTIME[-PRECISION].

    It is a whole run directory, with the weights linked and the exported file in it, so that
    evaluate, speed and report treat it like any other. Raises ValueError for what cannot be
    exported, and ImportError without the runtime's extra.
    """
    if runtime not in SESSIONS:
        raise ValueError(f"runtime is {runtime!r}; it must be one of {', '.join(SESSIONS)}")
    check_precision(runtime, precision)
    imported(runtime)
    settings = read_moved(path, SCORED, data_root)
    if EXPORTED in settings:
        raise ValueError(f"{path} is an exported network already; name the run that it is of")
    told = runtime if precision == "fp32" else f"{runtime}, {precision}"
    out = path.with_name(f"{path.name}-{told.replace(', ', '-')}")
    with stage(out, "export"):
        for name in KEPT:
            if (path / name).is_file():
                link(path / name, out / name)
        copy_proposer(settings, out)
        own = load_yaml(inside(path, FILE))
        own |= {
            "label": f"{settings['label']} ({told})",
            "runtime": {**settings["runtime"], "precision": "fp32"},
            EXPORTED: {"runtime": runtime, "precision": precision},
        }
        detector = detzoo.load(path)
        about = metadata(path, detector)
        if precision == "int8":
            _quantized(detector, out / MODEL, settings, about)
        else:
            to_onnx(detector, out / MODEL, fixed_size(detector), metadata=about)
        write_text(out / FILE, yaml.safe_dump(own, sort_keys=False))
    return out


def exported_runs(
    paths: Sequence[Path], runtime: str, precision: str | None, data_root: str | None = None
) -> tuple[dict[Path, Path], dict[Path, str]]:
    """run -> its exported row's directory, and run -> why there is none.

    precision: fp32 where None. Those of `paths` that are exported rows themselves are left out.
    """
    made: dict[Path, Path] = {}
    failed: dict[Path, str] = {}
    for path in paths:
        try:
            if EXPORTED not in load_yaml(inside(path, FILE)):
                made[path] = exported_run(path, runtime, precision or "fp32", data_root)
        except ImportError:
            raise
        except Exception as error:
            failed[path] = one_line(error)
    return made, failed


def attach(detector: Detector, path: Path, settings: Mapping[str, Any]) -> Detector:
    """The detector as its run computes it: by the exported file if config.yaml names one."""
    if EXPORTED not in settings:
        return detector
    how = settings[EXPORTED]
    if not isinstance(how, dict) or set(how) != {"runtime", "precision"}:
        raise ValueError(f"{path / FILE}: {EXPORTED} must have runtime and precision, got {how!r}")
    for name in chains(detector) or ["network"]:
        inside(path, graph_file(Path(MODEL), name).name)
    detector.network = ExportedNetwork(
        detector,
        path / MODEL,
        fixed_size(detector),
        runtime=how["runtime"],
        precision=str(how["precision"]),
        threads=torch.get_num_threads(),
    )
    return detector


def _quantized(detector: Detector, to: Path, settings: Settings, about: dict[str, str]) -> None:
    """ONNX Runtime's static quantization: int8 weights by channel, activations in the ranges that
    the first CALIBRATION training images give."""
    imported("onnxruntime")
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self, given: Sequence[dict[str, np.ndarray]]) -> None:
            self.given = iter(given)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.given, None)

    inputs = calibration(detector, settings)
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / MODEL
        to_onnx(detector, plain, fixed_size(detector), metadata=about)
        for name, given in inputs.items():
            with atomic(graph_file(to, name)) as temporary:
                quantize_static(
                    str(graph_file(plain, name)),
                    str(temporary),
                    Reader(given),
                    per_channel=True,
                    activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                )


@torch.no_grad()
def calibration(detector: Detector, settings: Settings) -> dict[str, list[dict[str, np.ndarray]]]:
    """graph -> its inputs, by name, for each of the first CALIBRATION training images."""
    training = source(settings).read("train")
    few = with_proposals(
        replace(training, samples=training.samples[:CALIBRATION]), detector.proposer
    )
    found: dict[str, list[dict[str, np.ndarray]]] = {}
    for images in EvaluationBatches(
        few, batch_size=1, resize=detector.resize, stride=detector.stride
    ):
        for name, (given, _) in calls(detector, images).items():
            arrays = [x.float().numpy() for _, x in tensors(given)]
            names = ["pixels"] if name == "network" else [f"input{i}" for i in range(len(arrays))]
            if len(arrays[0]):
                found.setdefault(name, []).append(dict(zip(names, arrays, strict=True)))
    return found


def difference(torch_run: Path, exported: Path, n: int = 1000) -> str:
    """The exported row's AP less torch's on the same test images, with the paired test."""
    tables = {}
    for path in (exported, torch_run):
        truth, results = (read_json(path / f"{name}.json") for name in ("dataset", "predictions"))
        most = read_json(path / "metrics.json")["max_dets"]
        tables[path.name] = [match(truth, results, max_dets=most)]
    (pair,) = compare_all(tables, n=n)
    if pair.difference is None:
        return f"{exported.name}: AP n/a, there are no boxes to find"
    return (
        f"{exported.name}: AP {pair.difference:+.4f} against torch's "
        f"{interval_text(pair.low, pair.high, '+.4f')}, p {pair.p:.3f}"
    )
