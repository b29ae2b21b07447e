"""Annotations as people's tools write them: read as they are meant, or refused with the reason."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from detzoo.box_forms import PIXELS, XYWH, XYXY, YOLO
from detzoo.data import Coco, Voc, YoloTxt, bounds, check
from detzoo.data import kinds as kinds_module
from detzoo.data.form_check import suspicion
from detzoo.data.parsing import parse_flag, parse_id
from detzoo.imagefile import turn_upright

from .conftest import CocoFolder, write_image


def kinds(dataset):
    return [problem.kind for problem in dataset.problems]


def boxes(dataset, index=0):
    return dataset.samples[index].boxes.tolist()


class TestWords:
    @pytest.mark.parametrize("value", [1, 1.0, True, "1", "1.0", "true", "TRUE", " Yes ", "on"])
    def test_yes(self, value):
        assert parse_flag(value) is True

    @pytest.mark.parametrize(
        "value",
        [0, 0.0, False, None, "", "0", "0.0", "false", "No", "off", "Unspecified", "null", "none"],
    )
    def test_no(self, value):
        assert parse_flag(value) is False

    @pytest.mark.parametrize("value", ["maybe", 2, -1, "7", [], {}, math.nan, math.inf])
    def test_neither(self, value):
        assert parse_flag(value) is None

    @pytest.mark.parametrize(
        ("value", "id"),
        [
            *((7, 7), (7.0, 7), ("7", 7), ("7.0", 7), (" 7 ", 7), (-7, -7), (0, 0), ("007", 7)),
            *((20230101123456789, 20230101123456789), ("20230101123456789", 20230101123456789)),
            *((1.5, None), ("a", None), ("", None), (None, None), (True, None), ([7], None)),
            *((math.nan, None), (math.inf, None), (2**63, None), ("inf", None), ("1e999", None)),
        ],
    )
    def test_ids(self, value, id):
        assert parse_id(value) == id


class TestFlags:
    def test_coco_words(self, coco):
        words = ["0", "1", False, None, 0.0, "false", "true", "maybe", "maybe"]
        coco.content["annotations"] = [
            coco.annotation(n, 7, 20, [n, n, 9, 9], iscrowd=word) for n, word in enumerate(words)
        ]
        dataset = Coco(coco.write().root).read("train")
        assert dataset.samples[0].crowd.tolist() == [word in ("1", "true") for word in words]
        unknown = [p for p in dataset.problems if p.kind == "unknown word"]
        assert len(unknown) == 1 and "(2 times)" in unknown[0].what  # once, however often
        assert unknown[0].where == "train.json: annotation 7, image 7"

    def test_voc_words(self, voc):
        words = ["0", "1", "Unspecified", "", "False", "yes", "perhaps"]
        voc.write([{"difficult": word, "xmin": n + 1} for n, word in enumerate(words)])
        dataset = Voc(voc.root).read("train")
        assert dataset.samples[0].crowd.tolist() == [word in ("1", "yes") for word in words]
        assert kinds(dataset) == ["difficult", "difficult", "unknown word"]


class TestIds:
    @pytest.mark.parametrize("of_categories", [int, str, float])
    @pytest.mark.parametrize("of_annotations", [int, str, float])
    def test_numbers_and_their_text_are_one(self, coco, of_categories, of_annotations):
        for category in coco.content["categories"]:
            category["id"] = of_categories(category["id"])
        for image in coco.content["images"]:
            image["id"] = of_annotations(image["id"])
        for annotation in coco.content["annotations"]:
            annotation["category_id"] = of_annotations(annotation["category_id"])
            annotation["image_id"] = of_categories(annotation["image_id"])
        dataset = Coco(coco.write().root).read("train")
        assert not dataset.problems and dataset.category_ids == (20, 30)
        assert [sample.id for sample in dataset.samples] == [7, 9]
        assert [len(sample.boxes) for sample in dataset.samples] == [2, 1]

    def test_images_whose_ids_are_words_are_numbered(self, coco):
        for image, name in zip(coco.content["images"], ("frame-a", 9), strict=True):
            image["id"] = name
        of_images = ("frame-a", "frame-a", "9")
        for annotation, id in zip(coco.content["annotations"], of_images, strict=True):
            annotation["image_id"] = id
        dataset = Coco(coco.write().root).read("train")
        assert [(s.id, len(s.boxes)) for s in dataset.samples] == [(1, 2), (2, 1)]
        assert kinds(dataset) == ["image ids"]

    def test_a_root_category_is_left_out_if_nothing_is_in_it(self, coco):
        """Roboflow writes the group that its classes are in as a category, often with id 0."""
        for name in ("zebra", "animals"):
            coco.content["categories"] = [
                {"id": 0, "name": name, "supercategory": "none"},
                {"id": 20, "name": "ape", "supercategory": name},
                {"id": 30, "name": "zebra", "supercategory": name},
            ]
            dataset = Coco(coco.write().root).read("train")
            assert dataset.classes == ("ape", "zebra") and dataset.category_ids == (20, 30)
            assert kinds(dataset) == ["root category"]
            assert dataset.samples[0].labels.tolist() == [1, 0]
        coco.add(coco.annotation(4, 9, 0, [0, 0, 9, 9])).write()
        assert Coco(coco.root).read("train").classes == ("animals", "ape", "zebra")

    @pytest.mark.parametrize(("above", "of_others"), [("things", "animals"), ("none", "beasts")])
    def test_a_class_that_is_no_root_stays_though_it_is_empty(self, coco, above, of_others):
        coco.content["categories"] = [
            {"id": 0, "name": "animals", "supercategory": above},
            {"id": 20, "name": "ape", "supercategory": "animals"},
            {"id": 30, "name": "zebra", "supercategory": of_others},
        ]
        dataset = Coco(coco.write().root).read("train")
        assert dataset.classes == ("animals", "ape", "zebra") and not dataset.problems

    def test_two_categories_of_one_name_are_one_class(self, coco):
        coco.content["categories"].append({"id": 10, "name": "ape"})
        dataset = Coco(coco.write().root).read("train")
        assert dataset.classes == ("ape", "zebra") and kinds(dataset) == ["duplicate class"]
        assert dataset.category_ids == (20, 30)  # of the two the one that has boxes
        coco.add(coco.annotation(4, 9, 10, [0, 0, 9, 9])).write()
        assert Coco(coco.root).read("train").samples[1].labels.tolist() == [1, 0]

    def test_problems_name_the_file_with_its_folder_and_the_split(self, coco):
        for split in ("train", "val", "test"):
            write_image(coco.root / split / "a.jpg", seed=ord(split[1]))
            coco.content["images"] = [{"id": 0, "file_name": "a.jpg", "width": 60, "height": 40}]
            coco.content["annotations"] = [coco.annotation(1, 0, 20, [5, 5, 0, 0])]
            coco.add(*(coco.annotation(n, 0, n, [5, 5, n, 5]) for n in (20, 30)))
            (coco.root / split / "_annotations.coco.json").write_text(json.dumps(coco.content))
        result = check(Coco(coco.root), progress=False)
        assert [(p.split, p.where) for p in result.problems] == [
            (split, f"{split}/_annotations.coco.json: annotation 1, image 0")
            for split in ("train", "val", "test")
        ]


class TestMasks:
    POLYGON = ([[10, 5, 30, 5, 30, 35]], [10, 5, 30, 35])

    def test_the_box_of_a_mask_is_pycocotools(self):
        rng = np.random.default_rng(0)
        for density in (0.02, 0.5, 0.98, 1.0):
            for _ in range(10):
                pixels = (rng.random(rng.integers(1, 60, 2)) < density).astype(np.uint8)
                coded = coco_mask.encode(np.asfortranarray(pixels))
                x, y, width, height = coco_mask.toBbox(coded)
                size = list(pixels.shape)
                text = {"size": size, "counts": coded["counts"].decode()}
                flat = pixels.ravel(order="F")
                edges = np.flatnonzero(np.diff(flat)) + 1
                runs = np.diff([0, *edges, flat.size]).tolist()
                plain = {"size": size, "counts": [0, *runs] if flat[0] else runs}
                if not pixels.any():
                    continue
                assert bounds.mask(text) == bounds.mask(plain) == (x, y, x + width, y + height)

    @pytest.mark.parametrize(
        ("drawing", "box"),
        [
            POLYGON,
            ([10, 5, 30, 5, 30, 35], [10, 5, 30, 35]),
            ([[[10, 5], [30, 5], [30, 35]]], [10, 5, 30, 35]),
            ([[10, 5, 12, 5, 12, 9], [20, 30, 30, 35, 21, 33]], [10, 5, 30, 35]),
            ({"size": [40, 60], "counts": [405, 30, 1965]}, [10, 5, 11, 35]),
        ],
    )
    @pytest.mark.parametrize("bbox", ["missing", None, [], [0, 0, 0, 0]])
    def test_a_box_that_is_not_there_is_the_mask_s(self, coco, drawing, box, bbox):
        annotation = coco.annotation(1, 7, 20, bbox, segmentation=drawing)
        if bbox == "missing":
            del annotation["bbox"]
        coco.content["annotations"] = [annotation]
        dataset = Coco(coco.write().root).read("train")
        assert boxes(dataset) == [box] and kinds(dataset) == ["mask without box"]

    @pytest.mark.parametrize(
        "drawing",
        [
            *(None, [], [[]], {}, "text", 7, [[1, 2, 3]], [[[[1, 2]]]], {"counts": "x"}),
            *({"size": [4, 4], "counts": [3, 3]}, {"size": [4, 4], "counts": [-1, 17]}),
            *({"size": [4, 4], "counts": "\x00"}, {"size": [4, 4], "counts": "oooooooooooooooo"}),
            *({"size": [4, 4], "counts": [16]}, {"size": [0, 4], "counts": []}),
        ],
    )
    def test_a_mask_that_has_none_is_an_error(self, coco, drawing):
        coco.content["annotations"] = [
            {"id": 1, "image_id": 7, "category_id": 20, "segmentation": drawing}
        ]
        dataset = Coco(coco.write().root).read("train")
        assert kinds(dataset) == ["malformed entry"] and "bbox" in dataset.problems[0].what

    @pytest.mark.parametrize(
        "bbox", [[10, 5, 20, 30], ["10", "5", "20", "30.0"], "[10, 5, 20, 30]", [[10, 5, 20, 30]]]
    )
    def test_four_numbers_however_they_are_written(self, coco, bbox):
        coco.content["annotations"] = [coco.annotation(1, 7, 20, bbox)]
        dataset = Coco(coco.write().root).read("train")
        assert boxes(dataset) == [[10, 5, 30, 35]] and not dataset.problems

    @pytest.mark.parametrize("bbox", [7, True, {"x": 1, "y": 2, "w": 3, "h": 4}, "a box", [1, 2]])
    def test_what_is_no_box_is_an_error(self, coco, bbox):
        coco.content["annotations"] = [coco.annotation(1, 7, 20, bbox)]
        dataset = Coco(coco.write().root).read("train")
        assert [(p.severity, p.kind) for p in dataset.problems] == [("error", "malformed entry")]

    @pytest.mark.parametrize(
        ("annotation", "box"),
        [
            ({"bbox": [30, 20, 20, 10, 90]}, [25, 10, 35, 30]),  # detectron2's, in degrees
            ({"bbox": [10, 5, 30, 5, 30, 35, 10, 35]}, [10, 5, 30, 35]),
            # CVAT's, which writes the box before it is turned
            ({"bbox": [20, 15, 20, 10], "attributes": {"rotation": 90.0}}, [25, 10, 35, 30]),
            ({"bbox": [30, 20, 20, 10, 270.0]}, [25, 10, 35, 30]),
        ],
    )
    def test_a_turned_box_is_the_upright_one_around_it(self, coco, annotation, box):
        coco.content["annotations"] = [{"id": 1, "image_id": 7, "category_id": 20, **annotation}]
        dataset = Coco(coco.write().root).read("train")
        assert np.allclose(boxes(dataset), [box], atol=1e-5) and kinds(dataset) == ["rotated box"]

    @pytest.mark.parametrize("rotation", [0, 180.0, -360, "no", None, math.nan])
    def test_a_box_that_is_turned_by_nothing_is_as_it_is(self, coco, rotation):
        box = coco.annotation(1, 7, 20, [20, 15, 20, 10], attributes={"rotation": rotation})
        coco.content["annotations"] = [box]
        dataset = Coco(coco.write().root).read("train")
        assert boxes(dataset) == [[20, 15, 40, 25]] and not dataset.problems

    @pytest.mark.parametrize(
        ("drawn", "box", "kind"),
        [
            ("<polygon><x1>10</x1><y1>5</y1><x2>30</x2><y2>5</y2><x3>30</x3><y3>35</y3></polygon>",
             [10, 5, 30, 35], "mask without box"),
            ("<polygon><pt><x>10</x><y>5</y></pt><pt><x>30</x><y>35</y></pt></polygon>",
             [10, 5, 30, 35], "mask without box"),
            ("<robndbox><cx>30</cx><cy>20</cy><w>20</w><h>10</h><angle>1.5707963</angle></robndbox>",
             [25, 10, 35, 30], "rotated box"),
            ("", None, "malformed entry"),
            ("<bndbox/>", None, "malformed entry"),
            ("<polygon/>", None, "malformed entry"),
        ],
    )  # fmt: skip
    def test_a_voc_object_without_bndbox(self, voc, drawn, box, kind):
        voc.write([{}, {"drawn": drawn}])
        dataset = Voc(voc.root, first_pixel=0).read("train")
        assert kinds(dataset) == [kind]
        assert len(boxes(dataset)) == 1 + (box is not None)
        assert box is None or np.allclose(boxes(dataset)[1], box, atol=1e-4)
        assert dataset.problems[0].severity == ("warning" if box else "error")


class TestRows:
    BOX = "0 0.5 0.5 0.5 0.25"
    PIXELS = (15, 15, 45, 25)

    @pytest.fixture
    def yolo(self, tmp_path):
        def write(*rows, yaml="names: [ape, zebra]\n"):
            write_image(tmp_path / "images" / "train" / "a.png", seed=1)
            (tmp_path / "labels" / "train").mkdir(parents=True, exist_ok=True)
            (tmp_path / "labels" / "train" / "a.txt").write_text("\n".join(rows))
            (tmp_path / "data.yaml").write_text(yaml)
            return YoloTxt(tmp_path).read("train")

        return write

    @pytest.mark.parametrize(
        ("behind", "shape"),
        [
            ("0.5 0.5", "[1, 2]"),
            (" ".join(["0.4"] * 10), "[5, 2]"),
            (" ".join(["0.4 0.5 2"] * 17), "[17, 3]"),
            ("0.4 0.5 0", "[1, 3]"),
            ("0.5 0.5 0.9", "[1, 2]"),  # with a confidence
            ("", "[1, 2]"),
        ],
    )
    def test_keypoints_as_data_yaml_tells_them(self, yolo, behind, shape):
        dataset = yolo(f"{self.BOX} {behind}", yaml=f"names: [ape]\nkpt_shape: {shape}\n")
        assert np.allclose(boxes(dataset), [self.PIXELS], atol=1e-5) and not dataset.problems

    def test_keypoints_with_visibility_tell_themselves(self, yolo):
        dataset = yolo(f"{self.BOX} 0.9 0.9 2 0.1 0.1 0")
        assert np.allclose(boxes(dataset), [self.PIXELS], atol=1e-5)

    def test_keypoints_that_nothing_tells_are_asked_about(self, yolo):
        rng = np.random.default_rng(0)
        rows, polygons = [], []
        for x, y in rng.uniform(0.2, 0.8, (20, 2)):
            points = rng.uniform(-0.05, 0.05, (2, 2)) + (x, y)
            rows.append(f"0 {x} {y} 0.2 0.2 " + " ".join(map(str, points.ravel())))
            corners = rng.uniform(-0.1, 0.1, (4, 2)) + (x, y)
            polygons.append("0 " + " ".join(map(str, corners.ravel())))
        (problem,) = [p for p in yolo(*rows).problems if p.kind == "extra columns"]
        assert "kpt_shape: [2, 2]" in problem.action and "all 20 rows" in problem.what
        assert "extra columns" not in kinds(yolo(*polygons))

    @pytest.mark.parametrize("behind", ["0.87", "12", "0.87 12"])
    def test_what_predictions_have_behind_the_box(self, yolo, behind):
        dataset = yolo(f"{self.BOX} {behind}")
        assert np.allclose(boxes(dataset), [self.PIXELS], atol=1e-5)
        assert kinds(dataset) == ["extra columns"]

    @pytest.mark.parametrize(
        ("row", "kind"),
        [
            ("0 0.25 0.25 0.75 0.25 0.75 0.5 0.25 0.5", []),  # four corners
            ("0 0.25 0.25 0.75 0.25 0.5 0.5", []),
            ("0 0.25 0.25 0.75 0.25 0.5 0.5 0.9", ["extra columns"]),
        ],
    )
    def test_polygons(self, yolo, row, kind):
        dataset = yolo(row)
        assert boxes(dataset) == [[15, 10, 45, 20]] and kinds(dataset) == kind

    @pytest.mark.parametrize("shape", ["5", "[5]", "[0, 2]", "[5, 4]", "x"])
    def test_a_shape_of_keypoints_that_means_nothing_is_refused(self, yolo, shape):
        with pytest.raises(ValueError, match=r"data\.yaml: kpt_shape"):
            yolo(self.BOX, yaml=f"names: [ape]\nkpt_shape: {shape}\n")

    def test_a_box_that_is_there_twice_is_one(self, yolo):
        dataset = yolo(self.BOX, self.BOX, self.BOX.replace("0", "1", 1))
        assert len(boxes(dataset)) == 2  # another class is another object
        assert [(p.kind, p.where) for p in dataset.problems] == [
            ("duplicate box", "labels/train/a.txt:2")
        ]


class TestAreas:
    @pytest.mark.parametrize(
        ("area", "taken", "kind"),
        [
            (300, 300, []),
            (620, 620, []),
            (2400, 600, ["area too large"]),
            *((value, 600, []) for value in (0, -1, None, "x", math.nan)),
        ],
    )
    def test_an_object_is_no_larger_than_its_box(self, coco, area, taken, kind):
        coco.content["annotations"] = [coco.annotation(1, 7, 20, [10, 5, 20, 30], area=area)]
        dataset = Coco(coco.write().root).read("train")
        assert dataset.samples[0].areas.tolist() == [taken] and kinds(dataset) == kind


class TestSlivers:
    @pytest.mark.parametrize(
        "box", [[900, 10, 1e-5, 20], [900, 10, 6e-5, 20], [0, 0, 1e-30, 20], [5, 900, 20, 1e-4]]
    )
    def test_a_box_is_judged_as_it_is_stored(self, coco, box):
        write_image(coco.root / "images" / "train" / "a.jpg", 1000, 1000)
        coco.content["images"][0].update(width=1000, height=1000)
        coco.add(coco.annotation(9, 7, 20, box)).write()
        dataset = Coco(coco.root).read("train")
        assert kinds(dataset) == ["zero-area box"] and len(boxes(dataset)) == 2

    def test_far_to_the_right_numbers_are_coarser(self, coco):
        """From 32768 on float32 has steps of 0.004 px, so that x1 and x2 are stored as one."""
        coco.content["images"][0].update(width=70_000)
        coco.add(coco.annotation(9, 7, 20, [60_000, 10, 0.0015, 20])).write()
        dataset = Coco(coco.root).read("train")
        assert kinds(dataset) == ["zero-area box"] and len(boxes(dataset)) == 2


def scattered(count=40, seed=0, size=(480, 640)):
    """(count, 4) xyxy boxes all over an image of that (height, width)."""
    rng = np.random.default_rng(seed)
    height, width = size
    sides = np.stack([rng.uniform(8, width / 3, count), rng.uniform(8, height / 3, count)], 1)
    start = rng.uniform(0, 1, (count, 2)) * (np.array([width, height]) - sides)
    return np.concatenate([start, start + sides], 1), np.tile([height, width], (count, 1))


def as_form(boxes, form):
    x1, y1, x2, y2 = boxes.T
    return {
        "xyxy": boxes,
        "xywh": np.stack([x1, y1, x2 - x1, y2 - y1], 1),
        "centre": np.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], 1),
    }[form]


class TestForms:
    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize("unit", ["pixels", "fractions"])
    @pytest.mark.parametrize("form", ["xyxy", "xywh", "centre"])
    @pytest.mark.parametrize("expected", [XYWH, XYXY, YOLO])
    def test_another_form_is_named(self, expected, form, unit, seed):
        boxes, sizes = scattered(seed=seed)
        written = as_form(boxes, form) / (sizes[:, [1, 0, 1, 0]] if unit == "fractions" else 1)
        found = suspicion(written, sizes, expected)
        right = {XYWH: ("xywh", "pixels"), XYXY: ("xyxy", "pixels"), YOLO: ("centre", "fractions")}
        if right[expected] == (form, unit):
            assert found is None
        elif expected == YOLO and (form, unit) == ("xywh", "fractions"):
            assert found is None or found[0] == "error"  # most such boxes stay inside their images
        else:
            severity, what, action = found
            assert severity == "error" and unit in what.replace("normalised", "fractions")
            assert expected.name in action

    @pytest.mark.parametrize("outside", [0, 3])
    @pytest.mark.parametrize("expected", PIXELS[:2])
    def test_a_few_boxes_outside_are_no_other_form(self, expected, outside):
        boxes, sizes = scattered()
        boxes[:outside, 2:] += 300
        written = as_form(boxes, "xywh" if expected == XYWH else "xyxy")
        assert suspicion(written, sizes, expected) is None

    @pytest.mark.parametrize("expected", PIXELS[:2])
    def test_corners_with_y_first_are_named(self, expected):
        boxes, sizes = scattered()
        _, what, _ = suspicion(boxes[:, [1, 0, 3, 2]], sizes, expected)
        assert "y first" in what

    def test_large_objects_from_the_corner_on_are_no_corners(self):
        boxes = np.tile([3.0, 2.0, 620.0, 470.0], (30, 1))
        assert suspicion(as_form(boxes, "xywh"), np.tile([480, 640], (30, 1)), XYWH) is None

    @pytest.mark.parametrize("scale", ["percent", "a quarter"])
    def test_boxes_of_smaller_images_are_a_warning(self, scale):
        boxes, sizes = scattered()
        boxes = boxes / sizes[:, [1, 0, 1, 0]] * 100 if scale == "percent" else boxes / 4
        severity, what, _ = suspicion(as_form(boxes, "xywh"), sizes, XYWH)
        assert severity == "warning" and "upper left quarter" in what
        assert ("in percent" in what) == (scale == "percent")

    def test_a_pixel_in_the_corner_is_one(self):
        assert suspicion(np.array([[0.0, 0, 1, 1]]), np.array([[480, 640]]), XYWH) is None

    def test_the_readers_ask(self, coco, voc):
        coco.content["annotations"] = [
            coco.annotation(n, 7, 20, [0.1 + n / 50, 0.2, 0.3, 0.4]) for n in range(8)
        ]
        (problem,) = Coco(coco.write().root).read("train").problems
        assert (problem.severity, problem.kind) == ("error", "form of boxes")
        assert problem.where == "train.json: annotation 0, image 7"
        assert "8 of 8 boxes" in problem.what and "normalised" in problem.what


class TestSkip:
    @pytest.mark.parametrize(
        "pattern", ["a.jpg", "a", "images/train/a.jpg", "images/train/a", "[a]*", "*/train/a*"]
    )
    def test_an_image_is_left_out_by_name_or_pattern(self, coco, pattern):
        dataset = Coco(coco.write().root, skip=[pattern]).read("train")
        assert [sample.id for sample in dataset.samples] == [9]
        (problem,) = dataset.problems
        assert problem.kind == "skipped image" and "images/train/a.jpg" in problem.what

    def test_a_broken_image_need_not_be_there(self, coco):
        (coco.root / "images" / "train" / "b.jpg").unlink()
        result = check(Coco(coco.write().root, skip=["b.jpg", "z.jpg"]), ["train"], progress=False)
        assert not result.errors
        assert [p.kind for p in result.warnings] == ["skipped image", "unused skip"]
        assert "'z.jpg'" in result.warnings[-1].what

    def test_brackets_in_a_name_are_the_name(self, coco):
        coco.content["images"][0]["file_name"] = "a[1].jpg"
        folder = coco.root / "images" / "train"
        (folder / "a.jpg").rename(folder / "a[1].jpg")
        assert len(Coco(coco.write().root, skip=["a[1].jpg"]).read("train")) == 1

    @pytest.mark.parametrize("kind", ["unreadable image", "size mismatch", "unreadable split"])
    def test_what_training_cannot_pass_cannot_be_allowed(self, coco, kind):
        with pytest.raises(ValueError, match="training stops at"):
            Coco(coco.root, allow=[kind])

    def test_a_kind_that_there_is_not_names_the_nearest(self, coco):
        with pytest.raises(ValueError, match="did you mean 'train/test overlap'"):
            Coco(coco.root, allow=["train/test overlaps"])


class TestLimits:
    def test_an_image_beyond_the_limit_is_one_sentence(self, coco):
        coco.write()
        small = Coco(coco.root, max_megapixels=0.001).read
        with pytest.raises(ValueError, match=r"60 x 40 pixels.*data\.max_megapixels is 0\.001"):
            small("train")
        assert len(Coco(coco.root, max_megapixels=0.0024).read("train")) == 2
        for nonsense in (0, -1, "x", math.nan, True):
            with pytest.raises(ValueError, match=r"data\.max_megapixels"):
                Coco(coco.root, max_megapixels=nonsense)

    def test_an_image_beyond_pillow_s_limit_is_read_where_the_setting_allows_it(
        self, tmp_path, monkeypatch
    ):
        from PIL import Image

        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # an error from twice that on
        write_image(tmp_path / "a.png")
        (tmp_path / "a.txt").write_text("0 .5 .5 .5 .5")
        result = check(YoloTxt(tmp_path, classes=["x"]), ["train"], progress=False)
        assert not result.errors and result.statistics["train"]["boxes"] == 1

    def test_names_that_no_disk_could_hold(self, coco):
        for name in ("x" * 300 + ".jpg", "a\x00b.jpg"):
            coco.content["images"][0]["file_name"] = name
            assert kinds(Coco(coco.write().root).read("train")) == ["missing image"]

    def test_a_file_nested_too_deep(self, coco):
        (coco.root / "train.json").write_text("[" * 100_000)
        with pytest.raises(ValueError, match=r"train\.json"):
            Coco(coco.root).read("train")


class TestExif:
    def yolo(self, root, orientation, **options):
        """An image that lies 60 x 40 on the disk, with a box in its upper left as it is shown."""
        from PIL import Image

        tags = Image.Exif()
        tags[0x0112] = orientation
        write_image(root / "images" / "train" / "a.jpg", exif=tags)
        (root / "labels" / "train").mkdir(parents=True, exist_ok=True)
        (root / "labels" / "train" / "a.txt").write_text("0 0.25 0.25 0.5 0.5")
        return YoloTxt(root, classes=["x"], **options)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_yolo_labels_are_of_the_upright_image(self, tmp_path, orientation):
        source = self.yolo(tmp_path, orientation)
        dataset = source.read("train")
        height, width = (60, 40) if orientation > 4 else (40, 60)
        assert dataset.samples[0].size == (height, width)
        assert boxes(dataset) == [[0, 0, width / 2, height / 2]]
        result = check(source, ["train"], progress=False)
        assert [p.kind for p in result.problems] == ["EXIF rotation"] * (orientation != 1)

    def test_a_setting_says_otherwise(self, tmp_path):
        dataset = self.yolo(tmp_path, 6, exif="stored").read("train")
        assert dataset.samples[0].size == (40, 60) and boxes(dataset) == [[0, 0, 30, 20]]
        with pytest.raises(ValueError, match=r"data\.exif"):
            self.yolo(tmp_path, 6, exif="sideways")

    @pytest.mark.parametrize("orientation", [2, 3, 6, 8])
    @pytest.mark.parametrize("drawn", ["upright", "stored"])
    def test_what_fits_is_measured(self, tmp_path, orientation, drawn):
        """A dark object, labelled in the image as it is shown or as it is stored."""
        from PIL import Image

        tags = Image.Exif()
        tags[0x0112] = orientation
        rng = np.random.default_rng(0)
        (tmp_path / "labels" / "train").mkdir(parents=True)
        (tmp_path / "images" / "train").mkdir(parents=True)
        for number in range(8):
            pixels = rng.integers(120, 256, (40, 60, 3), dtype=np.uint8)
            pixels[4:14, 6:26] = 20
            image = Image.fromarray(pixels)
            if drawn == "upright":
                back = {2: 2, 3: 3, 6: 8, 8: 6}[orientation]
                image = turn_upright(image, back)
            image.save(tmp_path / "images" / "train" / f"{number}.png", exif=tags)
            row = f"0 {16 / 60:.4f} {9 / 40:.4f} {20 / 60:.4f} {10 / 40:.4f}"
            (tmp_path / "labels" / "train" / f"{number}.txt").write_text(row)
        result = check(YoloTxt(tmp_path, classes=["x"]), ["train"], progress=False)
        what, action = next(
            (p.what, p.action) for p in result.problems if p.where == "yolo_txt train"
        )
        assert ("8 of 8" in what) == (drawn == "upright")
        assert ("data.exif=stored" in action) == (drawn == "stored")
        stored = YoloTxt(tmp_path, classes=["x"], exif="stored")
        found = check(stored, ["train"], progress=False).problems
        assert any("data.exif=upright" in p.action for p in found) == (drawn == "upright")

    def test_a_few_images_say_nothing_about_the_way_up(self, tmp_path):
        """Of one image, whichever way its boxes fit better is a toss."""
        result = check(self.yolo(tmp_path, 6), ["train"], progress=False)
        assert [p.where for p in result.problems] == ["images/train/a.jpg (id 1)"]

    @pytest.mark.parametrize(
        ("told", "exif", "size"),
        [
            ((40, 60), "auto", (40, 60)),
            ((60, 40), "auto", (60, 40)),
            ((40, 60), "upright", (60, 40)),
            ((60, 40), "stored", (40, 60)),
            ((30, 20), "upright", (30, 20)),  # another image's size: the check says so
        ],
    )
    def test_coco_s_size_tells_unless_the_setting_does(self, tmp_path, told, exif, size):
        self.yolo(tmp_path, 6)
        folder = CocoFolder(tmp_path)
        self.yolo(tmp_path, 6)
        folder.content["images"][0].update(height=told[0], width=told[1])
        dataset = Coco(folder.write().root, exif=exif).read("train")
        assert dataset.samples[0].size == size


def test_every_kind_of_problem_can_be_allowed_or_says_why_not():
    """The kinds that the readers and the check name, read from their source."""
    folder = Path(kinds_module.__file__).parent
    named = r"""(?:\.error|\.warning|\.note)\(\s*"([^"]+)"|Problem\(\s*"\w+",\s*"([^"]+)\""""
    found = {
        first or second
        for path in folder.glob("*.py")
        for first, second in re.findall(named, path.read_text(encoding="utf-8"))
    }
    assert len(found) > 30
    assert found - kinds_module.PASSABLE - set(kinds_module.IMPASSABLE) == set()
