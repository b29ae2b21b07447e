from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from detzoo.speed.inner import Stamp, event_of, has_parts, inner_stages

from .fakes import FakeDetector, FakeDevice, jpeg


class Part(nn.Module):
    def __init__(self, device: FakeDevice, seconds: float) -> None:
        super().__init__()
        self.device, self.seconds = device, seconds

    def forward(self) -> None:
        self.device.spend(0.125)  # to launch it
        self.device.launch(self.seconds)


class FakeEvent:
    """As a CUDA event: it happens when the device has come to it, and nothing waits for it."""

    def __init__(self, device: FakeDevice) -> None:
        self.device = device

    def record(self) -> None:
        self.at = max(self.device.now, self.device.busy_until)

    def elapsed_time(self, end: FakeEvent) -> float:
        return 1e3 * (end.at - self.at)


class Parted(FakeDetector):
    """A backbone of 4 s, twice a head of 1 s, and 2 s outside of them."""

    def __init__(self, device: FakeDevice) -> None:
        super().__init__(device, lambda call, batch: 2.0)
        self.backbone, self.head = Part(device, 4.0), Part(device, 1.0)

    def network(self, images, targets=None):
        self.backbone()
        self.head()
        self.head()
        self.fake.launch(self.work(0, 1))


@pytest.fixture
def parted(pipeline, device):
    return replace(pipeline(), detector=Parted(device))


def test_events_charge_late_work_to_the_part_that_asked_for_it(parted, device):
    found = inner_stages(parted, [jpeg(), jpeg(grey=40)], lambda: FakeEvent(device))
    # The device is idle for the first launch of 0.125 s only; it is the backbone's.
    assert found["backbone"] == 4125.0 and found["head"] == 2000.0
    assert found["rest"] == pytest.approx(2000.0) and found["n"] == 2
    assert list(found)[:3] == ["backbone", "head", "rest"]


def test_stamps_would_not_do_for_such_a_device(parted, device):
    # Why there are events: the clock sees the launches alone, and all the work in the rest.
    found = inner_stages(parted, [jpeg()], lambda: Stamp(device.clock))
    assert found["backbone"] == 125.0 and found["rest"] > 7000


def test_no_hook_stays_and_no_other_pass_has_one(parted, device):
    inner_stages(parted, [jpeg()], lambda: FakeEvent(device))
    for part in (parted.detector.backbone, parted.detector.head):
        assert not part._forward_hooks and not part._forward_pre_hooks


def test_hooks_go_when_the_detector_fails(parted, device):
    parted.detector.work = lambda call, batch: 1 / 0
    with pytest.raises(Exception, match="ZeroDivisionError"):
        inner_stages(parted, [jpeg()], lambda: FakeEvent(device))
    assert not parted.detector.backbone._forward_hooks


def test_what_has_no_parts_has_none(pipeline, parted):
    assert has_parts(parted) and not has_parts(pipeline())
    vars(parted.detector)["network"] = lambda images: None  # as compiled: one piece
    assert not has_parts(parted)


def test_a_gpu_has_cuda_events_and_a_cpu_the_clock():
    assert isinstance(event_of(torch.device("cpu"), lambda: 0.0)(), Stamp)
    assert isinstance(event_of(torch.device("cuda"), lambda: 0.0)(), torch.cuda.Event)
