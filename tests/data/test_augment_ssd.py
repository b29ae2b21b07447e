"""SSD's augmentation: what stays an object, what stays a crowd, and where the numbers come from."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as transforms

from detzoo.data import augment_ssd
from detzoo.data.augment import Policy, View
from detzoo.data.augment_ssd import Distort, ZoomOutAndCrop, canvas, crop, turn_hue

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
    monkeypatch.setattr(augment_ssd, "crop", lambda boxes, window, rng: (20, 0, 50, 20))
    # The window is x 20..50, y 0..20: everything becomes twice as large.
    boxes = [(0, 0, 30, 20), (15, 0, 35, 20), (0, 0, 30, 20), (0, 0, 10, 10)]
    after = step(view(boxes, [False, False, True, True]), np.random.default_rng(0))
    assert after.labels.tolist() == [1, 2] and after.crowd.tolist() == [False, True]
    assert after.boxes.tolist() == [[0, 0, 30, 40], [0, 0, 20, 40]]


def test_no_objects_and_crowds_alone_are_legal():
    for seed in range(5):
        assert ZoomOutAndCrop()(view([]), np.random.default_rng(seed)).boxes.shape == (0, 4)
        ZoomOutAndCrop()(view(crowd=[True] * 3), np.random.default_rng(seed))


def test_crowds_decide_nothing(monkeypatch):
    given = []
    monkeypatch.setattr(
        augment_ssd, "crop", lambda boxes, window, rng: (given.append(boxes), window)[1]
    )
    ZoomOutAndCrop()(view(crowd=[True, False, True]), np.random.default_rng(0))
    assert given[0].tolist() == [list(BOXES[1])]


def test_proposals_go_where_the_image_goes(monkeypatch):
    step = ZoomOutAndCrop(p=0.0)
    monkeypatch.setattr(augment_ssd, "crop", lambda boxes, window, rng: (20, 0, 50, 20))
    # The window is x 20..50, y 0..20: everything becomes twice as large, the second is out of it.
    given = view()._replace(proposals=torch.tensor([[10.0, 5, 30, 25], [0, 0, 20, 40]]))
    assert step(given, np.random.default_rng(0)).proposals.tolist() == [[0, 10, 20, 40]]


def test_a_canvas_smaller_than_the_image_is_refused():
    with pytest.raises(ValueError, match=r"zoom_out is 0\.5"):
        ZoomOutAndCrop(zoom_out=0.5)


@given(st.floats(-0.5, 0.5), st.integers(0, 2**31))
def test_hues_turn_as_torchvision_turns_them(part, seed):
    image = np.random.default_rng(seed).integers(0, 256, (3, 6, 7), dtype=np.uint8)
    image[:, 0] = image[:1, 0]  # grey
    image = torch.from_numpy(image)
    theirs = transforms.adjust_hue(image, part)
    assert (turn_hue(image, part).int() - theirs.int()).abs().max() <= 1


def test_hues_by_hand():
    red_yellow = torch.tensor([[200, 200], [0, 200], [0, 0]], dtype=torch.uint8).reshape(3, 1, 2)
    third = turn_hue(red_yellow, 1 / 3)
    assert third.reshape(3, 2).T.tolist() == [[0, 200, 0], [0, 200, 200]]  # green, cyan
    assert turn_hue(red_yellow, 0.0) is red_yellow


def test_each_distortion_comes_as_often_and_goes_as_far_as_torchvision_s(monkeypatch):
    drawn = []
    monkeypatch.setattr(augment_ssd, "recolour", lambda image, *f: (drawn.append(f), image)[1])
    monkeypatch.setattr(augment_ssd, "turn_hue", lambda image, part: (drawn.append(part), image)[1])
    step, rng, plain = Distort(), np.random.default_rng(0), view()
    after = [step(plain, rng).image for _ in range(2000)]
    ours = np.array([[*a, b, *c] for a, b, c in zip(*[iter(drawn)] * 3, strict=True)])
    peer = v2.RandomPhotometricDistort()
    torch.manual_seed(0)
    theirs = [peer.make_params([plain.image]) for _ in range(2000)]
    early = np.array([given["contrast_before"] for given in theirs])
    contrast = np.array([given["contrast_factor"] or 1 for given in theirs])
    of = {name: [given[f"{name}_factor"] for given in theirs] for name in ("brightness", "hue")}
    of["saturation"] = [given["saturation_factor"] for given in theirs]
    rows = [of["brightness"], np.where(early, contrast, 1), of["saturation"], of["hue"], [1] * 2000]
    rows.append(np.where(early, 1, contrast))
    for number, row in enumerate(rows):
        neutral = 0.0 if number == 3 else 1.0
        row = np.array([neutral if value is None else value for value in row])
        changed = ours[:, number] != neutral
        assert abs(changed.mean() - (row != neutral).mean()) < 0.05
        if changed.any():
            for end in (np.min, np.max):
                assert end(ours[changed, number]) == pytest.approx(
                    end(row[row != neutral]), abs=0.01
                )
    permuted = sum(not torch.equal(image, plain.image) for image in after) / 2000
    assert (
        abs(permuted - 5 / 12) < 0.05
    )  # half of the time an order, of which one in six is the old


def test_canvases_and_crops_are_distributed_as_torchvision_s():
    objects = np.array(BOXES, np.float32)
    boxes = tv_tensors.BoundingBoxes(torch.tensor(objects), format="XYXY", canvas_size=(40, 60))
    rng, peer = np.random.default_rng(0), v2.RandomIoUCrop()
    torch.manual_seed(0)
    theirs = [peer.make_params([boxes]) for _ in range(1500)]
    whole = {"left": 0, "top": 0, "width": 60, "height": 40}
    theirs = [{**whole, **part} for part in theirs]
    ours = np.array([crop(objects, (0, 0, 60, 40), rng) for _ in range(1500)])
    theirs = np.array(
        [(p["left"], p["top"], p["left"] + p["width"], p["top"] + p["height"]) for p in theirs]
    )
    as_it_is = [(windows == (0, 0, 60, 40)).all(1).mean() for windows in (ours, theirs)]
    assert abs(as_it_is[0] - as_it_is[1]) < 0.05
    # standard errors of both means are about 0.4 px
    assert abs(ours.mean(0) - theirs.mean(0)).max() < 2
    assert abs(ours.std(0) - theirs.std(0)).max() < 2

    out = v2.RandomZoomOut(side_range=(1.0, 4.0))
    padding = [out.make_params([view().image])["padding"] for _ in range(1500)]
    theirs = np.array([(-left, -top, 60 + r, 40 + b) for left, top, r, b in padding])
    ours = np.array([canvas((40, 60), rng.uniform(1, 4), rng) for _ in range(1500)])
    assert abs(ours.mean(0) - theirs.mean(0)).max() < 4  # standard errors are about 1.3 px
    assert abs(ours.std(0) - theirs.std(0)).max() < 4


def test_a_crop_keeps_what_it_promises():
    objects, rng = np.array(BOXES, np.float32), np.random.default_rng(1)
    for _ in range(300):
        left, top, right, bottom = crop(objects, (-20, -10, 100, 70), rng)
        assert -20 <= left < right <= 100 and -10 <= top < bottom <= 70
        centre = (objects[:, :2] + objects[:, 2:]) / 2
        assert ((centre > (left, top)) & (centre < (right, bottom))).all(1).any()
        if (left, top, right, bottom) != (-20, -10, 100, 70):
            assert 0.5 <= (right - left) / (bottom - top) <= 2
            assert (right - left) / 120 > 0.29 and (bottom - top) / 80 > 0.29


def test_a_crop_has_the_least_iou_that_was_drawn(monkeypatch):
    monkeypatch.setattr(augment_ssd, "LEAST_IOU", (0.5,))
    box = np.array([[10.0, 5, 40, 35]], np.float32)
    for seed in range(30):
        left, top, right, bottom = crop(box, (0, 0, 60, 40), np.random.default_rng(seed))
        shared = (min(right, 40) - max(left, 10)) * (min(bottom, 35) - max(top, 5))
        assert shared / (900 + (right - left) * (bottom - top) - shared) >= 0.5
