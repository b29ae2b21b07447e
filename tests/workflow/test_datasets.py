"""data=auto on the command line: when it is chosen, what it prints, what a run keeps of it."""

import json

import pytest
import yaml
from hydra import compose, initialize_config_dir

import detzoo
from data import layouts
from detzoo.cli import main
from detzoo.config import folder, plain
from detzoo.workflow.datasets import CONFIGS, resolved, with_auto
from detzoo.workflow.settings import directory, settings_of


@pytest.mark.parametrize(
    ("config", "arguments", "auto"),
    [
        ("check", ["data.root=x"], True),
        ("train", ["seed=1", "++data.root=x", "data.classes=[a]"], True),
        ("bench", ["data.root=x", "name=mine"], True),
        ("check", ["data.root=x", "data=coco"], False),
        ("check", ["data=shapes", "data.root=x"], False),
        ("train", ["experiment=aquarium", "data.root=x"], False),
        ("train", ["data.root=x", "data._target_=detzoo.data.Coco"], False),
        ("check", ["splits=[val]"], False),
        ("evaluate", ["data.root=x"], False),
        ("as_published", ["data.root=x"], True),
        ("tune", ["data.root=x"], True),
        ("untrained", ["data.root=x"], True),
    ],
)
def test_auto_is_chosen_where_the_root_alone_is_given(config, arguments, auto):
    taken = with_auto(config, arguments)
    assert taken == (["data=auto", *arguments] if auto else arguments)


def test_every_configuration_with_a_data_set_has_auto():
    """Forgotten, a command draws `shapes` into the user's folder and trains on them."""
    configs = [path.stem for path in folder("conf").glob("*.yaml")]
    having = {name for name in configs if "data" in defaults(name)}
    assert having - {"training"} == CONFIGS, "training is included by others, and no verb's"


def defaults(name):
    """The groups that a configuration chooses, in those that it includes too."""
    found = set()
    text = (folder("conf") / f"{name}.yaml").read_text(encoding="utf-8")
    for entry in yaml.safe_load(text).get("defaults", []):
        found |= set(entry) if isinstance(entry, dict) else set()
        found |= defaults(entry) if isinstance(entry, str) and entry != "_self_" else set()
    return found


@pytest.mark.parametrize(
    ("verb", "more"),
    [
        ("tune", []),
        ("bench", ["tune=8"]),
        ("speed", ["weights=none"]),
        ("evaluate", ["train=none", "detector=retinanet", "start=scratch"]),
    ],
)
def test_a_root_is_never_taken_for_shapes(verb, more):
    settings = detzoo.settings(verb, "data.root=DIR", *more)
    assert settings["data"]["_target_"] == "detzoo.data.Auto"


def node(*overrides):
    with initialize_config_dir(str(folder("conf")), version_base="1.3"):
        return plain(compose("check", list(overrides)))["data"]


@pytest.mark.parametrize(
    ("layout", "by_hand"),
    [
        (layouts.roboflow_coco, ["data=coco"]),
        (layouts.roboflow_yolo, ["data=yolo_txt"]),
        (layouts.voc_devkit, ["data=voc"]),
        (
            layouts.labelimg_voc,
            ["data=voc", "data.first_pixel=0", "data.holdout.val=0.1", "data.holdout.test=0.2"],
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_kept_is_what_one_would_have_named(tmp_path, layout, by_hand, capsys):
    layout(tmp_path)
    named = node(*by_hand, f"data.root={tmp_path}")
    assert resolved(named) == named and not capsys.readouterr().out
    found = resolved(node("data=auto", f"data.root={tmp_path}"))
    assert found | {"root": named["root"]} == named
    assert capsys.readouterr().out.startswith("found: ")


def test_a_run_directory_is_the_same_as_if_the_format_had_been_named(tmp_path):
    layouts.roboflow_coco(tmp_path)
    paths = []
    for data in ("auto", "coco"):
        with initialize_config_dir(str(folder("conf")), version_base="1.3"):
            config = compose("train", [f"data={data}", f"data.root={tmp_path}"])
        settings = settings_of(config)
        assert settings["data"]["_target_"] == "detzoo.data.Coco"
        paths.append(directory(settings, "runs"))
    assert paths[0] == paths[1]


def test_what_is_given_stays(tmp_path):
    layouts.labelimg_voc(tmp_path)
    given = ["data.holdout.test=0.4", "++data.first_pixel=1", "data.name=mine"]
    found = resolved(node("data=auto", f"data.root={tmp_path}", *given))
    assert found["holdout"] == {"val": 0.1, "test": 0.4}
    assert found["first_pixel"] == 1 and found["name"] == "mine"


def test_check_by_the_root_alone(tmp_path, capsys):
    layouts.kaggle_yolo(tmp_path / "set")
    assert main(["check", f"data.root={tmp_path}", f"json={tmp_path / 'check.json'}"]) == 0
    out = capsys.readouterr().out
    assert "found: YOLO text files" in out and "no errors" in out
    assert max(map(len, out.replace(str(tmp_path), "").splitlines())) <= 80
    assert json.loads((tmp_path / "check.json").read_text())["splits"]["train"]["images"] == 4


def test_what_is_no_data_set_is_one_line(tmp_path, capsys):
    for root, says in (("https://a.b/c.zip", "is a URL"), (str(tmp_path), "no annotations of")):
        for argument in (f"data.root={root}", root):
            assert main(["check", argument]) == 1
            assert says in capsys.readouterr().err
