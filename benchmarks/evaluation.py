"""What COCO's twelve numbers cost, at the size of COCO's val2017, beside pycocotools.

A made-up set of 5,000 images, 36,000 boxes of 80 classes and 500,000 detections, from COCO dicts to
the numbers, by pycocotools as it comes (its own loadRes, evaluate, accumulate and summarize) and by
`detzoo.metrics.coco.evaluate`, which also checks what it is given. The numbers must be equal.

    python benchmarks/evaluation.py --repeats 3
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import statistics
import time
from typing import Any

from bootstrap import SETS, made_up
from lib import timing_lock
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detzoo.metrics import coco


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", default="COCO val2017", choices=list(SETS))
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    truth, results = made_up(*SETS[options.set])
    for annotation in truth["annotations"]:
        annotation["id"] += 1  # pycocotools takes 0 for "unmatched"
        annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
    truth["info"] = {}
    ratios = []
    with timing_lock():
        for _ in range(options.repeats):
            theirs, slow = _timed(_as_it_comes, copy.deepcopy(truth), copy.deepcopy(results))
            ours, fast = _timed(coco.evaluate, truth, results)
            ratios.append(slow / fast)
            print(f"pycocotools {slow:.1f} s, detzoo ({ours['backend']}) {fast:.1f} s")
    largest = max(
        abs(a - ours[name]) for name, a in zip(coco.NUMBERS, theirs, strict=True) if a > -1
    )
    print(
        f"{options.set}, {len(results):,} detections: {statistics.median(ratios):.2f}x "
        f"as fast; AP {ours['AP']:.4f}; largest difference of the twelve numbers {largest:.1e}"
    )


def _timed(call: Any, *arguments: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    value = call(*arguments)
    return value, time.perf_counter() - start


def _as_it_comes(truth: dict, results: list) -> list[float]:
    with contextlib.redirect_stdout(io.StringIO()):
        given = COCO()
        given.dataset = truth
        given.createIndex()
        run = COCOeval(given, given.loadRes(results), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run.stats.tolist()


if __name__ == "__main__":
    main()
