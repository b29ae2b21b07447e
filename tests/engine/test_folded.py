"""Folding changes no answer, and nothing that training, checkpoints or fingerprints are made of."""

from __future__ import annotations

import copy

import pytest
import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn

from composed import CONFIGS, described
from detzoo import config
from detzoo.engine import folded, folding, precision
from detzoo.nn import Backbone
from detzoo.types import Frame, Images

SIDE = 128


class Small(nn.Module):
    """Something with a backbone and a stride, as `fold` wants it."""

    stride = 32

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.backbone(x)


def lived_in(module: nn.Module) -> nn.Module:
    """Its norms with statistics, scales and shifts of all sizes."""
    generator = torch.Generator().manual_seed(1)
    for norm in module.modules():
        if hasattr(norm, "running_var"):
            for values, low, high in (
                (norm.weight, 0.5, 1.5),
                (norm.bias, -0.5, 0.5),
                (norm.running_mean, -0.2, 0.2),
                (norm.running_var, 0.5, 2.0),
            ):
                values.data.uniform_(low, high, generator=generator)
    return module.eval()


def done(module: nn.Module) -> int:
    return sum(isinstance(vars(m).get("forward"), folded.FoldedNorm) for m in module.modules())


def tensors(value) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, dict):
        value = value.values()
    return [t for v in value for t in tensors(v)] if not isinstance(value, int | None) else []


@pytest.mark.parametrize("name", CONFIGS)
def test_every_detector_says_the_same_folded(name):
    torch.manual_seed(0)
    node = described(name) | {"backbone": {"_target_": "detzoo.nn.Backbone", "name": "test_resnet"}}
    detector = lived_in(config.build(node, num_classes=3))
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    boxes = torch.tensor([[5.0, 6, 70, 80], [30, 20, 120, 100]])
    images = Images(pixels, [Frame(i, (SIDE, SIDE), (SIDE, SIDE)) for i in range(2)], [boxes] * 2)
    # the last bit may decide which region NMS keeps, and all after it is of another region
    first = slice(0, 2 if name.endswith("faster_rcnn") else None)
    # and in which order cells become queries, here all of them
    if picks := name in ("transformers/rt_detr_v2", "transformers/d_fine", "transformers/deimv2"):
        detector.model.config.num_queries = 10**4
    with torch.no_grad():
        written = tensors(detector.network(images)[first])
        folding.fold(detector)
        assert done(detector) == sum(hasattr(m, "running_var") for m in detector.modules())
        for ours, theirs in zip(tensors(detector.network(images)[first]), written, strict=True):
            if picks:
                ours, theirs = ours.sort(1).values, theirs.sort(1).values
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        *(("test_resnet", "bn"), ("test_resnet", "frozen_bn"), ("test_efficientnet", "bn")),
        *(("resnet10t", "bn"), ("mobilenetv2_100", "bn"), ("test_byobnet", "bn")),
    ],
)
def test_every_kind_of_block(name, norm):
    network = Small(lived_in(Backbone(name, norm=norm)))
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        written = network(x)
        folding.fold(network)
        assert done(network) > 0
        for ours, theirs in zip(network(x), written, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.max()))


class Misleading(nn.Module):
    """Its norm is not of what the convolution before it puts out."""

    strides = (1,)

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.conv(self.norm(x))]


@pytest.mark.parametrize("frozen", [False, True])
def test_a_backbone_that_computes_in_another_order_is_left_as_it_is(frozen):
    """A frozen one too, which is folded even with gradients enabled."""
    network = Small(lived_in(Misleading()))
    network.backbone.requires_grad_(not frozen)
    folding.fold(network)
    assert done(network) == 0 and "forward" not in vars(network.backbone.conv)


def sequence() -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(4, 6, 4, stride=2, padding=1, groups=2, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 4, 3, groups=2, padding_mode="reflect", padding=1),
        nn.BatchNorm2d(4),
        nn.Flatten(),
        nn.Linear(4 * 64, 2),
    )


def test_grouped_transposed_and_padded_layers():
    network = lived_in(sequence())
    x = torch.randn(2, 4, 4, 4)
    with torch.no_grad():
        written = network(x)
        folding.fold(network)
        torch.testing.assert_close(network(x), written, rtol=1e-4, atol=1e-4)
    assert done(network) == 2


@pytest.mark.parametrize("size", [(7, 8), (8, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_padding_that_depends_on_the_input_is_folded(size, dtype):
    """TensorFlow's: none is before an even side, and one pixel on each end of an odd one."""
    network = lived_in(nn.Sequential(Conv2dSame(3, 4, 3, stride=2), nn.BatchNorm2d(4)))
    x = torch.randn(2, 3, *size).contiguous(memory_format=torch.channels_last)
    with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
        written = network(x).float()
        folding.fold(network)
        torch.testing.assert_close(network(x).float(), written, rtol=0.02, atol=0.05)
    assert done(network) == 1 and not folding.inspect_folding(network).left


def test_a_mobilenet_of_tensorflow_is_folded_whole():
    backbone = Backbone("mobilenetv2_100", options={"pad_type": "same"})
    network = Small(lived_in(backbone))
    folding.fold(network)
    assert folding.inspect_folding(network).left == () and done(network) > 50


def test_training_and_gradients_are_those_of_the_network_as_written():
    one, other = lived_in(sequence()), lived_in(sequence())
    other.load_state_dict(one.state_dict())
    folding.fold(other)
    x = torch.randn(2, 4, 4, 4)
    for mode in (True, False):  # fine-tuning has its norms in eval mode
        for network in (one, other):
            network.train(mode)
            network.zero_grad()
            network(x).sum().backward()
        for a, b in zip(one.parameters(), other.parameters(), strict=True):
            assert torch.equal(a.grad, b.grad)
    for key, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


def test_weights_that_change_are_folded_anew():
    network = lived_in(sequence())
    folding.fold(network)
    x = torch.randn(2, 4, 4, 4)
    with torch.no_grad():
        before = network(x)
        copied = copy.deepcopy(network)  # with its own layers
        network[0].weight.mul_(2)
        network[4].running_mean.add_(1)
        after = network(x)
        assert torch.equal(copied(x), before)
        folding.unfold(network)
        torch.testing.assert_close(network(x), after, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(before, after)
    assert not any("forward" in vars(module) for module in network.modules())


def test_the_number_format_is_that_of_the_call():
    network = lived_in(sequence())
    folding.fold(network)
    x = torch.randn(2, 4, 4, 4)
    with torch.no_grad():
        plain = network(x)
        with precision.autocast("cpu", "bf16"):
            half = network(x)
        assert half.dtype == torch.bfloat16
        assert {tensor.dtype for tensor in folded.folded_weights(network)} == {torch.bfloat16}
        assert torch.equal(network(x), plain)
    torch.testing.assert_close(half.float(), plain, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("inference", [True, False])
def test_prepare_folds_for_inference_alone(inference):
    network = lived_in(sequence())
    folding.fold(network)
    precision.prepare(network, "cpu", False, inference=inference)
    assert done(network) == 2 * inference


def rounded_to_tf32(x: Tensor) -> Tensor:
    """10 bits of mantissa, as a GPU's tensor cores take float32 where they are allowed to."""
    return ((x.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


@pytest.fixture
def gpu_convolutions(monkeypatch):
    """cuDNN's way on the CPU: TF32 unless torch.backends says otherwise, as torch's default is."""
    convolve = nn.Conv2d._conv_forward

    def forward(self, x, weight, bias):
        if torch.backends.cudnn.allow_tf32:
            x, weight = rounded_to_tf32(x), rounded_to_tf32(weight)
        return convolve(self, x, weight, bias)

    monkeypatch.setattr(nn.Conv2d, "_conv_forward", forward)
    monkeypatch.setattr(folded, "winograd_pays", lambda *_: False)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "dla34", "mobilenetv2_100"])
def test_a_gpu_s_tf32_hinders_no_folding(name, gpu_convolutions):
    network = Small(lived_in(Backbone(name)))
    assert torch.backends.cudnn.allow_tf32  # torch's default, to which the test is put back
    folding.fold(network)
    assert folding.inspect_folding(network).left == () and torch.backends.cudnn.allow_tf32


def test_folded_and_unfolded_layers_are_reported():
    network = lived_in(nn.Sequential(nn.BatchNorm2d(3), *sequence()[3:5], nn.BatchNorm2d(4)))
    with pytest.warns(UserWarning, match=r"2 of 3 batch norms are not folded \(0, 3\): no layer"):
        precision.prepare(network, "cpu", False, inference=True)
    told = folding.inspect_folding(network).describe()
    assert told == {"norms": 3, "folded": 1, "left": ["0", "3"], "why": ""}
    misleading = Small(lived_in(Misleading()))
    with pytest.warns(UserWarning, match="1 of 1 batch norms .*backbone.norm.*maps differ by"):
        precision.prepare(misleading, "cpu", False, inference=True)
    folding.unfold(misleading)
    assert folding.inspect_folding(misleading).why == ""


def test_folding_is_idempotent():
    network = lived_in(sequence())
    folding.fold(network)
    before = [vars(module).get("forward") for module in network]
    folding.fold(network)
    assert before == [vars(module).get("forward") for module in network]


class Called(nn.Module):
    """A detector as far as compiling knows it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = lived_in(sequence())

    def network(self, x: Tensor) -> Tensor:
        return self.layers(x)


def test_compiled_networks_are_folded_too(monkeypatch):
    graphs = []

    def backend(graph, inputs):
        graphs.append({str(node.target) for node in graph.graph.nodes})
        return graph.forward

    torch._dynamo.reset()
    compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f: compile(f, backend=backend))
    monkeypatch.setattr(precision, "_check_compiler", lambda device: None)
    one, x = Called().eval(), torch.randn(2, 4, 4, 4)
    with torch.no_grad():
        written = one.network(x)
        precision.prepare(one, "cpu", False, compile=True, inference=True)
        torch.testing.assert_close(one.network(x), written, rtol=1e-4, atol=1e-4)
        assert len(graphs) == 1 and not any("batch_norm" in name for name in graphs[0])
        precision.prepare(one, "cpu", False, compile=True, inference=True)  # as a scoring does
        one.layers[0].weight.mul_(2)
        twice = one.network(x)
        assert len(graphs) == 1  # nothing compiled anew, and the weights of now
        precision.prepare(one, "cpu", False)
        torch.testing.assert_close(twice, one.network(x), rtol=1e-4, atol=1e-4)
        other = torch.compile(one.network)  # for a folded detector: unfolded
        folding.fold(one)
        torch.testing.assert_close(other(x), twice, rtol=1e-4, atol=1e-4)
