"""Files that are either whole or absent, after a crash, a kill or a full disk too."""

from __future__ import annotations

import codecs
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from detzoo.processes import boot

FULL = (errno.ENOSPC, errno.EDQUOT)
AN_HOUR = 3600.0


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well it becomes `path`, at once.

    The bytes reach the disk before the name does, so that a power cut cannot leave a complete name
    on incomplete bytes. When the block raises, nothing is left behind; what a kill leaves behind
    goes with `remove_leftovers`. Raises OSError, in one sentence where the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = temporary_prefix(path.name)
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=".tmp", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)  # mkstemp makes files that only their owner may read
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        if error.errno not in FULL or error.filename == str(path):
            raise
        raise disk_full(path) from error


def disk_full(path: str | Path, needed: int | None = None) -> OSError:
    """The error for a file that does not fit on its disk. needed: bytes."""
    message = "No space left on the disk"
    with suppress(OSError):
        message += f", {shutil.disk_usage(Path(path).parent).free / 1e6:,.1f} MB are free"
    if needed is not None:
        message += f" and {needed / 1e6:,.1f} MB needed"
    message += "; make space, and the same command continues"
    return OSError(errno.ENOSPC, message, str(path))


def temporary_prefix(name: str) -> str:
    """The prefix of a temporary file or folder for `name`: it identifies the process."""
    # A name may fill by itself what the file system allows
    return f".{name[:100]}.{os.getpid()}-{_token()}."


def remove_leftovers(folder: str | Path) -> None:
    """Delete the temporary files and folders in `folder` whose process was killed.

    Those of a running process are kept; those of another machine for an hour.
    """
    for path in Path(folder).glob(".*.tmp"):
        with suppress(OSError):
            if owner := _OWNER.search(path.name):
                here = owner[2] == _token()
                if here and psutil.pid_exists(int(owner[1])):
                    continue
                if not here and time.time() - path.stat().st_mtime < AN_HOUR:
                    continue
            elif not _UNOWNED.fullmatch(path.name):
                continue
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


_OWNER = re.compile(r"\.(\d{1,9})-([0-9a-f]{8})\.[^.]*\.tmp$")
_UNOWNED = re.compile(r"\..+\.[a-z0-9_]{6,8}\.tmp")  # an older version's


@cache
def _token() -> str:
    """A token of the boot and container within which process numbers are unique."""
    return hashlib.blake2b(boot().encode(), digest_size=4).hexdigest()


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any, indent: int | None = 2) -> None:
    """Write strict JSON atomically: a NaN raises ValueError (n/a is None, never NaN)."""
    write_text(path, json.dumps(value, indent=indent, allow_nan=False) + "\n")


def inside(folder: str | Path, name: str) -> Path:
    """folder/name, after every link was followed; ValueError where that is outside of the folder.

    A folder that came from elsewhere must not make its reader open the rest of the disk.
    """
    path = Path(folder) / name
    try:
        followed = path.resolve()
        out = not followed.is_relative_to(Path(folder).resolve())
    except (OSError, RuntimeError) as error:  # links in a circle
        raise ValueError(f"{path}: its link cannot be followed ({error})") from None
    if out:
        raise ValueError(f"{path}: leads out of its folder, to {followed}; put a copy there")
    return path


def link(source: str | Path, path: str | Path) -> None:
    """Make `path` the same file as `source`, whole or not at all: a hard link where the disk
    supports it, which costs nothing, else a copy. Files are rewritten as new ones, so neither
    changes with the other. Raises OSError.
    """
    source, path = Path(source), Path(path)
    if path.is_file() and path.samefile(source):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{temporary_prefix(path.name)}link.tmp")
    try:
        os.link(source, temporary)
        os.replace(temporary, path)
    except OSError:
        with atomic(path) as copy:
            shutil.copyfile(source, copy)


def read_text(path: str | Path, most_bytes: int | None = None) -> str:
    """The text of a UTF-8 file, or of a UTF-16 one that begins with its byte-order mark.

    The mark is no part of the text. Raises FileNotFoundError, other OSErrors as they come, and
    ValueError with the path for anything but a file (a folder, a pipe, a device), for more than
    `most_bytes`, and for bytes in another encoding.
    """
    path = Path(path)
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise ValueError(
            f"{path}: not a file but {_KINDS.get(stat.S_IFMT(about.st_mode), 'a device')}"
        )
    if most_bytes is not None and about.st_size > most_bytes:
        raise ValueError(
            f"{path}: {about.st_size:,} bytes are too many; at most {most_bytes:,} are read"
        )
    content = path.read_bytes()
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from None


_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


def read_json(path: str | Path) -> Any:
    """Read JSON; a file that does not parse, or nests too deep, raises ValueError with its path."""
    text = read_text(path)
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(f"{path}: not valid JSON that can be read (nested too deep)") from None
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from error


def check_writable(path: str | Path) -> None:
    """Raise ValueError unless a file `path` could be written; folders that lack are not made."""
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder, where a file is to be written")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {folder}: {error.strerror}") from error
