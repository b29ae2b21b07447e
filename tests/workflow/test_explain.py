"""The page of explanations and the study, by two detectors whose pixels are known."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import detzoo
from detzoo.data import Shapes, load_image
from detzoo.data.dataset import Sample
from detzoo.engine.folding import inspect_folding, unfold
from detzoo.explain import Asked, look
from detzoo.explain.faithfulness import judge
from detzoo.explain.scores import box_mask
from detzoo.explain.target import found_scores
from detzoo.files import read_json
from detzoo.imagefile import ImageFile
from detzoo.report.page.explained import Cell, Row
from detzoo.workflow import contestants as contestants_module
from detzoo.workflow import explain as module
from detzoo.workflow import faithfulness as faithfulness_module
from detzoo.workflow import pasted as pasted_module
from detzoo.workflow.contestants import Contestant, by_seed, names_of, objects_of, pairs
from detzoo.workflow.explain import explain, write_page
from detzoo.workflow.faithfulness import GroundTruth, common, faithfulness, marks_of
from detzoo.workflow.faithfulness_page import layer_tables
from detzoo.workflow.pasted import pasted, with_pasted
from explain.known import RedInBox, picture

KEPT = Path(__file__).parents[1] / "kept" / "ssd-c60a70ce"
BOXES = torch.tensor([[8.0, 8, 16, 16], [20, 4, 28, 12]])


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Contestant]:
    """Of the two, B does not find the second object: its threshold is too high."""
    found = []
    for name, score in (("A <i>", 0.3), ("B", 0.85)):
        detector = RedInBox().eval()
        detector.class_names = ("cat & dog", "mark")
        found.append(Contestant(name, detector, score))
    monkeypatch.setattr(module, "contestants", lambda *_: found)
    monkeypatch.setattr(module, "select", lambda runs: [Path(run) for run in runs])
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "été 写真"
    path.mkdir()
    for index in range(5):
        Image.fromarray(picture()).save(path / f"{index} <b>.png")
    return path


def test_every_object_once_and_who_found_it(asked: list[Contestant], folder: Path) -> None:
    first, second = objects_of(asked, ImageFile(folder / "0 <b>.png"))
    assert (first.label, sorted(first.by)) == (0, ["A <i>", "B"])
    assert (second.label, sorted(second.by)) == (1, ["A <i>"])
    assert pairs(first, 2) == 0 and pairs(second, 2) == 1


def test_the_page_shows_disputed_objects_first(asked, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "explained"
    found = explain(["x"], images=[str(folder)], methods=["odam", "guided"], objects=8, out=out)
    page = found.page.read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 8 + 8 * 2 * 2
    assert not re.search(r"https?://(?!www\.w3\.org)", page) and "<script" not in page
    assert "A &lt;i&gt;" in page and "<i>" not in page and "<b>" not in page
    assert "min-width: 7rem" in page, "on a phone the table scrolls, and no column is crushed"
    assert len(page) < 500_000
    with Image.open(out / "maps.png") as strip:
        tiles = np.asarray(strip.convert("RGB"))
    assert tiles.shape == (139, 3 * 120 + 2 * 4, 3), "the object, and a tile for each detector"
    table = found.frame
    assert list(table["object"].unique()[:5]) == [f"mark in {i} <b>.png" for i in range(5)]
    missed = table[(table["detector"] == "B") & table["object"].str.startswith("mark")]
    assert (missed["caption"] == "not found: score 0.78, its threshold is 0.85").all()
    best = table[(table["detector"] == "A <i>") & (table["method"] == "odam")]
    assert best["energy"].min() == pytest.approx(16)


def test_a_setting_that_cannot_be_is_refused_first(asked, folder: Path, tmp_path: Path) -> None:
    for wrong, message in (
        ({"methods": ["heat"]}, "method is 'heat'"),
        ({"study": "faith"}, "study is 'faith'; choose one of faithfulness, pasted, features"),
        ({"objects": 0}, "objects is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            explain(["x"], images=[str(folder)], out=tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


def test_nothing_found_is_said(asked, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "black.png")
    with pytest.raises(ValueError, match="no detector finds an object in 1 images"):
        explain(["x"], images=[str(tmp_path / "black.png")], out=tmp_path / "out")


class Split:
    """As much of a Dataset as the study reads."""

    split = "test"
    grouped = False

    def __init__(self, folder: Path) -> None:
        empty = torch.zeros(2, dtype=torch.bool)
        self.samples = [
            Sample(i, path, (32, 32), BOXES, torch.tensor([0, 1]), empty, torch.full((2,), 64.0))
            for i, path in enumerate(sorted(folder.iterdir()))
        ]


def test_the_study_is_of_true_objects_that_all_find(asked, folder: Path, tmp_path: Path) -> None:
    data = Split(folder)
    assert [index for index, _ in common(asked, data.samples[0])] == [0, 1]
    about = {"heading": "h", "command": "c", "detectors": [c.name for c in asked]}
    found = faithfulness(asked, data, ["odam"], 5, tmp_path / "out", 0, about)
    rows = pd.DataFrame(read_json(tmp_path / "out" / "objects.json"))
    assert len(rows) == 5 * 2 * 4, "odam and three baselines"
    assert set(rows["method"]) == {"odam", "uniform", "centred", "box"}
    means = found.frame.set_index(["detector", "method", "score"])["mean"]
    for name in ("A <i>", "B"):
        assert means[name, "odam", "energy"] == pytest.approx(16)
        assert means[name, "uniform", "energy"] == pytest.approx(1)
        assert means[name, "odam", "deletion"] < means[name, "uniform", "deletion"]
        assert means[name, "odam", "others"] == 0
    assert "no two detectors can be told apart" in found.sentences[0], "they are the same"
    page = found.page.read_text(encoding="utf-8")
    assert "5 objects of 3 images of test" in page and "A &lt;i&gt;" in page
    for row in rows.itertuples():
        assert row.unit == row.image, "images without groups are units of their own"
    tests = pd.read_csv(tmp_path / "out" / "pairs.csv")
    assert set(tests["between"]) == {"detectors", "methods"} and "insertion" in set(tests["score"])
    odam = tests[(tests["first"] == "odam") & (tests["second"] == "uniform")]
    assert (odam.set_index("score").loc["insertion", "difference"]) > 0
    assert "Who can be told apart" in page and "odam less uniform" in page
    assert means["B", "box", "after neck"] == means["B", "box", "randomised"] == pytest.approx(1)
    again = faithfulness(asked, data, ["odam"], 5, tmp_path / "again", 0, about)
    assert again.frame[again.frame["score"] != "seconds"].equals(
        found.frame[found.frame["score"] != "seconds"]
    )


def test_scores_of_changed_images_are_computed_as_evaluate_does(monkeypatch) -> None:
    """Folded, and in the precision of `evaluate`; the layers that are explained stay as written."""
    monkeypatch.setattr(contestants_module, "choose_precision", lambda device: "bf16")
    detector = detzoo.load(KEPT)
    unfold(detector)
    one = Contestant("ssd", detector, 0.5)
    assert not inspect_folding(one.fast).left and inspect_folding(detector).left
    view = look(detector, picture())
    found = detector.predict(picture(), score_threshold=0.0)
    (box,) = view.boxes(found.boxes[:1])
    asked = Asked(box, int(found.labels[0]))
    (written,), (fast,) = (found_scores(d, view, asked, view.pixels) for d in (detector, one.fast))
    assert 1e-5 < abs(float(written - fast)) < 0.01, "by bf16, and no more"


def test_a_map_s_curves_are_of_the_fast_detector() -> None:
    """Its score is 0 whatever the image, so there is no curve; the map is the detector's own."""
    detector, fast = RedInBox().eval(), RedInBox().eval()
    fast.candidates = lambda *given: replace(
        found := RedInBox.candidates(fast, *given), scores=found.scores * 0
    )
    view = look(detector, picture())
    found = judge(detector, view, Asked(BOXES[0], 0), BOXES[:1], BOXES[1:], ["odam"], fast=fast)
    assert found["odam"]["deletion"] == found["odam"]["insertion"] == 0
    assert found["odam"]["energy"] == pytest.approx(16)


def test_an_interrupted_study_writes_what_is_done(asked, folder, tmp_path, monkeypatch) -> None:
    judged, judge = [], faithfulness_module.judge

    def interrupted(*arguments, **options):
        judged.append(1)
        if len(judged) == 4:  # of the second object's second detector
            raise KeyboardInterrupt
        return judge(*arguments, **options)

    monkeypatch.setattr(faithfulness_module, "judge", interrupted)
    about = {"heading": "h", "command": "c", "detectors": [c.name for c in asked]}
    found = faithfulness(asked, Split(folder), ["odam"], 5, tmp_path / "out", 0, about)
    assert "1 objects of 1 images" in found.page.read_text(encoding="utf-8")
    assert set(found.frame[found.frame["score"] == "energy"]["objects"]) == {1}


def test_layers_are_columns_in_the_order_in_which_they_are_randomised() -> None:
    layers = ["backbone 0", "neck", "backbone 2", "head", "backbone 1"]
    rows = [
        {"detector": "A", "method": "odam", "score": f"after {layer}", "mean": 0.5}
        | {"low": 0.4, "high": 0.6}
        for layer in layers
    ]
    (table,) = layer_tables(pd.DataFrame(rows), ["odam", "saliency"])
    wanted = ["head", "neck", "backbone 2", "backbone 1", "backbone 0"]
    assert list(table.columns) == [f"after {layer}" for layer in wanted]
    assert table.cells["A"]["after neck"] == "0.50 [0.40, 0.60]"


def test_a_page_without_rows_is_whole(tmp_path: Path) -> None:
    page = write_page(
        tmp_path, methods=["odam"], rows=(), heading="h", command="c", detectors=["A"]
    )
    assert "</html>" in page.read_text()


def test_a_map_of_zeros_is_called_empty(tmp_path: Path) -> None:
    maps = {"odam": np.zeros((32, 32), np.float32), "guided": np.eye(32, dtype=np.float32)}
    energies = {"odam": {"energy": None}, "guided": {"energy": 2.5}}
    cell = Cell("score 0.50", (8, 8, 16, 16), maps, energies)
    row = Row("red", Image.fromarray(picture()), (8, 8, 16, 16), {"A": cell})
    about = {"heading": "h", "command": "c", "detectors": ["A"]}
    page = write_page(tmp_path, methods=[*maps], rows=[row], **about).read_text()
    assert page.count("empty map: no pixel raises the score") == 1 and "energy 2.50" in page


def test_trainings_by_several_seeds_are_rounds_of_one_detector(folder, tmp_path) -> None:
    asked = []
    for seed, name in ((0, "ssd"), (1, "ssd-1a2b")):
        detector = RedInBox().eval()
        detector.class_names = ("cat", "mark")
        asked.append(Contestant(name, detector, 0.3, "ssd", seed))
    assert {seed: [c.name for c in some] for seed, some in by_seed(asked).items()} == {
        0: ["ssd"],
        1: ["ssd"],
    }
    about = {"heading": "h", "command": "c", "detectors": ["ssd"]}
    found = faithfulness(asked, Split(folder), ["odam"], 7, tmp_path / "out", 0, about)
    rows = pd.DataFrame(read_json(tmp_path / "out" / "objects.json"))
    assert set(rows["detector"]) == {"ssd"}
    assert rows[rows["method"] == "odam"].groupby("training").size().to_dict() == {0: 4, 1: 3}
    page = found.page.read_text(encoding="utf-8")
    assert "7 objects" in page and "2 trainings" in page and "seed 1" in page


def test_runs_are_named_by_what_distinguishes_them() -> None:
    paths = [Path(p) for p in ("runs/a/ssd-1", "runs/b/ssd-2", "runs/b/yolo-3")]
    assert names_of(paths, ["ssd", "ssd", "yolo"]) == ["a/ssd", "b/ssd", "yolo"]
    seeds = [Path("runs/a/ssd-1"), Path("runs/a/ssd-2"), Path("runs/b/ssd-3")]
    assert names_of(seeds, ["ssd"] * 3) == ["ssd-1", "ssd-2", "b/ssd"]


def test_other_detectors_by_other_seeds_are_one_round(asked) -> None:
    mixed = [Contestant(c.name, c.detector, 0.3, c.name, i) for i, c in enumerate(asked)]
    assert by_seed(mixed) == {0: mixed}
    assert by_seed(asked) == {0: asked}
    twice = [
        Contestant(f"{seed}{i}", asked[0].detector, 0.3, "ssd", seed)
        for seed in (0, 1)
        for i in "ab"
    ]
    assert by_seed(twice) == {0: twice}, "two of one label and seed cannot share its name"


def test_where_marks_are_planted_marked_objects_alone_are_studied(tmp_path: Path) -> None:
    few = {"train": 1, "val": 1, "test": 8, "size": 64}
    for marked in (None, "circle"):
        data = Shapes(tmp_path, marked=marked, **few)
        truth_of = marks_of(data)
        for sample in data.read("test").samples:
            for index, label in enumerate(sample.labels.tolist()):
                known = truth_of(sample, index)
                if marked is None:
                    assert known == GroundTruth()
                else:
                    assert (known is not None) == (data.classes[label] == marked)
                    assert known is None or known.mark.shape == (2, 4)


def test_an_object_is_asked_for_where_something_is_known_of_it(asked, folder, tmp_path) -> None:
    about = {"heading": "h", "command": "c", "detectors": [c.name for c in asked]}
    without = picture()
    without[4:12, 20:28] = 60  # the ground

    def truth_of(sample: Sample, index: int) -> GroundTruth | None:
        return GroundTruth(without=without) if index == 1 else None

    found = faithfulness(asked, Split(folder), ["odam"], 5, tmp_path / "out", 0, about, truth_of)
    rows = pd.DataFrame(read_json(tmp_path / "out" / "objects.json"))
    assert set(rows["object"]) == {1} and "oracle" in set(rows["method"])
    means = found.frame.set_index(["detector", "method", "score"])["mean"]
    assert means["B", "oracle", "insertion"] > means["B", "uniform", "insertion"]
    assert any(text.startswith("By insertion the map of the pasted") for text in found.sentences)
    page = found.page.read_text(encoding="utf-8")
    assert '<th scope="col">oracle</th>' in page and "how much each pixel differs" in page


def test_the_pasted_object_is_the_last_one(tmp_path, asked) -> None:
    data = Shapes(tmp_path, train=1, val=1, test=3, size=64)
    before = data.read("test")
    (tmp_path / "pasted").mkdir()
    after = with_pasted(data, before, tmp_path / "pasted", 0)
    for old, new in zip(before.samples, after.samples, strict=True):
        assert len(new.boxes) == len(old.boxes) + 1 and torch.equal(new.boxes[:-1], old.boxes)
        changed = (load_image(old.image) != load_image(new.image)).any(2)
        assert changed.any() and not changed[box_mask(changed.shape, new.boxes[-1:]) == 0].any()
    with pytest.raises(ValueError, match="no object of test is found by all 2"):
        about = {"heading": "h", "command": "c", "detectors": []}
        pasted(asked, data, "test", ["odam"], 2, tmp_path / "out", 0, about)


def test_the_pasted_object_alone_is_studied(tmp_path, asked, monkeypatch) -> None:
    few = {"train": 1, "val": 1, "test": 3, "size": 64, "min_objects": 2, "max_objects": 2}
    files = []

    def study(asked, dataset, methods, objects, out, seed, about, truth_of) -> None:
        for sample in dataset.samples:
            files.append(sample.path)
            first, *_, last = (truth_of(sample, i) for i in range(len(sample.boxes)))
            assert sample.path.is_file() and first is None
            changed = (load_image(sample.image) != last.without).any(2)
            elsewhere = box_mask(changed.shape, sample.boxes[-1:]) == 0
            assert changed.any() and not changed[elsewhere].any(), "the image before"

    monkeypatch.setattr(pasted_module, "faithfulness", study)
    pasted(asked, Shapes(tmp_path, **few), "test", ["odam"], 2, tmp_path / "out", 0, {})
    assert files and not any(path.exists() for path in files)
