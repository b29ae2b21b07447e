"""Proposals of a whole data set: computed once, kept on disk, found again by hash.

A shard is the proposals of a few images, one file ROOT/METHOD-HASH/KEY.npz. KEY is a hash over the
images' bytes and the method's parameters, and it is stored inside the file too: proposals of other
images or of another method are never found, and renamed files are refused. A shard is written whole
or not at all, so that an interrupted computation resumes at the first missing one.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from detzoo.data.dataset import Dataset, Sample, content_hash
from detzoo.data.loader import load_sample
from detzoo.data.proposals import Proposer
from detzoo.files import atomic, remove_leftovers, write_json
from detzoo.progress import Progress

ROOT = Path("data") / "proposals"
SHARD = 16  # images in a file: the most that an interruption loses
WORTH_PROCESSES = 15.0  # seconds of work; to start a process takes a few, for torch's import


class ImageProposals(NamedTuple):
    """boxes: per image (P, 4) float32 xyxy in original pixels. seconds: per image, to propose."""

    boxes: list[np.ndarray]
    seconds: np.ndarray


def with_proposals(
    dataset: Dataset,
    proposer: Proposer | None,
    root: str | Path = ROOT,
    processes: int | None = None,
) -> Dataset:
    """The data set, its samples with their proposals; missing ones are computed and kept.

    Without a proposer the data set is unchanged. Raises as `propose` does.
    """
    if proposer is None:
        return dataset
    boxes = propose(dataset, proposer, root, processes).boxes
    samples = tuple(
        replace(sample, proposals=torch.from_numpy(found))
        for sample, found in zip(dataset.samples, boxes, strict=True)
    )
    return replace(dataset, samples=samples)


def propose(
    dataset: Dataset,
    proposer: Proposer,
    root: str | Path = ROOT,
    processes: int | None = None,
) -> ImageProposals:
    """Every image's proposals, and the seconds that they took when they were computed.

    processes: by default torch's number of threads, where it pays. Reports on stderr what it
    computes. Raises ValueError for a damaged file or one whose proposals do not match its name.
    """
    if not proposer.uses_pixels:
        timed = [_time_proposer(proposer, sample) for sample in dataset.samples]
        return ImageProposals([boxes for boxes, _ in timed], np.array([s for _, s in timed]))
    parts = [dataset.samples[i : i + SHARD] for i in range(0, len(dataset), SHARD)]
    parameters = json.dumps(proposer.describe(), sort_keys=True)
    kind = f"{proposer.describe()['kind']}-{_hash(parameters)[:8]}"
    folder = Path(root) / kind
    keys = [_hash(parameters, *(content_hash(sample.path) for sample in part)) for part in parts]
    paths = [folder / f"{key}.npz" for key in keys]
    missing = [i for i, path in enumerate(paths) if not path.is_file()]
    if missing:
        remove_leftovers(folder)
        write_json(folder / "parameters.json", proposer.describe())
        jobs = [(proposer, parts[i], paths[i], keys[i]) for i in missing]
        images = sum(len(parts[i]) for i in missing)
        print(
            f"proposals: {kind} for {images} of {len(dataset)} {dataset.split} images of "
            f"{dataset.name}, kept in {folder}",
            file=sys.stderr,
            flush=True,
        )
        with Progress(images, "proposals", "images") as bar:
            for count in _work(jobs, proposer.parallel, processes):
                bar.advance(count)
    shards = [_read(path, key) for path, key in zip(paths, keys, strict=True)]
    return ImageProposals(
        [boxes for shard in shards for boxes in shard.boxes],
        np.concatenate([shard.seconds for shard in shards]),
    )


Job = tuple[Proposer, Sequence[Sample], Path, str]


def _work(jobs: list[Job], parallel: bool, processes: int | None) -> Iterator[int]:
    """Do the jobs; gives the number of images whenever one is done."""
    processes = processes or torch.get_num_threads()
    start = time.perf_counter()
    yield _compute(jobs[0])
    ahead = (time.perf_counter() - start) * (len(jobs) - 1)
    if not parallel or processes < 2 or ahead < WORTH_PROCESSES:
        yield from map(_compute, jobs[1:])
        return
    # Not forked: threads of torch or OpenCV that this process has would be missing in a fork.
    pool = ProcessPoolExecutor(min(processes, len(jobs) - 1), get_context("spawn"), _one_thread)
    try:
        for done in as_completed([pool.submit(_compute, job) for job in jobs[1:]]):
            yield done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _one_thread() -> None:
    torch.set_num_threads(1)
    with suppress(ImportError):
        import cv2

        cv2.setNumThreads(1)


def _compute(job: Job) -> int:
    proposer, samples, path, key = job
    timed = [_time_proposer(proposer, sample) for sample in samples]
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            key=np.array(key),
            counts=np.array([len(boxes) for boxes, _ in timed]),
            boxes=np.concatenate([boxes for boxes, _ in timed]),
            seconds=np.array([seconds for _, seconds in timed]),
        )
    return len(samples)


def _time_proposer(proposer: Proposer, sample: Sample) -> tuple[np.ndarray, float]:
    """Decoding is not counted: the detector has to do it anyway."""
    blank = np.broadcast_to(np.uint8(0), (*sample.size, 3))
    image = load_sample(sample) if proposer.uses_pixels else blank
    start = time.perf_counter()
    boxes = proposer(image)
    return boxes, time.perf_counter() - start


def _read(path: Path, key: str) -> ImageProposals:
    try:
        with np.load(path, allow_pickle=False) as file:
            content = {name: file[name] for name in ("key", "counts", "boxes", "seconds")}
    except Exception as error:  # zipfile, zlib and numpy raise many kinds; none names the file
        raise ValueError(
            f"{path}: no readable proposals ({error}); remove it, and they are computed again"
        ) from error
    if str(content["key"]) != key:
        raise ValueError(
            f"{path}: holds proposals of other images or of other parameters (hash "
            f"{content['key']}, wanted {key}); remove it, then the right ones are computed"
        )
    return ImageProposals(
        np.split(content["boxes"], np.cumsum(content["counts"])[:-1]), content["seconds"]
    )


def _hash(*parts: str) -> str:
    return hashlib.blake2b(" ".join(parts).encode(), digest_size=8).hexdigest()
