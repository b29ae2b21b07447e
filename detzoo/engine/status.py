"""status.json: the current stage of a run, and how it ended. Imports no torch."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from detzoo.files import inside, read_json, remove_leftovers, write_json
from detzoo.processes import SILENT, alive, elsewhere, myself, touching

FILE = "status.json"
BLOCK = 4096  # bytes that a small file has on about every disk
FIELDS = ("state", "stage", "started", "finished", "error", "images_seen", "train_seconds")
COUNTS = ("images_seen", "train_seconds")
FIELDS += ("pid", "host", "boot")  # of the process: processes.myself


class Paused(Exception):
    """A stage paused before its end, as requested; the next call continues it."""


def read(run_dir: str | Path) -> dict[str, Any] | None:
    """The fields of status.json; None without one.

    state is "running", "done", "failed" or "interrupted". A run marked as running whose process is
    gone (SIGKILL, a power cut, a container that ended) is "interrupted". Times are ISO 8601 in UTC.
    Raises ValueError for any other content.
    """
    path = Path(run_dir) / FILE
    status = _fields(path)
    if status is not None and status["state"] == "running" and not alive(status, path):
        where = f" on {status['host']}" if elsewhere(status) else ""
        status["state"] = "interrupted"
        status["error"] = (
            f"process {status['pid']}{where} ended in stage {status['stage']} without a word"
        )
    return status


def _fields(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    mend = "remove it, and the command that trained the run continues from its checkpoint"
    try:
        content = read_json(inside(path.parent, path.name))
    except ValueError as error:
        raise ValueError(f"{error}; {mend}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}, not a run's status; {mend}")
    content = {**dict.fromkeys(FIELDS), **content}
    for key in COUNTS:
        if isinstance(content[key], bool) or not isinstance(content[key], int | float):
            content[key] = None  # not written yet, or damaged
    return content


def describe_process(status: dict[str, Any]) -> str:
    """The process of a running run in words, with advice where it cannot be checked from here."""
    if not elsewhere(status):
        return f"process {status['pid']}"
    return (
        f"process {status['pid']} on {status['host']}; if that has ended, the same command "
        f"continues from here in {SILENT / 60:.0f} minutes"
    )


def update(run_dir: str | Path, **fields: Any) -> None:
    """Change some fields and keep the others."""
    unknown = set(fields) - set(FIELDS)
    if unknown:
        raise ValueError(f"{FILE} has no field {', '.join(sorted(unknown))}")
    path = Path(run_dir) / FILE
    write_json(path, {**dict.fromkeys(FIELDS), **(_fields(path) or {}), **fields})


@contextlib.contextmanager
def stage(run_dir: str | Path, name: str) -> Iterator[None]:
    """Record that stage `name` runs, and its end as done, failed or interrupted.

    An exception inside is re-raised; its text is kept in "error". A failure that another process of
    the same run has written meanwhile is kept: it is the cause of the later one.
    """
    if Path(run_dir).is_dir():
        remove_leftovers(run_dir)
    update(
        run_dir,
        state="running",
        stage=name,
        started=_now(),
        finished=None,
        error=None,
        **myself(),
    )
    try:
        with touching(Path(run_dir) / FILE):
            yield
    except BaseException as error:
        failed = isinstance(error, Exception) and not isinstance(error, Paused)
        _record(run_dir, "failed" if failed else "interrupted", error)
        raise
    update(run_dir, state="done", finished=_now())


@contextlib.contextmanager
def record_failure(run_dir: str | Path, who: str) -> Iterator[None]:
    """Record a failure of `who`, another process than the one in `stage`."""
    try:
        yield
    except Paused:
        raise
    except Exception as error:
        _record(run_dir, "failed", error, who)
        raise


def _record(run_dir: str | Path, state: str, error: BaseException, who: str = "") -> None:
    text = f"{who}{type(error).__name__}: {error}".removesuffix(": ")
    # The first error is the one that explains.
    with contextlib.suppress(OSError, ValueError):
        if (read(run_dir) or {}).get("state") == "failed":
            return
        try:
            update(run_dir, state=state, finished=_now(), error=text)
        except OSError:
            _overwrite(Path(run_dir) / FILE, state=state, finished=_now(), error=text[:1000])


def _overwrite(path: Path, **fields: Any) -> None:
    """Change fields in place, within the block of the file: for a disk without free space."""
    content = json.dumps({**(_fields(path) or {}), **fields}).encode()
    if len(content) <= BLOCK:
        with open(path, "r+b") as file:
            file.write(content)
            file.truncate()


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
