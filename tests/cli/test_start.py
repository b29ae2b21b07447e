"""`start=` on a command line, without a network."""

from __future__ import annotations

import hashlib
import urllib.error
from pathlib import Path

import pytest
import torch

from composed import CONFIGS, described
from detzoo.cli import main
from detzoo.cli.start import add_published_settings, expand_start
from detzoo.weights import published as publishing


def test_a_start_is_its_source() -> None:
    given = ["start=coco", "+start=a/b.pth", "start.classes={a: b}", "start={source: x}"]
    assert expand_start(given) == [
        *("start.source=coco", "start.source=a/b.pth", "start.classes={a: b}", "start={source: x}")
    ]


def test_every_detector_is_known_by_its_node() -> None:
    for name in CONFIGS:
        assert publishing.name_of(described(name)) == name


def test_published_settings_come_before_what_the_command_gives_and_give_way_to_it() -> None:
    plainly = add_published_settings("retinanet", "coco", ["seed=1"])
    assert {"backbone=resnet50", "++backbone.norm=frozen_bn", "resize=shortest_side"} < set(plainly)
    assert "++detector.anchor_sizes=[[32,40,50]," in "".join(plainly) and plainly[-1] == "seed=1"
    own = ["backbone=resnet18", "++channels=64", "++resize.size=320", "detector=retinanet"]
    given = add_published_settings("retinanet", "coco", own)
    assert given[-4:] == own
    keys = {text.lstrip("+").split("=")[0] for text in given[:-4]}
    assert not keys & {"backbone", "backbone.norm", "channels", "resize", "resize.size"}
    part = "backbone.frozen_stages=2"
    assert add_published_settings("retinanet", "coco", [part]) == [*plainly[:-1], part]
    other = add_published_settings("retinanet", "coco", ["backbone.name=dla34"])
    assert not any("backbone" in text for text in other[:-1])
    assert "detector.tower_norm" in keys
    assert add_published_settings("yolo", "coco", []) == [
        "backbone=resnet18"
    ]  # none published: ImageNet's
    assert add_published_settings("yolo", "scratch", ["a=b"]) == add_published_settings(
        "yolo", None, ["a=b"]
    )


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch.hub with an empty cache and no network; gives where its files belong."""

    def fail(*arguments, **options):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


def test_bench_without_a_network_ends_at_once_and_names_every_file(
    offline: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    where = [
        f"root={tmp_path / 'runs'}",
        f"reports={tmp_path / 'reports'}",
        f"data.root={tmp_path}",
    ]
    assert main(["bench", "data=shapes", "start=coco", *where]) == 1
    said = capsys.readouterr().err
    assert "start=coco lacks 5 files" in said and "Traceback" not in said
    for file, origin in (
        ("fasterrcnn_resnet50_fpn_coco-258fb6c6.pth", "https://download.pytorch.org/models/"),
        ("ssd300_vgg16_coco-b556d3b4.pth", "https://download.pytorch.org/models/"),
        ("ctdet_coco_dla_2x.pth", "https://github.com/xingyizhou/CenterNet"),
        ("CornerNet_500000.pkl", "https://github.com/princeton-vl/CornerNet"),
    ):
        line = next(line for line in said.splitlines() if file in line)
        assert origin in line and str(offline / file) in line
    assert not list(tmp_path.glob("shapes-*"))  # no data were drawn, no run started
    assert not (tmp_path / "runs" / "default").exists() or not list(
        (tmp_path / "runs" / "default").iterdir()
    )


def test_a_file_that_was_brought_is_checked(offline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = publishing.published("fcos")
    path = offline / one.file
    with pytest.raises(publishing.Missing, match=f"fcos needs {one.file}: bring it from {one.url}"):
        publishing.fetch("fcos")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"is damaged, .* not 99b0c9b7; remove it"):
        publishing.fetch("fcos")
    right = hashlib.sha256(b"right").hexdigest()
    monkeypatch.setattr(
        publishing, "published", lambda name: type(one)(**{**vars(one), "sha256": right[:8]})
    )
    path.write_bytes(b"right")
    assert publishing.fetch("fcos") == path
