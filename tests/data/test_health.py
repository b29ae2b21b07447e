"""check: each kind of problem once, its severity, and a table and JSON that carry it."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from detzoo.data import Coco, Voc, check

from .conftest import CocoFolder, write_image


def found(result):
    return sorted((problem.severity, problem.kind) for problem in result.problems)


@pytest.fixture
def folders(tmp_path):
    return {split: CocoFolder(tmp_path, split).write() for split in ("train", "val", "test")}


def run(folders, **options):
    return check(Coco(folders["train"].root, **options), progress=False)


def picture(folders, split, name):
    return folders[split].root / "images" / split / name


def test_a_sound_data_set_has_no_problems(folders):
    result = run(folders)
    assert not result.problems and not result.errors and not result.warnings
    train = result.statistics["train"]
    assert (train["images"], train["boxes"], train["crowd"], train["without_boxes"]) == (2, 3, 0, 0)
    assert train["per_class"] == {"ape": 1, "zebra": 2}
    assert (train["small"], train["medium"], train["large"]) == (2, 1, 0)
    assert "no errors, no warnings" in result.table()


def test_centres_in_one_cell_are_counted(folders):
    """(40, 20) and (41, 21) share a cell of 4 pixels, (44, 20) is beside it; a crowd is none."""
    for number, (x, y, crowd) in enumerate([(40, 20, 0), (41, 21, 0), (44, 20, 0), (41, 20, 1)]):
        box = [x - 5, y - 5, 10, 10]
        folders["val"].add(CocoFolder.annotation(50 + number, 7, 20, box, iscrowd=crowd))
    folders["val"].write()
    result = run(folders)
    assert result.statistics["train"]["centre_collisions"] == 0
    assert result.statistics["val"]["centre_collisions"] == 1
    assert "val: 1 of 6 boxes (16.67%) have their centre in the same 4 x 4" in result.table()
    assert "train: " not in result.table()


def test_images_that_do_not_decode(folders):
    path = picture(folders, "train", "a.jpg")
    path.write_bytes(path.read_bytes()[:-500])
    picture(folders, "val", "b.jpg").write_bytes(b"nothing")
    result = run(folders)
    assert found(result) == [("error", "unreadable image")] * 2
    assert result.errors[0].where == "images/train/a.jpg (id 7)"
    headers_only = check(Coco(folders["train"].root), progress=False, decode=False)
    assert found(headers_only) == [("error", "unreadable image")]


def test_a_size_that_is_not_the_image_s(folders):
    write_image(picture(folders, "train", "a.jpg"), 30, 60)
    result = run(folders)
    assert found(result) == [("error", "size mismatch")]
    assert "60 x 40" in result.errors[0].what and "60 x 30" in result.errors[0].what


@pytest.mark.parametrize(
    ("orientation", "told", "expected", "training"),
    [
        (6, (40, 60), ("warning", "EXIF rotation"), "as stored"),
        (3, (40, 60), ("warning", "EXIF rotation"), "turned upright"),  # as every viewer shows it
        (6, (60, 40), ("warning", "EXIF rotation"), "turned upright"),
        (3, (60, 40), ("error", "size mismatch"), "stops"),
    ],
)
@pytest.mark.parametrize("decode", [True, False])
def test_rotation(tmp_path, orientation, told, expected, training, decode):
    folder = CocoFolder(tmp_path)
    tags = Image.Exif()
    tags[0x0112] = orientation
    write_image(tmp_path / "images" / "train" / "a.jpg", exif=tags)
    folder.content["images"][0].update(height=told[0], width=told[1])
    folder.content["annotations"] = [folder.annotation(1, 7, 20, [0, 0, 20, 20])]
    folder.content["annotations"] += [folder.annotation(2, 9, 30, [0, 0, 20, 20])]
    folder.write()
    result = check(Coco(tmp_path), ["train"], decode=decode, progress=False)
    assert found(result) == [expected]
    assert training in result.problems[0].action


def test_copies_within_and_between_splits(folders):
    shutil.copy(picture(folders, "train", "a.jpg"), picture(folders, "train", "b.jpg"))
    shutil.copy(picture(folders, "train", "a.jpg"), picture(folders, "test", "b.jpg"))
    shutil.copy(picture(folders, "train", "a.jpg"), picture(folders, "val", "b.jpg"))
    result = run(folders)
    assert found(result) == [
        ("error", "train/test overlap"),
        ("error", "val/test overlap"),
        ("warning", "duplicate image"),
        ("warning", "train/val overlap"),
    ]
    overlap = next(p for p in result.errors if p.kind == "train/test overlap")
    assert "images/test/b.jpg" in overlap.where and "images/train/a.jpg" in overlap.what
    allowed = run(folders, allow=["train/test overlap"])
    assert [p.kind for p in allowed.errors] == ["val/test overlap"]
    assert ("warning", "train/test overlap") in found(allowed)


def test_classes_and_splits_without_boxes(folders):
    folders["train"].content["annotations"] = folders["train"].content["annotations"][1:2]
    folders["test"].content["annotations"] = []
    folders["train"].write(), folders["test"].write()
    result = run(folders)
    assert found(result) == [("error", "no boxes"), ("warning", "empty class")]
    assert "zebra" in result.warnings[0].what and result.warnings[0].action == "cannot be learnt"


def test_a_split_that_is_not_there(folders):
    (folders["train"].root / "val.json").unlink()
    result = run(folders)
    assert found(result) == [("error", "unreadable split")]
    assert "data.holdout.val" in result.errors[0].what
    assert list(result.statistics) == ["train", "test"]
    shutil.rmtree(folders["train"].root)
    assert found(run(folders)) == [("error", "unreadable split")]  # reported once, not three times


def test_the_table_has_errors_first_and_the_json_has_everything(folders):
    for index in range(8):
        folders["train"].add(CocoFolder.annotation(100 + index, 7, 20, [5, 5, 0, 0]))
    folders["train"].add(CocoFolder.annotation(200, 7, 77, [5, 5, 9, 9])).write()
    result = run(folders)
    table = result.table()
    assert "1 error, 8 warnings" in table and "and 3 more" in table
    assert table.index("unknown class") < table.index("zero-area box")
    assert "annotation 104" in table and "annotation 105" not in table
    content = json.loads(json.dumps(result.json(), allow_nan=False))
    assert (content["errors"], content["warnings"]) == (1, 8)
    assert len(content["problems"]) == 9
    assert set(content["problems"][0]) == {"severity", "kind", "where", "what", "action", "split"}


def test_many_broken_things_at_once_crash_nothing(folders):
    rng = np.random.default_rng(0)
    content = folders["train"].content
    for key in ("images", "annotations", "categories"):
        for _ in range(40):
            entry = dict(content[key][rng.integers(len(content[key]))])
            spoilt = list(entry)[rng.integers(len(entry))]
            junk = [None, -1, "x", [], {}, float("nan"), 1e300, True, "../" * 9]
            entry[spoilt] = junk[rng.integers(len(junk))]
            content[key].append(entry)
    folders["train"].write()
    result = run(folders)
    assert len(result.errors) > 50
    json.dumps(result.json(), allow_nan=False)
    assert result.table()


def test_bccd_is_fit_to_train_on_and_its_two_boxes_are_told(shared):
    result = check(Voc(shared("bccd"), first_pixel=0), progress=False)
    assert found(result) == [("warning", "zero-area box")] * 2
    assert "Annotations/BloodImage_00338.xml" in result.table()


def test_aquarium_is_sound(shared):
    assert not check(Coco(shared("aquarium")), progress=False).problems


def test_yolov3_s_anchors_are_those_of_the_training_boxes(folders):
    from detzoo.workflow.check import anchors

    train = Coco(folders["train"].root).read("train")  # 20 x 30, 60 x 40, 10 x 10 in 60 x 40
    assert anchors(train, None) == [[10, 10], [20, 30], [60, 40]]
    assert anchors(train, 30) == [[5, 5], [10, 15], [30, 20]]
