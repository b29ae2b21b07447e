"""checkpoint.pt: everything that a run needs to resume exactly where it stopped."""

from __future__ import annotations

import contextlib
import random
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from detzoo.files import atomic, disk_full, inside
from detzoo.files import remove_leftovers as remove_leftovers
from detzoo.text import shortened

FILE = "checkpoint.pt"
VERSION = 1
SPARE = 1_000_000  # bytes for the files beside it
MOST_PICKLED = 100_000_000  # bytes beside the tensors, which are a few hundred each


def save(run_dir: str | Path, state: dict[str, Any]) -> None:
    """Write checkpoint.pt atomically: a kill or a full disk leaves the one before it.

    state: tensors, numbers, strings and containers of them, so that weights_only=True loads it.
    Raises OSError, in one sentence, for a disk that is full.
    """
    path = Path(run_dir) / FILE
    with atomic(path) as temporary:
        try:
            torch.save({"version": VERSION, **state}, temporary)
        except RuntimeError as error:  # its writer's "unexpected pos", whatever the disk said
            raise disk_full(path, size_of(state)) from error


def size_of(state: Any) -> int:
    """The bytes of all tensors in it."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    children = state.values() if isinstance(state, dict) else state
    return sum(map(size_of, children)) if isinstance(state, dict | list | tuple) else 0


def check_space(run_dir: str | Path, size: int) -> None:
    """Raise OSError where two checkpoints of `size` bytes, the old and the new, do not fit."""
    path = Path(run_dir) / FILE
    there = path.stat().st_size if path.exists() else 0
    needed = max(size, 2 * size - there) + SPARE
    if shutil.disk_usage(run_dir).free < needed:
        raise disk_full(path, needed)


def load(run_dir: str | Path, *, mmap: bool = False) -> dict[str, Any] | None:
    """The state on the CPU, None without a checkpoint.

    Loads tensors and plain values only, so a file from elsewhere runs no code. With `mmap` only the
    used parts are read. Raises ValueError for a file that is no checkpoint of this version, and,
    before reading, for one that would unpack to more than its own size.
    """
    path = inside(run_dir, FILE)
    if not path.exists():
        return None
    try:
        _check_sizes(path)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # torch and pickle raise many kinds; none of them names the file
        reason = shortened(str(error).split("\n")[0] or type(error).__name__, 300)
        raise ValueError(
            f"{path}: not a checkpoint of detzoo ({reason}); remove it to train again"
        ) from error
    if not isinstance(state, dict) or state.get("version") != VERSION:
        raise ValueError(f"{path}: not a checkpoint of version {VERSION}; remove it to train again")
    return state


def _check_sizes(path: Path) -> None:
    """Raise ValueError for a file that is no archive of stored parts, as torch writes it."""
    if not path.is_file():
        raise ValueError("it is no file")
    size = path.stat().st_size
    if not size:
        raise ValueError("it is empty")
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
        raise ValueError("its parts are compressed")
    if sum(part.file_size for part in parts) > size:
        raise ValueError("its parts claim to be larger than the file")
    if sum(part.file_size for part in parts if part.filename.endswith(".pkl")) > MOST_PICKLED:
        raise ValueError(f"more than {MOST_PICKLED:,} bytes in it are no weights")


def load_weights(detector: nn.Module, run_dir: str | Path) -> None:
    """Load what `read_weights` gives; raises as it does."""
    detector.load_state_dict(read_weights(detector, run_dir))


def read_weights(detector: nn.Module, run_dir: str | Path) -> dict[str, Tensor]:
    """The averaged weights of a run, its plain ones where it has no average.

    detector: what they are for; its own are unchanged, and may be on torch's meta device. Raises
    FileNotFoundError without checkpoint.pt, ValueError where the weights do not fit or are not
    finite.
    """
    path = Path(run_dir) / FILE
    state = load(run_dir, mmap=True)
    if state is None:
        raise FileNotFoundError(f"{path}: no checkpoint; this run has not been trained yet")
    weights = state.get("ema") or state.get("model")
    check_weights(detector, weights, path)
    return weights


def check_weights(detector: nn.Module, weights: Any, path: Path) -> None:
    """Raise ValueError unless `weights` is a state of `detector`, finite, in floats where it is."""
    if not isinstance(weights, dict):
        raise ValueError(f"{path}: holds no weights; remove it to train again")
    own = detector.state_dict()
    named = [key if isinstance(key, str) else repr(key) for key in weights]
    problems = {
        "lacks": [key for key in own if key not in weights],
        "has besides": [shortened(key, 100) for key in named if key not in own],
    }
    problems["has another shape or type of"] = [
        key for key, wanted in own.items() if key in weights and not _fits(weights[key], wanted)
    ]
    if any(problems.values()):
        summary = "; ".join(
            f"it {what} {', '.join(keys[:3])}" + (f" and {len(keys) - 3} more" * (len(keys) > 3))
            for what, keys in problems.items()
            if keys
        )
        raise ValueError(
            f"{path}: the weights are of another detector than config.yaml's, or damaged: "
            f"{summary}. Remove it to train again"
        )
    spoilt = [key for key in own if not torch.isfinite(weights[key]).all()]
    if spoilt:
        raise ValueError(
            f"{path}: {spoilt[0]} and {len(spoilt) - 1} other weights hold values that are not "
            "finite; remove it to train again"
        )


def check_moments(parameter: Tensor, moments: dict[str, Any]) -> None:
    """Raise ValueError unless an optimiser's moments are finite and of the parameter's shape."""
    for name, value in moments.items():
        if isinstance(value, Tensor):
            if value.dim() and value.shape != parameter.shape:
                raise ValueError(f"the optimiser's {name} is of another shape than its weights")
            if not torch.isfinite(value).all():
                raise ValueError(f"the optimiser's {name} is not finite")


def _fits(given: Any, wanted: Tensor) -> bool:
    return (
        isinstance(given, Tensor)
        and given.shape == wanted.shape
        and given.layout == torch.strided
        and not given.is_quantized
        and given.is_floating_point() == wanted.is_floating_point()
        and given.is_complex() == wanted.is_complex()
    )


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
def preserve_random_state() -> Iterator[None]:
    """A context that restores the state of all random generators at its end."""
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
