"""The pictures side by side: the right images and boxes, nothing from outside the data set."""

import base64
import io

import fabricated_runs
import numpy as np
import pytest
from PIL import Image

from detzoo.report import gather, write
from detzoo.report.figures.palette import styles
from detzoo.report.images import contact, side_by_side
from detzoo.report.images.near_duplicates import near_duplicates
from detzoo.report.images.overlay import Found, Shape, shapes_of
from detzoo.report.load.protocols import name_detectors
from detzoo.report.load.runs import load_all


def gallery(paths, **other):
    runs = load_all(paths)
    called = name_detectors(runs)
    return side_by_side.gallery(runs, called, styles(called.values()), **other)


@pytest.fixture
def simple(tmp_path):
    """One grey image of 100 x 80, one true box, two predictions, one below 0.3."""
    (tmp_path / "data").mkdir()
    Image.new("RGB", (100, 80), (128, 128, 128)).save(tmp_path / "data" / "a.png")
    data = {
        "root": str(tmp_path / "data"),
        "hash": "x",
        "classes": ["cat"],
        "images": [{"id": 7, "file_name": "a.png", "width": 100, "height": 80}],
        "annotations": [{"image_id": 7, "category_id": 3, "bbox": [20, 30, 40, 30], "iscrowd": 0}],
        "categories": [{"id": 3, "name": "cat"}],
    }
    path = fabricated_runs.run(tmp_path / "runs", "A", data)
    results = [
        {"image_id": 7, "category_id": 3, "bbox": [10, 40, 30, 20], "score": 0.9},
        {"image_id": 7, "category_id": 3, "bbox": [70, 5, 20, 20], "score": 0.29},
    ]
    fabricated_runs.write(path / "predictions.json", results)
    return path, data


def pixels(uri):
    data = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
    return np.asarray(Image.open(io.BytesIO(data))).astype(int)


def test_boxes_are_drawn_where_they_are(simple):
    (strip,) = gallery([simple[0]], side=200, quality=95).strips
    assert strip.size == (200, 160)  # twice the original: a box at x = 20 is drawn at 40
    assert (abs(pixels(strip.uri) - 128) < 3).all()  # nothing covers the objects
    truth, detector = strip.tiles
    assert (truth.caption, detector.caption, strip.key) == ("ground truth", "A", {1: "cat"})
    assert truth.shapes == (Shape(40, 60, 80, 60, 1, "cat"),)
    assert detector.shapes == (Shape(20, 80, 60, 40, 1, "cat 0.90"),)  # and not that of 0.29


def test_more_than_the_best_four_are_there_but_hidden(simple, tmp_path):
    _, data = simple
    more = [fabricated_runs.run(tmp_path / "runs", name, data) for name in "BCDEF"]
    (strip,) = gallery([simple[0], *more]).strips
    assert [tile.hidden for tile in strip.tiles] == [False] * 5 + [True] * 2


def test_near_duplicates_are_shown_side_by_side_with_the_data(simple, tmp_path):
    path, _ = simple
    (tmp_path / "secret.png").write_bytes((tmp_path / "data" / "a.png").read_bytes())
    image = {"split": "test", "file_name": "a.png", "width": 100, "height": 80}
    pairs = [
        {"distance": 3, "images": [{**image, "split": "train"}, image]},
        {"distance": 5, "images": [image, {**image, "file_name": "../secret.png"}]},
        {"distance": 1, "images": "none"},
    ]
    splits = {"test": {"images": 1, "boxes": 1}}
    fabricated_runs.write(path / "data.json", {"splits": splits, "near_duplicates": pairs})
    book = gather([path], resamples=20, data_root=str(tmp_path / "data"))
    found = book.tables[0].data.near_duplicates
    assert [pair.distance for pair in found] == [3, 5]
    first, second = near_duplicates(book.runs, found, side=50).strips
    assert first.name == "3 of 64 bits differ"
    assert [tile.caption for tile in first.tiles] == ["train: a.png", "test: a.png"]
    assert all(pixels(tile.uri).shape == (40, 50, 3) for tile in first.tiles)
    assert not second.tiles[1].uri and "leaves the data set" in second.tiles[1].note
    page = write(book, tmp_path / "out", title="x", command="x").read_text()
    assert "2 pairs of images in two splits that look nearly the same" in page
    book = gather([path], resamples=20)  # what a run keeps is of its test split
    assert not near_duplicates(book.runs, found).strips
    assert (
        "nearly the same" not in write(book, tmp_path / "out", title="x", command="x").read_text()
    )


def test_a_dot_that_would_cover_another_is_left_out():
    boxes = [Found((10, 10, 50, 50), 1, 0.9), Found((11, 11, 60, 60), 2, 0.8)]
    boxes += [Found((90, 90, 120, 130), 3)]
    shapes = list(shapes_of(boxes, {1: "a", 2: "b"}, {1: 1, 2: 2}, (1, 1), (100, 100)))
    assert [(s.number, s.dot, s.title) for s in shapes] == [
        *((1, True, "a 0.90"), (2, False, "b 0.80"), (0, True, "?")),
    ]
    assert (shapes[2].width, shapes[2].height) == (10, 10)  # cut at the picture's end


def test_a_contact_sheet_has_true_boxes_alone(simple):
    runs = load_all([simple[0]])
    found = side_by_side.sheet(runs)
    (uri,) = found.uris
    assert found.names == ("a.png",) and not found.legend
    image = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    pixels = np.asarray(image.convert("RGB"), int)
    scale = contact.SIDE / 100
    left, top = contact.GAP + 20 * scale, contact.GAP + 30 * scale
    inside, edge = pixels[round(top + 20), round(left + 30)], pixels[round(top + 40), round(left)]
    assert np.ptp(inside) < 12 and np.ptp(edge) > 60  # a grey picture, a coloured line


def test_damaged_predictions_and_data_sets_are_reported(simple):
    path, _ = simple
    fabricated_runs.write(path / "predictions.json", [])
    assert gallery([path]).strips[0].tiles[1].note == "nothing of score 0.3 or more"
    (path / "predictions.json").write_text("[{")
    found = gallery([path])
    assert found.strips[0].tiles[1].note == "its predictions cannot be read"
    assert "predictions.json cannot be read" in found.notes[0]
    (path / "dataset.json").unlink()
    assert gallery([path]).strips == []
    assert gallery([path]).notes[0] == "no run of this table has a dataset.json with images"


def test_junk_among_the_boxes_is_passed_over(simple):
    path, data = simple
    good = {"image_id": 7, "category_id": 99, "bbox": [10, 40, 30, 20], "score": 0.9}
    junk = [3, {}, good | {"bbox": [1, 2]}, good | {"bbox": [1, 2, -3, 4]}, good | {"score": "a"}]
    junk += [good | {"image_id": [7]}, good | {"category_id": {}}, good]
    fabricated_runs.write(path / "predictions.json", junk)
    data["annotations"] += [None, {"image_id": 7, "bbox": None}]
    fabricated_runs.write(path / "dataset.json", data)
    (strip,) = gallery([path]).strips
    assert strip.uri and [len(tile.shapes) for tile in strip.tiles] == [1, 2]


def test_of_several_seeds_the_first_is_shown(tmp_path):
    paths = fabricated_runs.comparison(tmp_path, seeds=(0, 1))[:-1]
    (first, *_) = gallery(paths, side=60).strips
    assert [tile.caption for tile in first.tiles] == ["ground truth", *fabricated_runs.DETECTORS]


def test_heatmaps_are_laid_over_the_image_after_their_detector(simple):
    heat = np.zeros((8, 10), np.uint8)
    heat[2, 7] = 255
    png = io.BytesIO()
    Image.fromarray(heat).save(png, "PNG")
    row = {"image_id": 7, "name": "<centres>", "png": base64.b64encode(png.getvalue()).decode()}
    junk = [
        None,
        {"image_id": 7},
        row | {"png": "no"},
        row | {"png": "YWJj"},
        row | {"image_id": 8},
    ]
    fabricated_runs.write(simple[0] / "heatmaps.json", [*junk, row])
    (strip,) = gallery([simple[0]], side=200, quality=95).strips
    assert [tile.caption for tile in strip.tiles] == ["ground truth", "A", "A: <centres>"]
    seen = pixels(strip.tiles[2].uri)
    assert seen.shape == (160, 200, 3)
    assert (abs(seen[100:, :] - 128) < 6).all()  # the image where it is cold
    assert seen[50, 150, 0] > 240 and seen[50, 150, 2] < 150  # inferno's yellow in cell (2, 7)
