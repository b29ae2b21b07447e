"""Shared by the benchmarks: the same real batches for all, a training step, interleaved rounds."""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from itertools import count, cycle
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from detzoo.data import Coco, Shapes, with_proposals
from detzoo.data.dataset import Dataset
from detzoo.data.loader import Batches
from detzoo.data.resize import Letterbox
from detzoo.detector import Detector
from detzoo.engine.precision import autocast, choose_device, prepare, transfer
from detzoo.engine.recipe import Recipe
from detzoo.ops.precision import float32_as
from detzoo.speed.lock import timing_lock
from detzoo.speed.machine import Bystanders, environment
from detzoo.speed.stages import Pipeline, synchronizer


def arguments(
    description: str, *, seconds: float, batch: int, size: int = 128
) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--backbone", default="resnet18", help="a timm name")
    parser.add_argument("--size", type=int, default=size, help="side of the input in pixels")
    parser.add_argument("--batch", type=int, default=batch, help="images in a training step")
    parser.add_argument("--seconds", type=float, default=seconds, help="for the whole benchmark")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="torch's own choice when left out")
    parser.add_argument("--data", default="data", help="where the shapes are, or are drawn into")
    return parser


def begin(options: argparse.Namespace) -> torch.device:
    """Set the threads, print what is measured on."""
    sys.stdout.reconfigure(line_buffering=True)  # so that a pipe shows a row when it is done
    if options.threads:
        torch.set_num_threads(options.threads)
    device = choose_device(options.device)
    here = environment(device)
    sets = ", ".join(here["instruction_sets"]) or "unknown"
    print(f"{here['gpu'] or here['cpu']}, {here['threads']} threads; instruction sets: {sets}")
    if device.type == "cpu" and not {"amx_bf16", "avx512_bf16"} & set(here["instruction_sets"]):
        print("This processor has neither AMX nor AVX512-BF16: it emulates bf16, slowly.")
    print(
        f"torch {here['torch']}, torchvision {here['torchvision']}, commit {here['commit']}; "
        f"{options.backbone}, {options.size} px, batch {options.batch}"
    )
    return device


def photographed(options: argparse.Namespace, split: str) -> Dataset:
    """Aquarium, where it lies in ../shared/data, else shapes of 640 pixels."""
    folder = Path("../shared/data/aquarium")
    source = Coco(folder, "aquarium") if folder.is_dir() else Shapes(options.data, size=640)
    dataset = source.read(split)
    print(f"{len(dataset)} images of {dataset.name}, {split}")
    return dataset


def photographs(options: argparse.Namespace, split: str) -> list[Path]:
    """Their files."""
    return [sample.path for sample in photographed(options, split).samples]


def shapes(options: argparse.Namespace, split: str) -> Dataset:
    return Shapes(options.data).read(split)


def pipeline_of(
    name: str, model: Detector, device: torch.device, precision: str, channels_last: bool
) -> Pipeline:
    """The detector as inference has it, between a file's bytes and boxes."""
    return Pipeline(
        name,
        prepare(model, device, channels_last, inference=True),
        model.resize,
        device,
        precision,
        channels_last,
        synchronize=synchronizer(device),
    )


class Training:
    """A training step of one detector, over the same few batches again and again."""

    def __init__(
        self,
        detector: Detector,
        options: argparse.Namespace,
        device: torch.device,
        precision: str = "fp32",
        channels_last: bool = False,
        lr: float = 1e-4,
    ) -> None:
        self.device, self.precision, self.channels_last = device, precision, channels_last
        self.detector = prepare(detector, device, channels_last).train()
        recipe = Recipe(images_seen=10_000, lr=lr, batch_size=options.batch)
        self.optimizer = recipe.make_optimizer(detector)
        batches = Batches(
            with_proposals(shapes(options, "train"), detector.proposer),
            batch_size=options.batch,
            images_seen=4 * options.batch,
            resize=Letterbox(options.size),
            augment=None,
            stride=detector.stride,
            seed=0,
        )
        self.batches = cycle(list(batches.iterate()))  # loaded before, so no step waits for data

    def __call__(self) -> int:
        """One step; gives the number of images."""
        images, targets = next(self.batches)
        images = transfer(images, self.device, self.channels_last)
        targets = [target.to(self.device) for target in targets]
        with autocast(self.device, self.precision):
            losses = self.detector(images, targets)
        self.optimizer.zero_grad()
        with float32_as(tf32=self.precision == "tf32"):
            sum(losses.values()).backward()
        nn.utils.clip_grad_norm_(self.detector.parameters(), 10.0)
        self.optimizer.step()
        return len(images.frames)


def interleaved(
    work: dict[str, Callable[[], int]], seconds: float, device: torch.device, seed: int = 0
) -> dict[str, list[float]]:
    """Things done per second, per round, of each: one call each a round, in random order.

    The first round is not counted. At least one is, then as many as fit into `seconds`.
    """
    wait = synchronizer(device)
    generator = random.Random(seed)
    rates: dict[str, list[float]] = {name: [] for name in work}
    names = list(work)
    bystanders = Bystanders()
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    start = time.perf_counter()
    try:
        with tqdm(total=round(seconds), unit="s", leave=False, disable=None) as bar:
            for number in count():
                begin = time.perf_counter()
                generator.shuffle(names)
                for name in names:
                    wait()
                    before = time.perf_counter()
                    done = work[name]()
                    wait()
                    if number:
                        rates[name].append(done / (time.perf_counter() - before))
                    bar.update(min(bar.total, round(time.perf_counter() - start)) - bar.n)
                now = time.perf_counter()
                if number and now - start + (now - begin) > seconds:
                    break
    finally:
        if collecting:
            gc.enable()
    if bystanders.load() > 0.03:
        print(f"  other processes used {bystanders.load():.0%} of the processors meanwhile")
    return rates


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """The median of ours / theirs over rounds, and the middle 80% of it."""
    pairs = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    edge = len(pairs) // 10
    return f"{statistics.median(pairs):5.2f}x ({pairs[edge]:.2f} to {pairs[-1 - edge]:.2f})"


__all__ = [
    "Training",
    "arguments",
    "begin",
    "interleaved",
    "photographed",
    "photographs",
    "pipeline_of",
    "ratio",
    "shapes",
    "timing_lock",
]
