"""Checkpoints in every published layout, with random weights of the true shapes, are carried over.

torchvision's own constructors say the names and the shapes; the authors' are in test_points.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor
from torchvision.models import detection

from detzoo import config
from detzoo.cli.start import add_published_settings
from detzoo.detector import Detector
from detzoo.detectors import CornerNet, RetinaNet
from detzoo.nn import Backbone, Hourglass
from detzoo.types import Frame, Images, Target
from detzoo.weights import source
from detzoo.weights.anchors import anchors_of, apart, published_anchors
from detzoo.weights.start import carry, match, suppress_classes, unique_names

from .test_points import COUNTER, corner_branches, dla, hourglass, random

# of COCO, by the category id that is also the row of torchvision's outputs, and by the 80 in order
ROWS = {"traffic light": (10, 9), "bird": (16, 14), "dog": (18, 16)}
MINE = ["Traffic_Light", "jellyfish", "my fish", "dog"]
GIVEN = {"my fish": "BIRD"}
TAKEN = {0: "traffic light", 2: "bird", 3: "dog"}  # label -> theirs

OLD = [  # the layout of the published files, where it differs from the present one
    ("inner_blocks.{i}.0.", "inner_blocks.{i}."),
    ("layer_blocks.{i}.0.", "layer_blocks.{i}."),
    ("rpn.head.conv.0.0.", "rpn.head.conv."),
]
OLD_TOWERS = [(f"_head.conv.{i}.0.", f"_head.conv.{2 * i}.") for i in range(3, -1, -1)]


MAKERS = {
    "faster_rcnn": detection.fasterrcnn_resnet50_fpn,
    "retinanet": detection.retinanet_resnet50_fpn,
    "fcos": detection.fcos_resnet50_fpn,
    "ssd": detection.ssd300_vgg16,
}


def theirs_on_meta(kind: str) -> dict[str, Tensor]:
    """The names and shapes of torchvision's state dict, as its constructor makes it."""
    with torch.device("meta"):
        model = MAKERS[kind](weights=None, weights_backbone=None, num_classes=91)
    return {k: v for k, v in model.state_dict().items() if not k.endswith(COUNTER)}


def theirs(kind: str) -> dict[str, Tensor]:
    """The same with numbers."""
    return {key: tame(key, tuple(v.shape)) for key, v in theirs_on_meta(kind).items()}


def tame(key: str, shape: tuple[int, ...]) -> Tensor:
    """Random numbers under which a network of many layers neither dies nor overflows."""
    if key.endswith("running_var"):
        return 0.5 + torch.rand(shape)
    if len(shape) > 1:  # a convolution's or a linear layer's
        return (torch.rand(shape) - 0.5) * (4 / math.prod(shape[1:])) ** 0.5
    if len(shape) == 1 and key.endswith("weight"):  # a norm's
        return 0.2 + 0.3 * torch.rand(shape)
    return 0.1 * torch.rand(shape) if shape else torch.tensor(7)


def older(state: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    """By the names that the published files have."""
    renames = [(a.format(i=i), b.format(i=i)) for a, b in OLD for i in range(4)]
    for present, before in renames + OLD_TOWERS * (kind == "retinanet"):
        state = {key.replace(present, before): value for key, value in state.items()}
    return state


def published(name: str) -> Detector:
    """The detector of conf/ under the settings that published weights of it want."""
    with initialize_config_dir(str(config.folder("conf")), version_base="1.3"):
        overrides = [f"detector={name}", *add_published_settings(name, "coco", [])]
        node = config.plain(compose("train", overrides).detector)
    torch.manual_seed(1)
    return config.build(node, num_classes=len(MINE))


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "weights.pth"
    yield path
    path.unlink(missing_ok=True)  # up to 170 MB


def per_anchor(anchors: int, width: int) -> Callable[[int], list[int]]:
    return lambda row: [a * width + row for a in range(anchors)]


def boxes(row: int) -> list[int]:
    return list(range(4 * row, 4 * row + 4))


K = len(MINE)
A = (4, 6, 6, 6, 4, 4)  # of SSD's maps
CLS = "head.classification_head"
# name -> [(our layer, their layer, our rows of a label, their rows of COCO's id)], and of no class
LAYERS = {
    "faster_rcnn": [
        (
            "head.scores",
            "roi_heads.box_predictor.cls_score",
            per_anchor(1, K + 1),
            per_anchor(1, 91),
        ),
        ("head.deltas", "roi_heads.box_predictor.bbox_pred", boxes, boxes),
    ],
    "retinanet": [("head.logits", f"{CLS}.cls_logits", per_anchor(9, K), per_anchor(9, 91))],
    "fcos": [("head.logits", f"{CLS}.cls_logits", per_anchor(1, K), per_anchor(1, 91))],
    "ssd": [
        (
            f"head.logits.{i}",
            f"{CLS}.module_list.{i}",
            per_anchor(a, K + 1),
            per_anchor(a, 91),
        )
        for i, a in enumerate(A)
    ],
}
BACKGROUND = {  # our rows and theirs
    "faster_rcnn": ("head.scores", "roi_heads.box_predictor.cls_score", [K], [0]),
    "ssd": (
        "head.logits.1",
        f"{CLS}.module_list.1",
        [a * (K + 1) + K for a in range(6)],
        [a * 91 for a in range(6)],
    ),
}
TAKEN_AS_IT_IS = {
    "faster_rcnn": ("neck.lateral.2.weight", "backbone.fpn.inner_blocks.2.0.weight"),
    "retinanet": ("head.deltas.bias", "head.regression_head.bbox_reg.bias"),
    "fcos": ("head.centerness.weight", "head.regression_head.bbox_ctrness.weight"),
    "ssd": ("head.deltas.5.weight", "head.regression_head.module_list.5.weight"),
}


def behind(anchors: int, width: int) -> Callable[[int], list[int]]:
    """Rows of a label where a block of each anchor begins with the background's."""
    return lambda label: [a * width + label + 1 for a in range(anchors)]


PEERS = {
    "torchvision/faster_rcnn": [
        ("head.1.cls_score", "roi_heads.box_predictor.cls_score", behind(1, 0), per_anchor(1, 91)),
        (
            "head.1.bbox_pred",
            "roi_heads.box_predictor.bbox_pred",
            lambda label: boxes(label + 1),
            boxes,
        ),
    ],
    "torchvision/retinanet": [
        (f"{CLS}.cls_logits", f"{CLS}.cls_logits", per_anchor(9, K), per_anchor(9, 91))
    ],
    "torchvision/fcos": [
        (f"{CLS}.cls_logits", f"{CLS}.cls_logits", per_anchor(1, K), per_anchor(1, 91))
    ],
    "torchvision/ssd": [
        (f"{CLS}.module_list.{i}",) * 2 + (behind(a, K + 1), per_anchor(a, 91))
        for i, a in enumerate(A)
    ],
}


def carried(name: str, path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], Detector]:
    """The detector's state as it was built, and with the weights in a file."""
    detector = published(name)
    fresh = {key: value.clone() for key, value in detector.state_dict().items()}
    weights = source.read(path, detector)
    found = carry(detector, weights.state, weights.classes, MINE, GIVEN)
    assert found.classes == {
        "Traffic_Light": "traffic light",
        "my fish": "bird",
        "dog": "dog",
    }
    assert found.new == ("jellyfish",) and "person" in found.left and "bird" not in found.left
    return fresh, detector.state_dict(), detector


def trains(detector: Detector, side: int) -> None:
    """A step of it has finite losses and gradients that reach the first trainable layer."""
    targets = [Target(torch.tensor([[8.0, 8, 40, 44]]), torch.tensor([1]), torch.tensor([False]))]
    images = Images(
        torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8),
        [Frame(0, (side, side), (side, side))],
        None,
    )
    loss = sum(detector.train()(images, targets).values())
    loss.backward()
    assert loss.isfinite()
    assert next(p for p in detector.parameters() if p.requires_grad).grad is not None


@pytest.mark.parametrize("name", LAYERS)
def test_torchvision_s_weights_go_row_by_row_to_classes_of_the_same_name(
    name: str, file: Path
) -> None:
    state = theirs(name)
    torch.save({"model": state}, file)
    fresh, now, detector = carried(name, file)
    for ours, other, here, there in LAYERS[name]:
        for part in ("weight", "bias"):
            own, given = now[f"{ours}.{part}"], state[f"{other}.{part}"]
            for label, coco in TAKEN.items():
                assert torch.equal(own[here(label)], given[there(ROWS[coco][0])]), (ours, label)
            assert torch.equal(own[here(1)], fresh[f"{ours}.{part}"][here(1)])  # jellyfish
    if name in BACKGROUND:
        ours, other, here, there = BACKGROUND[name]
        assert torch.equal(now[f"{ours}.weight"][here], state[f"{other}.weight"][there])
    ours, other = TAKEN_AS_IT_IS[name]
    assert torch.equal(now[ours], state[other])
    if name == "ssd":
        assert torch.equal(now["backbone.conv4_3.0.weight"], state["backbone.features.0.weight"])
    else:
        key = "layer3.2.bn1.running_var"
        assert torch.equal(now[f"backbone.model.{key}"], state[f"backbone.body.{key}"])
    trains(detector, 300 if name == "ssd" else 64)


@pytest.mark.parametrize("name", [*LAYERS, *PEERS])
def test_the_older_layout_has_the_same_names_here(
    name: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = name.removeprefix("torchvision/")
    state = theirs_on_meta(kind)
    with torch.device("meta"):
        detector = published(name)
    found = []
    for layout in (state, older(state, kind)):
        monkeypatch.setattr(source, "load_state", lambda path, layout=layout: layout)
        read = source.read(file, detector)
        found.append({key: value.shape for key, value in read.state.items()})
        assert len(read.classes) in (90, 91)
    assert found[0] == found[1]
    assert older(state, kind).keys() != state.keys() or kind in ("fcos", "ssd")


@pytest.mark.parametrize("name", [*LAYERS, *PEERS])
def test_a_published_start_offers_the_pixels_norms_and_anchors_of_its_training(name: str) -> None:
    """As torchvision's own constructor of those weights says them."""
    kind = name.removeprefix("torchvision/")
    with torch.device("meta"):
        model = MAKERS[kind](weights=None, weights_backbone=None)
    with initialize_config_dir(str(config.folder("conf")), version_base="1.3"):
        composed = compose("train", [f"detector={name}", *add_published_settings(name, "coco", [])])
    node, resize = config.plain(composed.detector), config.build(composed.resize, "resize")
    detector = config.build(node, num_classes=2)
    transform = model.transform
    assert detector.mean.flatten().tolist() == pytest.approx(transform.image_mean, abs=1e-6)
    assert detector.std.flatten().tolist() == pytest.approx(transform.image_std, abs=1e-6)
    norms = [m for m in detector.backbone.modules() if hasattr(m, "running_var")]
    if kind == "ssd":
        assert resize.describe() == {"kind": "stretch", "size": [*transform.fixed_size]}
        assert not norms and detector.stride == 1
    else:
        limits = {"shortest": transform.min_size[0], "longest": transform.max_size}
        assert resize.describe() == {"kind": "shortest_side", **limits}
        assert norms and all("FrozenBatchNorm" in type(m).__name__ for m in norms)
    assert not apart(anchors_of(detector), published_anchors(kind))
    theirs = model.rpn if kind == "faster_rcnn" else model
    generator = theirs.anchor_generator
    if kind == "ssd":
        ours = anchors_of(detector)
        assert (ours["scales"], ours["steps"]) == (generator.scales, generator.steps)
    elif kind != "fcos":
        assert anchors_of(detector)["sizes"] == [[float(s) for s in of] for of in generator.sizes]


@pytest.mark.parametrize("name", PEERS)
def test_the_peers_take_them_too(name: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = theirs(name.removeprefix("torchvision/"))
    monkeypatch.setattr(source, "load_state", lambda path: state)
    _, now, detector = carried(name, file)
    for ours, other, here, there in PEERS[name]:
        for part in ("weight", "bias"):
            own, given = now[f"{ours}.{part}"], state[f"{other}.{part}"]
            for label, coco in TAKEN.items():
                assert torch.equal(own[here(label)], given[there(ROWS[coco][0])]), (ours, label)
    if name.endswith("faster_rcnn"):
        assert torch.equal(now["head.1.bbox_pred.bias"][:4], state[f"{PEERS[name][1][1]}.bias"][:4])
    if name.endswith("ssd"):
        assert torch.equal(now["backbone.conv7.10.bias"], state["backbone.extra.0.7.3.bias"])
        assert torch.equal(now["neck.extra.3.2.bias"], state["backbone.extra.4.2.bias"])
        assert torch.equal(now["neck.norm.scale"], state["backbone.scale_weight"])
    trains(detector, 300 if name.endswith("ssd") else 64)


def test_torchvision_s_own_files_had_no_epsilon_in_their_norms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "retinanet_resnet50_fpn_coco-eeacb38b.pth"
    state = theirs("retinanet")
    path.write_bytes(b"")
    monkeypatch.setattr(source, "load_state", lambda path: state)
    with torch.device("meta"):
        detector = published("retinanet")
    found = source.read(path, detector).state
    key = "layer1.0.bn1.running_var"
    ours = found[f"backbone.model.{key}"] + detector.backbone.model.bn1.eps
    assert torch.allclose(ours, state[f"backbone.body.{key}"], rtol=1e-6, atol=0)


def test_centernet_s_authors_file(file: Path) -> None:
    state = {key: tame(key, shape) for key, shape in dla(80).items()}
    torch.save({"epoch": 230, "state_dict": {f"module.{k}": v for k, v in state.items()}}, file)
    fresh, now, detector = carried("centernet", file)
    assert detector.mean.flatten().tolist() == pytest.approx([0.470, 0.447, 0.408], abs=1e-3)
    for part in ("weight", "bias"):
        own, given = now[f"head.0.heatmap.{part}"], state[f"hm.2.{part}"]
        for label, coco in TAKEN.items():
            assert torch.equal(own[label], given[ROWS[coco][1]])
        assert torch.equal(own[1], fresh[f"head.0.heatmap.{part}"][1])
    assert torch.equal(now["head.0.values.0.weight"], state["wh.2.weight"])
    assert torch.equal(
        now["backbone.model.base_layer.0.weight"], state["base.base_layer.0.weight"].flip(1)
    )
    trains(detector, 64)


def test_cornernet_s_authors_layout_has_four_heads_with_classes(file: Path) -> None:
    shapes = hourglass([16, 24, 32], [2, 2, 3], 2, 8) | corner_branches(16, 8, 2, 80)
    state = {k: v for k, v in random(shapes).items() if not k.endswith(COUNTER)}
    torch.save(state, file)
    backbone = Hourglass(channels=(16, 24, 32), stacks=2, residuals=2, middle=3, stem=8)
    torch.manual_seed(1)
    detector = CornerNet(backbone=backbone, num_classes=K, head_channels=16)
    fresh = {key: value.clone() for key, value in detector.state_dict().items()}
    weights = source.read(file, detector)
    carry(detector, weights.state, weights.classes, MINE, GIVEN)
    now = detector.state_dict()
    for corner, short in enumerate(("tl", "br")):
        for stack in (0, 1):
            own = f"head.{stack}.corners.{corner}.heads.heatmap.weight"
            given = state[f"{short}_heats.{stack}.1.weight"]
            for label, coco in TAKEN.items():
                assert torch.equal(now[own][label], given[ROWS[coco][1]])
            assert torch.equal(now[own][1], fresh[own][1])
    trains(detector, 128)


def small(classes: int, **changes) -> RetinaNet:
    torch.manual_seed(2)
    backbone = changes.pop("backbone", None) or Backbone("test_resnet")
    return RetinaNet(backbone=backbone, num_classes=classes, **({"channels": 16} | changes))


def test_what_does_not_fit_is_refused_with_the_reason_before_anything_is_copied() -> None:
    state, names = small(3).state_dict(), ("a", "b", "c")

    def refused(detector: Detector, wanted: str = "") -> str:
        before = {k: v.clone() for k, v in detector.state_dict().items()}
        with pytest.raises(ValueError) as error:
            carry(detector, state, names, ("a", "b"), source="start=FILE", wanted=wanted)
        assert all(torch.equal(v, before[k]) for k, v in detector.state_dict().items())
        assert str(error.value).startswith("start=FILE does not fit this detector: ")
        return str(error.value)

    said = refused(small(2, backbone=Backbone("resnet10t")), "backbone=test_resnet")
    assert "another backbone; they want backbone=test_resnet" in said
    assert "another width" in refused(small(2, channels=32))
    assert "another number of anchors" in refused(small(2, octave_scales=2))
    assert "another neck or head" in refused(small(2, convs=3))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.full((3, 3), math.nan), "holds values that are not finite"),
        (torch.full((3, 3), math.inf), "holds values that are not finite"),
        (torch.ones(3, 3, dtype=torch.complex64), "holds no plain numbers"),
        (torch.eye(3).to_sparse(), "holds no plain numbers"),
        (torch.zeros(1).expand(10**9), "claims to be larger than it is stored"),
    ],
)
def test_weights_that_nothing_can_start_from_are_refused(tmp_path: Path, value, said: str) -> None:
    path = tmp_path / "a.pth"
    torch.save({"state_dict": {"backbone.x": torch.ones(3), "head.y": value}}, path)
    with pytest.raises(ValueError, match=rf"a\.pth: head\.y {said}"):
        source.load_state(path)


def test_whole_numbers_for_weights_are_refused() -> None:
    state = {key: value.long() for key, value in small(2).state_dict().items()}
    with pytest.raises(ValueError, match="is of another type"):
        carry(small(2), state, ("a", "b"), ("a", "b"))


def test_classes_are_matched_by_name_and_given_ones_must_be_there() -> None:
    theirs = ("__background__", "traffic light", "N/A", "Bird-House")
    assert match(["bird house", "n/a", "x"], theirs, {}) == {"bird house": "Bird-House"}
    assert match(["x"], theirs, {"X": "TRAFFIC_LIGHT"}) == {"x": "traffic light"}
    with pytest.raises(ValueError, match=r"the data have no class 'y'; there is x"):
        match(["x"], theirs, {"y": "traffic light"})
    with pytest.raises(ValueError, match=r"source has no class 'trafic'; there is traffic light"):
        match(["x"], theirs, {"x": "trafic"})


def test_a_model_as_published_keeps_its_other_classes_under_names_of_their_own() -> None:
    theirs = ("__background__", "cat", "dog", "N/A", "fish")
    found = unique_names(theirs, ["dog", "mouse", "cat"], {"cat": "fish"})
    assert found == [
        *(("output 0", False), ("cat (theirs)", False), ("dog", True)),
        *(("output 3", False), ("fish", True)),
    ]
    with pytest.raises(ValueError, match=r"none of the data's classes \(mouse\) is one of"):
        unique_names(theirs, ["mouse"], {})


def test_a_silenced_class_is_never_found() -> None:
    detector = small(3, score_threshold=0.0).eval()
    suppress_classes(detector, [1])
    images = Images(
        torch.zeros(1, 3, 64, 64, dtype=torch.uint8), [Frame(0, (64, 64), (64, 64))], None
    )
    outputs = detector.network(images)
    scores = outputs.logits.sigmoid()
    assert scores[..., 1].max() == 0 and scores[..., [0, 2]].min() > 0


def test_files_in_no_known_layout_are_refused(file: Path) -> None:
    detector = small(2)
    with pytest.raises(ValueError, match="where there is no file"):
        source.read(file, detector)
    torch.save({"conv1.weight": torch.zeros(1)}, file)
    with pytest.raises(ValueError, match=r"no detector's weights .* backbone\.weights=FILE"):
        source.read(file, detector)
    torch.save({"backbone.body.conv1.weight": torch.zeros(1), "roi_heads.x": torch.zeros(1)}, file)
    with pytest.raises(
        ValueError, match=r"holds a FasterRCNN's weights, .* asked for is RetinaNet"
    ):
        source.read(file, detector)
    torch.save(small(3).state_dict(), file)
    weights = source.read(file, detector)
    assert weights.classes is None
    assert carry(detector, weights.state, None, ["a", "b"], {"b": 2}).classes == {"b": "2"}
