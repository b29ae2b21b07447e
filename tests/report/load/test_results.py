"""Files of other programs: on the right image and class under any naming, or refused."""

from __future__ import annotations

import fabricated_runs
import pytest

from detzoo.metrics.coco import evaluate
from detzoo.report.load.results import read_results

# image id -> file: ids in text order, as a list of files gives them, so that no id is its stem
FILES = dict(enumerate(sorted(f"images/test/{i}.jpg" for i in range(1, 13)), 1))
STEMS = {id: int(name.split("/")[-1].split(".")[0]) for id, name in FILES.items()}
SIZE = (96, 72)


def box(id):
    return [37 * id % 61, 23 * id % 41, 20 + id, 15 + id]


@pytest.fixture
def truth():
    return {
        "images": [
            {"id": id, "file_name": name, "width": 96, "height": 72} for id, name in FILES.items()
        ],
        "annotations": [
            {"id": id, "image_id": id, "category_id": 1 + id % 3, "bbox": box(id)} for id in FILES
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "Dog"}, {"id": 3, "name": "é"}],
    }


def rows(**changes):
    """A perfect result per image; changes: key -> value, or function of the image's id."""
    found = []
    for id in FILES:
        row = {"image_id": id, "category_id": 1 + id % 3, "bbox": box(id), "score": 0.9}
        row |= {k: v(id) if callable(v) else v for k, v in changes.items()}
        found.append({k: v for k, v in row.items() if v is not None})
    return found


def ap(truth, value):
    return evaluate(truth, read_results(value, truth).found, backend="pycocotools")["AP"]


def stem(id):
    return STEMS[id]


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({}, "joined by image_id as an id of the ground truth"),
        ({"image_id": stem}, "as the stem of the file's name (as an id of the ground truth"),
        ({"image_id": lambda id: str(STEMS[id])}, "as the stem of the file's name"),
        ({"image_id": lambda id: f"{STEMS[id]}.jpg"}, "which is the stem of the file's name"),
        ({"image_id": stem, "file_name": lambda id: f"{STEMS[id]}.jpg"}, "of another numbering"),
        ({"image_id": None, "filename": lambda id: f"C:\\x\\{STEMS[id]}.jpg"}, "by file name"),
        ({"image_id": 0, "image": FILES.get}, None),
        (
            {"image_id": lambda id: id if id < 12 else 999, "image": lambda id: FILES[min(id, 11)]},
            None,
        ),
        ({"image_id": None, "image": FILES.get}, "joined by file name"),
        ({"image_id": None, "path": lambda id: f"/tmp/{STEMS[id]}.png"}, "without suffix"),
        ({"image_id": None, "file_name": lambda id: f"{STEMS[id]}.JPG"}, "without suffix"),
        ({"image_id": None, "path": lambda id: f"/a/{STEMS[id]}%2Ejpg"}, "case and %20"),
        ({"file_name": FILES.get, "image_id": lambda id: id - 1}, "another numbering (of 12 of 12"),
        ({"category_name": lambda id: ["cat", "Dog", "é"][id % 3], "category_id": 7}, None),
        ({"class": lambda id: ["cat", "Dog", "é"][id % 3], "category_id": None}, "by name"),
        ({"category_id": lambda id: ["cat", "dog ", "e\u0301"][id % 3]}, "classes by name"),
        (
            {"label": lambda id: ["cat", "Dog", "é"][id % 3], "category_id": lambda id: id % 3},
            "classes by name; category_id is of another numbering",
        ),
    ],
)
def test_joined_as_it_is_meant(truth, changes, note):
    value = rows(**changes)
    if note is None:
        with pytest.raises(ValueError, match="contradict one another"):
            read_results(value, truth)
        return
    found = read_results(value, truth)
    assert ap(truth, value) == pytest.approx(1) and note in " ".join(found.notes)
    assert [row["image_id"] for row in found.found] == list(FILES)


def test_a_coco_dict_names_its_ids_and_predict_names_both(truth):
    images = [{"id": 100 + id, "file_name": f"x/{STEMS[id]}.jpg"} for id in FILES]
    classes = [{"id": 9, "name": "é"}, {"id": 8, "name": "cat"}, {"id": 7, "name": "Dog"}]
    value = {
        "images": images,
        "categories": classes,
        "annotations": rows(image_id=lambda id: 100 + id, category_id=lambda id: [8, 7, 9][id % 3]),
    }
    assert ap(truth, value) == pytest.approx(1)
    found = []
    for id, name in FILES.items():
        x, y, w, h = box(id)
        objects = [{"class": ["cat", "Dog", "é"][id % 3], "score": 1, "box": [x, y, x + w, y + h]}]
        found.append({"file": f"/data/{name}", "width": 96, "height": 72, "objects": objects})
    assert ap(truth, found) == pytest.approx(1)
    for row in value["annotations"]:
        del row["score"]
    with pytest.raises(ValueError, match="ground truth has no scores"):
        read_results(value, truth)


def test_folders_tell_images_of_one_name_apart(truth):
    for image in truth["images"]:
        image["file_name"] = f"cam{image['id'] % 2}/{(image['id'] + 1) // 2}.jpg"
    names = {image["id"]: image["file_name"] for image in truth["images"]}
    assert ap(truth, rows(image_id=None, file_name=lambda id: f"/d/{names[id]}")) == 1
    with pytest.raises(ValueError, match="could be several images: it needs its folder"):
        read_results(rows(image_id=None, file_name=lambda id: names[id].split("/")[1]), truth)


def corners(id):
    x, y, w, h = box(id)
    return [x, y, x + w, y + h]


def centre(id):
    x, y, w, h = box(id)
    return [x + w / 2, y + h / 2, w, h]


def scaled(read):
    return lambda id: [v / SIZE[i % 2] for i, v in enumerate(read(id))]


@pytest.mark.parametrize(
    ("read", "named"),
    [
        (corners, "look like corners (xyxy, [x1, y1, x2, y2]) in pixels: read so, 12 of 12"),
        (centre, "look like centre and size ([cx, cy, width, height]) in pixels"),
        (scaled(box), "look like [x, y, width, height] normalised to 0..1"),
        (scaled(corners), "look like corners (xyxy, [x1, y1, x2, y2]) normalised"),
        (scaled(centre), "look like centre and size ([cx, cy, width, height]) normalised"),
        (lambda id: [corners(id)[i] for i in (1, 0, 3, 2)], "y first ([y1, x1, y2, x2]) in pixels"),
        (lambda id: [0.1, 0.2, 0.01 * id, 0.1], "12 of 12 boxes lie in 0..1"),
        (lambda id: [30, 30, 5 - id, 9], r"result 5: bbox [30, 30, -1, 9] has a negative width"),
    ],
)
def test_boxes_of_another_convention_are_named(truth, read, named):
    with pytest.raises(ValueError) as error:
        read_results(rows(bbox=read, file_name=FILES.get), truth)
    assert named in str(error.value)


def test_boxes_that_only_look_odd_get_a_word_and_good_ones_none(truth):
    far = rows(bbox=lambda id: [80, 5, 40, 10], file_name=FILES.get)
    (note,) = (n for n in read_results(far, truth).notes if "boxes" in n)
    assert "12 of 12 boxes leave their image" in note and "xyxy" in note
    slightly = rows(bbox=lambda id: [v - 0.4 for v in box(id)])
    assert read_results(slightly, truth).notes == read_results(rows(), truth).notes
    percent = read_results(rows(score=lambda id: 8.0 * id), truth).notes
    assert "scores lie between 8 and 96, not in 0..1" in percent


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"category_id": lambda id: id % 3}, "count from 0, where the ids here begin with 1"),
        ({"score": "0.9"}, "result 0: score '0.9' is text"),
        ({"score": None}, "result 0: score is None"),
        ({"score": float("nan")}, "result 0: score is nan"),
        ({"bbox": ["1", "2", "3", "4"]}, "bbox ['1', '2', '3', '4'] holds text"),
        ({"bbox": [1, 2, 3]}, "four finite numbers"),
        ({"bbox": "1 2 3 4"}, "four finite numbers"),
        ({"category_id": "1"}, "category_id '1' is text"),
        ({"category_name": "bird"}, "class 'bird' is not among the classes (cat, Dog, é)"),
        ({"image_id": 99}, "image_id 99 is not among the images"),
        ({"image_id": None}, "image_id is None; it names no image"),
        ({"image_id": lambda id: id - 1}, None),
        ({"file_name": "nowhere.jpg"}, "file name 'nowhere.jpg' is not among the images"),
        ({"file_name": lambda id: f"images/train/{STEMS[id]}.jpg"}, "file names are of the train"),
    ],
)
def test_what_cannot_be_joined_is_refused_in_a_sentence(truth, changes, said):
    with pytest.raises(ValueError) as error:
        read_results(rows(**changes), truth)
    assert (said or "count from 0, where the ids here begin with 1") in str(error.value)


def test_classes_from_0_are_seen_where_no_class_is_0(truth):
    """Only the second and third class are found, as 1 and 2."""
    value = [row for row in rows(category_id=lambda id: id % 3) if row["category_id"]]
    with pytest.raises(ValueError, match=r"classes counted from 0: read so, 8 of 8 boxes .* 0;"):
        read_results(value, truth)


def test_a_detector_that_knows_one_class_alone_is_not_refused(truth):
    """Everything is a cat to it, and so a third of it is right."""
    found = read_results(rows(category_id=1), truth)
    assert {row["category_id"] for row in found.found} == {1}


def test_two_readings_of_image_id_that_fit_alike_are_refused(truth):
    nothing = rows(bbox=[1, 60, 8, 8])
    with pytest.raises(ValueError, match=r"or the stem .* write a file_name into each"):
        read_results(nothing, truth)


def test_results_without_detections_are_not_an_error(truth):
    assert read_results([], truth).found == [] and read_results([], truth).notes == ()


def test_report_and_compare_say_how_they_joined(tmp_path):
    from detzoo.report.analysis.pairwise import compare_detectors, format_text
    from detzoo.report.book import gather

    data = fabricated_runs.dataset(tmp_path / "data")
    run = fabricated_runs.score(fabricated_runs.run(tmp_path / "runs", "Ours", data))
    names = {image["id"]: image["file_name"] for image in data["images"]}
    classes = {category["id"]: category["name"] for category in data["categories"]}
    theirs = [
        {
            "image_id": a["image_id"] + 70,
            "file_name": names[a["image_id"]].split("/")[1],
            "category_name": classes[a["category_id"]],
            "bbox": a["bbox"],
            "score": 1,
        }
        for a in data["annotations"]
    ]
    fabricated_runs.write(tmp_path / "theirs.json", theirs)
    book = gather([run], {"theirs": tmp_path / "theirs.json"}, resamples=5)
    row = book.tables[0].frame.set_index("detector").loc["theirs"]
    assert row["AP"] == pytest.approx(1) and "theirs" in book.tables[0].analysis.details
    assert "joined by file name; image_id is of another numbering" in book.text()
    found = compare_detectors([tmp_path / "theirs.json"], [run], n=5, flips=0)
    assert found.ap[0].first == pytest.approx(1)
    assert "Note: theirs: joined by file name; image_id is of another" in format_text(found)
    assert "Note: theirs: classes by name" in format_text(found)
