"""Cutting a data set into pieces by the bytes of its images: for holdouts, folds and fractions.

What hangs together stays together: copies of an image, and the images of a group. Letters: every
sample has a rank, a place in a random order; those that hang together share it.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from detzoo.data.dataset import Dataset, Problem, content_hash


def ranked(whole: Dataset, seed: int) -> list[bytes]:
    """Per sample, where it stands in a random order that hangs on its bytes and the seed alone.

    Copies of an image have one rank, so no cut goes between them; so have the images of a group,
    whose rank hangs on all of them.
    """
    hashes = [content_hash(sample.path) for sample in whole.samples]
    if whole.grouped:
        hashes = _together(hashes, [sample.group for sample in whole.samples])
    keys = (f"{seed} {key}" for key in hashes)
    return [hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys]


def _together(hashes: Sequence[str], groups: Sequence[str | None]) -> list[str]:
    """Per sample the hashes of all that hang together with it, by a group or by a copy."""
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
    for key, of in zip(hashes, roots, strict=True):
        members[of].add(key)
    joined = {of: " ".join(sorted(keys)) for of, keys in members.items()}
    return [joined[of] for of in roots]


def sizes(whole: Dataset, ranks: Sequence[bytes]) -> dict[bytes, int]:
    """rank -> images, in order. Of a data set without groups copies of an image count once."""
    counts = Counter(ranks)
    return {rank: counts[rank] if whole.grouped else 1 for rank in sorted(counts)}


def held_out(of: Mapping[bytes, int], holdout: Mapping[str, float]) -> dict[str, list[bytes]]:
    """split -> its ranks: of each fraction those, in order, that bring it nearer to its size.

    of: as `sizes` gives it. val is cut before test; the rest is train.
    """
    left, pieces = dict(of), {}
    for split, fraction in sorted(holdout.items(), reverse=True):
        wanted, taken = max(1, round(fraction * sum(of.values()))), 0
        pieces[split] = []
        for rank, size in left.items():
            if abs(taken + size - wanted) < abs(taken - wanted):
                pieces[split].append(rank)
                taken += size
        if not pieces[split] and left:
            pieces[split] = [min(left, key=left.__getitem__)]
        left = {rank: size for rank, size in left.items() if rank not in set(pieces[split])}
    return {**pieces, "train": list(left)}


def folded(whole: Dataset, of: Mapping[bytes, int], folds: int) -> list[list[bytes]]:
    """The ranks in so many parts of about equal size.

    Groups are dealt out by falling size, each to the part that has fewest images so far.
    """
    ordered = list(of)
    if not whole.grouped:
        edges = [part * len(ordered) // folds for part in range(folds + 1)]
        return [ordered[low:high] for low, high in pairwise(edges)]
    parts: list[list[bytes]] = [[] for _ in range(folds)]
    filled = [0] * folds
    for rank in sorted(ordered, key=lambda rank: -of[rank]):
        place = filled.index(min(filled))
        parts[place].append(rank)
        filled[place] += of[rank]
    return parts


def first_part(whole: Dataset, fraction: float, seed: int) -> Dataset:
    """About that fraction of the images: whole groups, the first in order.

    Of two fractions the smaller's images are among the larger's.
    """
    ranks = ranked(whole, seed)
    counts = Counter(ranks)
    wanted = max(1.0, fraction * len(ranks))
    kept, taken = set(), 0
    for rank in sorted(counts):
        if kept and abs(taken + counts[rank] - wanted) >= abs(taken - wanted):
            break
        kept.add(rank)
        taken += counts[rank]
    return cut(whole, ranks, {"train": sorted(kept)}, {"train": fraction})["train"]


def cut(
    whole: Dataset,
    ranks: Sequence[bytes],
    pieces: Mapping[str, Sequence[bytes]],
    wanted: Mapping[str, float],
) -> dict[str, Dataset]:
    """split -> its ranks, as Datasets; the problems of all stand with train.

    wanted: the fractions that were asked for. Groups, which are not cut, may miss them by an image
    or more, and then a problem says by how much.
    """
    members = {split: set(of_split) for split, of_split in pieces.items()}
    samples = {
        split: tuple(s for s, r in zip(whole.samples, ranks, strict=True) if r in inside)
        for split, inside in members.items()
    }
    problems = list(whole.problems)
    for split, part in wanted.items():
        got = len(samples[split])
        if whole.grouped and abs(got - part * len(whole)) >= 1:
            what = (
                f"{got} of {len(whole)} images ({got / len(whole):.1%}) where {part:.1%} were "
                "asked for"
            )
            problems.append(Problem("warning", "group sizes", split, what, "no group is cut"))
    return {
        split: replace(
            whole,
            split=split,
            samples=of_split,
            problems=tuple(problems) if split == "train" else (),
        )
        for split, of_split in samples.items()
    }
