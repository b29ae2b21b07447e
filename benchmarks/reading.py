"""Counts the lines to read to follow a detector end to end: its page and every function that runs.

A detector is built, trained for one step and asked for detections on the CPU; of each function that
runs (of a class, its methods) all lines count, once, and of the page itself all.

    python benchmarks/reading.py retinanet cornernet --files
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any

import torch

import detzoo
from detzoo.types import Frame, Images, Target

ROOT = Path(detzoo.__file__).resolve().parent
SIDE = 320  # pixels; SSD300 needs 300
NOT_READ = ("api.py", "config.py", "plain_yaml.py", "text.py", "__init__.py")  # how it is made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("detectors", nargs="*", default=["retinanet", "cornernet"])
    parser.add_argument("--files", action="store_true", help="list the files and their lines")
    options = parser.parse_args()
    detzoo.list_detectors()  # imports everything: what runs on import is not counted
    for name in options.detectors:
        page = ROOT / "detectors" / f"{name}.py"
        lines = Counter({page: len(page.read_text(encoding="utf-8").splitlines())})
        for code in functions(lambda name=name: run(name)):
            path = Path(code.co_filename)
            if path != page and path.name not in NOT_READ:
                lines[path] += len(inspect.getsourcelines(code)[0])
        print(f"{name}: {sum(lines.values()):,} lines in {len(lines)} files")
        for path, count in lines.most_common() if options.files else ():
            print(f"  {count:>5} {path.relative_to(ROOT)}")


def run(name: str) -> None:
    """One training step and one detection of a new detector."""
    torch.manual_seed(0)
    detector = detzoo.create_detector(name, num_classes=3, backbone="resnet18")
    pixels = torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8)
    boxes = torch.tensor([[10.0, 20, 90, 120], [100, 40, 230, 250]])
    target = Target(boxes, torch.tensor([0, 2]), torch.tensor([False, False]))
    frames = [Frame(i, (SIDE, SIDE), (SIDE, SIDE)) for i in range(2)]
    images = Images(pixels, frames, [boxes + 5] * 2 if detector.needs_proposals else None)
    sum(detector.train()(images, [target] * 2).values()).backward()
    detector.eval().score_threshold = 0.0
    with torch.no_grad():
        detector(images)


def functions(work: Callable[[], Any]) -> set[CodeType]:
    """The functions of this project that run in `work`, except nested ones."""
    seen: set[CodeType] = set()

    def note(frame: Any, event: str, _: Any) -> None:
        code = frame.f_code
        ours = event == "call" and code.co_filename.startswith(str(ROOT))
        if ours and code.co_flags & inspect.CO_OPTIMIZED and "<" not in code.co_qualname:
            seen.add(code)

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return seen


if __name__ == "__main__":
    main()
