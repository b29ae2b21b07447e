"""The features of this machine's processor."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path


@functools.cache
def cpu_facts() -> dict[str, str]:
    """Linux's description of the first processor, by its own names; {} without one."""
    with contextlib.suppress(OSError):
        first, _, _ = Path("/proc/cpuinfo").read_text().partition("\n\n")
        lines = (line.partition(":") for line in first.splitlines())
        return {name.strip(): value.strip() for name, _, value in lines}
    return {}


@functools.cache
def cpu_flags() -> frozenset[str]:
    """The CPU's features as Linux names them; empty where that cannot be read."""
    return frozenset(cpu_facts().get("flags", "").split())


@functools.cache
def mkl_is_narrow() -> bool:
    """Whether MKL, torch's matrix products in fp32, uses half of what the processor can.

    On AMD's it computes with 256 bits, as wide as they are before Zen 5 (family 26); oneDNN, which
    does torch's convolutions and its products in bf16, with 512.
    """
    facts = cpu_facts()
    return facts.get("vendor_id") == "AuthenticAMD" and int(facts.get("cpu family", 0)) >= 26
