"""One training in several processes: all differences from a single process.

`torchrun --nproc-per-node=N -m detzoo train ...` starts N processes, each with a GPU or on a CPU.
`recipe.batch_size` is the total: each process has its part of every batch, and the weights are
those of one process (see ops.losses.normaliser), so the learning rate stays. Only random draws
within a process (dropout, the sampling of regions) differ, and batch norm, which sees the images of
its process alone unless `sync_batch_norm`.

In a single process every function here does nothing, or returns its argument. Process 0 is the main
process, the only one that writes and prints.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch import distributed as dist

from detzoo.engine import status

PATIENCE = timedelta(hours=24)  # the first may draw a data set or propose regions while others wait
T = TypeVar("T")


def launched() -> bool:
    """Whether torchrun, or a program like it, has started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if processes() > 1 else 0


def is_main_process() -> bool:
    return rank() == 0


@contextmanager
def process_group(device: str) -> Iterator[None]:
    """The process group that torchrun started, and this process's GPU.

    device: as in runtime.device; "auto", "cpu" or "cuda". Raises ValueError if it names one GPU for
    all, and for more processes than GPUs on this machine.
    """
    if not launched():
        yield
        return
    local, here = (int(os.environ.get(name, "0")) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(
            f"runtime.device={device} would be the same for every process; under torchrun it is "
            "auto, cuda or cpu, and each process takes a GPU of its own"
        )
    gpus = torch.cuda.device_count()
    if device == "cuda" or (device == "auto" and gpus):
        if here > gpus:
            raise ValueError(
                f"torchrun started {here} processes on a machine with {gpus} GPUs; use "
                f"--nproc-per-node={gpus}, or runtime.device=cpu"
            )
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    else:
        backend = "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    yield  # after an error other processes may be gone, so no collective clean-up is possible
    dist.destroy_process_group()


@contextmanager
def main_process_first() -> Iterator[None]:
    """The main process runs the block first, the others after it: files that it wrote are there."""
    if not is_main_process():
        dist.barrier()
    yield
    if is_main_process() and processes() > 1:
        dist.barrier()


@contextmanager
def stage(run_dir: str | Path, name: str) -> Iterator[None]:
    """status.stage in the main process; any other process records only its failure."""
    if processes() == 1:
        with status.stage(run_dir, name):
            yield
    elif is_main_process():
        with status.stage(run_dir, name):
            dist.barrier()
            yield
    else:
        dist.barrier()  # the main process records that it runs before another can record a failure
        with status.record_failure(run_dir, f"process {rank()} of {processes()}: "):
            yield


def process_seed(seed: int) -> int:
    """The seed of this process's random numbers; the main process has `seed` itself."""
    if is_main_process():
        return seed
    return int(np.random.SeedSequence([seed, rank()]).generate_state(1)[0])


def wrap_ddp(detector: nn.Module) -> nn.Module:
    """The module to call in training: the detector itself, or DDP around it, which copies the
    main process's weights to all and averages gradients over the processes.
    """
    if processes() == 1:
        return detector
    return nn.parallel.DistributedDataParallel(detector)


def synchronise_batch_norm(detector: nn.Module) -> nn.Module:
    """Let every batch norm see the images of all processes, in place.

    ValueError on a CPU: torch's works on GPUs only.
    """
    from timm.layers import convert_sync_batchnorm

    if not torch.cuda.is_available():
        raise ValueError(
            "runtime.sync_batch_norm needs GPUs; torch has no such batch norm for CPUs"
        )
    return convert_sync_batchnorm(detector)


def all_mean(values: Tensor) -> Tensor:
    """The elementwise mean over the processes."""
    if processes() > 1:
        values = values.detach().clone()
        dist.all_reduce(values)
        values /= processes()
    return values


def broadcast_choice(choice: bool) -> bool:
    """The main process's choice: clocks differ, and all processes must save together."""
    if processes() > 1:
        chosen = torch.tensor([choice], dtype=torch.uint8)
        dist.broadcast(chosen, 0)
        choice = bool(chosen)
    return choice


def broadcast_number(number: float) -> float:
    """The main process's number, in all processes."""
    if processes() > 1:
        first = torch.tensor([number], dtype=torch.float64)
        dist.broadcast(first, 0)
        number = float(first)
    return number


def share_buffers(module: nn.Module) -> None:
    """Copy the main process's buffers to all processes.

    Without synchronisation each has its own statistics of batch norm; the first's are saved.
    """
    if processes() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)


def gather(value: T) -> list[T]:
    """The value of every process, in their order, in each of them. Plain values and CPU tensors."""
    if processes() == 1:
        return [value]
    values: list[Any] = [None] * processes()
    dist.all_gather_object(values, value)
    return values


def interleave(parts: Sequence[Sequence[T]]) -> list[T]:
    """[[a, c, e], [b, d]] -> [a, b, c, d, e]: the inverse of dealing items out in turn."""
    return [part[i] for i in range(len(parts[0])) for part in parts if i < len(part)]
