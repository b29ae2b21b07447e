"""Splits of a data set by the bytes of its images: holdouts, folds and fractions.

Copies of an image stay together, and so do the images of a group. Every sample has a rank, its
place in a random order; linked samples share one.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from detzoo.data.dataset import DataError, Dataset, Problem, content_hash


def rank_images(dataset: Dataset, seed: int) -> list[bytes]:
    """Per sample its rank in a random order that depends on its bytes and the seed alone.

    Copies of an image share a rank, so that no split separates them; so do the images of a group,
    whose rank depends on all of them.
    """
    hashes = [content_hash(sample.path) for sample in dataset.samples]
    if dataset.grouped:
        hashes = _link_hashes(hashes, [sample.group for sample in dataset.samples])
    keys = (f"{seed} {key}" for key in hashes)
    return [hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys]


def _link_hashes(hashes: Sequence[str], groups: Sequence[str | None]) -> list[str]:
    """Per sample the hashes of all samples that are linked to it, by a group or as copies."""
    first: dict[object, object] = {}

    def root(node: object) -> object:
        while (above := first.setdefault(node, node)) != node:
            first[node] = first[above]
            node = above
        return node

    for key, group in zip(hashes, groups, strict=True):
        first[root(("group", group))] = root(("image", key))
    roots = [root(("image", key)) for key in hashes]
    members: dict[object, set[str]] = defaultdict(set)
    for key, own in zip(hashes, roots, strict=True):
        members[own].add(key)
    joined = {own: " ".join(sorted(keys)) for own, keys in members.items()}
    return [joined[own] for own in roots]


def count_images(dataset: Dataset, ranks: Sequence[bytes]) -> dict[bytes, int]:
    """rank -> images, in order. Of a data set without groups copies of an image count once."""
    counts = Counter(ranks)
    return {rank: counts[rank] if dataset.grouped else 1 for rank in sorted(counts)}


def assign_holdout(
    sizes: Mapping[bytes, int], holdout: Mapping[str, float]
) -> dict[str, list[bytes]]:
    """split -> its ranks: for each fraction, in order, those that bring it nearer to its size.

    sizes: as `count_images` gives them. val is taken before test; the rest is train.
    """
    left, ranks = dict(sizes), {}
    for split, fraction in sorted(holdout.items(), reverse=True):
        wanted, taken = max(1, round(fraction * sum(sizes.values()))), 0
        ranks[split] = []
        for rank, size in left.items():
            if abs(taken + size - wanted) < abs(taken - wanted):
                ranks[split].append(rank)
                taken += size
        if not ranks[split] and left:
            ranks[split] = [min(left, key=left.__getitem__)]
        left = {rank: size for rank, size in left.items() if rank not in set(ranks[split])}
    return {**ranks, "train": list(left)}


def assign_folds(dataset: Dataset, sizes: Mapping[bytes, int], folds: int) -> list[list[bytes]]:
    """The ranks in `folds` parts of about equal size.

    Groups are dealt out by falling size, each to the part that has fewest images so far.
    """
    ordered = list(sizes)
    if not dataset.grouped:
        edges = [part * len(ordered) // folds for part in range(folds + 1)]
        return [ordered[low:high] for low, high in pairwise(edges)]
    parts: list[list[bytes]] = [[] for _ in range(folds)]
    filled = [0] * folds
    for rank in sorted(ordered, key=lambda rank: -sizes[rank]):
        place = filled.index(min(filled))
        parts[place].append(rank)
        filled[place] += sizes[rank]
    return parts


def split_holdout(dataset: Dataset, holdout: Mapping[str, float], seed: int) -> dict[str, Dataset]:
    """train, and a split for each fraction of `holdout`. DataError for too few images."""
    ranks = rank_images(dataset, seed)
    sizes = count_images(dataset, ranks)
    ranks_of = assign_holdout(sizes, holdout)
    if not ranks_of["train"]:
        raise DataError(f"{_count(dataset, sizes)} are too few for {holdout}")
    return split_dataset(dataset, ranks, ranks_of, holdout)


def split_folds(found: Sequence[Dataset], folds: int, fold: int, seed: int) -> dict[str, Dataset]:
    """All images of these splits as one of `folds`: part `fold` is test, the next val, the rest
    train. DataError for too few images and for different classes."""
    name = found[0].name
    if len({(d.classes, d.category_ids) for d in found}) > 1:
        raise DataError(f"{name}: its splits have different classes, so none can be cut")
    samples = [sample for dataset in found for sample in dataset.samples]
    joined = replace(
        found[0],
        samples=tuple(replace(sample, id=id) for id, sample in enumerate(samples, 1)),
        problems=tuple(problem for dataset in found for problem in dataset.problems),
    )
    ranks = rank_images(joined, seed)
    sizes = count_images(joined, ranks)
    if len(sizes) < folds:
        raise DataError(f"{_count(joined, sizes)} are too few for {folds} folds")
    parts = assign_folds(joined, sizes, folds)
    ranks_of = {
        "test": parts.pop(fold),
        "val": parts.pop(fold % len(parts)),  # what came after it, or the first
        "train": [rank for part in parts for rank in part],
    }
    return split_dataset(joined, ranks, ranks_of, dict.fromkeys(("val", "test"), 1 / folds))


def _count(dataset: Dataset, sizes: Mapping[bytes, int]) -> str:
    what = "groups of images" if dataset.grouped else "different images"
    return f"{dataset.name}: {len(sizes)} {what}"


def take_fraction(dataset: Dataset, fraction: float, seed: int) -> Dataset:
    """About that fraction of the images: whole groups, the first in order.

    A smaller fraction's images are a subset of a larger one's.
    """
    ranks = rank_images(dataset, seed)
    counts = Counter(ranks)
    wanted = max(1.0, fraction * len(ranks))
    kept, taken = set(), 0
    for rank in sorted(counts):
        if kept and abs(taken + counts[rank] - wanted) >= abs(taken - wanted):
            break
        kept.add(rank)
        taken += counts[rank]
    return split_dataset(dataset, ranks, {"train": sorted(kept)}, {"train": fraction})["train"]


def split_dataset(
    dataset: Dataset,
    ranks: Sequence[bytes],
    ranks_of: Mapping[str, Sequence[bytes]],
    wanted: Mapping[str, float],
) -> dict[str, Dataset]:
    """split -> a Dataset of the samples with its ranks; all problems are kept with train.

    wanted: the requested fractions. Groups, which are not divided, may miss them by an image or
    more; a problem then gives the difference.
    """
    members = {split: set(of_split) for split, of_split in ranks_of.items()}
    samples = {
        split: tuple(s for s, r in zip(dataset.samples, ranks, strict=True) if r in inside)
        for split, inside in members.items()
    }
    problems = list(dataset.problems)
    for split, part in wanted.items():
        got = len(samples[split])
        if dataset.grouped and abs(got - part * len(dataset)) >= 1:
            what = (
                f"{got} of {len(dataset)} images ({got / len(dataset):.1%}) where {part:.1%} were "
                "asked for"
            )
            problems.append(Problem("warning", "group sizes", split, what, "no group is cut"))
    return {
        split: replace(
            dataset,
            split=split,
            samples=of_split,
            problems=tuple(problems) if split == "train" else (),
        )
        for split, of_split in samples.items()
    }
