"""Augmentation and batches: values by hand, and the same batches from any process."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as transforms

from detzoo.data import Batches, Coco, EvaluationBatches, Letterbox, Shapes, ShortestSide
from detzoo.data.augment import Colour, Flip, Policy, View, Zoom, recolour, view_window

from .conftest import write_image

STANDARD = Policy([Flip(), Zoom(), Colour()])


def view(height=40, width=60, boxes=((10, 5, 30, 25),)):
    image = torch.arange(3 * height * width).reshape(3, height, width).remainder(251)
    count = len(boxes)
    return View(
        image.to(torch.uint8),
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.arange(count),
        torch.zeros(count, dtype=torch.bool),
    )


class TestSteps:
    def test_a_flip_is_width_minus_x(self):
        before = view()
        after = Flip(p=1)(before, np.random.default_rng(0))
        assert after.boxes.tolist() == [[30, 5, 50, 25]]
        assert torch.equal(after.image, before.image.flip(-1))
        assert before.boxes.tolist() == [[10, 5, 30, 25]]  # the cache's own is not touched
        back = Flip(p=1)(after, np.random.default_rng(0))
        assert torch.equal(back.boxes, before.boxes) and torch.equal(back.image, before.image)

    def test_a_window_inside_enlarges(self):
        # The right half of the upper half: everything twice as large, moved by (30, 0).
        after = view_window(
            view(boxes=[(30, 0, 40, 10), (0, 0, 20, 40)]), 0, 30, (20, 30), 0.3, 114
        )
        assert after.boxes.tolist() == [[0, 0, 20, 20]]  # the second one is out of sight
        assert after.labels.tolist() == [0]
        assert after.image.shape == (3, 40, 60)

    def test_a_window_around_shrinks_onto_grey(self):
        after = view_window(view(boxes=[(0, 0, 60, 40)]), -20, -30, (80, 120), 0.3, 114)
        assert after.boxes.tolist() == [[15, 10, 45, 30]]
        assert (after.image[:, :8] == 114).all() and (after.image[:, :, 47:] == 114).all()

    @pytest.mark.parametrize(("x1", "crowd"), [(24, True), (26, True), (28, False)])
    def test_what_is_cut_to_less_than_the_threshold_is_a_crowd(self, x1, crowd):
        # The window begins at 30 and leaves (x1 + 8 - 30) / 8 of the box.
        after = view_window(view(boxes=[(x1, 10, x1 + 8, 20)]), 0, 30, (40, 30), 0.6, 114)
        assert after.crowd.tolist() == [crowd]

    @settings(deadline=None, max_examples=60)
    @given(st.integers(0, 10_000))
    def test_boxes_stay_inside_and_have_an_area(self, seed):
        rng = np.random.default_rng(seed)
        corners = rng.uniform(0, 1, (8, 2, 2)) * [60, 40]
        boxes = np.concatenate([corners.min(1), corners.max(1) + 0.5], 1).clip(0, [60, 40, 60, 40])
        before = view(boxes=boxes.tolist())
        after = STANDARD(before, rng)
        assert after.image.shape == before.image.shape and after.image.dtype == torch.uint8
        assert len(after.boxes) == len(after.labels) == len(after.crowd)
        assert (after.boxes[:, 2:] > after.boxes[:, :2]).all()
        assert (after.boxes >= 0).all()
        assert (after.boxes <= torch.tensor([60.0, 40, 60, 40])).all()

    def test_pixels_and_boxes_move_together(self):
        """A white block on black: wherever it goes, its box is around what is white."""
        image = torch.zeros(3, 80, 100, dtype=torch.uint8)
        image[:, 30:50, 40:70] = 255
        boxes = torch.tensor([[40.0, 30, 70, 50]])
        start = View(image, boxes, torch.zeros(1).long(), torch.zeros(1, dtype=torch.bool))
        policy, seen = Policy([Flip(), Zoom(p=1, fill=0)]), 0
        for seed in range(40):
            after = policy(start, np.random.default_rng(seed))
            white = (after.image[0] > 127).nonzero()
            if not len(after.boxes):
                continue
            seen += 1
            low, high = white.min(0).values, white.max(0).values + 1
            found = torch.tensor([low[1], low[0], high[1], high[0]], dtype=torch.float32)
            assert (found - after.boxes[0]).abs().max() < 1.1
        assert seen > 30

    def test_a_zoom_shows_a_crop_or_all_of_a_side(self):
        before = view(boxes=[(0, 0, 60, 40)])
        seen = {"in": 0, "out": 0}
        for seed in range(60):
            rng = np.random.default_rng(seed)
            after = Zoom(scale=(0.5, 2), aspect=1, p=1, fill=7, min_visible=0)(before, rng)
            x1, y1, x2, y2 = after.boxes[0].tolist()
            if (x1, y1, x2, y2) == (0, 0, 60, 40):
                seen["in"] += 1
                assert not (after.image == 7).all(0).any()
                continue
            seen["out"] += 1
            assert (x2 - x1) / 60 == pytest.approx((y2 - y1) / 40, abs=0.02)
            drawn = torch.ones(40, 60, dtype=torch.bool)
            drawn[int(y1) : int(y2), int(x1) : int(x2)] = False
            assert all(x == int(x) for x in (x1, y1, x2, y2)), "on whole pixels"
            assert (after.image[:, drawn] == 7).all()
        assert min(seen.values()) > 15

    def test_colour_is_torchvision_s_where_nothing_is_clipped(self):
        image = torch.randint(60, 180, (3, 20, 30), dtype=torch.uint8)
        for brightness, contrast, saturation in (
            (1.2, 1, 1),
            (1, 0.7, 1),
            (1, 1, 1.3),
            (1.1, 0.9, 1.2),
        ):
            expected = transforms.adjust_brightness(image, brightness)
            expected = transforms.adjust_contrast(expected, contrast)
            expected = transforms.adjust_saturation(expected, saturation)
            ours = recolour(image, brightness, contrast, saturation)
            # torchvision rounds down to uint8 after every step, ours after the last.
            assert (ours.int() - expected.int()).abs().max() <= 2
        assert recolour(image, 1, 1, 1) is image

    def test_no_boxes_are_legal(self):
        for seed in range(10):
            after = STANDARD(view(boxes=[]), np.random.default_rng(seed))
            assert after.boxes.shape == (0, 4)

    def test_global_random_state_is_not_used(self):
        torch.manual_seed(0), np.random.seed(0)
        one = STANDARD(view(), np.random.default_rng(5))
        torch.manual_seed(1), np.random.seed(1)
        two = STANDARD(view(), np.random.default_rng(5))
        assert torch.equal(one.image, two.image) and torch.equal(one.boxes, two.boxes)

    def test_a_zoom_that_makes_no_sense_is_refused(self):
        for bad in ({"scale": (0, 1)}, {"scale": (2, 1)}, {"aspect": 0.5}):
            with pytest.raises(ValueError, match="aspect"):
                Zoom(**bad)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("shapes")
    return Shapes(root, train=10, val=5, test=1, size=64).read("train")


def batches(dataset, **options):
    options = {
        "batch_size": 4,
        "images_seen": 40,
        "resize": Letterbox(48),
        "augment": STANDARD,
        "stride": 16,
        "seed": 0,
        **options,
    }
    return Batches(dataset, **options)


def assert_same(ones, others):
    ones, others = list(ones), list(others)
    assert len(ones) == len(others) > 0
    for (images, targets), (images_, targets_) in zip(ones, others, strict=True):
        assert torch.equal(images.pixels, images_.pixels) and images.frames == images_.frames
        for target, target_ in zip(targets, targets_, strict=True):
            assert torch.equal(target.boxes, target_.boxes)
            assert torch.equal(target.labels, target_.labels)
            assert torch.equal(target.crowd, target_.crowd)


class TestBatches:
    def test_shapes_and_types(self, dataset):
        images, targets = batches(dataset)[0]
        assert images.pixels.shape == (4, 3, 48, 48) and images.pixels.dtype == torch.uint8
        assert images.pixels.is_contiguous(memory_format=torch.channels_last)
        assert images.sizes == [(48, 48)] * 4
        assert len(targets) == 4 and type(targets[0].boxes) is torch.Tensor
        assert targets[0].boxes.dtype == torch.float32 and targets[0].crowd.dtype == torch.bool

    def test_every_epoch_has_every_image_once_in_another_order(self, dataset):
        ids = [f.id for images, _ in batches(dataset).iterate() for f in images.frames]
        epochs = [ids[start : start + 10] for start in range(0, 40, 10)]
        assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) == 4

    def test_the_length_covers_the_images_to_be_seen(self, dataset):
        assert len(batches(dataset, images_seen=41)) == 11
        assert len(list(batches(dataset, images_seen=41).iterate())) == 11
        assert (
            len(batches(dataset, batch_size=16, images_seen=1)[0][1]) == 16
        )  # more than there are

    @pytest.mark.parametrize("workers", [0, 2])
    def test_a_batch_is_pinned_as_a_whole(self, dataset, workers, monkeypatch):
        """Pixels, proposals and truth; torch pins nothing here, where there is no GPU."""
        pinned = []
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: pinned.append(x.dtype) or x)
        ours = batches(dataset, workers=workers, pin=not workers).iterate()
        assert_same(ours, batches(dataset).iterate())
        if not workers:
            assert {torch.uint8, torch.float32, torch.int64, torch.bool} <= set(pinned)

    def test_workers_change_nothing(self, dataset):
        alone = list(batches(dataset).iterate())
        for workers in (1, 2):
            assert_same(batches(dataset, workers=workers).iterate(), alone)

    def test_resuming_changes_nothing(self, dataset):
        whole = list(batches(dataset).iterate())
        assert_same(batches(dataset).iterate(start_step=7), whole[7:])
        assert_same(batches(dataset, workers=2).iterate(start_step=7), whole[7:])

    def test_the_cache_changes_nothing_and_keeps_its_bound(self, dataset):
        bound = 3.5 * 48 * 48 * 3 / 2**20  # three images and a half
        small = batches(dataset, cache_mb=bound)
        assert_same(small.iterate(), batches(dataset).iterate())
        assert len(small.cache._kept) == 3
        none = batches(dataset, cache_mb=0)
        assert_same(none.iterate(), batches(dataset).iterate())
        assert not none.cache._kept

    def test_the_cache_saves_the_second_look(self, dataset, monkeypatch):
        from detzoo.data import loader

        calls, load = [], loader.load_picture
        monkeypatch.setattr(loader, "load_picture", lambda *a: (calls.append(a), load(*a))[1])
        loaded = batches(dataset)
        list(loaded.iterate())
        assert len(calls) == 10
        assert all(resize is loaded.cache.resize for _, resize, *_ in calls)  # no more than that

    def test_a_box_of_which_nothing_is_left_is_no_target(self, dataset):
        """2e-3 pixels at 60 are none any more at 48 of 64: their logarithm would be no number."""
        speck = torch.tensor([[60.0, 5.0, 60.002, 25.0]])
        samples = tuple(
            replace(
                sample,
                boxes=torch.cat([speck, sample.boxes]),
                labels=torch.cat([torch.tensor([2]), sample.labels]),
                crowd=torch.cat([torch.tensor([True]), sample.crowd]),
            )
            for sample in dataset.samples
        )
        for augment in (None, Policy([])):
            plain = batches(dataset, augment=augment).iterate()
            more = batches(replace(dataset, samples=samples), augment=augment).iterate()
            assert_same(more, plain)

    def test_another_seed_gives_other_batches(self, dataset):
        one, two = batches(dataset)[0][0], batches(dataset, seed=1)[0][0]
        assert not torch.equal(one.pixels, two.pixels)

    def test_an_image_looks_different_in_the_next_epoch(self, dataset):
        looks = {}
        for images, _ in batches(dataset, images_seen=20).iterate():
            for frame, pixels in zip(images.frames, images.pixels, strict=True):
                looks.setdefault(frame.id, []).append(pixels)
        assert all(not torch.equal(*pair) for pair in looks.values())

    def test_without_augmentation_the_targets_are_the_resized_truth(self, dataset):
        images, targets = batches(dataset, augment=None)[0]
        for frame, target in zip(images.frames, targets, strict=True):
            truth = dataset.samples[frame.id].boxes * (48 / 64)
            assert torch.allclose(target.boxes, truth)

    def test_a_letterbox_stays_one_shape_under_augmentation(self, coco):
        write_image(coco.root / "images" / "train" / "b.jpg", 60, 40)
        coco.content["images"][1].update(height=60, width=40)
        coco.content["annotations"] = [coco.annotation(1, 9, 20, [30, 50, 10, 10])]
        coco.write()
        loaded = batches(Coco(coco.root).read("train"), batch_size=1, images_seen=8)
        for images, targets in loaded.iterate():
            assert images.pixels.shape == (1, 3, 48, 48)
            height, width = images.sizes[0]
            assert sorted((height, width)) == [32, 48]
            assert images.pixels[..., height:, :].sum() == images.pixels[..., width:].sum() == 0
            for x1, y1, x2, y2 in targets[0].boxes.tolist():
                assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height

    def test_a_step_that_changes_the_size_is_refused(self, dataset):
        shrink = Policy([lambda v, rng: v._replace(image=v.image[:, ::2])])
        with pytest.raises(ValueError, match="must keep the size"):
            _ = batches(dataset, augment=shrink)[0]

    def test_a_size_that_is_not_the_image_s_stops_with_its_path(self, coco):
        coco.content["images"][0]["width"] = 61
        coco.write()
        loaded = batches(Coco(coco.root).read("train"), cache_mb=0)
        with pytest.raises(ValueError, match=r"a\.jpg: the image is 40 x 60.*40 x 61"):
            list(loaded.iterate())

    def test_bad_numbers_are_refused(self, dataset):
        with pytest.raises(ValueError, match="batch_size 0"):
            batches(dataset, batch_size=0)


class TestEvaluation:
    @pytest.mark.parametrize("workers", [0, 2])
    @pytest.mark.parametrize("resize", [Letterbox(48), ShortestSide(32, 64)])
    def test_order_of_the_data_set_and_a_smaller_last_batch(self, dataset, workers, resize):
        loaded = EvaluationBatches(dataset, batch_size=4, resize=resize, stride=16, workers=workers)
        for _ in range(2):  # it can be gone through again
            found = list(loaded)
            assert [len(images.frames) for images in found] == [4, 4, 2]
            assert [f.id for images in found for f in images.frames] == list(range(10))
        assert len(loaded) == 3
