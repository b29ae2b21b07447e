"""Proposers, what is kept of their work, and how proposals follow their image."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detzoo.data import (
    Batches,
    EdgeBoxes,
    EvaluationBatches,
    Grid,
    Letterbox,
    Proposer,
    SelectiveSearch,
    with_proposals,
)
from detzoo.data.augment import Flip, Policy, View, view_window
from detzoo.data.dataset import Dataset, sample_of
from detzoo.data.proposal_cache import SHARD, propose
from detzoo.data.proposals import EDGES
from detzoo.types import Frame

from .conftest import write_image

SIDES = (40, 60)  # height and width of every image here


class Corners(Proposer):
    """One box per image, from its first pixel; counts its calls and can be made to fail."""

    parallel = False

    def __init__(self, version: int = 0, die_at: int | None = None) -> None:
        self.version, self.die_at, self.calls = version, die_at, 0

    def __call__(self, image: np.ndarray) -> np.ndarray:
        if self.calls == self.die_at:
            raise KeyboardInterrupt
        self.calls += 1
        return np.array([[0, 0, 1 + image[0, 0, 0] / 16, 20]], np.float32)

    def describe(self) -> dict:
        return {"kind": "corners", "version": self.version}


def dataset(folder, count=2 * SHARD + 3, seed=0) -> Dataset:
    samples = []
    for i in range(count):
        path = write_image(folder / f"{i:03d}.png", *SIDES, seed=seed + i)
        samples.append(sample_of(i, path, SIDES, [(4, 5, 30, 35)], [0], [False], [780]))
    return Dataset("noise", "val", folder, tuple(samples), ("thing",), (1,))


@pytest.fixture(scope="module")
def noise(tmp_path_factory) -> Dataset:
    return dataset(tmp_path_factory.mktemp("noise"))


# -- proposers ------------------------------------------------------------------------------------


def picture(height=48, width=64) -> np.ndarray:
    image = np.full((height, width, 3), 90, np.uint8)
    image[10:30, 8:40] = (240, 210, 60)
    image[32:44, 44:60] = (10, 20, 70)
    return image


def made() -> list[Proposer]:
    pytest.importorskip("cv2.ximgproc", reason="the extra `proposals` is not installed")
    quality = SelectiveSearch(quality=True, side=40)
    edges = [EdgeBoxes(edges=edges) for edges in EDGES]
    return [Grid(), SelectiveSearch(), quality, *edges]


def overlap(a, b) -> float:
    width, height = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    inside = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return inside / (sum(areas) - inside)


def test_every_proposer_keeps_its_promises():
    image, kinds = picture(), []
    for proposer in made():
        boxes = proposer(image)
        assert boxes.dtype == np.float32 and boxes.shape == (len(boxes), 4) and len(boxes) > 3
        assert (boxes >= 0).all() and (boxes <= [64, 48, 64, 48]).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        np.testing.assert_array_equal(boxes, proposer(image))
        assert max(overlap(box, (8, 10, 40, 30)) for box in boxes) > 0.6, proposer.describe()
        kinds.append(str(proposer.describe()))
    assert len(set(kinds)) == len(kinds), "parameters that matter are in the description"


def test_an_even_image_and_one_of_a_pixel():
    for proposer in made():
        for image in (np.full((30, 40, 3), 77, np.uint8), np.zeros((1, 1, 3), np.uint8)):
            boxes = proposer(image)
            assert boxes.shape == (len(boxes), 4) and boxes.dtype == np.float32


def test_a_thinned_edge_is_a_line_and_not_a_band():
    pytest.importorskip("cv2.ximgproc", reason="the extra `proposals` is not installed")
    grey = np.full((20, 24), 50, np.uint8)
    grey[:, 12:] = 200  # an edge between columns 11 and 12
    for edges, columns in (("thinned", 1), ("sobel", 2)):
        strength, direction = EdgeBoxes(edges=edges).contours(grey)
        assert strength.dtype == direction.dtype == np.float32
        assert ((strength > 0).sum(1) == columns).all() and strength[:, [11, 12]].any()
        assert (direction[strength > 0] == 0).all(), "it goes across the edge"


def test_a_limit_is_kept():
    pytest.importorskip("cv2.ximgproc", reason="the extra `proposals` is not installed")
    assert len(SelectiveSearch(limit=2)(picture())) == 2
    assert len(EdgeBoxes(limit=2)(picture())) <= 2


def test_a_grid_by_hand():
    # Half of 40 x 20 is 20: as high as the image, so it moves across alone, in steps of at most 10.
    boxes = Grid(smallest=0.5, growth=2, ratios=[1], step=0.5)(np.empty((20, 40, 3), np.uint8))
    expected = [[0, 0, 20, 20], [10, 0, 30, 20], [20, 0, 40, 20], [0, 0, 40, 20]]
    assert sorted(boxes.tolist()) == sorted(expected)


def test_errors():
    with pytest.raises(ValueError, match="growth 1"):
        Grid(growth=1)
    with pytest.raises(ValueError, match="sobel, canny"):
        EdgeBoxes(edges="prewitt")


# -- what is kept ---------------------------------------------------------------------------------


def test_computed_once_and_resumed_after_a_kill(noise, tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt):
        propose(noise, Corners(die_at=SHARD + 5), tmp_path)
    assert len(list(tmp_path.glob("corners-*/*.npz"))) == 1  # the whole shard, and no half of one
    assert not list(tmp_path.rglob("*.tmp"))
    proposer = Corners()
    found = propose(noise, proposer, tmp_path)
    assert proposer.calls == len(noise) - SHARD
    assert "corners" in capsys.readouterr().err
    again = propose(noise, proposer, tmp_path)
    assert proposer.calls == len(noise) - SHARD and capsys.readouterr().err == ""
    assert len(found.boxes) == len(found.seconds) == len(noise) and (found.seconds > 0).all()
    np.testing.assert_array_equal(found.seconds, again.seconds)
    for sample, one, other in zip(noise.samples, found.boxes, again.boxes, strict=True):
        np.testing.assert_array_equal(one, other)
        first = np.array(Image.open(sample.path))[0, 0, 0]
        assert one.tolist() == [[0, 0, 1 + first / 16, 20]]


def test_other_images_and_other_parameters_are_computed_anew(noise, tmp_path):
    propose(noise, Corners(), tmp_path / "kept")
    other, newer = Corners(), Corners(version=1)
    propose(dataset(tmp_path / "other", seed=500), other, tmp_path / "kept")
    propose(noise, newer, tmp_path / "kept")
    assert other.calls == newer.calls == len(noise)


def test_foreign_proposals_are_refused_by_hash(noise, tmp_path):
    for images, version, name in (
        (noise, 0, "right"),
        (dataset(tmp_path / "other", seed=500), 0, "images"),
        (noise, 1, "parameters"),
    ):
        propose(images, Corners(version), tmp_path / name)
    wanted = sorted((tmp_path / "right").rglob("*.npz"))[0]
    for name in ("images", "parameters"):
        shutil.copy(sorted((tmp_path / name).rglob("*.npz"))[0], wanted)
        with pytest.raises(ValueError, match="other images or of other parameters"):
            propose(noise, Corners(), tmp_path / "right")
    wanted.write_bytes(wanted.read_bytes()[:100])
    with pytest.raises(ValueError, match="no readable proposals"):
        propose(noise, Corners(), tmp_path / "right")


@pytest.mark.slow
def test_processes_give_the_same(noise, tmp_path, monkeypatch):
    pytest.importorskip("cv2.ximgproc", reason="the extra `proposals` is not installed")
    monkeypatch.setattr("detzoo.data.proposal_cache.WORTH_PROCESSES", 0.0)
    one = propose(noise, EdgeBoxes(limit=5), tmp_path / "one", processes=1)
    two = propose(noise, EdgeBoxes(limit=5), tmp_path / "two", processes=2)
    for a, b in zip(one.boxes, two.boxes, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_grid_is_not_kept(noise, tmp_path):
    found = with_proposals(noise, Grid(), tmp_path)
    assert found.has_proposals and not noise.has_proposals
    assert found.hash == noise.hash and not list(tmp_path.iterdir())
    assert with_proposals(noise, None, tmp_path) is noise


# -- proposals follow their image -----------------------------------------------------------------


def view(*proposals) -> View:
    image = torch.zeros(3, *SIDES, dtype=torch.uint8)
    boxes = torch.tensor([[0.0, 0, 10, 10]])
    rows = torch.tensor(proposals, dtype=torch.float32).reshape(-1, 4)
    return View(image, boxes, torch.zeros(1).long(), torch.zeros(1).bool(), rows)


def test_proposals_are_flipped():
    before = view((5, 6, 25, 30), (0, 0, 60, 40))
    after = Flip(p=1.0)(before, np.random.default_rng(0))
    assert after.proposals.tolist() == [[35, 6, 55, 30], [0, 0, 60, 40]]
    assert before.proposals[0].tolist() == [5, 6, 25, 30]


def test_proposals_are_cropped_and_those_that_leave_are_dropped():
    # The left half, 30 x 20 at (0, 10), twice as large: x * 2, (y - 10) * 2.
    after = view_window(
        view((5, 15, 20, 40), (31, 0, 60, 40), (0, 0, 60, 12)), 10, 0, (20, 30), 0.3, 0
    )
    assert after.proposals.tolist() == [[10, 10, 40, 40], [0, 0, 60, 4]]


def test_batches_carry_proposals_in_the_network_s_pixels(noise, tmp_path):
    images = with_proposals(noise, Corners(), tmp_path)
    boxes = [2 * sample.proposals for sample in images.samples]
    options = {"batch_size": 4, "resize": Letterbox((80, 120)), "stride": 16}
    for number, batch in enumerate(EvaluationBatches(images, **options)):
        for found, expected in zip(batch.proposals, boxes[4 * number :], strict=False):
            assert torch.equal(found, expected)
    flip = Policy([Flip(p=1.0)])
    for augment in (None, flip):
        batches = Batches(images, images_seen=8, augment=augment, seed=0, **options)
        for batch, _ in batches.iterate():
            for frame, found in zip(batch.frames, batch.proposals, strict=True):
                expected = boxes[frame.id].clone()
                if augment is flip:
                    expected[:, [0, 2]] = 120 - expected[:, [2, 0]]
                assert torch.equal(found, expected)
    batch, _ = Batches(noise, images_seen=8, augment=flip, seed=0, **options)[0]
    assert batch.proposals is None
    assert isinstance(batch.frames[0], Frame)


def test_a_grid_needs_the_sizes_of_images_and_not_the_images(noise):
    gone = [replace(sample, path=Path("nowhere.png")) for sample in noise.samples[:2]]
    found = with_proposals(replace(noise, samples=tuple(gone)), Grid())
    expected = Grid()(np.zeros((*SIDES, 3), np.uint8))
    assert all((sample.proposals.numpy() == expected).all() for sample in found.samples)


def test_a_proposer_with_the_earlier_name_of_uses_pixels_is_taken() -> None:
    class Old(Grid):
        looks = True

    assert Old.uses_pixels and not Grid.uses_pixels
