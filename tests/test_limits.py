"""Settings that ask for more than a machine has are refused before memory is taken."""

from __future__ import annotations

import resource
from typing import Any

import pytest
import torch
import yaml

import detzoo
from detzoo.data.resize import Letterbox, ShortestSide, Stretch
from detzoo.limits import check_numbers, outline
from detzoo.run_config import read_run

BACKBONE = {"_target_": "detzoo.nn.Backbone", "name": "resnet10t", "pretrained": False}
CENTERNET = {
    "_target_": "detzoo.detectors.CenterNet",
    "backbone": BACKBONE,
    "num_classes": 2,
}
HOURGLASS = {"_target_": "detzoo.nn.Hourglass"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"head_channels": 10**9}, "detector.head_channels is 1,000,000,000; no setting"),
        ({"head_channels": 10**300}, "detector.head_channels is of many digits; no setting"),
        ({"num_classes": 10**6, "head_channels": 8000}, "has more than 4,000,000,000 weights"),
        ({"backbone": HOURGLASS | {"stacks": 10**9}}, "backbone.stacks is 1,000,000,000"),
        ({"backbone": HOURGLASS | {"stacks": 10**6}}, "has more than"),
        ({"backbone": BACKBONE | {"options": {"layers": [1] * 10_001}}}, "a list of 10,001"),
    ],
)
def test_a_detector_beyond_any_machine_is_refused(change: dict[str, Any], told: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="detector") as error:
        outline({**CENTERNET, **change}, "config.yaml")
    assert told in str(error.value) and str(error.value).startswith("config.yaml: detector")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KB


def test_what_people_train_is_within_and_nothing_stays_behind() -> None:
    assert all(p.is_meta for p in outline(CENTERNET).parameters())
    check_numbers({"a": [1, 2.5, "x", None, True, {"b": 10**6}]}, "detector")
    torch.nn.Linear(1, 1)
    from torch.nn.modules import module

    assert not module._global_parameter_registration_hooks
    assert not module._global_module_registration_hooks


@pytest.mark.parametrize(
    "make",
    [
        lambda: Letterbox(10**9),
        lambda: Stretch([2, 10**8]),
        lambda: ShortestSide(8000, 10**6),
        lambda: Letterbox(10**400),
    ],
)
def test_pixels_beyond_any_machine_are_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="the network sees at most 34 megapixels"):
        make()


@pytest.mark.parametrize("size", [1333, 4096])
def test_pixels_that_people_use(size: int) -> None:
    Letterbox(size), Stretch(size), ShortestSide(size, 2 * size)


@pytest.mark.parametrize(
    ("runtime", "told"),
    [
        ({"threads": 10**9}, "runtime.threads is 1e+09; it lies between 0 and 4,096"),
        ({"workers": -1}, "runtime.workers is -1; it lies"),
    ],
)
def test_a_run_asks_for_no_more_threads_than_a_machine_has(tmp_path, runtime, told) -> None:
    settings = {"detector": CENTERNET, "resize": {"_target_": "detzoo.data.Stretch", "size": 64}}
    settings |= {"classes": ["a", "b"], "runtime": runtime}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(ValueError, match="config") as error:
        read_run(tmp_path)
    assert told in str(error.value)


def test_loading_a_run_that_asks_for_too_much_names_its_file(tmp_path) -> None:
    detector = {"_target_": "detzoo.detectors.RetinaNet", "backbone": BACKBONE, "num_classes": 2}
    detector["channels"] = 10**5
    settings = {"detector": detector, "classes": ["a", "b"]}
    settings["resize"] = {"_target_": "detzoo.data.Stretch", "size": 64}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    (tmp_path / "checkpoint.pt").touch()
    with pytest.raises(ValueError, match=r"config.yaml: detector.* has more than"):
        detzoo.load(tmp_path)
