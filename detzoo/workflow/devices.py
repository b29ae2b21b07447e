"""GPUs for the runs of all sweeps on a machine, one each."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from detzoo.speed.lock import timing_lock

FOLDER = Path(tempfile.gettempdir())


@contextmanager
def free_device(names: Sequence[str], folder: Path = FOLDER, poll: float = 1.0) -> Iterator[int]:
    """The index of a name that no other process on this machine holds; waits until there is one.

    names: of the GPUs that this process sees, the same in every process (their UUIDs). The kernel
    releases the locks of a process that ends, in whatever way.
    """
    if not names:
        raise ValueError("there is no device to hand out")
    printed = False
    with ExitStack() as held:
        while (index := _first_free(names, folder, held)) is None:
            if not printed:
                print(f"all {len(names)} GPUs have a run: waiting for one", file=sys.stderr)
                printed = True
            time.sleep(poll)
        yield index


def _first_free(names: Sequence[str], folder: Path, held: ExitStack) -> int | None:
    for index, name in enumerate(names):
        lock = timing_lock(folder / f"detzoo-gpu-{name}.lock", timeout=0, say=lambda text: None)
        try:
            held.enter_context(lock)
        except TimeoutError:
            continue
        return index
    return None


@contextmanager
def reserved_gpu(device: str) -> Iterator[None]:
    """If `device` is "cuda", use a GPU that no other run of the sweep uses."""
    import torch

    if device != "cuda":  # a CPU is shared; cuda:N is the user's own choice
        yield
        return
    count = torch.cuda.device_count()
    names = [str(torch.cuda.get_device_properties(index).uuid) for index in range(count)]
    with free_device(names) as index:
        torch.cuda.set_device(index)
        try:
            yield
        finally:
            torch.cuda.empty_cache()  # this process may have another GPU in its next run
