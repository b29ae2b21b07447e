"""Files of the layout of CenterNet's and CornerNet's, written by hand with random weights.

The names and shapes are those that the public networks have (kp.py, large_hourglass.py,
resnet_dcn.py, msra_resnet.py, pose_dla_dcn.py), put together here module by module.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import Tensor

import detzoo
from detzoo.detectors import CenterNet, CornerNet
from detzoo.nn import Hourglass
from detzoo.weights.points import converted, load_points

Shapes = dict[str, tuple[int, ...]]
COUNTER = "num_batches_tracked"


def norm(name: str, channels: int) -> Shapes:
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": (channels,) for part in parts} | {f"{name}.{COUNTER}": ()}


def convolution(name: str, kernel: int, a: int, b: int) -> Shapes:
    return {f"{name}.conv.weight": (b, a, kernel, kernel)} | norm(f"{name}.bn", b)


def residual(name: str, a: int, b: int, stride: int = 1) -> Shapes:
    shapes = {f"{name}.conv1.weight": (b, a, 3, 3)} | norm(f"{name}.bn1", b)
    shapes |= {f"{name}.conv2.weight": (b, b, 3, 3)} | norm(f"{name}.bn2", b)
    if stride != 1 or a != b:
        shapes |= {f"{name}.skip.0.weight": (b, a, 1, 1)} | norm(f"{name}.skip.1", b)
    return shapes


def glass(name: str, dims: list[int], modules: list[int]) -> Shapes:
    here, below, count = dims[0], dims[1], modules[0]
    shapes: Shapes = {}
    for i in range(count):
        shapes |= residual(f"{name}.up1.{i}", here, here)
        shapes |= residual(f"{name}.low1.{i}", *((below, below) if i else (here, below, 2)))
        last = i == count - 1
        shapes |= residual(f"{name}.low3.{i}", below, here if last else below)
    if len(dims) > 2:
        return shapes | glass(f"{name}.low2", dims[1:], modules[1:])
    for i in range(modules[1]):
        shapes |= residual(f"{name}.low2.{i}", below, below)
    return shapes


def hourglass(dims: list[int], modules: list[int], stacks: int, stem: int) -> Shapes:
    width = dims[0]
    shapes = convolution("pre.0", 7, 3, stem) | residual("pre.1", stem, width, 2)
    for s in range(stacks):
        shapes |= glass(f"kps.{s}", dims, modules) | convolution(f"cnvs.{s}", 3, width, width)
    for s in range(stacks - 1):
        shapes |= residual(f"inters.{s}", width, width)
        for name in (f"inters_.{s}", f"cnvs_.{s}"):
            shapes |= {f"{name}.0.weight": (width, width, 1, 1)} | norm(f"{name}.1", width)
    return shapes


def stacked_head(name: str, stack: int, a: int, out: int) -> Shapes:
    return {
        f"{name}.{stack}.0.conv.weight": (a, a, 3, 3),
        f"{name}.{stack}.0.conv.bias": (a,),
        f"{name}.{stack}.1.weight": (out, a, 1, 1),
        f"{name}.{stack}.1.bias": (out,),
    }


def corner_branches(width: int, pooled: int, stacks: int, classes: int) -> Shapes:
    shapes: Shapes = {}
    for corner in ("tl", "br"):
        for s in range(stacks):
            name = f"{corner}_cnvs.{s}"
            for part in ("p1_conv1", "p2_conv1"):
                shapes |= convolution(f"{name}.{part}", 3, width, pooled)
            shapes |= {f"{name}.p_conv1.weight": (width, pooled, 3, 3)}
            shapes |= norm(f"{name}.p_bn1", width) | norm(f"{name}.bn1", width)
            shapes |= {f"{name}.conv1.weight": (width, width, 1, 1)}
            shapes |= convolution(f"{name}.conv2", 3, width, width)
            for kind, out in (("heats", classes), ("tags", 1), ("regrs", 2)):
                shapes |= stacked_head(f"{corner}_{kind}", s, width, out)
    return shapes


def heads(a: int, width: int, classes: int) -> Shapes:
    shapes: Shapes = {}
    for name, out in (("hm", classes), ("wh", 2), ("reg", 2)):
        shapes |= {f"{name}.0.weight": (width, a, 3, 3), f"{name}.0.bias": (width,)}
        shapes |= {f"{name}.2.weight": (out, width, 1, 1), f"{name}.2.bias": (out,)}
    return shapes


def dcn(name: str, a: int, b: int) -> Shapes:
    shapes = {f"{name}.weight": (b, a, 3, 3), f"{name}.bias": (b,)}
    offsets = {"weight": (27, a, 3, 3), "bias": (27,)}
    return shapes | {f"{name}.conv_offset_mask.{key}": shape for key, shape in offsets.items()}


def resnet(depth: int, deformable: bool, classes: int) -> Shapes:
    with torch.device("meta"):
        body = getattr(torchvision.models, f"resnet{depth}")().state_dict()
    shapes = {k: tuple(v.shape) for k, v in body.items() if not k.startswith("fc.")}
    previous = 512 if depth < 50 else 2048
    for step, width in enumerate((256, 128, 64) if deformable else (256, 256, 256)):
        at = (6 if deformable else 3) * step
        if deformable:
            shapes |= dcn(f"deconv_layers.{at}", previous, width)
            shapes |= norm(f"deconv_layers.{at + 1}", width)
            at, previous = at + 3, width
        shapes |= {f"deconv_layers.{at}.weight": (previous, width, 4, 4)}
        shapes |= norm(f"deconv_layers.{at + 1}", width)
        previous = width
    return shapes | heads(previous, 64, classes)


def aggregation(name: str, out: int, widths: list[int], factors: list[int]) -> Shapes:
    shapes: Shapes = {}
    for i in range(1, len(widths)):
        for part, a in (("proj", widths[i]), ("node", out)):
            shapes |= dcn(f"{name}.{part}_{i}.conv", a, out) | norm(
                f"{name}.{part}_{i}.actf.0", out
            )
        shapes |= {f"{name}.up_{i}.weight": (out, 1, 2 * factors[i], 2 * factors[i])}
    return shapes


def dla(classes: int) -> Shapes:
    with torch.device("meta"):
        body = timm.create_model("dla34").state_dict()
    shapes = {f"base.{k}": tuple(v.shape) for k, v in body.items() if not k.startswith("fc.")}
    for level, a, b in ((3, 64, 128), (4, 128, 256)):  # created but not read
        shapes |= {f"base.level{level}.project.0.weight": (b, a, 1, 1)}
        shapes |= norm(f"base.level{level}.project.1", b)
    shapes |= {"base.fc.weight": (1000, 512, 1, 1), "base.fc.bias": (1000,)}
    shapes |= aggregation("dla_up.ida_0", 256, [256, 512], [1, 2])
    shapes |= aggregation("dla_up.ida_1", 128, [128, 256, 256], [1, 2, 2])
    shapes |= aggregation("dla_up.ida_2", 64, [64, 128, 128, 128], [1, 2, 2, 2])
    shapes |= aggregation("ida_up", 64, [64, 128, 256], [1, 2, 4])
    return shapes | heads(64, 256, classes)


def random(shapes: Shapes) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        key: torch.tensor(7)
        if key.endswith(COUNTER)
        else torch.rand(shape, generator=generator) * 0.1 + 0.01
        for key, shape in shapes.items()
    }


LAYOUTS = {"resdcn_18": (18, True), "res_18": (18, False), "resdcn_101": (101, True)}


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "weights.pth"


@pytest.mark.parametrize("layout", ["resdcn_18", "res_18", "dla_34"])
def test_a_file_of_centernets_layout_becomes_a_detector(layout: str, file: Path) -> None:
    state = random(dla(5) if layout == "dla_34" else resnet(*LAYOUTS[layout], 5))
    torch.save({"epoch": 140, "state_dict": {f"module.{k}": v for k, v in state.items()}}, file)
    detector = detzoo.create_detector("centernet", weights=file)
    assert isinstance(detector, CenterNet) and detector.num_classes == 5 and not detector.training
    assert detector.mean.flatten().tolist() == pytest.approx([0.470, 0.447, 0.408], abs=1e-3)
    body = detector.backbone.model
    ours, theirs = (
        (body.base_layer[0].weight, state["base.base_layer.0.weight"])
        if layout == "dla_34"
        else (body.conv1.weight, state["conv1.weight"])
    )
    assert torch.equal(ours, theirs[:, [2, 1, 0]])  # they saw blue first
    head, width = detector.head[0], len(state["hm.0.bias"])
    assert torch.equal(head.hidden.weight[width : 2 * width], state["wh.0.weight"])
    assert torch.equal(head.values[1].weight, state["reg.2.weight"])
    assert torch.equal(head.heatmap.bias, state["hm.2.bias"])
    detector.resize = detzoo.detector.Letterbox(64)
    detector.predict([torch.zeros(40, 60, 3, dtype=torch.uint8).numpy()])


def test_the_whole_hourglass_104_of_both(file: Path) -> None:
    """Names and shapes of all weights, on the meta device: 201 M are too many for a test."""
    dims, modules = [256, 256, 384, 384, 384, 512], [2, 2, 2, 2, 2, 4]
    shapes = hourglass(dims, modules, 2, 128)
    centre = shapes.copy()
    for s in (0, 1):
        for name, out in (("hm", 80), ("wh", 2), ("reg", 2)):
            centre |= stacked_head(name, s, 256, out)
    with torch.device("meta"):
        backbone = Hourglass()
        for kind, theirs in (
            (CenterNet, centre),
            (CornerNet, shapes | corner_branches(256, 128, 2, 80)),
        ):
            state = {k: torch.empty(v) for k, v in theirs.items() if not k.endswith(COUNTER)}
            own = kind(backbone=backbone, num_classes=80).state_dict()
            found = {key: value.shape for key, value in converted(state).items()}
            assert found == {k: v.shape for k, v in own.items() if not k.endswith(COUNTER)}


def test_a_small_cornernet_of_that_layout() -> None:
    backbone = Hourglass(channels=(16, 24, 32), stacks=2, residuals=2, middle=3, stem=8)
    detector = CornerNet(backbone=backbone, num_classes=3, head_channels=16)
    shapes = hourglass([16, 24, 32], [2, 2, 3], 2, 8) | corner_branches(16, 8, 2, 3)
    state = {k: v for k, v in random(shapes).items() if not k.endswith(COUNTER)}
    load_points(detector, state)
    corner = detector.head[1].corners[1]
    assert torch.equal(corner.vertical[0].weight, state["br_cnvs.1.p1_conv1.conv.weight"])
    assert torch.equal(corner.skip[1].running_var, state["br_cnvs.1.bn1.running_var"])
    assert torch.equal(corner.heads.values[0].bias, state["br_tags.1.1.bias"])
    inner = backbone.glasses[1].inner
    assert torch.equal(inner.down[0].skip[0].weight, state["kps.1.low2.low1.0.skip.0.weight"])
    assert torch.equal(inner.inner[2].second[1].bias, state["kps.1.low2.low2.2.bn2.bias"])
    assert torch.equal(backbone.merge_input[0][0].weight, state["inters_.0.0.weight"])


def test_the_depth_is_read_off_the_names() -> None:
    from detzoo.weights.points import settings_of

    with torch.device("meta"):
        state = {k: torch.empty(v) for k, v in resnet(*LAYOUTS["resdcn_101"], 5).items()}
        settings = settings_of(state)
    assert settings["backbone"].channels[-1] == 2048
    assert len(settings["backbone"].model.layer3) == 23
    assert settings["upsample_convolutions"] == "deformable"


def test_what_does_not_fit_is_refused(file: Path) -> None:
    with pytest.raises(ValueError, match="there is no file"):
        detzoo.create_detector("centernet", weights=file)
    torch.save({"conv1.weight": torch.zeros(1)}, file)
    with pytest.raises(ValueError, match=r"no key hm\.\* or tl_heats"):
        detzoo.create_detector("centernet", weights=file)
    state = random(resnet(18, False, 5))
    torch.save(state, file)
    with pytest.raises(ValueError, match="is a centernet's; it cannot be read into cornernet"):
        detzoo.create_detector("cornernet", weights=file)
    with pytest.raises(ValueError, match=r"num_classes is 3, but .* has 5 classes"):
        detzoo.create_detector("centernet", weights=file, num_classes=3)
    state["strange.weight"] = torch.zeros(1)
    torch.save(state, file)
    with pytest.raises(ValueError, match=r"strange\.weight has no counterpart"):
        detzoo.create_detector("centernet", weights=file)
    del state["strange.weight"], state["deconv_layers.4.running_var"]
    torch.save(state, file)
    with pytest.raises(ValueError, match=r"neck\.layers\.4\.running_var is .* and None in the"):
        detzoo.create_detector("centernet", weights=file)
