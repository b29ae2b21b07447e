"""Two processes train as one does: gloo on the CPU, no batch norm."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import detzoo
from detzoo.cli import main
from detzoo.data.dataset import Dataset, Sample
from detzoo.data.loader import Batches
from detzoo.data.resize import ShortestSide
from detzoo.detector import Detector
from detzoo.engine import checkpoint, distributed, status
from detzoo.engine.predict import predict_dataset
from detzoo.engine.train import train
from detzoo.engine.training import Training
from detzoo.ops.losses import normaliser
from detzoo.types import Detections, Frame, Images, Target

from .tiny import recipe

STEPS = 8


class Plain(Detector):
    """No batch norm, no dropout; its loss is divided by the number of objects, 0-3 per image.

    It finds one box an image, whose score is the image's brightness.
    """

    def __init__(self) -> None:
        super().__init__(num_classes=3, stride=4)
        self.conv = nn.Conv2d(3, 8, 3, stride=4)
        self.linear = nn.Linear(8, 3)
        self.register_buffer("seen", torch.zeros(1))  # of this process, as batch norm's are

    def network(self, images: Images, targets: Sequence[Target] | None = None) -> Tensor:
        if targets is not None:
            self.seen += images.pixels.float().mean()
        return self.linear(self.conv(self.normalise(images)).relu().mean((2, 3)))

    def losses(self, outputs: Tensor, targets: Sequence[Target]) -> dict[str, Tensor]:
        count = [len(target.labels) for target in targets]
        wanted = torch.cat([target.labels for target in targets])
        rows = outputs.repeat_interleave(torch.tensor(count), 0)
        loss = nn.functional.cross_entropy(rows, wanted, reduction="sum")
        return {"class": loss / normaliser(sum(count))}

    def decode(self, outputs: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        score = outputs.softmax(1).max(1).values
        return [
            Detections(torch.tensor([[0.0, 0, w, h]]), s[None], torch.tensor([0]))
            for s, (h, w) in zip(score, sizes, strict=True)
        ]


def plain() -> Plain:
    torch.manual_seed(5)
    return Plain()


class Part:
    """Of the batches, what process `rank` gets; fails at step `bad`."""

    def __init__(self, rank: int = 0, processes: int = 1, bad: int | None = None) -> None:
        self.rank, self.processes, self.bad = rank, processes, bad

    def __len__(self) -> int:
        return STEPS

    def iterate(self, start_step: int = 0) -> Iterator[tuple[Images, list[Target]]]:
        for step in range(start_step, STEPS):
            if step == self.bad:
                raise ValueError("no such image")
            draw = torch.Generator().manual_seed(step)
            pixels = torch.randint(0, 256, (4, 3, 16, 16), generator=draw, dtype=torch.uint8)
            targets = [
                Target(
                    torch.rand(n, 4), torch.randint(0, 3, (n,), generator=draw), torch.zeros(n) > 0
                )
                for n in torch.randint(0, 4, (4,), generator=draw).tolist()
            ]
            own = slice(self.rank, None, self.processes)
            frames = [Frame(step * 4 + i, (16, 16), (16, 16)) for i in range(4)]
            yield Images(pixels[own], frames[own], None), targets[own]


def validate(detector: Detector) -> dict[str, float]:
    torch.rand(distributed.rank() + 1)
    return {"AP": float(detector.seen), "AP50": 0.5}


def dataset(folder: Path) -> Dataset:
    """Seven images of different sizes."""
    samples = []
    for i in range(7):
        size = (20 + 3 * i, 40 - 2 * i)
        pixels = np.random.default_rng(i).integers(0, 256, (*size, 3), dtype=np.uint8)
        path = folder / f"{i}.png"
        if not path.exists():
            Image.fromarray(pixels).save(path)
        none = torch.zeros(0)
        samples.append(Sample(i, path, size, none.reshape(0, 4), none.long(), none.bool(), none))
    return Dataset("seven", "test", folder, samples, ("a", "b", "c"), (1, 2, 3))


class Stop(Exception):
    pass


def work(rank: int, folder: Path) -> None:
    """The life of one of two processes."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    folder = Path(folder)
    facts: dict[str, Any] = {}
    with distributed.process_group("cpu"):
        facts["gathered"] = distributed.gather(rank)
        facts["mean"] = distributed.all_mean(torch.tensor([float(rank)])).tolist()
        facts["agreed"] = (
            distributed.broadcast_choice(rank == 0),
            distributed.broadcast_choice(rank == 1),
        )
        facts["seed"] = distributed.process_seed(3)
        options = {"seed": 3, "validate": validate, "progress": False}
        changes = {"ema_decay": 0.9, "clip_norm": 0.1}
        detector = plain()
        if rank == 1:  # another start, which counts for nothing
            nn.init.zeros_(detector.linear.weight)
        part = Part(rank, 2)
        train(detector, part, recipe(STEPS, **changes), folder / "whole", **options)
        torch.save(detector.state_dict(), folder / f"whole{rank}.pt")

        def stop(progress: dict[str, Any]) -> None:
            if progress["step"] == 5:
                raise Stop

        for on_progress in (stop, None):
            detector = plain()
            try:
                run = folder / "cut"
                seldom = 0.0 if rank == 0 else 1e9  # the first's clock decides
                train(
                    detector,
                    part,
                    recipe(STEPS, **changes),
                    run,
                    **options,
                    on_progress=on_progress,
                    checkpoint_seconds=seldom,
                )
            except Stop:
                facts["state"] = status.read(run)["state"]
        torch.save(detector.state_dict(), folder / f"cut{rank}.pt")
        train(detector := plain(), part, recipe(STEPS), folder / "bare", seed=3, progress=False)
        facts["seen"] = float(detector.seen)
        facts["minutes"] = minutes(rank, folder / "minutes")
        facts["found"] = predict_dataset(
            plain(), dataset(folder), resize=ShortestSide(16, 32), batch_size=2, progress=False
        )
    (folder / f"facts{rank}.json").write_text(json.dumps(facts))


def minutes(rank: int, run: Path) -> dict[str, Any]:
    """What a process has seen when a budget of six seconds is over. A step takes one by the first's
    clock, which counts, and three by the second's."""
    now = [0.0]
    update, clock = Training.update, time.perf_counter

    def slow(self: Training, *batch: Any) -> None:
        update(self, *batch)
        now[0] += 1 + 2 * rank

    Training.update, time.perf_counter = slow, lambda: now[0]
    try:
        options = {"seed": 3, "validate": validate, "progress": False}
        train(detector := plain(), Part(rank, 2), recipe(STEPS, minutes=0.1), run, **options)
    finally:
        Training.update, time.perf_counter = update, clock
    return {"weights": sum(float(value.sum()) for value in detector.parameters())}


def fail(rank: int, folder: Path) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    with distributed.process_group("cpu"):
        part = Part(rank, 2, bad=3 if rank == 1 else None)
        train(plain(), part, recipe(STEPS), folder, seed=3, progress=False)


def spawn(target: Any, folder: Path) -> list[int]:
    """Two processes; gives their exit codes."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    context = torch.multiprocessing.get_context("spawn")
    both = [context.Process(target=target, args=(rank, folder)) for rank in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(200)
    return [process.exitcode for process in both]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    dataset(folder)
    assert spawn(work, folder) == [0, 0]
    return folder


@pytest.fixture(scope="module")
def facts(two: Path) -> list[dict[str, Any]]:
    return [json.loads((two / f"facts{rank}.json").read_text()) for rank in range(2)]


def weights(path: Path) -> dict[str, Tensor]:
    return torch.load(path, weights_only=True)


@pytest.mark.slow
def test_two_processes_give_the_weights_of_one(two: Path, tmp_path: Path) -> None:
    alone = plain()
    changes = {"ema_decay": 0.9, "clip_norm": 0.1}
    train(alone, Part(), recipe(STEPS, **changes), tmp_path, seed=3, progress=False)
    start, found = plain().state_dict(), weights(two / "whole0.pt")
    for name, value in alone.named_parameters():
        assert (value - start[name]).abs().max() > 1e-3, "it has learned something"
        assert torch.allclose(found[name], value, atol=1e-5), name
    logs = [(path / "log.csv").read_text().splitlines() for path in (two / "whole", tmp_path)]
    assert len(logs[0]) == STEPS + 1
    for one, other in zip(*logs, strict=True):
        if one != logs[0][0]:
            assert [float(x) for x in one.split(",")[:5]] == pytest.approx(
                [float(x) for x in other.split(",")[:5]], abs=1e-5
            )
    now = status.read(two / "whole")
    assert (now["state"], now["images_seen"]) == ("done", STEPS * 4)


@pytest.mark.slow
def test_all_end_with_the_same_weights_and_buffers_and_resume_to_them(two: Path, facts) -> None:
    first = weights(two / "whole0.pt")
    for name in ("whole1.pt", "cut0.pt", "cut1.pt"):
        for key, value in weights(two / name).items():
            assert torch.equal(value, first[key]), (name, key)
    assert facts[0]["seen"] == facts[1]["seen"], "also where no validation has shared them"
    assert facts[0]["state"] == "failed"  # it was stopped, and went on
    state = checkpoint.load(two / "cut")
    assert state["step"] == STEPS and state["processes"] == len(state["random"]) == 2
    curves = [(two / name / "curve.csv").read_text().splitlines() for name in ("whole", "cut")]
    assert [row.split(",")[2] for row in curves[0]] == [row.split(",")[2] for row in curves[1]]


@pytest.mark.slow
def test_evaluation_has_every_image_once_and_in_order(two: Path, facts) -> None:
    alone = predict_dataset(
        plain(), dataset(two), resize=ShortestSide(16, 32), batch_size=2, progress=False
    )
    assert [found["image_id"] for found in alone] == list(range(7))
    for fact in facts:
        assert [found["image_id"] for found in fact["found"]] == list(range(7))
        assert [f["score"] for f in fact["found"]] == pytest.approx([f["score"] for f in alone])


@pytest.mark.slow
def test_a_budget_in_minutes_is_over_for_all_at_one_step(two: Path, facts) -> None:
    assert facts[0]["minutes"] == facts[1]["minutes"]
    now = status.read(two / "minutes")
    assert (now["state"], now["images_seen"], now["train_seconds"]) == ("done", 6 * 4, 6.0)


@pytest.mark.slow
def test_processes_exchange_values(facts) -> None:
    for fact in facts:
        assert fact["gathered"] == [0, 1] and fact["mean"] == [0.5]
        assert fact["agreed"] == [True, False]
    assert facts[0]["seed"] == 3 != facts[1]["seed"]


@pytest.mark.slow
def test_one_that_fails_ends_all_and_is_recorded(tmp_path: Path) -> None:
    codes = spawn(fail, tmp_path)
    assert codes[1] == 1 and codes[0] not in (0, None)
    now = status.read(tmp_path)
    assert now["state"] == "failed" and now["finished"]
    assert now["error"] == "process 1 of 2: ValueError: no such image"


def test_a_single_process_distributes_nothing(tmp_path: Path) -> None:
    detector = plain()
    with distributed.process_group("cuda:7"), distributed.main_process_first():
        assert (distributed.rank(), distributed.processes()) == (0, 1)
    assert distributed.wrap_ddp(detector) is detector
    assert (
        distributed.gather(3) == [3]
        and distributed.broadcast_choice(True)
        and distributed.process_seed(3) == 3
    )
    assert distributed.interleave([[1, 3, 5], [2, 4]]) == [1, 2, 3, 4, 5]
    assert distributed.interleave([[]]) == []


def test_what_several_processes_refuse(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"cuda:1 would be the same for every process"):
        with distributed.process_group("cuda:1"):
            pass
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"2 processes on a machine with 1 GPUs"):
        with distributed.process_group("auto"):
            pass
    assert main(["bench"]) == main(["train", "-m", "seed=0,1"]) == 1
    assert "torchrun is for one training" in capsys.readouterr().err


def test_synchronised_batch_norm_needs_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="sync_batch_norm needs GPUs"):
        distributed.synchronise_batch_norm(model)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    names = set(model.state_dict())
    model = distributed.synchronise_batch_norm(model)
    assert isinstance(model[1], nn.SyncBatchNorm) and set(model.state_dict()) == names


@pytest.mark.parametrize("step", [0, 2])
def test_the_parts_of_a_batch_are_the_batch(step: int, tmp_path: Path) -> None:
    """Images of different sizes: a part is padded as the whole is."""
    options = {"batch_size": 4, "images_seen": 16, "resize": ShortestSide(16, 32), "stride": 8}
    options |= {"augment": None, "seed": 0}
    whole, _ = Batches(dataset(tmp_path), **options)[step]
    for rank in range(2):
        part, targets = Batches(dataset(tmp_path), **options, rank=rank, processes=2)[step]
        assert part.frames == whole.frames[rank::2] and len(targets) == 2
        assert torch.equal(part.pixels, whole.pixels[rank::2])
    with pytest.raises(ValueError, match=r"batch_size 4 .* multiple of 3"):
        Batches(dataset(tmp_path), **options, processes=3)


@pytest.mark.slow
def test_torchrun_trains_into_one_run_directory(tmp_path: Path) -> None:
    root = Path(detzoo.__file__).parents[1]
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
        *("-m", "detzoo", "train", "data.size=64", "data.min_size=8"),
        *("data.train=24", "data.val=6", "data.test=10", "resize.size=64", "backbone=resnet10t"),
        *("recipe.minutes=0.01", "recipe.batch_size=8", "recipe.val_points=1"),
        *("runtime.device=cpu", "runtime.threads=1"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs" / "default").iterdir()
    assert done.stdout.splitlines()[-1] == str(run.relative_to(tmp_path))
    now = status.read(run)
    assert now["state"] == "done" and now["images_seen"] >= 8 and now["train_seconds"] >= 0.6
    assert "processes: 2" in (run / "config.yaml").read_text()
    assert len((run / "curve.csv").read_text().splitlines()) == 2
    assert len(list((tmp_path / "data").iterdir())) == 1
