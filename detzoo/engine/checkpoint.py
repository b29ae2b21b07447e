"""checkpoint.pt: everything a run needs to go on as if it had never stopped."""

from __future__ import annotations

import contextlib
import pickle
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from detzoo.files import atomic

FILE = "checkpoint.pt"
VERSION = 1


def save(run_dir: str | Path, state: dict[str, Any]) -> None:
    """Write checkpoint.pt atomically: a kill or a full disk leaves the one before it.

    state: tensors, numbers, strings and containers of them, so that weights_only=True loads it.
    """
    with atomic(Path(run_dir) / FILE) as temporary:
        torch.save({"version": VERSION, **state}, temporary)


def load(run_dir: str | Path, *, mmap: bool = False) -> dict[str, Any] | None:
    """The state on the CPU, None where there is no checkpoint.

    Loads tensors and plain values only, so a file from elsewhere runs no code. With `mmap` only
    what is used is read. Raises ValueError for a file that is no checkpoint of this version.
    """
    path = Path(run_dir) / FILE
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise ValueError(
            f"{path}: not a checkpoint of detzoo ({error}); remove it to train anew"
        ) from error
    if not isinstance(state, dict) or state.get("version") != VERSION:
        raise ValueError(f"{path}: not a checkpoint of version {VERSION}; remove it to train anew")
    return state


def load_weights(detector: nn.Module, run_dir: str | Path) -> None:
    """Load the averaged weights of a run, its plain ones where it has no average.

    Raises FileNotFoundError without checkpoint.pt, ValueError where the weights do not fit.
    """
    path = Path(run_dir) / FILE
    state = load(run_dir, mmap=True)
    if state is None:
        raise FileNotFoundError(f"{path}: no checkpoint; this run has not been trained yet")
    try:
        detector.load_state_dict(state["ema"] or state["model"])
    except RuntimeError as error:
        raise ValueError(f"{path}: the weights are of another detector: {error}") from error


def remove_leftovers(run_dir: str | Path) -> None:
    """Delete what a save that was killed has left; a checkpoint's is hundreds of megabytes."""
    for leftover in Path(run_dir).glob(f".{FILE}.*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            leftover.unlink()


def random_state() -> dict[str, Any]:
    """The state of every global random generator: torch's, CUDA's, numpy's and Python's."""
    name, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss],
        "python": random.getstate(),
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Put back what `random_state` gave."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    random.setstate(state["python"])


@contextlib.contextmanager
def undisturbed_randomness() -> Iterator[None]:
    """Whatever is drawn inside, the generators stand afterwards as they stood before."""
    before = random_state()
    try:
        yield
    finally:
        set_random_state(before)


def seed_everything(seed: int) -> None:
    """Seed torch (CUDA too), numpy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
