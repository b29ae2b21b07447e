"""The readers: what they take out of good files, and what they say about bad ones."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from detzoo.data import Coco, DataError, Voc, YoloTxt
from detzoo.data.collect import inside

from .conftest import CocoFolder, write_image


def kinds(dataset):
    return [problem.kind for problem in dataset.problems]


def boxes(dataset, index=0):
    return dataset.samples[index].boxes.tolist()


class TestCoco:
    def test_by_hand(self, coco):
        coco.write()
        dataset = Coco(coco.root).read("train")
        assert dataset.classes == ("ape", "zebra") and dataset.category_ids == (20, 30)
        first, second = dataset.samples
        assert (first.id, first.size, first.path.name) == (7, (40, 60), "a.jpg")
        assert first.boxes.tolist() == [[10, 5, 30, 35], [0, 0, 60, 40]]
        assert first.boxes.dtype == torch.float32 and first.labels.tolist() == [1, 0]
        assert first.areas.tolist() == [600, 2400]
        assert second.boxes.tolist() == [[1.5, 2.5, 11.5, 12.5]]
        assert not dataset.problems

    def test_its_ground_truth_round_trips(self, coco, tmp_path):
        coco.add(coco.annotation(4, 9, 20, [5, 5, 8, 8], iscrowd=1, area=33.0)).write()
        once = Coco(coco.root).read("train")
        truth = once.coco()
        assert truth["annotations"][3] == {
            "id": 4,
            "image_id": 9,
            "category_id": 20,
            "bbox": [5, 5, 8, 8],
            "area": 33,
            "iscrowd": 1,
        }
        assert truth["images"][0]["file_name"] == "images/train/a.jpg"
        assert truth["categories"] == [{"id": 20, "name": "ape"}, {"id": 30, "name": "zebra"}]
        (coco.root / "train.json").write_text(json.dumps(truth))
        twice = Coco(coco.root).read("train")
        assert twice.hash == once.hash and twice.coco() == truth

    @pytest.mark.parametrize(
        ("box", "kind", "left"),
        [
            ([10, 10, 0, 5], "zero-area box", None),
            ([10, 10, 5, 0], "zero-area box", None),
            ([10, 10, -5, 5], "inverted box", None),
            ([10, 10, 5, math.nan], "non-finite box", None),
            ([math.inf, 10, 5, 5], "non-finite box", None),
            ([10, None, 5, 5], "non-finite box", None),
            ([10, True, 5, 5], "non-finite box", None),
            ([60, 10, 5, 5], "box outside the image", None),
            ([-9, -9, 5, 5], "box outside the image", None),
            ([50, 30, 20, 20], "box outside the image", [50, 30, 60, 40]),
            ([-2, -3, 10, 10], "box outside the image", [0, 0, 8, 7]),
            ([50, 30, 10.005, 10], None, [50, 30, 60, 40]),  # somebody's rounding
            ([50, 30, 10, 10], None, [50, 30, 60, 40]),  # up to the border is inside
        ],
    )
    def test_bad_boxes(self, coco, box, kind, left):
        coco.content["annotations"] = [coco.annotation(5, 7, 20, box, area=1)]
        coco.write()
        dataset = Coco(coco.root).read("train")
        assert kinds(dataset) == ([kind] if kind else [])
        assert boxes(dataset) == ([left] if left else [])
        assert len(dataset) == 2
        for problem in dataset.problems:
            assert problem.severity == "warning"
            assert problem.where == "train.json: annotation 5, image 7"
            assert problem.action == ("clipped to the image" if left else "dropped")

    @pytest.mark.parametrize("area", [400, 90])  # of the whole object
    def test_a_clipped_box_has_the_area_that_is_left(self, coco, area):
        coco.content["annotations"] = [coco.annotation(5, 7, 20, [50, 30, 20, 20], area=area)]
        coco.write()
        assert Coco(coco.root).read("train").samples[0].areas.tolist() == [100]

    def test_a_crowd_is_kept_and_told(self, coco):
        coco.add(coco.annotation(4, 9, 20, [0, 0, 9, 9], iscrowd=1)).write()
        dataset = Coco(coco.root).read("train")
        assert dataset.samples[1].crowd.tolist() == [False, True]
        assert kinds(dataset) == ["crowd"] and dataset.problems[0].severity == "warning"

    def test_what_else_can_be_wrong(self, coco):
        images = coco.content["images"]
        images.append({"id": 7, "file_name": "again.jpg", "width": 60, "height": 40})
        images.append({"id": 11, "file_name": "gone.jpg", "width": 60, "height": 40})
        images.append({"id": 12, "file_name": "../../../secret.jpg", "width": 60, "height": 40})
        images.append({"id": 13, "file_name": "/etc/passwd", "width": 60, "height": 40})
        images.append({"file_name": "no id.jpg"})
        images.append("no object")
        coco.content["categories"].append({"id": 20, "name": "other"})
        coco.add(
            coco.annotation(1, 7, 20, [0, 0, 9, 9]),
            coco.annotation(5, 7, 99, [0, 0, 9, 9]),
            coco.annotation(6, 1000, 20, [0, 0, 9, 9]),
            {"id": 7, "image_id": 7, "category_id": 20},
            {"id": 8, "image_id": 7, "category_id": 20, "bbox": [1, 2, 3]},
            {"id": 9, "image_id": [7], "category_id": 20, "bbox": [1, 2, 3, 4]},
            "no object",
        ).write()
        dataset = Coco(coco.root).read("train")
        assert [sample.id for sample in dataset.samples] == [7, 9]
        assert len(boxes(dataset, 0)) == 2
        assert sorted(kinds(dataset)) == sorted(
            ["duplicate id"] * 3
            + ["missing image"]
            + ["path leaves the root"] * 2
            + ["malformed entry"] * 6
            + ["unknown class", "unknown image"]
        )
        assert {problem.severity for problem in dataset.problems} == {"error"}

    def test_an_untold_size_is_read_from_the_image(self, coco):
        del coco.content["images"][0]["width"]
        coco.content["images"][1]["height"] = 0
        coco.write()
        dataset = Coco(coco.root).read("train")
        assert [sample.size for sample in dataset.samples] == [(40, 60)] * 2
        assert kinds(dataset) == ["no size"] * 2

    def test_classes_choose_and_order(self, coco):
        coco.write()
        dataset = Coco(coco.root, classes=["zebra"]).read("train")
        assert dataset.classes == ("zebra",) and dataset.category_ids == (30,)
        assert boxes(dataset) == [[10, 5, 30, 35]]
        assert kinds(dataset) == ["class left out"] and "1 boxes" in dataset.problems[0].action
        both = Coco(coco.root, classes=["zebra", "yak"]).read("train")
        assert both.category_ids == (30, 31)

    def test_labels_are_the_training_file_s_in_every_split(self, coco):
        coco.write()
        val = CocoFolder(coco.root, "val")
        val.content["categories"] = [{"id": 30, "name": "ape"}, {"id": 20, "name": "zebra"}]
        val.write()
        dataset = Coco(coco.root).read("val")
        assert dataset.classes == ("ape", "zebra") and dataset.category_ids == (30, 20)
        assert dataset.samples[0].labels.tolist() == [0, 1]

    @pytest.mark.parametrize(
        ("file", "folder"),
        [
            ("annotations/instances_train2017.json", "train2017"),
            ("train/_annotations.coco.json", "train"),
            ("annotations.json", "images"),
            ("annotations/train.json", "."),
        ],
    )
    def test_usual_layouts_are_found(self, coco, tmp_path, file, folder):
        root = tmp_path / "other"
        for name in "ab":
            write_image(root / folder / f"{name}.jpg")
        (root / file).parent.mkdir(exist_ok=True, parents=True)
        (root / file).write_text(json.dumps(coco.content))
        assert len(Coco(root).read("train")) == 2

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("{", r"train\.json: not valid JSON"),
            ("[]", "not COCO's form"),
            ('{"images": {}}', "not COCO's form"),
            ('{"annotations": []}', "no list of images"),
            ('{"images": []}', "no categories"),
            (
                '{"images": [], "categories": [{"id": 1, "name": "a"}]}',
                "no images that can be used",
            ),
        ],
    )
    def test_a_file_that_cannot_be_read_is_one_clear_error(self, tmp_path, text, says):
        (tmp_path / "train.json").write_text(text)
        with pytest.raises(DataError, match=says):
            Coco(tmp_path).read("train")

    def test_what_is_not_there_is_told_with_what_to_do(self, coco):
        coco.write()
        with pytest.raises(ValueError, match="splits has tset; it has train, val and test"):
            Coco(coco.root, splits={"tset": "train.json"})
        with pytest.raises(DataError, match=r"lies outside of .*\(data\.splits\.val\)"):
            YoloTxt(coco.root / "images", splits={"val": ".."}, classes=["x"]).read("val")
        with pytest.raises(DataError, match=r"data\.splits\.test=FILE.*data\.holdout\.test=0\.2"):
            Coco(coco.root).read("test")
        with pytest.raises(
            DataError, match=r"mine\.json: no such file or folder \(data\.splits\.val\)"
        ):
            Coco(coco.root, splits={"val": "mine.json"}).read("val")
        with pytest.raises(DataError, match=r"no such folder; data\.root=DIR"):
            Coco(coco.root / "nowhere").read("train")
        with pytest.raises(ValueError, match="train, val, test"):
            Coco(coco.root).read("training")


VOC = """<annotation>
  <filename>other.jpg</filename>
  <size><width>60</width><height>40</height><depth>3</depth></size>
{}</annotation>
"""
OBJECT = """  <object>
    <name>{}</name><difficult>{}</difficult>
    <bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>
  </object>
"""


def voc_folder(root, objects, name="a", split="train"):
    write_image(root / "JPEGImages" / f"{name}.jpg")
    for folder in ("Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    text = VOC.format("".join(OBJECT.format(*o) for o in objects))
    (root / "Annotations" / f"{name}.xml").write_text(text)
    with open(root / "ImageSets" / "Main" / f"{split}.txt", "a") as file:
        file.write(f"{name} 1\n")
    return root


class TestVoc:
    def test_by_hand(self, tmp_path):
        voc_folder(tmp_path, [("dog", 0, 1, 1, 60, 40), ("cat", 1, 11, 6, 20, 15)])
        dataset = Voc(tmp_path).read("train")
        assert dataset.classes == ("cat", "dog") and dataset.category_ids == (1, 2)
        # Pixels count from 1 and xmax is the last one: the first box is the whole image.
        assert boxes(dataset) == [[0, 0, 60, 40], [10, 5, 20, 15]]
        assert dataset.samples[0].labels.tolist() == [1, 0]
        assert dataset.samples[0].crowd.tolist() == [False, True]
        assert kinds(dataset) == ["difficult"]
        assert boxes(Voc(tmp_path, first_pixel=0).read("train"))[1] == [11, 6, 20, 15]

    def test_problems_carry_file_and_line(self, tmp_path):
        objects = [("dog", 0, 5, 5, 5, 5), ("dog", 0, 9, 9, 3, 12), ("dog", 0, 1, 1, "x", 9)]
        voc_folder(tmp_path, objects)
        dataset = Voc(tmp_path).read("train")
        assert [(p.kind, p.where) for p in dataset.problems] == [
            ("zero-area box", "Annotations/a.xml:4"),
            ("inverted box", "Annotations/a.xml:8"),
            ("non-finite box", "Annotations/a.xml:12"),
        ]
        assert boxes(dataset) == []

    def test_an_unknown_class_is_an_error(self, tmp_path):
        voc_folder(tmp_path, [("dog", 0, 1, 1, 9, 9)])
        voc_folder(tmp_path, [("yak", 0, 1, 1, 9, 9)], name="b", split="test")
        dataset = Voc(tmp_path).read("test")
        assert kinds(dataset) == ["unknown class"] and dataset.problems[0].severity == "error"
        assert "'yak'" in dataset.problems[0].what

    def test_files_that_are_missing_or_broken(self, tmp_path):
        voc_folder(tmp_path, [("dog", 0, 1, 1, 9, 9)])
        voc_folder(tmp_path, [], name="broken")
        (tmp_path / "Annotations" / "broken.xml").write_text("<annotation><object>")
        voc_folder(tmp_path, [], name="blind")
        (tmp_path / "JPEGImages" / "blind.jpg").unlink()
        with open(tmp_path / "ImageSets" / "Main" / "train.txt", "a") as file:
            file.write("unwritten\n../../escaped\n\n")
        dataset = Voc(tmp_path).read("train")
        assert [sample.path.name for sample in dataset.samples] == ["a.jpg"]
        assert kinds(dataset) == [
            "malformed entry",
            "missing image",
            "missing annotation",
            "path leaves the root",
        ]

    @pytest.mark.parametrize("told", ["other.jpg", r"C:\photos\other.jpg", "/home/me/other.jpg"])
    def test_the_told_file_name_is_used_where_no_image_has_the_annotation_s(self, tmp_path, told):
        voc_folder(tmp_path, [("dog", 0, 1, 1, 9, 9)])
        (tmp_path / "JPEGImages" / "a.jpg").rename(tmp_path / "JPEGImages" / "other.jpg")
        xml = tmp_path / "Annotations" / "a.xml"
        xml.write_text(xml.read_text().replace("other.jpg", told))
        assert Voc(tmp_path).read("train").samples[0].path.name == "other.jpg"

    def test_of_two_images_of_one_name_the_jpeg_is_taken(self, tmp_path):
        voc_folder(tmp_path, [("dog", 0, 1, 1, 9, 9)])
        for suffix in (".png", ".gif", ".bmp"):
            write_image(tmp_path / "JPEGImages" / f"a{suffix}")
        assert Voc(tmp_path).read("train").samples[0].path.name == "a.jpg"

    def test_objects_that_are_commented_out_make_no_line_wrong(self, tmp_path):
        voc_folder(tmp_path, [("dog", 0, 5, 5, 5, 5)])
        xml = tmp_path / "Annotations" / "a.xml"
        text = xml.read_text().replace("  <object>", "<!-- <object></object> -->\n  <object>", 1)
        xml.write_text(text)
        (problem,) = Voc(tmp_path).read("train").problems
        assert (problem.kind, problem.where) == ("zero-area box", "Annotations/a.xml:0")

    def test_a_box_that_cvat_has_turned_is_the_upright_one_around_it(self, tmp_path):
        turned = "<attributes><attribute><name>rotation</name><value>{}</value></attribute>"
        for degrees, box, found in [
            ("90.0", [25, 10, 35, 30], ["rotated box"]),
            ("180.0", [20, 15, 40, 25], []),
            ("nan", [20, 15, 40, 25], []),
        ]:
            root = voc_folder(tmp_path / degrees, [("dog", 0, 20, 15, 40, 25)])
            xml = root / "Annotations" / "a.xml"
            text = turned.format(degrees) + "</attributes></object>"
            xml.write_text(xml.read_text().replace("</object>", text))
            dataset = Voc(root, first_pixel=0).read("train")
            assert np.allclose(boxes(dataset), [box], atol=1e-4) and kinds(dataset) == found

    def test_without_lists_every_annotation_is_a_training_image(self, tmp_path):
        for name in "abcd":
            voc_folder(tmp_path, [("dog", 0, 1, 1, 9, 9)], name=name)
        for path in (tmp_path / "ImageSets" / "Main").iterdir():
            path.unlink()
        (tmp_path / "ImageSets" / "Main").rmdir()
        assert len(Voc(tmp_path).read("train")) == 4
        with pytest.raises(DataError, match=r"data\.splits\.val"):
            Voc(tmp_path).read("val")


class TestYoloTxt:
    @pytest.fixture
    def root(self, tmp_path):
        write_image(tmp_path / "images" / "train" / "a.png", seed=1)
        write_image(tmp_path / "images" / "train" / "b.jpg", seed=2)
        (tmp_path / "labels" / "train").mkdir(parents=True)
        (tmp_path / "data.yaml").write_text("names: {0: ape, 1: zebra}\ntrain: ../elsewhere\n")
        self.label(tmp_path, "a", "1 0.5 0.5 0.5 0.25\n\n0 0.1 0.1 0.2 0.2\n")
        self.label(tmp_path, "b", "")
        return tmp_path

    @staticmethod
    def label(root, name, text):
        (root / "labels" / "train" / f"{name}.txt").write_text(text)

    def test_by_hand(self, root):
        dataset = YoloTxt(root).read("train")
        assert dataset.classes == ("ape", "zebra") and not dataset.problems
        expected = [[15, 15, 45, 25], [0, 0, 12, 8]]
        assert torch.allclose(dataset.samples[0].boxes, torch.tensor(expected).float(), atol=1e-5)
        assert dataset.samples[0].labels.tolist() == [1, 0]
        assert dataset.samples[1].boxes.shape == (0, 4)

    def test_a_polygon_gives_its_box(self, root):
        self.label(root, "a", "0 0.5 0.25 0.75 0.5 0.25 0.75")
        assert boxes(YoloTxt(root).read("train")) == [[15, 10, 45, 30]]

    @pytest.mark.parametrize(
        ("line", "kind"),
        [
            ("2 .5 .5 .1 .1", "unknown class"),
            ("0.5 .5 .5 .1 .1", "unknown class"),
            ("ape .5 .5 .1 .1", "unknown class"),
            ("-1 .5 .5 .1 .1", "unknown class"),
            ("0 .5 .5 .1", "malformed entry"),
            ("0 .5 .5 0 .1", "zero-area box"),
            ("0 .5 .5 -.1 .1", "inverted box"),
            ("0 .5 nan .1 .1", "non-finite box"),
            ("0 .5 .5 x .1", "non-finite box"),
            ("0 5 5 1 1", "box outside the image"),
            ("0 .5 .5 nan .1 .3 .4", "non-finite box"),
        ],
    )
    def test_bad_lines(self, root, line, kind):
        self.label(root, "b", f"0 .5 .5 .1 .1\n{line}\n")
        dataset = YoloTxt(root).read("train")
        assert [(p.kind, p.where) for p in dataset.problems] == [(kind, "labels/train/b.txt:2")]
        assert len(boxes(dataset, 1)) == 1

    def test_an_image_without_a_label_file_has_no_boxes_and_is_told(self, root):
        (root / "labels" / "train" / "b.txt").unlink()
        dataset = YoloTxt(root).read("train")
        assert kinds(dataset) == ["no label file"] and boxes(dataset, 1) == []

    def test_an_unreadable_image_is_left_out(self, root):
        (root / "images" / "train" / "b.jpg").write_bytes(b"nothing")
        dataset = YoloTxt(root).read("train")
        assert kinds(dataset) == ["unreadable image"] and len(dataset) == 1

    def test_a_list_file_stays_in_the_root(self, root):
        (root / "list.txt").write_text("images/train/b.jpg\n../x.jpg\nimages/train/c.jpg\n")
        dataset = YoloTxt(root, splits={"test": "list.txt"}).read("test")
        assert [sample.path.name for sample in dataset.samples] == ["b.jpg"]
        assert [(p.kind, p.where) for p in dataset.problems] == [
            ("path leaves the root", "list.txt:2"),
            ("missing image", "list.txt:3"),
        ]

    def test_class_names(self, root):
        (root / "data.yaml").unlink()
        with pytest.raises(DataError, match=r"data\.classes"):
            _ = YoloTxt(root).classes
        (root / "classes.txt").write_text("cat\ndog\n\n")
        assert YoloTxt(root).classes == ("cat", "dog")
        assert YoloTxt(root, classes=["x"]).classes == YoloTxt(root, classes="x").classes == ("x",)
        assert YoloTxt(root, classes="cat").classes == ("cat",)
        with pytest.raises(ValueError, match="classes names a class twice"):
            YoloTxt(root, classes=["x", "y", "x"])
        (root / "classes.txt").write_text("cat\n\ndog\n")
        with pytest.raises(DataError, match=r"classes\.txt: class 1 has no name"):
            _ = YoloTxt(root).classes
        for text in ("names: 3", "a: [", "names: {1: a}", "- a"):
            (root / "data.yaml").write_text(text)
            with pytest.raises(DataError, match=r"data\.yaml"):
                _ = YoloTxt(root).classes

    def test_a_yaml_file_runs_no_code(self, root):
        trap = root / "it ran"
        (root / "data.yaml").write_text(f"names: !!python/object/apply:os.mkdir ['{trap}']")
        with pytest.raises(DataError, match="names"):
            _ = YoloTxt(root).classes
        assert not trap.exists()

    def test_the_layout_with_splits_outside(self, tmp_path):
        for split in ("train", "valid"):
            write_image(tmp_path / split / "images" / "a.jpg")
            (tmp_path / split / "labels").mkdir()
            (tmp_path / split / "labels" / "a.txt").write_text("0 .5 .5 .1 .1")
        source = YoloTxt(tmp_path, classes=["x"])
        assert len(boxes(source.read("train"))) == len(boxes(source.read("val"))) == 1

    def test_labels_beside_the_images(self, tmp_path):
        write_image(tmp_path / "a.jpg")
        (tmp_path / "a.txt").write_text("0 .5 .5 .1 .1")
        assert len(boxes(YoloTxt(tmp_path, classes=["x"]).read("train"))) == 1


class TestHoldout:
    @pytest.fixture
    def root(self, tmp_path):
        for index in range(20):
            write_image(tmp_path / "images" / f"{index:02d}.png", 8, 8, seed=index)
        return tmp_path

    @staticmethod
    def names(dataset):
        return {sample.path.name for sample in dataset.samples}

    def source(self, root, **options):
        options = {"holdout": {"val": 0.1, "test": 0.2}, **options}
        return YoloTxt(root, classes=["x"], **options)

    def test_the_pieces_make_the_whole(self, root):
        source = self.source(root)
        pieces = [self.names(source.read(split)) for split in ("train", "val", "test")]
        assert [len(piece) for piece in pieces] == [14, 2, 4]
        assert len(set().union(*pieces)) == 20
        assert source.splits == ("train", "val", "test")
        assert source.read("val") is source.read("val")

    def test_the_seed_alone_decides(self, root):
        first = self.names(self.source(root).read("test"))
        assert self.names(self.source(root).read("test")) == first
        assert self.names(self.source(root, holdout_seed=1).read("test")) != first
        for path in sorted((root / "images").iterdir(), reverse=True):
            path.rename(path.with_name(f"renamed_{path.name}"))
        renamed = self.names(self.source(root).read("test"))
        assert renamed == {f"renamed_{name}" for name in first}

    def test_copies_stay_on_one_side(self, root):
        for path in list((root / "images").iterdir()):
            (root / "images" / f"copy_{path.name}").write_bytes(path.read_bytes())
        source = self.source(root)
        for split in ("train", "val", "test"):
            names = self.names(source.read(split))
            assert {name.removeprefix("copy_") for name in names} <= names

    def test_what_makes_no_sense_is_refused(self, root):
        for holdout in ({"train": 0.1}, {"val": 0.6, "test": 0.5}, {"val": -0.1}):
            with pytest.raises(ValueError, match="holdout is"):
                self.source(root, holdout=holdout)
        write_image(root / "images" / "val" / "own.png", seed=99)
        with pytest.raises(DataError, match=r"unset data\.holdout\.val"):
            self.source(root, splits={"train": "images"}).read("train")


class TestFolds:
    @pytest.fixture
    def sources(self, tmp_path):
        """Twelve images in three splits' folders, cut into four folds."""
        for i in range(12):
            split = ("train", "train", "val", "test")[i % 4]
            write_image(tmp_path / "images" / split / f"{i:02d}.png", seed=i)
            label = tmp_path / "labels" / split / f"{i:02d}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text("0 0.5 0.5 0.1 0.2")
        return [YoloTxt(tmp_path, classes=["x"], folds=4, fold=fold) for fold in range(4)]

    @staticmethod
    def names(source, split):
        return [sample.path.name for sample in source.read(split).samples]

    def test_every_image_is_tested_once_and_validated_once(self, sources):
        for split in ("test", "val"):
            names = [self.names(source, split) for source in sources]
            assert [len(of_fold) for of_fold in names] == [3, 3, 3, 3]
            assert len({name for of_fold in names for name in of_fold}) == 12
        for fold, source in enumerate(sources):
            pieces = [{*self.names(source, split)} for split in ("train", "val", "test")]
            assert [len(piece) for piece in pieces] == [6, 3, 3]
            assert len(set.union(*pieces)) == 12
            assert pieces[1] == {*self.names(sources[(fold + 1) % 4], "test")}
        assert sources[0].splits == ("train", "val", "test")

    def test_an_image_has_one_id_in_all_folds_and_no_other_has_it(self, sources):
        ids = [
            {
                s.path.name: s.id
                for split in ("train", "val", "test")
                for s in of.read(split).samples
            }
            for of in sources
        ]
        assert ids[0] == ids[1] == ids[2] == ids[3]
        assert sorted(ids[0].values()) == list(range(1, 13))

    def test_copies_stay_in_one_fold(self, sources):
        root = sources[0].root
        for path in list((root / "images" / "train").iterdir()):
            (root / "images" / "val" / f"copy_{path.name}").write_bytes(path.read_bytes())
        for source in sources:
            names = {*self.names(source, "test")}
            assert {name.removeprefix("copy_") for name in names} <= names

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"folds": 2}, "folds is 2"),
            ({"folds": 3, "fold": 3}, "fold is 3"),
            ({"folds": 3, "fold": -1}, "fold is -1"),
            ({"fold": 2}, "folds is None, fold is 2"),
            ({"folds": 3, "holdout": {"val": 0.1}}, "unset holdout"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, tmp_path, options, says):
        with pytest.raises(ValueError, match=says):
            YoloTxt(tmp_path, classes=["x"], **options)

    def test_too_few_images_are_told(self, sources):
        with pytest.raises(DataError, match="12 different images are too few for 13 folds"):
            YoloTxt(sources[0].root, classes=["x"], folds=13).read("train")
        with pytest.raises(DataError, match="no images that can be used"):
            (sources[0].root / "empty").mkdir()
            YoloTxt(sources[0].root / "empty", classes=["x"], folds=3).read("train")


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("a.jpg", "root/images/a.jpg"),
        ("sub/../a.jpg", "root/images/a.jpg"),
        ("../a.jpg", "root/a.jpg"),
        ("..\\..\\a.jpg", None),
        ("../../a.jpg", None),
        ("../../root2/a.jpg", None),
        ("/etc/passwd", None),
    ],
)
def test_inside(tmp_path, name, result):
    root = tmp_path / "root"
    path = inside(root, root / "images", name)
    assert path == (tmp_path / result if result else None)


def test_the_hash_sees_pixels_boxes_and_classes_but_no_paths(coco, tmp_path):
    coco.write()
    first = Coco(coco.root).read("train").hash
    coco.root.rename(tmp_path.with_name(tmp_path.name + "_moved"))
    moved = tmp_path.with_name(tmp_path.name + "_moved")
    assert Coco(moved).read("train").hash == first
    renamed = replace(Coco(moved).read("train"), classes=("ape", "horse"))
    assert renamed.hash != first
    coco.content["annotations"][0]["bbox"][0] += 1
    (moved / "train.json").write_text(json.dumps(coco.content))
    changed = Coco(moved).read("train").hash
    assert changed != first
    write_image(moved / "images" / "train" / "a.jpg", seed=77)
    assert Coco(moved).read("train").hash != changed


def test_aquarium(shared):
    source = Coco(shared("aquarium"))
    counts = [
        (len(d), sum(len(s.boxes) for s in d.samples)) for d in map(source.read, source.splits)
    ]
    assert counts == [(443, 3352), (100, 731), (95, 736)]
    assert len(source.classes) == 7


def test_bccd(shared):
    source = Voc(shared("bccd"), first_pixel=0)
    datasets = [source.read(split) for split in source.splits]
    assert [len(dataset) for dataset in datasets] == [205, 87, 72]
    assert source.classes == ("Platelets", "RBC", "WBC")
    totals = np.bincount(np.concatenate([s.labels for d in datasets for s in d.samples]))
    assert totals.tolist() == [361, 4153, 372]  # two of the 4155 red cells have no area
    found = [(p.kind, p.where.split("/")[1].split(".")[0]) for d in datasets for p in d.problems]
    assert found == [("zero-area box", "BloodImage_00343"), ("zero-area box", "BloodImage_00338")]
