from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detzoo.ops.corner_pool import corner_pool, running_max

DIRECTIONS = [(dim, reverse) for dim in (-1, -2) for reverse in (False, True)]


def brute_force(vertical: torch.Tensor, horizontal: torch.Tensor, bottom_right: bool):
    out = torch.empty_like(vertical)
    height, width = vertical.shape[-2:]
    for y in range(height):
        for x in range(width):
            rows = slice(0, y + 1) if bottom_right else slice(y, height)
            columns = slice(0, x + 1) if bottom_right else slice(x, width)
            out[..., y, x] = vertical[..., rows, x].amax(-1) + horizontal[..., y, columns].amax(-1)
    return out


@pytest.mark.parametrize("bottom_right", [False, True])
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_the_same_as_a_loop_over_places(bottom_right, seed, height, width, ties) -> None:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 2, 3, height, width, generator=generator)
    a, b = (a.round(), b.round()) if ties else (a, b)
    pooled = corner_pool(a, b, bottom_right=bottom_right)
    assert torch.equal(pooled, brute_force(a, b, bottom_right))


def test_figure_6_of_the_paper() -> None:
    """A column and a row of a top-left corner: maxima from the bottom up and from the right."""
    column = torch.tensor([[2.0], [1], [3], [0], [2]])
    row = torch.tensor([[2.0, 0, 1, 0, 1]])
    assert running_max(column, -2, reverse=True).flatten().tolist() == [3, 3, 3, 2, 2]
    assert running_max(row, -1, reverse=True).flatten().tolist() == [2, 1, 1, 1, 1]


@pytest.mark.parametrize(("dim", "reverse"), DIRECTIONS)
def test_a_place_sends_its_whole_gradient_to_the_position_that_attains_it(dim, reverse) -> None:
    """With distinct powers of two as gradients, so that every sum identifies its terms."""
    line = torch.tensor([0.0, 3, 1, 3, 2])  # after a ReLU zeros and ties are common
    x = line.clone().flip(0) if reverse else line.clone()
    x = x.view((1, 5) if dim == -1 else (5, 1)).requires_grad_()
    given = torch.tensor([1.0, 2, 4, 8, 16])
    given = given.flip(0) if reverse else given
    running_max(x, dim, reverse=reverse).backward(given.view_as(x))
    found = x.grad.flatten()
    # places 1 and 2 are attained at position 1; the later 3 is its own and 4's
    assert (found.flip(0) if reverse else found).tolist() == [1, 6, 0, 24, 0]


@pytest.mark.parametrize("bottom_right", [False, True])
def test_finite_differences(bottom_right) -> None:
    torch.manual_seed(0)
    maps = [
        torch.randperm(60).double().view(1, 3, 4, 5).requires_grad_() for _ in range(2)
    ]  # no ties, whose gradient is not one
    torch.autograd.gradcheck(lambda a, b: corner_pool(a, b, bottom_right=bottom_right), maps)


def test_it_runs_in_bf16() -> None:
    x = torch.randn(1, 2, 4, 5)
    found = corner_pool(x.bfloat16(), x.bfloat16())
    assert found.dtype == torch.bfloat16
