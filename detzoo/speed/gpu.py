"""The card by NVML: clocks, what holds them back, energy. Everything is read, nothing is ever set.

Needs the extra `gpu` (nvidia-ml-py); where it is missing, or the card has no answer, values are
None.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import psutil
import torch

from detzoo.imagefile import ImageFile
from detzoo.speed.stages import Pipeline

# Bits of nvmlDeviceGetCurrentClocksThrottleReasons. Idle and clocks that a user has set are none of
# them: they hold nothing back that was promised.
THROTTLES = {
    0x004: "power cap",
    0x008: "hardware slowdown",
    0x020: "thermal slowdown by software",
    0x040: "thermal slowdown by hardware",
    0x080: "power brake",
}
ENERGY_SECONDS = 2.0  # of each detector: the counter is read every 0.1 s or less often
GRAPHICS, MEMORY = 0, 2  # NVML_CLOCK_GRAPHICS, NVML_CLOCK_MEM


class Card:
    """One card; `nvml` is the module pynvml."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self.nvml, self.handle = nvml, handle

    @classmethod
    def find(cls, device: torch.device) -> Card | None:
        """The card that is `device`, found by its UUID since NVML counts the cards otherwise."""
        if device.type != "cuda":
            return None
        try:
            import pynvml
        except ImportError:
            return None
        try:
            pynvml.nvmlInit()
            uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
            return cls(pynvml, pynvml.nvmlDeviceGetHandleByUUID(uuid))
        except (pynvml.NVMLError, AttributeError):
            return None

    def _ask(self, function: str, *arguments: int) -> int | None:
        with suppress(self.nvml.NVMLError):
            return getattr(self.nvml, function)(self.handle, *arguments)
        return None

    def clocks(self) -> dict[str, int | None]:
        """MHz of the cores and of the memory, degrees Celsius."""
        return {
            "gpu_mhz": self._ask("nvmlDeviceGetClockInfo", GRAPHICS),
            "gpu_memory_mhz": self._ask("nvmlDeviceGetClockInfo", MEMORY),
            "gpu_celsius": self._ask("nvmlDeviceGetTemperature", 0),
        }

    def throttles(self) -> set[str]:
        """The reasons why the clock rates are throttled now."""
        bits = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons") or 0
        return {name for bit, name in THROTTLES.items() if bits & bit}

    def joules(self) -> float | None:
        """The energy that the whole card has used since its driver was loaded."""
        found = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        return None if found is None else found / 1e3


class Clocks:
    """Clock rates before and after, and the reasons for throttling at any `look` between."""

    def __init__(self, card: Card | None) -> None:
        self.card, self.held = card, set()
        self.before = self._now()
        self.look()

    def look(self) -> None:
        if self.card is not None:
            self.held |= self.card.throttles()

    def _now(self) -> dict[str, float | None]:
        frequency = None
        with suppress(OSError, NotImplementedError, AttributeError):  # not everywhere to be had
            frequency = psutil.cpu_freq()
        cpu = {"cpu_mhz": frequency.current if frequency else None}
        return cpu | (self.card.clocks() if self.card is not None else {})

    def summary(self) -> dict[str, Any]:
        """before, after: MHz and degrees; throttles: None without NVML."""
        self.look()
        held = None if self.card is None else sorted(self.held)
        return {"before": self.before, "after": self._now(), "throttles": held}


def energy(
    pipeline: Pipeline, encoded: Sequence[ImageFile], batch: int, card: Card | None
) -> dict[str, Any] | None:
    """Joules an image of the whole card, its idle power too, over ENERGY_SECONDS at one batch size.

    None where the card has no counter. Decoding and resizing are in it: the card waits meanwhile.
    """
    before = None if card is None else card.joules()
    if before is None:
        return None
    start, images = pipeline.clock(), 0
    while pipeline.clock() - start < ENERGY_SECONDS:
        pipeline([encoded[(images + i) % len(encoded)] for i in range(batch)])
        images += batch
    seconds = pipeline.clock() - start
    joules = card.joules() - before
    return {"joules_per_image": joules / images, "watts": joules / seconds, "batch": batch}
