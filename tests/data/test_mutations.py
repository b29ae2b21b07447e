"""The short form of `mutations.py`: random damage is noted or refused, never a crash or silence."""

from detzoo.data import Coco

from . import mutations
from .conftest import CocoFolder


def test_damage_is_noted_or_refused(tmp_path):
    for split in mutations.SPLITS:
        CocoFolder(tmp_path, split).write()
    source = Coco(tmp_path)
    sets = {"made up": {split: source.read(split) for split in mutations.SPLITS}}
    found = list(mutations.tried(sets, 60, seed=0))
    assert [entry for entry in found if entry[-1] in ("crashed", "silent")] == []
    assert sum(entry[-1] == "noted" for entry in found) > 40


def test_a_silent_loss_is_seen(tmp_path, monkeypatch):
    """What the mutations look for: an object that is gone, and no word of it."""
    for split in mutations.SPLITS:
        CocoFolder(tmp_path, split).write()
    source = Coco(tmp_path)
    sets = {"made up": {split: source.read(split) for split in mutations.SPLITS}}

    def lose(root, rng):
        path = root / "labels" / "train" / "a.txt"
        path.write_text("\n".join(path.read_text().splitlines()[1:]))
        return "the first row of a file"

    monkeypatch.setitem(mutations.MUTATIONS, "yolo", (lose,))
    assert [v for _, where, _, v in mutations.tried(sets, 3, 0) if "yolo" in where] == ["silent"]
