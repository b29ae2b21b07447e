"""The embedded data set: what is drawn is where the boxes say, and the same for everyone."""

import math

import numpy as np
import pytest

from detzoo.data import Shapes, check, load_image
from detzoo.data.marks import mark_beside
from detzoo.data.scene import _place, paint
from detzoo.data.stamps import CLASSES, outline, stamp

SMALL = {"train": 6, "val": 2, "test": 2, "size": 64}
PLAIN = {
    "size": 128,
    "objects": (0, 12),
    "min_size": 10,
    "difficulty": 0.5,
    "crowd_rate": 0.03,
    "empty_rate": 0.05,
}


@pytest.fixture(scope="module")
def scenes():
    return [paint(np.random.default_rng(seed), **PLAIN) for seed in range(100)]


@pytest.mark.parametrize("label", range(len(CLASSES)), ids=CLASSES)
class TestOutlines:
    def test_fills_its_frame(self, label):
        outer, _ = outline(label)
        assert np.allclose(outer.min(0), -1) and np.allclose(outer.max(0), 1)

    def test_area_by_hand(self, label):
        """Of a frame of 40 x 40, away from the border: the shoelace formula needs no drawing."""
        star = 5 * 0.42 * math.sin(math.pi / 5) * (2 / 1.902) * (2 / 1.809) * 400
        expected = {
            "circle": math.pi * 400,
            "square": 1600,
            "triangle": 800,
            "star": star,
            "cross": 1600 - 4 * (0.35 * 40) ** 2,
            "ring": math.pi * 400 * (1 - 0.55**2),
        }[CLASSES[label]]
        drawn = stamp(label, (50, 50), (40, 40), 0.0, (100, 100))
        assert drawn.alpha.sum() == pytest.approx(expected, rel=0.03)
        assert drawn.inside == 1

    @pytest.mark.parametrize("angle", [0.0, 0.4, 2.0, 5.5])
    @pytest.mark.parametrize("sides", [(30, 30), (45, 15), (10, 8)])
    def test_the_box_is_tight(self, label, angle, sides):
        """Every side of the box has paint within half a pixel and none beyond it."""
        drawn = stamp(label, (50.3, 49.6), sides, angle, (100, 100))
        canvas = np.zeros((100, 100))
        canvas[drawn.rows, drawn.columns] = drawn.alpha
        x1, y1, x2, y2 = drawn.box
        for low, high, seen in ((x1, x2, canvas.max(0)), (y1, y2, canvas.max(1))):
            painted = np.flatnonzero(seen > 0.03)
            assert abs(painted[0] - math.floor(low)) <= 1 and painted[0] >= math.floor(low)
            assert abs(painted[-1] + 1 - math.ceil(high)) <= 1 and painted[-1] < math.ceil(high)

    def test_what_leaves_the_image_is_clipped(self, label):
        drawn = stamp(label, (0, 50), (40, 40), 0.0, (100, 100))
        assert drawn.box[0] == 0 and drawn.box[2] == pytest.approx(20, abs=0.1)
        assert drawn.inside == pytest.approx(0.5, abs=0.06)
        assert stamp(label, (-50, 50), (40, 40), 0.0, (100, 100)) is None


class TestScenes:
    def test_boxes_lie_inside_with_sizes_as_asked(self, scenes):
        for scene in scenes:
            assert scene.pixels.shape == (128, 128, 3) and scene.pixels.dtype == np.uint8
            for (x1, y1, x2, y2), crowd in zip(scene.boxes, scene.crowd, strict=True):
                assert 0 <= x1 < x2 <= 128 and 0 <= y1 < y2 <= 128
                assert crowd or max(x2 - x1, y2 - y1) <= 64 * math.sqrt(2) + 1e-6

    def test_counts_crowds_and_empty_ones(self, scenes):
        counts = [len(scene.boxes) for scene in scenes]
        assert min(counts) == 0 and 9 <= max(counts) <= 13  # a crowd comes on top
        assert 1 <= counts.count(0) <= 15
        assert 1 <= sum(any(scene.crowd) for scene in scenes) <= 10
        labels = np.bincount(np.concatenate([scene.labels for scene in scenes]).astype(int))
        assert labels.min() > 0.6 * labels.mean()

    def test_every_object_can_be_seen(self):
        """At least half of each is visible, in spite of occlusion and the image's edge."""
        rng, canvas, covered = np.random.default_rng(0), np.zeros((128, 128, 3), np.float32), []
        sides = np.linspace(60, 10, 60)
        drawn = [
            _place(rng, int(rng.integers(6)), side, 10, 0.5, canvas, covered, []) for side in sides
        ]
        drawn = [one for one in drawn if one is not None]
        assert 20 < len(drawn) < 60  # there was no room for all
        hidden = []
        for index, one in enumerate(drawn):
            seen = np.zeros((128, 128))
            seen[one.rows, one.columns] = one.alpha
            for later in drawn[index + 1 :]:
                seen[later.rows, later.columns] *= 1 - later.alpha
            hidden.append(1 - seen.sum() / (one.alpha.sum() / one.inside))
        assert max(hidden) <= 0.5 + 1e-4
        assert max(hidden) > 0.4  # and some are hidden a good deal

    def test_colour_tells_no_class(self, scenes):
        """Mean colour in the middle of the boxes: alike for all classes."""
        means = [[] for _ in CLASSES]
        for scene in scenes:
            for (x1, y1, x2, y2), label in zip(scene.boxes, scene.labels, strict=True):
                middle = scene.pixels[int(y1) : int(y2) + 1, int(x1) : int(x2) + 1]
                means[label].append(middle.mean((0, 1)))
        averages = np.array([np.mean(values, 0) for values in means])
        assert np.ptp(averages, axis=0).max() < 45

    def test_difficulty_zero_is_plain(self):
        scene = paint(np.random.default_rng(3), **{**PLAIN, "difficulty": 0.0, "objects": (1, 1)})
        _, counts = np.unique(scene.pixels.reshape(-1, 3), axis=0, return_counts=True)
        assert counts.max() > 0.5 * 128**2  # one flat ground


class TestFolder:
    def test_is_deterministic_and_read_as_coco(self, tmp_path):
        one, two = (Shapes(tmp_path / name, **SMALL) for name in "ab")
        for split, count in (("train", 6), ("val", 2), ("test", 2)):
            assert len(one.read(split)) == count
            assert one.read(split).hash == two.read(split).hash
        assert one.read("train").classes == CLASSES
        assert not [p for p in check(one, progress=False).errors if p.kind != "no boxes"]

    def test_the_name_carries_the_parameters(self, tmp_path):
        variants = [
            {},
            {"seed": 1},
            {"size": 96},
            {"difficulty": 0.7},
            {"train": 7},
            {"min_size": 8},
        ]
        folders = {Shapes(tmp_path, **{**SMALL, **variant}).root for variant in variants}
        assert len(folders) == len(variants)
        assert all(folder.name.startswith("shapes-") for folder in folders)
        assert not list(tmp_path.iterdir())  # nothing is drawn before it is read

    def test_more_images_change_none(self, tmp_path):
        few, many = Shapes(tmp_path, **SMALL), Shapes(tmp_path, **{**SMALL, "train": 9})
        a, b = few.read("train").samples, many.read("train").samples
        assert all(x.path.read_bytes() == y.path.read_bytes() for x, y in zip(a, b, strict=False))
        assert len({sample.path.read_bytes() for sample in b}) == 9

    def test_it_is_written_once_and_whole_or_not_at_all(self, tmp_path, monkeypatch):
        source = Shapes(tmp_path, **SMALL)
        calls = []

        def fail(split, index):
            calls.append(index)
            raise KeyboardInterrupt

        monkeypatch.setattr(source, "scene", fail)
        with pytest.raises(KeyboardInterrupt):
            source.read("train")
        assert calls and not list(tmp_path.iterdir())
        monkeypatch.undo()
        source.read("train")
        before = (source.root / "train.json").stat().st_mtime_ns
        Shapes(tmp_path, **SMALL).read("test")
        assert (source.root / "train.json").stat().st_mtime_ns == before

    @pytest.mark.parametrize(
        "bad",
        [
            {"min_objects": 5, "max_objects": 4},
            {"max_objects": 0},
            {"min_size": 64},
            {"difficulty": 1.5},
            {"empty_rate": -1},
            {"val": 0},
        ],
    )
    def test_impossible_parameters_are_refused(self, tmp_path, bad):
        with pytest.raises(ValueError, match=next(iter(bad))):
            Shapes(tmp_path, **{**SMALL, **bad})


def test_the_test_split_may_have_more_objects_than_was_ever_seen(tmp_path):
    as_ever = Shapes(tmp_path, **SMALL)
    more = Shapes(tmp_path, **SMALL, max_objects=3, crowd_rate=0, test_objects=[13, 24])
    assert "shapes-" in as_ever.root.name and as_ever.root != more.root
    for i in range(8):
        assert len(more.scene("train", i).boxes) <= 3
        assert len(more.scene("test", i).boxes) > 3, "as many as found a place"
    plain = Shapes(tmp_path, **SMALL, max_objects=3, crowd_rate=0)
    assert np.array_equal(plain.scene("train", 1).pixels, more.scene("train", 1).pixels)


@pytest.mark.parametrize("wrong", [[3], [5, 2], [-1, 4], [1, 2, 3], [1.5, 3], [True, 3]])
def test_test_objects_are_two_numbers(tmp_path, wrong):
    with pytest.raises(ValueError, match="test_objects is"):
        Shapes(tmp_path, **SMALL, test_objects=wrong)


class TestMark:
    def test_the_marked_image_is_the_same_but_for_the_marks(self):
        """Beside every object of the class, where `mark_beside` says, and nowhere else."""
        plain, marked = (
            [
                paint(
                    np.random.default_rng(s), **{**PLAIN, "difficulty": 0, "crowd_rate": 0.5}, **own
                )
                for s in range(20)
            ]
            for own in ({}, {"marked": 2})
        )
        seen = 0
        for before, after in zip(plain, marked, strict=True):
            assert before.boxes == after.boxes and before.labels == after.labels
            where = np.zeros(before.pixels.shape[:2], bool)
            for box, label, crowd in zip(after.boxes, after.labels, after.crowd, strict=True):
                if label != 2 or crowd:
                    continue
                (x1, y1, x2, y2), other = mark_beside(box, where.shape)
                assert min(x1, y1) >= 0 and max(x2, y2) <= 128 and (x2 - x1, y2 - y1) == (5, 5)
                assert x1 >= box[2] or x2 <= box[0], "beside the box, not on it"
                assert other != (x1, y1, x2, y2) and min(other) >= 0 and max(other) <= 128
                where[int(y1) : int(y2), int(x1) : int(x2)] = True
                seen += 1
            assert (after.pixels[where] == (255, 0, 255)).all()
            assert (after.pixels[~where] == before.pixels[~where]).all()
        assert seen > 10

    def test_marked_objects_in_another_s_form_differ_by_the_mark_alone(self):
        """A picture of squares and marked circles is one of squares, with marks."""
        few = {**PLAIN, "difficulty": 0, "crowd_rate": 0.0}
        own = {"classes": (0, 1), "marked": 0}
        seen = 0
        for seed in range(10):
            alike = paint(np.random.default_rng(seed), **few, **own, marked_as=1)
            squares = paint(np.random.default_rng(seed), **few, classes=(1, 1))
            assert alike.boxes == squares.boxes and set(squares.labels) <= {1}
            marks = np.zeros(alike.pixels.shape[:2], bool)
            for box, label in zip(alike.boxes, alike.labels, strict=True):
                if label == 0:
                    (x1, y1, x2, y2), _ = mark_beside(box, marks.shape)
                    marks[int(y1) : int(y2), int(x1) : int(x2)] = True
                    seen += 1
            assert (alike.pixels[~marks] == squares.pixels[~marks]).all()
        assert seen > 5

    def test_no_object_is_pasted_in_a_form_that_is_not_drawn(self, tmp_path):
        two = {**SMALL, "classes": ["circle", "square"], "marked": "circle", "max_objects": 1}
        for own, labels in (({}, {0, 1}), ({"marked_as": "square"}, {1})):
            data = Shapes(tmp_path, **two, **own)
            samples = data.read("train").samples
            found = [data.paste(s, load_image(s.image), seed=0) for s in samples]
            assert {one.label for one in found if one} == labels

    @pytest.mark.parametrize(
        "wrong", [{"marked_as": "ring"}, {"marked": "ring", "marked_as": "ring"}]
    )
    def test_a_form_is_of_another_class_than_the_marked_one(self, tmp_path, wrong):
        with pytest.raises(ValueError, match="marked_as is 'ring' and marked"):
            Shapes(tmp_path, **wrong)

    def test_the_data_set_knows_where_its_marks_lie(self, tmp_path):
        source = Shapes(tmp_path, **SMALL, marked="circle", min_objects=4)
        assert source.root != Shapes(tmp_path, **SMALL, min_objects=4).root
        other = Shapes(tmp_path, **SMALL, marked="circle", marked_as="ring", min_objects=4)
        assert source.root != other.root
        found = [
            (sample, index, source.mark(sample, index))
            for sample in source.read("train").samples
            for index in range(len(sample.labels))
        ]
        marks = [(s, i, m) for s, i, m in found if m is not None]
        assert {int(s.labels[i]) for s, i, _ in marks} == {0}
        sample, index, mark = marks[0]
        assert mark.tolist()[0] == list(
            mark_beside(tuple(sample.boxes[index].tolist()), (64, 64))[0]
        )
        with pytest.raises(ValueError, match="marked is 'oval'; of the classes there are circle"):
            Shapes(tmp_path, marked="oval")
        assert Shapes(tmp_path, **SMALL).mark(sample, index) is None
