"""What may be built from a configuration, and how what may not is refused."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from detzoo.config import TARGETS, build, folder, load_yaml, plain
from detzoo.data import Letterbox
from detzoo.data.augment import Flip

REFUSED = [
    "os.system",
    "builtins.eval",
    "subprocess.run",
    "hydra.utils.get_method",
    "detzoo.config.inspect.os.system",
    "detzoo.files.os.system",
    "detzoo.config.Path",
    "detzoo.config.build",
    "detzoo.files.write_text",
    "detzoo.data",
    "detzoo.data.Letterbox.describe",
    "detzoo.nowhere.Thing",
    "detzoo.data.Nothing",
    "detzooo.data.Letterbox",
    "torch.load",
    "torch.hub.load",
    "torch.nn.Linear",
    "torch.optim.SGD",
    "torchvision.models.resnet18",
    "timm.models.ResNet",
    "pandas.read_pickle",
    "shutil.copyfile",
    "runpy.run_path",
    "detzoo.data.source.Source",
    "detzoo.data.resize.Letterbox",
    "detzoo.detectors.retinanet.RetinaNet",
    "detzoo.nn.FPN",
    "detzoo.data.Letterbox.__init__",
    "detzoo.data.Letterbox ",
    "hydra.utils.instantiate",
    "torch.os.system",
    "torch.utils.data.DataLoader",
    "torchvision.io.read_file",
    "timm.create_model",
    "",
    None,
    3,
]


@pytest.mark.parametrize("target", REFUSED, ids=repr)
@pytest.mark.parametrize("deep", [False, True])
def test_what_is_no_class_of_ours_is_refused_before_anything_is_built(
    target: object, deep: bool, tmp_path: Path
) -> None:
    bad = {"_target_": target, "path": str(tmp_path / "written"), "text": "x"}
    node = {"_target_": "detzoo.data.Letterbox", "size": [{"inner": bad}]} if deep else bad
    where = r"resize\.size\[0\]\.inner" if deep else "resize"
    with pytest.raises(ValueError, match=rf"^{where}: ") as caught:
        build(node, "resize")
    assert repr(target) in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_class_from_elsewhere_is_refused_whatever_name_it_goes_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = type("Module", (torch.nn.Module,), {"__module__": "elsewhere.nets"})
    monkeypatch.setattr("detzoo.nn.Backbone", module)
    with pytest.raises(ValueError, match=r"detzoo\.nn\.Backbone' is refused"):
        build({"_target_": "detzoo.nn.Backbone"})


@pytest.mark.parametrize(
    ("node", "name", "said"),
    [
        ({"_target_": "detzoo.data.Coco", "root": "."}, "detector", "here detzoo.detectors.RCNN"),
        ({"_target_": "detzoo.detectors.SSD"}, "resize", "here detzoo.data.Letterbox"),
        (
            {"_target_": "detzoo.data.Letterbox", "size": {"_target_": "detzoo.data.Coco"}},
            "resize",
            "here none",
        ),
        (
            {"_target_": "detzoo.detectors.SSD", "backbone": {"_target_": "detzoo.data.Coco"}},
            "detector",
            r"detector\.backbone: .*here detzoo.nn.Backbone",
        ),
    ],
)
def test_each_class_is_built_in_its_place_alone(node: dict, name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        build(node, name)


@pytest.mark.parametrize(
    "key", ["_partial_", "_args_", "_convert_", "_recursive_", "_mode_", "__class__", 1, None]
)
@pytest.mark.parametrize("deep", [False, True])
def test_keys_that_steer_an_instantiation_are_refused(key: object, deep: bool) -> None:
    bad = {"_target_": "detzoo.data.Letterbox", "size": 32, key: True}
    node = {"_target_": "detzoo.data.Letterbox", "size": [bad]} if deep else bad
    with pytest.raises(ValueError, match=r"no name of a setting|refused"):
        build(node, "resize")


@pytest.mark.parametrize(
    "value", [set(), b"", object(), {"a": b""}, [{1}]], ids=lambda value: type(value).__name__
)
def test_what_a_file_of_settings_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="which no setting is"):
        build({"_target_": "detzoo.data.Letterbox", "size": value}, "resize")


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_target_in_a_list_or_tuple_is_judged(kind: type) -> None:
    hidden = kind([{"_target_": "os.system", "command": "true"}])
    with pytest.raises(ValueError, match=r"os\.system"):
        build({"_target_": "detzoo.data.Letterbox", "size": hidden}, "resize")


def test_the_list_of_targets_is_complete_and_without_surplus() -> None:
    named = {
        target
        for place in ("conf", "experiments")
        for path in folder(place).rglob("*.yaml")
        for target in re.findall(r"_target_: (\S+)", path.read_text())
        if not target.startswith("hydra_plugins.")  # launchers and sweepers are Hydra's to build
    }
    listed = [target for targets in TARGETS.values() for target in targets]
    assert sorted(listed) == sorted(named)
    for target in listed:
        module, name = target.rsplit(".", 1)
        assert inspect.isclass(getattr(import_module(module), name))


def test_what_is_allowed_is_built() -> None:
    resize = build({"_target_": "detzoo.data.Letterbox", "size": [32, 64]})
    assert isinstance(resize, Letterbox) and resize.target == (32, 64)
    policy = build(
        {
            "_target_": "detzoo.data.augment.Policy",
            "steps": [{"_target_": "detzoo.data.augment.Flip"}],
        },
        "augment",
    )
    assert isinstance(policy.steps[0], Flip)


def test_what_is_built_gets_plain_lists_and_dicts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Keep:
        __module__ = "detzoo.data"

        def __init__(self, a: object) -> None:
            self.a = a

    monkeypatch.setattr("detzoo.data.Letterbox", Keep)
    built = build(OmegaConf.create({"_target_": "detzoo.data.Letterbox", "a": [{"b": [1]}]}))
    assert [type(v) for v in (built.a, built.a[0], built.a[0]["b"])] == [list, dict, list]


def test_the_programs_arguments_win() -> None:
    assert build({"_target_": "detzoo.data.Letterbox", "size": 32}, size=48).target == (48, 48)


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ({"size": 3}, "no _target_"),
        (None, "no _target_"),
        ({"_target_": "detzoo.data.Letterbox", "size": 0}, "size is 0"),
        ({"_target_": "detzoo.data.Letterbox", "sighs": 1}, "sighs"),
    ],
)
def test_a_bad_node_says_which_and_why(node: object, said: str) -> None:
    with pytest.raises(ValueError, match=f"resize.*{said}"):
        build(node, "resize")


def test_an_interpolation_is_resolved_once_and_never_again() -> None:
    config = OmegaConf.create({"size": 32, "resize": {"a": "${size}", "b": "\\${oc.env:HOME}"}})
    assert plain(config.resize) == {"a": 32, "b": "${oc.env:HOME}"}
    with pytest.raises(ValueError, match=r"resize\.b.*interpolation"):
        build({"_target_": "detzoo.data.Letterbox", **plain(config.resize)}, "resize")


def test_a_setting_that_must_be_given_is_named() -> None:
    with pytest.raises(ValueError, match=r"data\.root must be given: data\.root="):
        plain(OmegaConf.create({"data": {"root": "???"}}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "not a readable YAML file"),
        ("- 1", "holds a list"),
        ("a: !!python/object/apply:os.system [true]", "not a readable YAML file"),
        ("a: [{b: '${oc.env:HOME}'}]", r"a\[0\]: b: '\${oc.env:HOME}' holds an interpolation"),
        ("'${a}': 1", "'\\${a}' holds an interpolation"),
    ],
)
def test_a_bad_yaml_file_says_which_and_why(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    with pytest.raises(ValueError, match=r"config\.yaml: there is no such file"):
        load_yaml(path)
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"config\.yaml: .*{said}"):
        load_yaml(path)


def test_a_tuple_is_a_list_of_settings() -> None:
    """A node as composed in Python."""
    node = {"_target_": "detzoo.data.Letterbox", "size": (64, 96)}
    assert build(node, "resize").describe() == build(node | {"size": [64, 96]}, "resize").describe()
