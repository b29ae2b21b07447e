"""data.group: who belongs together, and that no split, fold or fraction cuts it."""

import json
import unicodedata
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detzoo.data import Auto, Coco, DataError, Voc, YoloTxt, check
from detzoo.data import groups as groups_module
from detzoo.data.groups import Groups
from detzoo.data.splits import assign_holdout

from .conftest import CocoFolder, VocFolder, write_image

SPLITS = ("train", "val", "test")
FRAMES = r"(.+)_frame\d+"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """YOLO files: videos of 8, 6, 5, 4, 3, 2, 1, 1 frames, 30 images in all."""
    root = tmp_path_factory.mktemp("videos")
    seed = 0
    for video, frames in enumerate((8, 6, 5, 4, 3, 2, 1, 1)):
        for frame in range(frames):
            write_image(root / "images" / f"v{video}_frame{frame}.png", seed=(seed := seed + 1))
            label = root / "labels" / f"v{video}_frame{frame}.txt"
            label.parent.mkdir(exist_ok=True)
            label.write_text("0 0.5 0.5 0.1 0.2")
    return root


def videos(dataset):
    return {sample.group for sample in dataset.samples}


def names(dataset):
    return {sample.path.name for sample in dataset.samples}


def grouped(root, setting=FRAMES, **options):
    return YoloTxt(root, classes=["x"], group=setting, **options)


@pytest.mark.parametrize("seed", range(6))
def test_holdouts_cut_no_group_and_say_what_that_costs(root, seed):
    holdout = {"val": 0.1, "test": 0.2}
    source = grouped(root, holdout=holdout, holdout_seed=seed)
    of = {split: source.read(split) for split in SPLITS}
    assert sum(map(len, of.values())) == 30
    assert sum(len(videos(dataset)) for dataset in of.values()) == 8
    said = [p for p in of["train"].problems if p.kind == "group sizes"]
    missed = {s for s, part in holdout.items() if abs(len(of[s]) - part * 30) >= 1}
    assert {p.where for p in said} == missed and len(said) == len(missed)
    for problem in said:
        got = len(of[problem.where])
        assert f"{got} of 30 images ({got / 30:.1%}) where {holdout[problem.where]:.1%}" in (
            problem.what
        )
    assert len(of["val"]) <= 6 and 3 <= len(of["test"]) <= 9


def test_a_group_too_large_for_a_holdout_is_passed_over():
    sizes = {b"a": 20, b"b": 2, b"c": 5, b"d": 3, b"e": 1}
    pieces = assign_holdout(sizes, {"test": 0.2})
    assert pieces == {"test": [b"b", b"c"], "train": [b"a", b"d", b"e"]}  # 7 of 31, 6 asked
    assert assign_holdout({b"a": 20, b"b": 11}, {"val": 0.1})["val"] == [b"b"]  # the smallest


def test_folds_hold_whole_groups_of_about_equal_size(root):
    sources = [grouped(root, folds=4, fold=fold) for fold in range(4)]
    tests = [source.read("test") for source in sources]
    assert sorted(map(len, tests)) == [7, 7, 8, 8]
    assert sum(len(videos(test)) for test in tests) == 8
    for source in sources:
        pieces = [videos(source.read(split)) for split in SPLITS]
        assert not pieces[0] & pieces[1] | pieces[0] & pieces[2] | pieces[1] & pieces[2]
    with pytest.raises(DataError, match="8 groups of images are too few for 9 folds"):
        grouped(root, folds=9).read("test")


def test_copies_join_the_groups_that_have_them(root, tmp_path):
    """The same bytes in two videos: both are on one side, for any seed."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        for path in (root / folder).iterdir():
            (tmp_path / folder / path.name).write_bytes(path.read_bytes())
    for one, other in (("v0_frame1", "v5_frame0"), ("v5_frame1", "v7_frame0")):
        source = tmp_path / "images" / f"{one}.png"
        (tmp_path / "images" / f"{other}.png").write_bytes(source.read_bytes())
    for seed in range(5):
        source = grouped(tmp_path, holdout={"test": 0.3}, splits={"val": "none"}, holdout_seed=seed)
        for split in SPLITS:
            assert len({"v0", "v5", "v7"} & videos(source.read(split))) in (0, 3)


def test_fractions_are_nested_whole_groups(root):
    parts = [grouped(root, fraction=f, holdout={"test": 0.2}) for f in (0.1, 0.3, 0.6, 1.0)]
    train = [source.read("train") for source in parts]
    for small, large in pairwise(train):
        assert names(small) < names(large)
    whole = Counter(sample.group for sample in train[-1].samples)
    for part in train:
        assert Counter(s.group for s in part.samples).items() <= whole.items()
    assert len({source.read("test").hash for source in parts}) == 1
    assert len({dataset.hash for dataset in train}) == 4
    assert [p.where for p in train[0].problems if p.kind == "group sizes"] != []


def test_fractions_without_groups_are_of_the_asked_size(root):
    for seed in (0, 1):
        part = YoloTxt(root, classes=["x"], fraction=0.3, holdout_seed=seed).read("train")
        assert len(part) == 9 and not part.problems
    for wrong in (0, 1.5, -1, True, "some", float("nan")):
        with pytest.raises(ValueError, match=r"data\.fraction is"):
            YoloTxt(root, classes=["x"], fraction=wrong)


def test_groups_are_in_the_hash_and_in_the_ground_truth_where_they_are_set(root):
    plain, by_video = YoloTxt(root, classes=["x"]).read("train"), grouped(root).read("train")
    assert not plain.grouped and by_video.grouped
    assert plain.hash != by_video.hash != grouped(root, r"(v\d).*[02468]$").read("train").hash
    assert {image["group"] for image in by_video.coco()["images"]} == {f"v{i}" for i in range(8)}
    assert all("group" not in image for image in plain.coco()["images"])


def test_the_first_capture_group_else_all_that_matched(root):
    assert videos(grouped(root, r"v\d").read("train")) == {f"v{i}" for i in range(8)}
    assert videos(grouped(root, r"(?:v)(\d)_(f)").read("train")) == set("01234567")
    assert videos(grouped(root, "images/v[0-3]").read("train")) >= {"images/v0", "images/v3"}


def test_auto_hands_groups_to_the_reader_that_it_finds(root):
    source = Auto(root, classes=["x"], group=FRAMES)
    assert set().union(*(videos(source.read(split)) for split in SPLITS)) == {
        f"v{i}" for i in range(8)
    }


def test_who_has_no_group_is_one_alone(root):
    found = grouped(root, r"v[0-6]").read("train")
    assert "images/v7_frame0.png" in videos(found) and len(videos(found)) == 8
    (problem,) = found.problems
    assert problem.kind == "no group" and "1 of 30 images" in problem.what


@pytest.mark.parametrize("setting", ["", "(", "a{99999999999}", "x" * 501, 7])
def test_what_is_no_pattern_is_refused_at_once(tmp_path, setting):
    with pytest.raises(ValueError, match=r"data\.group is"):
        Groups(setting, tmp_path)


def test_a_pattern_that_matches_nothing_or_takes_for_ever(root, monkeypatch):
    with pytest.raises(DataError, match=r"video_id.*of 30 images of train none .*v0_frame0\.png"):
        grouped(root, "video_id").read("train")
    monkeypatch.setattr(groups_module, "SECONDS", 0.5)
    write_image(root / "long" / ("a" * 60 + ".png"))
    with pytest.raises(DataError, match="takes more than"):
        YoloTxt(root, classes=["x"], splits={"train": "long"}, group="(a+)+b").read("train")


def test_a_field_of_coco_s_images(coco):
    for image, video in zip(coco.content["images"], (12, "left"), strict=True):
        image["video_id"] = video
    coco.write()
    assert videos(Coco(coco.root, group="video_id").read("train")) == {"12", "left"}
    del coco.content["images"][0]["video_id"]
    found = Coco(coco.write().root, group="video_id").read("train")
    assert videos(found) == {"images/train/a.jpg", "left"}
    assert [p.kind for p in found.problems] == ["no group"]


def test_a_table_by_path_name_or_stem(tmp_path):
    voc = VocFolder(tmp_path)
    for name in "abc":
        voc.write([{}], name=name)
    table = tmp_path / "groups.csv"
    table.write_text("file,group,note\nJPEGImages/a.jpg,one,\nb.jpg,one,x\nc,two,\n")
    found = Voc(tmp_path, group="groups.csv").read("train")
    assert [sample.group for sample in found.samples] == ["one", "one", "two"]
    table.write_text("file,group\na.jpg,one\na.jpg,two\n")
    with pytest.raises(DataError, match=r"groups\.csv:3: a\.jpg is in one and in two"):
        Voc(tmp_path, group="groups.csv").read("train")
    table.write_text("image,video\na.jpg,one\n")
    with pytest.raises(DataError, match="columns file,group"):
        Voc(tmp_path, group="groups.csv").read("train")
    for outside in ("../groups.csv", "/etc/groups.csv", "none.csv"):
        with pytest.raises(DataError, match="no such file inside"):
            Voc(tmp_path, group=outside).read("train")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("written", ["NFC", "NFD"])
def test_a_table_names_files_in_whatever_letters(tmp_path, encoding, written):
    voc = VocFolder(tmp_path)
    for form, name in (("NFC", "Käfer"), ("NFD", "Möwe")):
        voc.write([{}], name=unicodedata.normalize(form, name))
    text = unicodedata.normalize(written, "file,group\nJPEGImages\\Käfer.jpg,1\nMöwe,1\n")
    (tmp_path / "groups.csv").write_bytes(text.encode(encoding))
    assert videos(Voc(tmp_path, group="groups.csv").read("train")) == {"1"}
    pattern = unicodedata.normalize("NFC", "Käfer|Möwe")
    assert videos(Voc(tmp_path, group=pattern).read("train")) == {"Käfer", "Möwe"}


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\xff\xfe\x00", b"file,group\n\xe4.jpg,1\n", b"\x00" * 50, b"[1, 2]"),
        *(b"file;group\na.jpg;1\n", b"file,group\n" + b"x" * 200_000 + b",1\n", b"file,group\n"),
        *(b'file,group\n"a.jpg,1\n', b"file,group\nz.jpg,1\n", b"file,group\na.jpg,\n"),
    ],
)
def test_a_damaged_table_is_one_sentence(tmp_path, content):
    VocFolder(tmp_path).write([{}])
    (tmp_path / "groups.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"groups\.csv"):
        Voc(tmp_path, group="groups.csv").read("train")


def test_check_counts_groups_and_warns_of_those_in_two_splits(tmp_path):
    for split in SPLITS:
        folder = CocoFolder(tmp_path, split)
        for image, video in zip(folder.content["images"], ("street", split), strict=True):
            image["video"] = video
        folder.write()
    result = check(Coco(tmp_path, group="video"), progress=False)
    assert [p.kind for p in result.problems] == [
        *("train/val groups", "train/test groups", "val/test groups")
    ]
    assert result.problems[1].what.startswith("1 of 2 images are of 1 groups that train has")
    assert "street: images/train/a.jpg and images/test/a.jpg" in result.problems[1].what
    assert result.statistics["test"]["groups"] == 2 and not result.errors
    assert "groups" in result.table() and json.dumps(result.json())
    assert "groups" not in check(Coco(tmp_path), progress=False).statistics["test"]


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=2, max_size=20),
    part=st.floats(0.05, 0.5),
)
def test_a_holdout_is_never_further_off_than_half_its_largest_group(sizes, part):
    of = {bytes([i]): size for i, size in enumerate(sizes)}
    pieces = assign_holdout(of, {"test": part})
    got = sum(of[rank] for rank in pieces["test"])
    wanted = max(1, round(part * sum(sizes)))
    assert sorted([*pieces["test"], *pieces["train"]]) == sorted(of)
    assert abs(got - wanted) <= max(sizes)
    ones = {bytes([i]): 1 for i in range(len(sizes))}
    assert pieces_of_ones(ones, part) == [
        bytes([i]) for i in range(max(1, round(part * len(ones))))
    ]


def pieces_of_ones(ones, part):
    return assign_holdout(ones, {"test": part})["test"]


def test_the_groups_of_aquarium(shared):
    source = Coco(
        shared("aquarium"),
        images="images",
        splits={split: f"{split}.json" for split in SPLITS},
        group=r"IMG_\d{3}",
    )
    assert len(videos(source.read("test"))) == 29
    sizes = Counter(sample.group for sample in source.read("test").samples)
    assert max(sizes.values()) <= 10 and np.sum(list(sizes.values())) == 95
