from __future__ import annotations

import pytest

from detzoo.engine import cpu


@pytest.mark.parametrize(
    ("vendor", "family", "narrow"),
    [("AuthenticAMD", "25", False), ("AuthenticAMD", "26", True), ("GenuineIntel", "26", False)],
)
def test_mkl_is_narrow_on_zen_5(vendor, family, narrow, monkeypatch):
    facts = {"vendor_id": vendor, "cpu family": family, "flags": "sse2 amx_bf16 avx2"}
    monkeypatch.setattr(cpu, "cpu_facts", lambda: facts)
    assert cpu.mkl_is_narrow.__wrapped__() == narrow
    assert cpu.cpu_flags.__wrapped__() == {"sse2", "amx_bf16", "avx2"}


def test_a_machine_of_which_nothing_is_known(monkeypatch):
    monkeypatch.setattr(cpu, "cpu_facts", dict)
    assert not cpu.mkl_is_narrow.__wrapped__()
    assert cpu.cpu_flags.__wrapped__() == frozenset()
