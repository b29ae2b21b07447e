"""Pictures that were encoded anew, made smaller or brighter are found in another split."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from detzoo.data import Coco
from detzoo.data.near_duplicates import hash_images, near_duplicates, problems, within
from detzoo.workflow.check import check

from .conftest import CocoFolder

pytest.importorskip("imagehash")


def scene(seed, size=(240, 160)):
    """A picture of large shapes, as photographs are; noise has no hash that lasts."""
    draw = np.random.default_rng(seed)
    rough = draw.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def source(tmp_path):
    for n, split in enumerate(("train", "val", "test")):
        folder = CocoFolder(tmp_path, split)
        for place, image in enumerate(folder.content["images"]):
            image |= {"width": 240, "height": 160}
            scene(10 * n + place).save(tmp_path / "images" / split / image["file_name"], quality=95)
        folder.write()
    twin = ImageEnhance.Brightness(scene(0).resize((120, 80)).resize((240, 160))).enhance(1.1)
    twin.save(tmp_path / "images" / "test" / "b.jpg", quality=40)
    return Coco(tmp_path)


def test_a_picture_encoded_anew_is_found_and_named(source):
    datasets = {split: source.read(split) for split in source.splits}
    (found,) = near_duplicates(datasets)
    assert (found.one, found.other) == (("train", 0), ("test", 1)) and found.distance <= 8
    (problem,) = problems(datasets, [found])
    assert (problem.severity, problem.kind) == ("warning", "train/test near-duplicates")
    assert problem.where == "test: images/test/b.jpg" and "images/train/a.jpg" in problem.what


def test_the_same_bytes_are_no_near_duplicate(source):
    images = source.root / "images"
    (images / "test" / "b.jpg").write_bytes((images / "train" / "a.jpg").read_bytes())
    assert near_duplicates({split: source.read(split) for split in source.splits}) == []


def test_what_cannot_be_read_has_no_hash(source):
    (source.root / "images" / "test" / "b.jpg").write_bytes(b"nothing")
    assert hash_images(source.read("test"))[1] is None
    assert near_duplicates({split: source.read(split) for split in source.splits}) == []


def wanted(source, tmp_path, **other):
    data = {"_target_": "detzoo.data.Coco", "name": "mine", "root": str(source.root)}
    resize = {"_target_": "detzoo.data.Letterbox", "size": 64}
    augment = {"_target_": "detzoo.data.augment.Policy", "steps": []}
    of = {"data": data, "splits": ["train", "val", "test"], "json": None, "size": None, "out": None}
    return of | {"seed": 0, "resize": resize, "augment": augment} | other


def test_check_warns_and_shows_them_side_by_side(source, tmp_path):
    result = check(wanted(source, tmp_path, out=str(tmp_path.parent / "sheets")))
    assert "train/test near-duplicates" in result.text() and result.exit_code == 0
    page = result.sheets.read_text()
    assert "1 of 1 pairs of images that look nearly the same" in page
    assert (result.sheets.parent / "near-duplicates-1.jpg").is_file()


def test_without_the_library_one_line_says_so(source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imagehash", None)
    told = check(wanted(source, tmp_path)).text()
    assert told.count("pip install 'detzoo[duplicates]'") == 1
    assert "near-duplicates:" not in told


@settings(max_examples=40, deadline=None)
@given(
    one=st.lists(st.none() | st.integers(0, 2**64 - 1), max_size=8),
    other=st.lists(st.none() | st.integers(0, 2**64 - 1), max_size=8),
    flips=st.lists(st.integers(0, 63), max_size=10),
)
def test_distances_are_counted_bit_by_bit(one, other, flips):
    if one and one[0] is not None:
        near = one[0]
        for bit in flips:
            near ^= 1 << bit
        other = [*other, near]
    expected = {
        (i, j, (a ^ b).bit_count())
        for i, a in enumerate(one)
        for j, b in enumerate(other)
        if a is not None and b is not None and (a ^ b).bit_count() <= 8
    }
    found = list(within(one, other))
    assert set(found) == expected and len(found) == len(expected)


def test_more_images_than_a_block_holds():
    one = [1 << (n % 64) for n in range(600)]
    assert sum(1 for _ in within(one, [0])) == 600
    assert [i for i, _, d in within(one, [1 << 3]) if d == 0] == list(range(3, 600, 64))
