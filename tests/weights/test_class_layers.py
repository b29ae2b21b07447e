"""The table of class layers against what the constructors do with another number of classes."""

from __future__ import annotations

import pytest
import torch

from composed import CONFIGS, described
from detzoo import config
from detzoo.weights.class_layers import Layout, class_layers

OWN = {  # settings under which other layers are the last
    "yolo": {"head": "fc", "grid": 3, "head_width": 8, "neck": "one_map"},
    "centernet": {"class_agnostic_size": False},
}
CASES = [(name, {}) for name in CONFIGS if not name.startswith("transformers/")] + list(OWN.items())


def made(name: str, own: dict, classes: int):
    node = described(name) | own
    node["backbone"] = {"_target_": "detzoo.nn.Backbone", "name": "test_resnet"}
    with torch.device("meta"):
        return config.build(
            {**node, "proposer": None} if "proposer" in node else node, num_classes=classes
        )


@pytest.mark.parametrize(("name", "own"), CASES, ids=[f"{n}{'*' * bool(o)}" for n, o in CASES])
def test_layers_of_the_table_are_those_that_grow_with_the_classes(name: str, own: dict) -> None:
    few, many = (made(name, own, classes) for classes in (3, 5))
    shapes = {key: value.shape for key, value in few.state_dict().items()}
    grown = {k for k, v in many.state_dict().items() if v.shape != shapes[k]}
    table = class_layers(few)
    assert grown == set(table) and grown
    for key, (layout, blocks) in class_layers(many).items():
        assert table[key] == (layout, blocks)
        assert shapes[key][0] == blocks * layout.width(3)
        assert layout.classes(many.state_dict()[key].shape[0], blocks) == 5


def test_rows_literally() -> None:
    # two anchors of background and three classes; three classes' boxes; an answer vector
    rows, none = Layout(before=1).rows(3, 2)
    assert rows.tolist() == [[1, 5], [2, 6], [3, 7]] and none.tolist() == [0, 4]
    rows, none = Layout(each=4).rows(2, 1)
    assert rows.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]] and none.tolist() == []
    rows, none = Layout(5, 1, 2).rows(2, 1)
    assert rows.tolist() == [[5], [6]] and none.tolist() == [0, 1, 2, 3, 4, 7, 8]
    assert Layout(before=1).classes(9, 2) is None and Layout(each=4).classes(6, 1) is None
    assert Layout(after=1).classes(8, 2) == 3
