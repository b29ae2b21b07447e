from __future__ import annotations

import pytest
import torch
from torch import nn

from detzoo.data.resize import Letterbox
from detzoo.engine import precision
from detzoo.types import Frame, Images


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"avx2"}, "fp32"),
        ({"avx2", "avx512f"}, "fp32"),
        ({"avx512_bf16"}, "bf16"),
        ({"amx_bf16"}, "bf16"),
        (set(), "fp32"),
    ],
)
def test_auto_is_bf16_only_where_the_cpu_has_it(monkeypatch, flags, expected):
    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset(flags))
    assert precision.choose_precision("cpu") == expected
    assert precision.choose_precision("cpu", "fp32") == "fp32"
    assert precision.choose_precision("cpu", "bf16") == "bf16"


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "fp32"), ((8, 0), "bf16")])
def test_auto_on_cuda(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert precision.choose_precision("cuda") == expected
    assert precision.choose_precision("cuda", "fp16") == "fp16"


def test_tf32_is_opt_in_and_needs_a_gpu_with_it(monkeypatch):
    for capability, has in (((7, 5), False), ((8, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, c=capability: c)
        if has:
            assert precision.choose_precision("cuda", "tf32") == "tf32"
        else:
            with pytest.raises(ValueError, match=r"tf32 needs compute capability 8\.0"):
                precision.choose_precision("cuda", "tf32")
    with pytest.raises(ValueError, match="tf32 needs CUDA"):
        precision.choose_precision("cpu", "tf32")


def test_bad_wishes_are_named():
    with pytest.raises(ValueError, match="fp16 needs CUDA"):
        precision.choose_precision("cpu", "fp16")
    with pytest.raises(ValueError, match="precision is 'fp8'"):
        precision.choose_precision("cpu", "fp8")
    with pytest.raises(ValueError, match="precision is 'half'"):
        precision.autocast("cpu", "half")
    with pytest.raises(ValueError, match="device is 'gpu'"):
        precision.choose_device("gpu")
    with pytest.raises(ValueError, match=r"device is \{'a': 1\}"):
        precision.choose_device({"a": 1})
    with pytest.raises(ValueError, match="channels_last is 'yes'"):
        precision.choose_channels_last("cpu", "yes")
    with pytest.raises(ValueError, match="CUDA devices here"):
        precision.choose_device("cuda:99")


def test_device_and_layout_are_chosen(monkeypatch):
    assert precision.choose_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert precision.choose_device() == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert precision.choose_device().type == "cuda"
    assert precision.choose_channels_last("cpu") is True
    assert precision.choose_channels_last("cuda") is True
    assert precision.choose_channels_last("mps") is False
    assert precision.choose_channels_last("cuda", False) is False
    assert precision.choose_channels_last("mps", True) is True


def test_autocast_computes_in_the_given_type():
    x = torch.ones(2, 2)
    with precision.autocast("cpu", "bf16"):
        assert (x @ x).dtype == torch.bfloat16
        with precision.autocast("cpu", "fp32"):
            assert (x @ x).dtype == torch.float32


@pytest.mark.parametrize("name", ["fp32", "tf32", "bf16"])
def test_float32_is_tf32_only_on_request(name):
    def state():
        return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32

    before = state()
    assert before == (True, False)  # torch's own default: fp32 convolutions are not fp32
    with precision.autocast("cpu", name):
        assert state() == (name == "tf32",) * 2
        with precision.autocast("cpu", "tf32"):
            assert state() == (True, True)
        assert state() == (name == "tf32",) * 2
    assert state() == before


@pytest.mark.parametrize("channels_last", [True, False])
def test_prepare_and_transfer_share_one_layout(channels_last):
    conv = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    assert precision.prepare(conv, "cpu", channels_last) is conv
    pixels = torch.randint(0, 255, (2, 3, 8, 6), dtype=torch.uint8)
    frames = [Frame(i, (8, 6), (8, 6)) for i in range(2)]
    images = precision.transfer(Images(pixels, frames), "cpu", channels_last)
    for tensor in (conv.weight, images.pixels):
        assert tensor.is_contiguous(memory_format=torch.channels_last) == channels_last
    assert torch.equal(images.pixels, pixels)
    assert images.frames == frames and images.pixels.dtype == torch.uint8


class Doubler(nn.Module):
    score_threshold, max_detections = 0.05, 30

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([2.0, 0.5]))

    def network(self, x):
        return self.weight * x


def test_compiling_is_of_the_one_object_and_can_be_taken_back(monkeypatch):
    compiled = []

    def fake_compile(function):
        compiled.append(function)
        return lambda x: function(x) + 100

    monkeypatch.setattr(torch, "compile", fake_compile)
    monkeypatch.setattr(precision.shutil, "which", lambda name: f"/usr/bin/{name}")
    one, other = Doubler(), Doubler()
    x = torch.ones(2)
    for _ in range(2):  # asked for again, as an evaluation does after a timing: the same stays
        precision.prepare(one, "cpu", False, compile=True)
    assert len(compiled) == 1 and compiled[0].__self__ is one
    assert one.network(x).tolist() == [102.0, 100.5] and other.network(x).tolist() == [2.0, 0.5]
    precision.prepare(one, "cpu", False)
    assert one.network(x).tolist() == [2.0, 0.5]


def test_without_a_compiler_compiling_fails_at_once_and_says_why(monkeypatch):
    monkeypatch.setattr(precision.shutil, "which", lambda name: None)
    monkeypatch.setenv("CXX", "nowhere++")
    one = Doubler()
    with pytest.raises(ValueError, match=r"compile=true needs a C\+\+ compiler.*no nowhere\+\+"):
        precision.prepare(one, "cpu", False, compile=True)
    assert "network" not in vars(one)
    precision.prepare(one, "cpu", False)


def identity(detector, mode=precision.Mode(), resize=Letterbox(32), device="cpu"):  # noqa: B008
    return precision.describe_detector(detector, resize, device, mode)


def test_an_identity_is_of_the_values_and_not_of_the_layout():
    conv = nn.Conv2d(3, 4, 3)
    before = identity(conv)
    assert identity(conv.to(memory_format=torch.channels_last)) == before
    assert before["max_dets"] == 100 and before["score_threshold"] is None
    assert identity(Doubler())["max_dets"] == 30


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        (lambda d: d.weight.data.mul_(1.0001), {"weights_hash"}),
        (lambda d: d.half(), {"weights_hash"}),
        (lambda d: setattr(d, "score_threshold", 0.1), {"score_threshold"}),
        (lambda d: setattr(d, "max_detections", 3), {"max_dets"}),
        ({"mode": precision.Mode("bf16")}, {"precision"}),
        ({"mode": precision.Mode(compile=True)}, {"compile"}),
        ({"mode": precision.Mode(channels_last=True)}, {"channels_last"}),
        ({"resize": Letterbox(64)}, {"resize"}),
        ({"device": "cuda"}, {"device"}),
    ],
)
def test_all_that_affects_detections_changes_the_identity(change, fields):
    detector = Doubler()
    before = identity(detector)
    after = identity(detector, **change) if isinstance(change, dict) else None
    if after is None:
        change(detector)
        after = identity(detector)
    assert {key for key in before if before[key] != after[key]} == fields


def test_cudnn_chooses_where_shapes_are_fixed_and_is_put_back() -> None:
    before = torch.backends.cudnn.benchmark
    with precision.fastest_convolutions(True):
        assert torch.backends.cudnn.benchmark
    with precision.fastest_convolutions(False):
        assert torch.backends.cudnn.benchmark == before
    assert torch.backends.cudnn.benchmark == before
