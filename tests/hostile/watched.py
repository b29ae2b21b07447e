"""The side effects of a process, by an audit hook: opens, sockets, processes, imports.

Run in a separate process: an audit hook cannot be removed.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

FORBIDDEN = (
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "pty.spawn"),
    *("subprocess.Popen", "socket.connect", "socket.getaddrinfo", "socket.bind", "urllib.Request"),
    *("webbrowser.open", "ctypes.dlopen", "code.__new__", "http.client.connect", "ftplib.connect"),
)
TOUCHING = (
    *("open", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.listdir"),
    *("os.scandir", "os.link", "os.symlink", "os.truncate", "os.utime", "shutil.copyfile"),
    *("shutil.move", "shutil.rmtree", "sqlite3.connect", "glob.glob"),
)

# detzoo's own question for its commit, of the checkout that it runs from: no run decides it
OWN = ["git", "-C", str(Path(__file__).resolve().parents[2])]


def _reached(path: str, event: str) -> str:
    """What is touched: a link itself where it is replaced or removed, else what it leads to."""
    if event in ("os.rename", "os.remove"):
        return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    return os.path.realpath(path)


class Watch:
    """Events since `clear`, as sentences. outside: nothing below it may be touched or imported."""

    def __init__(self, outside: Path, evil: str) -> None:
        self.outside, self.evil = str(outside), evil
        self.seen: list[str] = []
        self.on = False
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "subprocess.Popen" and list(arguments[1])[:3] == OWN:
            return
        if event.startswith(FORBIDDEN):
            self.seen.append(f"{event} {arguments!r:.200}")
        elif event in TOUCHING:
            paths = [os.fsdecode(a) for a in arguments if isinstance(a, str | bytes | os.PathLike)]
            if any(_reached(path, event).startswith(self.outside) for path in paths):
                self.seen.append(f"{event} {paths}")
        elif event == "import" and arguments[0].split(".")[0] == self.evil:
            self.seen.append(f"import {arguments[0]}")

    @contextmanager
    def watching(self) -> Iterator[None]:
        self.on = True
        try:
            yield
        finally:
            self.on = False

    def drain(self) -> list[str]:
        seen, self.seen = self.seen, []
        return seen


def called(function: Callable[[], Any]) -> tuple[int | None, str]:
    """The function's exit code (None where it raised) and what it printed, with the traceback."""
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        try:
            code = function()
        except ValueError as error:  # what a caller of the Python face gets, in a sentence
            print(f"ValueError: {error}")
            code = 1
        except BaseException:
            print("escaped:")
            traceback.print_exc(file=out)
            code = None
    return code if isinstance(code, int) or code is None else 0, out.getvalue()
