from __future__ import annotations

import pytest
import torch
from torch import nn

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


def test_bad_wishes_are_named():
    with pytest.raises(ValueError, match="fp16 needs CUDA"):
        precision.choose_precision("cpu", "fp16")
    with pytest.raises(ValueError, match="precision is 'fp8'"):
        precision.choose_precision("cpu", "fp8")
    with pytest.raises(ValueError, match="precision is 'half'"):
        precision.autocast("cpu", "half")
    with pytest.raises(ValueError, match="device is 'gpu'"):
        precision.choose_device("gpu")
    with pytest.raises(ValueError, match="channels_last is 'yes'"):
        precision.choose_channels_last("cpu", "fp32", "yes")
    with pytest.raises(ValueError, match="CUDA devices here"):
        precision.choose_device("cuda:99")


def test_device_and_layout_are_chosen(monkeypatch):
    assert precision.choose_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert precision.choose_device() == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert precision.choose_device().type == "cuda"
    assert precision.choose_channels_last("cpu", "bf16") is True
    assert precision.choose_channels_last("cpu", "fp32") is False
    assert precision.choose_channels_last("cuda", "fp32") is True
    assert precision.choose_channels_last("cuda", "bf16", False) is False


def test_autocast_computes_in_what_is_said():
    x = torch.ones(2, 2)
    with precision.autocast("cpu", "bf16"):
        assert (x @ x).dtype == torch.bfloat16
        with precision.autocast("cpu", "fp32"):
            assert (x @ x).dtype == torch.float32


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
