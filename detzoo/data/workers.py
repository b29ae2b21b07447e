"""Batches computed ahead by worker processes, in memory that a GPU copies from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader


def choose_workers(
    device: torch.device | str,
    wanted: int | str = "auto",
    processes: int = 1,
    decoder: str = "auto",
) -> int:
    """How many processes load images for one that computes. ValueError unless auto or >= 0.

    `auto` is all cores but one on CUDA, shared by the `processes` that compute. On a CPU it is 0:
    the network needs the cores, and with a cache in memory 0 is fastest on two. It is also 0 where
    a GPU is the decoder, which a worker process could not use.
    """
    if wanted != "auto":
        if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 0:
            raise ValueError(f"runtime.workers is {wanted!r}; it must be auto, or 0 or more")
        if wanted and decoder == "cuda":
            raise ValueError(
                f"runtime.workers is {wanted}, and runtime.decoder=cuda decodes in the process "
                "that has the GPU; use runtime.workers=auto or 0"
            )
        return wanted
    if torch.device(device).type != "cuda" or decoder == "cuda":
        return 0
    allowed = getattr(os, "sched_getaffinity", None)  # not on macOS
    cores = len(allowed(0)) if allowed else os.cpu_count() or 1
    return max(0, cores // processes - 1)


class Pinnable:
    """A batch, pinned as by the loader's own thread, for any kind of tuple."""

    def __init__(self, batch: Any) -> None:
        self.batch = batch

    def pin_memory(self) -> Pinnable:
        if isinstance(self.batch, tuple):
            return Pinnable(tuple(part.pin_memory() for part in self.batch))
        return Pinnable(self.batch.pin_memory())


def in_order(batches, numbers: range, workers: int, pin: bool) -> Iterator:
    """batches[n] for n in numbers, computed ahead by worker processes if there are any.

    pin: in memory from which a GPU copies while it computes.
    """
    if not workers:
        whole = (Pinnable(batches[number]) for number in numbers)
        return (one.pin_memory().batch if pin else one.batch for one in whole)
    ahead = iter(
        DataLoader(
            batches,
            sampler=numbers,
            batch_size=None,  # every item is a batch already
            collate_fn=Pinnable,
            num_workers=workers,
            prefetch_factor=4,
            pin_memory=pin,
        )
    )
    return (one.batch for one in ahead)
