"""Cutting a data set into pieces by the bytes of its images: for holdouts and for folds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from detzoo.data.dataset import Dataset, content_hash


def ranked(whole: Dataset, seed: int) -> list[bytes]:
    """Per sample, where it stands in a random order that hangs on its bytes and the seed alone.

    Copies of an image have one rank, so no cut goes between them.
    """
    keys = (f"{seed} {content_hash(sample.path)}" for sample in whole.samples)
    return [hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys]


def cut(
    whole: Dataset, ranks: Sequence[bytes], pieces: Mapping[str, Sequence[bytes]]
) -> dict[str, Dataset]:
    """split -> its ranks, as Datasets; the problems of all stand with train."""
    members = {split: set(of_split) for split, of_split in pieces.items()}
    return {
        split: replace(
            whole,
            split=split,
            samples=tuple(s for s, r in zip(whole.samples, ranks, strict=True) if r in inside),
            problems=whole.problems if split == "train" else (),
        )
        for split, inside in members.items()
    }
