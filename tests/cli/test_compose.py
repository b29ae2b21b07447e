"""detzoo.settings: what the command line composes, with nothing of Hydra's changed."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir, version
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.singleton import Singleton
from omegaconf import OmegaConf

import detzoo
from detzoo.cli import VERBS
from detzoo.cli.app import App
from detzoo.cli.train import main as train
from detzoo.config import plain
from detzoo.workflow.verb import COMPOSED


@pytest.mark.parametrize(
    "overrides",
    [
        ("detector=ssd", "seed=3", "recipe.images_seen=2e4", "name=2024_01_05"),
        ("resize.size=96", "detector.nms_threshold=0.4", "experiment=two_minutes"),
    ],
)
def test_the_settings_are_those_of_the_command_line(overrides: tuple[str, ...]) -> None:
    seen = []
    app = App("train", lambda config: seen.append(plain(config)), train.positional)
    assert app(list(overrides)) == 0
    assert detzoo.settings("train", *overrides) == seen[0]


def test_every_verb_has_settings_and_bench_a_training_for_each_row() -> None:
    for verb in set(VERBS) - {"bench", "tune"}:
        settings = detzoo.settings(verb)
        assert settings.verb == verb and not set(COMPOSED) & set(settings)
    bench = detzoo.settings("bench", "detectors=[ssd,fast_rcnn]", "seeds=[0,1]")
    found = [(run["label"], run["seed"]) for run in bench["trainings"]]
    assert found == [("ssd", 0), ("fast_rcnn", 0), ("ssd", 1), ("fast_rcnn", 1)]
    assert sorted(bench["proposal_choices"]) == ["edge_boxes", "selective_search"]
    assert repr(bench).startswith("# detzoo bench\n") and "trainings" not in repr(bench)


def test_a_path_is_what_it_is_on_the_command_line(tmp_path: Path) -> None:
    settings = detzoo.settings("train", str(tmp_path))
    assert settings["data"]["_target_"] == "detzoo.data.Auto"
    assert settings["data"]["root"] == str(tmp_path)


@pytest.mark.parametrize(
    ("verb", "overrides", "said"),
    [
        ("trian", (), "there is no verb 'trian'"),
        ("train", ("detector=sdd",), "did you mean ssd"),
        ("train", ("epochs=3",), "recipe.images_seen"),
        ("train", ("recipe.images_seen=many",), "must be a whole number"),
        ("train", ("-m",), "is no setting"),
        ("train", (3,), "is no setting"),
        ("train", ("data=coco",), "data.root must be given"),
        ("bench", ("detector=ssd",), "give detectors="),
    ],
)
def test_what_cannot_be_is_one_error(verb: str, overrides: tuple, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        detzoo.settings(verb, *overrides)


def test_somebody_elses_hydra_app_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("a: 1\nb: ${mine:2}\n")
    OmegaConf.register_new_resolver("mine", lambda x: x + 1, replace=True)
    repo = ConfigStore.instance().repo
    ours = repo.pop("experiment", None)  # of a command that ran in this process
    ConfigStore.instance().store("theirs", {"c": 1}, group="experiment")
    version.setbase("1.2")
    before = Singleton._instances.copy()
    handlers, level = logging.root.handlers[:], logging.root.level
    try:
        with initialize_config_dir(str(tmp_path), version_base="1.2"):
            detzoo.settings("train", "detector=ssd")
            with pytest.raises(ValueError):
                detzoo.settings("train", "detector=none")
            assert detzoo.settings("train", "seed=2")["seed"] == 2
            assert compose("mine").b == 3 and GlobalHydra.instance().is_initialized()
        assert not GlobalHydra.instance().is_initialized()
        assert ConfigStore.instance().repo is repo
        assert list(repo["experiment"]) == ["theirs.yaml"]
        assert before.keys() == Singleton._instances.keys()
        assert not version.base_at_least("1.3")
        assert (logging.root.handlers, logging.root.level) == (handlers, level)
    finally:
        repo["experiment"] = ours or {}
        OmegaConf.clear_resolver("mine")
