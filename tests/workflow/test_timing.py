"""Which runs are timed together and against which, without a network or a clock."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from detzoo.files import read_json
from detzoo.speed.clock import TimingError
from detzoo.workflow import timing


@pytest.fixture
def timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """time_runs over untrained models of these labels; returns its result and the arguments of
    `measure`."""
    asked: list[tuple[list[str], str | None]] = []
    dataset = SimpleNamespace(hash="aa", split="test", samples=[])
    monkeypatch.setattr(timing, "source", lambda settings: SimpleNamespace(read=lambda _: dataset))
    monkeypatch.setattr(timing, "detector_of", lambda path, size: object())
    monkeypatch.setattr(timing, "runtime", lambda wanted: {**wanted, "threads": 1})
    monkeypatch.setattr(timing.torch, "set_num_threads", lambda threads: None)

    def run(*labels: str, broken: str = "", **options: Any) -> tuple[dict, list]:
        def measure(models: dict, images: list, *, reference: str | None, **other: Any) -> dict:
            asked.append((sorted(models), reference))
            if broken in models:
                raise TimingError(broken, ValueError("no"))
            return {name: {"fingerprint": {}, "warnings": []} for name in models}

        monkeypatch.setattr(timing, "measure", measure)
        paths = [tmp_path / f"{label}-0" for label in labels]
        for path, label in zip(paths, labels, strict=True):
            path.mkdir()
            run = {"device": "cpu", "precision": "fp32", "channels_last": False}
            settings = {"label": label, "runtime": run, "weights": "none", "seed": 3}
            settings |= {"recipe": {"images_seen": 9, "lr": 0.1}}
            (path / "config.yaml").write_text(yaml.safe_dump(settings))
        return timing.time_runs(paths, **options), asked

    return run


@pytest.mark.parametrize("wanted", ["b", "b-0"])
def test_a_reference_is_a_label_or_a_directory(timed: Any, tmp_path: Path, wanted: str) -> None:
    assert timed("a", "b", reference=wanted) == ({}, [(["a-0", "b-0"], "b-0")])
    found = read_json(tmp_path / "a-0" / "speed.json")
    assert found["fingerprint"]["seed"] == 3 and found["fingerprint"]["images_seen"] == 9
    assert found["fingerprint"]["dataset_hash"] == "aa" and found["label"] == "a"
    assert found["warnings"] == [timing.RANDOM_WEIGHTS]


def test_a_reference_that_fails_leaves_the_others_to_be_timed(timed: Any, tmp_path: Path) -> None:
    failed, asked = timed("a", "b", broken="b-0", reference="b")
    assert asked == [(["a-0", "b-0"], "b-0"), (["a-0"], None)]
    assert list(failed) == [tmp_path / "b-0"] and "ValueError: no" in failed[tmp_path / "b-0"]
    assert (tmp_path / "a-0" / "speed.json").exists()
    assert not (tmp_path / "b-0" / "speed.json").exists()


def test_a_reference_that_is_no_row_is_refused_before_anything_is_timed(timed: Any) -> None:
    with pytest.raises(ValueError, match="reference is 'c'; it must be one of the rows: a, b"):
        timed("a", "b", reference="c")
