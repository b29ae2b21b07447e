"""Files that are either whole or absent: a crash, a kill or a full disk leaves no half of one."""

from __future__ import annotations

import codecs
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well it becomes `path`, at once.

    The bytes reach the disk before the name does, so that a power cut cannot leave a complete name
    on incomplete bytes. When the block raises, nothing is left behind.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
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


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any, indent: int | None = 2) -> None:
    """Write strict JSON atomically: a NaN raises ValueError (what is n/a is None, never NaN)."""
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


def read_text(path: str | Path, most_bytes: int | None = None) -> str:
    """The text of a UTF-8 file, or of a UTF-16 one that begins with its byte-order mark.

    The mark is no part of the text. Raises FileNotFoundError, other OSErrors as they come, and
    ValueError with the path for what is no file (a folder, a pipe, a device), for more than
    `most_bytes`, and for bytes in another encoding.
    """
    path = Path(path)
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise ValueError(
            f"{path}: not a file but {_KINDS.get(stat.S_IFMT(about.st_mode), 'other')}"
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
