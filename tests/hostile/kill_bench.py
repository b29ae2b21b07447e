"""A real `detzoo bench tune=2`, killed at random moments until it is through: does the same win?

    python tests/hostile/kill_bench.py [KILLS] [SEED] [DETECTORS]

runs it once without a kill, and once with KILLS (5) of SIGKILL to all of its processes, at moments
that are drawn over all that it does: searches, trainings, scoring, timing and page. Then compares
what the searches recorded, which values won, the weights that were trained with them, and their AP.
DETECTORS: ssd,centernet by default.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

COMMAND = (
    *(sys.executable, "-m", "detzoo", "bench", "tune=2", "jobs=2"),
    *("tune.rungs=2", "tune.images=64", "recipe.images_seen=64", "recipe.val_points=2"),
    *("data.size=64", "data.min_size=8", "data.train=48", "data.val=12", "data.test=12"),
    *("resize.size=64", "backbone=resnet10t", "evaluate.resamples=20"),
    *("speed.seconds=1", "speed.max_batch=1", "runtime.device=cpu"),
)


def run(folder: Path, detectors: str, seconds: float | None = None) -> tuple[int | None, str]:
    """The command in `folder`: its exit code, None if it was killed after that many seconds, and
    its output."""
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    log = folder / "log.txt"
    with open(log, "w") as out:
        process = subprocess.Popen(
            [*COMMAND, f"detectors=[{detectors}]"],
            cwd=folder,
            env=environment,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        try:
            return process.wait(seconds), log.read_text()
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None, log.read_text()


def result(folder: Path) -> dict[str, object]:
    """What must be equal, however often it was killed."""
    found: dict[str, object] = {}
    for path in sorted((folder / "runs").glob("default-tune/*/tune.json")):
        search = json.loads(path.read_text())
        found[f"search of {search['label']}"] = search["winner"], search["trials"]
    for path in sorted((folder / "runs" / "default").glob("*/metrics.json")):
        weights = torch.load(path.parent / "checkpoint.pt", weights_only=True)["model"]
        total = sum(float(value.double().sum()) for value in weights.values())
        found[path.parent.name] = total, json.loads(path.read_text())["AP"]
    return found


def main(kills: str = "5", seed: str = "0", detectors: str = "ssd,centernet") -> int:
    draw = random.Random(int(seed))
    with tempfile.TemporaryDirectory() as folder:
        whole, cut = Path(folder) / "whole", Path(folder) / "cut"
        whole.mkdir(), cut.mkdir()
        start = time.monotonic()
        code, said = run(whole, detectors)
        took = time.monotonic() - start
        print(f"without a kill: exit code {code} after {took:.0f} s", flush=True)
        if code:
            print(said[-2000:])
            return 1
        for number in range(int(kills)):
            seconds = draw.uniform(0.05, 0.9) * took
            code, said = run(cut, detectors, seconds)
            how = "killed" if code is None else f"was over before, exit code {code},"
            files = [path for path in cut.rglob("status.json")]
            stages = sorted(json.loads(path.read_text())["stage"] or "" for path in files)
            print(f"{number + 1}: {how} after {seconds:.0f} s; at {', '.join(stages)}", flush=True)
            if code is not None:
                break
        code, said = run(cut, detectors)
        same = result(whole) == result(cut)
        print(f"at last: exit code {code}; {len(result(cut))} records, equal: {same}")
        if not same:
            print(json.dumps([result(whole), result(cut)], indent=1)[:6000])
        return int(bool(code) or not same)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
