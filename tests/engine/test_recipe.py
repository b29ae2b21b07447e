from __future__ import annotations

import math
from pathlib import Path

import pytest
import timm.optim
import torch
import yaml
from torch import nn

from detzoo.engine.recipe import Recipe

CONF = Path(__file__).parents[2] / "conf" / "recipe"


def test_schedule_literally():
    recipe = Recipe(images_seen=1000, lr=0.4, warmup=0.2, final_lr=0.1)
    answers = {
        0: 0.0,
        50: 0.1,
        100: 0.2,
        200: 0.4,
        400: 0.4 * (0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2),  # a quarter of the cosine
        600: 0.4 * 0.55,
        1000: 0.04,
        1016: 0.04,  # the last batch goes beyond the budget
    }
    for images, lr in answers.items():
        assert recipe.lr_at(images) == pytest.approx(lr), images
    constant = Recipe(images_seen=1000, lr=0.4, warmup=0.2, schedule="constant")
    assert [constant.lr_at(i) for i in (100, 200, 1000)] == pytest.approx([0.2, 0.4, 0.4])
    assert Recipe(images_seen=10, lr=1.0, warmup=0).lr_at(0) == 1.0


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.GroupNorm(2, 4)
        self.linear = nn.Linear(4, 2)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def test_the_backbone_and_the_head_have_rates_of_their_own():
    net = nn.ModuleDict({"backbone": Net(), "neck": Net(), "head": Net()})
    recipe = Recipe(images_seen=10, lr=0.1, weight_decay=0.05, backbone_lr=0.1, head_lr=2)
    optimizer = recipe.make_optimizer(net)
    scales = {id(p): g["lr_scale"] for g in optimizer.param_groups for p in g["params"]}
    decays = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    for part, scale in {"backbone": 0.1, "neck": 1.0, "head": 2}.items():
        assert {scales[id(p)] for p in net[part].parameters() if p.requires_grad} == {scale}
        assert decays[id(net[part].conv.weight)] == 0.05 and decays[id(net[part].conv.bias)] == 0
    with pytest.raises(ValueError, match=r"recipe\.backbone_lr is -1"):
        Recipe(images_seen=10, lr=0.1, backbone_lr=-1)


def test_groups_are_ordered_as_timm_orders_them():
    """A checkpoint's moments are by number, and older ones were written by timm's groups."""
    net = Net()
    ours = Recipe(images_seen=10, lr=0.1, weight_decay=0.05).make_optimizer(net).param_groups
    theirs = timm.optim.create_optimizer_v2(net, opt="adamw", lr=0.1, weight_decay=0.05)
    assert [[id(p) for p in g["params"]] for g in ours] == [
        [id(p) for p in g["params"]] for g in theirs.param_groups
    ]


def test_no_weight_decay_on_norms_and_biases():
    net = Net()
    optimizer = Recipe(images_seen=10, lr=0.1, weight_decay=0.05).make_optimizer(net)
    assert type(optimizer) is torch.optim.AdamW and optimizer.defaults["fused"]
    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    found = {name: decay.get(id(p)) for name, p in net.named_parameters()}
    assert found == {
        "conv.weight": 0.05,
        "conv.bias": 0,
        "norm.weight": 0,
        "norm.bias": 0,
        "linear.weight": 0.05,
        "linear.bias": 0,
        "frozen.weight": None,
        "frozen.bias": None,
    }


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "nadamw"])
def test_other_optimisers_take_a_step(name):
    net = Net()
    optimizer = Recipe(images_seen=10, lr=0.1, optimizer=name).make_optimizer(net)
    before = net.linear.weight.clone()
    net.linear(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    assert not torch.equal(before, net.linear.weight)


def test_average_warms_up():
    """The first update copies; then the decay is 1 - step^(-2/3) up to its limit."""
    net = nn.Linear(1, 1, bias=False)
    ema = Recipe(images_seen=10, lr=1.0, ema_decay=0.9).make_ema(net)
    with torch.no_grad():
        net.weight.fill_(8.0)
        ema.update(net, step=1)
        assert ema.module.weight.item() == 8
        net.weight.fill_(0.0)
        for step, decay in ((8, 1 - 8 ** (-2 / 3)), (1000, 0.9)):
            before = ema.module.weight.item()
            ema.update(net, step=step)
            assert ema.module.weight.item() == pytest.approx(before * decay)
    assert Recipe(images_seen=10, lr=1.0).make_ema(net) is None


def test_validation_points_are_even_and_the_last_is_the_end():
    def steps(points, total):
        return Recipe(images_seen=10, lr=1.0, val_points=points).val_steps(total)

    assert steps(4, 40) == {10, 20, 30, 40}
    assert steps(3, 10) == {4, 7, 10}
    assert steps(5, 2) == {1, 2}
    assert steps(0, 10) == set()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images_seen": 0}, "images_seen is 0"),
        ({"lr": -1.0}, "lr is -1"),
        ({"lr": math.nan}, "lr is nan"),
        ({"clip_norm": 0}, "clip_norm is 0"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1"),
        ({"warmup": 800}, "share of images_seen"),
        ({"schedule": "linear"}, "known: cosine, steps, constant"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0"),
    ],
)
def test_bad_values_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**{"images_seen": 100, "lr": 0.1, **change})


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_configs_are_recipes(path):
    values = yaml.safe_load(path.read_text())
    assert values.pop("_target_") == "detzoo.engine.recipe.Recipe"
    assert values.pop("lr") == "${lr}"  # each detector's own
    assert Recipe(lr=1e-3, **values).images_seen > 0


def test_steps_literally():
    recipe = Recipe(
        images_seen=900, lr=1.0, warmup=0.0, schedule="steps", milestones=[1 / 3, 2 / 3]
    )
    assert [recipe.lr_at(n) for n in (1, 300, 301, 600, 601, 900)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01]
    )
    for bad in ({"schedule": "steps"}, {"milestones": [0.5]}):
        with pytest.raises(ValueError, match="milestones"):
            Recipe(images_seen=9, lr=1.0, **bad)
    for bad in ([0.6, 0.5], [1.5], [-0.1]):
        with pytest.raises(ValueError, match="rising order"):
            Recipe(images_seen=9, lr=1.0, schedule="steps", milestones=bad)
