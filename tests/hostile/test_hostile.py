"""The short form of the campaign: see campaign.py for the whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CAMPAIGN = Path(__file__).with_name("campaign.py")


def test_nothing_gets_through() -> None:
    arguments = ["both", "--count", "5", "--seed", "1", "--verbs", "load", "report"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(CAMPAIGN), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    last = done.stdout.strip().split("\n")[-1:]
    assert done.returncode == 0 and last[0].endswith("0 got through"), (
        f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    )


SEEN = """
import os, subprocess, sys, socket
from pathlib import Path
sys.path.insert(0, {here!r})
from watched import Watch
outside = Path({outside!r})
(outside / "secret").write_text("x")
(outside / "evil.py").write_text("")
sys.path.append(str(outside))
watch = Watch(outside, "evil")
def deeds():
    yield lambda: open(outside / "secret")
    yield lambda: os.remove(outside / "secret")
    yield lambda: os.listdir(outside)
    yield lambda: os.system("true")
    yield lambda: subprocess.run(["true"])
    yield lambda: socket.create_connection(("127.0.0.1", 9))
    yield lambda: __import__("evil")
for deed in deeds():
    with watch.watching():
        try:
            deed()
        except OSError:
            pass
    print(bool(watch.drain()))
with watch.watching():
    open(sys.executable, "rb").read(1)
print(bool(watch.drain()))
"""


def test_the_watch_sees_what_it_is_for(tmp_path: Path) -> None:
    code = SEEN.format(here=str(CAMPAIGN.parent), outside=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True"] * 7 + ["False"], done.stderr
