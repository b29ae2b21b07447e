"""The one file of licences and published figures is whole, and says what a run is under."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import yaml
from torchvision.models import get_weight

from detzoo.catalogue import BACKBONES, COCO, DETECTORS, IMAGENET, OURS, licences
from detzoo.config import folder
from detzoo.detectors import DETECTORS as BUILT
from detzoo.weights.published import published
from detzoo.workflow import catalogue as listing

ALL = [*DETECTORS.values(), *BACKBONES.values()]


def names(group: str) -> set[str]:
    where = folder("conf") / group
    return {p.relative_to(where).with_suffix("").as_posix() for p in where.rglob("*.yaml")}


def test_every_detector_and_backbone_has_its_entry_and_no_other() -> None:
    assert set(DETECTORS) == names("detector") == set(BUILT)
    assert set(BACKBONES) == names("backbone")


def test_every_entry_says_what_a_reader_must_know() -> None:
    for entry in ALL:
        assert entry.kind in ("detector", "peer", "backbone") and entry.code.strip()
        for weights in entry.weights:
            parts = (weights.name, weights.saw, weights.licence, weights.data)
            assert all(part.strip() for part in parts)
            assert weights.source.startswith("https://")
            if weights.meta:
                get_weight(weights.meta)  # raises for a name that torchvision does not have


def test_every_published_start_is_listed_with_its_licence() -> None:
    starts = {name: one for name in BUILT if (one := published(name)) is not None}
    assert set(starts) == {
        *("faster_rcnn", "retinanet", "ssd", "fcos", "cornernet", "centernet"),
        *(f"torchvision/{kind}" for kind in ("faster_rcnn", "retinanet", "ssd", "fcos")),
    }
    for name, one in starts.items():
        files = {
            w.name if w.meta is None else Path(get_weight(w.meta).url).name
            for w in DETECTORS[name].weights
        }
        assert one.file in files
        found = licences({"label": f"{name} start", "start": {"kind": "coco"}})
        assert found["weights"].startswith("none stated") and found["data"] == COCO


def test_a_pretrained_backbone_s_licence_is_its_publisher_s() -> None:
    """timm says licence and tag of the weights that it loads by default."""
    for name in names("backbone"):
        node = yaml.safe_load((folder("conf") / "backbone" / f"{name}.yaml").read_text())
        if "pretrained" not in node or name == "resnet10t_half":  # whose channels none have
            continue
        found = licences({"detector": {"backbone": {**node, "pretrained": True}}})["weights"]
        (weights,) = BACKBONES[name].weights
        assert found == weights.licence and found != "not known here"
        if weights.name.startswith("timm/"):
            theirs = timm.get_pretrained_cfg(node["name"])
            assert weights.name == theirs.hf_hub_id and found.lower() == theirs.license


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, (OURS, "your own", "yours alone")),
        (
            {"detector": {"_target_": "detzoo.detectors.TorchvisionDetector"}},
            ("Apache-2.0, torchvision BSD-3-Clause", "your own", "yours alone"),
        ),
        (
            {
                "detector": {
                    "backbone": {
                        "_target_": "detzoo.nn.Backbone",
                        "name": "resnet18",
                        "pretrained": True,
                    }
                }
            },
            ("Apache-2.0, timm Apache-2.0", "Apache-2.0", IMAGENET),
        ),
        (
            {"label": "ssd", "start": {"kind": "coco"}},
            (OURS, DETECTORS["ssd"].weights[0].licence, COCO),
        ),
        (
            {"detector": {"backbone": {"weights": "a.pth"}}},
            (OURS, "as of the file or run it began with", "likewise"),
        ),
        ({"detector": 3, "start": "x", "label": None}, (OURS, "your own", "yours alone")),
    ],
)
def test_licences_of_a_run(config: dict, expected: tuple[str, str, str]) -> None:
    assert tuple(licences(config).values()) == expected


def test_the_list_fits_a_terminal_and_counts_what_it_lists() -> None:
    found = listing.catalogue(classes=2)
    assert max(map(len, found.text().splitlines())) <= 80
    rows = json.loads(replace(found, form="json").text())
    assert {row["name"] for row in rows} == {*DETECTORS, *BACKBONES}
    faster = next(row for row in rows if row["name"] == "faster_rcnn")
    assert faster["figure"] == "COCO AP 37" and faster["parameters"] > 1e7
    with pytest.raises(ValueError, match="table, csv, json"):
        listing.catalogue(form="xml")
