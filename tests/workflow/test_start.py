"""What a run starts from: found, fingerprinted, carried over, reported; one tiny run for all."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from detzoo.cli import main
from detzoo.engine import checkpoint
from detzoo.workflow import start, start_weights

TINY = [
    *("data.train=8", "data.val=2", "data.test=3", "recipe.images_seen=8", "recipe.val_points=0"),
    *("channels=16", "backbone.name=test_resnet", "~backbone.options", "data=shapes"),
]


def detzoo(verb: str, root: Path, *arguments: str) -> int:
    where = [f"root={root}", f"data.root={root / 'data'}"]
    if not any(text.startswith("detector=") for text in arguments):
        where.append("detector=retinanet")
    return main([verb, *where, *TINY, *arguments])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("start")
    assert detzoo("train", root, "name=first", "data.classes=[circle,square,ring]") == 0
    return root


def only(folder: Path) -> Path:
    (found,) = folder.iterdir()
    return found


@pytest.fixture(scope="module")
def second(root: Path) -> Path:
    """Trained from the first at next to no rate, so that it shows what it started from."""
    arguments = ["data.classes=[star,ring]", f"start={only(root / 'first')}"]
    arguments += ["start.classes={star: Square}", "lr=1e-12", "recipe.ema_decay=null"]
    assert detzoo("train", root, "name=second", *arguments) == 0
    return only(root / "second")


def test_a_run_starts_from_a_run_and_records_it(root: Path, second: Path) -> None:
    first = only(root / "first")
    source = checkpoint.load(first)["ema"]
    now = checkpoint.load(second)["model"]
    for anchor in range(6):  # 2 octaves, 3 ratios; theirs: circle, square, ring
        rows = {2 * anchor: 3 * anchor + 1, 2 * anchor + 1: 3 * anchor + 2}
        for ours, theirs in rows.items():
            a, b = now["head.logits.weight"][ours], source["head.logits.weight"][theirs]
            assert torch.allclose(a, b, atol=1e-8)
    key = "neck.smooth.0.weight"
    assert torch.allclose(now[key], source[key], atol=1e-8)

    recorded = yaml.safe_load((second / "config.yaml").read_text())["start"]
    assert recorded["kind"] == "run" and recorded["source"] == str(first)
    assert recorded["classes"] == {"star": "Square"} and len(recorded["hash"]) == 16
    assert recorded["seen"] == "8 images of shapes"
    told = json.loads((second / "start.json").read_text())
    assert told["mapped"] == {"star": "square", "ring": "ring"}
    assert (told["new"], told["left_over"]) == ([], ["circle"])
    assert told["other_anchors"] is None
    assert told["loaded"]["values"] == told["loaded"]["of"]


def test_where_a_source_lies_makes_no_other_run(root: Path, second: Path, tmp_path: Path) -> None:
    from detzoo.workflow.settings import directory

    settings = yaml.safe_load((second / "config.yaml").read_text())
    where = directory(settings, root)
    moved = settings | {"start": settings["start"] | {"source": "/elsewhere", "seen": "x"}}
    assert directory(moved, root) == where
    other = settings | {"start": settings["start"] | {"hash": "0" * 16}}
    assert directory(other, root) != where
    plainly = {key: value for key, value in settings.items() if key != "start"}
    assert directory(plainly, root) != where


def test_a_finished_or_resumed_run_needs_no_source(
    second: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it started from may be gone meanwhile; all weights are in its checkpoint."""
    from detzoo.workflow.stages import train_run

    settings = yaml.safe_load((second / "config.yaml").read_text())
    settings["start"]["source"] = "/gone"
    status = (second / "status.json").read_text()
    (second / "status.json").write_text(status.replace('"done"', '"failed"'))
    monkeypatch.setattr(
        start_weights, "begin", lambda *a, **k: pytest.fail("read the source again")
    )
    train_run(settings, second)
    assert json.loads((second / "status.json").read_text())["state"] == "done"


def test_a_model_as_it_comes_is_a_row(
    root: Path, second: Path, capsys: pytest.CaptureFixture
) -> None:
    arguments = ["name=asis", "train=none", "data.classes=[cross,ring]"]
    assert detzoo("evaluate", root, *arguments, f"start={second}", "resamples=20") == 0
    run = only(root / "asis")
    said = capsys.readouterr().out
    assert "made anew: cross; left over: none" in said and "start: run:" in said
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["classes"] == ["cross", "ring", "star"]
    assert config["detector"]["num_classes"] == 3
    ours, theirs = checkpoint.load(run)["model"], checkpoint.load(second)["model"]
    logits = "head.logits.bias"
    assert ours[logits].view(6, 3)[:, 0].tolist() == [-1e4] * 6  # cross
    assert torch.equal(ours[logits].view(6, 3)[:, 1:], theirs[logits].view(6, 2).flip(1))
    found = json.loads((run / "predictions.json").read_text())
    assert {row["category_id"] for row in found} <= {6}  # the ring's; star is none of the data's
    assert json.loads((run / "metrics.json").read_text())["fingerprint"]["start"]["kind"] == "run"
    assert detzoo("evaluate", root, *arguments, "name=none") == 1
    assert "train=none scores a published model: give start=coco" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["start=nowhere"],
            r"start is nowhere: neither one of scratch, imagenet, coco, nor a file",
        ),
        (["start.classes={a: b}"], r"start\.classes is given without start=coco"),
        (["start=RUN", "detector=fcos"], r"holds a RetinaNet's weights, .* asked for is FCOS"),
        (["start=RUN", "channels=24"], r"another width .*; they want detector\.channels=16"),
        (["start=RUN", "start.classes={x: ring}"], r"the data have no class 'x'"),
        (["backbone.frozen_stages=1"], r"backbone\.frozen_stages is 1, .* give start=imagenet"),
    ],
)
def test_what_cannot_be_started_from_is_one_error(
    root: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture
) -> None:
    run = str(only(root / "first"))
    arguments = [text.replace("RUN", run) for text in arguments]
    assert detzoo("train", root, "name=bad", *arguments) == 1
    assert re.search(said, capsys.readouterr().err)


def test_weights_that_lie_outside_of_the_run_are_not_read(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "content_hash", lambda path: pytest.fail(f"{path} was read"))
    run = shutil.copytree(only(root / "first"), tmp_path / "run")
    (run / checkpoint.FILE).rename(tmp_path / "elsewhere.pt")
    (run / checkpoint.FILE).symlink_to(tmp_path / "elsewhere.pt")
    assert detzoo("train", root, "name=bad", f"start={run}") == 1
    assert "leads out of its folder" in capsys.readouterr().err


def test_what_does_not_fit_is_refused_before_any_run_of_a_bench(
    root: Path, capsys: pytest.CaptureFixture
) -> None:
    """The second of two detectors; the first is not started."""
    given = ["detectors=[retinanet,ssd]", f"start={only(root / 'first')}", "name=never"]
    where = [f"root={root}", f"data.root={root / 'data'}", f"reports={root / 'reports'}"]
    assert main(["bench", *where, *TINY, *given]) == 1
    said = capsys.readouterr().err
    assert re.search("holds a RetinaNet's weights, .* asked for is SSD", said)
    assert not (root / "never").exists()


def test_other_anchors_of_the_same_number_are_said(
    root: Path, capsys: pytest.CaptureFixture
) -> None:
    start = f"start={only(root / 'first')}"
    arguments = ["data.classes=[circle,ring]", "smallest_anchor=24", "recipe.ema_decay=null"]
    assert detzoo("train", root, "name=anchors", start, *arguments) == 0
    said = capsys.readouterr().out
    assert re.search(r"learned from other anchors, .* sizes \[\[24\.0, .*theirs \[\[16\.0, ", said)
    told = json.loads((only(root / "anchors") / "start.json").read_text())
    assert told["other_anchors"].startswith("sizes [[24.0")


def test_scratch_and_imagenet_are_what_the_backbone_says(monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []
    monkeypatch.setattr(start, "fetch_backbone", fetched.append)
    node = {"_target_": "detzoo.nn.Backbone", "name": "resnet18", "pretrained": True}
    detector = {"_target_": "detzoo.detectors.YOLO", "backbone": node}

    def resolved(source: str | None, **backbone) -> dict:
        settings = {"detector": {**detector, "backbone": node | backbone}}
        return start.resolve(settings | {"start": {"source": source, "classes": {}}})

    assert resolved(None)["detector"]["backbone"]["pretrained"] is True
    assert resolved("scratch")["detector"]["backbone"]["pretrained"] is False
    assert resolved("imagenet", pretrained=False)["detector"]["backbone"]["pretrained"] is True
    assert "start" not in resolved("imagenet") and len(fetched) == 2
    assert resolved("coco", pretrained=False)["detector"]["backbone"]["pretrained"] is True
    with pytest.raises(ValueError, match="no ImageNet weights of Darknet24 are known"):
        bare = {"_target_": "detzoo.nn.Darknet24", "weights": None}
        start.resolve({"detector": {**detector, "backbone": bare}, "start": {"source": "imagenet"}})
