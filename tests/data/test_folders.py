"""Names on a disk: a name's split, the file that is meant, files that are no part of the data."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from detzoo.data.folders import Tree, hidden, is_image, located, shortened_ways, split_of


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *(("instances_train2017", "train"), ("trainset", "train"), ("TrainImages", "train")),
        *(("imagesTrain", "train"), ("train-labels", "train"), ("trainval", "train")),
        *(("Valid", "val"), ("val2017", "val"), ("validation_images", "val"), ("dev", "val")),
        *(("test", "test"), ("Testing", "test"), ("tst", "test"), ("my test set", "test")),
        *(("train_val", None), ("contest", None), ("latest", None), ("devkit", None)),
        *(("images", None), ("training wheels", "train"), ("evaluate", None), ("", None)),
    ],
)
def test_which_split_a_name_tells(name: str, split: str | None) -> None:
    assert split_of(name) == split


def test_of_files_that_differ_in_case_alone_none_is_guessed(tmp_path: Path) -> None:
    for name in ("a.jpg", "A.jpg", "b.jpg"):
        (tmp_path / name).write_text(name)
    if len(list(tmp_path.iterdir())) < 3:
        pytest.skip(f"file names have no case on {sys.platform}")
    assert located(tmp_path / "A.jpg") == tmp_path / "A.jpg"
    assert located(tmp_path / "B.JPG") == tmp_path / "b.jpg"
    assert located(tmp_path / "a.JPG") is None


def test_what_is_an_image_and_what_is_hidden() -> None:
    images = ("a.JPG", "b.Jpeg", "c.jfif", "d.webp", "e.tif", "f.bmp", "g.avif")
    assert all(map(is_image, images))
    assert not any(map(is_image, ("._a.jpg", "Thumbs.db", "a.txt", "a.heic", "jpg", ".jpg")))
    assert all(map(hidden, (".git", "._x", "__MACOSX", "Desktop.ini", "@eaDir")))
    assert not any(map(hidden, ("images", "a.b", "_x")))


@pytest.mark.parametrize(
    ("text", "ways"),
    [
        ("/data/x/a.jpg", ["/data/x/a.jpg", "data/x/a.jpg", "x/a.jpg", "a.jpg"]),
        (r"C:\x\a.jpg", [r"C:\x\a.jpg", "x/a.jpg", "a.jpg"]),
        ("../x/./a.jpg", ["../x/./a.jpg", "x/a.jpg", "a.jpg"]),
    ],
)
def test_a_path_of_another_machine_is_shortened_from_its_front(text: str, ways: list[str]) -> None:
    assert shortened_ways(text) == ways


def test_a_loop_of_links_is_left_and_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "root" / "in").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.PNG").write_text("")
    (tmp_path / "root" / "in" / "link").symlink_to(tmp_path / "out")
    (tmp_path / "root" / "in" / "loop").symlink_to(tmp_path / "root")
    tree = Tree(tmp_path / "root")
    assert list(tree.images.values()) == [["a.PNG"]] and len(tree.files) == 3
