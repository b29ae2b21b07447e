"""Which process wrote a record, and whether it still runs, as far as that can be known from here.

A process number is meaningless on another machine, after a reboot, or outside of its container. So
a record has the boot and the container too, and its process touches the file every BEAT seconds: a
process elsewhere counts as running for as long as its file is touched.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import psutil

BEAT = 30.0  # seconds
SILENT = 300.0  # seconds without a touch, after which a process elsewhere counts as gone


def myself() -> dict[str, Any]:
    """The fields that identify this process in a record: pid, host and boot."""
    return {"pid": os.getpid(), "host": socket.gethostname(), "boot": boot()}


@cache
def boot() -> str:
    """Equal for processes that share their numbers: of one kernel's run and one container."""
    try:
        run = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{run}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:  # not a Linux
        return socket.gethostname()


def elsewhere(record: Mapping[str, Any]) -> bool:
    """Whether the record is of another machine, container or boot than this process."""
    return record.get("boot") not in (None, boot())


def alive(record: Mapping[str, Any], file: str | Path) -> bool:
    """Whether the process of `record`, which is stored in `file`, still runs.

    Its "started" distinguishes it from a later process with the same number. A record without a
    boot is from an older detzoo, and perhaps from a container that is gone: then the process must
    be a Python that is not the machine's first process.
    """
    if elsewhere(record):
        with contextlib.suppress(OSError):
            return time.time() - os.stat(file).st_mtime < SILENT
        return False
    try:
        process = psutil.Process(record.get("pid"))
        started = datetime.fromisoformat(str(record.get("started"))).timestamp()
        if process.status() == psutil.STATUS_ZOMBIE or process.create_time() > started + 1:
            return False
        return record.get("boot") is not None or (process.pid != 1 and _is_python(process))
    except (psutil.Error, ValueError, TypeError, OverflowError):
        return False


def _is_python(process: psutil.Process) -> bool:
    try:
        return "python" in " ".join([process.name(), *process.cmdline()[:2]]).lower()
    except psutil.AccessDenied:  # somebody else's
        return True


@contextlib.contextmanager
def touching(file: str | Path) -> Iterator[None]:
    """Touch `file` every BEAT seconds, in a separate thread."""
    end = threading.Event()

    def beat() -> None:
        while not end.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(file)

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield
    finally:
        end.set()
