"""Photographs: the same few of every run, read in the run or in a folder that was named."""

import sys

import fabricated_runs
import pytest
from PIL import Image

from detzoo.report.build import build
from detzoo.report.images import photographs
from detzoo.report.images.photographs import (
    choose,
    copy_photographs,
    photograph,
    save_photographs,
    showable,
)
from detzoo.report.load.runs import load


def a_data_set(tmp_path, count=1, size=(100, 80)):
    """`count` images of one grey each, with one box in the image of number i for every i of 3."""
    (tmp_path / "data").mkdir()
    for i in range(count):
        Image.new("RGB", size, (8 * i,) * 3).save(tmp_path / "data" / f"{i}.png")
    width, height = size
    return {
        "root": str(tmp_path / "data"),
        "hash": "x",
        "classes": ["cat"],
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": width, "height": height}
            for i in range(count)
        ],
        "annotations": [
            {"image_id": i, "category_id": 1, "bbox": [20, 30, 40, 30], "iscrowd": 0}
            for i in range(0, count, 3)
        ],
        "categories": [{"id": 1, "name": "cat"}],
    }


def test_a_run_keeps_a_few_small_ones_that_are_shown_in_its_boxes_pixels(tmp_path):
    data, run = a_data_set(tmp_path, 90, (1000, 500)), tmp_path / "run"
    save_photographs(data, run)
    kept = sorted(int(path.stem) for path in (run / "images").iterdir())
    assert len(kept) == photographs.KEPT and all(id % 3 == 0 for id in kept)
    of_run = data | {"root": None, "run": str(run)}
    assert showable(of_run) == set(kept) and showable(data) is None
    image, size = photograph(of_run, data["images"][kept[1]])
    assert (image.size, size) == ((640, 320), (1000, 500))
    assert abs(image.getpixel((5, 5))[0] - 8 * kept[1]) < 3
    assert photograph(of_run, data["images"][1]) == photographs.NONE_KEPT
    # the page shows the same ones whether it reads them in the run or in the data set
    assert choose(of_run, 4) == choose(data, 4) and len(choose(data, 4)) == 4


def test_what_an_earlier_scoring_kept_goes_and_a_pool_has_all_of_its_folds(tmp_path):
    data = a_data_set(tmp_path, 6)
    save_photographs(data, tmp_path / "run")
    save_photographs(data | {"images": data["images"][:2]}, tmp_path / "other")
    assert {p.name for p in (tmp_path / "run" / "images").iterdir()} == {"0.jpg", "3.jpg"}
    save_photographs(data | {"annotations": data["annotations"][1:]}, tmp_path / "run")
    assert {p.name for p in (tmp_path / "run" / "images").iterdir()} == {"3.jpg"}
    for fold in ("run", "other"):
        copy_photographs(tmp_path / fold, tmp_path / "pool")
    assert {p.name for p in (tmp_path / "pool" / "images").iterdir()} == {"0.jpg", "3.jpg"}


def a_run(tmp_path, count=6):
    data = a_data_set(tmp_path, count)
    return fabricated_runs.run(tmp_path / "runs", "A", data), data


def test_a_run_decides_no_folder_that_a_report_reads(tmp_path):
    """dataset.json names a folder of photographs outside of the run."""
    run, data = a_run(tmp_path)
    for kept in (run / "images").iterdir():
        kept.unlink()
    data["run"] = str(tmp_path)  # nor does it by any other key
    fabricated_runs.write(run / "dataset.json", data)
    seen, root = [], str(tmp_path / "data")

    def hook(event, arguments):
        if event in ("open", "os.listdir", "os.scandir") and seen is not None:
            seen.extend(a for a in arguments[:1] if isinstance(a, str) and a.startswith(root))

    sys.addaudithook(hook)
    page = build([run], tmp_path / "out", title="t", command="c", resamples=5).read_text()
    assert not seen and "No images are shown: these runs keep none" in page
    named = load(run)
    shown, problem = type(named)(path=run, data_root=root).dataset()
    assert problem is None and shown["root"] == root and photograph(shown, data["images"][0])
    assert seen
    seen = None


@pytest.mark.parametrize(
    ("named", "recorded", "read"),
    [
        ("data", "data/bccd", "data/bccd"),  # data=auto found it there
        ("moved", "data/bccd", "moved"),
        ("data/data.yaml", "data", "data"),
    ],
)
def test_the_folder_that_was_named_is_read_and_no_other(tmp_path, named, recorded, read):
    run, data = a_run(tmp_path, 1)
    (tmp_path / "data" / "data.yaml").touch()
    fabricated_runs.write(run / "dataset.json", data | {"root": str(tmp_path / recorded)})
    found = type(load(run))(path=run, data_root=str(tmp_path / named)).dataset()[0]
    assert found["root"] == str(tmp_path / read)


def test_a_kept_photograph_that_is_a_link_leads_nowhere(tmp_path):
    run, data = a_run(tmp_path, 1)
    kept = run / "images" / "0.jpg"
    kept.rename(tmp_path / "secret.jpg")
    kept.symlink_to(tmp_path / "secret.jpg")
    of_run = data | {"root": None, "run": str(run)}
    assert "leads out of its" in photograph(of_run, data["images"][0])
    kept.unlink()
    kept.parent.rmdir()
    kept.parent.symlink_to(tmp_path / "data")
    assert showable(of_run) == set()


def test_what_a_run_keeps_is_a_jpeg_of_an_image_whose_size_is_known(tmp_path):
    run, data = a_run(tmp_path, 1)
    of_run = data | {"root": None, "run": str(run)}
    assert "how large" in photograph(of_run, {"id": 0})
    Image.new("RGB", (9, 9)).save(run / "images" / "0.jpg", "PNG")
    assert "cannot be read" in photograph(of_run, data["images"][0])


def test_images_are_chosen_from_few_boxes_to_many():
    images = [{"id": i} for i in range(6)]
    boxes = [{"image_id": i} for i, n in enumerate((5, 0, 1, 9, 3, 2)) for _ in range(n)]
    found = choose({"images": images, "annotations": boxes}, count=3)
    assert [r["id"] for r in found] == [2, 4, 3]


def test_images_are_spread_evenly_and_have_boxes():
    images = [{"id": i} for i in range(20)]
    some = {"images": images, "annotations": [{"image_id": i} for i in range(0, 20, 2)]}
    assert [r["id"] for r in choose(some, 4)] == [2, 6, 12, 16]
    assert [r["id"] for r in choose({"images": images}, 4)] == [2, 7, 12, 17]
    assert choose({"images": [{"id": 1}, {}, 3, {"id": None}]}, 4) == [{"id": 1}]
    assert choose({}, 4) == []


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "a/../../secret.png"])
def test_paths_stay_inside_the_data_set(tmp_path, name):
    data = a_data_set(tmp_path)
    Image.new("RGB", (100, 80)).save(tmp_path / "secret.png")
    data["images"][0]["file_name"] = name
    assert photograph(data, data["images"][0]) == "refused: its path leaves the data set's folder"


def test_a_link_inside_the_data_set_does_not_lead_out(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to(tmp_path)
    assert photographs.inside(tmp_path / "data", "link/secret") is None
    assert photographs.inside(tmp_path / "data", "a/b.jpg") == tmp_path / "data" / "a" / "b.jpg"


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda file: file.unlink(), "the image file is not there"),
        (lambda file: file.write_bytes(file.read_bytes()[:60]), "the image cannot be read"),
        (lambda file: file.write_text("no image"), "the image cannot be read"),
    ],
)
def test_an_unreadable_image_is_reported(tmp_path, change, note):
    data = a_data_set(tmp_path)
    change(tmp_path / "data" / "0.png")
    assert photograph(data, data["images"][0]).startswith(note)


def test_an_image_on_its_side_is_turned_if_its_annotation_is_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40)).save(tmp_path / "a.jpg", exif=exif)
    data = {"root": str(tmp_path)}
    record = {"file_name": "a.jpg", "width": 60, "height": 40}
    assert photograph(data, record).size == (60, 40)
    upright = record | {"width": 40, "height": 60}
    assert photograph(data, upright).size == (40, 60)


@pytest.mark.parametrize("write", ["save", "copy"])
def test_nothing_is_written_through_a_link(tmp_path, write):
    data, run, outside = a_data_set(tmp_path), tmp_path / "run", tmp_path / "outside"
    run.mkdir()
    outside.mkdir()
    (outside / "7.jpg").write_bytes(b"not ours")
    if write == "copy":
        save_photographs(data, tmp_path / "source")
    (run / "images").symlink_to(outside)
    if write == "save":
        save_photographs(data, run)
    else:
        copy_photographs(tmp_path / "source", run)
    assert [path.name for path in outside.iterdir()] == ["7.jpg"]
    assert not (run / "images").is_symlink() and (run / "images" / "0.jpg").is_file()
