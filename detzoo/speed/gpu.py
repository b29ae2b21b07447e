"""The card by NVML: clocks, what holds them back, energy. Everything is read, nothing is ever set.

Needs the extra `gpu` (nvidia-ml-py); where it is missing, or the card does not tell, values are
None.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psutil
import torch

# Bits of nvmlDeviceGetCurrentClocksThrottleReasons. Idle and clocks that a user has set are none of
# them: they hold nothing back that was promised.
THROTTLES = {
    0x004: "power cap",
    0x008: "hardware slowdown",
    0x020: "thermal slowdown by software",
    0x040: "thermal slowdown by hardware",
    0x080: "power brake",
}
GRAPHICS, MEMORY = 0, 2  # NVML_CLOCK_GRAPHICS, NVML_CLOCK_MEM


class Card:
    """One card; `nvml` is the module pynvml."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self.nvml, self.handle = nvml, handle

    @classmethod
    def of(cls, device: torch.device) -> Card | None:
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
        """What holds the clocks back at this moment."""
        bits = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons") or 0
        return {name for bit, name in THROTTLES.items() if bits & bit}

    def joules(self) -> float | None:
        """What the whole card has used since its driver was loaded."""
        found = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        return None if found is None else found / 1e3


class Clocks:
    """Clock rates before and after, and whatever held them back at any `look` between."""

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

    def told(self) -> dict[str, Any]:
        """before, after: MHz and degrees; throttles: None where nobody can tell."""
        self.look()
        held = None if self.card is None else sorted(self.held)
        return {"before": self.before, "after": self._now(), "throttles": held}
