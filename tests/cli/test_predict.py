"""Pictures of people's own: what is broken stops nothing, and what was found is kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import detzoo
from detzoo.cli import main
from detzoo.report.figures import fonts
from detzoo.types import Detections
from detzoo.workflow.images import find_images


class Stub:
    """Finds one object in any image, and counts its batches."""

    class_names = ("cat", "猫" * 3)

    def __init__(self) -> None:
        self.batches: list[list[Path]] = []

    def predict(self, images, *, batch_size, score_threshold):
        assert 0 < len(images) <= batch_size
        self.batches.append(images)
        box, score, label = torch.tensor([[2.0, 3, 30, 20]]), torch.tensor([0.5]), torch.tensor([1])
        return [Detections(box, score, label) for _ in images]


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    found = Stub()
    monkeypatch.setattr(detzoo, "load", lambda *_: found)
    monkeypatch.setattr("detzoo.workflow.predict.select_one", Path)  # there is no directory
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five pictures: the third is truncated, the fourth is text; and typical side files."""
    path = tmp_path / "été 写真"
    path.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    for index in range(5):
        Image.fromarray(noise).save(path / f"{index}.jpg")
    (path / "2.jpg").write_bytes((path / "2.jpg").read_bytes()[:700])
    (path / "3.jpg").write_text("no picture")
    (path / "._0.jpg").write_text("a resource fork")
    (path / "notes.txt").write_text("")
    return path


@pytest.mark.parametrize("size", [1, 2, 8])
def test_a_broken_picture_stops_no_other(folder, stub, tmp_path, capsys, size):
    out = tmp_path / "found"
    code = main(["predict", "run=x", f"images=['{folder}']", f"out={out}", f"batch_size={size}"])
    told = capsys.readouterr()
    assert code == 1
    assert "2 of 5 images cannot be read" in told.err
    assert str(folder / "2.jpg") in told.err and str(folder / "3.jpg") in told.err
    assert "3 objects in 3 images" in told.out
    found = json.loads((out / "predictions.json").read_text())
    assert [Path(image["file"]).name for image in found] == ["0.jpg", "1.jpg", "4.jpg"]
    assert all((out / image["picture"]).is_file() for image in found)
    assert [image["objects"][0]["class"] for image in found] == ["猫猫猫"] * 3
    assert sum(map(len, stub.batches)) == 3


def test_only_broken_pictures_are_still_an_answer(folder, stub, tmp_path, capsys):
    out = tmp_path / "found"
    assert main(["predict", "run=x", f"images=['{folder / '3.jpg'}']", f"out={out}"]) == 1
    assert json.loads((out / "predictions.json").read_text()) == [] and not stub.batches
    assert "1 of 1 images cannot be read" in capsys.readouterr().err


def test_whole_pictures_end_well_and_a_name_without_a_font_is_a_number(
    folder, stub, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(fonts, "faces", lambda: (fonts.Face(fonts.DEJAVU, "DejaVu Sans"),))
    fonts._face.cache_clear()
    long = folder / ("é" * 120 + ".jpg")
    (folder / "0.jpg").rename(long)
    out = tmp_path / "found"
    assert main(["predict", "run=x", f"images=['{long}']", f"out={out}"]) == 0
    told = capsys.readouterr()
    assert "drawn as numbers: #2 猫猫猫." in told.out and not told.err.count("detzoo predict")
    fonts._face.cache_clear()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: "https://example.org/a.jpg", "is a URL; download it"),
        (lambda p: (p / "a.mp4").write_text("") or str(p / "a.mp4"), "is a video; cut it"),
        (lambda p: (p / "sub").mkdir() or str(p), "there is no image in"),
        (lambda p: str(p / "*.jpg"), "no images"),
    ],
)
def test_what_is_no_picture_is_said(tmp_path, make, said):
    with pytest.raises(ValueError) as error:
        find_images([make(tmp_path)])
    assert said in str(error.value)


def test_a_picture_named_twice_is_taken_once(folder):
    assert find_images([str(folder), str(folder / "0.jpg")]) == sorted(folder.glob("[0-9].jpg"))


def test_the_score_is_the_runs_own_unless_another_is_asked_for(
    folder, stub, tmp_path, capsys, monkeypatch
):
    asked = []
    predict = stub.predict
    stub.predict = lambda images, **how: (
        asked.append(how["score_threshold"]) or predict(images, **how)
    )
    run = tmp_path / "run"
    run.mkdir()
    chosen = {"overall": {"best_f1": {"threshold": 0.42}}}
    (run / "thresholds.json").write_text(json.dumps(chosen))
    command = ["predict", f"run={run}", f"images=['{folder / '0.jpg'}']", f"out={tmp_path / 'o'}"]
    assert main(command) == 0
    assert "from score 0.42 on: with the best F1 on val" in capsys.readouterr().out
    assert main([*command, "score=0.7"]) == 0
    assert "from score" not in capsys.readouterr().out
    (run / "thresholds.json").unlink()
    assert main(command) == 0
    assert "from score 0.30 on: no threshold was chosen on val" in capsys.readouterr().out
    assert asked == [0.42, 0.7, 0.3]
