from __future__ import annotations

import os

import pytest

from detzoo.data.workers import choose_workers


def test_auto_leaves_a_core_to_the_process_that_feeds_a_gpu(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    assert choose_workers("cuda", "auto") == choose_workers("cuda:1") == 15
    assert choose_workers("cuda", "auto", processes=4) == 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)
    assert choose_workers("cuda", "auto", processes=4) == 0
    assert choose_workers("cpu", "auto") == 0
    assert choose_workers("cpu", 3) == 3


@pytest.mark.parametrize("wanted", [-1, 1.5, "some", None, True])
def test_what_is_no_number_of_workers_is_refused(wanted):
    with pytest.raises(ValueError, match=r"runtime\.workers is .*auto"):
        choose_workers("cpu", wanted)
