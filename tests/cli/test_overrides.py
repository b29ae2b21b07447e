"""An override is taken or refused in a sentence that names what there is, before data are read."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from detzoo.cli import VERBS, main, speed
from detzoo.cli.app import app, register_experiments
from detzoo.cli.overrides import Refused, check_overrides, split
from detzoo.cli.positional import list_setting, split_paths
from detzoo.cli.schema import Schema, choices_of


@pytest.fixture(scope="module", autouse=True)
def registered() -> None:
    register_experiments()


def composed(verb: str, *arguments: str, **options: object) -> dict:
    """The configuration that the verb's task gets."""
    found = {}

    @app(verb, **options)  # type: ignore[arg-type]
    def run(config: DictConfig) -> None:
        found.update(OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]

    assert run(list(arguments)) == 0
    return found


@pytest.mark.parametrize(
    ("verb", "argument", "said"),
    [
        ("train", "sead=1", "train has no setting 'sead'; did you mean seed?"),
        ("train", "recipie.images_seen=3", "train has no recipie.images_seen; use recipe.images_s"),
        ("train", "recipe.image_seen=3", "recipe has no 'image_seen'; did you mean recipe.images_"),
        ("train", "data.trian=3", "data has no 'trian'; did you mean data.train?"),
        ("train", "detector=retinnet", "there is no detector 'retinnet'; did you mean retinanet?"),
        ("train", "resize=leterbox", "there is no resize 'leterbox'; did you mean letterbox?"),
        ("train", "experiment=sead", "there is no experiment 'sead'; did you mean seeds?"),
        (
            "train",
            "detector.size_wait=1",
            "detector has no 'size_wait'; did you mean detector.size_",
        ),
        ("train", "detector.gamma=1", "centernet has no gamma, which fcos and retinanet have"),
        ("train", "detector.backbone.norm=gn", "use backbone.norm=gn"),
        ("train", "backbone.nrom=gn", "backbone has no 'nrom'; did you mean backbone.norm?"),
        ("train", "runtime.thread=2", "runtime has no 'thread'; did you mean runtime.threads?"),
        ("train", "detector.num_classes=2", "data.classes=[...] names them"),
        ("train", "+weights=a.pth", "train has no weights; use backbone.weights=a.pth"),
        ("train", "imgsz=640", "train has no imgsz; use resize.size=640"),
        ("train", "batch=8", "train has no batch; use recipe.batch_size=8"),
        ("train", "device=cpu", "train has no device; use runtime.device=cpu"),
        ("train", "runtime={thread:1}", "there is no runtime '{thread:1}'"),
        ("train", "anchors=[[1,2", "anchors=[[1,2 cannot be read: lists are [a,b]"),
        ("train", "backbone=resnet34", "use backbone.name=resnet34"),
        ("train", "ssd", "ssd: did you mean detector=ssd?"),
        ("train", "seed", "seed: a setting is KEY=VALUE: seed=..."),
        ("train", "nonsense", "train takes settings, KEY=VALUE; 'nonsense' is none"),
        ("train", "seed=0,1", "seed is '0,1'; it takes one value, and several are a multirun"),
        ("train", "detector=ssd,yolo", "detzoo train -m detector=ssd,yolo"),
        ("train", "detector=[ssd,yolo]", "or detectors=[ssd,yolo] of detzoo bench"),
        ("bench", "detectors=[retina]", "detectors: there is no detector 'retina'; did you mean"),
        ("bench", "detectors=sds", "detectors: there is no detector 'sds'; did you mean ssd?"),
        ("bench", "preset=lapptop", "there is no preset 'lapptop'; did you mean laptop?"),
        (
            "bench",
            "detector.gamma=1",
            "rcnn has no detector.gamma; retinanet has: train them apart",
        ),
        ("bench", "speed.second=1", "speed has no 'second'; did you mean speed.seconds?"),
        ("evaluate", "recipe.lr=1", "evaluate has no setting 'recipe.lr'"),
        ("evaluate", "batchsize=1", "evaluate has no batchsize; use batch_size=1"),
        ("check", "root=x", "check has no root; use data.root=x"),
        ("predict", "conf=0.5", "predict has no conf; use score=0.5"),
        ("predict", "score=high", "score is 'high'; it must be a number"),
        ("oracle", "epochs=3", "oracle has no epochs: it trains nothing"),
    ],
)
def test_a_setting_that_is_not_there_names_the_one_that_is(verb, argument, said) -> None:
    with pytest.raises(Refused) as caught:
        check_overrides(verb, [argument])
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_speed_refuses_what_only_a_training_has_and_names_its_own(capsys) -> None:
    assert main(["speed", "runs=x", "resize.size=640"]) == 1
    said = capsys.readouterr().err
    assert "no resize.size without weights=none; use size=640" in said
    assert main(["speed", "detector=ssd"]) == 1
    assert "has no detector without weights=none" in capsys.readouterr().err
    assert main(["speed", "weights=some"]) == 1
    assert "weights is 'some'; it must be none" in capsys.readouterr().err
    assert speed.config_name(["weights=none"]) == "untrained"
    taken = check_overrides("speed", ["weights=none", "resize.size=640"], config="untrained")
    assert taken == ["++weights=none", "++resize.size=640"]


def test_every_kind_of_verb_has_its_unknown_settings_refused(capsys) -> None:
    for verb in VERBS:
        assert main([verb, "+no_such_thing=3"]) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"detzoo {verb}: {verb} has no setting 'no_such_thing'")
        assert said.count("\n") == 1


def test_plus_is_taken_where_the_key_exists() -> None:
    voc = composed("check", "data=voc", "data.root=x", "+data.folds=5", "++data.fold=1")["data"]
    assert (voc["folds"], voc["fold"]) == (5, 1)
    assert (
        composed("train", "detector=yolo", "+detector.predictors=3")["detector"]["predictors"] == 3
    )
    assert composed("train", "~backbone.norm")["backbone"].get("norm") is None


def test_the_keys_of_a_data_set_are_checked(capsys) -> None:
    data = ["data=coco", "data.root=x"]
    config = composed("check", *data, "data.splits.train=1.json", "data.holdout.val=0.2")
    assert config["data"]["splits"]["train"] == "1.json" and config["data"]["holdout"]["val"] == 0.2
    for key, near in (("splits.tets", "splits.test"), ("holdot.val", "holdout"), ("alow", "allow")):
        with pytest.raises(Refused, match=near):
            check_overrides("check", [*data, f"data.{key}=0.1"])


def test_epochs_are_images_seen(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"recipe\.images_seen: 3 epochs of 800 images are 2400$"):
        check_overrides("train", ["+epochs=3"])
    with pytest.raises(Refused, match=r"100 steps of 4 images are 400$"):
        check_overrides("train", ["max_steps=100"])
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4], "area": 16, "iscrowd": 0}
    images = [{"id": i, "file_name": f"{i}.png", "width": 8, "height": 8} for i in range(1, 6)]
    for image in images:
        Image.new("RGB", (8, 8), (image["id"], 0, 0)).save(tmp_path / image["file_name"])
    truth = {"images": images, "annotations": [box], "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "train.json").write_text(json.dumps(truth))
    data = ["data=coco", f"data.root={tmp_path}"]
    with pytest.raises(Refused, match=r"2 epochs of 5 images are 10$"):
        check_overrides("train", [*data, "epochs=2"])
    with pytest.raises(Refused, match=r"2 epochs are 2 times the number of training images$"):
        check_overrides("train", ["data=coco", "data.root=/nowhere", "epochs=2"])


def test_text_stays_text_and_whole_floats_are_counts() -> None:
    config = composed("train", "name=2024_01_05", "label=1e3", "recipe.images_seen=2e4", "seed=1.0")
    assert (config["name"], config["label"]) == ("2024_01_05", "1e3")
    assert config["recipe"]["images_seen"] == 20000 and config["seed"] == 1
    assert composed("check", "data=coco", "data.root=010")["data"]["root"] == "010"
    assert composed("check", "data=yolo_txt", "data.root=x", "data.classes=cat")["data"][
        "classes"
    ] == ["cat"]
    bench = composed("bench", "detectors=ssd", "seeds=0")
    assert (bench["detectors"], bench["seeds"]) == (["ssd"], [0])
    size = composed("train", "resize.size=[96,128.0]")["resize"]["size"]
    assert size == [96, 128]


def test_interpolations_and_hydras_functions_still_work() -> None:
    config = composed("train", "lr=0.5", "recipe.lr=${lr}", "label=x_${seed}")
    assert config["recipe"]["lr"] == 0.5 and config["label"] == "x_0"
    assert check_overrides("train", ["detector=glob(*)", "seed=range(0,3)"], multirun=True) == [
        "detector=glob(*)",
        "++seed=range(0,3)",
    ]
    assert check_overrides("train", ["lr=1e-3,2", "label=a,true"], multirun=True) == [
        "++lr=0.001,2",
        "++label=a,'true'",
    ]
    with pytest.raises(Refused, match=r"ssd has no detector\.gamma; retinanet has"):
        check_overrides("train", ["detector=retinanet,ssd", "detector.gamma=1"], multirun=True)


def test_every_setting_of_every_file_and_experiment_is_one() -> None:
    for name in choices_of("experiment"):
        schema = Schema("bench", [f"experiment={name}"])
        assert all(schema.find(key) for key in schema.keys), name
    for config in (*VERBS, "untrained"):
        schema = Schema(config)
        assert schema.keys and all(schema.find(key) for key in schema.keys), config


def test_the_keys_of_a_mapping_are_settings_too() -> None:
    data = ["data=coco", "data.root=x"]
    with pytest.raises(
        Refused, match=r"data\.splits has no 'tset'; did you mean data\.splits\.test"
    ):
        check_overrides("check", [*data, "data.splits={tset:a}"])
    assert check_overrides("check", [*data, "data.splits={test:a}"])[-1] == "++data.splits={test:a}"
    assert check_overrides("train", ["rates={ssd:0.1}", "rates.yolo=0.2"])[-1] == "++rates.yolo=0.2"


@pytest.mark.parametrize(
    ("verb", "given", "said"),
    [
        ("train", ["detector=ssd", "crop=32"], "crop: ssd has no use for it; rcnn has"),
        (
            "train",
            ["detector=ssd", "proposals=edge_boxes"],
            "proposals: ssd has no use for it; fast_rcnn, rcnn have",
        ),
        ("bench", ["detectors=[ssd,yolo]", "cell=8", "crop=9"], "crop: ssd, yolo have no use"),
        ("bench", ["detectors=[ssd,yolo]", "grid_step=0.2"], "grid_step: ssd, yolo have no use"),
        (
            "train",
            ["detector=rcnn", "proposals=edge_boxes", "grid_step=0.2"],
            "grid_step: proposals=edge_boxes has no use for it; grid has",
        ),
        ("propose", ["proposals=edge_boxes", "grid_step=0.2"], "grid_step: proposals=edge_boxes"),
        ("speed", ["weights=none", "detector=ssd", "crop=9"], "crop: ssd has no use for it"),
    ],
)
def test_a_setting_that_nothing_has_a_use_for_is_refused(verb, given, said) -> None:
    config = "untrained" if verb == "speed" else None
    with pytest.raises(Refused, match=re.escape(said)):
        check_overrides(verb, given, config=config)


def test_a_setting_that_one_of_several_has_a_use_for_is_taken(capsys) -> None:
    check_overrides("bench", ["detectors=[ssd,rcnn]", "crop=32", "grid_step=0.5"])
    check_overrides("train", ["detector=glob(*)", "crop=32"], multirun=True)
    check_overrides("train", ["detector=ssd,rcnn", "crop=32"], multirun=True)
    check_overrides("train", ["detector=ssd", "detector.extra_channels=${crop}", "crop=32"])
    check_overrides("propose", ["grid_step=0.2"])
    check_overrides("check", ["data=coco"])
    assert capsys.readouterr().err == ""


def test_of_a_width_which_all_rows_share_it_is_said(capsys) -> None:
    check_overrides("train", ["detector=ssd", "head_width=16", "channels=16"])
    assert capsys.readouterr().err == "note: head_width has no effect on ssd\n"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("recipe.optimizer=adamm", "recipe.optimizer is 'adamm', which timm.optim does not know"),
        ("recipe.warmup=1", "recipe.warmup is 1"),
        ("backbone.name=resnet81", "backbone.name is 'resnet81', which timm does not know (resnet"),
        ("detector.box_loss=l2", "box_loss is 'l2'; choose one of l1, smooth_l1"),
    ],
)
def test_a_value_that_cannot_be_is_said_before_data_are_read(setting, said, capsys) -> None:
    assert main(["train", "data=coco", "data.root=/nowhere", setting]) == 1
    assert said in capsys.readouterr().err


def test_made_pages_are_ignored_and_kept_ones_are_not() -> None:
    root = Path(__file__).resolve().parents[2]
    ask = ["git", "-C", str(root), "check-ignore", "-q"]
    if not (root / ".git").exists():
        pytest.skip("no checkout")
    assert subprocess.run([*ask, "reports/shapes/index.html"], check=False).returncode == 0
    assert subprocess.run([*ask, "reports/kept/shapes/new.html"], check=False).returncode == 1


def test_flags_keep_their_values() -> None:
    arguments = ["--cfg", "job", "a=1", "-m", "~b", "x"]
    assert split(arguments) == (["--cfg", "job", "-m"], ["a=1", "~b", "x"])


def test_arguments_without_a_name(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a=b").mkdir()
    given = ["a=b", "runs/*", "seed=1", "~c", "+d=1", "/x=y/ce*", "hydra/launcher=joblib"]
    positional = ["a=b", "runs/*", "/x=y/ce*"]
    assert split_paths(given) == (positional, ["seed=1", "~c", "+d=1", "hydra/launcher=joblib"])
    assert list_setting("runs", ["a", "b c"], ["x=1"]) == ["x=1", "runs=[a,'b c']"]
    with pytest.raises(ValueError, match="name the runs in one way"):
        list_setting("runs", ["a"], ["runs=b"])


def test_the_nearest_verb_is_named(capsys: pytest.CaptureFixture) -> None:
    assert main(["trian"]) == 2
    assert capsys.readouterr().err.endswith("predict. Did you mean detzoo train?\n")


def positional(verb: str, arguments: Sequence[str]) -> list[str]:
    from importlib import import_module

    return import_module(f"detzoo.cli.{verb}").settings_from(list(arguments))


def test_a_run_and_images_by_position(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs/mine/a-1").mkdir(parents=True)
    Path("runs/mine/a-1/config.yaml").write_text("label: a\n")
    assert positional("predict", ["x.jpg", "runs/mine", "score=1"]) == [
        "score=1",
        "run=runs/mine",
        "images=[x.jpg]",
    ]
    assert positional("predict", ["run=r", "x y.jpg"]) == ["run=r", "images=['x y.jpg']"]
    assert positional("explain", ["runs/mine", "x y.jpg", "objects=1", "runs/m"]) == [
        "objects=1",
        "runs=[runs/mine,runs/m]",
        "images=['x y.jpg']",
    ]
    assert positional("explain", ["runs=[r]", "a.jpg"]) == ["runs=[r]", "images=[a.jpg]"]
    assert positional("explain", ["rnus/mine"]) == ["runs=[rnus/mine]"]  # named in the error
    assert positional("compare", ["a", "b*"]) == ["first=a", "second='b*'"]
    assert positional("compare", ["second=a", "b"]) == ["second=a", "first=b"]


@pytest.mark.parametrize(("written", "wanted"), [("0", 0), ("2", 2), ("auto", "auto")])
def test_workers_are_a_number_or_auto(written: str, wanted: object) -> None:
    found = composed("train", "detector=yolo", "data=shapes", f"runtime.workers={written}")
    assert found["runtime"]["workers"] == wanted
