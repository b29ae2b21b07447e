from __future__ import annotations

from dataclasses import replace
from unittest import mock

import pytest
import torch
from torch import nn

from detzoo.detector import Detector
from detzoo.engine import folded, folding
from detzoo.speed import cost
from detzoo.speed.cost import gmacs, parameters, peak_memory_mb
from detzoo.types import Detections, Frame, Images

MIB = 2**20


class Counted(Detector):
    """3 -> 4 channels by 3 x 3, stride 2; 4 -> 2 by 1 x 1; a matrix product in `decode`."""

    def __init__(self) -> None:
        super().__init__(num_classes=1, stride=2)
        self.first = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.second = nn.Conv2d(4, 2, 1)

    def network(self, images, targets=None):
        return self.second(self.first(self.normalise(images)).relu())

    def decode(self, outputs, sizes):
        outputs.flatten(2).mT @ torch.ones(2, 5)
        empty = torch.zeros(0)
        return [Detections(torch.zeros(0, 4), empty, empty.long()) for _ in sizes]

    def losses(self, outputs, targets):
        raise AssertionError


def images(batch: int = 1, height: int = 8, width: int = 12) -> Images:
    pixels = torch.zeros(batch, 3, height, width, dtype=torch.uint8)
    return Images(pixels, [Frame(i, (height, width), (height, width)) for i in range(batch)])


def test_multiply_adds_counted_by_hand():
    # 4 x 6 positions: each 4 channels of 3 x 9 products, 2 of 4, and 5 dot products of 2.
    by_hand = 4 * 6 * (4 * 27 + 2 * 4 + 5 * 2)
    assert by_hand == 3024
    assert gmacs(Counted(), images()) * 1e9 == pytest.approx(by_hand)
    assert gmacs(Counted(), images(batch=3)) * 1e9 == pytest.approx(3 * by_hand)


def test_a_view_of_a_parameter_may_go_through_a_module():
    """DETR's queries: learnt, and the same for every image."""

    class Queries(Counted):
        def __init__(self) -> None:
            super().__init__()
            self.queries, self.head = nn.Parameter(torch.ones(2, 4)), nn.Linear(4, 3)

        def network(self, images, targets=None):
            self.head(self.queries.expand(len(images.pixels), -1, -1))
            return super().network(images)

    detector = Queries()
    extra = (gmacs(detector, images()) - gmacs(Counted(), images())) * 1e9
    assert extra == pytest.approx(2 * 4 * 3)
    assert all(parameter.requires_grad for parameter in detector.parameters())


def test_a_compiled_network_is_counted_as_it_was_written():
    detector = Counted()
    compiled = detector.network = lambda images, targets=None: torch.zeros(1, 2, 4, 6)
    assert gmacs(detector, images()) * 1e9 == pytest.approx(3024)
    assert detector.network is compiled


def test_a_convolution_counts_as_the_plain_sum_whatever_computes_it(monkeypatch):
    monkeypatch.setattr(folded, "winograd_pays", lambda x, out_channels: out_channels == 128)
    detector = Counted()
    wide = nn.Conv2d(256, 128, 3, padding=1)
    detector.first = nn.Sequential(nn.Conv2d(3, 256, 3, stride=2, padding=1), wide)
    detector.second = nn.Conv2d(128, 2, 1)
    of_a_size = images(height=64, width=64)
    plain = gmacs(detector, of_a_size)
    folding.fold(detector.eval())
    with torch.no_grad():
        detector(of_a_size)
    transformed = [tensor for tensor in folded.folded_weights(detector) if tensor.dim() == 3]
    assert [len(filters) for filters in transformed] == [36]  # so that there is a difference
    assert gmacs(detector, of_a_size) == plain


def test_counting_leaves_the_mode_alone():
    detector = Counted().train()
    gmacs(detector, images())
    assert detector.training and detector.second.training


def test_parameters_frozen_ones_too_shared_ones_once():
    detector = Counted()
    assert parameters(detector) == (4 * 27 + 4) + (2 * 4 + 2)
    detector.first.requires_grad_(False)
    detector.again = detector.second
    assert parameters(detector) == 122


class Greedy(Counted):
    """Weights of 2 MiB; holds 8, then 8 + 16, then 8 + 4 MiB."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2 * MIB // 4))
        self.same = self.weight

    def network(self, images, targets=None):
        kept = torch.zeros(8 * MIB, dtype=torch.uint8)
        torch.zeros(16 * MIB, dtype=torch.uint8)
        other = torch.zeros(4 * MIB, dtype=torch.uint8)
        del other
        return kept

    def decode(self, outputs, sizes):
        return []


def test_peak_memory_is_weights_and_the_most_that_lives_at_once():
    assert peak_memory_mb(Greedy(), images()) == pytest.approx(2 + 8 + 16, abs=0.01)


@torch.no_grad()
def test_packed_weights_are_memory_of_the_detector():
    """oneDNN's own layout, which has no storage that torch knows."""
    detector, channels_last = Counted(), torch.channels_last
    of_a_size = images(height=64, width=64)
    pixels = of_a_size.pixels.contiguous(memory_format=channels_last)
    of_a_size = replace(of_a_size, pixels=pixels)
    wide = nn.Conv2d(512, 512, 3, padding=1)  # 4.5 MiB in bf16
    detector.first = nn.Sequential(nn.Conv2d(3, 512, 3, stride=2, padding=1), wide)
    detector.second = nn.Conv2d(512, 2, 1)
    folding.fold(detector.eval().to(memory_format=channels_last))
    with torch.autocast("cpu", torch.bfloat16):
        detector(of_a_size)
        if not any(tensor.is_mkldnn for tensor in folded.folded_weights(detector)):
            pytest.skip("oneDNN has no convolution in bf16 on this processor")
        packed = peak_memory_mb(detector, of_a_size)
        folding.unfold(detector)
        with mock.patch.object(cost, "_cpu_growth", lambda *_: 0):
            plain = peak_memory_mb(detector, of_a_size)
            folding.fold(detector)
            detector(of_a_size)
            assert peak_memory_mb(detector, of_a_size) - plain == pytest.approx(4.5, abs=0.1)
    assert packed > plain + 4.5
