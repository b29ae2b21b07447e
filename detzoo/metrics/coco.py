"""COCO's average precision. pycocotools is the oracle; faster-coco-eval may compute.

Ground truth is a COCO dict ("images", "annotations", "categories"), detections are COCO results:
[{"image_id", "category_id", "bbox": [x, y, width, height], "score"}], both in original pixels.

A metric without ground truth is None ("n/a"), never 0: a class or a size that does not occur does
not measure a detector, and is in no mean.
"""

from __future__ import annotations

import contextlib
import gc
import io
import math
import numbers
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

BACKENDS = ("auto", "pycocotools", "faster_coco_eval")
NUMBERS = (
    *("AP", "AP50", "AP75", "APs", "APm", "APl"),
    *("AR1", "AR10", "AR100", "ARs", "ARm", "ARl"),
)
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)  # as COCO has them, so that .75 is found by equality


@contextlib.contextmanager
def _without_collecting() -> Iterator[None]:
    """No search for cycles, which takes a fifth of the time among half a million new dicts.

    None of them refers back; Python frees them by their counts.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@_without_collecting()
def evaluate(
    gt: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    *,
    backend: str = "auto",
    max_dets: int = 100,
) -> dict[str, Any]:
    """The twelve numbers of COCO, and AP and AP50 per class.

    AR100, APs, ... are at `max_dets` detections per image and class, which is 100 by default.
    "boxes" counts the boxes to find (without crowds). "reason" says why AP is None, and is None
    where AP is a number. Raises ValueError for ground truth or results not in COCO's form.
    """
    if max_dets < 1:
        raise ValueError(f"max_dets is {max_dets}; it must be at least 1")
    truth, found = checked(gt, results)
    backend = choose_backend(backend)
    run = _pycocotools if backend == "pycocotools" else _faster_coco_eval
    precision, recall = run(truth, found, max_dets)  # (T, R, K, A, 3), (T, K, A, 3)

    every, small, medium, large = range(4)
    numbers = (
        _mean(precision[:, :, :, every, 2]),
        _mean(precision[0, :, :, every, 2]),
        _mean(precision[5, :, :, every, 2]),
        *(_mean(precision[:, :, :, size, 2]) for size in (small, medium, large)),
        *(_mean(recall[:, :, every, limit]) for limit in range(3)),
        *(_mean(recall[:, :, size, 2]) for size in (small, medium, large)),
    )
    boxes = Counter(a["category_id"] for a in truth["annotations"] if not a["iscrowd"])
    categories = sorted(truth["categories"], key=lambda category: category["id"])
    per_class = {
        category["name"]: {
            "AP": _mean(precision[:, :, k, every, 2]),
            "AP50": _mean(precision[0, :, k, every, 2]),
            "boxes": boxes[category["id"]],
        }
        for k, category in enumerate(categories)
    }
    total = sum(boxes.values())
    images = len(truth["images"])
    reason = None if total else f"no box to be found in {images} images: every accuracy is n/a"
    return {
        "images": images,
        "boxes": total,
        **dict(zip(NUMBERS, numbers, strict=True)),
        "per_class": per_class,
        "backend": backend,
        "max_dets": max_dets,
        "reason": reason,
    }


def self_check(gt: Mapping[str, Any], *, backend: str = "auto") -> None:
    """Offer the ground truth as predictions; anything but 1.0 is an error in the ground truth.

    Raises ValueError that names the classes that fell short and the boxes without area, if any.
    A set without boxes passes: there is nothing that could go wrong.
    """
    truth, _ = checked(gt, [])
    boxes = [a for a in truth["annotations"] if not a["iscrowd"]]
    results = [{key: a[key] for key in ("image_id", "category_id", "bbox")} for a in boxes]
    results = [{**result, "score": 1.0} for result in results]
    # A crowded image has more than 100 boxes of a class; that is no error of the ground truth.
    most = max(Counter((a["image_id"], a["category_id"]) for a in boxes).values(), default=0)
    metrics = evaluate(gt, results, backend=backend, max_dets=max(100, most))
    if metrics["AP"] is None or metrics["AP"] > 1 - 1e-6:
        return
    short = [
        f"{name} {of['AP']:.4f}"
        for name, of in metrics["per_class"].items()
        if of["AP"] is not None and of["AP"] <= 1 - 1e-6
    ]
    empty = [a["original_id"] for a in boxes if a["bbox"][2] <= 0 or a["bbox"][3] <= 0]
    hint = f"; annotations without area: {_first(empty)}" if empty else ""
    raise ValueError(
        f"ground truth offered as predictions scores AP {metrics['AP']:.4f}, not 1.0, so no "
        f"accuracy on it can be trusted (classes: {_first(short)}{hint}); run `detzoo check` on it"
    )


def choose_backend(wanted: str = "auto") -> str:
    """`auto` is faster-coco-eval where it is installed, pycocotools otherwise."""
    if wanted not in BACKENDS:
        raise ValueError(f"backend is {wanted!r}; it must be one of {', '.join(BACKENDS)}")
    if wanted != "auto":
        return wanted
    try:
        import faster_coco_eval  # noqa: F401
    except ImportError:
        return "pycocotools"
    return "faster_coco_eval"


def checked(
    gt: Mapping[str, Any], results: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Copies of both, complete and consistent; the arguments are not modified.

    pycocotools takes an annotation with id 0 for "unmatched", drops results of unknown classes in
    silence and writes into what it is given. So annotations are numbered from 1 here (their own id
    is kept as "original_id"), unknown ids raise ValueError, and everything is copied.
    """
    for key in ("images", "annotations", "categories"):
        if not isinstance(gt.get(key), Sequence):
            raise ValueError(f"ground truth has no list {key!r}; it must be a COCO dict")
    for key in ("images", "categories"):
        if not gt[key]:
            raise ValueError(f"ground truth has no {key}; there is nothing to evaluate on")
    images = _ids(gt["images"], "images")
    categories = _ids(gt["categories"], "categories")
    annotations = []
    for number, annotation in enumerate(gt["annotations"], 1):
        where = f"annotation {annotation.get('id')}"
        _check_entry(annotation, where, images, categories)
        width, height = annotation["bbox"][2:]
        annotations.append(
            {
                **annotation,
                "id": number,
                "original_id": annotation.get("id"),
                "iscrowd": int(annotation.get("iscrowd", 0)),
                "area": annotation.get("area", width * height),
            }
        )
    check_results(results, images, categories)
    keys = ("image_id", "category_id", "bbox", "score")
    found = [{key: result[key] for key in keys} for result in results]
    truth = {
        "images": [dict(image) for image in gt["images"]],
        "annotations": annotations,
        "categories": [dict(category) for category in gt["categories"]],
    }
    return truth, found


def check_results(
    results: Sequence[Mapping[str, Any]], images: Collection[int], categories: Collection[int]
) -> None:
    """ValueError that names the first result that is no COCO result on these ids.

    Half a million good results take a second: all at once, and one by one only if one is bad.
    """
    try:
        boxes = np.array([result["bbox"] for result in results]).reshape(-1, 4)
        scores = np.array([result["score"] for result in results])
        good = not results or {boxes.dtype.kind, scores.dtype.kind} <= set("iuf")  # not text
        good = (
            good
            and len(boxes) == len(results)
            and np.isfinite(boxes).all()
            and np.isfinite(scores).all()
        )
        good = good and {result["image_id"] for result in results} <= set(images)
        if good and {result["category_id"] for result in results} <= set(categories):
            return
    except (KeyError, TypeError, ValueError):
        pass  # the loop reports which
    for number, result in enumerate(results):
        where = f"result {number}"
        _check_entry(result, where, images, categories)
        if not _finite(score := result.get("score")):
            text = f"{score!r} is text" if isinstance(score, str) else f"is {score}"
            raise ValueError(f"{where}: score {text}; it must be a finite number")


def _ids(entries: Sequence[Mapping[str, Any]], kind: str) -> set[int]:
    ids = [entry["id"] for entry in entries]
    twice = [id for id, count in Counter(ids).items() if count > 1]
    if twice:
        raise ValueError(f"ground truth: ids occur twice among the {kind}: {_first(twice)}")
    return set(ids)


def _check_entry(
    entry: Mapping[str, Any], where: str, images: Collection[int], categories: Collection[int]
) -> None:
    if entry.get("image_id") not in images:
        raise ValueError(f"{where}: image_id {entry.get('image_id')} is not among the images")
    if entry.get("category_id") not in categories:
        known = _first(sorted(categories))
        raise ValueError(
            f"{where}: category_id {entry.get('category_id')} is not among the categories ({known})"
        )
    box = entry.get("bbox")
    if not isinstance(box, Sequence) or len(box) != 4 or not all(map(_finite, box)):
        raise ValueError(f"{where}: bbox is {box}; it must be four finite numbers x, y, w, h")


def _finite(value: Any) -> bool:
    return isinstance(value, numbers.Real) and math.isfinite(value)


def _pycocotools(
    truth: dict[str, Any], results: list[dict[str, Any]], max_dets: int
) -> tuple[np.ndarray, np.ndarray]:
    with contextlib.redirect_stdout(io.StringIO()):  # it prints every step
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        if results:
            detections = coco.loadRes(results)
        else:  # loadRes reads the first result
            detections = COCO()
            detections.dataset = {**truth, "annotations": []}
            detections.createIndex()
        run = COCOeval(coco, detections, "bbox")
        run.params.maxDets = [1, min(10, max_dets), max_dets]
        run.evaluate()
        run.accumulate()
    return run.eval["precision"], run.eval["recall"]


def _faster_coco_eval(
    truth: dict[str, Any], results: list[dict[str, Any]], max_dets: int
) -> tuple[np.ndarray, np.ndarray]:
    import faster_coco_eval as faster

    coco = faster.COCO(truth)
    run = faster.COCOeval_faster(coco, coco.loadRes(results), "bbox")
    run.params.maxDets = [1, min(10, max_dets), max_dets]
    run.evaluate()
    run.accumulate()
    return np.asarray(run.eval["precision"]), np.asarray(run.eval["recall"])


def _mean(values: np.ndarray) -> float | None:
    """The mean over entries with ground truth; COCO marks the rest with -1."""
    values = values[values > -1]
    return float(values.mean()) if values.size else None


def _first(items: Sequence[Any], limit: int = 5) -> str:
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(str(item) for item in items[:limit]) + more
