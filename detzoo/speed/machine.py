"""The environment of a measurement: machine, versions, commit and command line."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import torch

from detzoo import __version__
from detzoo.engine.cpu import cpu_flags
from detzoo.speed.lock import command_line

LIBRARIES = ("torchvision", "timm", "numpy", "Pillow", "pycocotools")
# As /proc/cpuinfo spells them: how wide vectors are, and whether bf16 can pay.
INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16")


def environment(
    device: torch.device | str | None = None, precision: str | None = None
) -> dict[str, Any]:
    """The content of a run's environment.json; what is unknown or absent is None.

    cores: logical processors that this process may use. memory_gb: of the machine, in 2^30 bytes.
    threads: torch's intra-op threads at the moment of the call. commit: of the checkout that detzoo
    is imported from, with "+changes" behind it when tracked code differs; None when installed.
    """
    gpu = gpu_model(device)
    return {
        **versions(),
        "commit": commit(),
        "command": command_line(),
        "system": platform.platform(),
        "cpu": cpu_model(),
        "instruction_sets": instruction_sets(),
        "cores": cores(),
        "physical_cores": psutil.cpu_count(logical=False),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": gpu,
        "driver": driver() if gpu else None,
        "cuda": torch.version.cuda if gpu else None,
        "threads": torch.get_num_threads(),
        "device": None if device is None else str(device),
        "precision": precision,
    }


def versions() -> dict[str, str | None]:
    """The versions of detzoo, Python and the libraries that a measurement uses."""
    found: dict[str, str | None] = {
        "detzoo": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,  # with its build, +cpu or +cu130, which the package's lacks
    }
    for name in LIBRARIES:
        try:
            found[name.lower()] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name.lower()] = None
    return found


def cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's own name."""
    try:
        text = cpuinfo.read_text()
    except OSError:
        text = ""
    match = re.search(r"^(?:model name|Hardware)\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine()


def instruction_sets() -> list[str]:
    """Which of INSTRUCTION_SETS this processor has; empty where that cannot be read."""
    return [name for name in INSTRUCTION_SETS if name in cpu_flags()]


# Tracked files on which no number can depend
NO_CODE = (":(exclude)reports", ":(exclude)docs", ":(exclude)*.md", ":(exclude)LICENSE")


def commit(root: Path | None = None) -> str | None:
    """The git commit of the checkout at `root` (the folder that holds the package, by default).

    None when `root` is not itself the top of a checkout: a virtual environment inside another
    project's repository must not get that project's commit.
    """
    root = (root or Path(__file__).parents[2]).resolve()
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root:
        return None
    head = _git(root, "rev-parse", "HEAD")
    changed = ("status", "--porcelain", "--untracked-files=no", "--", ".", *NO_CODE)
    if head and _git(root, *changed):
        head += "+changes"
    return head


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def gpu_model(device: torch.device | str | None) -> str | None:
    """The name of the GPU that is used: of `device` when it is one, of the first when None."""
    device = torch.device("cuda" if device is None else device)
    if device.type != "cuda" or not torch.cuda.is_available():
        return None
    return torch.cuda.get_device_name(device)


def driver() -> str | None:
    """The version of the NVIDIA driver, from the kernel module, else from nvidia-smi."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text()
        if match := re.search(r"Kernel Module.*?\s(\d+\.\d+(?:\.\d+)?)\s", text):
            return match[1]
    except OSError:
        pass
    try:
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.split("\n")[0].strip() or None


class Bystanders:
    """The share of the processors that other processes used since this was made, in [0, 1].

    Everything that kept a processor busy on the machine (what a hypervisor took for other guests
    included), less what this process and its ended children used, over wall time x processors.
    """

    def __init__(self) -> None:
        self._start = self._now()

    @staticmethod
    def _now() -> tuple[float, float, float]:
        """Seconds: busy processors of the machine, those of this process, the wall clock."""
        machine = psutil.cpu_times()
        parts = ("user", "nice", "system", "irq", "softirq", "steal")
        busy = sum(getattr(machine, part, 0.0) for part in parts)
        own = psutil.Process().cpu_times()
        mine = own.user + own.system
        mine += getattr(own, "children_user", 0.0) + getattr(own, "children_system", 0.0)
        return busy, mine, time.monotonic()

    def load(self) -> float:
        busy, mine, wall = (b - a for a, b in zip(self._start, self._now(), strict=True))
        processors = psutil.cpu_count() or 1
        # Ticks of 10 ms make the difference of nearly equal numbers negative at times.
        return min(1.0, max(0.0, (busy - mine) / (wall * processors))) if wall > 0 else 0.0
