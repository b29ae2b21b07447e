"""Promise 8: on a pretended GPU the CPU's numbers, no mixed devices, and few waits for it."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from test_contract import SOME, WIDTH, assert_same, batch, build, own

from composed import CONFIGS
from detzoo.data import Letterbox
from detzoo.engine import step
from detzoo.engine.precision import prepare
from detzoo.engine.recipe import Recipe
from detzoo.engine.training import Training
from detzoo.ideal import parts_of, with_truth
from detzoo.types import Detections, pad_targets, to_cpu
from pretended import CUDA, OnGPU, gpu, move_module, on_host

REGIONS = ("rcnn", "fast_rcnn", "faster_rcnn")
PEERS = [name for name in CONFIGS if "/" in name]  # torchvision's code waits as it likes
OURS = [name for name in CONFIGS if name not in PEERS]
# How often the host may wait for the device in a training step and in decode, at any batch size.
TRAINING = {name: 6 if name in REGIONS else 3 for name in OURS}
DECODE = 2
RESTORE = 1
LAUNCHES = {"cornernet": 100}  # kernels of decode; its soft NMS takes box after box
MOST_LAUNCHES = 200  # of the others


def host(found: Detections) -> Detections:
    return Detections(*(on_host(x) for x in (found.boxes, found.scores, found.labels)))


def images_of(count: int):
    return batch(*(WIDTH, 80, 64)[:count])


@pytest.mark.parametrize("name", CONFIGS)
def test_a_gpu_gives_the_cpus_numbers(name: str) -> None:
    detector = own(name).train()
    twin = move_module(copy.deepcopy(detector))
    images, truth = images_of(2), pad_targets(SOME)
    torch.manual_seed(7)
    losses = detector(images, truth)
    sum(losses.values()).backward()
    with gpu() as waits:
        there = images.to(CUDA, non_blocking=True), truth.to(CUDA, non_blocking=True)
        torch.manual_seed(7)
        found = twin(*there)
        assert all(isinstance(loss, OnGPU) for loss in found.values())
        sum(found.values()).backward()
        if name in TRAINING:
            assert waits.count <= TRAINING[name], waits.where
    for key, loss in losses.items():
        torch.testing.assert_close(on_host(found[key]), loss, rtol=1e-4, atol=1e-5)
    for (key, one), other in zip(detector.named_parameters(), twin.parameters(), strict=True):
        if one.grad is not None:
            close = {"rtol": 1e-3, "atol": 1e-3 * one.grad.abs().max().item() + 1e-6}
            torch.testing.assert_close(on_host(other.grad), one.grad, **close, msg=key)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_gpu_finds_what_the_cpu_finds(name: str) -> None:
    detector = own(name).eval()
    twin = move_module(copy.deepcopy(detector))
    images = images_of(3)
    with torch.no_grad():
        expected = detector(images)
        with gpu() as waits:
            outputs = twin.network(images.to(CUDA, non_blocking=True))
            found = twin.decode(outputs, images.sizes)
            if name in OURS:
                twin.score_threshold = 0.01  # at 0 soft NMS goes on until nothing is left
                waits.where.clear()
                waits.launches = 0
                twin.decode(outputs, images.sizes)
                assert waits.count <= DECODE, waits.where
                assert waits.launches <= LAUNCHES.get(name, MOST_LAUNCHES)
            waits.where.clear()
            restored = to_cpu(found)
            assert waits.count == RESTORE, waits.where
    for one, other in zip(found, expected, strict=True):
        assert isinstance(one.boxes, OnGPU)
        assert_same(host(one), other)
    for one, other in zip(restored, found, strict=True):
        assert not one.boxes.is_cuda
        for name_, a in vars(one).items():
            b = vars(host(other))[name_]
            if isinstance(a, torch.Tensor):
                assert a.dtype == b.dtype and torch.equal(a, b)
            else:
                assert a == b


@pytest.mark.parametrize("name", ["faster_rcnn", "retinanet", "centernet"])
def test_three_steps_of_the_engine(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same weights as on the CPU, and no wait but the detector's own."""
    monkeypatch.setattr(step.PendingCopy, "event", staticmethod(lambda: mock.Mock()))
    recipe = Recipe(batch_size=2, images_seen=6, lr=1e-3, optimizer="momentum")
    images, truth, ends, losses = images_of(2), pad_targets(SOME), [], []
    for device in ("cpu", "cuda"):
        detector = build(name)
        with gpu() if device == "cuda" else nullcontext() as waits:
            detector = move_module(detector) if device == "cuda" else detector
            (tmp_path / device).mkdir()
            run = Training(detector, recipe, tmp_path / device, 3, device, "fp32", False, 0)
            run.detector.train()
            for number in range(3):
                torch.manual_seed(number)
                run.update(images, truth)
            if device == "cuda":
                assert waits.count <= 3 * TRAINING[name], waits.where
                assert len(list(run.read(all=False))) == 2
            losses.append([values for _, values in run.read(all=True)][-1])
        ends.append([on_host(p.detach()) for p in detector.parameters()])
    for key, value in losses[0].items():
        assert losses[1][key] == pytest.approx(value, rel=1e-3), key
    for one, other in zip(*ends, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", OURS)
def test_predict_folded_and_heatmaps(name: str) -> None:
    """From arrays to boxes on the CPU, batch norm folded, as on the CPU."""
    detector = build(name).eval()
    arrays = [np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)] * 2
    detector.resize = Letterbox((64, WIDTH))
    twin = move_module(copy.deepcopy(detector))
    prepare(detector, "cpu", False, inference=True)
    expected = detector.predict(arrays, score_threshold=0.0)
    with gpu(), torch.no_grad():
        prepare(twin, CUDA, False, inference=True)
        found = twin.predict(arrays, score_threshold=0.0)
        maps = twin.heatmaps(twin.network(images_of(2).to(CUDA)))
    for one, other in zip(found, expected, strict=True):
        assert not one.boxes.is_cuda
        assert_same(one, other)
    assert all(isinstance(x, OnGPU) for x in maps.values())


@pytest.mark.parametrize("name", ["centernet", "cornernet"])
def test_oracle(name: str) -> None:
    detector = own(name).eval()
    twin = move_module(copy.deepcopy(detector))
    images, truth = images_of(2), pad_targets(SOME)
    with torch.no_grad():
        truer = with_truth(detector, detector.network(images), truth, parts_of(detector))
        expected = detector.decode(truer, images.sizes)
        with gpu():
            outputs = twin.network(images.to(CUDA))
            truer = with_truth(twin, outputs, truth.to(CUDA), parts_of(twin))
            found = twin.decode(truer, images.sizes)
    for one, other in zip(found, expected, strict=True):
        assert_same(host(one), other)


@pytest.mark.parametrize("name", OURS)
def test_waits_do_not_grow_with_the_batch(name: str) -> None:
    counts = []
    for count in (1, 3):
        twin = move_module(build(name).train())
        images = images_of(count)
        truth = pad_targets((SOME * 2)[:count])
        with gpu() as waits:
            twin(images.to(CUDA, non_blocking=True), truth.to(CUDA, non_blocking=True))
        counts.append(waits.count)
    assert counts[1] <= TRAINING[name] and counts[1] <= counts[0] + 1


def test_the_pretence_is_one() -> None:
    """It refuses what CUDA refuses, and sees what waits."""
    with gpu() as waits:
        x = torch.zeros(3, device=CUDA)
        assert x.is_cuda and x.device.type == "cuda" and (x + 1).is_cuda
        with pytest.raises(RuntimeError, match="one device"):
            x + torch.zeros(3)
        assert waits.count == 0
        for ask in (
            lambda: x.sum().item(),
            lambda: x.tolist(),
            lambda: bool(x.any()),
            lambda: x[x > 0],
            lambda: x.nonzero(),
            lambda: x.cpu(),
            lambda: x.to("cpu"),
            lambda: torch.tensor([1.0], device=CUDA),
            lambda: x.new_tensor([1.0]),
            lambda: torch.zeros(3).to(CUDA),
        ):
            before = waits.count
            ask()
            assert waits.count == before + 1, ask.__code__.co_firstlineno
        torch.zeros(3).to(CUDA, non_blocking=True)
        assert waits.count == before + 1
