from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from detzoo.speed.lock import timing_lock

HOLD = """
import sys, time
from detzoo.speed.lock import timing_lock
with timing_lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "lock"


@pytest.fixture
def holder(lock: Path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_who_waits_is_told_for_whom_and_goes_on_when_they_end(lock, holder):
    said = []

    def say(message):
        said.append(message)
        holder.kill()  # however the holder ends, the lock is free

    with timing_lock(lock, poll=0.01, say=say) as waited:
        assert waited > 0
    (message,) = said
    assert f"process {holder.pid} (" in message
    assert "timing_lock(sys.argv[1])" in message  # its command line
    assert str(lock) in message


def test_waiting_can_be_bounded(lock, holder):
    with pytest.raises(TimeoutError, match=f"held by process {holder.pid}"):
        with timing_lock(lock, timeout=0, say=lambda message: None):
            pass


def test_nobody_waits_for_a_free_lock(lock):
    said = []
    for _ in range(2):
        with timing_lock(lock, timeout=0, say=said.append):
            pass
    assert said == []


def test_a_failure_releases_it(lock):
    with pytest.raises(KeyError), timing_lock(lock):
        raise KeyError
    with timing_lock(lock, timeout=0):
        pass


def test_all_users_share_the_file(lock):
    with timing_lock(lock):
        assert stat.S_IMODE(lock.stat().st_mode) == 0o666


def test_a_link_is_not_followed(lock, tmp_path):
    target = tmp_path / "precious"
    target.write_text("kept")
    lock.symlink_to(target)
    with pytest.raises(OSError), timing_lock(lock):
        pass
    assert target.read_text() == "kept"
