"""A lock for timings: one at a time on a machine; others wait and print who holds it."""

from __future__ import annotations

import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = Path(tempfile.gettempdir()) / "detzoo-speed.lock"


_begun_by = ""


def command_line() -> str:
    """The command line of this process, quoted for a shell: the user's own one, also in a process
    that `detzoo bench` started (`set_command`)."""
    if _begun_by:
        return _begun_by
    started = [Path(sys.executable).name, *sys.orig_argv[1:]]
    if len(started) > 1 and Path(started[1]).name == "detzoo":  # the console script
        started = ["detzoo", *started[2:]]
    return shlex.join(started)


def set_command(command: str) -> None:
    """Set what `command_line` returns, in a process that `command` started."""
    global _begun_by
    _begun_by = command


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


@contextmanager
def timing_lock(
    path: str | Path | None = None,
    *,
    timeout: float | None = None,
    poll: float = 0.5,
    say: Callable[[str], None] = _say,
) -> Iterator[float]:
    """Hold the machine-wide lock of all timings; returns the seconds of waiting.

    path: of the file that is locked, LOCK by default.

    The kernel releases it when its holder ends, in whatever way, so a stale file does not block.
    timeout: seconds to wait, None for no limit. `say` is called once, with the holder's pid and
    command, if it has to wait. It is not re-entrant.

    Raises TimeoutError (with the holder) when `timeout` passed, PermissionError where the file may
    not be opened. On a system without flock (Windows) it says so and locks nothing.
    """
    if fcntl is None:
        say("this system has no flock: nothing keeps two timings from running at once")
        yield 0.0
        return
    path = Path(path or LOCK)
    handle = _open(path)
    try:
        start = time.monotonic()
        announced = False
        while not _acquired(handle):
            waited = time.monotonic() - start
            if timeout is not None and waited >= timeout:
                raise TimeoutError(
                    f"waited {waited:.0f} s for {path}, held by {_holder(handle)}; let it finish "
                    "or end it, then start again"
                )
            if not announced:
                say(f"waiting for the clock ({path}): {_holder(handle)} is timing on this machine")
                announced = True
            time.sleep(poll)
        _write(handle, {"pid": os.getpid(), "command": command_line()})
        try:
            yield time.monotonic() - start
        finally:
            _write(handle, None)
    finally:
        os.close(handle)  # releases the lock


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        # Existing first: Linux forbids O_CREAT on another user's file in a sticky directory.
        return os.open(path, flags)
    except FileNotFoundError:
        handle = os.open(path, flags | os.O_CREAT, 0o666)
        with suppress(OSError):
            os.fchmod(handle, 0o666)  # past the umask: all users of the machine share it
        return handle
    except PermissionError as error:
        raise PermissionError(
            f"{path}: the lock of all timings may not be opened; its owner can `chmod 666` it"
        ) from error


def _acquired(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(handle: int, holder: dict | None) -> None:
    os.ftruncate(handle, 0)
    if holder is not None:
        os.pwrite(handle, json.dumps(holder).encode(), 0)


def _holder(handle: int) -> str:
    try:
        holder = json.loads(os.pread(handle, 65536, 0))
        return f"process {holder['pid']} ({holder['command']})"
    except (ValueError, KeyError, TypeError):
        return "an unnamed process"  # between its locking and its writing
