from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from detzoo.speed.gpu import Card, Clocks, energy

from .fakes import jpeg


class Refused(Exception):
    pass


class FakeNvml:
    """A card at 1500 MHz; 1 + 8 hold it back at the second reading; 10 J pass at every reading."""

    NVMLError = Refused

    def __init__(self) -> None:
        self.readings = iter([0, 0b1001, 0b100])  # idle is no throttle, 8 is, 4 is
        self.megahertz = 1500
        self.millijoules = 0
        self.known = "GPU-1234"

    def nvmlInit(self):
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid):
        if uuid != self.known:
            raise Refused(uuid)
        return "handle"

    def nvmlDeviceGetClockInfo(self, handle, kind):
        assert handle == "handle"
        return {0: self.megahertz, 2: 2600}[kind]

    def nvmlDeviceGetTemperature(self, handle, sensor):
        raise Refused("not on this card")

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle):
        return next(self.readings, 0)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        self.millijoules += 10_000
        return self.millijoules


@pytest.fixture
def nvml(monkeypatch):
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="1234")
    )
    return fake


def test_the_card_is_found_by_its_uuid_and_read(nvml):
    card = Card.find(torch.device("cuda"))
    assert card.clocks() == {"gpu_mhz": 1500, "gpu_memory_mhz": 2600, "gpu_celsius": None}
    assert (card.joules(), card.joules()) == (10.0, 20.0)


def test_no_card_where_there_is_none_to_be_had(nvml, monkeypatch):
    assert Card.find(torch.device("cpu")) is None
    nvml.known = "GPU-other"
    assert Card.find(torch.device("cuda")) is None
    monkeypatch.setitem(sys.modules, "pynvml", None)  # as if it were not installed
    assert Card.find(torch.device("cuda")) is None


@pytest.mark.parametrize(
    ("bits", "told"),
    [
        (0x001, set()),  # idle
        (0x002, set()),  # clocks that a user has set
        (0x004, {"power cap"}),
        (0x008, {"hardware slowdown"}),
        (0x010, set()),  # in step with other cards
        (0x060, {"thermal slowdown by software", "thermal slowdown by hardware"}),
        (0x080, {"power brake"}),
        (0x100, set()),  # display clocks
    ],
)
def test_bits_by_nvml_s_header(nvml, bits, told):
    nvml.readings = iter([bits])
    assert Card.find(torch.device("cuda")).throttles() == told


def test_what_held_the_clocks_back_at_any_look_is_told(nvml):
    clocks = Clocks(Card.find(torch.device("cuda")))
    clocks.look()
    nvml.megahertz = 1200
    told = clocks.summary()
    assert told["throttles"] == ["hardware slowdown", "power cap"]
    assert (told["before"]["gpu_mhz"], told["after"]["gpu_mhz"]) == (1500, 1200)
    assert "cpu_mhz" in told["before"]


def test_without_a_card_nobody_knows_what_held_it_back():
    told = Clocks(None).summary()
    assert told["throttles"] is None and set(told["after"]) == {"cpu_mhz"}


def test_joules_an_image_are_of_the_whole_card(nvml, pipeline):
    # A pass of two takes 0.5 + 0.5 + 4.125 + 1 s, which is more than the required 2 s.
    fake = pipeline()
    found = energy(
        fake, [jpeg(grey=0), jpeg(grey=80), jpeg(grey=160)], 2, Card.find(torch.device("cuda"))
    )
    assert fake.detector.batches == [2]
    assert found == {"joules_per_image": 5.0, "watts": pytest.approx(10 / 6.125), "batch": 2}


def test_a_card_that_counts_no_energy_says_none(nvml, pipeline):
    def refuse(handle):
        raise Refused("older than Volta")

    nvml.nvmlDeviceGetTotalEnergyConsumption = refuse
    assert energy(pipeline(), [jpeg()], 1, Card.find(torch.device("cuda"))) is None
    assert energy(pipeline(), [jpeg()], 1, None) is None
