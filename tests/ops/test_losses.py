from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import sigmoid_focal_loss

from detzoo.ops import fast
from detzoo.ops.losses import (
    hard_negatives,
    penalty_reduced_focal,
    sigmoid_focal,
    smooth_l1,
)


def test_focal_by_hand():
    # p = 0.5: -log p = log 2, and (1 - p)^2 = 1/4, for any label
    loss = sigmoid_focal(torch.zeros(2), torch.tensor([1.0, 0]), alpha=0.25, gamma=2)
    assert loss.tolist() == pytest.approx([0.25 * math.log(2) / 4, 0.75 * math.log(2) / 4])
    plain = sigmoid_focal(torch.zeros(2), torch.tensor([1.0, 0]), alpha=-1, gamma=0)
    assert plain.tolist() == pytest.approx([math.log(2)] * 2)


@given(
    st.lists(st.floats(-15, 15, width=32), min_size=1, max_size=9),
    st.sampled_from([0.0, 0.5, 2.0, 5.0]),
    st.sampled_from([-1.0, 0.0, 0.25]),
)
def test_focal_is_torchvisions(logits, gamma, alpha):
    logits = torch.tensor(logits).requires_grad_()
    double = logits.detach().double().requires_grad_()
    upstream = torch.arange(1, len(logits) + 1).float()
    for label in (0.0, 1.0):
        labels = torch.full_like(logits, label)
        ours = sigmoid_focal(logits, labels, alpha=alpha, gamma=gamma)
        theirs = sigmoid_focal_loss(double, labels.double(), alpha, gamma)
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-9)
        (ours,) = torch.autograd.grad(ours, logits, upstream)
        (theirs,) = torch.autograd.grad(theirs, double, upstream.double())
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-9)


def test_focal_of_many_is_that_of_each(monkeypatch):
    logits = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0)).bfloat16()
    logits.requires_grad_()
    targets = (logits > 1).float()
    whole = sigmoid_focal(logits, targets, alpha=0.25, gamma=2)
    monkeypatch.setattr(fast, "CHUNK", 4)
    pieces = sigmoid_focal(logits, targets, alpha=0.25, gamma=2)
    torch.testing.assert_close(whole, pieces, rtol=1e-6, atol=1e-9)
    assert pieces.dtype == torch.float32
    gradients = [torch.autograd.grad(loss.sum(), logits)[0] for loss in (whole, pieces)]
    torch.testing.assert_close(*gradients)
    assert gradients[0].dtype == torch.bfloat16


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_is_finite_with_its_gradient_at_any_logit(gamma):
    logits = torch.tensor([-1e4, -100.0, 0.0, 100.0, 1e4]).requires_grad_()
    for label in (0.0, 1.0):
        loss = sigmoid_focal(logits, torch.full_like(logits, label), alpha=0.25, gamma=gamma)
        (grad,) = torch.autograd.grad(loss.sum(), logits)
        assert loss.isfinite().all() and grad.isfinite().all()


def test_smooth_l1_by_hand():
    d = torch.tensor([0.0, 0.5, -1.0, 3.0])
    assert smooth_l1(d, torch.zeros(4), 1.0).tolist() == [0, 0.125, 0.5, 2.5]
    assert smooth_l1(d, torch.zeros(4), 0.0).tolist() == [0, 0.5, 1, 3]
    assert smooth_l1(d.bfloat16(), torch.zeros(4), 1.0).dtype == torch.float32


def test_the_hardest_negatives_three_for_each_positive():
    loss = torch.tensor([[9.0, 1, 5, 3, 4, 8, 2], [9.0, 1, 5, 3, 4, 8, 2]])
    positive = torch.tensor([[True] + [False] * 6, [False] * 7])
    negative = ~positive
    negative[0, 5] = False  # ignored, hard as it is
    chosen = hard_negatives(loss, positive, negative, 3.0)
    assert chosen[0].nonzero().flatten().tolist() == [2, 3, 4]
    assert not chosen[1].any()
    few = hard_negatives(loss, positive, torch.tensor([[False] * 6 + [True]] * 2), 3.0)
    assert few[0].nonzero().flatten().tolist() == [6]


def test_penalty_reduced_focal_by_hand():
    """p = 0.5: (1 - p)^2 log 2 at a peak; beside it (1 - 0.5)^4 of p^2 log 2, far from it all."""
    targets = torch.tensor([1.0, 0.5, 0.0])
    loss = penalty_reduced_focal(torch.zeros(3), targets, alpha=2, beta=4)
    assert loss.tolist() == pytest.approx([math.log(2) / 4 * x for x in (1, 1 / 16, 1)])


def test_penalty_reduced_focal_is_finite_with_its_gradient_at_any_logit():
    logits = torch.tensor([-1e4, -100.0, 0.0, 100.0, 1e4]).requires_grad_()
    for target in (0.0, 0.3, 1.0):
        loss = penalty_reduced_focal(logits, torch.full_like(logits, target), alpha=2, beta=4)
        (grad,) = torch.autograd.grad(loss.sum(), logits)
        assert loss.isfinite().all() and grad.isfinite().all()


@given(st.lists(st.floats(-15, 15, width=32), min_size=1, max_size=9), st.integers(0, 2**16))
def test_penalty_reduced_focal_is_the_equation_with_its_gradient(logits, seed):
    logits = torch.tensor(logits).requires_grad_()
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, 4, logits.shape, generator=generator) / 3  # some are 1
    p = logits.double().sigmoid()
    equation = torch.where(
        targets == 1,
        -((1 - p) ** 2) * p.log(),
        -((1 - targets.double()) ** 4) * p**2 * (1 - p).log(),
    )
    ours = penalty_reduced_focal(logits, targets, alpha=2, beta=4)
    torch.testing.assert_close(ours.double(), equation, rtol=1e-4, atol=1e-9)
    slopes = [torch.autograd.grad(loss.sum(), logits)[0] for loss in (ours, equation)]
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-9)
