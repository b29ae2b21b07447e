"""3x3 convolutions by Winograd's way beside torch's own, map by map: speed and rounding.

Maps of the kinds of detectors here at 300 to 800 pixels. Ratios above 1 say how many times as long
torch's own takes; a star is put where detzoo takes Winograd's way on this machine. Rounding is the
root mean square of the error, as a share of the output's standard deviation.

With --runs, what that does to AP instead: trained runs are scored on their test splits in fp32 and
bf16, by the plain sum and with every 3x3 convolution Winograd's, small ones too.

    python benchmarks/winograd.py --batch 8
    python benchmarks/winograd.py --runs runs/bench
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from lib import begin, interleaved, ratio, timing_lock
from torch import Tensor

from detzoo.api import load
from detzoo.config import load_yaml
from detzoo.data import with_proposals
from detzoo.engine import folded
from detzoo.engine.predict import predict_dataset
from detzoo.engine.winograd import winograd, winograd_filters, winograd_pays
from detzoo.metrics import coco
from detzoo.workflow.settings import source

MAPS = [(64, 200), (128, 150), (128, 100), (256, 100), (256, 50), (256, 25), (256, 13)]
MAPS += [(512, 38), (512, 25), (512, 10)]  # channels, side


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60, help="for all maps together")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--runs", type=Path, help="a folder of run directories, to be scored")
    options = parser.parse_args()
    options.backbone, options.size, options.device = "no backbone", "10 to 200", "cpu"
    if options.runs:
        options.size, options.batch = "their own", 8
    device = begin(options)
    if options.runs:
        for path in sorted(path.parent for path in options.runs.rglob("checkpoint.pt")):
            print(path, *_scores(path))
        return
    dtypes = [torch.float32, torch.bfloat16]
    for dtype in dtypes:
        for channels, side in MAPS:
            generator = torch.Generator().manual_seed(0)
            x = torch.randn(options.batch, channels, side, side, generator=generator)
            x = x.relu().to(dtype).contiguous(memory_format=torch.channels_last)
            weight = torch.randn(channels, channels, 3, 3, generator=generator)
            weight = (weight / (9 * channels) ** 0.5).to(dtype)
            filters = winograd_filters(weight)
            ways = {
                "plain": lambda x=x, weight=weight: F.conv2d(x, weight, padding=1),
                "winograd": lambda x=x, filters=filters: winograd(x, filters, None),
            }
            exact = F.conv2d(x[:1].double(), weight.double(), padding=1)
            rounding = {name: _rounding(way()[:1], exact) for name, way in ways.items()}
            work = {name: _counted(way, options.batch) for name, way in ways.items()}
            with timing_lock():
                rates = interleaved(work, options.seconds / len(MAPS) / len(dtypes), device)
            milliseconds = 1e3 * options.batch / statistics.median(rates["plain"])
            mark = "*" if winograd_pays(x, channels) else " "
            print(
                f"{str(dtype).removeprefix('torch.'):<9}{channels:4} channels, {side:3} px  "
                f"{milliseconds:8.2f} ms  {ratio(rates['winograd'], rates['plain'])} {mark}  "
                f"rounding {rounding['plain']:.0e}, {rounding['winograd']:.0e}"
            )


def _scores(path: Path) -> Iterator[str]:
    """AP x 100 in fp32 by the plain sum, and the others' differences to it."""
    settings = load_yaml(path / "config.yaml")
    detector = load(path)
    dataset = with_proposals(source(settings).read("test"), detector.proposer)
    first = None
    for precision in ("fp32", "bf16"):
        for way, always in (("plain", False), ("winograd", True)):
            with mock.patch.object(folded, "winograd_pays", lambda x, channels, a=always: a):
                results = predict_dataset(
                    detector,
                    dataset,
                    resize=detector.resize,
                    precision=precision,
                    channels_last=True,
                    progress=False,
                )
            ap = 100 * coco.evaluate(dataset.coco(), results)["AP"]
            yield f" {precision} {way} " + (f"{ap:.2f}" if first is None else f"{ap - first:+.2f}")
            first = ap if first is None else first


def _rounding(out: Tensor, exact: Tensor) -> float:
    return float((out - exact).square().mean().sqrt() / exact.std())


def _counted(way: Callable[[], Tensor], images: int) -> Callable[[], int]:
    @torch.no_grad()
    def once() -> int:
        way()
        return images

    return once


if __name__ == "__main__":
    main()
