"""The command itself: verbs, exit codes, messages, and what Hydra may and may not do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig
from PIL import Image

import detzoo
from detzoo import __version__
from detzoo.cli import VERBS, WAITS, format_warning, main, set_wait_policy
from detzoo.cli.app import app


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_the_help_lists_every_verb(arguments: list[str], capsys: pytest.CaptureFixture) -> None:
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {verb} " in out for verb in VERBS)


def test_the_version(capsys: pytest.CaptureFixture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"detzoo {__version__}\n"


def test_a_warning_of_ours_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    main(["--version"])
    assert warnings.formatwarning is format_warning
    ours = format_warning("5 of 58\x1b", UserWarning, detzoo.__file__, 7, "line()")
    assert ours == "warning: 5 of 58\\x1b\n"
    other = format_warning("odd", UserWarning, "/elsewhere.py", 7, "line()")
    assert other == "/elsewhere.py:7: UserWarning: odd\n  line()\n"


def test_an_unknown_verb_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture) -> None:
    assert main(["trian", "seed=1"]) == 2
    assert "no verb 'trian'; choose one of list, check, propose" in capsys.readouterr().err


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_helps(verb: str, capsys: pytest.CaptureFixture) -> None:
    assert main([verb, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"detzoo {verb} - ") and f"\n  detzoo {verb} " in out
    assert f"detzoo {verb} --cfg job" in out
    if verb == "train":
        choices = dict(line.split(": ", 1) for line in out.splitlines() if ": " in line)
        assert "faster_rcnn" in choices["detector/torchvision"].split(", ")
        assert "learning_rate" in choices["experiment"].split(", ")


def test_a_help_copies_hydra_s_store_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra's own way is a hundred copies, which take most of the time."""
    copies = []

    def count(store: ConfigStore, memo: dict) -> ConfigStore:
        copies.append(1)
        return store

    monkeypatch.setattr(ConfigStore, "__deepcopy__", count, raising=False)
    assert main(["report", "--help"]) == 0
    assert len(copies) < 20 and not vars(ConfigStore.instance()).get("__deepcopy__")


def test_every_parameter_of_a_constructor_is_a_setting() -> None:
    found = {}

    @app("train")
    def run(config: DictConfig) -> None:
        found.update(config.detector)

    assert run(["detector=retinanet", "detector.gamma=0.5", "detector.channels=8"]) == 0
    assert found["gamma"] == 0.5 and found["channels"] == 8


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A COCO data set whose names have letters of other scripts and control characters."""
    root = tmp_path / "Käfer \x1b[31m"
    root.mkdir()
    name = "bild\u202e\x07.jpg"
    Image.new("RGB", (32, 32)).save(root / name)
    for split in ("train", "val", "test"):
        content = {
            "images": [{"id": 1, "file_name": name, "width": 32, "height": 32}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9]}] * 2,
            "categories": [{"id": 1, "name": "caf\u00e9 \x1b[2J\x00\u202e\nx"}],
        }
        (root / f"{split}.json").write_text(json.dumps(content))
    return root


def arguments_of(root: Path) -> list[str]:
    return ["check", "data=coco", f'data.root="{root}"']


def test_names_with_control_characters_are_shown_escaped(
    odd: Path, capsys: pytest.CaptureFixture
) -> None:
    main(arguments_of(odd))
    shown = "".join(capsys.readouterr())
    assert r"café \x1b[2J\x00\u202e\nx" in shown and r"Käfer \x1b[31m" in shown
    assert not [c for c in shown if not c.isprintable() and c not in "\n\r"]


def test_a_pipe_that_cannot_hold_a_character_gets_it_escaped(odd: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "detzoo", *arguments_of(odd)]
    done = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert b"caf\\xe9" in done.stdout and b"Traceback" not in done.stderr


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    monkeypatch.chdir(tmp_path)
    return []


def small_app(seen: list[int]):  # type: ignore[no-untyped-def]
    @app("train")
    def run(config: DictConfig) -> None:
        seen.append(config.seed)
        if config.seed == 1:
            raise ValueError("seed 1 is unlucky")
        if config.seed == 9:
            raise ZeroDivisionError("a mistake of ours")

    return run


def test_a_failed_job_of_a_multirun_stops_no_other(
    seen: list[int], capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    assert small_app(seen)(["-m", "seed=0,1,2"]) == 1
    assert seen == [0, 1, 2]
    assert "detzoo train: seed 1 is unlucky\n" in capsys.readouterr().err
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    assert left == ["runs", "runs/default", "runs/default/multirun.yaml"]


def test_an_expected_error_is_one_message_and_a_mistake_keeps_its_traceback(
    seen: list[int],
    capsys: pytest.CaptureFixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["somebody", "else"])
    assert small_app(seen)(["seed=0"]) == 0
    assert small_app(seen)(["seed=1"]) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert small_app(seen)(["seed=9"]) == 1
    said = capsys.readouterr().err
    assert "a mistake of ours" in said and "ZeroDivisionError" in said and __file__ in said
    assert sys.argv == ["somebody", "else"] and not list(tmp_path.iterdir()), (
        "hydra left something behind"
    )


def test_an_override_that_does_not_exist_is_told(
    seen: list[int], capsys: pytest.CaptureFixture
) -> None:
    assert small_app(seen)(["sead=1"]) == 1
    assert "sead" in capsys.readouterr().err and not seen


@pytest.mark.parametrize("user", [None, "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_waiting_threads_sleep_unless_the_user_has_chosen(monkeypatch, user):
    for name in WAITS:
        monkeypatch.delenv(name, raising=False)
    if user:
        monkeypatch.setenv(user, "5")
    before = dict(os.environ)
    set_wait_policy()
    changed = {k: v for k, v in os.environ.items() if before.get(k) != v}
    assert changed == ({} if user else {"OMP_WAIT_POLICY": "passive"})
    monkeypatch.setenv("OMP_WAIT_POLICY", "x")  # so that it is put back
