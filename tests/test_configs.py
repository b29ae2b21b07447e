"""Every file in conf/ composes, and what it describes can be built."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from detzoo.api import list_detectors
from detzoo.cli import VERBS
from detzoo.cli.app import register_experiments
from detzoo.cli.sweep import register
from detzoo.config import build, folder, plain
from detzoo.data import Proposer, Resize, Source
from detzoo.detector import Detector
from detzoo.engine.recipe import Recipe
from detzoo.nn import Backbone

CONF = folder("conf")
FILES = sorted(path.relative_to(CONF) for path in CONF.rglob("*.yaml"))
GROUPED = [path for path in FILES if len(path.parts) > 1]


def choices(group: str) -> list[str]:
    """faster_rcnn, torchvision/fcos, ... of conf/detector."""
    files = (path for path in GROUPED if path.parts[0] == group)
    return ["/".join(path.with_suffix("").parts[1:]) for path in files]


@pytest.fixture(scope="module", autouse=True)
def hydra() -> Iterator[None]:
    register_experiments()
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def train(*overrides: str) -> DictConfig:
    return compose("train", list(overrides))


@pytest.mark.parametrize("path", FILES, ids=str)
def test_every_file_composes(path: Path) -> None:
    if len(path.parts) == 1:
        compose(path.stem)
    else:
        where = 2 if path.parts[0] == "hydra" else 1  # hydra/launcher is a group
        group, choice = (
            "/".join(p) for p in (path.parts[:where], path.with_suffix("").parts[where:])
        )
        verb = "bench" if group == "preset" else "train"
        assert compose(verb, [f"{group}={choice}"])


def test_every_verb_has_its_file_and_its_help() -> None:
    for verb in VERBS:
        config = compose(verb, return_hydra_config=True)
        text = config.hydra.help.header
        assert text.startswith(f"detzoo {verb} - "), text
        assert config.hydra.help.app_name == f"detzoo {verb}"
        assert config.hydra.output_subdir is None and config.hydra.run.dir == "."


def test_a_laptop_is_what_bench_takes_itself_for() -> None:
    assert compose("bench", ["preset=laptop"]) == compose("bench")


@pytest.mark.parametrize("name", ["gpu", "full"])
def test_a_preset_sets_sizes_and_budgets_and_makes_up_nothing(name: str) -> None:
    plainly, changed = plain(compose("bench")), plain(compose("bench", [f"preset={name}"]))
    differing = {key for key in changed if changed[key] != plainly.get(key)}
    assert set(changed) == set(plainly) and {"recipe", "speed", "backbone"} <= differing
    assert differing - {"recipe", "speed", "backbone", "resize"} == {
        *("seeds", "channels", "head_width", "detector"),
    }
    for part in ("recipe", "speed", "backbone", "resize"):
        assert set(changed[part]) == set(plainly[part])


@pytest.mark.parametrize("path", sorted(folder("experiments").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_experiment_composes(path: Path) -> None:
    plainly, changed = compose("bench"), compose("bench", [f"experiment={path.stem}"])
    assert changed != plainly
    assert set(changed) == set(plainly), "an experiment overrides settings, it makes up none"


@pytest.mark.parametrize("name", choices("detector"))
def test_every_detector_is_built(name: str) -> None:
    config = plain(train(f"detector={name}", "backbone=resnet10t"))
    detector = build(config["detector"], num_classes=3)
    assert isinstance(detector, Detector)
    assert detector.num_classes == 3
    assert config["label"] == name
    assert config["recipe"]["lr"] == config["lr"] > 0
    decoding = config["detector"]["score_threshold"], config["detector"]["max_detections"]
    assert decoding == (0.001, 100), "the protocol's, one for all"
    assert name in list_detectors()


def test_every_detector_has_a_config() -> None:
    assert sorted(choices("detector")) == list_detectors()


@pytest.mark.parametrize("name", choices("backbone"))
def test_every_backbone_is_built(name: str) -> None:
    node = plain(train(f"backbone={name}"))["backbone"]
    with torch.device("meta"):  # Hourglass-104 has 188 million weights
        backbone = build(node)
    called = node["name"] if isinstance(backbone, Backbone) else type(backbone).__name__.lower()
    assert name.startswith(called) or node["name"].startswith(f"{name}_patch16")
    assert len(backbone.channels) == len(backbone.strides) > 0
    assert len(backbone.mean) == len(backbone.std) == 3


@pytest.mark.parametrize("detector", ["centernet", "cornernet"])
def test_the_hourglass_needs_no_upsampling(detector: str) -> None:
    node = plain(train(f"detector={detector}", "backbone=hourglass_small"))["detector"]
    assert build(node, num_classes=3).neck.channels == 32


@pytest.mark.parametrize(
    ("group", "choice", "kind"),
    [
        *(("recipe", choice, Recipe) for choice in choices("recipe")),
        *(("resize", choice, Resize) for choice in choices("resize")),
        *(("augment", choice, object) for choice in choices("augment")),
    ],
)
def test_every_part_of_the_training_is_built(group: str, choice: str, kind: type) -> None:
    assert isinstance(build(plain(train(f"{group}={choice}"))[group]), kind)


@pytest.mark.parametrize("name", ["centernet", "faster_rcnn", "yolov3"])
def test_a_run_of_before_there_was_upsample_by_is_built_as_it_was(name: str) -> None:
    node = plain(train(f"detector={name}", "backbone=resnet10t_half"))["detector"]
    assert node["upsample_by"] is None
    built = []
    for missing in ((), ("upsample_by",)):
        torch.manual_seed(0)
        settings = {key: value for key, value in node.items() if key not in missing}
        built.append(build(settings, num_classes=3).state_dict())
    assert list(built[0]) == list(built[1])
    assert all(torch.equal(a, b) for a, b in zip(*(s.values() for s in built), strict=True))


def test_every_paper_has_a_recipe() -> None:
    papers = {"rcnn", "fast_rcnn", "faster_rcnn", "yolo", "yolov3", "ssd", "retinanet"}
    papers |= {"cornernet", "centernet", "fcos", "detr"}
    assert papers <= {name.split("/")[1] for name in choices("recipe") if "/" in name}


# What a detector's defaults are not, and its paper is
PAPERS = {
    "rcnn": {"crop": 224, "context": 16, "head_width": 4096, "dropout": 0.5},
    "fast_rcnn": {"neck": "one_map", "region_features": "pool", "roi_background": 0.1},
    "faster_rcnn": {"edge_anchors": False, "post_nms": [2000, 300], "box_beta": 1.0},
    "retinanet": {"force_match": False, "box_beta": 0.11, "tower_norm": False},
    "cornernet": {"max_pairs": 1000, "max_distance": 0.5, "pull_weight": 0.1},
    "detr": {"two_stage": False, "denoising": 0},
}


@pytest.mark.parametrize("name", PAPERS)
def test_a_recipe_sets_what_is_the_paper_s(name: str) -> None:
    detector = plain(train(f"recipe=paper/{name}"))["detector"]
    for key, value in PAPERS[name].items():
        assert detector[key] == value, key
    if name.endswith("rcnn"):
        assert detector["backbone"]["_target_"] == "detzoo.nn.VGG16Conv5"
        assert detector["backbone"]["pool5"] == (name == "rcnn")


@pytest.mark.parametrize("name", [name for name in choices("recipe") if "/" in name])
def test_every_paper_has_its_detector_in_its_own_form(name: str) -> None:
    config = plain(train(f"recipe={name}"))
    assert config["label"] == name.split("/")[1]
    if "pretrained" in config["backbone"]:
        assert config["detector"]["backbone"].pop("pretrained") == (config["label"] != "yolo")
    with torch.device("meta"):  # as large as the papers' own, and nothing is downloaded
        detector = build(config["detector"], num_classes=80)
    assert isinstance(detector, Detector)
    published = {"cornernet": 201_035_212, "centernet": 191_284_008}.get(config["label"])
    parameters = sum(parameter.numel() for parameter in detector.parameters())
    assert published in (None, parameters), "Hourglass-104's, as the authors' code prints them"
    assert config["backbone"] != plain(train())["backbone"]
    assert config["recipe"] != plain(train(f"detector={config['label']}"))["recipe"]


@pytest.mark.parametrize("name", ["grid", "selective_search", "edge_boxes"])
def test_every_proposer_is_built_and_reaches_its_detectors(name: str) -> None:
    config = plain(train(f"proposals={name}", "detector=fast_rcnn"))
    assert isinstance(build(config["proposals"]), Proposer)
    assert config["detector"]["proposer"] == config["proposals"]


@pytest.mark.parametrize("name", choices("data"))
def test_every_data_set_is_built(name: str, tmp_path: Path) -> None:
    node = plain(train(f"data={name}", f"data.root={tmp_path}"))["data"]
    assert node["name"] == name
    assert isinstance(build(node), Source)
