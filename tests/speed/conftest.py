from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from detzoo.speed import stages
from detzoo.speed.stages import Pipeline

from .fakes import DECODE, PREPROCESS, FakeDetector, FakeDevice, jpeg


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> FakeDevice:
    fake = FakeDevice()
    load, collate = FakeDetector.picture_of, stages.collate_images

    def slow_load(*args):
        fake.spend(DECODE)
        return load(*args)

    def slow_collate(*args, **kwargs):
        fake.spend(PREPROCESS)
        return collate(*args, **kwargs)

    monkeypatch.setattr(FakeDetector, "picture_of", slow_load)
    monkeypatch.setattr(stages, "collate_images", slow_collate)
    return fake


@pytest.fixture
def pipeline(device: FakeDevice) -> Callable[..., Pipeline]:
    def make(work: Callable[[int, int], float] = lambda call, batch: 4.0, name="fake") -> Pipeline:
        detector = FakeDetector(device, work)
        cpu = torch.device("cpu")
        return Pipeline(
            name, detector, detector.resize, cpu, "fp32", False, device.clock, device.synchronize
        )

    return make


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Ten different images."""
    files = [tmp_path / f"{i}.jpg" for i in range(10)]
    for grey, file in enumerate(files):
        file.write_bytes(jpeg(grey=20 * grey))
    return files
