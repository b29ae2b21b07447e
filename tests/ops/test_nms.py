from __future__ import annotations

import math
from contextlib import nullcontext
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from detzoo.ops import nms as ops_nms
from detzoo.ops.boxes import iou
from detzoo.ops.nms import (
    nms_in_blocks,
    nms_row_by_row,
    soft_nms,
)
from detzoo.types import Candidates
from pretended import OnGPU, gpu, on_gpu, on_host

BOXES = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 9], [30, 30, 40, 40]]])
SCORES = torch.tensor([[0.5, 0.9, 0.8, 0.3]])
LABELS = torch.tensor([[0, 0, 1, 0]])


def crowd(seed: int, batch: int, number: int, side: float) -> tuple[torch.Tensor, ...]:
    """Boxes, distinct scores, groups and which exist, that overlap the more the smaller `side`."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(batch, number, 2, generator=generator) * side
    size = torch.rand(batch, number, 2, generator=generator) * 40 + 10
    scores = torch.stack([torch.randperm(number, generator=generator) for _ in range(batch)])
    groups = torch.randint(0, 3, (batch, number), generator=generator)
    exist = torch.rand(batch, number, generator=generator) < 0.9
    return torch.cat([corner, corner + size], 2), scores / max(number, 1), groups, exist


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(0, 60),
    st.integers(1, 30),
    st.integers(1, 16),
    st.sampled_from([5.0, 60.0, 400.0]),
)
def test_blocks_give_what_row_after_row_gives(seed, number, count, block, side):
    rows = crowd(seed, 3, number, side)
    index, kept = nms_row_by_row(*rows, 0.4, min(count, number))
    with mock.patch.multiple(ops_nms, BLOCK=block, PAIRS=50, ROUNDS=1 + seed % 3):
        found, there = nms_in_blocks(*rows, 0.4, min(count, number))
    assert torch.equal(there, kept)
    assert torch.equal(found[there], index[kept])


def test_a_chain_of_boxes_is_followed_to_its_end():
    """Each overlaps the next alone, so every second one stays; 100 of them in one block."""
    x = 5.0 * torch.arange(100)
    boxes = torch.stack([x, x * 0, x + 12, x * 0 + 10], 1)[None]  # IoU 7 / 17 with the next
    scores, exist = 1 - torch.arange(100.0)[None] / 100, torch.ones(1, 100, dtype=torch.bool)
    found, there = nms_in_blocks(boxes, scores, exist.long(), exist, 0.4, 100)
    assert found[there].tolist() == list(range(0, 100, 2))


class Largest(TorchDispatchMode):
    """The size of the largest tensor that is made, and how often the host read a value."""

    numbers = asked = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        self.asked += func._schema.name in ("aten::_local_scalar_dense", "aten::equal")
        return out


def test_memory_is_bounded_for_an_image_however_many_candidates_it_has():
    """At batch 256 with 30,000 candidates an image: far below what 32 bits can count."""
    most = {}
    for batch, number in ((1, 3000), (1, 30_000), (2, 30_000)):
        rows = crowd(0, batch, number, 2000.0)
        with Largest() as seen:
            index, _ = nms_in_blocks(*rows, 0.5, 100)
        assert index.shape == (batch, 100)
        assert seen.asked <= 3
        most[batch, number] = seen.numbers
    block = ops_nms.BLOCK
    assert most[1, 3000] == 2 * block**2  # a comparison has an x and a y
    assert most[1, 30_000] == 2 * block**2
    # two together, and no more than PAIRS, for any batch
    assert most[2, 30_000] == 4 * block**2 <= 2 * ops_nms.PAIRS
    assert max(256 * block**2, 2 * ops_nms.PAIRS, 256 * 30_000 * 4) < 2**31


def soft_nms_of_one(boxes, scores, labels, sigma, count):
    """Bodla's algorithm, box by box."""
    scores, out, overlap = scores.tolist(), [-1.0] * len(scores), iou(boxes, boxes)
    for _ in range(min(count, len(scores))):
        best = max(range(len(scores)), key=lambda i: scores[i])
        if scores[best] < 0:
            break
        out[best] = scores[best]
        for i in range(len(scores)):
            if labels[i] == labels[best]:
                scores[i] *= math.exp(-(overlap[i, best].item() ** 2) / sigma)
        scores[best] = -1.0
    return out


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 8))
def test_soft_nms_is_the_loop_in_every_image_of_a_batch(seed, number, count):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(3, number, 2, generator=generator) * 10
    boxes = torch.cat([corner, corner + 1 + torch.rand(3, number, 2, generator=generator) * 9], 2)
    scores = torch.rand(3, number, generator=generator)
    scores[1, number // 2 :] = -1  # candidates that do not exist
    labels = torch.randint(0, 2, (3, number), generator=generator)
    for context in (nullcontext(), gpu()):
        with context as waits:
            move = on_gpu if waits else (lambda x: x)
            candidates = Candidates(move(boxes), move(scores), move(labels))
            found = soft_nms(candidates, sigma=0.5, count=count, threshold=0.0)
        assert isinstance(found, OnGPU) == bool(waits)
        found = on_host(found)
        for i in range(3):
            expected = soft_nms_of_one(boxes[i], scores[i], labels[i], 0.5, count)
            torch.testing.assert_close(found[i], torch.tensor(expected), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("batch, number", [(1, 40), (1, 300), (16, 300)])
def test_soft_nms_needs_few_launches_and_one_wait_on_a_gpu(batch, number):
    """However many boxes and images there are, and however much they overlap."""
    boxes, scores, labels, _ = crowd(0, batch, number, 5.0)
    with gpu() as waits:
        candidates = Candidates(on_gpu(boxes), on_gpu(scores), on_gpu(labels))
        soft_nms(candidates, sigma=0.5, count=100, threshold=0.0)
    assert 10 < waits.launches <= 30
    assert waits.count == 1, waits.where


def test_soft_nms_of_boxes_all_alike():
    """Forty of equal scores: the first goes first, each is exp(-2) of the one before."""
    boxes = torch.tensor([[[0.0, 0, 10, 10]]]).expand(1, 40, 4)
    candidates = Candidates(boxes, torch.full((1, 40), 0.9), torch.zeros(1, 40).long())
    found = soft_nms(candidates, sigma=0.5, count=9, threshold=1e-3)
    expected = [0.9 * math.exp(-2 * i) for i in range(4)] + [-1.0] * 36
    torch.testing.assert_close(found[0], torch.tensor(expected))


def test_soft_nms_by_hand():
    """IoU 0.9 with the best of its label: exp(-0.81 / 0.5) of 0.5 is left; the others stay."""
    candidates = Candidates(BOXES, SCORES, LABELS)
    found = soft_nms(candidates, sigma=0.5, count=4, threshold=0.0)
    expected = [0.5 * math.exp(-0.81 / 0.5), 0.9, 0.8, 0.3]
    torch.testing.assert_close(found[0], torch.tensor(expected))
    assert (soft_nms(candidates, sigma=0.5, count=2, threshold=0.0)[0] >= 0).tolist() == [
        *(False, True, True, False)
    ]
