"""status.json: what a run is doing, and how it ended. Needs no torch."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psutil

from detzoo.files import read_json, write_json

FILE = "status.json"
FIELDS = ("state", "stage", "started", "finished", "error", "images_seen", "train_seconds", "pid")


def read(run_dir: str | Path) -> dict[str, Any] | None:
    """The fields of status.json; None where there is none.

    state is "running", "done", "failed" or "interrupted". A run that says it is running while its
    process is gone (SIGKILL, a power cut) is "interrupted". Times are ISO 8601 in UTC.
    """
    path = Path(run_dir) / FILE
    if not path.exists():
        return None
    status = {**dict.fromkeys(FIELDS), **read_json(path)}
    if status["state"] == "running" and not _alive(status["pid"], status["started"]):
        status["state"] = "interrupted"
        status["error"] = f"process {status['pid']} ended in stage {status['stage']} without a word"
    return status


def update(run_dir: str | Path, **fields: Any) -> None:
    """Change some fields and keep the others."""
    unknown = set(fields) - set(FIELDS)
    if unknown:
        raise ValueError(f"{FILE} has no field {', '.join(sorted(unknown))}")
    path = Path(run_dir) / FILE
    known = read_json(path) if path.exists() else {}
    write_json(path, {**dict.fromkeys(FIELDS), **known, **fields})


@contextlib.contextmanager
def stage(run_dir: str | Path, name: str) -> Iterator[None]:
    """Record that stage `name` runs, and at its end that it is done, failed or interrupted.

    What is raised inside goes on to the caller; its text stands in "error". A failure that another
    process of the same run has told of meanwhile stays: it is the cause of what came after it.
    """
    update(
        run_dir,
        state="running",
        stage=name,
        started=_now(),
        finished=None,
        error=None,
        pid=os.getpid(),
    )
    try:
        yield
    except BaseException as error:
        _record(run_dir, "failed" if isinstance(error, Exception) else "interrupted", error)
        raise
    update(run_dir, state="done", finished=_now())


@contextlib.contextmanager
def failure(run_dir: str | Path, who: str) -> Iterator[None]:
    """Record that `who`, another process than the one in `stage`, has failed; nothing else."""
    try:
        yield
    except Exception as error:
        _record(run_dir, "failed", error, who)
        raise


def _record(run_dir: str | Path, state: str, error: BaseException, who: str = "") -> None:
    text = f"{who}{type(error).__name__}: {error}".removesuffix(": ")
    # On a full disk this fails too; the first error is the one that tells something.
    with contextlib.suppress(OSError):
        if (read(run_dir) or {}).get("state") != "failed":
            update(run_dir, state=state, finished=_now(), error=text)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def _alive(pid: int | None, started: str | None) -> bool:
    """Whether the process that wrote this still runs, and not a later one with the same number."""
    if pid is None or started is None:
        return False
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return process.create_time() <= datetime.fromisoformat(started).timestamp() + 1
    except (psutil.Error, ValueError):
        return False
