"""Every detector, peer and backbone: published weights, cost and terms."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
import yaml
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import get_weight

from detzoo.catalogue import BACKBONES, DETECTORS, NONE_STATED, Entry, Weights
from detzoo.config import build, folder
from detzoo.detector import Detector
from detzoo.detectors import DETECTORS as DETECTORS_BY_NAME
from detzoo.export import chains, filling
from detzoo.nn import Backbone
from detzoo.report.load.values import shorten
from detzoo.report.tables.leaderboard import align
from detzoo.speed.cost import parameters
from detzoo.workflow.verb import Result

FORMATS = ("table", "csv", "json")
WIDTH = 80  # of the table, unless a wide one is requested
NARROW = ("name", "kind", "published", "licences", "Mpar", "GMACs")  # the last two: numbers


@dataclass(frozen=True, repr=False)
class Catalogue(Result):
    """frame: a row for each published file of weights, and for entries without one; costs of a
    network with random weights. wide: all columns in the text. form: table, csv or json."""

    frame: pd.DataFrame
    about: str
    wide: bool = False
    form: str = "table"

    def text(self) -> str:
        if self.form == "csv":
            return self.frame.to_csv(index=False, lineterminator="\n")
        if self.form == "json":
            rows = self.frame.astype(object).where(self.frame.notna(), None)
            return json.dumps(rows.to_dict("records"), indent=2)
        frame = self.frame.fillna("n/a") if self.wide else _narrow(self.frame)
        rows = [list(frame.columns), *frame.astype(str).to_numpy().tolist()]
        table = align(rows, len(frame.columns) if self.wide else len(NARROW) - 2)
        return "\n".join([*table, "", *textwrap.wrap(self.about, WIDTH)])


def catalogue(
    *,
    size: int = 320,
    classes: int = 80,
    backbone: str = "resnet18",
    regions: int = 300,
    wide: bool = False,
    form: str = "table",
) -> Catalogue:
    """All of detzoo.catalogue, with parameters and multiply-adds of a pass over one image.

    size: of the square image; classes and backbone: of the detectors; regions: that a second stage
    looks at. Nothing is downloaded, and no memory is taken for weights. Raises ValueError for an
    unknown form or backbone.
    """
    if form not in FORMATS:
        raise ValueError(f"format is {form!r}; it must be one of {', '.join(FORMATS)}")
    rows = []
    for name, entry in DETECTORS.items():
        rows += _rows(name, entry, _detector_cost(name, size, classes, backbone, regions))
    for name, entry in BACKBONES.items():
        rows += _rows(name, entry, _backbone_cost(name, size))
    about = (
        f"Parameters and GMACs (1e9 multiply-adds of the network): {size} x {size} px, {classes} "
        f"classes, {backbone}, {regions} regions; papers' widths. wide=true: weights, data, sources"
    )
    return Catalogue(pd.DataFrame(rows), about, wide, form)


def _rows(name: str, entry: Entry, cost: tuple[int, float] | None) -> list[dict[str, Any]]:
    count, macs = (None, None) if cost is None else cost
    row = {"name": name, "kind": entry.kind, "parameters": count, "gmacs": macs}
    row["code licence"] = entry.code
    files: list[Weights | None] = [*entry.weights] or [None]
    return [row | _published(weights) for weights in files]


def _published(weights: Weights | None) -> dict[str, Any]:
    keys = ("weights", "saw", "figure", "weights licence", "data licence", "source")
    if weights is None:
        return dict.fromkeys(keys)
    figure = weights.figure if weights.meta is None else _figure(weights.meta)
    values = (weights.name, weights.saw, figure, weights.licence, weights.data, weights.source)
    return dict(zip(keys, values, strict=True))


def _figure(meta: str) -> str | None:
    """torchvision's own statement about these weights; None without one."""
    for data, metrics in get_weight(meta).meta["_metrics"].items():
        for name, value in metrics.items():
            if name in ("box_map", "acc@1") and value == value:
                return f"{'COCO AP' if name == 'box_map' else f'{data} top-1'} {value:g}"
    return None


def _narrow(frame: pd.DataFrame) -> pd.DataFrame:
    """One line for each name, in WIDTH characters; licences are of code, weights."""
    lines = []
    for name, of in frame.groupby("name", sort=False):
        first = of.iloc[0]
        figures = [f"{float(f.rpartition(' ')[2]):.1f}" for f in of["figure"].dropna()]
        start = re.split("[ ,-]", first["saw"])[0] if isinstance(first["saw"], str) else "none"
        values = (
            shorten(str(name), 23),
            first["kind"],
            " ".join([start, *figures[:2]]),
            _short(first["code licence"], first["weights licence"]),
            "n/a" if pd.isna(first["parameters"]) else f"{first['parameters'] / 1e6:.1f}",
            "n/a" if pd.isna(first["gmacs"]) else f"{first['gmacs']:.1f}",
        )
        lines.append(dict(zip(NARROW, values, strict=True)))
    return pd.DataFrame(lines)


def _short(code: str, weights: Any) -> str:
    """The licences of code and weights, shortened but distinct."""
    parts = [code]
    if isinstance(weights, str):  # NaN where there are none
        parts.append("none" if weights.startswith(NONE_STATED) else weights.split(";")[0])
    names = {"Apache-2.0": "Apache", "BSD-3-Clause": "BSD-3"}
    return ", ".join(dict.fromkeys(names.get(part, part) for part in parts))


def _detector_cost(
    name: str, size: int, classes: int, backbone: str, regions: int
) -> tuple[int, float] | None:
    """Parameters and GMACs with the paper's widths; None if the required extra is not installed."""
    try:
        with torch.device("meta"):
            kind = DETECTORS_BY_NAME[name]
            detector = kind(backbone=Backbone(backbone), num_classes=classes).eval()
    except ImportError:
        return None
    side = -(-size // detector.stride) * detector.stride
    return parameters(detector), macs(detector, side, regions)


@torch.no_grad()
def macs(detector: Detector, side: int, regions: int) -> float | None:
    """Billions of multiply-adds of the network for one square image, by shapes alone; for a region
    detector, with that many regions. None where a network's shapes depend on its values.

    The detector is on the meta device. Counted as speed.cost.gmacs counts.
    """
    parts = chains(detector)
    detector.requires_grad_(False)  # or the counter looks for gradients
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        pixels = torch.empty(1, 3, side, side)
        if not parts:
            try:
                detector.network(filling(pixels))
            except (RuntimeError, NotImplementedError):
                return None
            return counter.get_total_flops() / 2e9
        crops = not hasattr(detector, "neck")
        crop = torch.empty(1, 3, detector.crop, detector.crop) if crops else pixels
        maps = detector.backbone(crop)
        if not crops:
            maps = detector.neck(maps)
        if "rpn" in parts:
            of_pixels = {} if hasattr(detector, "rules") else {"size": (side, side)}
            detector.rpn(maps, **of_pixels)
        once = counter.get_total_flops()
        channels, cells = maps[-1].shape[1], maps[-1].shape[-1] if crops else 7
        detector.head(torch.empty(2, channels, cells, cells))
        each = (counter.get_total_flops() - once) / 2
    each += once if crops else 0
    return ((0 if crops else once) + each * regions) / 2e9


def _backbone_cost(name: str, size: int) -> tuple[int, float]:
    node = _backbone_node(name)
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        backbone: nn.Module = build(node, "backbone").eval()
        side = -(-size // backbone.strides[-1]) * backbone.strides[-1]
        backbone(torch.empty(1, 3, side, side))
    return parameters(backbone), counter.get_total_flops() / 2e9


def _backbone_node(name: str) -> Mapping[str, Any]:
    """conf/backbone/NAME.yaml as written, without what it takes from elsewhere."""
    text = (folder("conf") / "backbone" / f"{name}.yaml").read_text(encoding="utf-8")
    return {k: v for k, v in yaml.safe_load(text).items() if "${" not in str(v)}
