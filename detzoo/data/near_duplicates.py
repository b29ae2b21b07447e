"""Images of two splits that show nearly the same: a test image whose twin was trained on.

By perceptual hashes: the signs of the 64 lowest frequencies of the grey image, most of which
re-encoded, resized and slightly moved pictures share (phash of the library imagehash). Letters: N,
M images of two splits.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from detzoo.data.dataset import Dataset, Problem, Sample, content_hash
from detzoo.imagefile import UNREADABLE, open_image
from detzoo.progress import track

LIMIT = 8  # bits of 64 that may differ; with random bits as few differ in one of 3e9 pairs
DRAWN = 128  # pixels to which a JPEG is decoded for its hash, which uses 32
BLOCK = 256  # rows of a comparison at once
BITS = np.array([bin(value).count("1") for value in range(1 << 16)], np.uint8)
NOT_INSTALLED = "near-duplicates were not looked for: pip install 'detzoo[duplicates]'"


@dataclass(frozen=True)
class Twins:
    """Two images, by split and place in it, whose hashes differ in `distance` bits."""

    one: tuple[str, int]
    other: tuple[str, int]
    distance: int


def near_duplicates(datasets: Mapping[str, Dataset]) -> list[Twins]:
    """All of two splits, nearest first; not those of the same bytes, which are more than near.

    Raises ImportError without the extra `duplicates`.
    """
    hashes = {split: hash_images(dataset) for split, dataset in datasets.items()}
    found = []
    for one, other in combinations(datasets, 2):
        samples = datasets[one].samples, datasets[other].samples
        for i, j, distance in within(hashes[one], hashes[other]):
            if content_hash(samples[0][i].path) != content_hash(samples[1][j].path):
                found.append(Twins((one, i), (other, j), distance))
    return sorted(found, key=lambda twins: twins.distance)


def hash_images(dataset: Dataset, *, progress: bool = True) -> list[int | None]:
    """The 64 bits of every image's perceptual hash; None for one that cannot be read."""
    try:
        from imagehash import phash
    except ImportError as error:
        raise ImportError(NOT_INSTALLED) from error

    def of(sample: Sample) -> int | None:
        try:
            with open_image(sample.path) as image:
                image.draft("L", (DRAWN, DRAWN))
                return int(str(phash(image)), 16)
        except UNREADABLE:
            return None

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        name = f"comparing {dataset.name} {dataset.split}"
        found = pool.map(of, dataset.samples)
        return list(track(found, name, "images", total=len(dataset), show=progress))


def within(
    one: Sequence[int | None], other: Sequence[int | None], limit: int = LIMIT
) -> Iterator[tuple[int, int, int]]:
    """(i, j, distance) of all hashes one[i], other[j] that differ in `limit` bits or fewer."""
    known = [np.array([i for i, h in enumerate(of) if h is not None], int) for of in (one, other)]
    if not all(map(len, known)):
        return
    rows, columns = (
        np.array([of[i] for i in places], np.uint64).view(np.uint16).reshape(-1, 4)
        for of, places in zip((one, other), known, strict=True)
    )
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        distance = np.zeros((len(block), len(columns)), np.uint8)
        for part in range(4):
            distance += BITS[block[:, part, None] ^ columns[None, :, part]]
        for i, j in zip(*np.nonzero(distance <= limit), strict=True):
            yield int(known[0][start + i]), int(known[1][j]), int(distance[i, j])


def problems(datasets: Mapping[str, Dataset], found: Sequence[Twins]) -> list[Problem]:
    """A warning for every image that has a near twin in an earlier split, its nearest named."""
    seen: set[tuple[str, tuple[str, int]]] = set()
    found_twins = []
    for twins in found:
        (one, i), (other, j) = twins.one, twins.other
        if (one, twins.other) in seen:
            continue
        seen.add((one, twins.other))
        name, twin = (
            datasets[split].samples[place].path.relative_to(datasets[split].root).as_posix()
            for split, place in ((other, j), (one, i))
        )
        what = f"nearly {one}'s {twin} ({twins.distance} of 64 bits of their hashes differ)"
        action = "both are used, so the score flatters; data.group keeps such images together"
        kind = f"{one}/{other} near-duplicates"
        found_twins.append(Problem("warning", kind, f"{other}: {name}", what, action, other))
    return found_twins
