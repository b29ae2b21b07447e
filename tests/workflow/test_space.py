"""What a search may vary, and what it refuses before anything is trained."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detzoo.workflow.space import Choice, Range, described, space_of, value_of, with_values

SETTINGS = {
    "label": "centernet",
    "detector": {
        "_target_": "detzoo.detectors.CenterNet",
        "num_classes": 3,
        "backbone": {"_target_": "detzoo.nn.Backbone", "name": "test_resnet"},
        "head_channels": 32,
    },
    "recipe": {
        "_target_": "detzoo.engine.recipe.Recipe",
        "images_seen": 100,
        "lr": 0.002,
        "weight_decay": 0.05,
    },
    "resize": {"_target_": "detzoo.data.Letterbox", "size": 64},
    "augment": {"_target_": "detzoo.data.augment.Policy", "steps": []},
    "runtime": {"device": "cpu", "threads": 1, "workers": 0, "cache_mb": 0},
}


def test_the_rate_a_decade_to_either_side_and_what_is_listed():
    listed = {
        "recipe.weight_decay": [1e-5, 1e-3],
        "recipe.batch_size": [2, 16],
        "recipe.optimizer": ["adamw", "sgd"],
        "detector.head_channels": [16, 32, 64],
        "recipe.clip_norm": [1.0, None],
    }
    space = space_of(SETTINGS, listed)
    assert space == {
        "recipe.lr": Range(0.0002, 0.02),
        "recipe.weight_decay": Range(1e-5, 1e-3),
        "recipe.batch_size": Range(2, 16),
        "recipe.optimizer": Choice(("adamw", "sgd")),
        "detector.head_channels": Choice((16, 32, 64)),
        "recipe.clip_norm": Choice((1.0, None)),
    }
    assert str(space["recipe.lr"]) == "log-uniform from 0.0002 to 0.02"
    assert str(space["recipe.optimizer"]) == "one of adamw, sgd"
    assert described(space)["recipe.batch_size"] == [2, 16]
    assert space_of(SETTINGS, {"lr": [0.1, 0.2]}) == {"recipe.lr": Range(0.1, 0.2)}


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ({"recipe.weigth_decay": [1e-5, 1e-3]}, "recipe.weigth_decay=1e-05 of centernet: .*weigth"),
        ({"recipe.weight_decay": [0, 1e-3]}, "from a low one above 0 to a higher one"),
        ({"recipe.weight_decay": [1e-3, 1e-5]}, "from a low one above 0 to a higher one"),
        ({"recipe.weight_decay": [1e-3]}, r"it takes \[low, high\], or a list of two choices"),
        ({"recipe.weight_decay": 1e-3}, r"it takes \[low, high\]"),
        ({"recipe.weight_decay": [1.0, float("nan"), 2.0]}, "must be finite"),
        ({"recipe.weight_decay": [{"a": 1}, {"b": 1}]}, "a choice is a number, a text"),
        ({"recipe.optimizer": ["adamw", "adamv"]}, "recipe.optimizer=adamv of centernet: .*adamv"),
        ({"recipe.optimizer": ["sgd", "sgd"]}, "stands there twice"),
        ({"recipe.images_seen": [100, 200]}, "it is equal for all trials"),
        ({"data.root": ["a", "b"]}, "data.root cannot be searched; a setting of recipe"),
        ({"recipe": [1, 2]}, "recipe cannot be searched"),
        ({"detector.neck.channels": [1, 2]}, "centernet has no detector.neck.channels"),
        ({"detector.backbone.name": ["resnet18", "no_such"]}, "backbone.name=no_such of centernet"),
    ],
)
def test_what_cannot_be_searched_is_one_error_before_anything(listed, said):
    with pytest.raises(ValueError, match=said):
        space_of(SETTINGS, listed)


@given(st.floats(0, 1), st.floats(1e-6, 1), st.floats(1.5, 1e4))
def test_a_share_is_a_value_in_the_range(share, low, factor):
    dimension = Range(low, low * factor)
    assert dimension.low <= dimension.at(share) <= dimension.high
    assert dimension.at(0) <= dimension.at(share) <= dimension.at(1)


@given(st.floats(0, 1))
def test_a_share_is_a_whole_number_or_a_choice(share):
    assert Range(2, 16).at(share) in range(2, 17)
    assert Choice(("a", None, 3)).at(share) in ("a", None, 3)


def test_the_middle_is_the_recipe_s_own_rate():
    for rate in (0.0015, 0.0025, 0.006, 0.00045):
        assert Range(rate / 10, rate * 10).at(0.5) == rate
    assert [Choice(("a", "b")).at(share) for share in (0, 0.49, 0.5, 1)] == ["a", "a", "b", "b"]


def test_values_are_put_in_a_copy():
    before = copy.deepcopy(SETTINGS)
    changed = with_values(SETTINGS, {"recipe.lr": 0.5, "detector.backbone.name": "other"})
    assert value_of(changed, "recipe.lr") == 0.5
    assert changed["detector"]["backbone"]["name"] == "other"
    assert before == SETTINGS and value_of(SETTINGS, "recipe.momentum") is None
