"""config.yaml of a run: completed, checked, and kept to its own folder."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from detzoo.data import Shapes
from detzoo.run_config import SCORED, copy_proposer, read_run

SETTINGS: dict[str, Any] = {
    "label": "ssd",
    "name": "default",
    "seed": 3,
    "detector": {
        "_target_": "detzoo.detectors.SSD",
        "num_classes": 2,
        "backbone": {"_target_": "detzoo.nn.Backbone", "pretrained": True, "weights": "/x.pth"},
    },
    "data": {
        "_target_": "detzoo.data.Coco",
        "root": "/pictures",
        "splits": {"test": "a/test.json"},
    },
    "resize": {"_target_": "detzoo.data.Letterbox", "size": 64},
    "recipe": {"images_seen": 9},
    "runtime": {"device": "cpu", "threads": 1, "precision": "fp32", "channels_last": False},
    "classes": ["cat", "dog"],
}


def written(run: Path, *changes: tuple[str, Any], without: str = "") -> Path:
    """SETTINGS with values set, or one taken out, at dotted places."""
    settings = copy.deepcopy(SETTINGS)
    for place, value in [*changes, *([(without, None)] if without else [])]:
        *path, last = place.split(".")
        inner = settings
        for key in path:
            inner = inner.setdefault(key, {})
        inner[last] = value
        if place == without:
            del inner[last]
    run.mkdir(exist_ok=True)
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    return run


def test_no_backbone_is_downloaded_or_read(tmp_path: Path) -> None:
    backbone = read_run(written(tmp_path), SCORED)["detector"]["backbone"]
    assert backbone == {"_target_": "detzoo.nn.Backbone", "pretrained": False, "weights": None}


@pytest.mark.parametrize(
    ("missing", "value"),
    [
        ("runtime.channels_last", "auto"),
        ("runtime.precision", "auto"),
        ("runtime.device", "auto"),
        ("runtime.threads", None),
        ("runtime", {"channels_last": "auto", "workers": 0}),
        ("seed", 0),
        ("name", "default"),
    ],
)
def test_missing_settings_of_older_versions_have_the_old_defaults(
    tmp_path: Path, missing: str, value: Any
) -> None:
    found: Any = read_run(written(tmp_path, without=missing), SCORED)
    for key in missing.split("."):
        found = found[key]
    assert found == value or found.items() >= value.items()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("classes", 5), "classes is 5; it must be a list of names"),
        (("classes", {"a": 1}), "it must be a list of names"),
        (("classes", ["cat", 3]), "the class 3 is not a name"),
        (("classes", ["cat"]), "num_classes is 2, and there are 1 classes"),
        (("runtime", "cpu"), "runtime is 'cpu'; it must be a mapping"),
        (("recipe", [1]), "recipe is .1.; it must be a mapping"),
        (("recipe", {"lr": 1}), "recipe lacks images_seen"),
        (("data", None), "data has no _target_"),
        (("detector", 3), "detector has no _target_"),
        (("label", ["\x1b"]), r"label is \['\\x1b'\]; it must be a name"),
        (("seed", "one"), "seed is 'one'; it must be a number"),
        (("seed", True), "seed is True"),
        (("detector._target_", "detzoo.data.Coco"), "the target 'detzoo.data.Coco' is refused"),
        (("data._target_", "os.system"), "the target 'os.system' is refused"),
        (("data.root", 3), "data.root is 3; it must be a folder"),
        (("data.splits.test", "/etc/passwd"), "data.splits is /etc/passwd, outside of data.root"),
        (("data.splits.test", "../x"), "outside of data.root"),
        (("data.images", "~/x"), "data.images is ~/x, outside of data.root"),
        (("label", "${oc.env:HOME}"), "holds an interpolation"),
    ],
)
def test_invalid_content_is_refused_with_the_file(
    tmp_path: Path, change: tuple[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        read_run(written(tmp_path, change), SCORED)
    assert str(caught.value).startswith(f"{tmp_path / 'config.yaml'}: ")


@pytest.mark.parametrize("part", SCORED)
def test_missing_parts_are_named(tmp_path: Path, part: str) -> None:
    with pytest.raises(ValueError, match=f"config.yaml lacks {part}"):
        read_run(written(tmp_path, without=part), SCORED)


def test_the_data_set_may_have_moved(tmp_path: Path) -> None:
    inside = written(tmp_path, ("data.splits.test", "/new/place/test.json"))
    assert read_run(inside, SCORED, "/new/place")["data"]["root"] == "/new/place"
    with pytest.raises(ValueError, match=r"outside of data\.root"):
        read_run(inside, SCORED, "/new/other")


def test_a_run_draws_no_pictures(tmp_path: Path) -> None:
    root = tmp_path / "data"
    small = {"train": 1, "val": 1, "test": 1, "size": 32, "min_size": 8}
    data = {"_target_": "detzoo.data.Shapes", "root": str(root), **small}
    run = written(tmp_path / "run", ("data", data))
    with pytest.raises(ValueError, match="is not there, where the run found its data set"):
        read_run(run, SCORED)
    assert read_run(run, data=False)["data"] == data
    Shapes(root, **small).write()
    assert read_run(run, SCORED)["data"] == data


def test_regions_come_from_the_run_itself(tmp_path: Path) -> None:
    other = tmp_path / "faster"
    other.mkdir()
    for name in ("config.yaml", "checkpoint.pt"):
        (other / name).write_text(name)
    node = {"_target_": "detzoo.api.RegionProposals", "run": str(other)}
    run = written(tmp_path / "fast", ("detector.proposer", node))
    with pytest.raises(ValueError, match=r"its regions come from .*mkdir .*cp "):
        read_run(run)
    copy_proposer(yaml.safe_load((run / "config.yaml").read_text()), run)
    kept = run / "proposer"
    assert read_run(run)["detector"]["proposer"]["run"] == str(kept)
    assert (kept / "checkpoint.pt").samefile(other / "checkpoint.pt")
    (other / "checkpoint.pt").unlink()
    assert (kept / "checkpoint.pt").read_text() == "checkpoint.pt"
