"""Scores of maps whose right values are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from detzoo.explain import Asked, draw, look
from detzoo.explain.scores import (
    agreement,
    box_mask,
    deletion,
    energy,
    energy_share,
    insertion,
    pointing,
)
from detzoo.explain.view import View
from explain.known import RedInBox, picture

BOX = torch.tensor([[2.0, 0, 4, 4]])  # half of the columns of a 4 x 4 map


def test_energy_is_a_share_over_the_share_of_area() -> None:
    even = np.ones((4, 4))
    assert energy_share(even, BOX) == pytest.approx(0.5) and energy(even, BOX) == pytest.approx(1)
    right = np.zeros((4, 4))
    right[:, 2:] = 3
    assert energy_share(right, BOX) == 1 and energy(right, BOX) == pytest.approx(2)
    assert energy(np.zeros((4, 4)), BOX) is None
    assert energy(even, torch.zeros(0, 4)) is None


def test_a_pixel_that_a_box_cuts_counts_by_its_share() -> None:
    mask = box_mask((2, 2), torch.tensor([[0.5, 0, 2, 1.25]]))
    assert mask.tolist() == [[0.5, 1], [0.125, 0.25]]
    twice = box_mask((2, 2), torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1]]))
    assert twice.sum() == 1, "boxes over one another count once"


def test_pointing_asks_for_the_highest_pixel() -> None:
    heat = np.zeros((4, 4))
    heat[1, 3] = 1
    assert pointing(heat, BOX) is True and pointing(heat[:, ::-1], BOX) is False
    assert pointing(heat * 0, BOX) is None


def test_agreement_is_a_rank_correlation() -> None:
    ramp = np.arange(64.0).reshape(8, 8)
    assert agreement(ramp, ramp**3) == pytest.approx(1)
    assert agreement(ramp, -ramp) == pytest.approx(-1)
    assert agreement(ramp, np.ones((8, 8))) is None


def red_square() -> tuple[RedInBox, View, Asked, torch.Tensor]:
    """A detector of red, what it sees, the box that is asked for, and the (32, 32) map of its
    pixels."""
    detector = RedInBox().eval()
    truth = torch.zeros(32, 32)
    truth[8:16, 8:16] = 1
    view = look(detector, picture())
    return detector, view, Asked(torch.tensor([8.0, 8, 16, 16]), 0), truth


def test_the_curves_of_the_true_map_and_of_its_opposite() -> None:
    """The score is the mean red in the box: deleting half of the box halves it, and the rest of the
    image is worth nothing."""
    detector, view, asked, truth = red_square()
    gone, come = (f(detector, view, asked, truth) for f in (deletion, insertion))
    assert gone.scores[0] == pytest.approx(1) and gone.shares[0] == 0 and gone.shares[-1] == 2
    half = np.interp(0.5, gone.shares, gone.scores)
    assert half == pytest.approx(0.5, abs=0.03)
    assert gone.area == pytest.approx(0.25, abs=0.03), "a triangle of height 1 over half the axis"
    assert come.scores[-1] == pytest.approx(1) and come.area > 0.8
    worst_gone, worst_come = (f(detector, view, asked, 1 - truth) for f in (deletion, insertion))
    assert worst_gone.area == pytest.approx(1, abs=1e-3), "nothing that matters is taken"
    assert worst_come.area < come.area - 0.1


def test_between_two_images_that_differ_in_the_object_alone_nothing_else_counts() -> None:
    """The score falls, or rises, in proportion to the object's pixels taken, and by no other."""
    detector, view, asked, truth = red_square()
    without = torch.where(truth > 0, view.pixels / 4, view.pixels)
    areas = {
        (f.__name__, right): f(detector, view, asked, truth if right else 1 - truth, without).area
        for f in (deletion, insertion)
        for right in (True, False)
    }
    # from 1 to 1/4 over one area of the object, and 1/4 over another one; and the other way round
    assert areas["deletion", True] == pytest.approx((5 / 8 + 1 / 4) / 2, abs=0.01)
    assert areas["insertion", True] == pytest.approx((5 / 8 + 1) / 2, abs=0.01)
    assert areas["deletion", False] == pytest.approx(1)
    assert areas["insertion", False] == pytest.approx(1 / 4)


def test_the_truth_is_better_than_a_method_and_a_method_than_chance() -> None:
    detector, view, asked, truth = red_square()
    maps = {"truth": truth} | {m: draw(detector, view, asked, m) for m in ("d_rise", "uniform")}
    lost = {name: deletion(detector, view, asked, heat).area for name, heat in maps.items()}
    won = {name: insertion(detector, view, asked, heat).area for name, heat in maps.items()}
    assert lost["truth"] < lost["d_rise"] < lost["uniform"]
    assert won["truth"] > won["d_rise"] > won["uniform"]
    share = {name: energy_share(heat.numpy(), asked.box[None]) for name, heat in maps.items()}
    assert share["truth"] > share["d_rise"] > share["uniform"]


class Counted(RedInBox):
    """Counts what goes through its network: the images of each call."""

    def network(self, images, targets=None):
        self.calls = [*getattr(self, "calls", []), len(images.pixels)]
        return super().network(images, targets)


def test_deletion_and_insertion_take_no_more_than_40_batched_forwards() -> None:
    detector = Counted().eval()
    view = look(detector, picture())
    heat = torch.rand(32, 32, generator=torch.Generator().manual_seed(0))
    for score in (deletion, insertion):
        score(detector, view, Asked(torch.tensor([8.0, 8, 16, 16]), 0), heat)
    assert sum(detector.calls) <= 42 and len(detector.calls) <= 40, "and most of them in batches"
    assert max(detector.calls) == 8


def test_odam_takes_one_forward_and_one_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = Counted().eval()
    view = look(detector, picture())
    backwards = []
    grad = torch.autograd.grad
    monkeypatch.setattr(
        torch.autograd, "grad", lambda *a, **k: backwards.append(1) or grad(*a, **k)
    )
    draw(detector, view, Asked(torch.tensor([8.0, 8, 16, 16]), 0), "odam")
    assert detector.calls == [1] and len(backwards) == 1
