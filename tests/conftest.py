"""Shared by all tests: one thread, and hypothesis without a clock on a busy machine."""

from __future__ import annotations

import importlib.util
import os

# Set before torch is imported: two test processes of many threads each would slow one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("detzoo", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("detzoo")

ROOT = Path(__file__).resolve().parent.parent


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What is run over all of conf/detector needs an extra for the detectors of transformers."""
    values = getattr(item, "callspec", None)
    theirs = [v for v in (values.params.values() if values else ()) if isinstance(v, str)]
    theirs = [v for v in theirs if v.startswith("transformers/")]
    if theirs and importlib.util.find_spec("transformers") is None:
        pytest.skip("needs the extra: pip install 'detzoo[transformers]'")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the real data; tests that need it are skipped where it is absent."""
    path = ROOT.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"the real data is not there: {path}")
    return path
