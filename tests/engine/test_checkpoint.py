from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from detzoo.engine import checkpoint


def draw():
    return torch.rand(2).tolist(), np.random.randn(3).tolist(), random.random()


def test_random_state_round_trip(tmp_path):
    checkpoint.seed_everything(1)
    np.random.randn()  # leaves a second normal number waiting inside numpy's generator
    checkpoint.save(tmp_path, {"random": checkpoint.random_state()})
    first = draw()
    assert draw() != first
    checkpoint.set_random_state(checkpoint.load(tmp_path)["random"])
    assert draw() == first


def test_seed_decides():
    checkpoint.seed_everything(1)
    first = draw()
    checkpoint.seed_everything(1)
    assert draw() == first
    checkpoint.seed_everything(2)
    assert all(a != b for a, b in zip(draw(), first, strict=True))


def test_the_average_is_loaded_where_there_is_one(tmp_path):
    model, ema, detector = nn.Linear(1, 1), nn.Linear(1, 1), nn.Linear(1, 1)
    checkpoint.save(tmp_path, {"model": model.state_dict(), "ema": ema.state_dict()})
    checkpoint.load_weights(detector, tmp_path)
    assert torch.equal(detector.weight, ema.weight)
    checkpoint.save(tmp_path, {"model": model.state_dict(), "ema": None})
    checkpoint.load_weights(detector, tmp_path)
    assert torch.equal(detector.weight, model.weight)


class Evil:
    def __reduce__(self):
        return print, ("code ran",)


def test_other_files_than_checkpoints_are_refused_and_run_no_code(tmp_path, capsys):
    assert checkpoint.load(tmp_path) is None
    with pytest.raises(FileNotFoundError, match="has not been trained"):
        checkpoint.load_weights(nn.Linear(1, 1), tmp_path)
    path = tmp_path / checkpoint.FILE
    checkpoint.save(tmp_path, {"model": nn.Linear(1, 1).state_dict(), "ema": None})
    with pytest.raises(ValueError, match="weights are of another detector"):
        checkpoint.load_weights(nn.Linear(2, 1), tmp_path)
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"not a checkpoint"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a checkpoint of detzoo"):
            checkpoint.load(tmp_path)
    torch.save({"version": 1, "model": Evil()}, path)
    with pytest.raises(ValueError, match="not a checkpoint of detzoo"):
        checkpoint.load(tmp_path)
    assert "code ran" not in capsys.readouterr().out
    torch.save({"version": 0}, path)
    with pytest.raises(ValueError, match="not a checkpoint of version 1"):
        checkpoint.load(tmp_path)


def test_leftovers_of_a_killed_save_are_removed(tmp_path):
    leftover = tmp_path / ".checkpoint.pt.abc123.tmp"
    for path in (leftover, tmp_path / "checkpoint.pt", tmp_path / "other.tmp"):
        path.write_bytes(b"x")
    checkpoint.remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.pt", "other.tmp"}
