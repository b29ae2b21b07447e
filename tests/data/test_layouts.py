"""Every layout that a tool writes is read as it is meant, by its root alone."""

import json
import re
import unicodedata

import pytest

from detzoo.data import Coco, DataError, Voc, YoloTxt, recognise
from detzoo.data.coco_places import file_names

from . import layouts
from .layouts import ITEMS, NAMES, SPLITS

CASES = [(format, layout) for format, of in layouts.LAYOUTS.items() for layout in of]


def boxes_of(dataset):
    """{stem: {(class, x1, y1, x2, y2), ...}}, in whole pixels."""
    return {
        sample.path.stem: {
            (dataset.classes[label], *(round(side, 2) for side in box))
            for label, box in zip(sample.labels.tolist(), sample.boxes.tolist(), strict=True)
        }
        for sample in dataset.samples
    }


@pytest.mark.parametrize(("format", "layout"), CASES, ids=lambda v: getattr(v, "__name__", v))
def test_a_layout_is_read_as_it_is_meant(tmp_path, format, layout):
    splits = layout(tmp_path)
    found = recognise(tmp_path)
    assert found.format == format
    assert found.lines[0].endswith("(sure)")
    read = {split: boxes_of(found.source.read(split)) for split in SPLITS}
    truth = {item.stem: set(item.boxes) for item in ITEMS}
    assert set(found.source.classes) == set(NAMES)
    of_split = dict(zip(SPLITS, splits or ("train",) * 3, strict=True))
    given = {
        split: {i.stem: truth[i.stem] for i in ITEMS if of_split[i.split] == split}
        for split in SPLITS
    }
    problems = [p for split in SPLITS for p in found.source.read(split).problems]
    assert [p for p in problems if p.kind != "other folders"] == []
    cut = set(found.source.holdout)
    assert cut == {split for split in SPLITS if not given[split]}
    assert {s: boxes for s, boxes in read.items() if s not in {"train", *cut}} == {
        s: boxes for s, boxes in given.items() if s not in {"train", *cut}
    }
    pieces = [read[split] for split in ("train", *cut)]
    assert all(pieces) and sum(map(len, pieces)) == len(given["train"])
    assert {stem: boxes for piece in pieces for stem, boxes in piece.items()} == given["train"]
    assert sum("of train, chosen by the images' bytes" in line for line in found.lines) == len(cut)


def test_the_readers_find_the_same_without_auto(tmp_path):
    layouts.cvat_yolo_1_1_subsets(tmp_path)
    found = recognise(tmp_path)
    assert dict(found.settings) == {"root": str(tmp_path)}


def test_several_data_sets_are_listed(tmp_path):
    layouts.roboflow_coco(tmp_path / "fish")
    layouts.labelimg_voc(tmp_path / "birds")
    with pytest.raises(DataError, match="2 folders") as raised:
        recognise(tmp_path)
    assert f"data.root={tmp_path / 'fish'}" in str(raised.value)
    assert f"data.root={tmp_path / 'birds'}" in str(raised.value)


def test_a_setting_that_the_format_does_not_have(tmp_path):
    layouts.roboflow_coco(tmp_path)
    with pytest.raises(
        DataError, match=r"COCO JSON, and data=coco has no setting data\.first_pixel"
    ):
        recognise(tmp_path, first_pixel=0)


def test_two_formats_of_one_data_set_are_a_question(tmp_path):
    layouts.label_studio_yolo(tmp_path)
    layouts.label_studio_voc(tmp_path)
    with pytest.raises(DataError, match="2 formats; say which") as raised:
        recognise(tmp_path)
    assert "data=voc " in str(raised.value) and "data=yolo_txt" in str(raised.value)


class TestYolo:
    """What data.yaml, lists and the disk say, against one another."""

    @pytest.fixture
    def root(self, tmp_path):
        layouts.ultralytics(tmp_path)
        return tmp_path

    @staticmethod
    def stems(root, split, **options):
        return sorted(s.path.stem for s in YoloTxt(root, **options).read(split).samples)

    def describe(self, root, text):
        (root / "data.yaml").write_text(f"{text}\nnames: [cat, dog]\n", encoding="utf-8")

    @pytest.mark.parametrize(
        "text",
        [
            "train: images/tr\nval: images/va\ntest: images/te",
            "path: .\ntrain: ./images/tr/\nval: images/va\ntest: images/te",
            "path: images\ntrain: tr\nval: va\ntest: te",
            "path: /content/datasets/mine\ntrain: images/tr\nval: images/va\ntest: images/te",
            "train: ../images/tr\nval: ../images/va\ntest: ../images/te",
            "train: /content/mine/images/tr\nvalid: /content/mine/images/va\ntest: images/te",
            "train: 'C:\\mine\\images\\tr'\nval: images\\va\ntest: images/te",
            "train: [images/tr]\nval:\n  - images/va\ntest: Images/TE",
        ],
    )
    def test_the_yaml_s_own_folders(self, root, text):
        for name in ("train", "val", "test"):
            for kind in ("images", "labels"):
                (root / kind / name).rename(root / kind / name[:2])
        self.describe(root, text)
        for split in SPLITS:
            assert self.stems(root, split) == sorted(i.stem for i in layouts.of(split))
        assert recognise(root).lines[0].endswith("(sure)")

    def test_its_splits_are_not_trained_on_where_they_are_elsewhere(self, root):
        for kind in ("images", "labels"):
            (root / kind / "train").rename(root / kind / "somewhere")
        with pytest.raises(DataError, match=r"data\.yaml names images/train, which is not there"):
            YoloTxt(root).read("train")
        with pytest.raises(DataError, match=r"data\.yaml names images/train"):
            recognise(root)

    def test_a_named_split_is_not_found_as_any_folder_of_images(self, tmp_path):
        layouts.image(tmp_path / "images", ITEMS[0])
        self.describe(tmp_path, "train: ../train/images")
        with pytest.raises(DataError, match=r"names \.\./train/images, which is not there"):
            YoloTxt(tmp_path).read("train")

    def test_the_same_images_for_two_splits_are_used_once(self, root):
        self.describe(root, "train: images/train\nval: images/val\ntest: images/val")
        found = recognise(root)
        assert found.settings["splits"] == {"val": "none"}
        assert found.source.holdout == {"val": 0.1}
        self.describe(root, "train: images/train\nval: images/train")
        assert recognise(root).source.holdout == {"val": 0.1}  # the test folder is still there

    def test_an_image_of_a_list_that_is_not_there_is_named_as_it_is_meant(self, tmp_path):
        layouts.yaml_lists(tmp_path)
        (tmp_path / "images/shot1.jpg").unlink()
        (problem,) = YoloTxt(tmp_path).read("train").problems
        assert (problem.kind, problem.where) == ("missing image", "train.txt:2")
        assert f"{tmp_path / 'images/shot1.jpg'} is not there" in problem.what

    def test_a_list_of_folders_may_not_lack_one(self, root):
        self.describe(root, "train: [images/train, images/more]\nval: images/val")
        with pytest.raises(DataError, match=r"images/more, which is not there"):
            YoloTxt(root).read("train")

    def test_splits_may_name_several_places(self, root):
        both = self.stems(root, "train", splits={"train": ["images/train", "images/val"]})
        assert both == sorted(i.stem for i in ITEMS if i.split != "test")
        with pytest.raises(DataError, match=r"no such file or folder \(data\.splits\.val\)"):
            self.stems(root, "val", splits={"val": ["images/val", "images/vale"]})

    def test_the_root_may_be_its_data_yaml(self, root, tmp_path):
        assert self.stems(root / "data.yaml", "val") == ["shot4", "shot5"]
        assert recognise(root / "data.yaml").source.classes == ("cat", "dog")
        outside = tmp_path / "configs" / "mine.yaml"
        layouts.write(outside, "path: ..\ntrain: images/train\nval: images/val\nnames: [cat, dog]")
        source = YoloTxt(outside)
        assert source.root.resolve() == tmp_path.resolve()
        assert len(boxes_of(source.read("val"))["shot4"]) == 2

    def test_several_descriptions_are_a_question(self, root):
        (root / "data.yaml").rename(root / "a.yaml")
        (root / "b.yaml").write_text("train: images/train\nnames: [x, y]\n")
        with pytest.raises(DataError, match=r"a\.yaml, b\.yaml describe data sets.*a\.yaml"):
            YoloTxt(root).find("train")

    @pytest.mark.parametrize(
        ("names", "classes"),
        [
            ("[yes, no]", ("yes", "no")),
            ("{0: on, 1: off}", ("on", "off")),
            ("[y, n]", ("y", "n")),
            ("[true, null]", ("true", "null")),
            ("[2024-01-05, 007]", ("2024-01-05", "007")),
            ("[1e3, 1.10]", ("1e3", "1.10")),
            ("{'1': b, '0': a}", ("a", "b")),
        ],
    )
    def test_words_that_are_names(self, root, names, classes):
        (root / "data.yaml").write_text(f"train: images/train\nnames: {names}\n")
        assert YoloTxt(root).classes == classes

    @pytest.mark.parametrize("file", ["data.yaml", "classes.txt"])
    def test_a_class_that_is_there_twice_is_an_error(self, root, file):
        (root / "data.yaml").unlink()
        text = "names: [cat, dog, cat]" if file == "data.yaml" else "cat\ndog\ncat\n"
        (root / file).write_text(text)
        with pytest.raises(
            DataError, match=f"{file}: the class 'cat' stands there twice, as 0 and"
        ):
            _ = YoloTxt(root).classes

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
    def test_byte_order_marks(self, root, encoding):
        (root / "data.yaml").unlink()
        (root / "classes.txt").write_bytes("Käfer\r\n犬\r\n".encode(encoding))
        label = root / "labels/val/shot4.txt"
        label.write_bytes(label.read_text().encode(encoding))
        source = YoloTxt(root)
        assert source.classes == ("Käfer", "犬")
        assert len(boxes_of(source.read("val"))["shot4"]) == 2 and not source.read("val").problems

    @pytest.mark.parametrize(("encoding", "name"), [("gbk", "猫狗"), ("cp1252", "Käfer")])
    def test_another_encoding_is_one_error_with_the_file(self, root, encoding, name):
        (root / "data.yaml").unlink()
        (root / "classes.txt").write_bytes(name.encode(encoding))
        with pytest.raises(ValueError, match=r"classes\.txt: not UTF-8 text .* save it as UTF-8"):
            _ = YoloTxt(root).classes

    def test_every_suffix_that_pillow_opens_and_labels_of_those_that_it_does_not(self, root):
        for name, suffix in (("shot4", ".jfif"), ("shot5", ".heic")):
            (root / "images/val" / f"{name}.jpg").rename(root / "images/val" / f"{name}{suffix}")
        dataset = YoloTxt(root).read("val")
        assert [sample.path.name for sample in dataset.samples] == ["shot4.jfif"]
        (problem,) = dataset.problems
        assert (problem.kind, problem.where) == ("labels without images", "labels/val")
        assert "1 files with labels are not read" in problem.what and ".heic" in problem.what

    def test_names_in_other_letters(self, root):
        for kind, suffix, form in (("images", ".JPG", "NFC"), ("labels", ".txt", "NFD")):
            path = next((root / kind / "val").glob("shot4*"))
            path.rename(path.with_name(unicodedata.normalize(form, "Käfer") + suffix))
        dataset = YoloTxt(root).read("val")
        assert len(boxes_of(dataset)["Käfer"]) == 2 and not dataset.problems

    def test_hidden_and_side_files_are_no_images(self, root):
        for name in ("._shot4.jpg", ".DS_Store", "Thumbs.db", "desktop.ini"):
            (root / "images/val" / name).write_bytes(b"\0")
        layouts.write(root / "images/val/.ipynb_checkpoints/shot4-checkpoint.jpg", "")
        layouts.write(root / "images/val/__MACOSX/shot4.jpg", "")
        layouts.write(root / "labels/val/._shot4.txt", "0 .5 .5 .1 .1")
        assert self.stems(root, "val") == ["shot4", "shot5"]
        assert not YoloTxt(root).read("val").problems

    def test_linked_folders_are_followed_and_loops_are_not(self, root, tmp_path):
        for kind in ("images", "labels"):
            (root / kind / "val").rename(tmp_path / f"elsewhere-{kind}")
            (root / kind / "val").symlink_to(tmp_path / f"elsewhere-{kind}")
        (root / "images/val/again").symlink_to(root / "images")
        (root / "images/broken").symlink_to(tmp_path / "nowhere")
        assert self.stems(root, "val") == ["shot4", "shot5"]
        (root / "images/val/again").unlink()
        (root / "images/val/again").symlink_to(root / "images/val")
        assert self.stems(root, "val") == ["shot4", "shot5"]


class TestVoc:
    @pytest.mark.parametrize(
        "line",
        ["{}", "{}.jpg", "{} 1", "{} -1", "{}  0", "JPEGImages/{}.jpg", "/data/x/JPEGImages/{}.png"]
        + ["./JPEGImages/{0}.jpg ./Annotations/{0}.xml", "\ufeff{}"],
    )
    @pytest.mark.parametrize("name", ["shot4", "my photo 4", "my photo 1", "a.b.c"])
    def test_lines_of_lists(self, tmp_path, line, name):
        layouts.voc_devkit(tmp_path)
        root = tmp_path / "VOCdevkit/VOC2007"
        (root / "Annotations/shot4.xml").rename(root / f"Annotations/{name}.xml")
        (root / "JPEGImages/shot4.jpg").rename(root / f"JPEGImages/{name}.jpg")
        (root / "ImageSets/Main/val.txt").write_text(line.format(name) + "\n", encoding="utf-8")
        assert [s.path.name for s in Voc(root).read("val").samples] == [f"{name}.jpg"]

    def test_what_was_looked_for_is_said(self, tmp_path):
        layouts.cvat_voc(tmp_path)
        (tmp_path / "Annotations").rename(tmp_path / "gone")
        for path in (tmp_path / "gone").iterdir():
            path.rename(path.with_suffix(".bak"))
        with pytest.raises(DataError, match=r"looked for .*shot0\.xml: none of 8 is there"):
            _ = Voc(tmp_path).classes

    def test_folders_by_setting(self, tmp_path):
        layouts.label_studio_voc(tmp_path)
        for old, new in (("Annotations", "boxes of mine"), ("images", "2024")):
            (tmp_path / old).rename(tmp_path / new)
        layouts.voc(tmp_path / "old", ITEMS[0])
        source = Voc(tmp_path, annotations="boxes of mine", images={"train": "2024"}, first_pixel=0)
        assert boxes_of(source.read("train")) == {i.stem: set(i.boxes) for i in ITEMS}
        with pytest.raises(DataError, match=r"no such folder inside data\.root \(data\.images\)"):
            Voc(tmp_path, annotations="boxes of mine", images="2025").read("train")
        with pytest.raises(DataError, match=r"\(data\.annotations\)"):
            Voc(tmp_path, annotations="../x").read("train")

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
    def test_byte_order_marks(self, tmp_path, encoding):
        layouts.cvat_voc(tmp_path)
        for path in (tmp_path / "Annotations").iterdir():
            path.write_bytes(path.read_text().encode(encoding))
        list_ = tmp_path / "ImageSets/Main/default.txt"
        list_.write_bytes(list_.read_text().encode(encoding))
        found = recognise(tmp_path)
        assert found.lines[0].endswith("(sure)") and found.source.classes == NAMES

    def test_a_devkit_of_several_years_is_a_question(self, tmp_path):
        layouts.voc_devkit(tmp_path)
        (tmp_path / "VOCdevkit/VOC2007").rename(tmp_path / "VOC2007")
        layouts.voc_devkit(tmp_path)
        (tmp_path / "VOC2007").rename(tmp_path / "VOCdevkit/VOC2012")
        with pytest.raises(DataError, match=r"data\.root=.*VOC2007"):
            recognise(tmp_path / "VOCdevkit")
        with pytest.raises(DataError, match=r"several data sets: VOC2007, VOC2012"):
            Voc(tmp_path / "VOCdevkit").find("train")

    def test_boxes_that_begin_at_0_contradict_first_pixel_1(self, tmp_path):
        layouts.label_studio_voc(tmp_path)
        kinds = [problem.kind for problem in Voc(tmp_path, first_pixel=1).read("train").problems]
        assert "first pixel" in kinds
        assert not Voc(tmp_path, first_pixel=0).read("train").problems

    def test_boxes_that_begin_at_0_are_edges_whatever_the_file_says_it_is_of(self, tmp_path):
        layouts.voc_devkit(tmp_path)
        root = tmp_path / "VOCdevkit/VOC2007"
        assert recognise(root).settings["first_pixel"] == 1
        xml = root / "Annotations/shot1.xml"
        xml.write_text(re.sub(r"<xmin>\d+", "<xmin>0", xml.read_text(), count=1))
        assert recognise(root).settings["first_pixel"] == 0

    def test_annotations_that_no_list_names_are_said(self, tmp_path):
        layouts.voc_devkit(tmp_path)
        root = tmp_path / "VOCdevkit/VOC2007"
        assert not Voc(root).read("train").problems
        list_ = root / "ImageSets/Main/test.txt"
        first, second = list_.read_text().split()
        list_.write_text(first + "\n")
        (problem,) = Voc(root).read("train").problems
        assert (problem.kind, problem.where) == ("not in a list", "Annotations")
        assert problem.what == f"1 annotations are in no list of ImageSets/Main, {second}.xml first"
        chosen = {split: f"ImageSets/Main/{split}.txt" for split in SPLITS}
        assert not Voc(root, splits=chosen).read("train").problems  # on purpose

    def test_images_without_annotations_are_said(self, tmp_path):
        layouts.labelimg_voc(tmp_path)
        layouts.write_image(tmp_path / "more.jpg", seed=99)
        (problem,) = Voc(tmp_path, first_pixel=0).read("train").problems
        assert problem.kind == "images without annotation"
        assert problem.what == "1 images have no annotation, more.jpg first"

    def test_names_in_other_letters(self, tmp_path):
        layouts.cvat_voc(tmp_path)
        for folder, suffix in (("Annotations", ".xml"), ("JPEGImages", ".JPG")):
            path = next((tmp_path / folder).glob("shot4*"))
            path.rename(path.with_name(unicodedata.normalize("NFD", "Käfer") + suffix))
        (tmp_path / "ImageSets/Main/default.txt").write_text("käfer\n", encoding="utf-8")
        dataset = Voc(tmp_path).read("train")
        assert len(dataset) == 1 and not [p for p in dataset.problems if p.severity == "error"]


class TestCoco:
    def test_most_of_the_images_decide_on_the_folder(self, tmp_path):
        layouts.images_by_split(tmp_path)
        for split in SPLITS:
            first = layouts.of(split)[0].stem
            (tmp_path / "images" / split / f"{first}.jpg").unlink()
        dataset = Coco(tmp_path).read("val")
        assert [sample.path.name for sample in dataset.samples] == ["shot5.jpg"]
        assert [p.kind for p in dataset.problems] == ["missing image"]
        assert "images/val/shot4.jpg" in dataset.problems[0].what

    def test_another_split_s_images_of_the_same_names_are_not_taken(self, tmp_path):
        for split in ("train", "val"):
            layouts.coco(tmp_path / f"{split}.json", ITEMS)
            for item in ITEMS:
                layouts.image(tmp_path / "images" / split, item)
        (tmp_path / "images/val/shot1.jpg").unlink()
        dataset = Coco(tmp_path).read("val")
        assert {sample.path.parent.name for sample in dataset.samples} == {"val"}

    @pytest.mark.parametrize("name", ["instances_mine.json", "mine.json", "mine_coco.json"])
    def test_a_folder_called_as_the_file(self, tmp_path, name):
        layouts.coco(tmp_path / "annotations" / name, ITEMS)
        for item in ITEMS:
            layouts.image(tmp_path / ("mine_coco" if "coco" in name else "mine"), item)
        assert len(Coco(tmp_path).read("train")) == len(ITEMS)

    def test_val_none_makes_val_from_train_and_the_published_val_the_test(self, tmp_path):
        layouts.coco_2017(tmp_path)
        (tmp_path / "annotations/instances_test2017.json").unlink()
        source = Coco(tmp_path, splits={"val": "none"}, holdout={"val": None, "test": None})
        assert set(boxes_of(source.read("test"))) == {i.stem for i in layouts.of("val")}
        pieces = boxes_of(source.read("train")).keys() | boxes_of(source.read("val")).keys()
        assert pieces == {i.stem for i in layouts.of("train")}
        auto = recognise(tmp_path, splits={"val": "none"})
        assert boxes_of(auto.source.read("test")) == boxes_of(source.read("test"))

    def test_a_published_split_without_its_images_is_not_replaced(self, tmp_path):
        layouts.coco_2017(tmp_path)
        for path in (tmp_path / "test2017").iterdir():
            path.unlink()
        found = recognise(tmp_path)
        assert not found.source.holdout
        assert "  test  annotations/instances_test2017.json: 0 of 2 images are there" in found.lines
        with pytest.raises(DataError, match="the test split has no images that can be used"):
            found.source.read("test")

    def test_the_root_may_be_a_json(self, tmp_path):
        layouts.cvat_coco(tmp_path)
        file = tmp_path / "annotations/instances_default.json"
        assert len(Coco(file).read("train")) == len(ITEMS)
        found = recognise(file)
        assert found.format == "coco" and found.source.splits == SPLITS
        layouts.roboflow_coco(tmp_path / "set")
        found = recognise(tmp_path / "set/train/_annotations.coco.json")
        assert len(found.source.read("val")) == 2 and not found.source.holdout
        (tmp_path / "results.json").write_text("[]")
        with pytest.raises(DataError, match=r"results\.json: not COCO's form"):
            recognise(tmp_path / "results.json")

    def test_several_files_for_one_split_are_a_question(self, tmp_path):
        layouts.cvat_coco(tmp_path)
        layouts.coco(tmp_path / "annotations/first_train.json", ITEMS)
        layouts.coco(tmp_path / "annotations/second_train.json", ITEMS)
        with pytest.raises(DataError, match=r"2 COCO files could be train: .*data\.splits\.train"):
            Coco(tmp_path).find("train")

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
    def test_byte_order_marks(self, tmp_path, encoding):
        layouts.cvat_coco(tmp_path)
        path = tmp_path / "annotations/instances_default.json"
        path.write_bytes(path.read_text().encode(encoding))
        assert len(recognise(tmp_path).source.read("train")) > 1


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("https://example.org/set.zip", "https://example.org/set.zip is a URL; download it"),
        ("film.mp4", "is a video; cut it into images"),
        ("set.zip", "is an archive; unpack it"),
        ("a.jpg", "is one image"),
        ("notes.txt", "is a file that is no data set"),
        ("nowhere", "no such folder"),
        ("empty", "no annotations of COCO"),
        ("videos", "film.mp4 is a video: cut it"),
        ("labelme", "labelme's JSON; export them as COCO"),
        ("cvat", "CVAT's own XML"),
    ],
)
def test_what_is_no_data_set_is_one_sentence(tmp_path, name, says):
    for file in ("film.mp4", "set.zip", "a.jpg", "notes.txt", "videos/film.mp4"):
        layouts.write(tmp_path / file, "")
    (tmp_path / "empty").mkdir()
    layouts.write(tmp_path / "labelme/a.json", '{"shapes": [], "imagePath": "a.jpg"}')
    layouts.write(tmp_path / "cvat/annotations.xml", "<annotations><image/></annotations>")
    root = name if "://" in name else tmp_path / name
    with pytest.raises(DataError, match=re.escape(says)):
        recognise(root)


@pytest.mark.parametrize("name", ["é 1.jpg", "写真.jpg", 'a"b.jpg', "a\\b.jpg", "a.jpg"])
@pytest.mark.parametrize("escaped", [True, False])
def test_names_of_images_are_read_as_json_writes_them(tmp_path, name, escaped):
    """Python's json writes é as \\u00e9; such names were passed over, and splits seemed empty."""
    file = tmp_path / "a.json"
    entries = [{"id": 1, "file_name": name}, {"file_name": "b.jpg"}]
    file.write_text(json.dumps({"images": entries}, ensure_ascii=escaped), encoding="utf-8")
    assert file_names(file) == [name, "b.jpg"]
