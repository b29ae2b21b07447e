"""Files that are whole or absent, what a kill leaves, and disks that are full."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from detzoo import files
from detzoo.files import atomic, inside, read_json, read_text, remove_leftovers

KILLED = """
import os, sys
from detzoo.files import atomic
with atomic({path!r}) as temporary:
    temporary.write_text("half")
    os._exit(1)
"""


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    subprocess.run([sys.executable, "-c", KILLED.format(path=str(path))], check=False)
    (leftover,) = tmp_path.iterdir()
    assert leftover.name.startswith(".metrics.json.") and not path.exists()
    drawn = tmp_path / f".shapes.{2**22 + 9}-{files._token()}.x.tmp"
    drawn.mkdir()
    (drawn / "image").touch()
    of_older_version = tmp_path / ".checkpoint.pt.abc_1234.tmp"
    elsewhere = tmp_path / ".a.json.12-00000000.abcdefgh.tmp"
    kept = [tmp_path / "a.tmp", tmp_path / ".mine.tmp", tmp_path / ".hidden"]
    for name in (of_older_version, elsewhere, *kept):
        name.touch()
    with atomic(path) as temporary:
        remove_leftovers(tmp_path)
        assert temporary.exists()
        assert {p for p in tmp_path.iterdir() if p != temporary} == {elsewhere, *kept}
    os.utime(elsewhere, (time.time() - 4000,) * 2)
    remove_leftovers(tmp_path)
    assert set(tmp_path.iterdir()) == {path, *kept}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_sentence_and_leaves_what_was_there(tmp_path: Path, code: int) -> None:
    path = tmp_path / "metrics.json"
    path.write_text("before")
    with pytest.raises(OSError, match=r"No space left on the disk, .* MB are free; make") as caught:
        with atomic(path):
            raise OSError(code, os.strerror(code))
    assert caught.value.filename == str(path)
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_another_error_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"^the network is gone$"), atomic(tmp_path / "a"):
        raise OSError("the network is gone")


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (tmp_path / "secret").touch()
    (run / "within").symlink_to(run / "config.yaml")
    (run / "out").symlink_to(tmp_path / "secret")
    (run / "circle").symlink_to(run / "circle")
    (tmp_path / "linked").symlink_to(run)
    assert inside(tmp_path / "linked", "within").name == "within"
    for name in ("out", "../secret"):
        with pytest.raises(ValueError, match="leads out of its folder"):
            inside(run, name)
    with pytest.raises((ValueError, OSError), match="circle"):
        read_text(inside(run, "circle"))


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe\x00", b"\xe4", b"1" * 5000, b"\x00"],
    ids=range(8),
)
def test_json_that_is_none_names_its_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "speed.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"speed\.json: not "):
        read_json(path)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="not a file but a pipe"):
        read_text(tmp_path / "pipe")
    with pytest.raises(ValueError, match="not a file but a device"):
        read_text("/dev/zero")
