"""SSD's augmentation: what stays an object, what stays a crowd, and where the numbers come from."""

import numpy as np
import pytest
import torch

from detzoo.data.augment import Policy, View
from detzoo.data.augment_ssd import Distort, ZoomOutAndCrop

BOXES = [(10, 5, 30, 25), (40, 30, 58, 38), (2, 28, 12, 38)]


def view(boxes=BOXES, crowd=None):
    image = torch.randint(0, 256, (3, 40, 60), generator=torch.Generator().manual_seed(0))
    return View(
        image.to(torch.uint8),
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.arange(len(boxes)),
        torch.tensor(crowd or [False] * len(boxes), dtype=torch.bool),
    )


def test_views_are_sound_and_leave_torch_s_randomness_alone():
    policy, kept = Policy([Distort(), ZoomOutAndCrop()]), []
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    for seed in range(40):
        after = policy(view(crowd=[False, False, True]), np.random.default_rng(seed))
        again = policy(view(crowd=[False, False, True]), np.random.default_rng(seed))
        assert torch.equal(after.image, again.image) and torch.equal(after.boxes, again.boxes)
        assert after.image.shape == (3, 40, 60) and after.image.dtype == torch.uint8
        assert (after.boxes >= 0).all() and (after.boxes <= torch.tensor([60.0, 40, 60, 40])).all()
        assert (after.boxes[:, 2:] > after.boxes[:, :2]).all()
        assert (after.crowd == (after.labels == 2)).all(), "a crowd stays one, an object no crowd"
        kept.append(len(after.boxes))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert len(set(kept)) > 1


def test_zooming_out_shows_everything_smaller():
    after = ZoomOutAndCrop(p=1.0, crop=False)(view(), np.random.default_rng(1))
    assert after.labels.tolist() == [0, 1, 2]
    ratio = (after.boxes[:, 2:] - after.boxes[:, :2]) / (view().boxes[:, 2:] - view().boxes[:, :2])
    assert (ratio < 1).all() and (ratio - ratio[0, 0]).abs().max() < 0.05
    assert (after.image == 114).float().mean() > 0.3


def test_a_crop_keeps_objects_by_their_centre_and_crowds_by_their_area(monkeypatch):
    step = ZoomOutAndCrop(p=0.0)
    part = {"top": 0, "left": 20, "height": 20, "width": 30}
    monkeypatch.setattr(step.crop, "make_params", lambda inputs: part)
    # The window is x 20..50, y 0..20: everything becomes twice as large.
    boxes = [(0, 0, 30, 20), (15, 0, 35, 20), (0, 0, 30, 20), (0, 0, 10, 10)]
    after = step(view(boxes, [False, False, True, True]), np.random.default_rng(0))
    assert after.labels.tolist() == [1, 2] and after.crowd.tolist() == [False, True]
    assert after.boxes.tolist() == [[0, 0, 30, 40], [0, 0, 20, 40]]


def test_no_objects_and_crowds_alone_are_legal():
    for seed in range(5):
        assert ZoomOutAndCrop()(view([]), np.random.default_rng(seed)).boxes.shape == (0, 4)
        ZoomOutAndCrop()(view(crowd=[True] * 3), np.random.default_rng(seed))


def test_proposals_go_where_the_image_goes(monkeypatch):
    step = ZoomOutAndCrop(p=0.0)
    part = {"top": 0, "left": 20, "height": 20, "width": 30}
    monkeypatch.setattr(step.crop, "make_params", lambda inputs: part)
    # The window is x 20..50, y 0..20: everything becomes twice as large, the second is out of it.
    given = view()._replace(proposals=torch.tensor([[10.0, 5, 30, 25], [0, 0, 20, 40]]))
    assert step(given, np.random.default_rng(0)).proposals.tolist() == [[0, 10, 20, 40]]


def test_a_canvas_smaller_than_the_image_is_refused():
    with pytest.raises(ValueError, match=r"zoom_out is 0\.5"):
        ZoomOutAndCrop(zoom_out=0.5)
